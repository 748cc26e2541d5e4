"""Commands that need no extra: play a recording into a stream, list layouts and models.

A recording is a corpus file (`.npz`, one sequence of it), a request of `POST /v1/localize` (`.json`), or the scripted
actor; `read_recording` is their one reader, for `poseline localize` too. Events are printed as they come.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

from poseline import protocol
from poseline.bundle import ModelBundle
from poseline.client import request_for, stream_recording
from poseline.codec import decode_request, encode
from poseline.errors import InputError
from poseline.formats.corpus import read_corpus
from poseline.keypoints import read_tracks
from poseline.pose import PoseSequence
from poseline.protocol import LocalizeRequest
from poseline.skeleton import LAYOUTS

ACTOR = "actor"


class StreamFormat(StrEnum):
    text = "text"
    json = "json"


class Partials(StrEnum):
    none = "none"
    changes = "changes"
    all = "all"


Sequence = Annotated[str | None, typer.Option(help="Which sequence of a corpus file.")]
Seed = Annotated[int, typer.Option(help="The actor's script (with 'actor').")]
Seconds = Annotated[float, typer.Option(help="How long the actor performs (with 'actor').", min=1)]


class Recording(NamedTuple):
    """Its people by name, and the request of `POST /v1/localize` that it is (a `.json`) or would be (anything else)."""

    people: dict[str, PoseSequence]
    request: LocalizeRequest


def read_recording(source: str, sequence: str | None, seed: int, seconds: float) -> Recording:
    """Raises InputError and what the readers raise."""
    path = Path(source)
    if source == ACTOR:
        from poseline.actor import perform  # only when it is asked for

        return _played({ACTOR: perform(seed, seconds=seconds).poses})
    if path.suffix == ".npz":
        found = read_corpus(path, sequence)
        if len(found) > 1:
            some = ", ".join(one.name for one in found[:4])
            raise InputError(f"{path} holds {len(found)} sequences; choose one with --sequence: {some} …")
        return _played({found[0].name: found[0].poses})
    if path.suffix == ".json":
        request = decode_request(_read(path))
        return Recording({poses.name: poses for poses in read_tracks(request)}, request)
    raise InputError(f"{source!r} is neither a .npz, nor a .json, nor 'actor'")


def _played(people: dict[str, PoseSequence]) -> Recording:
    return Recording(people, request_for(people))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None


def stream(
    source: Annotated[str, typer.Argument(help="A corpus .npz, a localize request .json, or 'actor'.")],
    url: Annotated[str, typer.Option(help="The server.")] = "ws://127.0.0.1:8000/v1/stream",
    speed: Annotated[
        str, typer.Option(help="1 is real time, 2 twice as fast; 'max' as fast as the server takes.")
    ] = "1",
    sequence: Sequence = None,
    chunk: Annotated[int, typer.Option(help="Frames in one message.", min=1, max=64)] = 1,
    format: Annotated[StreamFormat, typer.Option(help="How events are printed.")] = StreamFormat.text,
    partials: Annotated[Partials, typer.Option(help="Which events come before a final.")] = Partials.changes,
    seed: Seed = 0,
    seconds: Seconds = 60.0,
) -> None:
    """Play a recording into a live stream and print what the server says, as it says it."""
    recording = read_recording(source, sequence, seed, seconds)
    console = Console(highlight=False)
    asked = {name: getattr(recording.request.options, name) for name in protocol.DecodingChoice.__struct_fields__}
    options = protocol.StreamOptions(partials=partials.value, **asked)

    def heard(message: protocol.ServerMessage) -> None:
        if format is StreamFormat.json:
            typer.echo(encode(message))
        elif line := _line(message):
            console.print(line)

    stream_recording(
        url,
        recording.people,
        options=options,
        model=recording.request.model,
        chunk=chunk,
        speed=_speed(speed),
        heard=heard,
    )


def actor(seed: Seed = 0, seconds: Seconds = 60.0) -> None:
    """Print a performance of the scripted actor as a request of POST /v1/localize: a recording to try things with."""
    typer.echo(encode(read_recording(ACTOR, None, seed, seconds).request))


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


def _line(message: protocol.ServerMessage) -> str | None:
    """What a person wants to see of a message, if anything."""
    match message:
        case protocol.SessionStarted():
            return f"[dim]model {message.model.name} {message.model.version}, {len(message.classes) - 1} actions[/]"
        case protocol.SegmentStarted():
            span = f"{message.start:8.2f} …        "
            return f"[yellow]{span}  {message.label}[/] {message.score:.2f} [dim]{message.track_id}[/]"
        case protocol.SegmentFinal():
            span = f"{message.start:8.2f} - {message.end:7.2f}"
            return f"[bold green]{span}  {message.label}[/] {message.score:.2f} [dim]{message.track_id}[/]"
        case protocol.SegmentRetracted():
            return f"[dim]{'':8}   taken back  {message.label}[/]"
        case protocol.Warn() | protocol.ErrorMessage():
            return f"[red]{message.code}[/]: {message.detail}"
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
        table.add_row(mark, manifest.name, manifest.version, actions, licence, bundle.digest[:19])
    Console().print(table)
