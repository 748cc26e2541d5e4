"""Calls of `/v1/jobs` that several tests make."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from made_up import recording
from poseline.codec import decode_response, encode
from poseline.pose import PoseSequence
from poseline.protocol import FoundSegment, LocalizeOptions
from poseline.remote import request_for
from servers import PATIENCE, ServerProcess

JSON = {"Content-Type": "application/json"}


def submit(server: ServerProcess, content: Any, **headers: str) -> httpx.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"{server.url}/v1/jobs", content=content, headers=JSON | sent, timeout=60)


def accepted(answer: httpx.Response) -> str:
    """The job's path."""
    assert answer.status_code == 202, answer.text
    path = answer.headers["location"]
    assert path == f"/v1/jobs/{answer.json()['id']}"
    return path


def reach(server: ServerProcess, path: str, *states: str) -> dict[str, Any]:
    """Ask until the job is in one of these states."""
    deadline = time.monotonic() + 2 * PATIENCE
    while (status := httpx.get(server.url + path).json())["state"] not in states:
        assert time.monotonic() < deadline, f"the job stays {status}, expected {states}"
        time.sleep(0.02)
    return status


def over(server: ServerProcess, path: str) -> dict[str, Any]:
    return reach(server, path, "succeeded", "failed", "cancelled")


def found(server: ServerProcess, path: str) -> list[FoundSegment]:
    answer = httpx.get(f"{server.url}{path}/result")
    assert answer.status_code == 200, answer.text
    return decode_response(answer.content).segments


def long_recording(frames: int = 2000) -> bytes:
    """A small body that takes the network long: ten seconds pass between two of its frames, and each is filled."""
    poses = recording(1, frames)
    slow = PoseSequence(poses.joints, poses.confidence, poses.timestamps * 299)
    return encode(request_for({"p1": slow}, options=LocalizeOptions(gap_reset=10.0)))


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def emptied(folder: Path) -> None:
    """Wait until there is no file in it."""
    deadline = time.monotonic() + PATIENCE
    while left := files_in(folder):
        assert time.monotonic() < deadline, f"{left} stay"
        time.sleep(0.02)


def children(server: ServerProcess) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children(recursive=True)
