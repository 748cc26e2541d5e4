"""`/v1/models/{name}/prototypes`: classes from examples, in the model that answers. Thin, as `routes`."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from poseline.codec import encode
from poseline.enrolment import EXAMPLES, EnrolledClass
from poseline.errors import InputError, TooLarge
from poseline.keypoints import count_frames, read_tracks
from poseline.protocol import EnrolledClassInfo, EnrolledClassList, EnrolRequest, ExampleSpec
from poseline.prototypes import Shown
from poseline_service.access import needs
from poseline_service.bodies import BodyFormat
from poseline_service.enrolling import Enroller
from poseline_service.openapi import body_of, result_of
from poseline_service.outline import check_outline
from poseline_service.runtime import Runtime
from poseline_service.settings import ServiceSettings

router = APIRouter(prefix="/v1/models/{model}/prototypes", dependencies=[needs("enroll")])
_RECORDINGS = 3
"""Lists and maps around a recording: the request, its examples, one of them."""


def _enroller(request: Request, model: str) -> Enroller:
    runtime: Runtime = request.app.state.runtime
    return runtime.model().named(model).enroller


def _told(enroller: Enroller, one: EnrolledClass) -> EnrolledClassInfo:
    return EnrolledClassInfo(one.name, enroller.vocabulary.find(one.name) or 0, one.examples, one.frames, one.created)


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
    async with (
        runtime.bodies.body(request) as body,
        runtime.recordings.grown(partial(_read, body, form, runtime.settings)) as ((name, shown), _),
    ):
        spend(sum(len(one.poses) for one in shown))
        learnt = await enroller.enrol(name, shown)
    return Response(encode(_told(enroller, learnt)), 201, media_type="application/json")


def _read(body: bytes, form: BodyFormat, settings: ServiceSettings) -> tuple[str, list[Shown]]:
    """The class' name, and its examples. Raises whatever is wrong with the request."""
    text = form.decompress(body, settings.decompressed_bytes)
    check_outline(text, form.codec, settings.max_frames, _RECORDINGS)
    asked = form.codec.decode_enrolment(text)
    if not 1 <= len(asked.examples) <= EXAMPLES:
        raise InputError(f"{len(asked.examples)} examples came, expected 1 to {EXAMPLES}", param="examples")
    frames = sum(sum(count_frames(one.recording)) for one in asked.examples)
    if frames > settings.max_frames:
        what = f"the examples hold {frames} frames in all, the limit is {settings.max_frames}"
        raise TooLarge(what, param="examples", code="too_many_frames")
    return asked.name, [_shown(n, one, form) for n, one in enumerate(asked.examples)]


def _shown(n: int, one: ExampleSpec, form: BodyFormat) -> Shown:
    tracks = read_tracks(one.recording, form.codec)
    if len(tracks) != 1:
        raise InputError(
            f"example {n} holds {len(tracks)} tracks, expected one", param=f"examples.{n}.recording.tracks"
        )
    return Shown(tracks[0], one.start, one.end)


@router.get("", summary="The classes that were enrolled", responses=result_of(EnrolledClassList))
async def enrolled(request: Request, model: str) -> Response:
    enroller = _enroller(request, model)
    told = [_told(enroller, one) for one in enroller.vocabulary.enrolled]
    return Response(encode(EnrolledClassList(told)), media_type="application/json")


@router.delete("/{name}", status_code=204, summary="Enrol a class no more; what is open of it ends")
async def remove(request: Request, model: str, name: str) -> Response:
    await _enroller(request, model).remove(name)
    return Response(status_code=204)
