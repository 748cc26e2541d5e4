"""What the traffic port bears before any request is one: how many connections, how long a head takes, how large it is.

uvicorn by itself keeps an idle connection, half a head and a response that nobody reads for ever, and takes heads of any
size (all measured). `GuardedConnection` is its HTTP protocol with a moment since when the client owes something: a head
from the accept on, or from its first byte; the rest of a body that nobody waits for, once it is answered. One heartbeat
(`Guard.tick`) looks at all of them; no connection has a timer here. (Idling between requests is uvicorn's
`timeout_keep_alive`; a body that is wanted comes with `uploads.Patience`; what follows an upgrade looks after itself.)

A connection is counted until it is lost, also as the stream that it may become. All limits are settings.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from secrets import token_hex
from time import monotonic
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from poseline.errors import PoselineError
from poseline_service.errors import HeadTooLarge, TooManyConnections, TooSlow
from poseline_service.metrics import Metrics
from poseline_service.problems import problem_response
from poseline_service.settings import ServiceSettings

_PIPELINED = 8
"""Requests that may wait behind one that is being answered on the same connection; no browser sends any."""


class Guard:
    """What the connections of one server share: the limits, and how many there are."""

    def __init__(self, settings: ServiceSettings, metrics: Metrics) -> None:
        self.settings = settings
        self.refused = metrics.connections_refused
        self._unanswered: set[GuardedConnection] = set()
        self._by_address: Counter[str] = Counter()
        self._asked: deque[Callable[[], None]] = deque()
        self.connections = 0
        metrics.connections.set_function(lambda: self.connections)

    def protocol(self) -> Any:
        """What uvicorn's configuration takes as `http`."""
        return partial(GuardedConnection, self)

    def full(self, address: str) -> tuple[str, str] | None:
        """The limit that another connection from there would pass, and what to say; None where there is room."""
        settings, here = self.settings, self._by_address[address]
        if self.connections >= settings.connections:
            return "connections", f"{self.connections} connections are open, the limit is {settings.connections}"
        most = settings.connections_per_address
        if address and most and here >= most:
            return "address", f"{here} connections are open from this address, the limit is {most}"
        return None

    def enter(self, connection: GuardedConnection, address: str) -> Callable[[], None]:
        """Count it; to be called once it is lost: what is returned."""
        self.connections += 1
        self._by_address[address] += 1
        self._unanswered.add(connection)
        return partial(self._leave, connection, address)

    def _leave(self, connection: GuardedConnection, address: str) -> None:
        self.connections -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
        self._unanswered.discard(connection)

    def upgraded(self, connection: GuardedConnection) -> None:
        """It is a stream now, and keeps time by itself."""
        self._unanswered.discard(connection)

    def start(self, request: Callable[[], None]) -> None:
        """Begin to answer, one request in each turn of the event loop: a hundred at once would stop every stream."""
        self._asked.append(request)
        if len(self._asked) == 1:
            asyncio.get_running_loop().call_soon(self._start_next)

    def _start_next(self) -> None:
        request = self._asked.popleft()
        if self._asked:
            asyncio.get_running_loop().call_soon(self._start_next)
        request()

    def tick(self, now: float) -> None:
        """To be called a few times a second, with the monotonic clock."""
        for connection in list(self._unanswered):
            connection.tick(now)


class GuardedConnection(HttpToolsProtocol):
    """One HTTP connection, up to its end or its upgrade."""

    def __init__(self, guard: Guard, **given: Any) -> None:
        super().__init__(**given)
        self._guard = guard
        self._limit = guard.settings.head_bytes
        self._stream: Any = given["config"].ws_protocol_class
        self._left: Callable[[], None] | None = None
        self._heads = self._bodies = 0
        """Requests whose head, and whose body, has wholly come."""
        self._parts = 0
        """Of bodies, that have come."""
        self._head_bytes = 0
        """Of a head that has not wholly come; within a body, what came since its last part and is none of it."""
        self._owes_since: float | None = None
        self._stuck_since: float | None = None
        self._upgraded = False
        self._answering: RequestResponseCycle | None = None
        """The request that is being answered; `cycle` is the newest that came, which may wait behind it."""

    # --- the transport's side -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        address = neighbourhood(self.client[0]) if self.client else ""
        if full := self._guard.full(address):
            reason, what = full
            self._refuse(reason, TooManyConnections(what, retry_after=self._guard.settings.retry_after))
            return
        self._left = self._guard.enter(self, address)
        self.ws_protocol_class = partial(self._stream, left=self._left)  # pyright: ignore
        self._owes_since = monotonic()

    def connection_lost(self, exc: Exception | None) -> None:
        self._hang_up()
        super().connection_lost(exc)
        if self._left is not None:
            self._left()

    def data_received(self, data: bytes) -> None:
        if self._owes_since is None and self._awaits_head:
            self._owes_since = monotonic()
        while data and not self._upgraded and not self.transport.is_closing():
            room = self._limit - self._head_bytes
            self._read(data[:room])
            data = data[room:]

    def _read(self, part: bytes) -> None:
        before = self._heads, self._bodies, self._parts
        super().data_received(part)
        if self._upgraded:
            return
        if before == (
            self._heads,
            self._bodies,
            self._parts,
        ):  # else it began within this part: it may be twice as long
            self._head_bytes += len(part)
        if self._head_bytes >= self._limit and not self.transport.is_closing():
            what = "head is" if self._awaits_head else "trailers or chunk extensions are"
            self._refuse("head_bytes", HeadTooLarge(f"the request's {what} larger than {self._limit} bytes"))

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck_since = monotonic()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stuck_since = None

    # --- the parser's side ----------------------------------------------------------------------------------------

    @property
    def _awaits_head(self) -> bool:
        return self._heads == self._bodies

    @property
    def _is_answering(self) -> bool:
        return self._answering is not None and not self._answering.response_complete

    def on_message_begin(self) -> None:
        self._head_bytes = self._head_bytes or 1
        self._owes_since = self._owes_since or monotonic()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._awaits_head:  # else a trailer, which no proxy has looked at
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._heads += 1
        self._head_bytes = 0
        self._owes_since = None
        if len(self.pipeline) >= _PIPELINED:
            raise ValueError("too many requests at a time")  # which uvicorn answers as any request that is none
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._parts += 1
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._bodies += 1
        self._head_bytes = 0
        self._owes_since = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._awaits_head:
            self._owes_since = monotonic()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        self._guard.start(partial(self._start, cycle, app))

    def _start(self, cycle: RequestResponseCycle, app: Any) -> None:
        if not cycle.disconnected:
            super()._start_asgi_task(cycle, app)

    def send_400_response(self, msg: str) -> None:
        self._hang_up()
        super().send_400_response(msg)

    def handle_websocket_upgrade(self) -> None:
        if self._is_answering:  # what is being said would go into the stream
            self.send_400_response("an upgrade must wait for the answer before it")
            return
        self._upgraded = True
        self._guard.upgraded(self)
        super().handle_websocket_upgrade()

    # --- the heartbeat --------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """To be called a few times a second, with the monotonic clock."""
        settings = self._guard.settings
        if self.transport.is_closing():
            self._stuck_since = self._stuck_since or now  # what is left to be written is not taken
        elif self.flow.read_paused:
            self._owes_since = self._owes_since and now  # it is we who do not listen
        elif self._owes_since is not None and now - self._owes_since > settings.head_seconds:
            self._give_up(TooSlow(f"a request's head must come within {settings.head_seconds:g} seconds"))
        if self._stuck_since is not None and now - self._stuck_since > settings.idle_seconds:
            self._guard.refused.labels("not_reading").inc()
            self._hang_up()
            self.transport.abort()

    def _give_up(self, error: TooSlow) -> None:
        if self._awaits_head and self._head_bytes and not self._is_answering:
            self._refuse("slow_head", error)
        else:  # nothing was asked, or it was answered before all of it had come: there is nothing to say
            self._guard.refused.labels("slow_head" if self._awaits_head else "slow_body").inc()
            self._hang_up()
            self.transport.abort()

    def _refuse(self, reason: str, error: PoselineError) -> None:
        self._guard.refused.labels(reason).inc()
        self._hang_up()
        self.transport.write(_answer(error))
        self.transport.close()

    def _hang_up(self) -> None:
        """Whoever works on an answer learns that nobody waits for it; uvicorn tells only the newest request, and late."""
        self.pipeline.clear()
        if self._answering is not None:
            self._answering.disconnected = True
            self._answering.message_event.set()


def neighbourhood(host: str) -> str:
    """The address by which connections are counted; of IPv6 the first 64 bits, for a host may have all the others."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:  # a socket of another family
        return host
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(IPv6Address(int(address) >> 64 << 64))


def _answer(error: PoselineError) -> bytes:
    """A whole response, outside of any request."""
    response = problem_response(error, "/", token_hex(8))
    status = HTTPStatus(response.status_code)
    head = b"".join(name + b": " + value + b"\r\n" for name, value in response.raw_headers)
    line = f"HTTP/1.1 {status.value} {status.phrase}\r\nconnection: close\r\n".encode()
    return line + head + b"\r\n" + bytes(response.body)
