"""Batches padded to buckets, as a CUDA device runs them: the same scores as the plain path, on the CPU.

The CUDA provider itself is not run here: there is no such device. What can be checked without one is: the padding and the
bindings, that nothing else is taken silently in its place, and that the graphs hold nothing that a capture forbids.
"""

from __future__ import annotations

import numpy as np
import onnx

from poseline.bundle import ModelBundle
from poseline.errors import BundleError
from poseline.stepping import StepScorer
from poseline_service.engine import LevelGraphs, open_scorer

STEPS, SLOTS = 1000, 300


def test_padded_batches_give_the_scores_of_plain_ones(truth) -> None:  # type: ignore[no-untyped-def]
    """1000 steps of random batches over slots that come and go; the buckets 16, 64, 256 and 1024 all occur."""
    rng = np.random.default_rng(0)
    spec = truth.bundle.manifest.state
    plain = open_scorer(truth.bundle, SLOTS)
    padded = StepScorer(spec, LevelGraphs(truth.bundle, bucketed=True), SLOTS)
    slots = np.array([plain.open() for _ in range(SLOTS)])
    assert slots.tolist() == [padded.open() for _ in range(SLOTS)]
    poses = truth.poses.reshape(-1, 16, 4)
    sizes = set()
    for _ in range(STEPS):
        batch = min(int(rng.integers(1, 20) * rng.choice([1, 1, 1, 4, 16])), SLOTS)
        some = rng.choice(slots, batch, replace=False)
        joints = poses[rng.integers(0, len(poses), batch)]
        if rng.random() < 0.1:
            plain.restart(int(some[0]))
            padded.restart(int(some[0]))
        expected, found = plain.step(some, joints), padded.step(some, joints)
        for one, other in zip(expected, found, strict=True):
            assert np.abs(one - other).max() < 1e-5
        sizes.add(batch)
    assert min(sizes) <= 16 < 64 < 256 < max(sizes)


def test_cuda_is_had_or_refused(truth) -> None:  # type: ignore[no-untyped-def]
    try:
        scorer = open_scorer(truth.bundle, 4, device="cuda")
    except BundleError as error:
        assert "would run on CPUExecutionProvider, expected CUDAExecutionProvider" in str(error)  # noqa: PT017
    else:
        scores, *_ = scorer.replay(truth.poses)
        assert np.abs(scores - truth.scores).max() < 1e-4


def test_graphs_hold_nothing_that_a_cuda_graph_forbids(truth) -> None:  # type: ignore[no-untyped-def]
    """No control flow, and no shape arithmetic: the runtime would place that on the CPU and refuse to capture."""
    bundle: ModelBundle = truth.bundle
    found = {
        node.op_type
        for level in bundle.manifest.state.levels
        for node in onnx.load(bundle.graph(level.name)).graph.node
    }
    assert "Gemm" in found
    assert not found & {"If", "Loop", "Scan", "Shape", "Size", "NonZero", "Expand"}
