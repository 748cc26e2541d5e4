"""`poseline serve`: settings from the environment, uvicorn around the app, and a polite end on SIGTERM.

uvicorn closes every socket the moment it is told to stop, before the application hears of it; `DrainingServer` lets the
runtime drain first. Both together take no longer than `drain_seconds`, and a last moment.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import ExitStack
from math import ceil
from time import monotonic
from typing import Annotated

import httpx
import typer
import uvicorn
from pydantic import ValidationError

from poseline.errors import InputError
from poseline_service.admin import serve_admin
from poseline_service.app import create_app
from poseline_service.connection import streams
from poseline_service.guard import Guard
from poseline_service.logging import configure_logging, log
from poseline_service.runtime import Runtime
from poseline_service.settings import ServiceSettings, unknown_variables

_DOORS = 16
"""Connections that are accepted in one turn of the event loop. libuv accepts one a turn from each listening handle; under
load turns are long, and who is to be refused would wait for seconds. So the one socket is watched by many handles."""

_SWAP_SECONDS = 120.0
"""For another model to prove itself."""

_OTHER_FILES = 256
"""Descriptors beside those of connections: jobs' files, scrapes, the store of states."""

_QUEUE = 2048
"""Connections that may wait to be accepted."""


class DrainingServer(uvicorn.Server):
    """uvicorn's server, which lets open streams finish before it stops, and whose own heartbeat is the guard's too."""

    def __init__(self, config: uvicorn.Config, runtime: Runtime, guard: Guard) -> None:
        super().__init__(config)
        self._runtime, self._guard = runtime, guard

    async def on_tick(self, counter: int) -> bool:
        self._guard.tick(monotonic())
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            settings, port = self._runtime.settings, self.servers[0].sockets[0].getsockname()[1]
            log.info("serving", host=settings.host, port=port, metrics_port=settings.metrics_port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        deadline = monotonic() + self._runtime.settings.drain_seconds
        await self._runtime.drain()
        # Requests get what is left; sockets that nobody reads would take all that they are given.
        self.config.timeout_graceful_shutdown = max(1, ceil(deadline - monotonic()))
        await super().shutdown(sockets)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (POSELINE_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port of API and page (POSELINE_PORT).")] = None,
    models: Annotated[str | None, typer.Option(help="Folder of model bundles (POSELINE_MODELS).")] = None,
) -> None:
    """Serve the HTTP and WebSocket API, the page and the metrics."""
    settings = read_settings(host=host, port=port, models=models)
    configure_logging(settings.log_level)
    app = create_app(settings)
    guard = Guard(settings, app.state.runtime.metrics)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        http=guard.protocol(),
        ws=streams(app.state.runtime),
        server_header=False,
    )
    with ExitStack() as at_exit:
        if settings.metrics_port:
            at_exit.callback(_serve_metrics(app.state.runtime))
        doors = _open_doors(settings.host, settings.port)
        _make_room(settings.connections)
        DrainingServer(config, app.state.runtime, guard).run(sockets=doors)


def swap(
    name: Annotated[str, typer.Argument(help="Folder of the bundle under the server's POSELINE_MODELS, or `default`.")],
    admin: Annotated[
        str | None, typer.Option(help="The server's metrics port, as http://host:9464; else where the settings say.")
    ] = None,
) -> None:
    """Let another model answer on a running server, whose settings (POSELINE_ADMIN_KEY, …) this environment has."""
    settings = read_settings()
    if settings.admin_key is None:
        raise InputError("POSELINE_ADMIN_KEY is not set: without it a server has no such route")
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"{admin or f'http://{host}:{settings.metrics_port}'}/admin/model"
    headers = {"Authorization": f"Bearer {settings.admin_key.get_secret_value()}"}
    try:
        answer = httpx.post(url, json={"model": name}, headers=headers, timeout=_SWAP_SECONDS)
        told: dict[str, str] = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise InputError(f"{url} gave no answer: {error}") from None
    if answer.is_error:
        raise InputError(f"{told['code']}: {told['detail']}")
    typer.echo(f"{told['name']} {told['version']} {told['digest']}")


def _open_doors(host: str, port: int) -> list[socket.socket]:
    """One listening socket, by many handles. Raises InputError for a port that cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        door = socket.create_server((host, port), family=family, backlog=_QUEUE)
    except OSError as error:
        raise InputError(f"POSELINE_PORT {port} cannot be opened on {host}: {error.strerror}") from None
    return [door, *(door.dup() for _ in range(_DOORS - 1))]


def _make_room(connections: int) -> None:
    """File descriptors for so many: many systems let a process have a thousand unless it asks for more."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        given = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (given, hard))
        if given < wanted:
            log.warning("few_files", open_files=given, wanted=wanted)


def _serve_metrics(runtime: Runtime) -> Callable[[], None]:
    """Raises InputError for a port that cannot be had."""
    host, port = runtime.settings.host, runtime.settings.metrics_port
    try:
        return serve_admin(runtime)
    except OSError as error:
        raise InputError(f"POSELINE_METRICS_PORT {port} cannot be opened on {host}: {error.strerror}") from None


def read_settings(**given: object) -> ServiceSettings:
    """Environment, with the command line on top. Raises InputError for a value or a name that is none."""
    if unknown := unknown_variables():
        raise InputError(f"no such setting: {', '.join(unknown)}")
    try:
        return ServiceSettings(**{name: value for name, value in given.items() if value is not None})  # pyright: ignore[reportArgumentType]
    except ValidationError as error:
        first = error.errors()[0]
        where = f"setting {'.'.join(map(str, first['loc']))}: " if first["loc"] else ""
        raise InputError(where + first["msg"].removeprefix("Value error, ")) from None
