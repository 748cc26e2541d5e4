"""Thresholds of single classes: found again where the truth was made with them, and left alone where nothing is gained."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from poseline.bundle import ModelBundle
from poseline.decoding import DecodingOptions
from poseline.formats.corpus import LabelledSequence
from poseline.manifest import ModelManifest
from poseline.online import localize
from poseline.pose import PoseSequence
from poseline_training.runtime import open_scorer
from poseline_training.streaming import stream_all
from poseline_training.thresholds import choose_thresholds
from tiny_bundle import motion, write_bundle

OWN = {"wave": {"min_score": 0.9, "off_score": 0.54}}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return write_bundle(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def told(bundle: ModelBundle) -> ModelManifest:
    """As if wave had thresholds of its own."""
    decoding = DecodingOptions.model_validate(bundle.manifest.decoding.model_dump() | {"thresholds": OWN})
    return bundle.manifest.model_copy(update={"decoding": decoding})


@pytest.fixture(scope="module")
def recordings(bundle: ModelBundle, told: ModelManifest) -> list[LabelledSequence]:
    """Whose truth is what a decoder with those thresholds says."""
    rng, scorer = np.random.default_rng(5), open_scorer(bundle)
    found: list[LabelledSequence] = []
    for n in range(6):
        array = motion(rng, 900)
        poses = PoseSequence(array[..., :3], array[..., 3], np.arange(900) / 30, name=str(n))
        labels = np.zeros(900, np.int64)
        for one in localize(told, scorer, poses):
            if one.phase == "final":
                labels[round(one.start * 30) : round(one.end * 30)] = one.label_id
        found.append(LabelledSequence(poses, labels, told.classes, "told", "1", ""))
    return found


def test_thresholds_by_which_the_truth_was_made_are_found(
    bundle: ModelBundle, told: ModelManifest, recordings: list[LabelledSequence]
) -> None:
    chosen = choose_thresholds(bundle.manifest, open_scorer(bundle), recordings, None)
    assert set(chosen) == {"wave", "sit_down", "jump"}
    wave = chosen["wave"]
    assert wave.thresholds is not None
    assert wave.thresholds.min_score > 0.7
    assert wave.thresholds.off_score == pytest.approx(0.6 * wave.thresholds.min_score)
    assert wave.f1 is not None
    assert wave.f1_shared is not None
    assert wave.f1 > wave.f1_shared
    for name in ("sit_down", "jump"):
        assert chosen[name].thresholds is None, name
        assert chosen[name].f1 == chosen[name].f1_shared


def test_a_class_that_is_hardly_shown_keeps_the_thresholds_of_all(
    bundle: ModelBundle, recordings: list[LabelledSequence]
) -> None:
    few = [one for one in recordings if (one.labels == 1).any()][:1]
    chosen = choose_thresholds(bundle.manifest, open_scorer(bundle), few, None)
    assert 0 < chosen["wave"].instances < 5
    assert chosen["wave"].thresholds is None


def test_thresholds_of_no_class_are_refused(bundle: ModelBundle) -> None:
    strange = bundle.manifest.model_dump(mode="json")
    strange["decoding"]["thresholds"] = {"fly": OWN["wave"]}
    with pytest.raises(ValidationError, match="thresholds of fly, which is no class of the model"):
        ModelManifest.model_validate(strange)


def test_what_is_measured_goes_by_them(
    bundle: ModelBundle, told: ModelManifest, recordings: list[LabelledSequence]
) -> None:
    streamed = stream_all(told, open_scorer(bundle), recordings[:1], None)
    shared = stream_all(bundle.manifest, open_scorer(bundle), recordings[:1], None)
    finals = [[(e.start, e.end) for e in one.finals() if e.label == "wave"] for one in (streamed[0], shared[0])]
    assert finals[0] != finals[1]
