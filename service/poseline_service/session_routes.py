"""`/v1/sessions`: what a caller has of live sessions, open or kept, and how it gets rid of them. Thin, as `routes`."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from poseline.codec import encode
from poseline.protocol import SessionList, SessionStatus
from poseline_service.access import needs
from poseline_service.errors import UnknownSession
from poseline_service.keeping import Keeper
from poseline_service.openapi import result_of

router = APIRouter(prefix="/v1/sessions", dependencies=[needs("stream")])


def _owner(request: Request) -> str:
    return request.state.principal.owner


def _keeper(request: Request) -> Keeper:
    return request.app.state.runtime.keeper


@router.get("", summary="The caller's sessions, newest first", responses=result_of(SessionList))
async def sessions(request: Request) -> Response:
    return Response(encode(SessionList(await _keeper(request).owned(_owner(request)))), media_type="application/json")


@router.get("/{session_id}", summary="One session, with its newest finals", responses=result_of(SessionStatus))
async def session(request: Request, session_id: str) -> Response:
    return Response(encode(await _keeper(request).find(session_id, _owner(request))), media_type="application/json")


@router.delete("/{session_id}", status_code=204, summary="End a session, and forget it everywhere")
async def delete(request: Request, session_id: str) -> Response:
    captures, owner = request.app.state.runtime.captures, _owner(request)
    try:
        await _keeper(request).delete(session_id, owner)
    except UnknownSession:  # long over; what was captured of it may still be there
        if captures is None or not await captures.delete(session_id, owner):
            raise
    else:
        if captures is not None:
            await captures.delete(session_id, owner)
    return Response(status_code=204)
