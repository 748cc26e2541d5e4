"""The workshop's one door to ONNX Runtime: a bundle's graphs as a scorer, for the export check and for evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import onnxruntime as ort

from poseline.bundle import ModelBundle
from poseline.skeleton import Floats
from poseline.stepping import StepScorer


def open_scorer(bundle: ModelBundle, slots: int = 64) -> StepScorer:
    """The bundle's network on the CPU, one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    sessions = {
        level.name: ort.InferenceSession(str(bundle.graph(level.name)), options, providers=["CPUExecutionProvider"])
        for level in bundle.manifest.state.levels
    }

    def run(level: str, feeds: dict[str, Floats]) -> Sequence[Floats]:
        return sessions[level].run(None, feeds)  # pyright: ignore[reportReturnType]

    return StepScorer(bundle.manifest.state, run, slots)
