"""The benchmark measures what it says; how fast is not a test's business."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from poseline.bundle import ModelBundle, find_bundle
from poseline_bench import cases, clock, engine, limit, scaling, table
from poseline_bench.rivals import VIEW, WINDOW, ComparedNetwork, Continual, Window, bundle_of
from poseline_service.engine import open_scorer

STREAMS = 3


@pytest.fixture(scope="module")
def network() -> ComparedNetwork:
    return ComparedNetwork()


@pytest.fixture(scope="module")
def compared(network: ComparedNetwork, tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return bundle_of(network, tmp_path_factory.mktemp("bundles") / "compared")


@pytest.fixture(scope="module")
def figures(models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of a run that measures as little as it can."""
    folder = tmp_path_factory.mktemp("figures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "ROUNDS", 1)
        patch.setattr(clock, "BURST", 1e-4)
        patch.setattr(limit, "SIZE", 64)
        patch.setattr(scaling, "ROUNDS", 1)
        patch.setattr(scaling, "STEPS", 10)
        patch.setattr(cases, "CLASSES", (8,))
        engine.run(models, None, folder / "out.json", folder / "plots")
    assert {path.name for path in (folder / "plots").iterdir()} == {"batch.png", "classes.png", "engines.png"}
    return json.loads((folder / "out.json").read_text())


def test_the_three_engines_run_the_same_network(network: ComparedNetwork, compared: ModelBundle) -> None:
    poses = np.random.default_rng(3).normal(size=(STREAMS, WINDOW + 8, 16, 4)).astype(np.float32)
    poses[..., 3] = 1
    ours = open_scorer(compared, STREAMS).replay(poses)[:2]
    features = network.features(torch.from_numpy(poses))
    continual, window = Continual(network), Window(network)
    with torch.inference_mode():
        for t in range(WINDOW + 8):
            theirs = continual.step(features[:, t])
            assert (theirs is None) == (t < VIEW - 1)
            if theirs:
                _same(theirs, ours, t)
        for t in (WINDOW - 1, WINDOW + 7):
            _same(window(features[:, t + 1 - WINDOW : t + 1]), ours, t)
            _same(window(features[:, t + 1 - VIEW : t + 1]), ours, t)
    # They would also agree if nothing depended on anything.
    assert ours[0].std(axis=1).max() > 0.05
    assert np.abs(ours[0][0] - ours[0][1]).max() > 0.05


def _same(theirs: tuple[torch.Tensor, torch.Tensor], ours: tuple[np.ndarray, np.ndarray], t: int) -> None:
    for one, other in zip(theirs, ours, strict=True):
        np.testing.assert_allclose(one.numpy(), other[:, t], atol=1e-4, rtol=0)


def test_the_compared_network_needs_what_its_layers_do(compared: ModelBundle) -> None:
    stem = (6 * 16 + 16) * 256 + 16 * (3 * 16 * 16 + 3 * 16 * 32) + 512 * 128
    assert limit.multiply_adds(compared) == stem + 6 * 3 * 128 * 128 + 128 * (34 + 2)


def test_a_level_counts_as_often_as_it_runs(models: Path) -> None:
    first = (64 + 24) * 8 + 8 * (4 + 2)
    assert limit.multiply_adds(find_bundle(models)) == first + 16 * 8 / 4


def test_figures_are_complete(figures: dict[str, Any], models: Path) -> None:
    assert {"1", "32", "64"} <= set(figures["us_per_stream_frame"])
    assert set(figures["ratio_vs_continual_inference"]) == set(figures["ratio_vs_window_rerun"]) == {"1", "32"}
    costs = [
        *figures["us_per_stream_frame"].values(),
        figures["us_one_of_64_in_turn"],
        figures["sgemm_gflops"],
        figures["sgemm_fraction_b64"],
    ]
    costs += [us for engine in figures["us_same_network"].values() for us in engine.values()]
    costs += figures["us_by_classes"]["8"].values()
    assert min(costs) > 0
    assert figures["state_bytes_per_stream"] >= find_bundle(models).manifest.state.bytes_per_stream
    assert (figures["two_core_scaling"] is None) == (len(clock.cores()) < 2)
    assert figures["model"] == "tiny 1"


def test_a_stream_takes_what_the_manifest_says_and_little_more(models: Path) -> None:
    bundle = find_bundle(models)
    assert engine.state_bytes(bundle) <= bundle.manifest.state.bytes_per_stream + 128


def test_costs_in_time_are_judged_at_this_runs_peak(figures: dict[str, Any]) -> None:
    target = next(one for one in table.TARGETS if one.key == ("us_per_stream_frame", "64"))
    figures = figures | {"us_per_stream_frame": {"64": 15.0}}
    assert target.met(figures | {"sgemm_gflops": table.TARGET_PEAK / 2})
    assert not target.met(figures | {"sgemm_gflops": table.TARGET_PEAK})


def test_what_could_not_be_measured_has_no_verdict(figures: dict[str, Any]) -> None:
    target = next(one for one in table.TARGETS if one.key == ("two_core_scaling",))
    assert table.row(target, figures | {"two_core_scaling": None}) == ("not measured", "≥ 1.8", "needs two cores")
    assert table.row(target, figures | {"two_core_scaling": 1.9}) == ("1.9", "≥ 1.8", "met")


def test_ratios_are_taken_within_a_round() -> None:
    timings = clock.Timings({"slow": [2.0, 20.0, 3.0], "fast": [1.0, 10.0, 1.0]})
    assert timings.ratio("slow", "fast") == 2
    assert timings.seconds("slow") == 3


def test_pinning_is_undone() -> None:
    before = os.sched_getaffinity(0)
    with clock.one_core():
        assert len(os.sched_getaffinity(0)) == 1
        assert torch.get_num_threads() == 1
    assert os.sched_getaffinity(0) == before
