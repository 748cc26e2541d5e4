"""Webhooks from real servers to a real receiver: signed, at least once whatever breaks, never where they should not go."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec import to_builtins

from cutting import Relay
from job_calls import JSON, accepted, over
from made_up import NATIVE, frames_of, request_of
from poseline import protocol
from poseline.client import RemoteError, StreamClient
from poseline.codec import encode
from poseline.remote import play
from poseline.webhooks import KINDS, new_secret
from poseline_service.metrics import Metrics
from poseline_service.settings import ServiceSettings
from poseline_service.webhooks import Webhooks
from receiving import Receiver
from servers import PATIENCE, ServerProcess, free_ports

SECRET = new_secret()
SOON = {"webhook_first_retry": 0.05, "webhook_last_retry": 0.2}
Serve = Callable[..., ServerProcess]


def targets(folder: Path, **tables: dict[str, Any]) -> Path:
    """A file of targets; all share one secret."""
    lines: list[str] = []
    for name, table in tables.items():
        whole = {"secret": SECRET, "allow_private": True} | table
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in whole.items())]
    path = folder / "webhooks.toml"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(SECRET) as one:
        yield one


async def conversation(ws: str, *webhooks: str, **kwargs: Any) -> list[Any]:
    async with StreamClient(ws, coordinates=NATIVE, webhooks=webhooks) as client:
        return [message async for message in play(client, frames_of(5, 300), chunk=20, **kwargs)]


def event_ids(heard: list[Any]) -> list[str]:
    return [f"{one.session_id}.{one.segment_id}.final" for one in heard if isinstance(one, protocol.SegmentFinal)]


async def test_what_is_told_to_the_client_is_told_to_the_target(
    serve: Serve, receiver: Receiver, tmp_path: Path
) -> None:
    finals = {"url": receiver.url + "?of=ward"}
    every = {"url": receiver.url, "events": list(KINDS)}
    server = serve(webhooks=targets(tmp_path, finals=finals, every=every), **SOON).ready()
    heard = await conversation(server.ws, "finals")
    assert len(event_ids(heard)) > 3
    receiver.wait_for(lambda: len(receiver.taken) >= len(event_ids(heard)))
    assert sorted(receiver.ids()) == sorted(event_ids(heard)), "once where nothing fails, and nothing else"
    by_id = {event.id: event for event in receiver.taken}
    for one in heard:
        if isinstance(one, protocol.SegmentFinal):
            event = by_id[f"{one.session_id}.{one.segment_id}.final"]
            said = to_builtins(one)
            assert event.data == {name: said[name] for name in said if name not in ("seq", "type")}
            assert (event.type, event.subject) == ("poseline.segment.final", one.segment_id)
            assert event.source == f"/v1/sessions/{one.session_id}"
    path, headers, _ = receiver.came[0]
    assert path == "/hook?of=ward"
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    assert headers["content-type"].startswith("application/cloudevents+json")

    receiver.taken.clear()
    heard = await conversation(server.ws, "every", "every")
    kinds = {protocol.SegmentStarted: "started", protocol.SegmentFinal: "final"}
    expected = [f"{one.session_id}.{one.segment_id}.{kinds[type(one)]}" for one in heard if type(one) in kinds]
    expected.append(f"{heard[-1].session_id}.closed")
    receiver.wait_for(lambda: len(receiver.taken) >= len(expected))
    assert sorted(receiver.ids()) == sorted(expected)

    receiver.taken.clear()
    recording = {"params": {"webhook": "every"}, "content": encode(request_of(3, 60)), "headers": JSON}
    job = over(server, accepted(httpx.post(f"{server.url}/v1/jobs", **recording)))
    receiver.wait_for(lambda: bool(receiver.taken))
    (event,) = receiver.taken
    assert (event.id, event.source) == (f"job_{job['id']}.finished", f"/v1/jobs/{job['id']}")
    assert event.data == job
    assert job["state"] == "succeeded"
    assert "of=ward" not in server.stop(), "an address may hold a secret"


async def test_a_delivery_that_fails_is_tried_again_until_it_succeeds(
    serve: Serve, receiver: Receiver, tmp_path: Path
) -> None:
    """A failing, a redirecting, a silent and an absent target; each is asked again, and nowhere else."""
    receiver.answers = [500, 302, None, 429, 503, 307]
    later, _ = free_ports()
    there = {"here": {"url": receiver.url}, "later": {"url": f"http://localhost:{later}/"}}
    server = serve(webhooks=targets(tmp_path, **there), **SOON).ready()
    heard = await conversation(server.ws, "here", "later")
    receiver.wait_for(lambda: len(receiver.taken) >= len(event_ids(heard)))
    assert sorted(receiver.ids()) == sorted(event_ids(heard))
    failed = [headers["webhook-id"] for _, headers, _ in receiver.came]
    assert len(failed) == len(receiver.taken) + 6
    assert set(failed) == set(event_ids(heard)), "an event keeps its id"
    assert {path for path, _, _ in receiver.came} == {"/hook"}, "a redirect is an answer like any other"
    attempts = "poseline_webhook_attempts_total"
    assert server.metrics()[attempts + '{outcome="refused",target="here"}'] == 5
    assert server.metrics()[attempts + '{outcome="unreachable",target="here"}'] == 1
    assert server.metrics()[attempts + '{outcome="unreachable",target="later"}'] >= len(failed) - 6
    with Receiver(SECRET, port=later) as other:
        other.wait_for(lambda: len(other.taken) >= len(event_ids(heard)))
        assert sorted(other.ids()) == sorted(event_ids(heard))
    server.wait_for_metric('poseline_webhooks_waiting{target="later"}', 0)


async def test_nothing_goes_where_it_was_not_allowed_to(serve: Serve, receiver: Receiver, tmp_path: Path) -> None:
    """A name of this host, a target that is given up, and names that nobody may choose."""
    with socket.create_server(("127.0.0.1", 0)) as inside:
        inside.settimeout(0)
        url = f"https://localhost:{inside.getsockname()[1]}/"
        there = {
            "inside": {"url": url, "allow_private": False},
            "others": {"url": receiver.url, "owners": ["somebody"]},
            "jobs": {"url": receiver.url, "events": ["job.finished"]},
        }
        server = serve(webhooks=targets(tmp_path, **there), webhook_give_up=0.3, **SOON).ready()
        heard = await conversation(server.ws, "inside")
        dead = 'poseline_webhook_dead_letters_total{reason="too_old",target="inside"}'
        server.wait_for_metric(dead, len(event_ids(heard)))
        assert (
            server.metrics()['poseline_webhook_attempts_total{outcome="forbidden",target="inside"}'] > len(heard) / 99
        )
        with pytest.raises(BlockingIOError):
            inside.accept()
    for name in ("nobody", "others", "jobs", receiver.url):
        with pytest.raises(RemoteError) as refused:
            await conversation(server.ws, name)
        assert refused.value.code == "unknown_webhook"
    answer = httpx.post(f"{server.url}/v1/jobs?webhook=others", json={})
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_webhook")
    assert receiver.came == []
    assert SECRET not in server.stop()


async def test_a_killed_servers_events_are_delivered_by_another(
    serve: Serve, receiver: Receiver, redis: str, tmp_path: Path
) -> None:
    """The target is down while finals are told; then the server is killed; the session and its events go on elsewhere."""
    receiver.otherwise = 503
    settings = {"state_url": redis, "webhook_timeout": 0.3, "ack_frames": 16, **SOON}
    path = targets(tmp_path, ward={"url": receiver.url})
    first, second = (serve(webhooks=path, **settings).ready() for _ in range(2))
    async with Relay(first.port) as line, StreamClient(line.ws, coordinates=NATIVE, webhooks=["ward"]) as client:
        heard: list[Any] = []
        async for message in play(client, frames_of(5, 400), chunk=5, speed=20):
            heard.append(message)
            if len(event_ids(heard)) == 4 and first.process.poll() is None:
                line.target = second.port
                receiver.wait_for(lambda: bool(receiver.came))
                first.process.kill()
                first.process.wait()
                receiver.otherwise = 204
    expected = event_ids(heard)
    assert len(expected) > 6
    receiver.wait_for(lambda: set(receiver.ids()) >= set(expected))
    assert set(receiver.ids()) == set(expected)
    second.wait_for_metric('poseline_webhooks_waiting{target="ward"}', 0)


@pytest.mark.parametrize("where", ["memory", "redis"])
async def test_who_stops_sends_what_can_be_sent(
    where: str, serve: Serve, receiver: Receiver, redis: str, tmp_path: Path
) -> None:
    """In memory, what failed is tried once more; in a store, it is left to the next server."""
    receiver.otherwise = 503
    state = {"state_url": redis} if where == "redis" else {}
    path = targets(tmp_path, ward={"url": receiver.url})
    server = serve(webhooks=path, webhook_first_retry=2, webhook_timeout=0.5, **state).ready()
    heard = await conversation(server.ws, "ward")
    receiver.wait_for(lambda: len(receiver.came) >= len(event_ids(heard)))
    receiver.otherwise = 204 if where == "memory" else 503
    said = server.stop()
    if where == "redis":
        receiver.otherwise = 204
        serve(webhooks=path, **state, **SOON).ready()
        receiver.wait_for(lambda: len(receiver.taken) >= len(event_ids(heard)))
    assert sorted(receiver.ids()) == sorted(event_ids(heard))
    assert "webhook_given_up" not in said


async def test_a_name_that_is_looked_up_for_long_holds_up_no_other_target(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's resolver, but for one name whose name server does not answer."""
    asked, answered = threading.Event(), threading.Event()
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host == "stuck.invalid":
            asked.set()
            assert answered.wait(PATIENCE)
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    tables = {
        "stuck": {"url": "http://stuck.invalid/"},
        "good": {"url": receiver.url.replace("127.0.0.1", "localhost")},
    }
    path = targets(tmp_path, **{name: one | {"events": ["job.finished"]} for name, one in tables.items()})
    webhooks = Webhooks(ServiceSettings(webhooks=path), Metrics())
    await webhooks.start()
    try:
        for n, name in enumerate(["stuck", "stuck", "stuck", "good"]):
            never = dict.fromkeys(("source", "started", "finished", "expires", "error"))
            job = protocol.JobStatus(
                id=str(n), kind="video", state="failed", progress=0, created=datetime.now(UTC), **never
            )
            webhooks.of_job([name], "")(job)
            await asyncio.to_thread(asked.wait, PATIENCE)
        async with asyncio.timeout(PATIENCE):
            while not receiver.taken:
                await asyncio.sleep(0.02)
        assert not answered.is_set()
    finally:
        answered.set()
        await webhooks.stop()
