"""The golden transcripts hold on both sides: a real server says what is written, and the live client does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve

import transcripts
from poseline import protocol
from poseline.bundle import find_bundle
from poseline.client import RemoteError, StreamClient
from poseline.codec import CODECS, JSON, Codec
from poseline.translation import model_info
from servers import PATIENCE, ServerProcess
from transcripts import FILES, Line, load, play

PROJECT = Path(__file__).parents[2]
STREAMS = [path for path in FILES if path.stem not in ("refused-start", "refused-limits")]
"""One session each, begun well: what the live client can do."""


def name_of(path: Path) -> str:
    return path.stem


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    process = ServerProcess(PROJECT / "models")
    try:
        yield process.ready()
    finally:
        process.stop()


# --- the files ---------------------------------------------------------------------------------------------------


def test_they_are_of_the_default_model() -> None:
    bundle = find_bundle(PROJECT / "models")
    model = msgspec.to_builtins(model_info(bundle.manifest, bundle.digest))
    for path in FILES:
        assert load(path)[0]["model"] == model, "record them again: scripts/record_transcripts.py"


def test_they_hold_every_kind_of_message() -> None:
    messages = [line["message"] for path in FILES for line in load(path)[1] if "message" in line]
    kinds = {kind.__struct_config__.tag for kind in (protocol.ClientMessage | protocol.ServerMessage).__args__}
    assert kinds - {one["type"] for one in messages} == {"session.draining"}
    assert all(path.stat().st_size < 300 * 1024 for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_message_is_as_its_schema_says(path: Path) -> None:
    document = json.loads((PROJECT / "docs" / "schemas" / "stream.schema.json").read_text("utf-8"))
    valid = {
        side: jsonschema_rs.validator_for({**document, "anyOf": [{"$ref": f"#/$defs/{name}"}]})
        for side, name in (("client", "ClientMessage"), ("server", "ServerMessage"))
    }
    for line in load(path)[1]:
        if "message" in line and line["message"]["type"] != "hello":  # which is there to be unknown
            valid[line["from"]].validate(line["message"])


# --- against a server --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_server_says_what_is_written(server: ServerProcess, path: Path, codec: Codec) -> None:
    play(server.ws, load(path)[1], codec)


def told(lines: list[Line], kind: str) -> dict[str, Any]:
    return next(line["message"] for line in lines if line.get("message", {}).get("type") == kind)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("segment.final", {"label": "nothing"}),
        ("segment.final", {"score": 0.5}),
        ("segment.final", {"forced": "drain"}),
        ("segment.started", {"start": 0.001}),
        ("scores", {"top": [[0, 0.9]]}),
        ("session.closed", {"segments": 99}),
        ("session.started", {"news": 1}),
        ("track.started", {"track_id": "p2"}),
    ],
)
def test_a_server_that_says_something_else_is_found_out(
    server: ServerProcess, kind: str, change: dict[str, Any]
) -> None:
    lines = deepcopy(load(transcripts.FOLDER / "segments.jsonl")[1])
    told(lines, kind).update(change)
    with pytest.raises(AssertionError):
        play(server.ws, lines)


@pytest.mark.parametrize("what", ["less", "close"])
def test_a_server_that_says_more_or_leaves_otherwise_is_found_out(server: ServerProcess, what: str) -> None:
    lines = load(transcripts.FOLDER / "segments.jsonl")[1]
    if what == "less":
        lines = [line for line in lines if line.get("message", {}).get("type") != "segment.final"]
    else:
        lines[-1] = {"from": "server", "close": 4400}
    with pytest.raises(AssertionError):
        play(server.ws, lines)


# --- against the live client -------------------------------------------------------------------------------------


class ScriptedServer:
    """Plays the server's side of a transcript, and notes what the client sent otherwise than it is written."""

    def __init__(self, lines: list[Line], codec: Codec) -> None:
        self._lines, self._codec = iter(lines), codec
        self.wrong: list[str] = []
        self.left = len(lines)

    async def __call__(self, socket: ServerConnection) -> None:
        for line in self._lines:
            self.left -= 1
            if line.get("connect"):
                continue
            if line.get("cut"):
                socket.transport.abort()
                return
            if "close" in line:
                await socket.close(line["close"])
                return
            if line["from"] == "client":
                if known := _typed(line):
                    self._check(self._codec.decode_client(await socket.recv(decode=False)), known)
            elif not line.get("lost"):
                said = JSON.decode_server(json.dumps(line["message"]).encode())
                assert said is not None
                await socket.send(self._codec.encode(said), text=self._codec.text)

    def _check(self, sent: protocol.ClientMessage, expected: protocol.ClientMessage) -> None:
        if isinstance(sent, protocol.SessionStart) and isinstance(expected, protocol.SessionStart):
            sent, expected = (msgspec.structs.replace(one, client=None) for one in (sent, expected))
        if sent != expected:
            self.wrong.append(f"sent {sent}, expected {expected}"[:2000])


def _typed(line: Line) -> protocol.ClientMessage | None:
    """None for what is there to be unknown: no client of this version sends it."""
    if line["message"]["type"] == "hello":
        return None
    return JSON.decode_client(json.dumps(line["message"]).encode())


async def perform(client: StreamClient, lines: list[Line]) -> list[protocol.ServerMessage]:
    """The calls that make the client send what is written, each when all above it was heard; and all that it heard."""
    heard: list[protocol.ServerMessage] = []
    due, sent = 0, 0
    for line in lines:
        if line["from"] == "server":
            due += "message" in line and not line.get("lost") and not _private(line["message"])
        elif "message" in line:
            while len(heard) < due:
                message = await client.receive()
                assert message is not None
                heard.append(message)
            match message := _typed(line):
                case protocol.Frames() if message.seq >= sent:
                    await client.send(message.frames)
                    sent = message.seq + len(message.frames)
                case protocol.Flush():
                    await client.flush(message.track_id)
                case protocol.SessionUpdate():
                    await client.update(**message.options)
                case protocol.Keepalive():
                    await client.keepalive()
                case protocol.SessionClose():
                    await client.close()
                case _:
                    pass  # starts, and resumes with what was lost, by itself
    return heard + [message async for message in client]


def _private(message: dict[str, Any]) -> bool:
    """What a client does not pass on: starts, and what it raises."""
    return message["type"] == "session.started" or bool(message.get("fatal"))


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("path", STREAMS, ids=name_of)
async def test_the_client_does_what_is_written(path: Path, codec: Codec) -> None:
    lines = load(path)[1]
    start = next(known for line in lines if "message" in line and (known := _typed(line)))
    assert isinstance(start, protocol.SessionStart)
    assert start.layout is not msgspec.UNSET
    script = ScriptedServer(lines, codec)
    async with serve(script, "127.0.0.1", 0, subprotocols=[codec.subprotocol], compression=None) as listening:  # type: ignore[list-item]
        port = listening.sockets[0].getsockname()[1]
        client = StreamClient(
            f"ws://127.0.0.1:{port}/v1/stream",
            layout=start.layout,
            coordinates=start.coordinates,
            options=start.options,
            model=start.model,
            fps=start.fps,
            codec=codec,
        )
        said = [line["message"] for line in lines if line["from"] == "server" and "message" in line]
        async with asyncio.timeout(PATIENCE), client:
            if fatal := [one for one in said if one.get("fatal")]:
                with pytest.raises(RemoteError) as raised:
                    await perform(client, lines)
                assert raised.value.code == fatal[0]["code"]
            else:
                heard = await perform(client, lines)
                kept = [
                    line for line in lines if line["from"] == "server" and "message" in line and not line.get("lost")
                ]
                texts = [json.dumps(line["message"]).encode() for line in kept if not _private(line["message"])]
                assert heard == [JSON.decode_server(text) for text in texts]
    assert script.wrong == []
    assert script.left == 0
    assert client.resumes == sum(bool(line.get("cut")) for line in lines)
