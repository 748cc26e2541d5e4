"""The parent's side: a video or camera in, poses per person out, while a process of its own does the dangerous part.

    with open_extraction(path, model=Path("pose/pose_landmarker_full.task")) as extraction:
        for frame in extraction:            # ExtractedFrame, as soon as the process has looked at the picture
            ...

Whatever happens over there (a crash, a kill, silence, nonsense) is a typed error here; the process never outlives the
`with` block. `cancel` may be called from any thread; all else belongs to one.
"""

from __future__ import annotations

import math
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from poseline.errors import (
    ExtractionCancelled,
    ExtractionFailed,
    ExtractionTimeout,
    InputError,
    IsolationRefused,
    MediaDamaged,
    MediaTooLarge,
    MediaTooLong,
    NoVideo,
    PoselineError,
    PoseModelError,
    UnsupportedMedia,
)
from poseline.pose import Coordinates, PoseSequence
from poseline.skeleton import layout
from poseline.timeline import frame_rate, recording_length
from poseline_video.wire import (
    JOINTS,
    End,
    ExtractionLimits,
    Failure,
    Frame,
    Kind,
    Message,
    Opened,
    Request,
    encode,
    take,
)

__all__ = [
    "COORDINATES",
    "LAYOUT",
    "ExtractedFrame",
    "ExtractedPerson",
    "ExtractedVideo",
    "Extraction",
    "ExtractionLimits",
    "extract_people",
    "gather_people",
    "kind_of",
    "open_extraction",
]

LAYOUT = layout("blazepose33")
COORDINATES = Coordinates("world_m", 3, y_axis="down", facing="-z")
"""Of world landmarks."""
MOST_PEOPLE = 4

_ERRORS: dict[str, type[PoselineError]] = {
    kind.code: kind
    for kind in (UnsupportedMedia, NoVideo, MediaTooLarge, MediaTooLong, MediaDamaged, PoseModelError, IsolationRefused)
}
_CHUNK = 1 << 16
_PARTING = 10.0
"""Seconds from the last word of a process to its end."""


@dataclass(frozen=True)
class ExtractedPerson:
    """world, image: (33, 4) float32 landmarks of blazepose33.

    world: x, y, z in metres, the origin between the hips, y down, z away from the camera; visibility.
    image: x, y as shares of the upright picture, y down, z on x' scale; visibility.
    """

    id: str
    world: NDArray[np.float32]
    image: NDArray[np.float32]


@dataclass(frozen=True)
class ExtractedFrame:
    """Everybody in the picture at `t` seconds; nobody, too, is a frame."""

    t: float
    people: list[ExtractedPerson]


@dataclass(frozen=True)
class ExtractedVideo:
    """people: id → poses at the times at which they were seen. fps: pictures a second by their own times; duration: seconds
    to the end of the last one; both None for a single picture. frames: pictures that were looked at."""

    people: dict[str, PoseSequence]
    fps: float | None
    duration: float | None
    width: int
    height: int
    frames: int


class Extraction:
    """A running extraction, once through. Opened: the first picture has been decoded, so the attributes are known.

    width, height: of the pictures as they are looked at, upright. fps, duration, frames: the container's claims, None
    where it makes none. progress: 0..1, as far as the duration is known.
    """

    width: int
    height: int
    fps: float | None
    duration: float | None
    frames: int | None

    def __init__(self, request: Request, program: Sequence[str] = ("-m", "poseline_video.worker")) -> None:
        """program: what Python is to run."""
        self.progress = 0.0
        self._limits = request.limits
        self._lock = threading.Lock()
        self._cancelled = False
        self._buffer = bytearray()
        self._begin = time.monotonic()
        self._scratch = tempfile.TemporaryDirectory(prefix="poseline-video-", ignore_cleanup_errors=True)
        self._process = _start(program, self._scratch.name)
        try:
            self._ask(request)
            first = self._receive()
            if not isinstance(first, Opened):
                raise ExtractionFailed(f"the extracting process began with {type(first).__name__}")
        except BaseException:
            self.close()
            raise
        self.width, self.height = first.width, first.height
        self.fps, self.duration, self.frames = first.fps, first.duration, first.frames

    def __enter__(self) -> Extraction:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[ExtractedFrame]:
        """Raises MediaError and its kin, ExtractionFailed and its kin."""
        while not isinstance(message := self._receive(), End):
            if not isinstance(message, Frame):
                raise ExtractionFailed(f"the extracting process said {type(message).__name__} between frames")
            yield self._frame(message)
        self.progress = 1.0

    def cancel(self) -> None:
        """Stop now; whoever iterates gets ExtractionCancelled. For any thread, as often as one likes."""
        self._cancelled = True
        self._kill()

    def close(self) -> None:
        """End the process, if it has not ended, and forget it."""
        self._kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        self._scratch.cleanup()

    def _kill(self) -> None:
        with self._lock:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)  # not reaped before `wait`: the number is still its own
                self._process.wait()

    def _ask(self, request: Request) -> None:
        assert self._process.stdin
        try:
            self._process.stdin.write(encode(request))
            self._process.stdin.close()
        except BrokenPipeError:
            raise self._gone() from None

    def _frame(self, message: Frame) -> ExtractedFrame:
        if not math.isfinite(message.t):
            raise ExtractionFailed(f"the extracting process told a picture at {message.t} s")
        if self.duration:
            self.progress = min(1.0, max(self.progress, message.t / self.duration))
        try:
            people = [ExtractedPerson(one.id, _landmarks(one.world), _landmarks(one.image)) for one in message.people]
        except ValueError as error:
            raise ExtractionFailed(f"the extracting process told landmarks that are none: {error}") from None
        return ExtractedFrame(message.t, people)

    def _receive(self) -> Message:
        """The next message. Raises what it says went wrong, or what did."""
        heard = time.monotonic()
        while True:
            try:
                message = take(self._buffer)
            except ValueError as error:
                raise ExtractionFailed(f"the extracting process does not keep to its words: {error}") from None
            if isinstance(message, Failure):
                raise _ERRORS.get(message.code, ExtractionFailed)(message.detail)
            if message is not None:
                return message
            self._read(heard)

    def _read(self, heard: float) -> None:
        assert self._process.stdout
        silent, late = heard + self._limits.silence_seconds, self._begin + self._limits.wall_seconds
        left = min(silent, late) - time.monotonic()
        fd = self._process.stdout.fileno()
        if left <= 0 or not select.select([fd], [], [], None if left == math.inf else left)[0]:
            self._kill()
            if self._cancelled:
                raise ExtractionCancelled("the extraction was cancelled")
            if late <= silent:
                raise ExtractionTimeout(f"the extraction took longer than {self._limits.wall_seconds:g} s")
            raise ExtractionTimeout(f"nothing was heard of the extraction for {self._limits.silence_seconds:g} s")
        data = os.read(fd, _CHUNK)
        if not data:
            raise self._gone()
        self._buffer += data

    def _gone(self) -> PoselineError:
        """Why the process ended without a word."""
        try:
            code = self._process.wait(_PARTING)
        except subprocess.TimeoutExpired:
            return ExtractionFailed("the extracting process stopped talking and did not end")
        if self._cancelled:
            return ExtractionCancelled("the extraction was cancelled")
        if code == -signal.SIGXCPU:
            return ExtractionTimeout(f"the extraction used more than {self._limits.cpu_seconds:g} s of CPU")
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
        return ExtractionFailed(f"the extracting process ended {how}")


def open_extraction(
    source: Path | str,
    *,
    model: Path,
    people: int = 1,
    limits: ExtractionLimits | None = None,
    egress: bool = False,
    live: bool = False,
) -> Extraction:
    """Start to take poses from a video file, a camera's URL (`rtsp://…`, `http://…`) or `webcam[:N]`.

    model: the `.task` of `poseline pose-model build`. people: at most so many, 1 to 4. egress: let the process reach the
    network, which a URL needs and nothing else gets. live: as it happens, pictures that come too fast are dropped.
    Raises InputError, MediaError and its kin, PoseModelError, ExtractionFailed and its kin.
    """
    if not 1 <= people <= MOST_PEOPLE:
        raise InputError(f"people is {people}, expected 1 to {MOST_PEOPLE}", param="people")
    if not model.is_file():
        raise PoseModelError(f"there is no pose model {model}; make it with: poseline pose-model build")
    kind, where = kind_of(source)
    if egress != (kind == "url"):
        raise InputError(
            f"{source} needs the network: ask for egress"
            if kind == "url"
            else f"{source} gets no network: egress is for URLs"
        )
    return Extraction(
        Request(
            kind=kind,
            source=where,
            model=str(model.absolute()),
            people=people,
            limits=limits or ExtractionLimits(),
            egress=egress,
            live=live,
        )
    )


def extract_people(
    path: Path,
    *,
    model: Path,
    people: int = 1,
    limits: ExtractionLimits | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> ExtractedVideo:
    """A whole video file; nobody in it is an answer, too. Raises like `open_extraction`."""
    clock: list[float] = []

    def watched(extraction: Extraction) -> Iterator[ExtractedFrame]:
        for frame in extraction:
            clock.append(frame.t)
            if on_progress:
                on_progress(extraction.progress)
            yield frame

    with open_extraction(path, model=model, people=people, limits=limits) as extraction:
        seen = gather_people(watched(extraction))
    times = np.array(clock)
    fps = frame_rate(times)  # not the container's claim, which may be an average over pauses, or nothing at all
    duration = recording_length([times], fps) if fps else None
    return ExtractedVideo(seen, fps, duration, extraction.width, extraction.height, len(clock))


def gather_people(frames: Iterable[ExtractedFrame]) -> dict[str, PoseSequence]:
    """Everybody's poses by id, each at the times at which they were seen; empty where nobody was."""
    seen: dict[str, tuple[list[float], list[NDArray[np.float32]]]] = {}
    for frame in frames:
        for person in frame.people:
            times, poses = seen.setdefault(person.id, ([], []))
            times.append(frame.t)
            poses.append(person.world)
    return {name: _sequence(name, *one) for name, one in seen.items()}


def _sequence(name: str, times: list[float], poses: list[NDArray[np.float32]]) -> PoseSequence:
    array = np.stack(poses).reshape(-1, JOINTS, 4)
    confidence = array[..., 3].clip(0, 1)
    return PoseSequence(array[..., :3].copy(), confidence, np.array(times), LAYOUT, COORDINATES, name)


def _landmarks(data: bytes) -> NDArray[np.float32]:
    """(33, 4). Raises ValueError."""
    landmarks = np.frombuffer(data, "<f4").reshape(JOINTS, 4).astype(np.float32)
    if not np.isfinite(landmarks).all():
        raise ValueError("a landmark is not a finite number")
    return landmarks


def kind_of(source: Path | str) -> tuple[Kind, str]:
    """What a source is, and its absolute path, URL or number. Raises InputError."""
    if isinstance(source, str):
        if "://" in source:
            return "url", source
        name, _, number = source.partition(":")
        if name == "webcam":
            if not (number or "0").isdecimal():
                raise InputError(f"{source!r} is no camera, expected webcam or webcam:N")
            return "webcam", number or "0"
    return "file", str(Path(source).absolute())


def _start(program: Sequence[str], scratch: str) -> subprocess.Popen[bytes]:
    """The process, with nothing of this one's environment but where its code is. scratch: a folder for libraries that
    insist on one."""
    environment = {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in sys.path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": scratch,
        "OPENBLAS_NUM_THREADS": "1",  # numpy must start no thread before the process is isolated
    }
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", *program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env=environment,
        start_new_session=True,
    )
