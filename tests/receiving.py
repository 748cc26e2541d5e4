"""A webhook's receiver: a real HTTP server that takes down what comes, and answers as it is told."""

from __future__ import annotations

import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from poseline.webhooks import Event, verify
from servers import PATIENCE


class Receiver:
    """answers: statuses of the first requests to come; 204 for all others, or `otherwise`. None hangs up instead."""

    def __init__(self, secret: str, *answers: int | None, port: int = 0) -> None:
        self.secret = secret
        self.answers = list(answers)
        self.otherwise: int | None = 204
        self.came: list[tuple[str, dict[str, str], bytes]] = []
        """(path, headers, body) of every request, whatever the answer."""
        self.taken: list[Event] = []
        """What was answered by 204."""
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                if len(body := self.rfile.read(length)) < length:
                    return  # its sender was killed
                event = verify(receiver.secret, dict(self.headers), body)
                receiver.came.append((self.path, {name.lower(): one for name, one in self.headers.items()}, body))
                status = receiver.answers.pop(0) if receiver.answers else receiver.otherwise
                if status is None:
                    return
                if status == 204:
                    receiver.taken.append(event)
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                raise AssertionError("a redirect was followed")

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler

    def wait_for(self, enough: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not enough():
            assert time.monotonic() < deadline, f"{len(self.came)} came, {len(self.taken)} were taken"
            time.sleep(0.02)

    def ids(self) -> list[str]:
        return [event.id for event in self.taken]
