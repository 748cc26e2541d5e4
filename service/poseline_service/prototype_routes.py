"""`/v1/models/{name}/prototypes`: classes from examples, in the model that answers. Thin, as `routes`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from fastapi import APIRouter, Request
from msgspec import UNSET
from starlette.responses import Response

from poseline.codec import encode
from poseline.enrolment import EXAMPLES
from poseline.errors import BadTimestamps, InputError, MalformedMessage, TooLarge
from poseline.keypoints import count_frames, read_tracks
from poseline.pose import PoseSequence
from poseline.protocol import EnrolledClassInfo, EnrolledClassList, EnrolRequest, ExampleSpec
from poseline.prototypes import Shown
from poseline.translation import enrolled_info
from poseline_service.access import needs
from poseline_service.bodies import BodyFormat
from poseline_service.enrolling import Enroller
from poseline_service.errors import NotRemembered
from poseline_service.openapi import body_of, result_of
from poseline_service.outline import check_outline
from poseline_service.runtime import Runtime
from poseline_service.settings import ServiceSettings
from poseline_service.tracks import LATEST

router = APIRouter(prefix="/v1/models/{model}/prototypes", dependencies=[needs("enroll")])
_RECORDINGS = 3
"""Lists and maps around a recording: the request, its examples, one of them."""
_NEWEST = 0.5
"""Seconds by which a stretch may end after the newest frame that has been read: it may be on its way."""


def _enroller(request: Request, model: str) -> Enroller:
    runtime: Runtime = request.app.state.runtime
    return runtime.model().named(model).enroller


@router.post(
    "",
    status_code=201,
    summary="A class from one to five examples, live in every stream from now on",
    openapi_extra=body_of(EnrolRequest),
    responses=result_of(EnrolledClassInfo, 201),
)
async def enrol(request: Request, model: str) -> Response:
    runtime: Runtime = request.app.state.runtime
    enroller, form = _enroller(request, model), BodyFormat.of(request)
    spend = runtime.access.account(request.state.principal).spend
    async with runtime.bodies.body(request) as body:
        # Who only learns holds up no recording.
        async with runtime.recordings.grown(partial(_read, body, form, runtime.settings)) as (read, _):
            name, examples = read
        spend(sum(len(one.poses) for one in examples if isinstance(one, Shown)))
        recall = partial(runtime.keeper.remembered, owner=request.state.principal.owner)
        shown = [one if isinstance(one, Shown) else _recalled(n, one, recall) for n, one in enumerate(examples)]
        learnt = await enroller.enrol(name, shown)
    return Response(encode(enrolled_info(enroller.vocabulary, learnt)), 201, media_type="application/json")


def _read(body: bytes, form: BodyFormat, settings: ServiceSettings) -> tuple[str, list[Shown | ExampleSpec]]:
    """The class' name, and its examples; stretches of sessions stay what was asked. Raises whatever is wrong."""
    text = form.decompress(body, settings.decompressed_bytes)
    check_outline(text, form.codec, settings.max_frames, _RECORDINGS)
    asked = form.codec.decode_enrolment(text)
    if not 1 <= len(asked.examples) <= EXAMPLES:
        raise InputError(f"{len(asked.examples)} examples came, expected 1 to {EXAMPLES}", param="examples")
    recordings = [one.recording for one in asked.examples if one.recording is not UNSET]
    frames = sum(sum(count_frames(one)) for one in recordings)
    if frames > settings.max_frames:
        what = f"the examples hold {frames} frames in all, the limit is {settings.max_frames}"
        raise TooLarge(what, param="examples", code="too_many_frames")
    return asked.name, [_shown(n, one, form) for n, one in enumerate(asked.examples)]


def _shown(n: int, one: ExampleSpec, form: BodyFormat) -> Shown | ExampleSpec:
    here = f"examples.{n}"
    if (one.recording is UNSET) == (one.session_id is UNSET):
        what = f"example {n} must have either a recording or a session_id"
        raise MalformedMessage(what, param=here, code="invalid_message")
    if one.recording is UNSET:
        if one.track_id is UNSET or one.start is None or one.end is None:
            what = f"example {n} is of a session, and lacks its track_id, its start or its end"
            raise MalformedMessage(what, param=here, code="invalid_message")
        return one
    tracks = read_tracks(one.recording, form.codec)
    if len(tracks) != 1:
        raise InputError(f"example {n} holds {len(tracks)} tracks, expected one", param=f"{here}.recording.tracks")
    if not np.abs(tracks[0].timestamps).max() <= LATEST:
        what = f"example {n} leaves the clock's range, ±{LATEST:g} seconds"
        raise BadTimestamps(what, param=f"{here}.recording.timestamps")
    return Shown(tracks[0], one.start, one.end)


def _recalled(n: int, one: ExampleSpec, recall: Callable[..., PoseSequence]) -> Shown:
    """A stretch of a session, with all that is remembered beside it. Raises UnknownSession, NotRemembered."""
    assert one.start is not None
    assert one.end is not None
    poses = recall(one.session_id, track_id=one.track_id)
    first, last = poses.timestamps[[0, -1]]
    if not first <= one.start < one.end <= last + _NEWEST:
        what = f"example {n} is from {one.start:g} to {one.end:g} s; remembered are {first:.2f} to {last:.2f}"
        raise NotRemembered(what, param=f"examples.{n}")
    return Shown(poses, one.start, one.end)


@router.get("", summary="The classes that were enrolled", responses=result_of(EnrolledClassList))
async def enrolled(request: Request, model: str) -> Response:
    enroller = _enroller(request, model)
    told = [enrolled_info(enroller.vocabulary, one) for one in enroller.vocabulary.enrolled]
    return Response(encode(EnrolledClassList(told)), media_type="application/json")


@router.delete("/{name}", status_code=204, summary="Enrol a class no more; what is open of it ends")
async def remove(request: Request, model: str, name: str) -> Response:
    await _enroller(request, model).remove(name)
    return Response(status_code=204)
