"""One stream of a crowd: a non-blocking socket from connecting to its end, and how far its frames have come.

It says what its crowd's script says when the crowd tells it to, and tells the crowd what became of it: let in, refused,
answered, over. States go one way: connecting → upgrading → starting → live → closing → gone.
"""

from __future__ import annotations

import socket
from time import perf_counter
from typing import TYPE_CHECKING, Literal

from poseline_bench.wire import CLOSE, PING, PONG, client_frame, server_frames

if TYPE_CHECKING:
    from poseline_bench.load import Crowd

_READ = 1 << 16

State = Literal["connecting", "upgrading", "starting", "live", "closing", "gone"]


class Connection:
    """tries: how often it was refused before. sent: messages; answered: person-frames; first_due: of its first message."""

    def __init__(self, crowd: Crowd, tries: int) -> None:
        self._crowd, self._script = crowd, crowd.script
        self._rest = self._unsent = b""
        self.state: State = "connecting"
        self.tries = tries
        self.sent = self.answered = 0
        self.first_due = 0.0
        self.slice: list[Connection] = []
        """Its place on the crowd's wheel, from when it is live."""
        self.began = perf_counter()
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect_ex(("127.0.0.1", crowd.port))

    def send_next(self, due: float) -> None:
        """Write the next message of the script, whatever became of those before."""
        if not self.sent:
            self.first_due = due
        self._send(self._script.messages[self.sent])
        self.sent += 1

    def ask_to_close(self) -> None:
        self.state = "closing"
        self._send(self._script.close)

    def _send(self, data: bytes) -> None:
        """What the socket does not take now goes with the next message."""
        if self._unsent:
            data = self._unsent + data
        try:
            taken = self.socket.send(data)
        except BlockingIOError:
            taken = 0
        except ConnectionError:  # reading will tell
            return
        self._unsent = data[taken:]

    def ready(self, now: float) -> None:
        """The socket can be written to while connecting, and read from afterwards."""
        if self.state == "connecting":
            self.state = "upgrading"
            self._crowd.listen_to(self)
            self._send(self._crowd.request)
            return
        try:
            data = self.socket.recv(_READ)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self._crowd.drop(self, lost=self.state != "closing")
            return
        if self._rest:
            data = self._rest + data
        if self.state != "upgrading":
            self._read(data, now)
        else:
            self._upgrade(data, now)

    def _upgrade(self, data: bytes, now: float) -> None:
        """Once the head of the answer has come: if it says yes, what follows it is frames."""
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            self._rest = data
        elif b" 101 " not in head[:16]:
            self._crowd.refuse(self, now, head, rest)
        else:
            if self._script.start is None:
                self._crowd.welcome(self)
            else:
                self.state = "starting"
                self._send(self._script.start)
            self._read(rest, now)

    def _read(self, data: bytes, now: float) -> None:
        scores, opcode = self._script.scores, self._script.encoding.opcode
        frames, self._rest = server_frames(data)
        for kind, payload in frames:
            if kind == opcode:
                if scores in payload:
                    self._crowd.answer(self, payload, now)
                elif self.state == "starting":  # session.started is the first that is said
                    self._crowd.welcome(self)
            elif kind == PING:
                self._send(client_frame(payload, PONG))
            elif kind == CLOSE:
                self._send(client_frame(payload, CLOSE))
                self._crowd.drop(self, lost=self.state != "closing")
                return
