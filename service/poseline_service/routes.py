"""The HTTP routes: localize, discovery, probes, and the demo's actor. Thin: each turns a request into a call.

Answers are the wire's own structs, encoded by the protocol. A handler raises domain errors; `app` turns them into
problem+json in one place.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from msgspec import Struct, convert, json
from starlette.responses import Response

from poseline.codec import MSGPACK, encode
from poseline.discovery import Health, LayoutDescription, LayoutList, ModelDescription, ModelList
from poseline.manifest import ModelManifest
from poseline.protocol import LocalizeRequest, LocalizeResponse, Ticket
from poseline.skeleton import BODY16, LAYOUTS, SkeletonLayout, conversion, layout
from poseline_service.access import TICKET_SECONDS, anybody, needs
from poseline_service.bodies import BodyFormat, answer_codec
from poseline_service.errors import DeadlineExceeded, ModelLoading
from poseline_service.openapi import body_of, result_of
from poseline_service.runtime import Runtime
from poseline_service.tracks import LoadedModel

_STAGE = ThreadPoolExecutor(1, thread_name_prefix="actor")
"""One performance at a time: thirty threads that compute would each take the interpreter from every stream for a while."""
router = APIRouter()
_open = APIRouter(dependencies=[anybody()])
"""What everybody may ask."""
_callers = APIRouter(dependencies=[needs(None)])
"""What whoever has any scope may ask."""
DEMO_SECONDS = 120.0
Deadline = Annotated[int | None, Header(alias="X-Request-Timeout-Ms", ge=1, le=60_000)]
"""What takes longer than that is better asked for as a job."""


def _runtime(request: Request) -> Runtime:
    return request.app.state.runtime


def _told(value: Struct) -> Response:
    return Response(encode(value), media_type="application/json")


# --- probes ------------------------------------------------------------------------------------------------------


@_open.get("/livez", summary="The process runs and its event loop turns", responses=result_of(Health))
async def livez() -> Response:
    return _told(Health("live"))


@_open.get("/readyz", summary="The network has proved itself and new work is welcome", responses=result_of(Health))
async def readyz(request: Request) -> Response:
    runtime = _runtime(request)
    if not runtime.ready:
        runtime.model()
        raise ModelLoading("this server is shutting down", retry_after=runtime.settings.retry_after)
    return _told(Health("ready"))


# --- localize ----------------------------------------------------------------------------------------------------


@router.post(
    "/v1/localize",
    summary="A finished recording to its action segments",
    dependencies=[needs("localize")],
    openapi_extra=body_of(LocalizeRequest),
    responses=result_of(LocalizeResponse, media=(MSGPACK.media_type,)),
)
@router.post("/localize", dependencies=[needs("localize")], include_in_schema=False)
async def localize(request: Request, milliseconds: Deadline = None) -> Response:
    runtime = _runtime(request)
    model, form, codec = runtime.admit(), BodyFormat.of(request), answer_codec(request)
    spend = runtime.access.account(request.state.principal).spend
    try:
        async with asyncio.timeout(milliseconds and milliseconds / 1000):
            async with runtime.bodies.body(request) as body:
                answer = await runtime.recordings.localize(body, form, model, request.state.request_id, spend)
    except TimeoutError:
        raise DeadlineExceeded(f"there is no answer after {milliseconds} ms") from None
    return Response(codec.encode(answer), media_type=codec.media_type)


# --- streams ------------------------------------------------------------------------------------------------------


@router.post(
    "/v1/stream/tickets",
    summary="A ticket that stands for its buyer once, as /v1/stream?ticket=…",
    dependencies=[needs("stream")],
    responses=result_of(Ticket, 201),
)
async def ticket(request: Request) -> Response:
    sold = await _runtime(request).access.sell(request.state.principal)
    body = json.encode(Ticket(sold, TICKET_SECONDS))
    return Response(body, 201, {"Cache-Control": "no-store"}, media_type="application/json")


# --- discovery ---------------------------------------------------------------------------------------------------


def _described(model: LoadedModel) -> ModelDescription:
    manifest: ModelManifest = model.bundle.manifest
    more = {
        "digest": model.bundle.digest,
        "modes": manifest.modes,
        "algorithmic_latency": manifest.look_ahead / manifest.fps,
        "hop": 1 / manifest.fps,
        "state_bytes_per_track": manifest.state.bytes_per_stream,
    }
    return convert(manifest.model_dump(mode="json") | more, ModelDescription)


def _shape(one: SkeletonLayout) -> LayoutDescription:
    native = conversion(one, BODY16)  # every model's own layout
    return LayoutDescription(
        name=one.name,
        joints=list(one.joints),
        bones=list(one.bones),
        mirror=list(one.mirror),
        approximate=native.approximate,
        to_body16=[[(int(j), round(float(row[j]), 6)) for j in row.nonzero()[0]] for row in native.weights],
    )


@_callers.get("/v1/models", summary="The models that answer", responses=result_of(ModelList))
async def models(request: Request) -> Response:
    return _told(ModelList([_described(_runtime(request).model())]))


@_callers.get(
    "/v1/models/{name}",
    summary="One model: classes, thresholds, licence, what it measured",
    responses=result_of(ModelDescription),
)
async def model(request: Request, name: str) -> Response:
    return _told(_described(_runtime(request).model().named(name)))


@_callers.get("/v1/layouts", summary="The joint layouts that are understood", responses=result_of(LayoutList))
async def layouts() -> Response:
    return _told(LayoutList([_shape(one) for one in LAYOUTS.values()]))


@_callers.get(
    "/v1/layouts/{name}",
    summary="One layout: joint names in order, bones, left-right twins, way to body16",
    responses=result_of(LayoutDescription),
)
async def one_layout(name: str) -> Response:
    return _told(_shape(layout(name)))


# --- the page's actor --------------------------------------------------------------------------------------------


@_callers.get("/demo/actor.json", summary="The scripted actor's poses with their true segments")
async def actor(
    seed: Annotated[int, Query(ge=0, lt=2**32)] = 0,
    seconds: Annotated[float, Query(ge=1, le=DEMO_SECONDS)] = 30.0,
) -> Response:
    performance = await asyncio.get_running_loop().run_in_executor(_STAGE, _performance, seed, seconds)
    return Response(performance, media_type="application/json")


@lru_cache(maxsize=8)
def _performance(seed: int, seconds: float) -> bytes:
    from poseline.actor import perform  # only the page asks for it

    performance = perform(seed, seconds=seconds)
    poses = performance.poses
    told: dict[str, Any] = {
        "fps": round((len(poses) - 1) / poses.duration, 6),
        "layout": poses.layout.name,
        "joints": poses.layout.joints,
        "bones": poses.layout.bones,
        "coordinates": {"space": poses.coordinates.space, "dims": 3, "facing": poses.coordinates.facing},
        "frames": poses.joints.astype(float).round(4).tolist(),
        "segments": performance.segments,
    }
    return json.encode(told)


for _part in (_open, _callers):
    router.include_router(_part)
