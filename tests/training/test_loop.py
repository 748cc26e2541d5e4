"""The loop on disk: captures are picked, corrected in Label Studio, become a corpus; and two bundles are compared."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import typer

from poseline.bundle import ModelBundle
from poseline.errors import CorpusError, InputError
from poseline.formats.captures import Capture, encode, read_capture
from poseline.formats.corpus import read_corpus, runs
from poseline.formats.timelines import read_timelines
from poseline_cli.corpus import Unlabelled, corpus
from poseline_training.compare import compare, verdict
from poseline_training.metrics.bootstrap import Interval
from poseline_training.pick import By, pick
from tiny_bundle import CLASSES, motion, write_bundle

LENGTHS = (900, 333, 40)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("models"), look_ahead=3).path


@pytest.fixture
def captures(tmp_path: Path) -> Path:
    """Of two people, one of whom was kept in two files."""
    folder = tmp_path / "captures"
    folder.mkdir()
    for n, (who, frames) in enumerate(zip("aab", LENGTHS, strict=True)):
        poses = motion(np.random.default_rng(n), frames)
        none = np.zeros((frames, 1))
        told = Capture(poses, 1000.5 + np.arange(frames) / 30, none, none, (), CLASSES, "body16", ("tiny", "1", ""))
        (folder / f"{who * 8}-1-{n}.npz").write_bytes(encode(told))
    return folder


def test_picked_stretches_come_back_as_a_corpus_to_the_frame(bundle: Path, captures: Path, tmp_path: Path) -> None:
    picked = tmp_path / "picked"
    pick(captures, bundle, picked, count=4, seconds=5)
    tasks = json.loads((picked / "tasks.json").read_text())
    assert len(tasks) == len(list((picked / "poses").iterdir())) == 4
    # What Label Studio is told fits the tasks: curves of equal length, labels that the predictions use.
    view = ElementTree.parse(picked / "labels.xml").getroot()
    assert [one.get("value") for one in view.iter("Label")] == list(CLASSES[1:])
    shown = {one.get("column") for one in view.iter("Channel")} | {view.find("TimeSeries").get("timeColumn")}  # type: ignore[union-attr]
    control, series = view.find("TimeSeriesLabels"), view.find("TimeSeries")
    assert control is not None
    assert series is not None
    for task in tasks:
        curves = task["data"][series.get("value", "").removeprefix("$")]
        frames = len(read_capture(picked / "poses" / f"{task['data']['recording']}.npz").times)
        assert curves.keys() == shown
        assert {len(values) for values in curves.values()} == {frames}
        assert curves["seconds"][0] == 0
        assert np.isfinite([*curves.values()]).all()
        [prediction] = task["predictions"]
        assert prediction["model_version"].startswith("tiny 1 sha256:")
        for region in prediction["result"]:
            assert (region["from_name"], region["to_name"]) == (control.get("name"), control.get("toName"))
            assert 0 <= region["value"]["start"] < region["value"]["end"] <= frames / 30
    assert sum(len(task["predictions"][0]["result"]) for task in tasks) > 3
    # A person corrects: moves a border, adds a segment, skips the last task.
    expected: dict[str, list[tuple[int, int, str]]] = {}
    for task in tasks:
        result = task["predictions"][0]["result"][:1]
        result[0]["value"] |= {"start": 0.5, "end": 1 + 1 / 3, "timeserieslabels": ["jump"]}
        added = {"start": 0.1, "end": 0.4, "timeserieslabels": ["a new one"], "instant": False}
        result.append({"type": "timeserieslabels", "id": "x", "from_name": "a", "to_name": "b", "value": added})
        task["annotations"] = [{"result": result, "was_cancelled": task is tasks[-1], "completed_by": 1}]
        expected[task["data"]["recording"]] = [(3, 12, "a new one"), (15, 40, "jump")]
    del expected[tasks[-1]["data"]["recording"]]
    (picked / "export.json").write_text(json.dumps(tasks))
    assert {one.source for one in read_timelines(picked / "export.json", lambda _: None)} == expected.keys()
    (picked / "poses" / f"{tasks[-1]['data']['recording']}.npz").unlink()
    corpus(
        "build",
        [picked / "poses"],
        tmp_path / "mine",
        labels=[picked / "export.json"],
        person="^(.{8})",
        unlabelled=Unlabelled.error,
        in_video=1,
        pose=tmp_path,
    )
    made = [one for path in (tmp_path / "mine").glob("*.npz") for one in read_corpus(path)]
    assert {
        one.name: [(first, stop, one.classes[k]) for first, stop, k in runs(one.labels)] for one in made
    } == expected


def test_predictions_come_back_exactly_and_are_not_picked_twice(bundle: Path, captures: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    pick(captures, bundle, first, count=5, seconds=5, by=By.both)
    tasks = json.loads((first / "tasks.json").read_text())
    back = read_timelines(first / "tasks.json", lambda _: None)
    for task, one in zip(tasks, back, strict=True):
        regions = [
            (r["value"]["timeserieslabels"][0], r["value"]["start"], r["value"]["end"], r["score"])
            for r in task["predictions"][0]["result"]
        ]
        assert [(s.label, s.start, s.end, s.score) for s in one.segments] == regions
        assert one.model is not None
        assert one.model.name == "tiny"
    pick(captures, bundle, second, count=99, seconds=5, done=[first / "tasks.json"])
    again = {one.source for one in read_timelines(second / "tasks.json", lambda _: None)}
    assert not again & {one.source for one in back}
    assert len(again) == 6 + 3 + 1 - 5
    with pytest.raises(InputError, match="holds no captures"):
        pick(tmp_path, bundle, second)


# --- which is better -------------------------------------------------------------------------------------------------


def write_truth(root: Path, bundle: ModelBundle) -> Path:
    """A corpus that says what one bundle scores highest: that bundle is right, whoever answers otherwise is not."""
    from poseline_training.runtime import open_scorer

    folder = root / "truth"
    folder.mkdir()
    poses = np.stack([motion(np.random.default_rng(n), 200) for n in range(4)])
    labels = open_scorer(bundle).replay(poses).scores.argmax(-1)
    np.savez(
        folder / "untrimmed_test.npz",
        joints=poses[..., :3].reshape(-1, 16, 3),
        seq_ptr=np.arange(5) * 200,
        seq_id=np.array([f"r{n}" for n in range(4)]),
        subject=np.array(list("abcd")),
        frame_label=labels.reshape(-1).astype(np.int16),
    )
    (folder / "meta.json").write_text(json.dumps({"name": "truth", "classes": bundle.manifest.classes}))
    used = {"common16": {"used_by": ["truth"], "facing": "+z"}}
    (root / "skeletons.json").write_text(json.dumps(used))
    return folder


def test_the_better_of_two_bundles_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right, late = write_bundle(tmp_path / "models", "right"), write_bundle(tmp_path / "models", "late", look_ahead=12)
    truth, figures = write_truth(tmp_path, right), tmp_path / "figures.json"
    compare(late.path, right.path, truth, "untrimmed_test", draws=100, json_=figures)
    assert "right is better than late" in capsys.readouterr().out
    found = json.loads(figures.read_text())
    assert (found["verdict"], found["persons"], found["classes"]) == ("better", 4, list(CLASSES[1:]))
    assert found["figures"]["frame_map"]["difference"]["low"] > 0
    with pytest.raises(typer.Exit) as worse:
        compare(right.path, late.path, truth, "untrimmed_test", draws=100)
    assert worse.value.exit_code == 1
    assert "late is worse than right" in capsys.readouterr().out
    compare(right.path, right.path, truth, "untrimmed_test", draws=100)
    assert "no difference is shown" in capsys.readouterr().out
    (truth / "meta.json").write_text(json.dumps({"name": "truth", "classes": ["background", "x", "y", "z"]}))
    with pytest.raises(CorpusError, match="no class that both bundles have"):
        compare(right.path, late.path, truth, "untrimmed_test", draws=100)


def test_an_interval_that_holds_zero_decides_nothing() -> None:
    assert verdict(Interval(0.02, 0.01, 0.03), 2) == "better"
    assert verdict(Interval(-0.02, -0.03, -0.01), 2) == "worse"
    assert verdict(Interval(0.02, -0.01, 0.05), 9) == "no difference shown"
    assert verdict(Interval(0.02, float("nan"), float("nan")), 9) == "no difference shown"
    assert verdict(Interval(0.02, 0.02, 0.02), 1) == "no difference shown", "one person has no interval"
