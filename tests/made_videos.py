"""Small videos of moving shapes, for tests of what is not about people."""

from __future__ import annotations

import wave
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

MILLISECOND = Fraction(1, 1000)


def picture(i: int, width: int, height: int) -> np.ndarray:
    """Dark, the upper left quarter red, with a bright square that moves."""
    rgb = np.full((height, width, 3), 30, np.uint8)
    rgb[: height // 2, : width // 2] = (220, 20, 20)
    x, y = (3 * i) % max(1, width - width // 4), height // 2
    rgb[y : y + height // 4, x : x + width // 4] = 240
    return rgb


def write_video(
    path: Path,
    times: Sequence[float] | int = 30,
    size: tuple[int, int] = (64, 48),
    *,
    codec: str = "libx264",
    format_: str | None = None,
    aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """times: seconds of each picture, or how many at 30 fps. size: width, height."""
    even = isinstance(times, int)
    ticks: Iterable[int] = range(times) if even else [round(t * 1000) for t in times]
    with av.open(str(path), "w", format=format_) as out:
        stream = out.add_stream(codec, rate=30, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 30) if even else MILLISECOND
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for i, tick in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(picture(i, *size), format="rgb24")
            frame.pts, frame.time_base = tick, stream.codec_context.time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def write_sound(path: Path) -> Path:
    """An MP4 with sound alone."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate, frame.pts = 48000, 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def write_wave(path: Path) -> Path:
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(bytes(16000))
    return path


def turn(path: Path, degrees: int) -> Path:
    """Write into an MP4's track header that its pictures are to be shown turned clockwise by 90, 180 or 270."""
    one, minus = (1 << 16).to_bytes(4, "big"), (-(1 << 16)).to_bytes(4, "big", signed=True)
    zero = bytes(4)
    a, b, c, d = {90: (zero, one, minus, zero), 180: (minus, zero, zero, minus), 270: (zero, minus, one, zero)}[degrees]
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version and flags, times, track, duration, layer, volume: version 0
    matrix = a + b + zero + c + d + zero
    data[at : at + len(matrix)] = matrix
    path.write_bytes(data)
    return path
