"""When starts are told: how alarms are judged, and that every threshold is decoded as if it were alone."""

import json
from pathlib import Path

import numpy as np
import pytest

from poseline.bundle import ModelBundle
from poseline.decoding import DecodingOptions
from poseline.formats.corpus import LabelledSequence
from poseline.pose import PoseSequence
from poseline_training.metrics.alarms import alarm_figures
from poseline_training.results import alarms, plots, tables
from poseline_training.results.settings import ResultsSettings
from poseline_training.robustness.figures import spans_with_scores, stream_side_by_side
from poseline_training.runtime import open_scorer
from tiny_bundle import motion, write_bundle

CLASSES = ("background", "wave", "jump")
TRUTHS = [(1.0, 3.0, 1), (5.0, 6.0, 1), (7.0, 9.0, 2)]


def labelled(seed: int, frames: int) -> LabelledSequence:
    poses = motion(np.random.default_rng(seed), frames)
    there = PoseSequence(poses[..., :3], poses[..., 3], np.arange(frames) / 30, name=f"made up {seed}")
    return LabelledSequence(there, np.arange(frames) // 20 % len(CLASSES), CLASSES, "made_up", "1", "1")


@pytest.mark.parametrize(
    ("said", "false", "revoked", "delays"),
    [
        ([], 0, 0, (2.0, 1.0, 2.0)),
        ([(1.5, 1, False), (5.0, 1, False), (6.75, 2, False)], 0, 0, (0.5, 0.0, -0.25)),
        ([(0.25, 1, False), (4.0, 1, False)], 2, 0, (2.0, 1.0, 2.0)),
        ([(1.5, 2, False)], 1, 0, (2.0, 1.0, 2.0)),
        ([(1.5, 1, True), (2.0, 1, False)], 1, 1, (1.0, 1.0, 2.0)),
        ([(1.5, 1, False), (2.0, 1, False)], 1, 0, (0.5, 1.0, 2.0)),
        ([(6.25, 1, False)], 0, 0, (2.0, 1.0, 2.0)),
    ],
    ids=["silence", "good", "too far", "wrong class", "taken back", "told twice", "after its end"],
)
def test_an_alarm_is_judged_at_its_moment(said: list, false: int, revoked: int, delays: tuple[float, ...]) -> None:
    found = alarm_figures([said, []], [TRUTHS, []], hours=0.5)
    assert (found["alarms"], found["false"], found["revoked"]) == (len(said), false, revoked)
    assert found["false_per_hour"] == 2 * false
    assert found["delay"] == pytest.approx(sum(delays) / 3)
    assert found["told"] == pytest.approx((len(said) - false) / 3)


@pytest.fixture(scope="module", params=[0, 5])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return write_bundle(tmp_path_factory.mktemp("models"), look_ahead=request.param)


def test_every_threshold_is_decoded_as_if_alone(bundle: ModelBundle) -> None:
    scorer, sequences = open_scorer(bundle), [labelled(seed, 200) for seed in (1, 2)]
    options = [bundle.manifest.decoding.model_copy(update={"evidence": nats}) for nats in (0.0, 3.0, 9.0)]
    options.append(DecodingOptions(min_score=0.8))
    spans = spans_with_scores(bundle.manifest, scorer, sequences)
    told = [alarms.events_by(bundle.manifest, options, some) for some in spans]
    for n, one in enumerate(options):
        alone = bundle.manifest.model_copy(update={"decoding": one})
        expected = [list(streamed.events) for streamed in stream_side_by_side(alone, scorer, sequences, None)]
        assert [events[n] for events in told] == expected
        assert any(expected)


def test_what_is_measured_is_shown(bundle: ModelBundle, tmp_path: Path) -> None:
    sets = [{"corpus": "one", "split": "x", "real": True}, {"corpus": "two", "split": "x"}]
    settings = ResultsSettings.model_validate({"words": "", "sets": sets, "data": {"label_map": None}})
    recordings = {"one": [labelled(1, 200)], "two": [labelled(2, 200), labelled(3, 200)]}
    found = alarms.measure(settings, bundle.manifest, open_scorer(bundle), recordings)
    at_once, never = (found[alarms.GATHERED][nats] for nats in ("0", "64"))
    assert at_once == found[alarms.FIRST]["0.5"], "no evidence is the first crossing"
    for kind in ("real", "stitched"):
        assert at_once[kind]["alarms"] > never[kind]["alarms"]
        assert at_once[kind]["f1_50"] == never[kind]["f1_50"], "finals are the same"
    shown = tables.alarms(json.loads(json.dumps(found)))
    assert shown.count("\n| gathered") == shown.count("\n| first") == 16
    plots.alarms(found, tmp_path / "alarms.png")
    assert (tmp_path / "alarms.png").read_bytes().startswith(b"\x89PNG")
    assert tables.alarms(None) == tables.MISSING
