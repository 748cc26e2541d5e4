"""What schemathesis makes of the OpenAPI document, against a real server: never a fault of the server's, and never an answer
that the document does not describe. `POSELINE_FUZZ_EXAMPLES` are drawn for each operation (`make fuzz`: more)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers import ServerProcess

EXAMPLES = int(os.environ.get("POSELINE_FUZZ_EXAMPLES", "15"))
PHASES = "coverage,fuzzing,stateful" if "POSELINE_FUZZ_EXAMPLES" in os.environ else "fuzzing"
NO_END = {"queued_jobs": 100_000, "max_jobs": 100_000, "max_pending": 10**9}
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "answer_is_as_described",
    "unsupported_method",
)


@pytest.fixture
def server(models: Path, tmp_path: Path) -> Iterator[ServerProcess]:
    """Takes whatever comes: a full queue, or no eyes, would be honest answers of 500 and more. Its pose model is a file that
    is none, so every video's job fails."""
    (tmp_path / "pose_landmarker_full.task").write_bytes(b"no model")
    process = ServerProcess(models, pose=tmp_path, drain_seconds=1, **NO_END)
    try:
        yield process.ready()
        assert process.process.poll() is None
    finally:
        log = process.stop()
    assert "request_failed" not in log


def test_whatever_comes_is_answered_as_the_document_says(server: ServerProcess, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"]
    options = ["--checks", ",".join(CHECKS), "--max-examples", str(EXAMPLES), "--phases", PHASES, "--seed", "1"]
    hooks = {
        "SCHEMATHESIS_HOOKS": "schemathesis_hooks",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    run = subprocess.run(
        [*command, *options, "--generation-database", "none", "--no-color"],
        env=os.environ | hooks,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    assert " passed" in run.stdout, run.stdout
