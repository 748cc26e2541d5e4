"""Where webhooks may go, and that nothing else can be reached: the list, the addresses, the queues."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from msgspec import json

from poseline.errors import InputError
from poseline.webhooks import Event
from poseline_service.deliveries import Delivery, DeliveryQueue, MemoryQueue, RedisQueue
from poseline_service.redis import Redis
from poseline_service.sender import DeliveryFailed, Lookup, Sender
from poseline_service.targets import Target, is_public, read_targets
from receiving import Receiver

SECRET = "whsec_" + b64encode(bytes(range(24))).decode()
"""The same in every process: it is in the names of tests."""
SECRET_LINE = f'secret = "{SECRET}"'


# --- the list --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("url =", "cannot be read"),
        ('url = "https://example.org/"', "exactly one of secret"),
        (f'url = "https://example.org/"\n{SECRET_LINE}\nsecret_env = "OTHER"', "exactly one of secret"),
        ('url = "https://example.org/"\nsecret_env = "NO_SUCH_VARIABLE"', "no environment variable"),
        ('url = "https://example.org/"\nsecret_file = "nowhere"', "No such file"),
        ('url = "https://example.org/"\nsecret = "guess"', "whsec_"),
        (f'url = "http://example.org/"\n{SECRET_LINE}', "https://host/path"),
        (f'url = "file:///etc/passwd"\n{SECRET_LINE}\nallow_private = true', "https://host/path"),
        (f'url = "https://me:word@example.org/"\n{SECRET_LINE}', "without user name"),
        (f'url = "https://10.0.0.1/"\n{SECRET_LINE}', "not a public address"),
        (f'url = "https://[::1]/"\n{SECRET_LINE}', "not a public address"),
        (f'url = "https://example.org/"\n{SECRET_LINE}\nevents = []', "events are none"),
        (f'url = "https://example.org/"\n{SECRET_LINE}\nevents = ["segment.guessed"]', "Invalid enum value"),
        (f'url = "https://example.org/"\n{SECRET_LINE}\nredirects = true', "unknown field"),
    ],
)
def test_a_list_with_a_fault_is_refused(tmp_path: Path, lines: str, why: str) -> None:
    path = tmp_path / "webhooks.toml"
    path.write_text(f"[ward]\n{lines}\n")
    with pytest.raises(InputError, match=why) as refused:
        read_targets(path)
    assert SECRET not in str(refused.value)


def test_a_secret_may_stand_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ward").write_text(SECRET + "\n")
    monkeypatch.setenv("WARD_SECRET", SECRET)
    path = tmp_path / "webhooks.toml"
    path.write_text(
        '[file]\nurl = "https://example.org/"\nsecret_file = "ward"\n'
        '[env]\nurl = "https://example.org/"\nsecret_env = "WARD_SECRET"\nevents = ["job.finished"]\n'
    )
    found = read_targets(path)
    assert {one.secret for one in found.values()} == {SECRET}
    assert (found["file"].events, found["env"].events) == ({"segment.final"}, {"job.finished"})


PUBLIC = ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822", "2002:5db8:d822::1"]
OTHERS = [
    *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1"),
    *("255.255.255.255", "198.18.0.1", "192.0.2.1", "240.0.0.1", "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254"),
    *("ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1"),
    *("2002:a9fe:a9fe::1", "2001::1", "::127.0.0.1"),
]


@pytest.mark.parametrize("address", PUBLIC + OTHERS)
def test_what_is_public(address: str) -> None:
    assert is_public(ip_address(address)) == (address in PUBLIC)


# --- one attempt -----------------------------------------------------------------------------------------------------


def says(*addresses: str) -> Lookup:
    async def lookup(host: str, port: int) -> list[str]:
        return list(addresses)

    return lookup


def target(url: str, allow_private: bool = True) -> Target:
    return Target("ward", httpx.URL(url), SECRET, frozenset({"segment.final"}), allow_private, None)


def delivery() -> Delivery:
    event = Event(id="ses_1.g1.1.final", source="/v1/sessions/ses_1", type="poseline.segment.final", time="", data={})
    return Delivery("ward", event.id, json.encode(event), 0.0)


async def attempt(there: Target, lookup: Lookup, context: ssl.SSLContext | None = None, timeout: float = 5.0) -> str:
    """How it ended."""
    sender = Sender(there, lookup, context or ssl.create_default_context(), timeout)
    try:
        await sender.send(delivery())
        return "delivered"
    except DeliveryFailed as failed:
        return failed.outcome
    finally:
        await sender.close()


async def test_the_address_that_was_checked_is_connected_to() -> None:
    """No resolver knows these names: that they are reached shows that it is not asked again."""
    with Receiver(SECRET) as receiver:
        url = f"http://ward.invalid:{receiver.port}/hook"
        assert await attempt(target(url), says("127.0.0.1")) == "delivered"
        assert receiver.came[0][1]["host"] == f"ward.invalid:{receiver.port}"
        assert await attempt(target(url), says("127.0.0.2", "127.0.0.1")) == "delivered"
        for answer in (["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["fe80::1%lo"]):
            assert await attempt(target(url, allow_private=False), says(*answer)) == "forbidden"
        assert len(receiver.came) == 2


async def test_who_takes_too_long_is_not_waited_for() -> None:
    async def never(host: str, port: int) -> list[str]:
        await asyncio.sleep(60)
        return []

    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_target = target(f"http://ward.invalid:{silent.getsockname()[1]}/")
        assert await attempt(silent_target, says("127.0.0.1"), timeout=0.1) == "timeout"
        assert await attempt(silent_target, never, timeout=0.1) == "timeout"


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, ssl.SSLContext]]:
    """A port that answers as ward.invalid over TLS, and who believes it."""
    folder = tmp_path_factory.mktemp("tls")
    made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key -out cert -subj /CN=ward"
    command = [*made.split(), "-addext", "subjectAltName=DNS:ward.invalid"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(folder / "cert", folder / "key")
    server.socket = theirs.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server.server_address[1], ssl.create_default_context(cafile=folder / "cert")
    server.shutdown()
    server.server_close()
    thread.join()


async def test_tls_proves_the_name_not_the_address(certified: tuple[int, ssl.SSLContext]) -> None:
    port, believing = certified
    assert await attempt(target(f"https://ward.invalid:{port}/"), says("127.0.0.1"), believing) == "delivered"
    assert await attempt(target(f"https://other.invalid:{port}/"), says("127.0.0.1"), believing) == "unreachable"
    assert await attempt(target(f"https://ward.invalid:{port}/"), says("127.0.0.1")) == "unreachable"


# --- the queues ------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "redis"])
def queue(request: pytest.FixtureRequest, redis: str) -> DeliveryQueue:
    return MemoryQueue(3) if request.param == "memory" else RedisQueue(Redis(redis, 2.0), 3, 60)


async def test_a_queue_lends_what_is_due(queue: DeliveryQueue, tmp_path: Path) -> None:
    ward = f"ward of {tmp_path.name}"
    one, two, three, four = (Delivery(ward, name, b"body", 1.0) for name in ("1", "2", "3", "4"))
    try:
        assert await queue.add([one, two]) == []
        assert await queue.add([one, three, four]) == [four], "known ones are not added again; there is room for three"
        taken, waiting = await queue.take(ward, 2, 0.2)
        assert (taken, waiting) == ([one, two], 3)
        assert await queue.take(ward, 9, 0.2) == ([three], 3), "nobody else gets what is lent"
        assert await queue.take("other", 9, 0.2) == ([], 0)
        await queue.done(one)
        await queue.again(two, 60)
        await asyncio.sleep(0.3)
        assert await queue.take(ward, 9, 60) == ([three], 2), "whose holder said nothing is due again"
        await queue.again(three, 0)
        (again,), _ = await queue.take(ward, 9, 60)
        assert (again.event_id, again.attempts) == ("3", 1)
        assert await queue.add([four]) == [], "there is room again"
    finally:
        for delivery in (one, two, three, four):
            await queue.done(delivery)
        assert await queue.take(ward, 9, 0) == ([], 0)
        await queue.close()
