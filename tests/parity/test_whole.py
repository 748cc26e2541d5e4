"""The network that sees the whole: its graph is torch's for any length, in chunks too, and the future does matter to it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from poseline.bundle import GOLDEN, ModelBundle, file_digest
from poseline.errors import BundleError
from poseline.manifest import WholeSpec
from poseline.skeleton import BODY16, Floats
from poseline.whole import WholeScorer, check_whole, chunked, score_chunks
from poseline_service.engine import open_whole
from poseline_training.network.fusion import REACH
from small_network import CLASSES, Truth, Twins, motion, said

EXACT, SEEN = 1e-4, 1e-3
NECK, PELVIS, WRIST = (BODY16.joints.index(name) for name in ("neck", "pelvis", "right_wrist"))


def steady(frames: int, seed: int = 1) -> Floats:
    """Somebody whose torso is always there, and always of one length."""
    poses = motion(np.random.default_rng(seed), 1, frames)[0]
    poses[:, NECK, :3] = poses[:, PELVIS, :3] + np.array([0, 0.5, 0], np.float32)
    poses[:, [NECK, PELVIS], 3] = 1
    return poses


def scorer_of(twins: Twins) -> WholeScorer:
    scorer = open_whole(twins.bundle)
    assert scorer is not None
    return scorer


def difference(one: tuple[Floats, Floats], other: tuple[Floats, Floats]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 70, 199])
def test_the_graph_is_torch_s_for_any_length(twins: Twins, frames: int) -> None:
    poses = motion(np.random.default_rng(frames), 1, frames)[0]
    scores, boundaries = scorer_of(twins)(poses)
    assert (scores.shape, boundaries.shape) == ((frames, len(CLASSES)), (frames, 2))
    assert difference((scores, boundaries), said(twins.whole, poses)) < EXACT


@pytest.mark.parametrize("chunk", [4, 100, 996, 5000])
def test_chunks_are_the_whole_where_the_torso_is_the_same(twins: Twins, chunk: int) -> None:
    poses = steady(1003)
    spec = WholeSpec(graph="whole.onnx", reach=REACH, chunk=chunk)
    found = chunked(spec, scorer_of(twins))(poses)
    assert difference(found, said(twins.whole, poses)) < EXACT


@pytest.mark.parametrize("spec", [{"reach": 24, "chunk": 100}, {"reach": REACH, "chunk": 98}], ids=["blind", "askew"])
def test_too_little_context_and_chunks_off_the_stride_would_be_seen(twins: Twins, spec: dict[str, int]) -> None:
    poses = steady(1003)
    found = chunked(WholeSpec(graph="whole.onnx", **spec), scorer_of(twins))(poses)
    assert difference(found, said(twins.whole, poses)) > SEEN


def test_the_torso_is_measured_over_a_chunk_and_its_context(twins: Twins) -> None:
    """Somebody who grows: the one thing by which chunks are not the whole, and exactly what is said of it."""
    poses = steady(600)
    poses[..., :3] *= np.linspace(1, 2, 600)[:, None, None]
    spec = WholeSpec(graph="whole.onnx", reach=REACH, chunk=200)
    found = list(score_chunks(spec, scorer_of(twins), poses))
    for n, (first, stop) in enumerate(((0, 272), (128, 472), (328, 600))):
        scores, boundaries = said(twins.whole, poses[first:stop])
        own = slice(200 * n - first, 200 * n - first + 200)
        assert difference(found[n], (scores[own], boundaries[own])) < EXACT
    together = np.concatenate([one for one, _ in found])
    assert np.abs(together - said(twins.whole, poses)[0]).max() > SEEN


@pytest.mark.parametrize("moment", [200, 201, 202, 203])
def test_what_lies_beyond_the_reach_is_not_seen(twins: Twins, moment: int) -> None:
    """And the future is: the twin is no causal network."""
    poses = steady(400)
    changed = poses.copy()
    changed[moment, WRIST, :3] += 0.5
    moved = np.flatnonzero(np.abs(said(twins.whole, poses)[0] - said(twins.whole, changed)[0]).max(axis=1) > 1e-7)
    assert moment - REACH <= moved[0] < moment - 30
    assert moment + 30 < moved[-1] <= moment + REACH
    causal = np.abs(said(twins.causal, poses)[0] - said(twins.causal, changed)[0]).max(axis=1)
    assert causal[:moment].max() == 0 < causal[moment:].max()


@pytest.mark.slow
def test_an_hour_is_scored_in_the_memory_of_a_minute(twins: Twins) -> None:
    scorer, given = scorer_of(twins), list[int]()

    def noting(poses: Floats) -> tuple[Floats, Floats]:
        given.append(len(poses))
        return scorer(poses)

    spec = twins.bundle.manifest.whole
    assert spec is not None
    poses = np.tile(steady(2000), (54, 1, 1))
    scores, boundaries = chunked(spec, noting)(poses)
    assert (len(scores), len(boundaries)) == (108_000, 108_000)
    assert np.isfinite(scores).all()
    assert max(given) == spec.chunk + 2 * spec.reach


def test_golden_samples_catch_another_twin(twins: Twins, tmp_path: Path) -> None:
    assert check_whole(twins.bundle, scorer_of(twins)) < EXACT
    golden = twins.bundle.golden()
    for name, change, match in (
        ("wrong", {"whole_scores": golden.whole_scores + 0.01}, "golden samples of the whole differ by 1.00e-02"),
        ("none", {"whole_scores": None, "whole_boundaries": None}, "no golden samples of the network that sees"),
    ):
        path = shutil.copytree(twins.bundle.path, tmp_path / name)
        arrays = {key: value for key, value in vars(replace(golden, **change)).items() if value is not None}
        np.savez(path / GOLDEN, **arrays)
        manifest = json.loads((path / "manifest.json").read_text())
        manifest["files"][GOLDEN] = file_digest(path / GOLDEN)
        (path / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(BundleError, match=match):
            check_whole(ModelBundle.open(path), scorer_of(twins))


def test_a_graph_without_a_digest_is_refused(twins: Twins, tmp_path: Path) -> None:
    path = shutil.copytree(twins.bundle.path, tmp_path / "loose")
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["files"]["whole.onnx"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"gives no digest for whole\.onnx"):
        ModelBundle.open(path)


def test_a_bundle_without_a_twin_has_one_mode(truth: Truth, twins: Twins) -> None:
    assert open_whole(truth.bundle) is None
    assert truth.bundle.manifest.modes == ("online",)
    assert twins.bundle.manifest.modes == ("online", "offline")
    assert twins.bundle.manifest.fingerprint == replace_whole(twins.bundle).fingerprint, "streams know nothing of it"


def replace_whole(bundle: ModelBundle):  # type: ignore[no-untyped-def]
    return bundle.manifest.model_copy(update={"whole": None})
