"""A split's report: what a perfect network gets, what a false alarm costs, and how recordings are chosen."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from poseline.bundle import ModelBundle
from poseline.errors import CorpusError
from poseline.formats.corpus import FPS, read_corpus
from poseline.manifest import ModelManifest
from poseline.segments import SegmentEvent
from poseline.skeleton import Floats
from poseline.whole import WholeScorer
from poseline_training.evaluate import evaluate, headline, report
from poseline_training.metrics.bootstrap import bootstrap
from poseline_training.runtime import open_scorer
from poseline_training.streaming import StreamedSequence, stream, stream_all
from report_keys import PROMISED
from tiny_bundle import motion, write_bundle

CLASSES = ("background", "wave", "punch")
OWN = ("background", "wave", "left punch", "right punch", "juggle")
WRIST = 6


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return write_bundle(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def manifest(bundle: ModelBundle) -> ModelManifest:
    return bundle.manifest.model_copy(update={"classes": CLASSES})


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings of two persons, and one of juggling. The left wrist's x tells the own label, in decimetres."""
    folder = tmp_path_factory.mktemp("data") / "made_up"
    folder.mkdir()
    told = [[0, 1, 0, 2, 0], [0, 3, 0, 1, 0], [0, 2, 0, 3, 0], [0, 4, 0, 4, 0]]
    labels = np.concatenate([np.repeat(one, 60) for one in told])
    joints = np.random.default_rng(0).normal(scale=0.2, size=(1, 16, 3)) + np.zeros((len(labels), 1, 1))
    joints[:, WRIST, 0] = labels / 10
    np.savez(
        folder / "untrimmed_test.npz",
        joints=joints.astype(np.float32),
        seq_ptr=np.arange(5) * 300,
        seq_id=np.array(["a", "b", "c", "d"]),
        subject=np.array(["1", "2", "1", "2"]),
        view=np.array(["0"] * 4),
        style=np.array(["calm", "calm", "calm", "wild"]),
        frame_label=labels.astype(np.int16),
    )
    (folder / "meta.json").write_text(json.dumps({"name": "made_up", "classes": OWN}))
    (folder / "skeletons.json").write_text(json.dumps({"common16": {"used_by": ["made_up"], "facing": "+z"}}))
    merged = {"left punch": "punch", "right punch": "punch"}
    (folder.parent / "labels.json").write_text(json.dumps({"made_up": merged}))
    return folder


def oracle(answers: list[int]) -> WholeScorer:
    """Reads the own label off the wrist and says `answers[label]`, nine parts in ten."""

    def score(poses: Floats) -> tuple[Floats, Floats]:
        told = np.array(answers)[np.rint(poses[:, WRIST, 0] * 10).astype(int)]
        scores = np.full((len(poses), len(CLASSES)), 0.05, np.float32)
        scores[np.arange(len(poses)), told] = 0.9
        return scores, np.zeros((len(poses), 2), np.float32)

    return score


PERFECT = oracle([0, 1, 2, 2, 0])


def test_a_perfect_network_gets_full_marks(manifest: ModelManifest, corpus: Path) -> None:
    found = evaluate(manifest, PERFECT, corpus, "untrimmed_test", corpus.parent / "labels.json", styles=("calm",))
    assert set(found) >= PROMISED
    for key in ("frame_accuracy", "frame_macro_f1", "frame_map", "calibrated_frame_map", "edit", "sl", "el"):
        assert found[key] == pytest.approx(1), key
    assert found["segment_map_average"] == 1
    for key in ("segment_map", "f1", "start_p_ap", "pku_map_action", "pku_map_video"):
        assert set(found[key].values()) == {1.0}, key
    assert list(found["segment_map"]) == ["0.1", "0.3", "0.5"]
    assert list(found["start_p_ap"]) == ["0.5", "1.0"]
    assert list(found["start_p_ap_all"])[:6] == ["0.1", "0.2", "0.33", "0.5", "1.0", "2.0"]
    assert list(found["line_map"]) == ["0.1", "0.2", "0.3", "0.4", "0.5", "average"]
    assert found["end_delay_p50"] == found["end_delay_p95"] == pytest.approx(3 / FPS), "off_hang"
    assert found["on_tal"]["0.5"] == {"map": 1.0, "delay": pytest.approx(3 / FPS)}
    assert (found["false_alarms_per_hour"], found["missed"], found["retracted"]) == (0, 0, 0)
    assert found["start_error_median"] == found["end_error_median"] == pytest.approx(0, abs=1e-9)
    assert found["ece"] == pytest.approx(0.1, abs=1e-5), "right always, at nine in ten"
    assert found["classwise_ece"] == pytest.approx((0.1 + 0.05 + 0.05) / 3, abs=1e-5), "what is false, at one in twenty"
    assert found["selective"]["0.8"] == {"coverage": 1.0, "accuracy": 1.0}
    assert found["sequences"] == 3
    assert found["seconds"] == 30


def test_scores_that_lag_are_late_and_otherwise_the_same(manifest: ModelManifest, corpus: Path) -> None:
    def late(poses: Floats) -> tuple[Floats, Floats]:
        scores, boundaries = PERFECT(poses)
        return np.roll(scores, 5, axis=0), boundaries

    labels = corpus.parent / "labels.json"
    prompt = evaluate(manifest, PERFECT, corpus, "untrimmed_test", labels, styles=("calm",))
    lagging = evaluate(manifest, late, corpus, "untrimmed_test", labels, styles=("calm",), look_ahead=5)
    assert lagging["frame_map"] == lagging["segment_map"]["0.5"] == 1
    for key in ("end_delay_p50", "start_delay_mean"):
        assert lagging[key] - prompt[key] == pytest.approx(5 / FPS), key


def test_on_what_holds_none_of_the_classes_every_final_is_false(manifest: ModelManifest, corpus: Path) -> None:
    labels = corpus.parent / "labels.json"
    quiet = evaluate(manifest, PERFECT, corpus, "untrimmed_test", labels, negatives=True)
    assert quiet["sequences"] == 1
    assert quiet["background_share"] == quiet["frame_accuracy"] == 1
    assert quiet["false_alarms_per_hour"] == 0
    assert quiet["edit"] == 1
    taken_for_waving = oracle([0, 1, 2, 2, 1])
    loud = evaluate(manifest, taken_for_waving, corpus, "untrimmed_test", labels, negatives=True)
    assert loud["false_alarms_per_hour"] == pytest.approx(2 / (10 / 3600))
    assert loud["frame_accuracy"] == 0.6
    assert loud["classes"] == {}
    unmeasured = ("frame_map", "segment_map_average", "end_delay_p95", "missed", "start_delay_mean", "sl")
    assert [loud[key] for key in unmeasured] == [None] * len(unmeasured)
    assert json.loads(json.dumps(loud, allow_nan=False)) == loud


def test_native_classes_beside_merged_ones(manifest: ModelManifest, corpus: Path) -> None:
    left_handed = oracle([0, 1, 2, 0, 0])
    labels = corpus.parent / "labels.json"
    found = evaluate(manifest, left_handed, corpus, "untrimmed_test", labels, native=True)
    assert found["native_classes"] == {
        "wave": {"class": "wave", "instances": 2, "found": 1.0},
        "left punch": {"class": "punch", "instances": 2, "found": 1.0},
        "right punch": {"class": "punch", "instances": 2, "found": 0.0},
    }
    assert set(found["classes"]) == {"wave", "punch"}


def test_a_model_of_native_classes_needs_no_map(manifest: ModelManifest, corpus: Path) -> None:
    """Juggling is no class of its own here, so those frames do not count and its recording is a negative."""
    own = manifest.model_copy(update={"classes": ("background", "wave", "left punch")})
    found = evaluate(own, oracle([0, 1, 2, 0, 0]), corpus, "untrimmed_test", None, native=True)
    assert set(found["classes"]) == set(found["native_classes"]) == {"wave", "left punch"}
    assert found["frame_accuracy"] == 1
    assert evaluate(own, PERFECT, corpus, "untrimmed_test", None, negatives=True)["sequences"] == 1


def test_several_splits_are_scored_as_one(manifest: ModelManifest, corpus: Path) -> None:
    found = evaluate(manifest, PERFECT, corpus, "untrimmed_test,untrimmed_test", corpus.parent / "labels.json")
    assert found["sequences"] == 8


def test_a_choice_that_leaves_nothing_says_so(manifest: ModelManifest, corpus: Path) -> None:
    with pytest.raises(CorpusError, match=r"none of the 4 recordings of made_up/untrimmed_test"):
        evaluate(manifest, PERFECT, corpus, "untrimmed_test", None, styles=("angry",))
    nowhere = [replace(one, labels=np.full_like(one.labels, -1)) for one in streamed(manifest, corpus)]
    with pytest.raises(CorpusError, match="no frame of the split counts"):
        report(nowhere, CLASSES)


def test_step_graphs_and_whole_scores_give_the_same(bundle: ModelBundle, corpus: Path) -> None:
    """The same network, frame by frame and over everything."""
    sequence = read_corpus(corpus / "untrimmed_test.npz", "a")[0]
    swaying = motion(np.random.default_rng(3), 300)
    sequence = replace(sequence, poses=replace(sequence.poses, joints=swaying[..., :3], confidence=swaying[..., 3]))

    def whole(poses: Floats) -> tuple[Floats, Floats]:
        scores, boundaries, _ = open_scorer(bundle).replay(poses[None])
        return scores[0], boundaries[0]

    by_step = stream(bundle.manifest, open_scorer(bundle), sequence, None)
    at_once = stream(bundle.manifest, whole, sequence, None)
    assert len(by_step.events) > 4
    counted = [replace(event, repetitions=None) for event in by_step.events]  # of which the whole knows nothing
    assert counted == list(at_once.events)
    np.testing.assert_allclose(by_step.scores, at_once.scores, atol=1e-6)
    assert (by_step.person, by_step.corpus) == ("1", "made_up")


def test_strikes_without_a_pause_are_as_many_truths_as_were_annotated(manifest: ModelManifest, corpus: Path) -> None:
    """Left punch, right punch and left punch again, at once: one run of the merged class."""
    (first, *_) = read_corpus(corpus / "untrimmed_test.npz")
    labels = np.repeat([0, 2, 3, 2, 0], 60)
    one = stream(manifest, PERFECT, replace(first, labels=labels), corpus.parent / "labels.json")
    assert [(label, start, end) for start, end, label in one.truths()] == [(2, 2, 4), (2, 4, 6), (2, 6, 8)]
    assert report([one], CLASSES)["classes"]["punch"]["instances"] == 3


def test_what_was_left_out_counts_neither_way() -> None:
    def said(start: float, end: float) -> SegmentEvent:
        return SegmentEvent("final", 0, "wave", 1, start, end, 0.9, end, "none")

    labels = np.r_[np.zeros(1800), np.full(1800, -1)].astype(np.int64)
    scores = np.tile(np.array([[0.9, 0.1]], np.float32), (3600, 1))
    one = StreamedSequence("x", labels, scores, (said(10, 12), said(70, 72)), "p", "c", ())
    found = report([one], ("background", "wave"))
    assert found["false_alarms_per_hour"] == 60, "one in the minute that counts"
    assert found["seconds"] == 120


def test_the_headline_is_the_reports_and_can_be_bootstrapped(manifest: ModelManifest, corpus: Path) -> None:
    some = streamed(manifest, corpus)
    full, short = report(some, CLASSES), headline(some)
    assert short["frame_map"] == full["frame_map"]
    assert short["segment_map_0.5"] == full["segment_map"]["0.5"]
    assert short["f1_50"] == full["f1"]["50"]
    assert short["start_p_ap_0.5"] == full["start_p_ap"]["0.5"]
    for key in ("start_delay_mean", "end_delay_p95", "end_error_median", "false_alarms_per_hour"):
        assert short[key] == full[key], key
    interval = bootstrap([some], headline)["f1_50"]
    assert interval.low < interval.value < interval.high, "one of the two persons is right-handed"


def streamed(manifest: ModelManifest, corpus: Path) -> list[StreamedSequence]:
    sequences = read_corpus(corpus / "untrimmed_test.npz")
    return stream_all(manifest, oracle([0, 1, 2, 0, 0]), sequences, corpus.parent / "labels.json")
