"""The application: routes, the stream, the page, and what every HTTP request passes through.

Around each request: an id for the log and for problem documents, one log line, two metrics. Errors of the domain become
problem+json here and nowhere else. Starting loads the network beside the event loop, so `/livez` answers at once and
`/readyz` when it is true.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from secrets import token_hex
from time import perf_counter

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

from poseline.errors import PoselineError
from poseline_service.access import check_declared, everybody, needs, rate_headers
from poseline_service.job_routes import router as job_router
from poseline_service.logging import log
from poseline_service.openapi import describe_wire
from poseline_service.problems import problem, problem_response
from poseline_service.prototype_routes import router as prototype_router
from poseline_service.routes import router
from poseline_service.runtime import Runtime
from poseline_service.session_routes import router as session_router
from poseline_service.settings import ServiceSettings

STATIC = Path(__file__).parent / "static"
VISION = ("pose_landmarker_full.task", "tasks-vision/vision_bundle.mjs", "tasks-vision/wasm")
"""What the console needs of the folder `settings.pose` to find poses in pictures, in the browser."""
_HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'self'",
            "script-src 'self' 'wasm-unsafe-eval'",  # the console's pose extractor is WebAssembly
            "connect-src 'self' ws: wss:",  # older Safari does not count the page's own socket as 'self'
            "media-src 'self' blob:",  # a video that the user picked
            "object-src 'none'",
            "base-uri 'none'",
        )
    ),
    "Permissions-Policy": "camera=(self)",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_QUIET = ("/livez", "/readyz")
"""Probes are counted, not logged."""


def create_app(settings: ServiceSettings) -> FastAPI:
    """The server's ASGI application; its `state.runtime` is what `serve` drains."""
    app = FastAPI(title="Poseline", version="1", openapi_url=None, lifespan=_lifespan)
    app.state.runtime = Runtime(settings)
    app.include_router(router)
    app.include_router(job_router)
    app.include_router(session_router)
    app.include_router(prototype_router)
    _add_page(app)
    _add_vision(app, settings.pose)
    app.add_api_route("/openapi.json", _openapi, dependencies=[needs(None)], include_in_schema=False)
    app.middleware("http")(_accompany)
    if settings.origins:
        _let_pages_in(app, settings.origins)
    app.add_exception_handler(PoselineError, _on_domain_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_bad_parameter)
    app.add_exception_handler(Exception, _on_bug)
    describe_wire(app)
    check_declared(app)
    return app


async def _openapi(request: Request) -> Response:
    return JSONResponse(request.app.openapi())


def _let_pages_in(app: FastAPI, origins: tuple[str, ...]) -> None:
    """Browsers ask beforehand whether a page from elsewhere may speak to us, and show it our answers only then."""
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Content-Encoding", "Idempotency-Key"],
        expose_headers=["Location", "Retry-After", "X-Request-Id", "RateLimit", "RateLimit-Policy"],
        max_age=600,
    )


def _add_page(app: FastAPI) -> None:
    """One route for each file: a mount on "/" would answer 404 where another route knows that the method is wrong."""
    for path in STATIC.rglob("*"):
        if path.is_file():
            name = "/" + path.relative_to(STATIC).as_posix().removesuffix("index.html")
            app.add_route(name, everybody(partial(_page_file, path)), methods=["GET"])


async def _page_file(path: Path, request: Request) -> Response:
    return FileResponse(path, headers={"Cache-Control": "no-cache"})


def _add_vision(app: FastAPI, folder: Path) -> None:
    """The pose extractor's files, large and none of ours: they may be absent, and may come while the server runs."""
    files = StaticFiles(directory=folder, check_dir=False)

    async def missing(request: Request) -> Response:
        lacking = [name for name in VISION if not (folder / name).exists()]
        return JSONResponse({"missing": lacking}, headers={"Cache-Control": "no-store"})

    async def file(request: Request) -> Response:
        response = await files.get_response(request.path_params["path"], request.scope)
        response.headers["Cache-Control"] = "no-cache"
        return response

    app.add_route("/vision", everybody(missing), methods=["GET"])
    app.add_route("/vision/{path:path}", everybody(file), methods=["GET"])


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    runtime: Runtime = app.state.runtime
    loading = asyncio.create_task(runtime.start(), name="loading")
    try:
        yield
    finally:
        await loading
        await runtime.stop()


async def _accompany(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    """Id, log line and metrics of one HTTP request."""
    request.state.request_id = request_id = token_hex(8)
    structlog.contextvars.bind_contextvars(request_id=request_id)
    begin = perf_counter()
    status = 500
    try:
        response = await answer(request)
        status = response.status_code
        response.headers["X-Request-Id"] = request_id
        response.headers.update(_HEADERS)
        if principal := getattr(request.state, "principal", None):
            response.headers.update(rate_headers(request.app.state.runtime.access.account(principal)))
        return response
    finally:
        seconds = perf_counter() - begin
        route = getattr(request.scope.get("route"), "path", "unmatched")
        labels = (route, request.method, str(status))
        metrics = request.app.state.runtime.metrics
        metrics.http_requests.labels(*labels).inc()
        metrics.http_seconds.labels(*labels).observe(seconds)
        if route not in _QUIET:
            log.info("request", route=route, method=request.method, status=status, seconds=round(seconds, 4))


def _on_domain_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, PoselineError)
    return problem_response(error, request.url.path, request.state.request_id)


def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    detail = f"{request.method} {request.url.path}: {error.detail}"
    return problem(error.status_code, code, detail, request.url.path, request.state.request_id, headers=error.headers)


def _on_bad_parameter(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    param = ".".join(map(str, first["loc"]))
    detail = f"{param}: {first['msg']}"
    return problem(422, "invalid_input", detail, request.url.path, request.state.request_id, param=param)


def _on_bug(request: Request, error: Exception) -> Response:
    log.exception("request_failed", exc_info=error)
    return problem_response(PoselineError(repr(error)), request.url.path, request.state.request_id)
