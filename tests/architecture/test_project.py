"""What a reader of the project may rely on."""

import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

from poseline.bundle import ModelBundle
from poseline.skeleton import layout

PROJECT = Path(__file__).parents[2]
BUNDLES = sorted(path.parent for path in (PROJECT / "models").glob("*/manifest.json"))


def test_exactly_one_onnx_runtime_is_installed() -> None:
    """Both share a folder: the last one installed wins, and removing either breaks the other."""
    names = {(one.metadata["Name"] or "").lower().replace("_", "-") for one in distributions()}
    assert len(names & {"onnxruntime", "onnxruntime-gpu"}) == 1


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("poseline", ["torch", "onnxruntime", "fastapi", "prometheus_client", "websockets"]),
        ("poseline_service.app", ["torch", "onnx", "lightning", "matplotlib"]),
        ("poseline_training.export", ["fastapi", "uvicorn", "starlette"]),
        ("poseline_cli", ["torch", "onnxruntime", "fastapi"]),
    ],
)
def test_importing_a_room_does_not_bring_anothers_libraries(module: str, forbidden: list[str]) -> None:
    code = f"import sys, {module}; print([n for n in {forbidden!r} if n in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={"PYTHONPATH": ":".join(path for path in sys.path if path), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert found == "[]"


DOORS = {
    "onnxruntime": {
        "service/poseline_service/engine.py",
        "training/poseline_training/runtime.py",
        "benchmarks/poseline_bench/limit.py",
    },
    "continual": {"benchmarks/poseline_bench/rivals.py"},
    "mediapipe": {"video/poseline_video/extractor.py", "video/poseline_video/pose_model.py"},
    "av": {"video/poseline_video/media.py"},
    "prometheus_client": {"service/poseline_service/metrics.py"},
    "websockets": {
        "core/poseline/client.py",
        "service/poseline_service/connection.py",
        "service/poseline_service/frames.py",
        "service/poseline_service/handshake.py",
    },
    "jwt": {"service/poseline_service/tokens.py"},
}


@pytest.mark.parametrize("library", DOORS)
def test_each_heavy_library_has_one_door(library: str) -> None:
    rooms = ("core", "service", "training", "video", "cli", "benchmarks")
    importing = re.compile(rf"^\s*(import|from) {library}\b", re.MULTILINE)
    found = {
        str(path.relative_to(PROJECT))
        for room in rooms
        for path in (PROJECT / room).rglob("*.py")
        if importing.search(path.read_text())
    }
    assert found == DOORS[library]


def test_there_are_bundles_and_a_default() -> None:
    assert BUNDLES
    assert (PROJECT / "models" / "DEFAULT").read_text().strip() in {path.name for path in BUNDLES}


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.name)
def test_every_bundle_is_whole(path: Path) -> None:
    bundle = ModelBundle.open(path)
    assert f"{bundle.manifest.name}-{bundle.manifest.version}" == path.name
    assert bundle.manifest.native is layout("body16")
    assert (path / "LICENSE").read_text().strip()
    assert "Not a medical device" in (path / "README.md").read_text()
    assert sum(file.stat().st_size for file in path.iterdir()) < 10_000_000
    assert bundle.manifest.state.bytes_per_stream <= 24 * 1024
    if bundle.manifest.research_only:
        assert "research" in (path / "LICENSE").read_text()


def test_every_sub_command_of_the_table_exists() -> None:
    from importlib import import_module

    from poseline_cli import COMMANDS

    for entry in COMMANDS.values():
        module, function = entry.target.split(":")
        assert callable(getattr(import_module(module), function))
