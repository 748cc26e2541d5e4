"""Whether an upgrade to `/v1/stream` is granted, and the words in which it is not. Refusals are HTTP, before the upgrade."""

from __future__ import annotations

from http import HTTPStatus
from secrets import token_hex
from typing import NamedTuple
from urllib.parse import parse_qs

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from poseline.codec import CODECS
from poseline.errors import PoselineError
from poseline_service.errors import NotFound, UnsupportedSubprotocol
from poseline_service.principals import Account, Principal, Scope
from poseline_service.problems import problem_response
from poseline_service.runtime import Runtime
from poseline_service.tracks import LoadedModel

PATH = "/v1/stream"
SCOPE: Scope = "stream"


class Visitor(NamedTuple):
    """Who was let in, and to which model. account: counts what they take; it has been entered, and must be left."""

    principal: Principal
    account: Account
    model: LoadedModel

    @property
    def owner(self) -> str:
        return self.principal.owner


async def admit(runtime: Runtime, request: Request) -> Visitor:
    """Raises whatever speaks against it."""
    path, _, query = request.path.partition("?")
    if path != PATH:
        raise NotFound(f"{path}: no stream is served here")
    offered = _offered(request)
    if offered and not any(one in CODECS for one in offered):
        expected = " or ".join(CODECS)
        raise UnsupportedSubprotocol(f"subprotocols {', '.join(offered)} offered, expected {expected}")
    asked = parse_qs(query)
    headers = {name.lower(): value for name, value in request.headers.raw_items()}
    principal = await runtime.access.admit(headers, SCOPE, asked.get("ticket", [None])[0])
    model = runtime.admit(stream=True).named(asked.get("model", ["default"])[0])
    account = runtime.access.account(principal)
    account.enter()
    return Visitor(principal, account, model)


def refusal(error: PoselineError, path: str) -> Response:
    """A problem document in place of the upgrade."""
    answer = problem_response(error, path.partition("?")[0], token_hex(8))
    headers = Headers((name.decode(), value.decode()) for name, value in answer.raw_headers)
    headers["Connection"] = "close"
    return Response(answer.status_code, HTTPStatus(answer.status_code).phrase, headers, bytes(answer.body))


def _offered(request: Request) -> list[str]:
    headers = request.headers.get_all("Sec-WebSocket-Protocol")
    return [name.strip() for header in headers for name in header.split(",")]
