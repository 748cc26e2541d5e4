"""The port beside the traffic's: what only an operator may do, and what logs never say."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from made_up import NATIVE, frames_of
from poseline.client import StreamClient
from poseline.codec import encode
from poseline.errors import InputError
from poseline.protocol import Frame, Frames, Person, Resume, SessionClosed, SessionDraining, SessionStart
from poseline_service.app import create_app
from poseline_service.cli import read_settings
from poseline_service.settings import ServiceSettings
from servers import ServerProcess

KEY = "an-admin-key-of-36-letters-and-signs"


def admin(server: ServerProcess, authorization: str | None = f"Bearer {KEY}", method: str = "POST") -> httpx.Response:
    headers = {} if authorization is None else {"Authorization": authorization}
    return httpx.request(method, f"http://127.0.0.1:{server.metrics_port}/admin/drain", headers=headers)


async def test_an_operator_drains_a_server_that_stays(serve: Callable[..., ServerProcess]) -> None:
    server = serve(admin_key=KEY).ready()
    for wrong in (
        None,
        "",
        "Bearer",
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        f"Basic {KEY}",
        "Bearer schlüssel".encode(),
    ):
        answer = admin(server, wrong)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert admin(server, method="GET").status_code == 405
    assert httpx.get(server.url + "/readyz").status_code == 200
    frames = frames_of(5, 64)
    async with StreamClient(server.ws, coordinates=NATIVE) as client:
        await client.send(frames)
        answer = admin(server)
        assert answer.status_code == 202
        assert answer.json() == {"draining": True, "streams": 1, "drain_seconds": 30}
        heard = [client.started]
        while not isinstance(heard[-1], SessionClosed):
            heard.append(await client.receive())  # type: ignore[arg-type]
    assert any(isinstance(one, SessionDraining) for one in heard)
    assert heard[-1].frames_processed == heard[-1].frames_received
    assert httpx.get(server.url + "/readyz").status_code == 503
    assert httpx.get(server.url + "/livez").status_code == 200
    with pytest.raises(InvalidStatus) as refused:
        await connect(server.ws)
    assert json.loads(refused.value.response.body or b"")["code"] == "draining"
    assert admin(server).json()["streams"] == 0
    assert server.metrics()["poseline_sessions_active"] == 0
    assert server.process.poll() is None
    assert "Traceback" not in server.stop()
    assert server.process.returncode in (0, -15)


def test_without_a_key_there_is_no_such_route(server: ServerProcess) -> None:
    assert admin(server).status_code == 404
    elsewhere = httpx.get(f"http://127.0.0.1:{server.metrics_port}/")
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (404, "not_found")


def test_a_short_key_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError, match="admin_key") as refused:
        read_settings(admin_key="kurz")
    assert "kurz" not in refused.value.detail
    assert KEY not in repr(read_settings(admin_key=KEY))


def test_the_traffic_port_has_neither_metrics_nor_admin(server: ServerProcess) -> None:
    app = create_app(ServiceSettings(admin_key=KEY))  # type: ignore[arg-type]
    paths = [*app.openapi()["paths"], *(getattr(route, "path", "") for route in app.routes)]
    assert "/v1/localize" in paths
    assert not [path for path in paths if "admin" in path or "metrics" in path]
    for path in ("/admin/drain", "/metrics", "/admin", "/v1/../admin/drain", "//admin/drain"):
        for method in ("GET", "POST"):
            answer = httpx.request(method, server.url + path, headers={"Authorization": f"Bearer {KEY}"})
            assert answer.status_code == 404


SECRET = "secret-of-the-client"
NUMBER = 0.123456789


async def test_no_payload_and_no_token_is_ever_logged(serve: Callable[..., ServerProcess]) -> None:
    server = serve(admin_key=KEY, log_level="debug", start_seconds=0.5).ready()
    authorized = {"Authorization": f"Bearer {SECRET}"}
    kp = [[NUMBER, NUMBER, NUMBER]] * 16
    frame = Frame(0.0, [Person(kp=kp, id=SECRET)])
    query = f"?ticket={SECRET}"
    async with connect(server.ws + query, additional_headers=authorized) as socket:
        await socket.send(encode(SessionStart(layout="body16", coordinates=NATIVE)), text=True)
        started = json.loads(await socket.recv())
        await socket.send(encode(Frames(0, [frame])), text=True)
        await socket.send(f'{{"type":"{SECRET}"}}')
        socket.transport.abort()
    async with connect(server.ws + query) as again:  # goes on, then breaks every rule
        resume = Resume(started["session_id"], started["resume_token"], started["seq"])
        await again.send(encode(SessionStart(resume=resume)), text=True)
        resumed = json.loads(await again.recv())
        await again.send(f'{{"type":"frames","seq":"{SECRET}"}}')
        await again.wait_closed()
    assert resumed["resumed"]
    for first in (encode(SessionStart(resume=Resume(SECRET, SECRET, 0))).decode(), SECRET, "\ud800" + SECRET):
        async with connect(server.ws) as wrong:
            await wrong.send(first.encode(errors="surrogatepass"), text=True)
            await wrong.wait_closed()
    for path in ("/v1/stream?model=", "/v1/nothing/"):
        with pytest.raises(InvalidStatus):
            await connect(f"ws://127.0.0.1:{server.port}{path}{SECRET}", additional_headers=authorized)
    body = json.dumps({"id": SECRET, "layout": SECRET, "fps": 30, "tracks": [{"track_id": SECRET, "keypoints": [kp]}]})
    for content, encoding in (
        (body.encode(), "identity"),
        (gzip.compress(body.encode()), "gzip"),
        (SECRET.encode(), "gzip"),
    ):
        headers = {"Content-Type": "application/json", "Content-Encoding": encoding, **authorized}
        assert httpx.post(server.url + "/v1/localize" + query, content=content, headers=headers).status_code >= 400
        assert httpx.post(server.url + "/v1/jobs" + query, content=content, headers=headers).status_code == 202
    httpx.get(f"{server.url}/v1/models/{SECRET}{query}")
    httpx.get(f"{server.url}/v1/jobs/{SECRET}", headers=authorized)
    for key in (KEY, SECRET):
        admin(server, f"Bearer {key}")
    log = await asyncio.to_thread(server.stop)
    for event in ("stream_opened", "stream_resumed", "stream_refused", "stream_closed", '"request"', "draining"):
        assert event in log
    tokens = (started["resume_token"], resumed["resume_token"])
    for secret in (SECRET, KEY, str(NUMBER)[:7], "ticket", *tokens):
        assert secret not in log, log[max(0, log.find(secret) - 300) :][:600]
