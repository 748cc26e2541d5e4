"""Who is let in, to what, from where and how much: against real servers, over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from fastapi import APIRouter, FastAPI
from jwt.algorithms import RSAAlgorithm
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from made_up import NATIVE, frames_of, request_of
from poseline.client import RemoteError, StreamClient
from poseline.codec import JSON, encode
from poseline.errors import InputError
from poseline.protocol import Frames, Resume, SessionStart, SessionStarted
from poseline.remote import localize, play, stream_recording
from poseline_service.access import check_declared, every_route
from poseline_service.app import create_app
from poseline_service.cli import read_settings
from poseline_service.errors import Unauthorized
from poseline_service.keys import StoredKey, new_key, read_keys, write_keys
from poseline_service.runtime import Runtime
from poseline_service.settings import ServiceSettings
from servers import PATIENCE, ServerProcess

ISSUER, AUDIENCE = "https://issuer.example", "poseline"
SIGNER = generate_private_key(65537, 2048)
Serve = Callable[..., ServerProcess]


def bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


def token(seconds: float = 60.0, signer: RSAPrivateKey = SIGNER, kid: str = "one", **claims: Any) -> str:
    said = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ada",
        "scope": "openid stream localize",
        "exp": time.time() + seconds,
    }
    return jwt.encode(said | claims, signer, algorithm="RS256", headers={"kid": kid})


def publish(path: Path, **signers: RSAPrivateKey) -> None:
    shown = [
        RSAAlgorithm.to_jwk(one.public_key(), as_dict=True) | {"kid": kid, "alg": "RS256", "use": "sig"}
        for kid, one in signers.items()
    ]
    path.write_text(json.dumps({"keys": shown}))


class House:
    """A server that asks who comes, and keys for it."""

    def __init__(self, folder: Path, serve: Serve, **settings: object) -> None:
        self.file = folder / "keys.json"
        self.keys = {
            "all": self.add("all", ["stream", "localize", "jobs"]),
            "other": self.add("other", ["stream", "jobs"]),
            "one": self.add("one", ["stream"], sessions=1),
            "two": self.add("two", ["jobs"], jobs=2),
            "slow": self.add("slow", ["localize"], requests_per_minute=3),
            "small": self.add("small", ["stream", "localize"], frames_per_day=100),
        }
        publish(folder / "jwks.json", one=SIGNER)
        given: dict[str, object] = {
            "keys": self.file,
            "jwks": folder / "jwks.json",
            "jwt_issuer": ISSUER,
            "jwt_audience": AUDIENCE,
            "recheck_seconds": 0.3,
            "origins": '["https://clinic.example"]',
            **settings,
        }
        self.server = serve(**given).ready()
        self.url, self.ws = self.server.url, self.server.ws

    def add(self, name: str, scopes: list[str], **limits: Any) -> str:
        key, hashed = new_key(name)
        known = read_keys(self.file) if self.file.exists() else []
        write_keys(self.file, [*known, StoredKey(name, hashed, scopes, **limits)])
        return key

    def get(self, path: str, credential: str | None = None, **headers: str) -> httpx.Response:
        return httpx.get(self.url + path, headers=headers | (bearer(credential) if credential else {}))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[House]:
    started: list[ServerProcess] = []

    def serve(**settings: object) -> ServerProcess:
        started.append(ServerProcess(models, **settings))
        return started[-1]

    yield House(tmp_path_factory.mktemp("house"), serve)
    for one in started:
        one.stop()


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def refused(ws: str, **how: Any) -> tuple[int, str]:
    """How an upgrade is refused."""
    with pytest.raises(InvalidStatus) as caught:
        await connect(ws, **how)
    return caught.value.response.status_code, json.loads(caught.value.response.body or b"{}")["code"]


# --- every route -----------------------------------------------------------------------------------------------------

PUBLIC = {"/livez", "/readyz"}
FILES = {"/vision", "/vision/{path:path}"}
"""The pose extractor's parts for the browser, as public as the page."""


def test_every_route_asks_who_comes(house: House, models: Path) -> None:
    """All that the application knows, found by walking it: no list of ours could forget one."""
    app = create_app(ServiceSettings(models=models))
    pages = {"/" + path.name for path in (Path(__file__).parents[2] / "service/poseline_service/static").iterdir()} | {
        "/"
    }
    asked = 0
    for route in every_route(app):
        path, methods = route.path, route.methods
        if path in PUBLIC | FILES or path in pages or path.startswith("/sources/"):
            continue
        for method in methods - {"HEAD"}:
            answer = httpx.request(method, house.url + path.replace("{", "").replace("}", ""))
            assert code_of(answer) == (401, "unauthorized"), (method, path)
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            asked += 1
    assert asked >= 14
    assert all(house.get(path).status_code == 200 for path in PUBLIC)


def test_a_route_that_does_not_say_whom_it_serves_keeps_the_server_from_starting() -> None:
    app, router = FastAPI(openapi_url=None), APIRouter()
    router.get("/v1/forgotten")(lambda: None)
    app.include_router(router)
    with pytest.raises(AssertionError, match="/v1/forgotten"):
        check_declared(app)
    for add in (lambda app: app.add_route("/file", lambda request: None), lambda app: app.mount("/folder", FastAPI())):
        app = FastAPI(openapi_url=None)
        add(app)
        with pytest.raises(AssertionError, match=r"/(file|folder)"):
            check_declared(app)


@pytest.mark.parametrize(
    "header", ["Origin: http://[", "Origin: null", "Host: [", "Host: evil@localhost", "Host: localhost:x"]
)
async def test_a_header_that_makes_no_sense_is_refused_on_every_way_in(server: ServerProcess, header: str) -> None:
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    upgrade += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    host = "" if header.startswith("Host") else "Host: localhost\r\n"
    for path, more in (("/v1/models", "Connection: close\r\n"), ("/v1/stream", upgrade)):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(f"GET {path} HTTP/1.1\r\n{host}{header}\r\n{more}\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
        assert answer.startswith((b"HTTP/1.1 403", b"HTTP/1.1 400")), answer


def test_a_scope_opens_its_routes_alone(house: House) -> None:
    body = encode(request_of(1, 30))
    post = {"Content-Type": "application/json"}
    one = httpx.post(house.url + "/v1/localize", content=body, headers=post | bearer(house.keys["one"]))
    assert code_of(one) == (403, "forbidden_scope")
    assert code_of(house.get("/v1/jobs", house.keys["one"])) == (403, "forbidden_scope")
    assert house.get("/v1/models", house.keys["one"]).status_code == 200
    assert house.get("/openapi.json", house.keys["one"]).status_code == 200
    assert localize(house.url, request_of(1, 30), key=house.keys["all"]).segments is not None


async def test_a_stream_needs_its_scope(house: House) -> None:
    assert await refused(house.ws) == (401, "unauthorized")
    assert await refused(house.ws, additional_headers=bearer(house.keys["slow"])) == (403, "forbidden_scope")
    assert await refused(house.ws, additional_headers=bearer(house.keys["all"] + "x")) == (401, "unauthorized")


@pytest.mark.parametrize(
    "credential",
    ["Basic YTpi", "Bearer", "Bearer pk_all_short", "Bearer a.b.c", "pk", "Bearer pk_none_" + "x" * 43],
)
def test_what_is_no_credential_opens_nothing(house: House, credential: str) -> None:
    answer = httpx.get(house.url + "/v1/models", headers={"Authorization": credential})
    assert code_of(answer) == (401, "unauthorized")
    assert credential.partition(" ")[2] == "" or credential.partition(" ")[2] not in answer.text


# --- tokens ----------------------------------------------------------------------------------------------------------


def test_a_token_of_the_issuer_is_let_in_with_its_scopes(house: House) -> None:
    assert house.get("/v1/models", token()).status_code == 200
    assert code_of(house.get("/v1/jobs", token())) == (403, "forbidden_scope")


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (lambda: token(-100), "token_expired"),
        (lambda: token(iss="https://elsewhere.example"), "unauthorized"),
        (lambda: token(aud="another"), "unauthorized"),
        (lambda: token(sub=""), "unauthorized"),
        (lambda: token(sub="x" * 300), "unauthorized"),
        (lambda: token(nbf=time.time() + 300), "unauthorized"),
        (lambda: token(signer=generate_private_key(65537, 2048)), "unauthorized"),
        (lambda: token(kid="never published"), "unauthorized"),
        (lambda: jwt.encode({"sub": "ada", "exp": time.time() + 60}, None, algorithm="none"), "unauthorized"),
        (lambda: forged_with_the_public_key(), "unauthorized"),
    ],
)
def test_a_token_that_is_not_good_is_refused(house: House, made: Callable[[], str], code: str) -> None:
    assert code_of(house.get("/v1/models", made())) == (401, code)


def forged_with_the_public_key() -> str:
    """Signed as by a shared secret, which is the issuer's public key: anybody can make it."""
    import hmac

    from jwt.utils import base64url_encode

    public = json.dumps(RSAAlgorithm.to_jwk(SIGNER.public_key(), as_dict=True)).encode()
    head = base64url_encode(json.dumps({"alg": "HS256", "kid": "one", "typ": "JWT"}).encode())
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "eve", "scope": "stream", "exp": int(time.time()) + 60}
    text = head + b"." + base64url_encode(json.dumps(said).encode())
    return (text + b"." + base64url_encode(hmac.digest(public, text, "sha256"))).decode()


# --- streams that last -----------------------------------------------------------------------------------------------


async def test_who_expires_is_cut_and_goes_on_with_a_new_token(house: House) -> None:
    """The leeway is over for the first token long before the stream is: the session outlives it."""
    given: list[str] = []

    def fetch() -> str:
        given.append(token(-28.5 if not given else 60))  # 30 seconds of leeway: good for a second and a half
        return given[-1]

    frames = frames_of(5, 240)
    async with StreamClient(house.ws, coordinates=NATIVE, credential=fetch) as client:
        heard = [message async for message in play(client, frames, chunk=4, speed=2.0)]
    assert client.resumes == 1
    assert len(given) == 2
    undisturbed = await finals(house.ws, house.keys["all"])
    assert said(heard) == undisturbed


async def finals_of(client: StreamClient) -> list[Any]:
    return said([message async for message in client])


async def finals(ws: str, key: str) -> list[Any]:
    async with StreamClient(ws, coordinates=NATIVE, credential=key) as client:
        return said([message async for message in play(client, frames_of(5, 240), chunk=16)])


def said(heard: list[Any]) -> list[Any]:
    found = [(one.label, one.start, one.end) for one in heard if type(one).__name__ == "SegmentFinal"]
    assert found
    return found


async def test_a_key_that_is_withdrawn_ends_what_it_opened(house: House) -> None:
    key = house.add("gone", ["stream"])
    await until(lambda: house.get("/v1/models", key).status_code == 200)
    async with connect(house.ws, additional_headers=bearer(key)) as socket:
        await started(socket)
        write_keys(house.file, [one for one in read_keys(house.file) if one.name != "gone"])
        assert await closed(socket) == (4401, "token_expired")
    assert code_of(house.get("/v1/models", key)) == (401, "unauthorized")


async def test_a_key_is_withdrawn_from_a_server_without_a_model_too(tmp_path: Path) -> None:
    key, hashed = new_key("gone")
    write_keys(tmp_path / "keys.json", [StoredKey("gone", hashed, ["jobs"])])
    runtime = Runtime(ServiceSettings(models=tmp_path, keys=tmp_path / "keys.json"))
    await runtime.start()
    assert not runtime.ready
    asking = httpx.Headers(bearer(key))
    await runtime.access.admit(asking, "jobs")
    write_keys(tmp_path / "keys.json", [])
    with suppress(Unauthorized):  # the loop has no other end but that its time is over
        async with asyncio.timeout(PATIENCE):
            while await runtime.access.admit(asking, "jobs"):
                await asyncio.sleep(0.1)
    await runtime.stop()


async def closed(socket: ClientConnection) -> tuple[int, str]:
    """How the server closes it."""
    with suppress(ConnectionClosed):
        async with asyncio.timeout(PATIENCE):
            while True:
                await socket.recv()
    assert socket.close_code is not None
    return socket.close_code, socket.close_reason or ""


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.1)


async def started(socket: ClientConnection, **fields: Any) -> SessionStarted:
    await socket.send(JSON.encode(SessionStart(**({"layout": "body16", "coordinates": NATIVE} | fields))).decode())
    message = JSON.decode_server(await socket.recv(decode=False))
    assert isinstance(message, SessionStarted), message
    return message


# --- what is somebody's ----------------------------------------------------------------------------------------------


async def test_a_session_is_resumed_by_its_owner_alone(house: House) -> None:
    async with connect(house.ws, additional_headers=bearer(house.keys["all"])) as socket:
        first = await started(socket)
        await socket.send(JSON.encode(Frames(0, frames_of(5, 10))).decode())
    resume = Resume(first.session_id, first.resume_token, -1)
    async with connect(house.ws, additional_headers=bearer(house.keys["other"])) as socket:
        await socket.send(JSON.encode(SessionStart(resume=resume)).decode())
        assert json.loads(await socket.recv())["code"] == "unknown_session"
    async with connect(house.ws, additional_headers=bearer(house.keys["all"])) as socket:
        await socket.send(JSON.encode(SessionStart(resume=resume)).decode())
        assert json.loads(await socket.recv())["resumed"]


async def test_sessions_are_seen_and_deleted_by_their_owners_alone(house: House) -> None:
    mine, theirs = bearer(house.keys["all"]), bearer(house.keys["other"])
    async with connect(house.ws, additional_headers=mine) as socket:
        name = (await started(socket)).session_id
        await socket.send(JSON.encode(Frames(0, frames_of(5, 10))).decode())
        for state in ("open", "kept"):
            for method in ("GET", "DELETE"):
                answer = httpx.request(method, f"{house.url}/v1/sessions/{name}", headers=theirs)
                assert code_of(answer) == (404, "unknown_session"), state
            listed = [
                [one["session_id"] for one in house.get("/v1/sessions", house.keys[who]).json()["sessions"]]
                for who in ("all", "other")
            ]
            assert [name in one for one in listed] == [True, False]
            socket.transport.abort()
    assert httpx.delete(f"{house.url}/v1/sessions/{name}", headers=mine).status_code == 204


def test_jobs_are_their_owners_alone(house: House) -> None:
    mine, theirs = bearer(house.keys["all"]), bearer(house.keys["other"])
    post = {"Content-Type": "application/json", "Idempotency-Key": "k"}
    body = encode(request_of(1, 30))
    job = httpx.post(house.url + "/v1/jobs", content=body, headers=post | mine).json()["id"]
    again = httpx.post(house.url + "/v1/jobs", content=encode(request_of(2, 30)), headers=post | theirs)
    assert again.status_code == 202, "somebody else's Idempotency-Key is another"
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/result"), ("GET", "/poses")):
        answer = httpx.request(method, f"{house.url}/v1/jobs/{job}{path}", headers=theirs)
        assert code_of(answer) == (404, "unknown_job")
    listed = [one["id"] for one in httpx.get(house.url + "/v1/jobs", headers=theirs).json()["jobs"]]
    assert again.json()["id"] in listed
    assert job not in listed
    assert httpx.get(f"{house.url}/v1/jobs/{job}", headers=mine).status_code == 200


# --- how much --------------------------------------------------------------------------------------------------------


def test_who_asks_too_often_is_told_when_to_come_back(house: House) -> None:
    answers = [house.get("/v1/models", house.keys["slow"]) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].json()["code"] == "rate_limited"
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 20
    assert answers[0].headers["RateLimit-Policy"] == '"requests";q=3;w=60'
    assert answers[0].headers["RateLimit"].startswith('"requests";r=2;')
    assert house.get("/v1/models", house.keys["all"]).status_code == 200, "others are served"


async def test_a_key_opens_so_many_streams(house: House) -> None:
    headers = bearer(house.keys["one"])
    async with connect(house.ws, additional_headers=headers):
        assert await refused(house.ws, additional_headers=headers) == (429, "too_many_sessions")
    async with asyncio.timeout(PATIENCE):
        while True:  # the place is free once the first has left
            try:
                async with connect(house.ws, additional_headers=headers):
                    break
            except InvalidStatus:
                await asyncio.sleep(0.05)


def test_a_key_has_so_many_jobs_waiting(house: House) -> None:
    """The first two are still being uploaded."""

    def upload(key: str) -> socket.socket:
        caller = socket.create_connection(("127.0.0.1", house.server.port))
        head = f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nExpect: 100-continue\r\n"
        caller.sendall((head + "Content-Type: application/json\r\nContent-Length: 9\r\n\r\n").encode())
        assert caller.recv(4096).startswith(b"HTTP/1.1 100")
        return caller

    post = {"Content-Type": "application/json"}
    with upload(house.keys["two"]), upload(house.keys["two"]):
        told = httpx.post(house.url + "/v1/jobs", content=b"{}", headers=post | bearer(house.keys["two"]))
        assert code_of(told) == (429, "too_many_jobs")
        assert int(told.headers["Retry-After"]) > 0
        others = httpx.post(house.url + "/v1/jobs", content=b"{}", headers=post | bearer(house.keys["other"]))
        assert others.status_code == 202


async def test_a_quota_is_of_frames_however_they_come(house: House) -> None:
    key = house.keys["small"]
    localize(house.url, request_of(1, 60), key=key)
    with pytest.raises(RemoteError) as told:
        localize(house.url, request_of(1, 60), key=key)
    assert told.value.code == "quota_exceeded"
    async with StreamClient(house.ws, coordinates=NATIVE, credential=key) as client:
        await client.send(frames_of(5, 60)[:50])
        with pytest.raises(RemoteError, match="a day"):
            await finals_of(client)
    assert client.resumes == 0, "to come back would change nothing"
    async with connect(house.ws, additional_headers=bearer(key)) as socket:
        await started(socket)
        for n in (0, 30):
            await socket.send(JSON.encode(Frames(n, frames_of(5, 60)[n : n + 30])).decode())
        assert await closed(socket) == (4429, "quota_exceeded")


# --- tickets, and from where -----------------------------------------------------------------------------------------


def buy(house: House, credential: str) -> str:
    answer = httpx.post(house.url + "/v1/stream/tickets", headers=bearer(credential))
    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.json()["ticket"]


async def test_a_ticket_opens_one_stream(house: House) -> None:
    ticket = buy(house, house.keys["all"])
    async with connect(f"{house.ws}?ticket={ticket}") as socket:
        await started(socket)
    assert await refused(f"{house.ws}?ticket={ticket}") == (401, "unauthorized")
    assert code_of(house.get(f"/v1/models?ticket={buy(house, house.keys['all'])}")) == (401, "unauthorized")
    denied = httpx.post(house.url + "/v1/stream/tickets", headers=bearer(house.keys["slow"]))
    assert denied.status_code in (403, 429)


async def test_pages_of_other_origins_are_refused(house: House) -> None:
    how = {"additional_headers": bearer(house.keys["all"])}
    assert await refused(house.ws, origin="https://evil.example", **how) == (403, "origin_not_allowed")
    async with connect(house.ws, origin="https://clinic.example", **how):
        pass
    async with connect(house.ws, origin=house.url, **how):  # its own page
        pass
    evil = house.get("/v1/models", house.keys["all"], Origin="https://evil.example")
    assert code_of(evil) == (403, "origin_not_allowed")
    good = house.get("/v1/models", house.keys["all"], Origin="https://clinic.example")
    assert good.headers["Access-Control-Allow-Origin"] == "https://clinic.example"
    asking = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    for origin, status in (("https://clinic.example", 200), ("https://evil.example", 400)):
        answer = httpx.options(house.url + "/v1/localize", headers=asking | {"Origin": origin})
        assert answer.status_code == status


def test_without_keys_no_page_from_elsewhere_gets_in(server: ServerProcess) -> None:
    """Neither by a form that a page posts, nor by a name of its own that it lets lead to this machine."""
    posted = httpx.post(server.url + "/v1/jobs", files={"file": b"x"}, headers={"Origin": "https://evil.example"})
    assert code_of(posted) == (403, "origin_not_allowed")
    rebound = {"Host": "evil.example", "Origin": "http://evil.example"}
    assert code_of(httpx.get(server.url + "/v1/models", headers=rebound)) == (403, "host_not_allowed")
    assert httpx.get(server.url + "/v1/models", headers={"Host": "localhost:1"}).status_code == 200


# --- settings and the command ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_without_keys_only_this_machine_is_served(host: str) -> None:
    with pytest.raises(InputError, match="POSELINE_KEYS"):
        read_settings(host=host)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"jwks": "keys.json"}, "JWT_ISSUER"),
        ({"jwks": "http://a.example/keys", "jwt_issuer": "i", "jwt_audience": "a"}, "https"),
        ({"origins": ["https://a.example/path"]}, "no origin"),
        ({"origins": ["*"]}, "no origin"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_settings(**settings)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no file of keys"),
        ('{"keys":[{"name":"A","hash":"' + "0" * 64 + '","scopes":[]}]}', "a name is"),
        ('{"keys":[{"name":"a","hash":"0","scopes":[]}]}', "SHA-256"),
        ('{"keys":[{"name":"a","hash":"' + "0" * 64 + '","scopes":["admin"]}]}', "no such scope"),
        ('{"keys":[{"name":"a","hash":"' + "0" * 64 + '","scopes":[],"more":1}]}', "more"),
    ],
)
def test_a_file_of_keys_that_is_wrong_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_keys(path)


def test_the_command_makes_lists_and_revokes_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"

    def keys(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "poseline_cli", "keys", *args, "--file", str(file)]
        return subprocess.run(command, capture_output=True, text=True)

    made = keys("new", "lab", "--scopes", "stream", "--days", "30", "--sessions", "2")
    secret = made.stdout.strip()
    assert secret.startswith("pk_lab_")
    assert secret not in file.read_text()
    assert "exists" in (again := keys("new", "lab")).stderr or again.returncode == 1
    assert "lab" in keys("list").stdout
    assert keys("revoke", "nobody").returncode == 1
    assert keys("revoke", "lab").returncode == 0
    assert read_keys(file) == []


def test_a_slip_of_the_pen_in_the_file_locks_nobody_out(house: House) -> None:
    good = house.file.read_bytes()
    house.file.write_text("{")
    time.sleep(3)
    assert house.get("/v1/models", house.keys["all"]).status_code == 200
    house.file.write_bytes(good)


def test_a_recording_is_streamed_with_a_key(house: House) -> None:
    from made_up import recording

    people = {"p": recording(1, 60)}
    assert stream_recording(house.ws, people, credential=house.keys["all"])
    with pytest.raises(RemoteError) as told:
        stream_recording(house.ws, people)
    assert told.value.code == "unauthorized"


def test_no_credential_reaches_the_log(models: Path, tmp_path: Path) -> None:
    started: list[ServerProcess] = []

    def serve(**settings: object) -> ServerProcess:
        started.append(ServerProcess(models, **settings))
        return started[-1]

    house = House(tmp_path, serve)
    ticket, secret, wrong = buy(house, house.keys["all"]), token(), house.keys["all"][:-1] + "_"
    for credential in (house.keys["all"], secret, wrong, token(-100)):
        house.get("/v1/models", credential)
    with socket.create_connection(("127.0.0.1", house.server.port)) as caller:
        head = f"GET /v1/stream?ticket={ticket}x HTTP/1.1\r\nHost: localhost\r\n"
        caller.sendall((head + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n").encode())
        caller.recv(4096)
    log = house.server.stop()
    assert log.count('"event": "denied"') == 3
    assert '"event": "stream_refused"' in log
    for one in (house.keys["all"], secret, wrong, ticket, "pk_"):
        assert one not in log
