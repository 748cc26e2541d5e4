"""The benchmark measures what it says; how fast is not a test's business."""

import json
from pathlib import Path

import pytest

from poseline.bundle import find_bundle
from poseline_bench import engine


def test_figures_are_complete_and_written(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "ROUNDS", 1)
    monkeypatch.setattr(engine, "_SECONDS_PER_CASE", 0.001)
    monkeypatch.setattr(engine, "_GEMM", 64)
    engine.run(models, None, tmp_path / "out.json")
    figures = json.loads((tmp_path / "out.json").read_text())
    assert set(figures["us_per_stream_frame"]) == {"1", "32", "64"}
    assert all(cost > 0 for cost in figures["us_per_stream_frame"].values())
    assert figures["sgemm_gflops"] > 0
    assert figures["state_bytes_per_stream"] == find_bundle(models).manifest.state.bytes_per_stream


def test_pinning_is_undone() -> None:
    import os

    before = os.sched_getaffinity(0)
    with engine.one_core():
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before
