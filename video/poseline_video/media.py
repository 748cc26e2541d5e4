"""Videos and cameras → upright RGB pictures with their times; the only door to PyAV.

A file's container is told by its first bytes, never by its name, and that one demuxer is named to the library, so none
of the others is ever asked. It is given bytes, not a path: no playlist, reference or URL inside a file can open
anything, since opening is refused. Limits hold for what is decoded; a header that claims more is refused at once.

Times are the container's own (pts × time base), from 0 at the first picture, strictly rising; a picture that does not
come later than its predecessor is dropped. Rotation and the shape of pixels are applied. Pictures are scaled down to
`LONG_SIDE`, beyond which the extractor finds no more (docs/video.md).
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.container
import av.error
import av.logging
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

from poseline.errors import MediaDamaged, MediaTooLarge, MediaTooLong, NoVideo, UnsupportedMedia
from poseline_video.wire import ExtractionLimits

LONG_SIDE = 720
"""Pixels. The model looks at 256 by 256 of a person anyway."""
_MODERN = ("h264", "hevc", "av1", "libdav1d", "vp8", "vp9", "libvpx", "libvpx-vp9")
CODECS = frozenset((*_MODERN, "mpeg4", "mpeg1video", "mpeg2video", "mjpeg", "prores"))
_CAMERA_CODECS = frozenset(("rawvideo",))
_FIRST_BYTES = 2048
_UNREADABLE, _UNREADABLE_SHARE = 20, 0.2
"""Packets, and share of all so far, that may be unreadable: a broken place costs a few, up to the next key picture."""
_MAY_END_EARLY = 1.0
"""Seconds by which pictures may fall short of what the container claims, or a tenth if that is more."""
_CAMERA_TIMEOUT = (10.0, 10.0)
"""Seconds to open and to the next packet."""
_FIRST_LOOK = "1000000"
"""Microseconds of a camera that are looked at before it counts as open."""
_URLS = {"rtsp": "rtsp", "rtsps": "rtsp", "http": None, "https": None}
"""Scheme → its demuxer; None: one of `_URL_FORMATS` by its bytes."""
_URL_FORMATS = "mpegts,mpjpeg,mjpeg,matroska,webm,rtsp,sdp,rtp"
_CLOCKLESS = ("mpjpeg", "mjpeg")
"""Motion JPEG over HTTP has no times, and the library would make up 25 a second: a picture is of when it comes."""
_URL_PROTOCOLS = "tcp,udp,rtp,tls,http,https,rtsp,rtsps,httpproxy"


@dataclass(frozen=True)
class Picture:
    """t in seconds; rgb (H, W, 3) uint8, upright, contiguous."""

    t: float
    rgb: NDArray[np.uint8]


class Video:
    """An open video: `pictures()` once. fps, duration, frames are the container's claims, None where it makes none."""

    def __init__(self, container: av.container.InputContainer, limits: ExtractionLimits, *, endless: bool) -> None:
        self._container = container
        self._endless = endless
        self._limits = limits
        streams = [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]
        if not streams:
            raise NoVideo("there are no moving pictures in it")
        self._stream = stream = streams[0]
        codec: av.CodecContext | None = stream.codec_context
        if codec is None:
            raise UnsupportedMedia("its codec is none that is known")
        if codec.name not in (CODECS | _CAMERA_CODECS if endless else CODECS):
            raise UnsupportedMedia(f"its codec is {codec.name}, taken are {', '.join(sorted(CODECS))}")
        self.fps = float(stream.average_rate) if stream.average_rate else None
        self.frames = stream.frames or None
        self.duration = self._claimed_duration()
        self._check_size(codec.width, codec.height)
        self._check_length(self.duration or 0.0, self.frames or 0)
        codec.options = {"max_pixels": str(limits.pixels[0] * limits.pixels[1])}
        codec.thread_type = "SLICE" if endless else "AUTO"  # decoding ahead would make a camera late

    def pictures(self) -> Iterator[Picture]:
        """Raises MediaDamaged, MediaTooLarge, MediaTooLong."""
        last = -1.0
        for count, (t, frame) in enumerate(self._timed(), 1):
            self._check_size(frame.width, frame.height)
            self._check_length(t, count)
            if t > last:
                last = t
                yield Picture(t, self._upright(frame))
        if last < 0:
            raise MediaDamaged("not one picture could be decoded")
        if self.duration is not None and not self._endless:
            missing = self.duration - last
            if missing > max(_MAY_END_EARLY, 0.1 * self.duration):
                raise MediaDamaged(f"the pictures end after {last:.1f} of {self.duration:.1f} s")

    def _timed(self) -> Iterator[tuple[float, av.VideoFrame]]:
        """AVI knows no presentation times: pictures come at their decoding times, the last ones without any."""
        if self._container.format.name in _CLOCKLESS:
            begin = time.monotonic()
            yield from ((time.monotonic() - begin, frame) for frame in self._decoded())
            return
        ordered = self._container.format.name == "avi"
        first: int | None = None
        tick = 0
        for frame in self._decoded():
            told = frame.dts if ordered else frame.pts
            tick = tick + max(1, frame.duration) if told is None else told
            first = tick if first is None else first
            yield float((tick - first) * (frame.time_base or 0)), frame

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """A packet that cannot be decoded is passed over, as players do; too many are an error."""
        packets = unreadable = 0
        try:
            for packet in self._container.demux(self._stream):
                packets += 1
                try:
                    yield from packet.decode()  # type: ignore[misc]
                except (av.error.InvalidDataError, av.error.ArgumentError) as error:
                    unreadable += 1
                    if unreadable > max(_UNREADABLE, packets * _UNREADABLE_SHARE):
                        raise MediaDamaged(f"{unreadable} of {packets} packets cannot be decoded") from error
        except av.error.FFmpegError as error:
            if self._endless:
                return  # a camera that hangs up, or sends no more, is at its end
            raise MediaDamaged(f"it cannot be read on: {error.strerror}") from error

    def _claimed_duration(self) -> float | None:
        """Of an AVI the library tells what is there; what should be there is the header's number of pictures."""
        stream = self._stream
        if self._container.format.name == "avi" and self.frames and stream.time_base is not None:
            return float(self.frames * stream.time_base)
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        if self._container.duration is not None:
            return self._container.duration / av.time_base
        return None

    def _check_size(self, width: int, height: int) -> None:
        long, short = self._limits.pixels
        if max(width, height) > long or min(width, height) > short:
            raise MediaTooLarge(f"pictures of {width} x {height} pixels, at most {long} x {short} are taken")

    def _check_length(self, seconds: float, frames: int) -> None:
        if seconds > self._limits.seconds:
            raise MediaTooLong(f"longer than the {self._limits.seconds:g} s that are taken")
        if frames > self._limits.frames:
            raise MediaTooLong(f"more than the {self._limits.frames} pictures that are taken")

    def _upright(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        aspect = float(self._stream.sample_aspect_ratio or 1)  # width of a pixel by its height
        width, height = frame.width * max(aspect, 1.0), frame.height / min(aspect, 1.0)
        scale = min(1.0, LONG_SIDE / max(width, height))
        small = frame.reformat(
            max(1, round(width * scale)), max(1, round(height * scale)), "rgb24", interpolation="AREA"
        )
        pixels: NDArray[np.uint8] = np.asarray(small.to_ndarray(), np.uint8)
        return np.ascontiguousarray(np.rot90(pixels, frame.rotation // 90))


@contextmanager
def open_file(path: Path, limits: ExtractionLimits) -> Iterator[Video]:
    """Raises UnsupportedMedia, NoVideo, MediaTooLarge, MediaTooLong, MediaDamaged."""
    with closing(_Bytes(path, limits.bytes)) as source:
        demuxer = _container(source.head())
        options = {"format_whitelist": demuxer, "protocol_whitelist": "none"}
        with _opened(source, demuxer, CODECS, options, io_open=_refuse) as container:
            yield Video(container, limits, endless=False)


@contextmanager
def open_url(url: str, limits: ExtractionLimits) -> Iterator[Video]:
    """A network camera: RTSP, or MPEG-TS, Matroska or motion JPEG over HTTP. Raises like `open_file`."""
    scheme = url.partition("://")[0].lower()
    if scheme not in _URLS:
        raise UnsupportedMedia(f"cameras are reached by {', '.join(_URLS)}, not {scheme}")
    options = {"format_whitelist": _URL_FORMATS, "protocol_whitelist": _URL_PROTOCOLS, "analyzeduration": _FIRST_LOOK}
    if _URLS[scheme]:
        options["rtsp_transport"] = "tcp"  # passes walls that UDP does not, and loses nothing
    with _opened(url, _URLS[scheme], CODECS, options, timeout=_CAMERA_TIMEOUT) as container:
        yield Video(container, limits, endless=True)


@contextmanager
def open_webcam(number: int, limits: ExtractionLimits) -> Iterator[Video]:
    """A camera of this machine, by its number under Video4Linux. Raises like `open_file`."""
    device = f"/dev/video{number}"
    if not Path(device).exists():
        raise UnsupportedMedia(f"there is no camera {device}")
    options = {"video_size": "640x480", "framerate": "30"}
    codecs = CODECS | _CAMERA_CODECS
    with _opened(device, "video4linux2", codecs, options, timeout=_CAMERA_TIMEOUT) as container:
        yield Video(container, limits, endless=True)


def _opened(
    file: object, demuxer: str | None, codecs: frozenset[str], options: dict[str, str], **how: Any
) -> av.container.InputContainer:
    av.logging.set_level(None)
    options["codec_whitelist"] = ",".join(codecs)
    try:
        return av.open(file, "r", format=demuxer, options=options, metadata_errors="replace", **how)
    except av.error.FFmpegError as error:
        raise MediaDamaged(f"it cannot be opened: {error.strerror}") from error


def _container(head: bytes) -> str:
    """The demuxer for what begins like this. Raises UnsupportedMedia."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"):
        return "mov"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "matroska"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    for size, offset in ((188, 0), (192, 4)):
        if len(head) > 4 * size and all(head[offset + i * size] == 0x47 for i in range(5)):
            return "mpegts"
    raise UnsupportedMedia("it is no MP4, MOV, Matroska, WebM, AVI or MPEG-TS")


def _refuse(url: str, flags: int, options: object) -> object:
    raise PermissionError("a video may not open anything else")


class _Bytes:
    """A regular file as the library may see it: nameless, and no longer than allowed."""

    def __init__(self, path: Path, most: int) -> None:
        if not path.exists():
            raise UnsupportedMedia(f"there is no file {path.name!r}")
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnsupportedMedia("it is no regular file")
        if (size := path.stat().st_size) > most:
            raise MediaTooLarge(f"{size} bytes, at most {most} are taken")
        self._file = path.open("rb", buffering=0)
        self._most = most

    def head(self) -> bytes:
        head = self._file.read(_FIRST_BYTES)
        self._file.seek(0)
        return head

    def read(self, size: int) -> bytes:
        left = self._most - self._file.tell()
        return self._file.read(min(size, max(0, left)))  # a file that grows ends there

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
