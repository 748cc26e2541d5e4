"""Timelines to files and back: every format, odd names, no segments, files of others, files that are none."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import structs
from pyarrow import parquet
from scipy.optimize import linear_sum_assignment

from poseline.decoding import DecodingOptions
from poseline.errors import InputError, MissingExtra
from poseline.formats import activitynet, elan, labelstudio, tables, webvtt
from poseline.formats.timelines import FORMATS, format_of, format_within, read_timelines, timeline_format
from poseline.protocol import DecodingChoice, FoundSegment, LocalizeResponse, ModelInfo
from poseline.timeline import (
    Timeline,
    TimelineSegment,
    effective_thresholds,
    frame_rate,
    ranked,
    recording_length,
    source_rate,
)

MODEL = ModelInfo("body16", "3", "sha256:1f", "body16", "Apache-2.0", False)
THRESHOLDS = effective_thresholds(DecodingChoice(min_score=0.5, classes=["jump", 'say "a, b"']), DecodingOptions())
SEGMENT = TimelineSegment("s1", "p1", "jump", 1.25, 2.5, 0.875, 3, 4)
ODD = 'a --> b, "c" <&> é\n\n\U0001f938\r\n&amp; \' <v x> #;'

LOST = {
    "json": (),
    "csv": (),
    "parquet": (),
    "activitynet": (),
    "webvtt": ("label_id", "repetitions"),
    "elan": ("label_id", "segment_id", "repetitions"),
    "labelstudio": ("label_id", "repetitions"),
}
ROUNDED = {"webvtt": lambda _: 5e-4, "elan": lambda _: 5e-4, "labelstudio": lambda fps: 0.5 / fps}
"""Seconds by which a border may move; nothing elsewhere."""


def timeline(*segments: TimelineSegment, **fields: object) -> Timeline:
    known = {"source": "walk.mp4", "duration": 12.5, "fps": 25.0, "layout": "coco17", "model": MODEL}
    return Timeline(segments=segments, **{**known, "thresholds": THRESHOLDS, **fields})  # pyright: ignore[reportArgumentType]


names = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Co"], exclude_characters="\ufffe\uffff")
    | st.sampled_from("\n\r\t<>&\",-'"),
    min_size=1,
    max_size=12,
)
spans = st.tuples(st.floats(0, 7200), st.floats(0.1, 100)).map(lambda span: (span[0], span[0] + span[1]))
segments = st.builds(
    lambda span, track, label, *rest: TimelineSegment("", track, label, *span, *rest),
    spans,
    names,
    names,
    st.floats(0, 1),
    st.integers(1, 200),
    st.none() | st.integers(1, 99),
)


@pytest.mark.parametrize("name", FORMATS)
@settings(deadline=None)
@given(found=st.lists(segments, max_size=6), fps=st.floats(10, 240), source=names)
@example(found=[], fps=25.0, source="film.mp4")
@example(found=[TimelineSegment("", ODD, ODD, 0.0, 1.0, 0.5, 1)] * 2, fps=29.97, source=ODD)
@example(found=[TimelineSegment("", "p", "a", *at, 0.5, 1) for at in ((0, 1), (0, 2), (1e-9, 1))], fps=10.0, source="a")
@example(found=[TimelineSegment("", "p", "NOTE poseline {", 3599.9996, 3600.4, 1.0, 1)], fps=10.0, source="-->")
def test_what_is_written_is_read(name: str, found: list[TimelineSegment], fps: float, source: str) -> None:
    whole = timeline(*ranked(found), fps=fps, source=source)
    back = timeline_format(name).read(timeline_format(name).write(whole))
    if found or name != "csv":  # a table without rows has no place for anything
        assert structs.replace(back, segments=()) == structs.replace(whole, segments=())
    assert len(back.segments) == len(whole.segments)
    allowed = ROUNDED.get(name, lambda _: 0.0)(fps) * (1 + 1e-6) + 1e-12 * 7200
    kept = [field for field in TimelineSegment.__struct_fields__ if field not in {"start", "end", *LOST[name]}]

    def same(one: TimelineSegment, told: TimelineSegment) -> bool:
        moved = max(abs(one.start - told.start), abs(one.end - told.end))
        return moved <= allowed and all(getattr(one, field) == getattr(told, field) for field in kept)

    # Rounded borders may change places in an order, so each is looked for in all.
    pairs = [[not same(one, told) for told in whole.segments] for one in back.segments]
    if pairs:
        assert not np.array(pairs)[linear_sum_assignment(pairs)].any()


@pytest.mark.parametrize("name", FORMATS)
def test_every_export_says_whose_it_is(name: str) -> None:
    back = FORMATS[name].read(FORMATS[name].write(timeline(SEGMENT)))
    assert (back.model, back.thresholds, back.layout) == (MODEL, THRESHOLDS, "coco17")
    assert back.thresholds is not None
    assert back.thresholds.min_score == 0.5
    assert back.thresholds.off_score == DecodingOptions().off_score


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "data", [b"", b"\xff\xfe\x00", b"[]", b"{}", b"<a/>", b"WEBVTT?", b"label,start\nx,1\n", b"PAR1"]
)
def test_what_is_no_such_file_is_refused(name: str, data: bytes) -> None:
    with pytest.raises(InputError):
        FORMATS[name].read(data)


def test_webvtt_as_players_show_it() -> None:
    text = webvtt.write(timeline(SEGMENT, TimelineSegment("s2", "p<2>", "a & b", 3661.0, 3662.0, 1.0))).decode()
    assert text.startswith("WEBVTT")
    assert "\n\ns1\n00:00:01.250 --> 00:00:02.500\n<v p1>jump 0.875\n\n" in text
    assert "01:01:01.000 --> 01:01:02.000\n<v p&lt;2&gt;>a &amp; b 1.0\n" in text


def test_webvtt_of_somebody_else() -> None:
    head = "\ufeffWEBVTT\r\nKind: captions\r\n\r\nSTYLE\r\n::cue {}\r\n\r\n"
    text = head + "01:02.500 --> 01:04.000 align:start\r\n<i>wave</i> 0.5\r\n"
    [cue] = webvtt.read(text.encode()).segments
    assert cue == TimelineSegment("s1", "", "wave 0.5", 62.5, 64.0)
    with pytest.raises(InputError, match="no two times"):
        webvtt.read(b"WEBVTT\n\n1.5 --> 2\nwave\n")


def test_elan_is_well_formed_and_in_order() -> None:
    """Tiers hold annotations that do not overlap; slots rise, and every reference leads somewhere."""
    overlapping = [TimelineSegment("", track, "x", n, n + 2.5, 0.5) for n in range(4) for track in ("p1", "p1 (2)")]
    root = ElementTree.fromstring(elan.write(timeline(*overlapping)))
    assert [one.tag for one in root][:2] == ["HEADER", "TIME_ORDER"]
    slots = {one.get("TIME_SLOT_ID"): int(one.get("TIME_VALUE", "")) for one in root.iter("TIME_SLOT")}
    assert list(slots.values()) == sorted(slots.values())
    tiers = {one.get("TIER_ID"): one for one in root.iter("TIER")}
    assert len(tiers) == len(list(root.iter("TIER"))) == 12
    types = {one.get("LINGUISTIC_TYPE_ID") for one in root.iter("LINGUISTIC_TYPE")}
    annotations = {one.get("ANNOTATION_ID") for one in root.iter("ALIGNABLE_ANNOTATION")}
    assert len(annotations) == 8
    for tier in tiers.values():
        assert tier.get("LINGUISTIC_TYPE_REF") in types
        assert tier.get("PARENT_REF") in {None, *tiers}
        ends = [0]
        for one in tier.iter("ALIGNABLE_ANNOTATION"):
            assert slots[one.get("TIME_SLOT_REF1")] >= ends[-1]
            ends.append(slots[one.get("TIME_SLOT_REF2")])
        assert all(one.get("ANNOTATION_REF") in annotations for one in tier.iter("REF_ANNOTATION"))
    assert {one.get("PARTICIPANT") for one in tiers.values()} == {"p1", "p1 (2)"}
    [media] = root.iter("MEDIA_DESCRIPTOR")
    assert (media.get("RELATIVE_MEDIA_URL"), media.get("MIME_TYPE")) == ("./walk.mp4", "video/mp4")


def test_elan_of_an_annotator() -> None:
    """A tier without participant is its own track; annotations without a text are none."""
    text = """<ANNOTATION_DOCUMENT><HEADER/><TIME_ORDER><TIME_SLOT TIME_SLOT_ID="a" TIME_VALUE="500"/>
      <TIME_SLOT TIME_SLOT_ID="b" TIME_VALUE="1500"/><TIME_SLOT TIME_SLOT_ID="c"/></TIME_ORDER><TIER TIER_ID="left hand">
      <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="a" TIME_SLOT_REF2="{end}">
      <ANNOTATION_VALUE>reach</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION><ANNOTATION>
      <ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="a" TIME_SLOT_REF2="b"><ANNOTATION_VALUE/>
      </ALIGNABLE_ANNOTATION></ANNOTATION></TIER></ANNOTATION_DOCUMENT>"""
    [one] = elan.read(text.replace("{end}", "b").encode()).segments
    assert one == TimelineSegment("s1", "left hand", "reach", 0.5, 1.5)
    with pytest.raises(InputError, match="slot 2 has no time"):
        elan.read(text.replace("{end}", "c").encode())


def test_xml_that_would_grow_is_refused() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><ANNOTATION_DOCUMENT>&b;</ANNOTATION_DOCUMENT>'
    with pytest.raises(InputError, match="document type"):
        elan.read(bomb)
    with pytest.raises(InputError, match=r"U\+0007"):
        elan.write(timeline(structs.replace(SEGMENT, label="bell \a")))


@pytest.mark.parametrize("name", ["webvtt", "elan", "labelstudio"])
def test_formats_that_begin_at_zero_say_so(name: str) -> None:
    with pytest.raises(InputError, match=r"s1 begins at -0\.5 s"):
        FORMATS[name].write(timeline(structs.replace(SEGMENT, start=-0.5)))


def test_activitynets_form() -> None:
    document = json.loads(activitynet.write(timeline(SEGMENT)))
    assert document.keys() == {"version", "results", "external_data"}
    [found] = document["results"]["walk.mp4"]
    assert {name: found[name] for name in ("label", "score", "segment")} == {
        "label": "jump",
        "score": 0.875,
        "segment": [1.25, 2.5],
    }
    truth = {"database": {"v1": {"subset": "val", "duration": 9.5, "annotations": [{"label": "a", "segment": [1, 2]}]}}}
    read = activitynet.read(json.dumps(truth).encode())
    assert (read.source, read.duration, read.segments) == ("v1", 9.5, (TimelineSegment("s1", "", "a", 1.0, 2.0),))
    with pytest.raises(InputError, match="2 videos"):
        activitynet.read(b'{"results": {"a": [], "b": []}}')


def test_label_studio_counts_frames_from_one() -> None:
    first_second = TimelineSegment("s1", "p1", "jump", 0.0, 1.0, 0.5)
    blink = TimelineSegment("s2", "p1", "jump", 2.0, 2.001, 0.7)
    [task] = json.loads(labelstudio.write(timeline(first_second, blink)))
    [prediction] = task["predictions"]
    assert [one["value"]["ranges"] for one in prediction["result"]] == [
        [{"start": 1, "end": 25}],
        [{"start": 51, "end": 51}],
    ]
    assert prediction["model_version"] == "body16 3 sha256:1f"
    assert prediction["score"] == pytest.approx(0.6)
    assert prediction["result"][0]["type"] == "timelinelabels"
    with pytest.raises(InputError, match="frame rate"):
        labelstudio.write(timeline(SEGMENT, fps=None))


def test_label_studio_annotated_by_people() -> None:
    """Their annotation goes before our prediction; other kinds of regions are passed over."""
    region = {"type": "timelinelabels", "value": {"ranges": [{"start": 11, "end": 20}], "timelinelabels": ["sit"]}}
    choice = {"type": "choices", "value": {"choices": ["good"]}}
    task = {"id": 7, "data": {"video": "/data/a.mp4"}, "annotations": [{"result": [choice, region]}], "predictions": []}
    read = labelstudio.read(json.dumps([task]).encode(), fps=10.0)
    assert read.source == "/data/a.mp4"
    assert read.segments == (TimelineSegment("s1", "", "sit", 1.0, 2.0),)
    with pytest.raises(InputError, match="2 tasks"):
        labelstudio.read(json.dumps([task, task]).encode(), fps=10.0)


def test_a_table_of_somebody_else() -> None:
    read = tables.read_csv(b"end,label,start\r\n2.5,wave,1\r\n")
    assert read.segments == (TimelineSegment("s1", "", "wave", 1.0, 2.5),)
    assert read.model is None
    with pytest.raises(InputError, match="row 2"):
        tables.read_csv(b"end,label,start\n2,wave,1\n3,wave,soon\n")
    with pytest.raises(InputError, match="another recording"):
        tables.read_csv(b"end,label,start,source\n2,wave,1,a\n3,wave,2,b\n")


MANY = ("csv", "parquet", "activitynet", "labelstudio")


@pytest.mark.parametrize("name", FORMATS)
def test_files_of_many_recordings(name: str, tmp_path: Path) -> None:
    """Where a format has a place for them; any other holds one."""
    first, second = timeline(SEGMENT, source="a.mp4"), timeline(SEGMENT, SEGMENT, source="b.mp4", fps=50.0)
    path = tmp_path / f"labels{FORMATS[name].suffix}"
    path.write_bytes(joined(name, first, second))
    found = read_timelines(path, lambda source: {"a.mp4": 25.0, "b.mp4": 50.0}[source])
    assert format_within(path) == name
    told = [(one.source, len(one.segments)) for one in found]
    assert told == ([("a.mp4", 1), ("b.mp4", 2)] if name in MANY else [("a.mp4", 1)])
    assert all((one.start, one.end) == pytest.approx((1.25, 2.5), abs=0.021) for it in found for one in it.segments)


def joined(name: str, first: Timeline, second: Timeline) -> bytes:
    one, other = (FORMATS[name].write(each) for each in (first, second))
    match name:
        case "csv":
            return one + other.partition(b"\r\n")[2]
        case "labelstudio":
            tasks = json.loads(one) + json.loads(other)
            return json.dumps([{key: task[key] for key in ("data", "predictions")} for task in tasks]).encode()
        case "activitynet":
            return json.dumps({"results": json.loads(one)["results"] | json.loads(other)["results"]}).encode()
        case "parquet":
            tables = [parquet.read_table(io.BytesIO(each)) for each in (one, other)]
            file = io.BytesIO()
            parquet.write_table(pyarrow.concat_tables(tables), file)
            return file.getvalue()
    return one


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("poses.json", '{"layout": "body16", "tracks": []}'),
        ("notes.txt", "hello"),
        ("frames.json", '[{"keypoints": []}]'),
    ],
)
def test_what_holds_no_labels_is_told_apart(file: str, text: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text(text)
    assert format_within(tmp_path / file) is None
    with pytest.raises(InputError, match=f"{file} is in none of the formats of timelines"):
        read_timelines(tmp_path / file, lambda _: None)


def test_an_error_of_a_file_names_it(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("label,begin\nwave,1\n")
    with pytest.raises(InputError, match=r"labels\.csv: the table lacks the column end, start"):
        read_timelines(tmp_path / "labels.csv", lambda _: None)


def test_elan_names_the_medium_that_it_links() -> None:
    text = elan.write(timeline(SEGMENT, source="a b.mp4")).decode()
    without = "".join(line for line in text.splitlines(keepends=True) if "<PROPERTY" not in line)
    assert elan.read(without.encode()).source == "a b.mp4"
    linked = without.replace('MEDIA_URL="./a b.mp4"', 'MEDIA_URL="file:///films/a%20b.mp4"')
    assert elan.read(linked.encode()).source == "a b.mp4"


def test_parquet_without_its_library_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pyarrow: pip install 'poseline\[bulk\]'"):
        tables.write_parquet(timeline(SEGMENT))


def test_parquet_is_typed() -> None:
    import io

    from pyarrow import parquet

    table = parquet.read_table(io.BytesIO(tables.write_parquet(timeline())))
    assert tuple(table.column_names) == tables.COLUMNS
    assert {str(table.schema.field(name).type) for name in ("start", "end", "score")} == {"double"}


def test_formats_by_name_and_suffix() -> None:
    from pathlib import Path

    assert {format_of(Path("x" + one.suffix.upper())) for one in FORMATS.values()} == {
        "json",
        "csv",
        "parquet",
        "webvtt",
        "elan",
    }
    with pytest.raises(InputError, match=r"no format has the suffix '\.srt'; known: \.json, "):
        format_of(Path("x.srt"))
    with pytest.raises(InputError, match="unknown format 'srt'; known: json, csv"):
        timeline_format("srt")


def test_a_servers_answer() -> None:
    found = FoundSegment("s1", "p1", "jump", 3, 1.25, 2.5, 31, 62, 0.875, 4)
    response = LocalizeResponse(
        request_id="r", duration=12.5, fps_used=30.0, model=MODEL, segments=[found], warnings=[], timing_ms={}
    )
    made = Timeline.from_response(response, source="walk.mp4", layout="coco17", fps=25.0, thresholds=THRESHOLDS)
    assert made == timeline(SEGMENT)


def test_the_best_are_kept_in_order() -> None:
    several = [TimelineSegment("", track, "x", start, 9, score) for track, start, score in
               [("b", 1, 0.2), ("a", 1, 0.9), ("a", 0, 0.5)]]  # fmt: skip
    kept = ranked(several, 2)
    assert [(one.segment_id, one.track_id, one.start) for one in kept] == [("s1", "a", 0), ("s2", "a", 1)]


def test_clocks() -> None:
    import numpy as np

    clock = np.delete(np.arange(50) / 29.97, 7)
    assert frame_rate(clock) == pytest.approx(29.97, abs=1e-4)
    assert frame_rate(clock[:1]) is None
    assert frame_rate((np.arange(600) / 30).round(3)) == pytest.approx(30, abs=1e-3)  # Matroska's milliseconds
    paused = np.r_[0:2:30j, 10:11:5j]
    assert source_rate(None, [clock[:3], paused], 25) == pytest.approx(29 / 2)
    assert source_rate(24.0, [paused], 25) == 24
    assert source_rate(None, [clock[:1]], 25) == 25
    assert recording_length([np.arange(30) / 10, np.arange(5) / 10 + 0.5], 30.0) == pytest.approx(3.0)
    assert recording_length([np.array([2.0])], 25.0) == pytest.approx(0.04)
