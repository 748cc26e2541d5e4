"""What a job is made of: a long recording, or a video, in which the video room finds the people.

The one door to `poseline_video`, which is imported when the first video comes: without it, or without its pose model, a
server refuses videos and does all else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from poseline.codec import encode
from poseline.errors import ExtractionCancelled, InputError, TooLarge
from poseline.keypoints import write_keypoints
from poseline.protocol import CoordinatesSpec, JobKind, LocalizeRequest, Notice, VideoRequest
from poseline_service.bodies import BodyFormat
from poseline_service.errors import VideoUnavailable
from poseline_service.jobs import POSES, UPLOAD, Told
from poseline_service.recordings import Recording, check_request, native_recording, read_recording
from poseline_service.settings import ServiceSettings
from poseline_service.tracks import LoadedModel
from poseline_service.uploads import JobFolder

if TYPE_CHECKING:
    from poseline_video.extraction import ExtractedFrame, ExtractedPerson, Extraction

POSE_MODEL = "pose_landmarker_full.task"
_BLOCK = 1024**2
_IMAGE_DECIMALS = 4
"""Of shares of the picture: half a pixel of the largest."""


def check_video(settings: ServiceSettings) -> None:
    """Raises VideoUnavailable, which says what to do."""
    for library in ("poseline_video", "av", "mediapipe"):
        if find_spec(library) is None:
            raise VideoUnavailable(f"this server lacks {library}; its host needs: pip install 'poseline[video]'")
    if not (settings.pose / POSE_MODEL).is_file():
        raise VideoUnavailable(
            "this server has no pose model; its host needs: poseline pose-model build (POSELINE_POSE)"
        )


@dataclass(frozen=True)
class RecordingSource:
    """A `LocalizeRequest` as it came."""

    settings: ServiceSettings
    form: BodyFormat
    digest: str
    kind: JobKind = "recording"
    reading: float = 0.1

    @property
    def fingerprint(self) -> bytes:
        return f"{self.kind} {self.form.codec.media_type} {self.form.coding} {self.digest}".encode()

    def read(self, model: LoadedModel, folder: JobFolder, progress: Told) -> Recording:
        return read_recording((folder.path / UPLOAD).read_bytes(), self.form, model, self.settings)

    def cancel(self) -> None:
        """It takes seconds."""


def check_wanted(request: VideoRequest, model: LoadedModel) -> None:
    """What can be told before the video is opened. Raises InputError and what `check_request` does."""
    from poseline_video.extraction import MOST_PEOPLE

    if not 1 <= request.people <= MOST_PEOPLE:
        raise InputError(f"people is {request.people}, expected 1 to {MOST_PEOPLE}", param="people")
    check_request(_recording_request(request), model)


def _recording_request(request: VideoRequest) -> LocalizeRequest:
    """What a recording of the people in a video would be asked for."""
    from poseline_video.extraction import COORDINATES, LAYOUT

    return LocalizeRequest(
        tracks=[],
        layout=LAYOUT.name,
        coordinates=CoordinatesSpec(COORDINATES.space, COORDINATES.dims, COORDINATES.y_axis, COORDINATES.facing),
        id=request.id,
        model=request.model,
        options=request.options,
    )


@dataclass
class VideoSource:
    """A video file. Its people come and go: each has timestamps of its own, and frames are the video's."""

    settings: ServiceSettings
    request: VideoRequest
    digest: str
    kind: JobKind = "video"
    reading: float = 0.98
    _lock: Lock = field(default_factory=Lock)
    _extraction: Extraction | None = None
    _cancelled: bool = False

    @property
    def fingerprint(self) -> bytes:
        return f"{self.kind} {self.digest} ".encode() + encode(self.request)

    def read(self, model: LoadedModel, folder: JobFolder, progress: Told) -> Recording:
        from poseline_video.extraction import ExtractionLimits, gather_people, open_extraction

        settings, request = self.settings, _recording_request(self.request)
        limits = ExtractionLimits(bytes=settings.video_bytes, seconds=settings.video_seconds)
        clock: list[float] = []
        with open_extraction(
            folder.path / UPLOAD, model=settings.pose / POSE_MODEL, people=self.request.people, limits=limits
        ) as extraction:
            self._begin(extraction)
            people = gather_people(self._watched(extraction, request, clock, folder, progress))
        times = np.array(clock)
        if not people:
            nobody = Notice("nobody_seen", f"nobody was seen in {len(clock)} pictures")
            return Recording(request, [], [], [nobody], times)
        return native_recording(request, list(people.values()), model, settings, times)

    def cancel(self) -> None:
        with self._lock:
            self._cancelled = True
            if self._extraction is not None:
                self._extraction.cancel()

    def _begin(self, extraction: Extraction) -> None:
        with self._lock:
            if self._cancelled:
                raise ExtractionCancelled("the extraction was cancelled")
            self._extraction = extraction

    def _watched(
        self, extraction: Extraction, head: LocalizeRequest, clock: list[float], folder: JobFolder, progress: Told
    ) -> Iterator[ExtractedFrame]:
        """The frames as they come: timed, counted, and written down where that is wanted."""
        seen, most = 0, self.settings.max_frames
        with ExitStack() as at_end:
            poses = at_end.enter_context(_PoseFile(folder, head)) if self.request.poses else None
            for frame in extraction:
                seen += len(frame.people)
                if seen > most:
                    raise TooLarge(f"people are seen in more than {most} frames in all", code="too_many_frames")
                clock.append(frame.t)
                progress(extraction.progress)
                if poses:
                    poses.write(frame)
                yield frame


class _PoseFile:
    """A recorded stream (`poseline.formats.stream`), whose people have their places in the picture beside."""

    def __init__(self, folder: JobFolder, head: LocalizeRequest) -> None:
        self._folder, self._block = folder, bytearray()
        self._file = (folder.path / POSES).open("wb")
        self._put({"layout": head.layout, "coordinates": head.coordinates})

    def __enter__(self) -> _PoseFile:
        return self

    def __exit__(self, *_: object) -> None:
        with self._file:
            self._flush()

    def write(self, frame: ExtractedFrame) -> None:
        """Raises Overloaded."""
        self._put({"t": round(frame.t, 6), "people": _people(frame.people)})

    def _put(self, line: dict[str, Any]) -> None:
        self._block += msgspec.json.encode(line) + b"\n"
        if len(self._block) >= _BLOCK:
            self._flush()

    def _flush(self) -> None:
        self._folder.grow(len(self._block))
        self._file.write(self._block)
        self._block.clear()


def _people(people: Iterable[ExtractedPerson]) -> list[dict[str, Any]]:
    """image: joint by joint x, y as shares of the upright picture, visibility."""
    return [
        {
            "id": one.id,
            "kp": write_keypoints(one.world[None, :, :3], one.world[None, :, 3].clip(0, 1))[0],
            "image": one.image[:, (0, 1, 3)].astype(np.float64).round(_IMAGE_DECIMALS).tolist(),
        }
        for one in people
    ]
