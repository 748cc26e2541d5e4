"""Commands that need no extra: play a recording into a stream, list layouts and models.

A recording is a file in one of the formats of `formats.poses`, or the scripted actor; `read_recording` is their one reader,
for `poseline localize` too. Events are printed as they come.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from msgspec import UnsetType
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from poseline import protocol
from poseline.bundle import ModelBundle
from poseline.codec import decode_request, encode
from poseline.credentials import VARIABLE
from poseline.errors import InputError
from poseline.formats.poses import POSE_FORMATS, format_of, read_poses
from poseline.formats.reading import ReadOptions, read_bytes
from poseline.formats.stream import read_stream
from poseline.formats.timelines import format_of as timeline_of
from poseline.formats.timelines import timeline_format
from poseline.formats.videos import INPUT_FORMAT
from poseline.keypoints import read_tracks
from poseline.pose import PoseSequence
from poseline.protocol import LocalizeOptions, LocalizeRequest
from poseline.remote import request_for, stream_recording
from poseline.skeleton import LAYOUTS
from poseline.timeline import Timeline, TimelineSegment, frame_rate, ranked, recording_length

ACTOR = "actor"
ACTOR_FPS = 30.0
STREAM_URL = "ws://127.0.0.1:8000/v1/stream"


class StreamFormat(StrEnum):
    text = "text"
    json = "json"


class Partials(StrEnum):
    none = "none"
    changes = "changes"
    all = "all"


Url = Annotated[str, typer.Option(help="The server.")]
Key = Annotated[str | None, typer.Option(envvar=VARIABLE, help="An API key or token, where the server asks for one.")]
Speed = Annotated[str, typer.Option(help="1 is real time, 2 twice as fast; 'max' as fast as the server takes.")]
Chunk = Annotated[int, typer.Option(help="Frames in one message.", min=1, max=64)]
Format = Annotated[StreamFormat, typer.Option(help="How events are printed.")]
Early = Annotated[Partials, typer.Option(help="Which events come before a final.")]
Sequence = Annotated[str | None, typer.Option(help="Which sequence of a corpus file.")]
Seed = Annotated[int, typer.Option(help="The actor's script (with 'actor').")]
Seconds = Annotated[float, typer.Option(help="How long the actor performs (with 'actor').", min=1)]
InputFormat = Annotated[
    str | None, typer.Option(help=f"The file's format, else told from it: {', '.join((*POSE_FORMATS, INPUT_FORMAT))}.")
]
Fps = Annotated[float | None, typer.Option(help="Frames a second, for files without a clock; else instead of theirs.")]
Layout = Annotated[str | None, typer.Option(help="The joints' layout, where the file leaves it open.")]
ImageSize = Annotated[
    str | None, typer.Option(help="WIDTHxHEIGHT of the picture, for landmarks that are shares of it.")
]


@dataclass(frozen=True)
class Recording:
    """Its people by name, and what a file that is a request of `POST /v1/localize` itself asks for. fps, duration (seconds):
    of the source, where they are known better than by the times at which people were seen."""

    name: str
    people: Mapping[str, PoseSequence]
    request: LocalizeRequest | None = None
    fps: float | None = None
    duration: float | None = None

    @property
    def model(self) -> str:
        return self.request.model if self.request else "default"

    @property
    def options(self) -> LocalizeOptions:
        return self.request.options if self.request else LocalizeOptions()

    @property
    def layout(self) -> str:
        return next(iter(self.people.values())).layout.name

    def requests(self) -> Iterator[LocalizeRequest]:
        """Requests of `POST /v1/localize` that together ask for everybody: people who share a clock share one, for a
        track is on the recording's frames without gaps. Nobody's segments depend on who else is asked for."""
        if self.request:
            yield self.request
            return
        clocks: dict[bytes, dict[str, PoseSequence]] = {}
        for name, poses in self.people.items():
            clocks.setdefault(poses.timestamps.tobytes(), {})[name] = poses
        for people in clocks.values():
            yield request_for(people)


def perform_actor(seed: int, seconds: float) -> Recording:
    from poseline.actor import perform  # only when it is asked for

    return Recording(ACTOR, {ACTOR: perform(seed, seconds=seconds).poses})


def read_recording(path: Path, input_format: str | None, options: ReadOptions) -> Recording:
    """Raises InputError and what the readers raise."""
    kind = input_format or format_of(path)
    if kind == "json":
        request = decode_request(read_bytes(path))
        return Recording(path.name, {poses.name: poses for poses in read_tracks(request)}, request, request.fps)
    if kind == "ndjson":
        people, times = read_stream(path, options)
        fps = frame_rate(times)
        return Recording(path.name, people, fps=fps, duration=recording_length([times], fps) if fps else None)
    return Recording(options.sequence or path.name, read_poses(path, kind, options))


def open_source(
    source: str,
    seed: int,
    seconds: float,
    input_format: str | None,
    fps: float | None,
    layout: str | None,
    image_size: str | None,
    sequence: str | None,
) -> Recording:
    """What a command is given, as its options have it. Raises InputError and what the readers raise."""
    if source == ACTOR:
        return perform_actor(seed, seconds)
    options = ReadOptions(fps, layout, None if image_size is None else _size(image_size), sequence)
    return read_recording(Path(source), input_format, options)


def _size(text: str) -> tuple[int, int]:
    """`1280x720` as two numbers. Raises InputError."""
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text)
    if match is None:
        raise InputError(f"--image-size is {text!r}, expected WIDTHxHEIGHT, as in 1280x720")
    return int(match[1]), int(match[2])


def stream(
    source: Annotated[str, typer.Argument(help="A file or folder of poses (docs/files.md), or 'actor'.")],
    url: Url = STREAM_URL,
    key: Key = None,
    speed: Speed = "1",
    input_format: InputFormat = None,
    fps: Fps = None,
    layout: Layout = None,
    image_size: ImageSize = None,
    sequence: Sequence = None,
    chunk: Chunk = 1,
    format: Format = StreamFormat.text,
    partials: Early = Partials.changes,
    seed: Seed = 0,
    seconds: Seconds = 60.0,
) -> None:
    """Play a recording into a live stream and print what the server says, as it says it."""
    recording = open_source(source, seed, seconds, input_format, fps, layout, image_size, sequence)
    asked = {name: getattr(recording.options, name) for name in protocol.DecodingChoice.__struct_fields__}
    options = protocol.StreamOptions(partials=partials.value, **asked)
    stream_recording(
        url,
        recording.people,
        options=options,
        model=recording.model,
        chunk=chunk,
        speed=_speed(speed),
        credential=key,
        heard=printer(format),
    )


def printer(format: StreamFormat) -> Callable[[protocol.ServerMessage], None]:
    """What prints a server's messages as they come."""
    console = Console(highlight=False)

    def heard(message: protocol.ServerMessage) -> None:
        if format is StreamFormat.json:
            typer.echo(encode(message))
        elif line := _line(message):
            console.print(line)

    return heard


def actor(
    seed: Seed = 0,
    seconds: Seconds = 60.0,
    actions: Annotated[str | None, typer.Option(help="Those to choose from, with commas between; else all.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write there, not to the terminal.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Write what is done, and when, as an annotator would: .eaf, .csv, .vtt …")
    ] = None,
) -> None:
    """Print a performance of the scripted actor as a request of POST /v1/localize: a recording to try things with."""
    from poseline.actor import ACTIONS, FIDGETS, perform

    asked = ACTIONS if actions is None else [one.strip() for one in actions.split(",")]
    if unknown := [one for one in asked if one not in (*ACTIONS, *FIDGETS)]:
        raise InputError(f"--actions: {unknown[0]!r} is none of {', '.join((*ACTIONS, *FIDGETS))}")
    performance = perform(seed, seconds=seconds, fps=ACTOR_FPS, actions=asked)
    if labels is not None:
        write = timeline_format(timeline_of(labels)).write
        done = [TimelineSegment("", ACTOR, one.label, one.start, one.end) for one in performance.segments]
        source = "" if output is None else output.name
        labels.write_bytes(write(Timeline(source=source, segments=ranked(done), duration=seconds, fps=ACTOR_FPS)))
    request = encode(request_for({ACTOR: performance.poses}))
    if output is None:
        typer.echo(request)
    else:
        output.write_bytes(request)


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise InputError(f"--speed is {text!r}, expected a positive number or 'max'")
    return speed


def times(repetitions: int | UnsetType | None) -> str:
    """What stands behind the label of what was done more than once."""
    return f" \N{MULTIPLICATION SIGN}{repetitions}" if repetitions and repetitions > 1 else ""


def _line(message: protocol.ServerMessage) -> str | None:
    """What a person wants to see of a message, if anything. Names are others' words, and no markup of ours."""
    match message:
        case protocol.SessionStarted():
            model = escape(f"{message.model.name} {message.model.version}")
            return f"[dim]model {model}, {len(message.classes) - 1} actions[/]"
        case protocol.SegmentStarted():
            span = f"{message.start:8.2f} …        "
            return f"[yellow]{span}  {escape(message.label)}[/] {message.score:.2f} [dim]{escape(message.track_id)}[/]"
        case protocol.SegmentFinal():
            span = f"{message.start:8.2f} - {message.end:7.2f}"
            what = escape(message.label + times(message.repetitions))
            return f"[bold green]{span}  {what}[/] {message.score:.2f} [dim]{escape(message.track_id)}[/]"
        case protocol.SegmentRetracted():
            return f"[dim]{'':8}   taken back  {escape(message.label)}[/]"
        case protocol.Warn() | protocol.ErrorMessage():
            return f"[red]{escape(message.code)}[/]: {escape(message.detail)}"
        case protocol.SessionClosed():
            return f"[dim]{message.segments} segments in {message.media_seconds:.1f} s[/]"
        case _:
            return None


def layouts() -> None:
    """List the joint layouts that are understood."""
    table = Table("layout", "joints", "names, in order")
    for one in LAYOUTS.values():
        table.add_row(one.name, str(len(one.joints)), ", ".join(one.joints))
    Console().print(table)


def models(
    folder: Annotated[Path, typer.Option(envvar="POSELINE_MODELS", help="Folder of model bundles.")] = Path("models"),
) -> None:
    """List the model bundles of a folder; the default one is marked."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder")
    chosen = folder / "DEFAULT"
    default = chosen.read_text().strip() if chosen.exists() else None
    table = Table("", "model", "version", "actions", "licence", "digest")
    for path in sorted(path.parent for path in folder.glob("*/manifest.json")):
        bundle = ModelBundle.open(path)
        manifest = bundle.manifest
        licence = manifest.license + (" (research only)" if manifest.research_only else "")
        mark = "*" if path.name == default else ""
        actions = str(len(manifest.classes) - 1)
        table.add_row(mark, *map(escape, (manifest.name, manifest.version, actions, licence, bundle.digest[:19])))
    Console().print(table)
