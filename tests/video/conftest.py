"""The pose model of `make pose`, real clips where `../shared/data/video` lies beside the project, and made videos."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from poseline_video import MODEL

PROJECT = Path(__file__).parents[2]
CLIPS = PROJECT.parent / "shared" / "data" / "video"


@pytest.fixture(scope="session")
def pose_model() -> Path:
    path = Path(os.environ.get("POSELINE_POSE", PROJECT / "pose")) / MODEL
    if not path.is_file():
        pytest.skip(f"no pose model: make pose ({path} is absent)")
    return path


@pytest.fixture(scope="session")
def clip() -> Callable[[str], Path]:
    def find(name: str) -> Path:
        if not CLIPS.is_dir():
            pytest.skip("no real clips: ../shared/data/video is absent")
        return CLIPS / name

    return find


@pytest.fixture
def _nothing_left() -> Iterator[None]:
    """No process outlives its test, and none stays behind as a zombie."""
    before = set(psutil.Process().children())
    yield
    assert set(psutil.Process().children()) <= before
