"""From eyes to timeline while it happens: a camera or a video through the extractor into a server's stream."""

from __future__ import annotations

import asyncio
import math
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from poseline.client import StreamClient
from poseline.credentials import Credential
from poseline.errors import ExtractionCancelled
from poseline.keypoints import pack_keypoints
from poseline.protocol import Frame, Person, ServerMessage, StreamOptions
from poseline.remote import describe
from poseline_video.extraction import (
    COORDINATES,
    LAYOUT,
    ExtractedFrame,
    Extraction,
    ExtractionLimits,
    kind_of,
    open_extraction,
)

ENDLESS = ExtractionLimits(
    seconds=math.inf, frames=1 << 62, cpu_seconds=math.inf, wall_seconds=math.inf, silence_seconds=60.0
)
"""A camera ends when somebody ends it."""
PACED = ExtractionLimits(silence_seconds=math.inf)
"""A file has all limits but silence: what is played at its own pace is silent between two of its pictures."""
_KEEPALIVE = 10.0
"""Seconds; a server gives up after 30."""


def stream_live(
    source: Path | str,
    *,
    url: str,
    model: Path,
    people: int = 1,
    options: StreamOptions | None = None,
    live: bool = True,
    keepalive: float = _KEEPALIVE,
    credential: Credential | None = None,
    heard: Callable[[ServerMessage], None] = lambda message: None,
) -> None:
    """Until the source ends, or somebody interrupts: then what is open is closed, and told.

    source: a video file, `webcam[:N]` or a camera's URL. live: False looks at every picture, as fast as that goes.
    keepalive: seconds without a picture after which the server is told that this is no end. credential: as `StreamClient`'s.
    heard: what is done with every message of the server. Raises like `open_extraction` and `StreamClient`.
    """
    kind, _ = kind_of(source)
    limits = ENDLESS if kind != "file" else PACED if live else None
    opened = open_extraction(source, model=model, people=people, limits=limits, egress=kind == "url", live=live)
    with opened as extraction:
        asyncio.run(_stream(extraction, url, options, keepalive, credential, heard))


async def _stream(
    extraction: Extraction,
    url: str,
    options: StreamOptions | None,
    keepalive: float,
    credential: Credential | None,
    heard: Callable[[ServerMessage], None],
) -> None:
    coordinates = describe(COORDINATES)
    client = StreamClient(
        url,
        layout=LAYOUT.name,
        coordinates=coordinates,
        options=options,
        fps=extraction.fps,
        credential=credential,
    )
    async with client:
        heard(client.started)
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, extraction.cancel)
        sending = asyncio.create_task(_send_all(client, extraction, keepalive))
        try:
            async for message in client:
                heard(message)
            await sending
        finally:
            extraction.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def _send_all(client: StreamClient, extraction: Extraction, keepalive: float) -> None:
    frames = iter(extraction)
    try:
        with suppress(ExtractionCancelled):
            while True:
                waiting = asyncio.create_task(asyncio.to_thread(next, frames, None))
                while not (await asyncio.wait({waiting}, timeout=keepalive))[0]:
                    await client.keepalive()
                if (frame := await waiting) is None:
                    break
                await client.send([_frame(frame)])
    finally:
        await client.close()


def _frame(frame: ExtractedFrame) -> Frame:
    people: list[Person] = []
    for one in frame.people:
        [keypoints] = pack_keypoints(one.world[None, :, :3], one.world[None, :, 3].clip(0, 1).astype(np.float32))
        people.append(Person(id=one.id, kp=keypoints))
    return Frame(frame.t, people)
