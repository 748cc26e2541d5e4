"""A real Chromium on real servers. Every page that is opened here must stay quiet and at home: no error in its console (a
violation of the Content-Security-Policy is one), and no request to anybody but its server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from browser import CHROMIUM, Console, launch
from servers import ServerProcess

PROJECT = Path(__file__).parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "console" in getattr(item, "fixturenames", ()) and not CHROMIUM.exists():
            item.add_marker(pytest.mark.skip(reason=f"no browser: {CHROMIUM} is absent"))


@pytest.fixture(scope="module")
def default_server() -> Iterator[ServerProcess]:
    """A server with the model and the pose extractor that the project's folders hold."""
    process = ServerProcess(PROJECT / "models", pose=PROJECT / "pose")
    try:
        yield process.ready()
    finally:
        process.stop()


@pytest.fixture
def console() -> Iterator[Callable[..., Console]]:
    """Opens a console: `console(server, *flags of Chromium, **options of the page)`."""
    opened: list[Console] = []
    browsers: list[Browser] = []
    with sync_playwright() as playwright:

        def start(server: ServerProcess, *flags: str, **context: Any) -> Console:
            browsers.append(launch(playwright, *flags))
            opened.append(Console(browsers[-1], server, **context))
            return opened[-1]

        yield start
        for browser in browsers:
            browser.close()
    for one in opened:
        assert one.complaints == []
        assert one.strangers == []


@pytest.fixture(scope="session")
def poses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifteen seconds of the actor, as `poseline actor` prints them."""
    command = [sys.executable, "-m", "poseline_cli", "actor", "--seed", "7", "--seconds", "15"]
    roots = os.pathsep.join(path for path in sys.path if path)
    printed = subprocess.run(command, env=os.environ | {"PYTHONPATH": roots}, capture_output=True, check=True).stdout
    path = tmp_path_factory.mktemp("poses") / "actor seven.json"
    path.write_bytes(printed)
    return path
