"""`poseline localize`: the actions of a recording or a video, found by a server (`--url`) or by a bundle in this process.

It lives in the top room because it alone joins the core's readers and writers with the service's engine and the video
room's eyes; without `--url` it needs the extra `service`, for a video `video`, for Parquet and pictures `bulk`.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from msgspec.structs import replace
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from poseline.bundle import ModelBundle
from poseline.cli import (
    Fps,
    ImageSize,
    InputFormat,
    Key,
    Layout,
    Recording,
    Seconds,
    Seed,
    Sequence,
    open_source,
    times,
)
from poseline.errors import InputError, ModeUnavailable
from poseline.formats.timelines import FORMATS, format_of, timeline_format
from poseline.formats.videos import is_video
from poseline.online import StreamLocalizer
from poseline.protocol import DecodingChoice, LocalizeOptions, LocalizeResponse, ModelInfo
from poseline.prototypes import vocabulary_of
from poseline.remote import localize as localize_remotely
from poseline.remote import remote_model
from poseline.segments import SegmentEvent
from poseline.timeline import Timeline, TimelineSegment, effective_thresholds, ranked, recording_length, source_rate
from poseline.translation import decoding_options, model_info, rounded
from poseline.whole import chunked, localize_whole
from poseline_cli.watching import AtOnce, Bar, Models, Pose, bundle_here, need, progress, told, watched
from poseline_video import MODEL

_TEXT = "text"


class Mode(StrEnum):
    online = "online"
    offline = "offline"


def localize(
    source: Annotated[str, typer.Argument(help="A file or folder of poses (docs/files.md), a video, or 'actor'.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write there, not to the terminal.")] = None,
    format: Annotated[
        str | None,
        typer.Option(help=f"text, {', '.join(FORMATS)}; else as the suffix of --output says, else text."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the timeline as a picture: .png, .svg or .pdf.")] = None,
    url: Annotated[str | None, typer.Option(help="A server's /v1/localize; without it, this process does it.")] = None,
    key: Key = None,
    model: Annotated[Path | None, typer.Option(help="Bundle folder for this process; else the default one.")] = None,
    models: Models = Path("models"),
    input_format: InputFormat = None,
    fps: Fps = None,
    layout: Layout = None,
    image_size: ImageSize = None,
    sequence: Sequence = None,
    people: AtOnce = 1,
    pose: Pose = Path("pose"),
    mode: Annotated[
        Mode | None,
        typer.Option(help="Offline: a network that sees the whole; else as the recording says, else online."),
    ] = None,
    seed: Seed = 0,
    seconds: Seconds = 60.0,
) -> None:
    """Find the actions of a recording."""
    chosen = format or (format_of(output) if output else _TEXT)
    write = _table if chosen == _TEXT else timeline_format(chosen).write
    if plot is not None:
        need("Drawing a timeline", "bulk", "matplotlib")
    with progress() as bar:
        if is_video(source, input_format):
            recording = watched(Path(source), people, pose / MODEL, bar)
        else:
            recording = open_source(source, seed, seconds, input_format, fps, layout, image_size, sequence)
        options = recording.options if mode is None else replace(recording.options, mode=mode.value)
        found = _there(url, key, recording, options, bar) if url else _here(model, models, recording, options, bar)
    if plot is not None:
        from poseline_cli.drawing import draw

        draw(found, plot)
    _put(write(found), output, chosen)


def _there(url: str, key: str | None, recording: Recording, options: LocalizeOptions, bar: Bar) -> Timeline:
    requests = [replace(request, options=options) for request in recording.requests()]
    step = bar.begin("asking the server")
    responses: list[LocalizeResponse] = []
    for request in requests:
        responses.append(localize_remotely(url, request, key=key))
        step(len(responses) / len(requests))
    found = [TimelineSegment.of(one) for response in responses for one in response.segments]
    model = remote_model(url, recording.model, key)
    thresholds = effective_thresholds(options, model.thresholds)
    return _timeline(recording, found, model.info, thresholds, model.fps)


def _here(model: Path | None, models: Path, recording: Recording, options: LocalizeOptions, bar: Bar) -> Timeline:
    need("Localizing without a server (--url)", "service", "onnxruntime", "prometheus_client")
    bundle = bundle_here(model, models)
    manifest, step = bundle.manifest, bar.begin("localizing")
    localized = _whole if options.mode == "offline" else _played
    found = [
        TimelineSegment("", name, event.label, *rounded(event), event.label_id, event.repetitions)
        for name, event in localized(bundle, recording, options, step)
        if event.phase == "final"
    ]
    thresholds = effective_thresholds(options, manifest.decoding)
    info = model_info(manifest, bundle.digest)
    return _timeline(recording, found, info, thresholds, manifest.fps)


def _played(
    bundle: ModelBundle, recording: Recording, options: LocalizeOptions, step: Callable[[float], None]
) -> Iterator[tuple[str, SegmentEvent]]:
    """Everybody's events, frame by frame."""
    from poseline_service.engine import open_scorer  # ONNX Runtime, only where it is to run

    decoding, scorer = decoding_options(options, bundle.manifest.decoding), open_scorer(bundle, slots=1)
    vocabulary = vocabulary_of(bundle, told)
    frames, done = sum(len(poses) for poses in recording.people.values()), count(1)
    for name, poses in recording.people.items():
        with StreamLocalizer(
            bundle.manifest,
            scorer,
            decoding,
            layout=poses.layout,
            coordinates=poses.coordinates,
            classes=options.classes,
            gap_reset=options.gap_reset,
            vocabulary=vocabulary,
        ) as stream:
            for frame in poses.frames():
                yield from ((name, event) for event in stream.push(frame))
                step(next(done) / frames)
            yield from ((name, event) for event in stream.finish())


def _whole(
    bundle: ModelBundle, recording: Recording, options: LocalizeOptions, step: Callable[[float], None]
) -> Iterator[tuple[str, SegmentEvent]]:
    """Everybody's events, by the network that sees the whole. Raises ModeUnavailable."""
    from poseline_service.engine import open_scorer, open_whole

    manifest, scorer = bundle.manifest, open_whole(bundle)
    vocabulary, steps = vocabulary_of(bundle, told), open_scorer(bundle, slots=1)
    if manifest.whole is None or scorer is None:
        raise ModeUnavailable(f"model {manifest.name} has no network for mode 'offline'")
    decoding = decoding_options(options, manifest.decoding)
    for n, (name, poses) in enumerate(recording.people.items(), 1):
        events = localize_whole(
            manifest,
            chunked(manifest.whole, scorer),
            poses,
            decoding,
            classes=options.classes,
            gap_reset=options.gap_reset,
            vocabulary=vocabulary,
            steps=steps,
        )
        yield from ((name, event) for event in events)
        step(n / len(recording.people))


def _timeline(
    recording: Recording,
    found: Iterable[TimelineSegment],
    model: ModelInfo,
    thresholds: DecodingChoice,
    fps: float,
) -> Timeline:
    """One way for both: a recording that a server cannot take in one request is put together here anyway."""
    clocks = [poses.timestamps for poses in recording.people.values()] or [np.zeros(1)]
    return Timeline(
        source=recording.name,
        segments=ranked(found, recording.options.max_segments),
        duration=recording.duration or recording_length(clocks, fps),
        fps=source_rate(recording.fps, clocks, fps),
        layout=recording.layout,
        model=model,
        thresholds=thresholds,
    )


def _put(data: bytes, output: Path | None, format: str) -> None:
    """Raises InputError where the file cannot be written, or a terminal would be flooded."""
    if output is not None:
        try:
            output.write_bytes(data)
        except OSError as error:
            raise InputError(f"{output} cannot be written: {error.strerror}") from None
    elif format == "parquet" and sys.stdout.isatty():
        raise InputError("Parquet is not for a terminal: name a file with -o")
    else:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def _table(timeline: Timeline) -> bytes:
    """For people: what a terminal of this width shows."""
    table = Table("track", "label", "start", "end", "score")
    for one in timeline.segments:
        label = escape(one.label + times(one.repetitions))
        table.add_row(escape(one.track_id), label, f"{one.start:.2f}", f"{one.end:.2f}", f"{one.score:.2f}")
    console = Console(file=io.StringIO(), force_terminal=sys.stdout.isatty(), width=Console().width)
    console.print(table)
    return console.file.getvalue().encode()  # pyright: ignore[reportAttributeAccessIssue]
