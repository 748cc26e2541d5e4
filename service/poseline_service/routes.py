"""The HTTP routes: localize, discovery, probes, and the demo's actor. Thin: each turns a request into a call.

Answers are the wire's own structs, encoded by the protocol. A handler raises domain errors; `app` turns them into
problem+json in one place.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from msgspec import json
from starlette.responses import Response

from poseline.manifest import ModelManifest
from poseline.protocol import LocalizeRequest, LocalizeResponse, Ticket
from poseline.skeleton import BODY16, LAYOUTS, SkeletonLayout, conversion, layout
from poseline_service.access import TICKET_SECONDS, anybody, needs
from poseline_service.bodies import BodyFormat, answer_codec, read_body
from poseline_service.errors import DeadlineExceeded, ModelLoading
from poseline_service.openapi import body_of, result_of
from poseline_service.runtime import Runtime
from poseline_service.tracks import LoadedModel

router = APIRouter()
_callers = APIRouter(dependencies=[needs(None)])
"""What whoever has any scope may ask."""
DEMO_SECONDS = 120.0
Deadline = Annotated[int | None, Header(alias="X-Request-Timeout-Ms", ge=1, le=60_000)]
"""What takes longer than that is better asked for as a job."""


def _runtime(request: Request) -> Runtime:
    return request.app.state.runtime


def _json(value: Any) -> Response:
    return Response(json.encode(value), media_type="application/json")


# --- probes ------------------------------------------------------------------------------------------------------


@router.get("/livez", dependencies=[anybody()], summary="The process runs and its event loop turns")
async def livez() -> Response:
    return _json({"status": "live"})


@router.get("/readyz", dependencies=[anybody()], summary="The network has proved itself and new work is welcome")
async def readyz(request: Request) -> Response:
    runtime = _runtime(request)
    if not runtime.ready:
        runtime.model()
        raise ModelLoading("this server is shutting down", retry_after=runtime.settings.retry_after)
    return _json({"status": "ready"})


# --- localize ----------------------------------------------------------------------------------------------------


@router.post(
    "/v1/localize",
    summary="A finished recording to its action segments",
    dependencies=[needs("localize")],
    openapi_extra=body_of(LocalizeRequest),
    responses=result_of(LocalizeResponse),
)
@router.post("/localize", dependencies=[needs("localize")], include_in_schema=False)
async def localize(request: Request, milliseconds: Deadline = None) -> Response:
    runtime = _runtime(request)
    model, form, codec = runtime.admit(), BodyFormat.of(request), answer_codec(request)
    spend = runtime.access.account(request.state.principal).spend
    try:
        async with asyncio.timeout(milliseconds and milliseconds / 1000):
            body = await read_body(request, runtime.settings.body_bytes)
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


def _described(model: LoadedModel) -> dict[str, Any]:
    manifest: ModelManifest = model.bundle.manifest
    shown = manifest.model_dump(mode="json", exclude={"files", "state", "whole", "format_version"})
    return shown | {
        "digest": model.bundle.digest,
        "modes": manifest.modes,
        "algorithmic_latency": manifest.look_ahead / manifest.fps,
        "hop": 1 / manifest.fps,
        "state_bytes_per_track": manifest.state.bytes_per_stream,
    }


def _shape(one: SkeletonLayout) -> dict[str, Any]:
    native = conversion(one, BODY16)  # every model's own layout
    made_of = [[(int(j), round(float(row[j]), 6)) for j in row.nonzero()[0]] for row in native.weights]
    return {
        "name": one.name,
        "joints": one.joints,
        "bones": one.bones,
        "mirror": one.mirror,
        "approximate": native.approximate,
        "to_body16": made_of,
    }


@_callers.get("/v1/models", summary="The models that answer")
async def models(request: Request) -> Response:
    return _json({"models": [_described(_runtime(request).model())]})


@_callers.get("/v1/models/{name}", summary="One model: classes, thresholds, licence, what it measured")
async def model(request: Request, name: str) -> Response:
    return _json(_described(_runtime(request).model().named(name)))


@_callers.get("/v1/layouts", summary="The joint layouts that are understood")
async def layouts() -> Response:
    return _json({"layouts": [_shape(one) for one in LAYOUTS.values()]})


@_callers.get(
    "/v1/layouts/{name}",
    summary="One layout: joint names in order, bones, left-right twins, way to body16",
)
async def one_layout(name: str) -> Response:
    return _json(_shape(layout(name)))


# --- the page's actor --------------------------------------------------------------------------------------------


@_callers.get("/demo/actor.json", summary="The scripted actor's poses with their true segments")
async def actor(
    seed: Annotated[int, Query(ge=0, lt=2**32)] = 0,
    seconds: Annotated[float, Query(ge=1, le=DEMO_SECONDS)] = 30.0,
) -> Response:
    return _json(await asyncio.to_thread(_performance, seed, seconds))


def _performance(seed: int, seconds: float) -> dict[str, Any]:
    from poseline.actor import perform  # only the page asks for it

    performance = perform(seed, seconds=seconds)
    poses = performance.poses
    return {
        "fps": round((len(poses) - 1) / poses.duration, 6),
        "layout": poses.layout.name,
        "joints": poses.layout.joints,
        "bones": poses.layout.bones,
        "coordinates": {"space": poses.coordinates.space, "dims": 3, "facing": poses.coordinates.facing},
        "frames": poses.joints.astype(float).round(4).tolist(),
        "segments": performance.segments,
    }


router.include_router(_callers)
