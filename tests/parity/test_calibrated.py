"""A bundle whose temperatures are in its networks' weights: what the service runs, and its golden samples, are of those."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest

from poseline.decoding import DecodingOptions
from poseline.manifest import ModelManifest
from poseline_service.engine import open_scorer, open_whole
from poseline_training.temperature import tempered
from small_network import exported, made, motion, said

THRESHOLDS = DecodingOptions(min_score=0.55, off_score=0.3, min_duration=0.25)


@pytest.mark.parametrize("look_ahead", [0, 4])
def test_the_scores_are_those_of_logits_divided_by_the_temperature(tmp_path: Path, look_ahead: int) -> None:
    rng = np.random.default_rng(5)
    network = made(rng, look_aheads=(0, 4))
    poses = motion(rng, 1, 150)[0]
    plain = deepcopy(network)
    plain.select(look_ahead)
    scores, borders = said(plain, poses)

    bundle = exported(tmp_path / "small", network, look_ahead=look_ahead, temperature=1.6)
    told, told_borders, _ = open_scorer(bundle, 1).replay(poses[None])
    assert np.abs(told[0] - tempered(scores, 1.6)).max() < 1e-5
    assert np.abs(told_borders[0] - borders).max() < 1e-5, "borders have no temperature"
    assert np.abs(told[0] - scores).max() > 0.05
    golden = bundle.golden()
    assert np.abs(golden.scores[0] - tempered(said(plain, golden.poses[0])[0], 1.6)).max() < 1e-5


def test_the_twin_has_its_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    whole, poses = made(rng, "centred_u"), motion(rng, 1, 150)[0]
    scores, borders = said(whole, poses)
    bundle = exported(tmp_path / "small", made(rng), whole, temperature=1.6, twin_temperature=0.7)
    scorer = open_whole(bundle)
    assert scorer is not None
    told, told_borders = scorer(poses)
    assert np.abs(told - tempered(scores, 0.7)).max() < 1e-4
    assert np.abs(told_borders - borders).max() < 1e-4
    assert np.abs(told - scores).max() > 0.05


def test_thresholds_belong_to_the_bundle_and_leave_running_streams_what_they_are(tmp_path: Path) -> None:
    network = made(np.random.default_rng(7))
    plain = exported(tmp_path / "plain", network).manifest
    bundle = exported(tmp_path / "small", network, decoding=THRESHOLDS, unknown_below=0.45)
    kept = ModelManifest.model_validate_json((bundle.path / "manifest.json").read_text())
    assert (kept.decoding, kept.unknown_below) == (THRESHOLDS, 0.45)
    assert (plain.decoding, plain.unknown_below) == (DecodingOptions(), 0.0)
    assert kept.model_copy(update={"files": plain.files}).fingerprint == plain.fingerprint
