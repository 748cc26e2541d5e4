"""`poseline corpus build`: a folder of recordings and labels, as its users have it, becomes a corpus that training reads."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from made_up import recording
from poseline.codec import encode
from poseline.errors import CorpusError, InputError
from poseline.formats import activitynet, elan, labelstudio, tables
from poseline.formats.corpus import read_corpus, runs
from poseline.remote import request_for
from poseline.timeline import Timeline, TimelineSegment
from poseline_cli.corpus import Unlabelled, corpus

SPANS = (("wave", 1.0, 2.0), ("jump", 3.0, 4.0), ("wave", 5.0, 6.0))
PERSON = "^([a-z]+)"
Build = Callable[..., Path]


def labelled(source: str, fps: float | None = None) -> Timeline:
    segments = tuple(TimelineSegment(f"s{n}", "", *one) for n, one in enumerate(SPANS))
    return Timeline(source=source, segments=segments, fps=fps, duration=10.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five recordings of four people, their labels beside them in four formats."""
    home = tmp_path / "recordings"
    home.mkdir()
    for n, name in enumerate(("ann-1", "ann-2", "ben-1", "cem-1", "dia-1")):
        (home / f"{name}.json").write_bytes(encode(request_for({"p1": recording(n)})))
    both = [labelled(f"{name}.json") for name in ("ann-1", "ann-2")]
    (home / "all of ann.json").write_bytes(
        json.dumps({"results": {k: v for one in both for k, v in _results(one).items()}}).encode()
    )
    (home / "ben-1.eaf").write_bytes(elan.write(labelled("")))
    (home / "cem-1.csv").write_bytes(tables.write_csv(labelled("cem-1.mp4")))
    [task] = json.loads(labelstudio.write(labelled("x", 30.0)))
    task = {"data": {"video": "/data/upload/1/0a1b2c3d-dia-1.mp4"}, "annotations": task["predictions"]}
    (home / "export.json").write_text(json.dumps([task]))
    (home / "notes.txt").write_text("to be left alone")
    return home


def _results(one: Timeline) -> dict[str, object]:
    return json.loads(activitynet.write(one))["results"]


@pytest.fixture
def build(folder: Path, tmp_path: Path) -> Build:
    def run(**changes: object) -> Path:
        output = tmp_path / "data" / "mine"
        options: dict[str, object] = {"pose": tmp_path, "in_video": 1, "person": PERSON, "unlabelled": Unlabelled.error}
        corpus("build", [folder], output, **{**options, **changes})  # type: ignore[arg-type]
        return output

    return run


def test_a_folder_becomes_a_corpus(build: Build, capsys: pytest.CaptureFixture[str]) -> None:
    made = build()
    people: dict[str, set[str]] = {}
    for split in ("train", "val", "test"):
        for one in read_corpus(made / f"untrimmed_{split}.npz"):
            people.setdefault(split, set()).add(one.subject)
            assert one.classes == ("background", "jump", "wave")
            assert runs(one.labels) == [(30, 60, 2), (90, 120, 1), (150, 180, 2)], one.name
    assert people["train"] | people["val"] | people["test"] == {"ann", "ben", "cem", "dia"}
    assert sum(map(len, people.values())) == 4, "a person is in one split"
    meta = json.loads((made / "meta.json").read_text())
    assert meta["people"] == {one: split for split, many in people.items() for one in many}
    told = capsys.readouterr()
    assert re.search(r"wave +│ +\d+ +│ +2 +│ +2 ", told.out)
    assert "fewer than 5 in train" in told.err


def test_the_table_of_people_decides(build: Build, tmp_path: Path) -> None:
    rows = ["ann-1,ann,train", "ann-2,ann,train", "ben-1,ben,train", "cem-1,cem,val", "dia-1,dia,val"]
    table = tmp_path / "recordings" / "people.csv"
    table.write_text("\n".join(["recording,person,split", *rows]))
    made = build(person=None, people=table)
    assert {one.subject for one in read_corpus(made / "untrimmed_val.npz")} == {"cem", "dia"}
    assert not (made / "untrimmed_test.npz").exists()
    table.write_text("\n".join(["recording,person", *(row.rpartition(",")[0] for row in rows[1:])]))
    with pytest.raises(CorpusError, match=r"people\.csv does not say who 'p1' of ann-1 is"):
        build(person=None, people=table)


def test_recordings_without_labels(build: Build, folder: Path) -> None:
    (folder / "ben-1.eaf").unlink()
    with pytest.raises(CorpusError, match="no labels of ben-1: label them, or say --unlabelled"):
        build()
    assert subjects(build(unlabelled=Unlabelled.skip)) == {"ann", "cem", "dia"}
    made = build(unlabelled=Unlabelled.background)
    [silent] = [one for one in sequences(made) if one.subject == "ben"]
    assert not silent.labels.any()


def test_labels_left_out_are_neither_class_nor_background(build: Build) -> None:
    made = build(ignore=["jump"])
    assert all(one.classes == ("background", "wave") for one in sequences(made))
    assert all((one.labels[90:120] == -1).all() for one in sequences(made))


def sequences(made: Path):  # type: ignore[no-untyped-def]
    return [one for path in sorted(made.glob("*.npz")) for one in read_corpus(path)]


def subjects(made: Path) -> set[str]:
    return {one.subject for one in sequences(made)}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"person": None}, "who is in which recording must be known"),
        ({"person": "("}, "is no regular expression"),
        ({"person": "[a-z]+"}, "has 0 groups, expected one"),
        ({"person": "(x)"}, r"finds nobody in the name 'ann-1'"),
        ({"person": "(-)"}, "one person alone"),
        ({"classes": "wave, sit"}, "label 'jump' is none of wave, sit"),
        ({"labels": [Path("nowhere")]}, "nowhere is missing"),
    ],
)
def test_what_cannot_be_is_refused(build: Build, changes: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        build(**changes)


def test_files_that_do_not_fit_are_refused(build: Build, folder: Path) -> None:
    shutil.copy(folder / "ben-1.eaf", folder / "eva-1.eaf")
    with pytest.raises(CorpusError, match=r"eva-1\.eaf labels 'eva-1', which is none of the 5 recordings"):
        build()
    with pytest.raises(InputError, match=r"notes\.txt is in none of the formats of timelines"):
        build(labels=[folder / "notes.txt"])
    (folder / "ben-1.ndjson").write_text("")
    with pytest.raises(CorpusError, match=r"are both called 'ben-1'"):
        build()
    (folder / "ben-1.ndjson").unlink()
    (folder / "eva-1.eaf").write_bytes(b"<x/>")
    with pytest.raises(InputError, match=r"eva-1\.eaf: this is no \.eaf"):
        build()
