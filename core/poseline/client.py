"""The live client, and the domain's only door to `websockets`.

    async with StreamClient(url, layout="body16", coordinates=coordinates) as stream:
        await stream.send([Frame(t, [Person(id="p1", kp=keypoints)])])
        async for message in stream: ...          # typed server messages, until the session is closed
        await stream.close()                      # usually from a second task: sending and hearing are independent

A task of its own reads the socket all the while, so neither side can starve the other; where the connection breaks, it makes
another and resumes the session. What the server calls an error is raised as `RemoteError` with the server's code. Finished
recordings: `poseline.remote`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from random import random
from types import TracebackType
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

import msgspec
from msgspec import UNSET, Struct
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from poseline.codec import MSGPACK, Codec
from poseline.credentials import Credential, bearer
from poseline.errors import PoselineError
from poseline.protocol import (
    Ack,
    ClientInfo,
    ClientMessage,
    CoordinatesSpec,
    CustomLayout,
    ErrorMessage,
    Flush,
    Flushed,
    Frame,
    Frames,
    Keepalive,
    Resume,
    ServerMessage,
    SessionClose,
    SessionClosed,
    SessionStart,
    SessionStarted,
    SessionUpdate,
    SessionUpdated,
    StreamOptions,
)


class RemoteError(PoselineError):
    """The server said no; `code` is the server's."""

    def __init__(self, code: str, detail: str, *, param: str | None = None) -> None:
        super().__init__(detail, param=param)
        self.code = code  # pyright: ignore[reportAttributeAccessIssue]


class ConnectionFailed(PoselineError):
    """There is no server, or the connection broke."""

    code = "connection_failed"


class _Sent(Struct):
    """What the server has not yet confirmed. last: number of the message's newest frame; None where it holds no frames."""

    message: ClientMessage
    last: int | None = None


_ANSWERS: dict[type[Any], type[ClientMessage]] = {
    Flushed: Flush,
    SessionUpdated: SessionUpdate,
    SessionClosed: SessionClose,
}
"""What confirms a message that is no frame."""
_RETRY_CODES = frozenset({1001, 1005, 1006, 1011, 1012, 1013, 1015, 4408, 4429})
"""Close codes after which the session may be resumed."""
_EXPIRED = 4401
_TOO_FAST = 4429
_HOPELESS = {"quota_exceeded"}
"""What such a code also says, and waiting would not change soon."""
_RETRY_ERRORS = {
    "overloaded",
    "draining",
    "model_loading",
    "state_unavailable",
    "authority_unavailable",
    "connection_failed",
    "rate_limited",
    "too_many_sessions",  # the broken connection may still count
}
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 15.0
"""Seconds between two attempts to connect: doubled each time, and a random share of that."""


class StreamClient:
    """One live stream. `started` is the server's answer to session.start, and to every resume.

    A connection that breaks is made anew, and the session goes on: what was sent and is not confirmed is sent again, what
    was said meanwhile is heard, and nothing twice. resume: do so, for as long as the server keeps the session. credential:
    what a server that asks for one is shown, at every connection; after a token's time is over, a function's next one.
    """

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
        webhooks: Sequence[str] = (),
        codec: Codec = MSGPACK,
        resume: bool = True,
        credential: Credential | None = None,
    ) -> None:
        self._url = url
        self._credential = credential
        self.codec = codec
        self._start = SessionStart(
            layout=layout,
            coordinates=coordinates or CoordinatesSpec(),
            options=options or StreamOptions(),
            model=model,
            fps=fps,
            client=ClientInfo("poseline-python", _version()),
            webhooks=list(webhooks),
        )
        self._retry_codes: frozenset[int] = _RETRY_CODES if resume else frozenset()
        if resume and callable(credential):
            self._retry_codes |= {_EXPIRED}
        self.resumes = 0
        """How often the connection was made anew."""
        self._seq = 0
        self._last_heard = -1
        self._over = False
        """The last word was heard; however the socket is closed then."""
        self._unconfirmed: deque[_Sent] = deque()
        self._connected = asyncio.Event()
        self._heard: asyncio.Queue[ServerMessage | Exception | None] = asyncio.Queue()

    async def __aenter__(self) -> StreamClient:
        self._socket = await self._connect()
        try:
            await self._greet(self._start)
        except BaseException:
            await self._socket.close()
            raise
        self._connected.set()
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._socket.close()

    async def send(self, frames: Sequence[Frame]) -> None:
        """Send frames as one message; they are numbered here. Waits while the connection is being made anew."""
        await self._connected.wait()  # before they are numbered: others may wait to send, too
        await self._send(Frames(self._seq, list(frames)), self._seq + len(frames) - 1)

    async def flush(self, track_id: str | None = None) -> None:
        """Ask for open segments to be closed now; `flushed` follows their finals."""
        await self._send(Flush(track_id))

    async def update(self, **options: Any) -> None:
        """Ask for other options (`translation.CHANGEABLE`) for the frames that follow; None is the model's own again.

        `session.updated` with all options in effect is heard, or an `error` that is not fatal and changes nothing.
        """
        await self._send(SessionUpdate(options))

    async def keepalive(self) -> None:
        await self._connected.wait()
        with suppress(ConnectionClosed):
            await self._write(Keepalive())

    async def close(self) -> None:
        """Say that no frame follows; the finals, the totals and the end of the iteration follow."""
        await self._send(SessionClose())

    async def receive(self) -> ServerMessage | None:
        """The next message, None when the session has ended well. Raises RemoteError, ConnectionFailed."""
        heard = await self._heard.get()
        if isinstance(heard, Exception):
            self._heard.put_nowait(heard)  # whoever asks again hears it again
            raise heard
        return heard

    async def __aiter__(self) -> AsyncIterator[ServerMessage]:
        while (message := await self.receive()) is not None:
            yield message

    # --- what is sent ---------------------------------------------------------------------------------------------

    async def _send(self, message: ClientMessage, last: int | None = None) -> None:
        await self._connected.wait()
        self._unconfirmed.append(_Sent(message, last))
        if last is not None:
            self._seq = last + 1
        with suppress(ConnectionClosed):  # the reader notices too, and sends it again or tells why it cannot
            await self._write(message)

    async def _write(self, message: ClientMessage) -> None:
        await self._socket.send(self.codec.encode(message), text=self.codec.text)

    def _confirm(self, message: ServerMessage) -> None:
        """Forget what the server has."""
        sent = self._unconfirmed
        if isinstance(message, Ack):
            while sent and sent[0].last is not None and sent[0].last <= message.client_seq:
                sent.popleft()
        refused = isinstance(message, ErrorMessage) and not message.fatal
        answered = SessionUpdate if refused else _ANSWERS.get(type(message))
        if answered:
            first = next((one for one in sent if isinstance(one.message, answered)), None)
            if first is not None:
                while sent.popleft() is not first:  # what was sent before it is done with too
                    pass

    # --- what is heard --------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        try:
            while True:
                code, why = await self._listen()
                if self._over or (code == 1000 and why is None):
                    self._heard.put_nowait(None)
                    return
                if code not in self._retry_codes or (why and why.code in _HOPELESS):
                    raise why or ConnectionFailed(f"the stream was closed with {code}")
                if code == _TOO_FAST:
                    await asyncio.sleep(_FIRST_WAIT * (1 + random()))
                await self._come_back(why)
        except Exception as error:  # whatever it is: whoever waits must hear of it
            self._connected.set()
            self._heard.put_nowait(error)
            await self._socket.close()  # nobody reads it any more: who sends must not wait for its room

    async def _listen(self) -> tuple[int, PoselineError | None]:
        """Hear messages until the socket is closed: its close code, and what the server called an error."""
        why: PoselineError | None = None
        try:
            while True:
                message = self._hear(await self._socket.recv(decode=False))
                if isinstance(message, ErrorMessage) and message.fatal:
                    why = _fatal(message)
        except ConnectionClosed as closed:
            code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "the connection broke")
            failed = ConnectionFailed(f"the stream was closed with {code}: {reason}")
            return code, why or (None if code == 1000 else failed)

    def _hear(self, data: bytes) -> ServerMessage | None:
        """A message, told unless it was heard before."""
        message = self.codec.decode_server(data)
        fatal = isinstance(message, ErrorMessage) and message.fatal
        if message is not None and message.seq > self._last_heard:
            self._last_heard = message.seq
            self._confirm(message)
            self._over = isinstance(message, SessionClosed)
            if not fatal:
                self._heard.put_nowait(message)
        return message

    async def _connect(self) -> ClientConnection:
        """Raises RemoteError, ConnectionFailed; that is also what a credential's function raises, whatever that was."""
        try:
            headers = await bearer(self._credential)
        except Exception as error:
            raise ConnectionFailed(f"the credential could not be had: {error!r}") from error
        return await _connect(self._url, self.codec, headers)

    async def _greet(self, start: SessionStart) -> None:
        """Raises RemoteError, ConnectionFailed."""
        try:
            await self._write(start)
            message = self.codec.decode_server(await self._socket.recv(decode=False))
        except ConnectionClosed as closed:
            raise ConnectionFailed(f"the server closed the stream: {closed}") from None
        if isinstance(message, ErrorMessage):
            raise _fatal(message)
        if not isinstance(message, SessionStarted):
            raise ConnectionFailed(f"the server answered session.start with {type(message).__name__}")
        self.started = message
        self._last_heard = max(self._last_heard, message.seq)

    # --- a connection that broke ----------------------------------------------------------------------------------

    async def _come_back(self, why: PoselineError | None) -> None:
        """Resume the session. Raises what keeps it from going on; `why` it was left, where its time runs out."""
        self._connected.clear()
        loop = asyncio.get_running_loop()
        until, wait = loop.time() + self.started.resume_ttl, _FIRST_WAIT
        while True:
            try:
                await self._try_again()
                break
            except PoselineError as error:
                if error.code in ("unknown_session", "session_expired") and why is not None:
                    raise why from error
                if error.code not in _RETRY_ERRORS:
                    raise
                if loop.time() > until:
                    raise why or ConnectionFailed("the session could not be resumed in time") from error
            await asyncio.sleep(random() * wait)
            wait = min(2 * wait, _LONGEST_WAIT)
        self.resumes += 1
        self._connected.set()

    async def _try_again(self) -> None:
        """Connect, hear what was missed, and send again what is not confirmed. Raises RemoteError, ConnectionFailed."""
        socket = await self._connect()
        self._socket = socket
        started = self.started
        try:
            await self._greet(SessionStart(resume=Resume(started.session_id, started.resume_token, self._last_heard)))
            while self._last_heard < self.started.server_seq:
                self._hear(await socket.recv(decode=False))
            due = self.started.next_client_seq
            for sent in list(self._unconfirmed):
                if sent.last is None:
                    await self._write(sent.message)
                elif sent.last >= due:
                    await self._write(_from(cast(Frames, sent.message), due))
        except ConnectionClosed as closed:
            raise ConnectionFailed(f"the connection broke again: {closed}") from None
        except PoselineError:
            await socket.close()
            raise


def _from(message: Frames, number: int) -> Frames:
    """Without the frames before that one."""
    skip = max(0, number - message.seq)
    return Frames(message.seq + skip, message.frames[skip:]) if skip else message


def _fatal(message: ErrorMessage) -> RemoteError:
    return RemoteError(message.code, message.detail, param=None if message.param is UNSET else message.param)


def address(url: str, scheme: str, path: str) -> str:
    """A server's address as a person gives it, with or without path and by either scheme, as the one that is meant."""
    parts = urlsplit(url)
    secure = "s" if parts.scheme in ("https", "wss") else ""
    return urlunsplit((scheme + secure, parts.netloc, parts.path.rstrip("/") or path, parts.query, ""))


async def _connect(url: str, codec: Codec, headers: dict[str, str]) -> ClientConnection:
    url = address(url, "ws", "/v1/stream")
    offered = [Subprotocol(codec.subprotocol)]
    try:
        return await connect(url, subprotocols=offered, additional_headers=headers, compression=None, max_size=None)
    except InvalidStatus as refused:
        raise remote_error(refused.response.body or b"", refused.response.status_code, url) from None
    except (OSError, InvalidHandshake, InvalidURI, TimeoutError) as error:
        raise ConnectionFailed(f"{url}: {error}") from None


def remote_error(body: bytes | bytearray, status: int, url: str) -> PoselineError:
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
