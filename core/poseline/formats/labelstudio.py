"""Label Studio: a task with a prediction for a video's `<TimelineLabels>`, to be corrected by people.

    <View><Video name="video" value="$video" frameRate="FPS"/><TimelineLabels name="actions" toName="video">…

Frames are counted from 1, and a range holds its last one: a segment [start, end) begins at frame round(start · fps) + 1 and
ends with frame round(end · fps), or lasts one frame if that is less. The way back is (first - 1) / fps and last / fps, so
each border moves by half a frame at the most. The track stands in a region's `meta.text`, what is known of the recording
in the task's `meta`. Lost: `label_id`.

Where there is no video, a task can show curves: `write_tasks` makes tasks for a `<TimeSeries>` and `<TimeSeriesLabels>`,
whose regions are in seconds and so lose nothing (`series_config` writes what Label Studio must be told). A task that was
skipped is not read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from xml.sax.saxutils import quoteattr

import msgspec
from msgspec import Struct

from poseline.errors import InputError
from poseline.formats.native import About, about, assemble
from poseline.timeline import Timeline, TimelineSegment

FROM_NAME, TO_NAME = "actions", "video"
SERIES, SERIES_LABELS, CLOCK = "curves", "timeserieslabels", "seconds"


class _Range(Struct, frozen=True):
    start: int
    end: int


class _Value(Struct, frozen=True):
    ranges: list[_Range]
    timelinelabels: list[str]


class _RegionMeta(Struct, frozen=True):
    text: list[str] | str = []


class _Region(Struct, frozen=True):
    value: _Value | None
    id: str = ""
    type: str = "timelinelabels"
    from_name: str = FROM_NAME
    to_name: str = TO_NAME
    score: float | None = None
    meta: _RegionMeta = _RegionMeta()

    def track(self) -> str:
        text = self.meta.text
        return text if isinstance(text, str) else next(iter(text), "")


class _SeriesValue(Struct, frozen=True):
    start: float
    end: float
    timeserieslabels: list[str] = []
    instant: bool = False


class _SeriesRegion(Struct, frozen=True):
    value: _SeriesValue
    id: str = ""
    type: str = SERIES_LABELS
    from_name: str = FROM_NAME
    to_name: str = SERIES
    score: float | None = None


class _Results(Struct, frozen=True):
    result: list[msgspec.Raw]
    was_cancelled: bool = False
    model_version: str | None = None
    score: float | None = None


class _Meta(Struct, frozen=True, omit_defaults=True):
    poseline: About | None = None


class _Task(Struct, frozen=True):
    data: dict[str, object]
    predictions: list[_Results] = []
    annotations: list[_Results] = []
    meta: _Meta = _Meta()


class _Kind(Struct, frozen=True):
    type: str = ""


def write(timeline: Timeline) -> bytes:
    """Raises InputError where the frame rate is unknown, and for times before zero."""
    regions = [_region(one, _rate(timeline.fps)) for one in timeline.segments]
    task = {"data": {"video": timeline.source}, **_predicted(timeline, regions)}
    return msgspec.json.format(msgspec.json.encode([task]), indent=1) + b"\n"


def _predicted(timeline: Timeline, regions: Sequence[Struct]) -> dict[str, object]:
    """What every task says of a timeline."""
    model = timeline.model
    prediction = {
        "model_version": "" if model is None else f"{model.name} {model.version} {model.digest}",
        "score": sum(one.score for one in timeline.segments) / max(len(regions), 1),
        "result": regions,
    }
    return {"meta": {"poseline": about(timeline)}, "predictions": [prediction]}


def write_tasks(tasks: Iterable[tuple[Timeline, Mapping[str, Sequence[float]]]]) -> bytes:
    """Timelines, each with curves over the seconds of `CLOCK`, to be corrected; the sources are the recordings' names."""
    written: list[object] = []
    for timeline, curves in tasks:
        regions = [
            _SeriesRegion(_SeriesValue(one.start, one.end, [one.label]), one.segment_id, score=one.score)
            for one in timeline.segments
        ]
        written.append({"data": {"recording": timeline.source, SERIES: curves}, **_predicted(timeline, regions)})
    return msgspec.json.encode(written) + b"\n"


def series_config(labels: Sequence[str], curves: Sequence[str]) -> bytes:
    """The labelling interface of such tasks."""
    choices = "\n".join(f"    <Label value={quoteattr(name)}/>" for name in labels)
    channels = "\n".join(f"    <Channel column={quoteattr(name)} legend={quoteattr(name)}/>" for name in curves)
    return f"""<View>
  <Text name="recording" value="$recording"/>
  <TimeSeriesLabels name="{FROM_NAME}" toName="{SERIES}">
{choices}
  </TimeSeriesLabels>
  <TimeSeries name="{SERIES}" value="${SERIES}" valueType="json" timeColumn="{CLOCK}" overviewChannels="{CLOCK}">
{channels}
  </TimeSeries>
</View>
""".encode()


def _rate(fps: float | None) -> float:
    if fps is None or not fps > 0:
        raise InputError("Label Studio counts frames: the recording's frame rate must be known")
    return fps


def _region(one: TimelineSegment, fps: float) -> _Region:
    if one.start < 0:
        raise InputError(
            f"segment {one.segment_id} begins at {one.start:g} s: Label Studio has no frame before the first"
        )
    first = round(one.start * fps) + 1
    value = _Value([_Range(first, max(first, round(one.end * fps)))], [one.label])
    return _Region(value, one.segment_id, score=one.score, meta=_RegionMeta([one.track_id]))


def read(data: bytes, fps: float | None = None) -> Timeline:
    """The file's one task. `fps` where the file was not ours."""
    found = read_all(data, lambda _: fps)
    if len(found) != 1:
        raise InputError(f"the file holds {len(found)} tasks, expected one")
    return found[0]


def read_all(data: bytes, rate: Callable[[str], float | None]) -> list[Timeline]:
    """Every task that was not skipped: its people's annotation where there is one, else its prediction. rate: frames a
    second of a source, None where only the file can know them."""
    try:
        tasks = msgspec.json.decode(data, type=list[_Task])
        return [_timeline(task, rate) for task in tasks if not (task.annotations and not _done(task))]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"this is no export of Label Studio: {error}") from None


def _done(task: _Task) -> list[_Results]:
    return [one for one in task.annotations if not one.was_cancelled]


def _timeline(task: _Task, rate: Callable[[str], float | None]) -> Timeline:
    results = [*_done(task), *task.predictions]
    known = task.meta.poseline
    fps = rate(known.source if known else _source(task))
    raw = results[0].result if results else []
    kinds = [(msgspec.json.decode(one, type=_Kind).type, one) for one in raw]
    regions = [msgspec.json.decode(one, type=_Region) for kind, one in kinds if kind == "timelinelabels"]
    series = [msgspec.json.decode(one, type=_SeriesRegion) for kind, one in kinds if kind == SERIES_LABELS]
    remark = known or About(source=_source(task), fps=fps)
    if series or SERIES in task.data:
        return assemble(remark, tuple(_series_segments(series)))
    return assemble(remark, tuple(_segments(regions, _rate(fps or remark.fps))))


def _source(task: _Task) -> str:
    """The task's video, under whatever name it stands."""
    return next((value for value in task.data.values() if isinstance(value, str)), "")


def _series_segments(regions: Sequence[_SeriesRegion]) -> list[TimelineSegment]:
    return [
        TimelineSegment(
            one.id or f"s{n}", "", label, one.value.start, one.value.end, 1.0 if one.score is None else one.score
        )
        for n, one in enumerate(regions, 1)
        for label in one.value.timeserieslabels
    ]


def _segments(regions: Sequence[_Region], fps: float) -> list[TimelineSegment]:
    found: list[TimelineSegment] = []
    for region in regions:
        if region.value is None:
            continue
        for span in region.value.ranges:
            for label in region.value.timelinelabels:
                name = region.id or f"s{len(found) + 1}"
                start, end = (span.start - 1) / fps, span.end / fps
                score = 1.0 if region.score is None else region.score
                found.append(TimelineSegment(name, region.track(), label, start, end, score))
    return found
