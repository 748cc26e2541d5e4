"""Poses of live sessions that ask for it, kept on an operator's disk to learn from: `POSELINE_CAPTURE`.

Off unless both the operator and the session say so. A `Tap` on a track gathers its grid frames, the best scores of each and
what was decided, and hands half a minute at a time to one thread, which writes a file beside its place and renames it there:
it is whole, or not there. A stream never waits: what is gathered and not yet written is bounded, and what does not fit is
dropped and counted. Nothing is kept of who it is: a file's name begins with a hash over owner and session id, by which the
owner can have it deleted and nobody can be found.

Taps live on the event loop; files are written, swept and deleted in the thread, in order.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple

import numpy as np

from poseline.enrolment import Vocabulary
from poseline.errors import InputError
from poseline.formats.captures import Capture, CapturedSegment, encode
from poseline.resampling import GridFrame
from poseline.segments import SegmentEvent
from poseline_service.logging import log
from poseline_service.metrics import Metrics
from poseline_service.settings import ServiceSettings
from poseline_service.workers import Told

_CHUNK_SECONDS = 30.0
_SHORTEST_SECONDS = 1.0
"""What is shorter shows nobody anything, and is not kept."""
_FRAME_BYTES = 16 * 4 * 4 + 150
"""Of a frame that is gathered: a pose, and Python around it."""
_SWEEP_SECONDS = 60.0
_SPARE = 0.95
"""Share of the disk's bytes that is left where there were too many: a full folder is not to be looked through every time."""
_PART, _WHOLE = ".part", ".npz"
_PART_SECONDS = 3600.0
"""Age at which a file that was begun is nobody's any more: a server was killed over it."""


class _Row(NamedTuple):
    t: float
    pose: bytes
    top: Sequence[tuple[int, float]]


class Captures:
    """Of one server. Raises InputError on construction where the folder cannot be had."""

    def __init__(self, folder: Path, settings: ServiceSettings, metrics: Metrics) -> None:
        self._folder, self._settings, self._metrics = folder, settings, metrics
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"POSELINE_CAPTURE {folder} cannot be used: {error.strerror}") from None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="capture")
        self._waiting = 0
        self._bytes = 0
        self._sweep_at = 0.0
        metrics.capture_bytes.set_function(lambda: self._bytes)

    # --- on the event loop ------------------------------------------------------------------------------------------

    def of(self, session_id: str, owner: str, vocabulary: Vocabulary, digest: str) -> SessionCapture:
        return SessionCapture(self, _prefix(session_id, owner), vocabulary, digest)

    def make_room(self) -> bool:
        """For one frame more, which must be given back; or it is dropped, and counted."""
        if self._waiting + _FRAME_BYTES > self._settings.capture_buffer_bytes:
            self._metrics.capture_dropped.labels("memory").inc()
            return False
        self._waiting += _FRAME_BYTES
        return True

    def give_back(self, frames: int) -> None:
        self._waiting -= frames * _FRAME_BYTES

    def write(self, prefix: str, rows: Sequence[_Row], segments: Sequence[CapturedSegment], of: SessionCapture) -> None:
        """Once it is written its frames' room is free."""
        loop = asyncio.get_running_loop()
        writing = loop.run_in_executor(self._thread, self._write, prefix, rows, segments, of)
        writing.add_done_callback(lambda _: self.give_back(len(rows)))

    async def delete(self, session_id: str, owner: str) -> bool:
        """Every file of a session, those on their way included; whether there were any."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._delete, _prefix(session_id, owner))

    def forget(self, prefix: str) -> None:
        """The same, without waiting for it."""
        self._thread.submit(self._delete, prefix)

    def tick(self, now: float) -> None:
        """To be called now and then (monotonic): what is too old goes, though nothing comes."""
        if now >= self._sweep_at:
            self._sweep_at = now + _SWEEP_SECONDS
            self._thread.submit(self._sweep)

    async def stop(self) -> None:
        """Everything that was handed over is written."""
        await asyncio.to_thread(self._thread.shutdown)

    # --- in the thread ----------------------------------------------------------------------------------------------

    def _write(
        self, prefix: str, rows: Sequence[_Row], segments: Sequence[CapturedSegment], of: SessionCapture
    ) -> None:
        part = self._folder / f".{prefix}-{token_hex(8)}{_PART}"
        try:
            content = encode(_capture(rows, segments, of))
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(part.with_name(part.name[1:].removesuffix(_PART) + _WHOLE))
        except OSError as error:
            part.unlink(missing_ok=True)
            self._metrics.capture_dropped.labels("disk").inc(len(rows))
            log.warning("capture_not_written", detail=error.strerror)
            return
        self._metrics.capture_frames.inc(len(rows))
        self._bytes += len(content)
        if self._bytes > self._settings.capture_bytes:
            self._sweep()

    def _sweep(self) -> None:
        """Remove what is too old, and the oldest where there is too much; another server may write here, too."""
        files, now, total = _files(self._folder), time.time(), 0
        most = self._settings.capture_bytes
        if sum(size for *_, size in files) > most:
            most *= _SPARE
        for path, modified, size in sorted(files, key=lambda one: -one[1]):  # newest first
            age = now - modified
            if path.suffix == _PART:
                if age > _PART_SECONDS:
                    path.unlink(missing_ok=True)
                continue
            total += size
            if age > self._settings.capture_days * 86_400 or total > most:
                path.unlink(missing_ok=True)
                total -= size
        self._bytes = total

    def _delete(self, prefix: str) -> bool:
        found = list(self._folder.glob(f"{prefix}-*{_WHOLE}"))
        for path in found:
            path.unlink(missing_ok=True)
        self._sweep()
        return bool(found)


def _prefix(session_id: str, owner: str) -> str:
    """Who has both finds their files; from the files, neither is found: ids have 128 random bits."""
    return sha256(f"capture\0{owner}\0{session_id}".encode()).hexdigest()[:32]


def _files(folder: Path) -> list[tuple[Path, float, int]]:
    """Path, time of modification and size of what is ours."""
    found: list[tuple[Path, float, int]] = []
    for path in folder.iterdir():
        if path.suffix in (_WHOLE, _PART):
            try:
                status = path.stat()
            except FileNotFoundError:  # swept by another server
                continue
            found.append((path, status.st_mtime, status.st_size))
    return found


class SessionCapture:
    """What is kept of one session, by this server."""

    def __init__(self, captures: Captures, prefix: str, vocabulary: Vocabulary, digest: str) -> None:
        self.captures, self.prefix = captures, prefix
        self.vocabulary, self.digest = vocabulary, digest
        self.kept = True

    def tap(self, number: int) -> Tap:
        """For the session's n-th track."""
        return Tap(self, number)

    def discard(self) -> None:
        """Its owner does not want it: neither what is on disk nor what was to come."""
        self.kept = False
        self.captures.forget(self.prefix)


class Tap:
    """Gathers what one track's network sees and says."""

    def __init__(self, session: SessionCapture, number: int) -> None:
        self._session, self._captures, self._number = session, session.captures, number
        self._step = 1 / session.vocabulary.manifest.fps
        self._unscored: deque[tuple[float, bytes]] = deque()
        self._rows: list[_Row] = []
        self._segments: list[CapturedSegment] = []

    def pushed(self, frames: Sequence[GridFrame]) -> None:
        for frame in frames:
            if self._captures.make_room():
                self._unscored.append((frame.t, frame.pose.astype("<f4", copy=False).tobytes()))

    def scored(self, told: Told, events: Sequence[SegmentEvent]) -> None:
        """Every frame is told of once, in order; where the network looks ahead, later."""
        for t, top, _ in told:
            self._match(t, top)
        for one in events:
            if one.phase == "final" or one.phase == "retracted":
                self._segments.append(CapturedSegment(one.phase, one.label, one.start, one.end, one.score))
        if len(self._rows) * self._step >= _CHUNK_SECONDS:
            self._write()

    def _match(self, t: float, top: Sequence[tuple[int, float]]) -> None:
        """Of a frame for which there was no room nothing is kept: a gap, and files have none."""
        unscored = self._unscored
        while unscored and unscored[0][0] < t - self._step / 2:
            unscored.popleft()
            self._captures.give_back(1)
        if unscored and unscored[0][0] < t + self._step / 2:
            if self._rows and t - self._rows[-1].t > 1.5 * self._step:
                self._write()
            self._rows.append(_Row(t, unscored.popleft()[1], top))

    def close(self) -> None:
        """The track ended, or goes on elsewhere."""
        self._captures.give_back(len(self._unscored))
        self._unscored.clear()
        self._write()

    def _write(self) -> None:
        rows, self._rows = self._rows, []
        segments, self._segments = self._segments, []
        if not self._session.kept or len(rows) * self._step < _SHORTEST_SECONDS:
            self._captures.give_back(len(rows))
            return
        self._captures.write(f"{self._session.prefix}-{self._number}", rows, segments, self._session)


def _capture(rows: Sequence[_Row], segments: Sequence[CapturedSegment], of: SessionCapture) -> Capture:
    manifest, best = of.vocabulary.manifest, min(len(row.top) for row in rows)
    return Capture(
        np.frombuffer(b"".join(row.pose for row in rows), "<f4").reshape(len(rows), -1, 4),
        np.array([row.t for row in rows], np.float64),
        np.array([[label for label, _ in row.top[:best]] for row in rows], np.uint16),
        np.array([[score for _, score in row.top[:best]] for row in rows], np.float32),
        tuple(segments),
        of.vocabulary.names,
        manifest.layout,
        (manifest.name, manifest.version, of.digest),
    )
