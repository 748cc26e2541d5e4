"""`poseline stream`: recordings go to the core's player; videos and cameras to the video room, if it is there.

It lives in the top room so that the core needs to know nothing of videos.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from poseline import cli, protocol
from poseline.errors import InputError, MissingExtra
from poseline.formats.videos import is_video
from poseline_cli.watching import AtOnce, Pose
from poseline_video import MODEL


def stream(
    source: Annotated[
        str,
        typer.Argument(
            help="Poses (docs/files.md), 'actor', a video, webcam[:N], or a camera's rtsp:// or http:// URL."
        ),
    ],
    url: cli.Url = cli.STREAM_URL,
    key: cli.Key = None,
    speed: cli.Speed = "1",
    input_format: cli.InputFormat = None,
    fps: cli.Fps = None,
    layout: cli.Layout = None,
    image_size: cli.ImageSize = None,
    sequence: cli.Sequence = None,
    chunk: cli.Chunk = 1,
    format: cli.Format = cli.StreamFormat.text,
    partials: cli.Early = cli.Partials.changes,
    people: AtOnce = 1,
    pose: Pose = Path("pose"),
    seed: cli.Seed = 0,
    seconds: cli.Seconds = 60.0,
) -> None:
    """Put a recording, a video or a camera into a live stream and print what the server says, as it says it."""
    if not (_is_camera(source) or is_video(source, input_format)):
        cli.stream(
            source,
            url,
            key,
            speed,
            input_format,
            fps,
            layout,
            image_size,
            sequence,
            chunk,
            format,
            partials,
            seed,
            seconds,
        )
        return
    if speed not in ("1", "max"):
        raise InputError(f"--speed is {speed!r}; what is watched comes at 1, or a video as fast as it can be: 'max'")
    for library in ("av", "mediapipe"):
        if find_spec(library) is None:
            raise MissingExtra("Watching", library, "video")
    from poseline_video.live import stream_live

    stream_live(
        source,
        url=url,
        model=pose / MODEL,
        people=people,
        options=protocol.StreamOptions(partials=partials.value),
        live=speed == "1",
        credential=key,
        heard=cli.printer(format),
    )


def _is_camera(source: str) -> bool:
    return "://" in source or source.partition(":")[0] == "webcam"
