"""Golden transcripts (docs/protocol.md, "Golden transcripts"): read, played against a server, compared.

A transcript is a list of lines. Played is the client's side, by the page's own rules; what the server says is compared with
what is written, but for what may differ from one run to the next.
"""

from __future__ import annotations

import json
import socket
import struct
from base64 import b64decode
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from poseline.codec import JSON, Codec
from servers import PATIENCE

FOLDER = Path(__file__).parents[1] / "docs" / "transcripts"
FILES = sorted(FOLDER.glob("*.jsonl"))

Line = dict[str, Any]
Message = dict[str, Any]

VARY = {"seq", "session_id", "resume_token", "resume_ttl", "server_seq", "limits", "wall_seconds", "detail"}
"""Fields that differ from one run to the next."""
CLOSE = 1e-4
"""How far two numbers may be apart."""
SURE = 0.01
"""Least score of a class that is compared by name."""


def load(path: Path) -> tuple[Line, list[Line]]:
    """What the file is about, and its lines."""
    head, *lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return head, lines


def save(path: Path, head: Line, lines: list[Line]) -> None:
    written = [json.dumps(line, ensure_ascii=False, separators=(",", ":")) for line in (head, *lines)]
    path.write_text("\n".join(written) + "\n", "utf-8")


class Wire:
    """One connection: messages as JSON has them, in either encoding."""

    def __init__(self, url: str, codec: Codec) -> None:
        self._codec = codec
        self._open = ExitStack()
        self._socket: ClientConnection = self._open.enter_context(
            connect(url, subprotocols=[Subprotocol(codec.subprotocol)], compression=None, max_size=None)
        )

    def send(self, message: Message) -> None:
        if self._codec.text:
            self._socket.send(json.dumps(message))
        else:
            self._socket.send(msgspec.msgpack.encode(_packed(message)))

    def hear(self, seconds: float) -> Message | int | None:
        """The next message, the code with which the server closed, or None after so many seconds."""
        try:
            data = self._socket.recv(timeout=seconds)
        except TimeoutError:
            return None
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006
        return json.loads(data) if self._codec.text else msgspec.msgpack.decode(data)

    def close(self) -> None:
        self._open.close()

    def cut(self) -> None:
        """Gone without a word."""
        self._socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.socket.shutdown(socket.SHUT_RD)
        self._socket.socket.close()


def _packed(message: Message) -> Message:
    """The same for MessagePack: packed keypoints are bytes."""
    if message.get("type") != "frames":
        return message
    frames = [
        frame | {"people": [one | {"kp": _bytes(one["kp"])} for one in frame["people"]]} for frame in message["frames"]
    ]
    return message | {"frames": frames}


def _bytes(kp: Any) -> Any:
    return b64decode(kp) if isinstance(kp, str) else kp


# --- playing -----------------------------------------------------------------------------------------------------


def play(url: str, lines: list[Line], codec: Codec = JSON) -> None:
    """The client's side of a transcript. Raises AssertionError where the server says something else."""
    player = Player(url, codec)
    try:
        player.play(lines)
    finally:
        player.close()


class Player:
    """Goes through a transcript line by line; before each line of the client all that stands above it is heard."""

    def __init__(self, url: str, codec: Codec) -> None:
        self._url, self._codec = url, codec
        self._wire: Wire | None = None
        self._due: dict[Any, list[Message]] = {}
        """What is to be heard yet: about each track in order, and about no track."""
        self._sessions: dict[str, Message] = {}
        """What the server calls now what it called so when it was recorded."""
        self._numbers: dict[int, int] = {}
        self._newest = -1
        self._resumed = False

    def play(self, lines: list[Line]) -> None:
        for line in lines:
            if line["from"] == "client":
                self._settle()
                self._act(line)
            elif "close" in line:
                self._settle()
                assert (code := self._hear_close()) == line["close"], f"closed with {code}, expected {line['close']}"
            elif (message := line["message"])["type"] != "ack":
                self._due.setdefault(message.get("track_id"), []).append(message)
        self._settle()

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()

    def _act(self, line: Line) -> None:
        if line.get("connect"):
            self.close()
            self._wire = Wire(self._url, self._codec)
            self._newest, self._resumed = -1, False
            return
        assert self._wire is not None
        if line.get("cut"):
            self._wire.cut()
        elif not line.get("lost"):
            self._wire.send(self._translated(line["message"]))

    def _translated(self, message: Message) -> Message:
        """A resume, in today's names."""
        resume = message.get("resume")
        if not resume or resume["session_id"] not in self._sessions:
            return message
        now, self._resumed = self._sessions[resume["session_id"]], True
        self._newest = self._numbers[resume["last_server_seq"]]
        today = {"session_id": now["session_id"], "token": now["resume_token"], "last_server_seq": self._newest}
        return message | {"resume": today}

    def _settle(self) -> None:
        while any(self._due.values()):
            assert self._wire is not None
            heard = self._wire.hear(PATIENCE)
            assert isinstance(heard, dict), f"heard {heard}, expected {self._due}"
            self._take(heard)

    def _hear_close(self) -> int:
        assert self._wire is not None
        while isinstance(heard := self._wire.hear(PATIENCE), dict):
            assert heard["type"] == "ack", f"unexpected: {heard}"
        assert heard is not None, "the server does not close"
        return heard

    def _take(self, heard: Message) -> None:
        self._count(heard)
        if heard["type"] == "ack":
            return
        due = self._due.get(heard.get("track_id"))
        assert due, f"unexpected: {heard}"
        expected = due.pop(0)
        differences = list(compare(expected, heard))
        assert not differences, f"{differences}: heard {heard}, expected {expected}"
        self._numbers[expected["seq"]] = heard["seq"]
        if heard["type"] == "session.started":
            self._sessions[expected["session_id"]] = heard
        elif expected["session_id"] in self._sessions:
            assert heard["session_id"] == self._sessions[expected["session_id"]]["session_id"]

    def _count(self, heard: Message) -> None:
        """Messages are numbered from 0 without gaps; after a resume they rise."""
        seq = heard["seq"]
        if heard["type"] == "session.started":
            assert seq == 0
            self._newest = self._newest if heard["resumed"] else 0
            return
        assert seq > self._newest if self._resumed else seq == self._newest + 1, f"{heard} follows {self._newest}"
        self._newest = seq


def compare(expected: Any, heard: Any, where: str = "") -> Iterator[str]:
    """Where they differ. Fields that the transcript lacks are new ones, and to be ignored."""
    if isinstance(expected, dict) and isinstance(heard, dict):
        for name in expected.keys() - VARY:
            if name not in heard:
                yield f"{where}.{name} is missing"
            elif name == "top":
                yield from _compare_top(expected[name], heard[name], f"{where}.{name}")
            else:
                yield from compare(expected[name], heard[name], f"{where}.{name}")
    elif isinstance(expected, list) and isinstance(heard, list) and len(expected) == len(heard):
        for i, (one, other) in enumerate(zip(expected, heard, strict=True)):
            yield from compare(one, other, f"{where}[{i}]")
    elif isinstance(expected, int | float) and isinstance(heard, int | float) and type(expected) is not bool:
        if abs(expected - heard) > CLOSE:
            yield f"{where} is {heard}, expected {expected}"
    elif expected != heard:
        yield f"{where} is {heard}, expected {expected}"


def _compare_top(expected: list[Any], heard: list[Any], where: str) -> Iterator[str]:
    sure = [(label if score >= SURE else None, score) for label, score in expected]
    found = [
        (label if known is not None else None, score) for (known, _), (label, score) in zip(sure, heard, strict=False)
    ]
    yield from compare([list(one) for one in sure], [list(one) for one in found], where)
