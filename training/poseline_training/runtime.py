"""The workshop's one door to ONNX Runtime: a bundle's graphs as scorers, for the export check and for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort

from poseline.bundle import ModelBundle
from poseline.skeleton import Floats
from poseline.stepping import StepScorer
from poseline.whole import WholeScorer


def open_scorer(bundle: ModelBundle, slots: int = 64) -> StepScorer:
    """The bundle's network on the CPU, one thread."""
    sessions = {level.name: _open(bundle.graph(level.name)) for level in bundle.manifest.state.levels}

    def run(level: str, feeds: dict[str, Floats]) -> Sequence[Floats]:
        return sessions[level].run(None, feeds)  # pyright: ignore[reportReturnType]

    return StepScorer(bundle.manifest.state, run, slots)


def open_whole(bundle: ModelBundle) -> WholeScorer | None:
    """The bundle's network that sees the whole, on the CPU, one thread; None where it has none."""
    spec = bundle.manifest.whole
    if spec is None:
        return None
    session = _open(bundle.path / spec.graph)

    def run(poses: Floats) -> tuple[Floats, Floats]:
        scores, boundaries = session.run(["scores", "boundaries"], {"poses": poses[None]})
        return scores[0], boundaries[0]  # pyright: ignore[reportReturnType, reportIndexIssue]

    return run


def _open(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
