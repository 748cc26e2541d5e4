"""Clients of the server, and the only door to `websockets`.

    async with StreamClient(url, layout="body16", coordinates=coordinates) as stream:
        await stream.send([Frame(t, [Person("p1", keypoints)])])
        async for message in stream: ...          # typed server messages, until the session is closed
        await stream.close()                      # usually from a second task: sending and hearing are independent

A task of its own reads the socket all the while, so neither side can starve the other. What the server calls an error
is raised as `RemoteError` with the server's code. `stream_recording` and `localize` are the same for plain programs: a
finished recording through the stream, or through one HTTP request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import httpx
import msgspec
import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from poseline.codec import MSGPACK, Codec, decode_response, encode
from poseline.decoding import DecodingOptions
from poseline.errors import InputError, PoselineError
from poseline.keypoints import pack_keypoints, write_keypoints, write_tracks
from poseline.pose import Coordinates, PoseSequence
from poseline.protocol import (
    ClientInfo,
    ClientMessage,
    CoordinatesSpec,
    CustomLayout,
    ErrorMessage,
    Flush,
    Frame,
    Frames,
    Keepalive,
    LocalizeOptions,
    LocalizeRequest,
    LocalizeResponse,
    ModelInfo,
    Person,
    ServerMessage,
    SessionClose,
    SessionStart,
    SessionStarted,
    SessionUpdate,
    StreamOptions,
)

_TIMEOUT = 120.0
"""Seconds for one HTTP request: an hour of poses takes about as long."""


class RemoteError(PoselineError):
    """The server said no; `code` is the server's."""

    def __init__(self, code: str, detail: str, *, param: str | None = None) -> None:
        super().__init__(detail, param=param)
        self.code = code  # pyright: ignore[reportAttributeAccessIssue]


class ConnectionFailed(PoselineError):
    """There is no server, or the connection broke."""

    code = "connection_failed"


class StreamClient:
    """One live stream. `started` is the server's answer to session.start."""

    started: SessionStarted

    def __init__(
        self,
        url: str,
        *,
        layout: str | CustomLayout = "body16",
        coordinates: CoordinatesSpec | None = None,
        options: StreamOptions | None = None,
        model: str = "default",
        fps: float | None = None,
        codec: Codec = MSGPACK,
    ) -> None:
        self._url = url
        self.codec = codec
        self._start = SessionStart(
            layout=layout,
            coordinates=coordinates or CoordinatesSpec(),
            options=options or StreamOptions(),
            model=model,
            fps=fps,
            client=ClientInfo("poseline-python", _version()),
        )
        self._seq = 0
        self._heard: asyncio.Queue[ServerMessage | PoselineError | None] = asyncio.Queue()

    async def __aenter__(self) -> StreamClient:
        self._socket = await _connect(self._url, self.codec)
        self._reader = asyncio.create_task(self._read())
        try:
            await self._send(self._start)
            first = await self.receive()
            if not isinstance(first, SessionStarted):
                raise ConnectionFailed(f"the server answered session.start with {type(first).__name__}")
            self.started = first
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave()

    async def _leave(self) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._socket.close()

    async def send(self, frames: Sequence[Frame]) -> None:
        """Send frames as one message; they are numbered here."""
        await self._send(Frames(self._seq, list(frames)))
        self._seq += len(frames)

    async def flush(self, track_id: str | None = None) -> None:
        """Ask for open segments to be closed now; `flushed` follows their finals."""
        await self._send(Flush(track_id))

    async def update(self, **options: Any) -> None:
        """Ask for other options (`translation.CHANGEABLE`) for the frames that follow; None is the model's own again.

        `session.updated` with all options in effect is heard, or an `error` that is not fatal and changes nothing.
        """
        await self._send(SessionUpdate(options))

    async def keepalive(self) -> None:
        await self._send(Keepalive())

    async def close(self) -> None:
        """Say that no frame follows; the finals, the totals and the end of the iteration follow."""
        await self._send(SessionClose())

    async def receive(self) -> ServerMessage | None:
        """The next message, None when the session has ended well. Raises RemoteError, ConnectionFailed."""
        heard = await self._heard.get()
        if isinstance(heard, PoselineError):
            raise heard
        return heard

    async def __aiter__(self) -> AsyncIterator[ServerMessage]:
        while (message := await self.receive()) is not None:
            yield message

    async def _send(self, message: ClientMessage) -> None:
        with suppress(ConnectionClosed):  # why it closed is what the reader will have heard last
            await self._socket.send(self.codec.encode(message), text=self.codec.text)

    async def _read(self) -> None:
        try:
            async for data in _bytes(self._socket):
                message = self.codec.decode_server(data)
                if isinstance(message, ErrorMessage) and message.fatal:
                    param = None if message.param is msgspec.UNSET else message.param
                    self._heard.put_nowait(RemoteError(message.code, message.detail, param=param))
                elif message is not None:
                    self._heard.put_nowait(message)
            self._heard.put_nowait(None)
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else 1006
            reason = closed.rcvd.reason if closed.rcvd else "the connection broke"
            self._heard.put_nowait(ConnectionFailed(f"the stream was closed with {code}: {reason}"))
        except PoselineError as error:  # a message that is none: whoever waits must hear of it
            self._heard.put_nowait(error)


def address(url: str, scheme: str, path: str) -> str:
    """A server's address as a person gives it, with or without path and by either scheme, as the one that is meant."""
    parts = urlsplit(url)
    secure = "s" if parts.scheme in ("https", "wss") else ""
    return urlunsplit((scheme + secure, parts.netloc, parts.path.rstrip("/") or path, parts.query, ""))


async def _bytes(socket: ClientConnection) -> AsyncIterator[bytes]:
    """Messages until the socket is closed, text or not: what they are is the codec's affair."""
    with suppress(ConnectionClosedOK):
        while True:
            yield await socket.recv(decode=False)


async def _connect(url: str, codec: Codec) -> ClientConnection:
    url = address(url, "ws", "/v1/stream")
    try:
        return await connect(url, subprotocols=[Subprotocol(codec.subprotocol)], compression=None, max_size=None)
    except InvalidStatus as refused:
        raise _remote(refused.response.body or b"", refused.response.status_code, url) from None
    except (OSError, InvalidHandshake, InvalidURI, TimeoutError) as error:
        raise ConnectionFailed(f"{url}: {error}") from None


def _remote(body: bytes | bytearray, status: int, url: str) -> PoselineError:
    """The error that a problem document describes."""
    try:
        problem: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
        return RemoteError(problem["code"], problem["detail"], param=problem.get("param"))
    except (msgspec.DecodeError, KeyError):
        return ConnectionFailed(f"{url} answered with status {status}")


def _version() -> str:
    try:
        return version("poseline")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"


# --- finished recordings -----------------------------------------------------------------------------------------


def describe(coordinates: Coordinates) -> CoordinatesSpec:
    """The domain's coordinates in the wire's words."""
    return CoordinatesSpec(
        coordinates.space,
        coordinates.dims,
        coordinates.y_axis,
        coordinates.facing,
        coordinates.mirrored,
        coordinates.image_size,
    )


def layout_spec(poses: PoseSequence) -> str | CustomLayout:
    return CustomLayout(list(poses.layout.joints)) if poses.layout.name == "custom" else poses.layout.name


def timeline(people: Mapping[str, PoseSequence], *, packed: bool = False) -> list[Frame]:
    """Everybody's poses as frames in rising time; packed, they are the same numbers in fewer bytes."""
    at: dict[float, list[Person]] = {}
    for name, poses in people.items():
        keypoints = (pack_keypoints if packed else write_keypoints)(poses.joints, poses.confidence)
        for t, kp in zip(poses.timestamps, keypoints, strict=True):
            at.setdefault(float(t), []).append(Person(name, kp))
    return [Frame(t, at[t]) for t in sorted(at)]


def request_for(people: Mapping[str, PoseSequence], options: LocalizeOptions | None = None) -> LocalizeRequest:
    """The REST request for one recording of people who share one clock. Raises InputError where they do not."""
    first = next(iter(people.values()))
    if any(not np.array_equal(one.timestamps, first.timestamps) for one in people.values()):
        raise InputError("the people of one request must share their timestamps")
    return LocalizeRequest(
        tracks=write_tracks(people),
        layout=layout_spec(first),
        coordinates=describe(first.coordinates),
        timestamps=[float(t) for t in first.timestamps],
        options=options or LocalizeOptions(),
    )


def localize(url: str, request: LocalizeRequest) -> LocalizeResponse:
    """`POST` a recording. Raises RemoteError, ConnectionFailed."""
    url = address(url, "http", "/v1/localize")
    headers = {"Content-Type": "application/json"}
    try:
        answer = httpx.post(url, content=encode(request), headers=headers, timeout=_TIMEOUT)
    except httpx.HTTPError as error:
        raise ConnectionFailed(f"{url}: {error}") from None
    if answer.status_code != 200:
        raise _remote(answer.content, answer.status_code, url)
    return decode_response(answer.content)


@dataclass(frozen=True)
class RemoteModel:
    """A server's model: which it is, its thresholds where nobody asks for others, frames a second of its network."""

    info: ModelInfo
    thresholds: DecodingOptions
    fps: float


def remote_model(url: str, model: str = "default") -> RemoteModel:
    """What a server says of a model; `url` as for `localize`. Raises RemoteError, ConnectionFailed."""
    whole = address(url, "http", "/v1/localize")
    url = f"{whole.removesuffix('/localize').removesuffix('/v1')}/v1/models/{quote(model, safe='')}"
    try:
        answer = httpx.get(url, timeout=_TIMEOUT)
    except httpx.HTTPError as error:
        raise ConnectionFailed(f"{url}: {error}") from None
    if answer.status_code != 200:
        raise _remote(answer.content, answer.status_code, url)
    try:
        said = answer.json()
        thresholds = DecodingOptions.model_validate(said["decoding"])
        return RemoteModel(msgspec.convert(said, ModelInfo), thresholds, float(said["fps"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ConnectionFailed(f"{url} does not describe a model: {error}") from None


async def play(
    client: StreamClient, frames: Sequence[Frame], *, chunk: int = 1, speed: float | None = None
) -> AsyncGenerator[ServerMessage]:
    """Send a recording in messages of `chunk` frames and give what is heard, until the session is closed.

    speed: 1 is as it happened, 2 twice as fast, None as fast as the server takes it.
    """
    sending = asyncio.create_task(_send_all(client, frames, chunk, speed))
    try:
        async for message in client:
            yield message
        await sending
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def _send_all(client: StreamClient, frames: Sequence[Frame], chunk: int, speed: float | None) -> None:
    begin = asyncio.get_running_loop().time()
    for i in range(0, len(frames), chunk):
        part = frames[i : i + chunk]
        if speed is not None:  # a message leaves when its newest frame has been seen
            seen = begin + (part[-1].t - frames[0].t) / speed
            await asyncio.sleep(seen - asyncio.get_running_loop().time())
        await client.send(part)
    await client.close()


def stream_recording(
    url: str,
    people: Mapping[str, PoseSequence],
    *,
    options: StreamOptions | None = None,
    model: str = "default",
    chunk: int = 1,
    speed: float | None = None,
    codec: Codec = MSGPACK,
    heard: Callable[[ServerMessage], None] = lambda message: None,
) -> list[ServerMessage]:
    """A recording through a stream, for programs without an event loop: every message, each also told to `heard`."""
    first = next(iter(people.values()))
    client = StreamClient(
        url,
        layout=layout_spec(first),
        coordinates=describe(first.coordinates),
        options=options,
        model=model,
        codec=codec,
    )
    return asyncio.run(_collect(client, timeline(people, packed=not codec.text), chunk, speed, heard))


async def _collect(
    client: StreamClient,
    frames: Sequence[Frame],
    chunk: int,
    speed: float | None,
    heard: Callable[[ServerMessage], None],
) -> list[ServerMessage]:
    messages: list[ServerMessage] = []
    async with client:
        messages.append(client.started)
        heard(client.started)
        async for message in play(client, frames, chunk=chunk, speed=speed):
            messages.append(message)
            heard(message)
    return messages
