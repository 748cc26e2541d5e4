"""The shipped weights on real people, and on the actor. Floors stand well below what the model card measured: they
catch a broken path, not a bad day.
"""

from pathlib import Path

import numpy as np
import pytest

from poseline.actor import perform
from poseline.bundle import ModelBundle
from poseline.formats.corpus import read_corpus
from poseline.online import localize
from poseline.segments import Segment, temporal_iou
from poseline_training.evaluate import evaluate, report, stream_all
from poseline_training.robustness import CONDITIONS, robustness
from poseline_training.runtime import open_scorer
from report_keys import PROMISED


def test_it_finds_real_actions(default_bundle: ModelBundle, data: Path) -> None:
    figures = evaluate(
        default_bundle.manifest,
        open_scorer(default_bundle),
        data / "utkinect",
        "untrimmed_test",
        data / "unified_labels.json",
    )
    assert figures["frame_map"] > 0.65
    assert figures["segment_map"]["0.5"] > 0.5
    assert set(figures) >= PROMISED
    assert len(figures["classes"]) == 10


def test_a_shuffled_truth_scores_badly(default_bundle: ModelBundle, data: Path) -> None:
    """The negative control of the figures: labels moved by ten seconds."""
    from dataclasses import replace

    recorded = read_corpus(data / "utkinect" / "untrimmed_test.npz")
    moved = [replace(one, labels=np.roll(one.labels, 300)) for one in recorded]
    streamed = stream_all(default_bundle.manifest, open_scorer(default_bundle), moved, data / "unified_labels.json")
    assert report(streamed, default_bundle.manifest.classes)["segment_map"]["0.5"] < 0.2


def test_it_bears_what_it_claims_to_bear(default_bundle: ModelBundle, data: Path) -> None:
    sequences = read_corpus(data / "precog" / "untrimmed_test.npz")
    found = robustness(default_bundle.manifest, open_scorer(default_bundle), sequences, data / "unified_labels.json")
    plain = found["as recorded"]["frame_map"]
    assert set(found) == set(CONDITIONS)
    for condition, figures in found.items():
        assert figures["frame_map"] > plain - 0.08, condition
    assert found["millimetres, 5 m away"]["frame_map"] == pytest.approx(plain, abs=0.005)


def test_the_actors_segments_are_found(default_bundle: ModelBundle) -> None:
    """At least 70 % of them at tIoU .3, on performances that training never saw."""
    found = total = 0
    for seed in range(5):
        performance = perform(seed, seconds=60)
        events = localize(default_bundle.manifest, open_scorer(default_bundle), performance.poses)
        finals = [Segment(e.label, e.start, e.end, e.score) for e in events if e.phase == "final"]
        for truth in performance.segments:
            total += 1
            found += any(
                one.label == truth.label and temporal_iou((one.start, one.end), (truth.start, truth.end)) >= 0.3
                for one in finals
            )
    assert found / total >= 0.7, f"{found} of {total}"
