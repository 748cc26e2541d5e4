"""One real recording through a running server: the stream and the request say the same, however it is cut."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers import ServerProcess

SEQUENCE = "utk_s04_e01"


@pytest.fixture(scope="module")
def real_server() -> Iterator[ServerProcess]:
    process = ServerProcess(Path(__file__).parents[2] / "models")
    try:
        yield process.ready()
    finally:
        process.stop()


def command(*words: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "poseline_cli", *words],
        env={"PYTHONPATH": ":".join(path for path in sys.path if path), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_a_stream_in_any_chunks_equals_the_request(chunk: int, real_server: ServerProcess, data: Path) -> None:
    recording = [str(data / "utkinect" / "untrimmed_test.npz"), "--sequence", SEQUENCE]
    printed = command(
        "stream", *recording, "--url", real_server.ws, "--speed", "max", "--chunk", str(chunk), "--format", "json"
    )
    streamed = [json.loads(line) for line in printed.splitlines()]
    assert [one["seq"] for one in streamed] == list(range(len(streamed)))
    finals = sorted((one["start"], one["end"], one["label"]) for one in streamed if one["type"] == "segment.final")
    answer = json.loads(command("localize", *recording, "--url", f"{real_server.url}/localize", "--format", "json"))
    posted = sorted((one["start"], one["end"], one["label"]) for one in answer["segments"])
    assert [label for *_, label in finals] == [label for *_, label in posted]
    assert len(finals) >= 8
    for (start, end, _), (posted_start, posted_end, _) in zip(finals, posted, strict=True):
        assert abs(start - posted_start) <= 1 / 30
        assert abs(end - posted_end) <= 1 / 30
