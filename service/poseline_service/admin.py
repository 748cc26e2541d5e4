"""The second port: `GET /metrics`, and with a key `POST /admin/drain` and `/admin/model`; a firewall can tell it from the
traffic's.

Served by the standard library in threads of its own: a scrape must not cost the event loop anything. What is asked of the
loop goes there by way of it. A caller gets `_PATIENCE` seconds for each read; nothing else guards this port, which is
for the inside of a network.
"""

from __future__ import annotations

import hmac
import socket
from collections.abc import Callable, Iterable
from http import HTTPStatus
from secrets import token_hex
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from msgspec import DecodeError, Struct, json
from starlette.responses import Response

from poseline.errors import MalformedMessage, PoselineError, TooLarge
from poseline.translation import model_info
from poseline_service.errors import NotFound, Unauthorized
from poseline_service.problems import problem_response
from poseline_service.runtime import Runtime

_PATIENCE = 10.0
_LONGEST = 4096
"""Bytes of a body."""


class Swap(Struct, forbid_unknown_fields=True):
    """What `POST /admin/model` asks for: a bundle's name under `POSELINE_MODELS`, or `default`."""

    model: str


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller who went away, or never came to the point, is no news."""


class _ServerV6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _PATIENCE

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def serve_admin(runtime: Runtime) -> Callable[[], None]:
    """Answer on the metrics port; the callable returned ends it. Raises OSError for a port that cannot be had."""
    settings = runtime.settings
    kind = _ServerV6 if ":" in settings.host else _Server
    server = make_server(settings.host, settings.metrics_port, Admin(runtime), kind, _Handler)
    thread = Thread(target=server.serve_forever, name="admin", daemon=True)
    thread.start()

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


class Admin:
    """The port's WSGI application."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._metrics = runtime.metrics.application()
        key = runtime.settings.admin_key
        self._key = key.get_secret_value().encode() if key is not None else None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if path == "/metrics":
            return self._metrics(environ, start_response)
        try:
            routes = {"/admin/drain": self._drain, "/admin/model": self._swap}
            if path not in routes or self._key is None:
                raise NotFound(f"{path}: nothing is served here")
            self._check(environ.get("HTTP_AUTHORIZATION", ""), self._key)
            if method == "POST":
                response = routes[path](environ)
            else:
                response = Response(status_code=405, headers={"Allow": "POST"})
        except PoselineError as error:
            response = problem_response(error, path, token_hex(8))
        status = HTTPStatus(response.status_code)
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers]
        start_response(f"{status.value} {status.phrase}", headers)
        return [bytes(response.body)]

    def _check(self, given: str, key: bytes) -> None:
        """Raises Unauthorized."""
        scheme, _, token = given.partition(" ")
        # wsgiref reads headers as latin-1: this gives back the bytes that came
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode("latin-1", "replace"), key):
            raise Unauthorized("the admin key is missing or wrong")

    def _drain(self, environ: WSGIEnvironment) -> Response:
        streams = self._runtime.drain_from_outside()
        told = {"draining": True, "streams": streams, "drain_seconds": self._runtime.settings.drain_seconds}
        return Response(json.encode(told), 202, media_type="application/json")

    def _swap(self, environ: WSGIEnvironment) -> Response:
        """Answers when the other model has proved itself, or has not: some seconds."""
        length = environ.get("CONTENT_LENGTH") or "0"
        if not length.isdigit() or int(length) > _LONGEST:
            raise TooLarge(f"the body is said to have {length[:20]} bytes, the limit is {_LONGEST}")
        try:
            asked = json.decode(environ["wsgi.input"].read(int(length)), type=Swap)
        except (DecodeError, UnicodeDecodeError) as error:
            raise MalformedMessage(f'expected {{"model": a name}}: {error}') from None
        model = self._runtime.swap_from_outside(asked.model).result()
        bundle = model.bundle
        return Response(json.encode(model_info(bundle.manifest, bundle.digest)), media_type="application/json")
