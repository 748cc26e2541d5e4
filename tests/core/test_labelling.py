"""Recordings and labels, as labelled sequences: what fits where, on which frames, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from made_up import recording
from poseline.actor import perform
from poseline.dealing import check_splits, instances, split_people
from poseline.errors import CorpusError
from poseline.formats.corpus import LabelledSequence, read_corpus, runs, write_corpus
from poseline.formats.people import Who, read_people
from poseline.labelling import Labels, Part, Recorded, by_recording, classes_of, labelled_name, parts_of, sequences_of
from poseline.pose import NATIVE, Coordinates, PoseSequence
from poseline.timeline import Timeline, TimelineSegment

FPS = 30
CLASSES = ("background", "jump", "wave")


def labels(*found: tuple[str, float, float], track: str = "", source: str = "", file: str = "a.csv") -> Labels:
    segments = tuple(TimelineSegment(f"s{n}", track, *one) for n, one in enumerate(found))
    return Labels(Path(file), Timeline(source=source, segments=segments))


def recorded(frames: int = 300, *tracks: str) -> Recorded:
    people = {track: recording(n, frames) for n, track in enumerate(tracks or ("p1",))}
    return Recorded("a", people, frames / FPS, FPS)


def by_itself(name: str, track: str) -> Who:
    return Who(track, "", "")


def part(poses: PoseSequence, *found: tuple[str, float, float]) -> Part:
    [made] = parts_of(Recorded("a", {"p1": poses}, float(poses.timestamps[-1]) + 1, FPS), labels(*found), by_itself)
    return made


def labelled(poses: PoseSequence, *found: tuple[str, float, float]) -> list[LabelledSequence]:
    return sequences_of(part(poses, *found), CLASSES, {"?"}, "mine")


@pytest.mark.parametrize(
    "source",
    ["a", "a.mp4", "/home/me/a.mp4", r"C:\films\a.mp4", "/data/upload/7/1a2b3c4d-a.mp4", "/data/local-files/?d=x/a.mp4",
     "my%20a.mp4", ""],
)  # fmt: skip
def test_labels_find_their_recording(source: str) -> None:
    name = "my a" if "%20" in source else "a"
    assert labelled_name(source, Path(f"labels/{name}.eaf"), {name, "b"}) == name
    assert labelled_name(source or "a", Path("else.eaf"), {name, "b"}) == name


def test_labels_of_no_recording_and_of_one_that_has_some_are_refused() -> None:
    with pytest.raises(CorpusError, match=r"x\.csv labels 'c\.mp4', which is none of the 2 recordings"):
        by_recording([labels(source="c.mp4", file="x.csv")], ("a", "b"))
    twice = [labels(source="a.mp4", file=name) for name in ("x.csv", "y.eaf")]
    with pytest.raises(CorpusError, match=r"y\.eaf labels a, which x\.csv labels already"):
        by_recording(twice, ("a", "b"))


def test_frames_are_labelled_as_their_times_say() -> None:
    [one] = labelled(recording(3, 300), ("wave", 1.0, 2.0), ("jump", 2.0, 2.5), ("?", 3.0, 4.0), ("wave", 9.9, 10.0))
    assert runs(one.labels) == [(30, 60, 2), (60, 75, 1), (297, 300, 2)]
    assert (one.labels == -1).nonzero()[0].tolist() == list(range(90, 120))
    assert (one.subject, one.view, one.corpus, one.classes) == ("p1", "a", "mine", CLASSES)


def test_one_class_after_itself_is_twice_shown() -> None:
    [one] = labelled(recording(3, 300), ("wave", 1.0, 2.0), ("wave", 2.0, 3.0))
    assert runs(one.labels) == [(30, 59, 2), (60, 90, 2)]
    assert instances([one]) == {"wave": 2}


def test_a_slow_source_comes_on_the_grid() -> None:
    poses = recording(3, 100)
    slow = PoseSequence(poses.joints, poses.confidence, np.arange(100) / 10, poses.layout, poses.coordinates)
    [one] = labelled(slow, ("wave", 1.0, 2.0))
    assert len(one.labels) == 298
    assert runs(one.labels) == [(30, 60, 2)]
    assert one.poses.coordinates == NATIVE


def test_who_leaves_for_long_begins_anew() -> None:
    poses, clock = recording(3, 200), np.r_[np.arange(100), np.arange(100) + 250] / FPS
    gone = PoseSequence(poses.joints, poses.confidence, clock, poses.layout, poses.coordinates)
    first, second = labelled(gone, ("wave", 1.0, 2.0), ("jump", 5.0, 6.0), ("wave", 8.0, 9.0))
    assert (first.name, runs(first.labels)) == ("a@1", [(30, 60, 2)])
    assert (second.name, runs(second.labels)) == ("a@2", [(0, 20, 2)]), "began at 8.33 s"


def test_pixels_become_metres_and_metres_stay() -> None:
    poses = perform(3, seconds=2.0).poses
    assert np.array_equal(labelled(poses)[0].poses.joints, poses.joints.astype(np.float32))
    small = PoseSequence(
        poses.joints[..., :2] * 137 + 400, poses.confidence, poses.timestamps, poses.layout, Coordinates("pixel", 2)
    )
    [one] = labelled(small)
    joints = one.poses.layout.joints
    torso = one.poses.joints[:, joints.index("neck")] - one.poses.joints[:, joints.index("pelvis")]
    assert np.median(np.linalg.norm(torso, axis=-1)) == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize(
    ("found", "match"),
    [
        ([("wave", 8.0, 10.2)], r"a\.csv, a: wave \(8\.00 to 10\.20 s\) lies beyond the recording, which ends at 10\.00 s"),
        ([("wave", -1.0, 2.0)], "lies beyond the recording"),
        ([("wave", 2.0, 2.0)], "ends before it begins"),
        ([("wave", 1.0, 3.0), ("jump", 2.0, 4.0)], r"wave .* and jump .* overlap"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_are_refused(found: list[tuple[str, float, float]], match: str) -> None:
    with pytest.raises(CorpusError, match=match):
        parts_of(recorded(), labels(*found), by_itself)


def test_hands_may_slip_a_little() -> None:
    [one] = parts_of(recorded(), labels(("wave", 1.0, 3.05), ("jump", 3.0, 10.05)), by_itself)
    [made] = sequences_of(one, CLASSES, (), "mine")
    assert runs(made.labels) == [(30, 90, 2), (90, 300, 1)]


def test_whose_a_label_is() -> None:
    """An annotator's tier is called anything; only where several are seen must it be one of them."""
    [one] = parts_of(recorded(300), labels(("wave", 1.0, 2.0), track="tier one"), by_itself)
    assert len(one.segments) == 1
    both = parts_of(recorded(300, "p1", "p2"), labels(("wave", 1.0, 2.0), track="p2"), by_itself)
    assert [(one.name, len(one.segments)) for one in both] == [("a/p1", 0), ("a/p2", 1)]
    with pytest.raises(CorpusError, match="is of 'tier one', but those seen are p1, p2"):
        parts_of(recorded(300, "p1", "p2"), labels(("wave", 1.0, 2.0), track="tier one"), by_itself)
    with pytest.raises(CorpusError, match="2 people at once, of whom two have one name"):
        parts_of(recorded(300, "p1", "p2"), labels(), lambda name, track: Who("ann", "", ""))


def test_classes_are_what_is_labelled_or_what_is_wanted() -> None:
    some = [part(recording(1, 300), ("wave", 1.0, 2.0), ("jump", 3.0, 4.0), ("?", 5.0, 6.0))]
    assert classes_of(some, None, {"?"}) == CLASSES
    assert classes_of(some, ("wave", "sit", "jump"), {"?"}) == ("background", "wave", "sit", "jump")
    with pytest.raises(CorpusError, match=r"label '\?' is none of jump, wave"):
        classes_of(some, ("jump", "wave"), ())
    with pytest.raises(CorpusError, match="nothing is labelled"):
        classes_of([part(recording(1, 300))], None, ())
    with pytest.raises(CorpusError, match="'background' is what is not labelled"):
        classes_of([part(recording(1, 300), ("background", 1.0, 2.0))], None, ())


# --- people -------------------------------------------------------------------------------------------------------------


def shown(person: str, *names: str) -> list[LabelledSequence]:
    found = [(name, 1.0 + 2 * n, 2.0 + 2 * n) for n, name in enumerate(names)]
    made = part(recording(1, 300), *found)
    return sequences_of(Part(person, made.poses, Who(person, "", ""), "a", made.segments, "a"), CLASSES, (), "mine")


def dealt(people: Mapping[str, Sequence[str]]) -> dict[str, str]:
    return split_people({one: shown(one, *names) for one, names in people.items()}, dict.fromkeys(people, ""))


@pytest.mark.parametrize(("count", "expected"), [(2, (1, 1, 0)), (3, (1, 1, 1)), (7, (5, 1, 1)), (10, (6, 2, 2))])
def test_people_are_dealt(count: int, expected: tuple[int, int, int]) -> None:
    found = list(dealt({str(n): ("wave", "jump") for n in range(count)}).values())
    assert tuple(found.count(split) for split in ("train", "val", "test")) == expected


def test_training_keeps_every_class_that_it_can_and_the_others_show_what_they_can() -> None:
    found = dealt({"1": ("wave",), "2": ("jump",), "3": ("wave", "jump"), "4": ("wave", "jump"), "5": ()})
    assert {found["3"], found["4"]} == {"val", "test"}
    found = dealt({"1": ("wave",), "2": ("jump",), "3": ("wave",), "4": ("wave",)})
    assert found["2"] == "train", "nobody else jumps"


def test_one_person_alone_cannot_be_dealt() -> None:
    with pytest.raises(CorpusError, match="one person alone"):
        dealt({"ann": ("wave",)})


def test_what_nobody_in_training_shows_is_told() -> None:
    with pytest.raises(CorpusError, match="nobody in train shows jump"):
        check_splits({"train": shown("1", "wave"), "val": shown("2", "jump")}, CLASSES)
    with pytest.raises(CorpusError, match="nobody is in train"):
        check_splits({"val": shown("2", "jump")}, CLASSES)


FILES = {"a": Path("x/a.mp4"), "b": Path("x/b.json")}


def test_a_table_of_people(tmp_path: Path) -> None:
    table = tmp_path / "people.csv"
    table.write_text("person,recording,track,view,split\nann,a.mp4,p1,left,train\nben,a,p2,,val\nann,b,,,train\n")
    assert read_people(table, FILES) == {
        ("a", "p1"): Who("ann", "left", "train"),
        ("a", "p2"): Who("ben", "", "val"),
        ("b", ""): Who("ann", "", "train"),
    }


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("recording,who\na,ann\n", "lacks the column person"),
        ("recording,person\nc,ann\n", "row 1: 'c' is none of the 2 recordings"),
        ("recording,person\na,\n", "row 1: no person"),
        ("recording,person\na,ann\na.mp4,ben\n", "row 2: a\\.mp4 stands in the table twice"),
        ("recording,person,split\na,ann,dev\n", "split is 'dev', expected train, val, test"),
        ("recording,person,split\na,ann,train\nb,ann,test\n", "row 2: person 'ann' is in test and in train"),
        ("recording,person,split\na,ann,train\nb,ben,\n", "some people have a split and others none"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(tmp_path: Path, text: str, match: str) -> None:
    table = tmp_path / "people.csv"
    table.write_text(text)
    with pytest.raises(CorpusError, match=match):
        read_people(table, FILES)


# --- on disk ------------------------------------------------------------------------------------------------------------


@given(seen=st.lists(st.booleans(), min_size=16, max_size=16))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, seen: list[bool]) -> None:
    poses = recording(2, 90)
    confidence = np.where(seen, poses.confidence, np.float32(0.25))
    doubtful = PoseSequence(poses.joints, confidence, poses.timestamps, poses.layout, poses.coordinates)
    some = [*labelled(doubtful, ("wave", 1.0, 2.0)), *labelled(poses, ("jump", 0.5, 1.5), ("?", 2.0, 2.5))]
    folder = tmp_path_factory.mktemp("corpora") / "mine"
    write_corpus(folder, {"train": some, "val": some[:1]}, {"license": "CC0"})
    for split, expected in (("train", some), ("val", some[:1])):
        for one, other in zip(read_corpus(folder / f"untrimmed_{split}.npz"), expected, strict=True):
            assert (one.name, one.subject, one.view, one.classes) == (other.name, other.subject, other.view, CLASSES)
            assert one.corpus == "mine"
            assert one.poses.coordinates == NATIVE
            np.testing.assert_array_equal(one.poses.joints, other.poses.joints)
            np.testing.assert_array_equal(one.poses.confidence, other.poses.confidence)
            np.testing.assert_array_equal(one.labels, other.labels)


def test_a_corpus_replaces_a_corpus_and_nothing_else(tmp_path: Path) -> None:
    some = labelled(recording(2, 90), ("wave", 1.0, 2.0))
    write_corpus(tmp_path / "mine", {"train": some, "test": some}, {})
    write_corpus(tmp_path / "mine", {"train": some}, {})
    assert sorted(path.name for path in (tmp_path / "mine").glob("*.npz")) == ["untrimmed_train.npz"]
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "photo.jpg").touch()
    with pytest.raises(CorpusError, match="is there already and is no corpus"):
        write_corpus(tmp_path / "holiday", {"train": some}, {})
    assert (tmp_path / "holiday" / "photo.jpg").exists()
