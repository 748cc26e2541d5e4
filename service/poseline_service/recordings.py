"""A finished recording, from a request's bytes or the people of a video to native poses.

What leaves is a `Recording` that was read and found good; what is wrong with the body raises. Reading a large body takes
a while and holds no session state: call it in a thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from poseline.errors import BadTimestamps, InputError, ModeUnavailable, TooLarge
from poseline.keypoints import count_frames, read_tracks
from poseline.manifest import ModelManifest
from poseline.online import open_converter
from poseline.pose import PoseSequence, has_scale
from poseline.protocol import LocalizeRequest, Notice
from poseline.skeleton import Floats
from poseline.translation import decoding_options
from poseline_service.bodies import BodyFormat
from poseline_service.outline import check_outline
from poseline_service.settings import ServiceSettings
from poseline_service.tracks import LATEST, SCALE_SECONDS, LoadedModel, check_name, no_scale, notices


@dataclass(frozen=True)
class Recording:
    """A request that was read and found good: its tracks, and their native poses (T, 16, 4).

    clock: seconds of every frame of the whole recording, where frames are counted by it because people come and go (a
    video); None where each track counts its own frames from its `start_frame`.
    """

    request: LocalizeRequest
    tracks: list[PoseSequence]
    poses: list[Floats]
    warnings: list[Notice]
    clock: NDArray[np.float64] | None = None

    @property
    def clocks(self) -> list[NDArray[np.float64]]:
        """The timestamps by which its length is told."""
        return [one.timestamps for one in self.tracks] if self.clock is None else [self.clock]


def read_recording(body: bytes, form: BodyFormat, model: LoadedModel, settings: ServiceSettings) -> Recording:
    """Raises whatever is wrong with the request."""
    text = form.decompress(body, settings.decompressed_bytes)
    check_outline(text, form.codec, settings.max_frames)
    request = form.codec.decode_request(text)
    check_request(request, model)
    _check_size(request, settings)
    return native_recording(request, read_tracks(request, form.codec), model, settings)


def check_request(request: LocalizeRequest, model: LoadedModel) -> None:
    """What can be told before any pose is read: raises UnknownModel, MalformedMessage, ModeUnavailable, InputError."""
    model.named(request.model)
    _check_names(request)
    _check_options(request, model.bundle.manifest)
    decoding_options(request.options, model.bundle.manifest.decoding)
    model.vocabulary.mask(request.options.classes)


def native_recording(
    request: LocalizeRequest,
    tracks: list[PoseSequence],
    model: LoadedModel,
    settings: ServiceSettings,
    clock: NDArray[np.float64] | None = None,
) -> Recording:
    """The tracks (one or more, of one layout) in the model's own space.

    Raises BadTimestamps, TooLarge, UnitUnknown, LayoutMismatch.
    """
    manifest = model.bundle.manifest
    _check_grid(tracks, request.options.gap_reset, manifest.fps, settings)
    convert = open_converter(manifest, tracks[0].layout, tracks[0].coordinates)
    source, target = tracks[0].layout.name, manifest.layout
    poses = [convert(one.joints, one.confidence) for one in tracks]
    warnings = notices(convert, target)
    if source != target and not convert.approximate:
        warnings.append(Notice("layout_converted", f"{source} to {target}"))
    for track, native in zip(tracks, poses, strict=True):
        early = track.timestamps - track.timestamps[0] <= SCALE_SECONDS
        if not has_scale(native[early], manifest.native).any():
            warnings.append(no_scale(track.name))
    return Recording(request, tracks, poses, warnings, clock)


def _check_names(request: LocalizeRequest) -> None:
    for track in request.tracks:
        check_name(track.track_id, "track_id")
    if request.id is not None:
        check_name(request.id, "id")


def _check_options(request: LocalizeRequest, manifest: ModelManifest) -> None:
    options = request.options
    if options.mode not in manifest.modes:
        what = f"model {manifest.name} has no network for mode {options.mode!r}; it has {', '.join(manifest.modes)}"
        raise ModeUnavailable(what, param="options.mode")
    if options.max_segments is not None and options.max_segments < 1:
        raise InputError(f"max_segments is {options.max_segments}, expected 1 or more", param="options.max_segments")
    if not 0 < options.frame_scores_hz < inf:
        what = f"frame_scores_hz is {options.frame_scores_hz:g}, expected a number over 0"
        raise InputError(what, param="options.frame_scores_hz")


def _check_grid(tracks: list[PoseSequence], gap_reset: float, fps: float, settings: ServiceSettings) -> None:
    """A slow source costs the network as much as a fast one: what counts is the time that the grid will fill."""
    for one in tracks:
        if not np.abs(one.timestamps).max() <= LATEST:
            what = f"track {one.name} leaves the clock's range, ±{LATEST:g} seconds"
            raise BadTimestamps(what, param="timestamps")
    seconds = sum(float(np.minimum(np.diff(one.timestamps), gap_reset).sum()) for one in tracks)
    if seconds * fps > settings.max_frames:
        what = f"the tracks last {seconds:.0f} seconds in all, the limit is {settings.max_frames / fps:.0f}"
        raise TooLarge(what, param="tracks", code="too_many_frames")


def _check_size(request: LocalizeRequest, settings: ServiceSettings) -> None:
    if len(request.tracks) > settings.tracks_per_session:
        what = f"the request holds {len(request.tracks)} tracks, the limit is {settings.tracks_per_session}"
        raise TooLarge(what, param="tracks", code="too_many_tracks")
    frames = sum(count_frames(request))
    if frames > settings.max_frames:
        what = f"the request holds {frames} frames in all, the limit is {settings.max_frames}"
        raise TooLarge(what, param="tracks", code="too_many_frames")
