"""The live client for programs without an event loop: the same, call by call.

    with SyncStreamClient(url, layout="body16", timeout=5.0) as stream:
        stream.send([Frame(t, [Person(id="p1", kp=keypoints)])])
        for message in stream: ...        # until the session is closed; or stream.receive(timeout=0.1) now and then
        stream.close()                    # usually from a second thread: sending and hearing are independent

A thread of its own runs a `StreamClient`: messages are heard and broken connections made anew whatever the program does.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Coroutine, Iterator, Sequence
from threading import Thread
from types import TracebackType
from typing import Any, TypeVar

from poseline.client import ConnectionFailed, StreamClient
from poseline.protocol import Frame, ServerMessage, SessionStarted

T = TypeVar("T")


class SyncStreamClient:
    """One live stream. Every method may be called from any thread; what is sent keeps the order of the calls.

    timeout: seconds that `receive`, and the loop over messages, wait for one; None: as long as it takes. options: those of
    `StreamClient`.
    """

    def __init__(self, url: str, *, timeout: float | None = None, **options: Any) -> None:
        self._client = StreamClient(url, **options)
        self._timeout = timeout
        self._thread: Thread | None = None
        self._heard: queue.SimpleQueue[ServerMessage | Exception | None] = queue.SimpleQueue()
        self._over: Exception | None = ConnectionFailed("the stream is not open: use it in a with statement")
        """Why nothing can be sent."""

    @property
    def started(self) -> SessionStarted:
        """The server's answer to session.start, and to every resume."""
        return self._client.started

    @property
    def resumes(self) -> int:
        """How often the connection was made anew."""
        return self._client.resumes

    def __enter__(self) -> SyncStreamClient:
        """Raises RemoteError, ConnectionFailed."""
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="poseline-stream", daemon=True)
        self._thread.start()
        try:
            self._await(self._open())
        except BaseException:
            self._join()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave at once, whatever was not heard; `close` and the loop over messages end a session well."""
        try:
            self._await(self._leave())
        finally:
            self._join()

    def send(self, frames: Sequence[Frame]) -> None:
        """Send frames as one message. Waits while the connection is being made anew. Raises what ended the stream."""
        self._do(self._client.send(frames))

    def flush(self, track_id: str | None = None) -> None:
        """Ask for open segments to be closed now; `flushed` follows their finals."""
        self._do(self._client.flush(track_id))

    def update(self, **options: Any) -> None:
        """Ask for other options for the frames that follow, as `StreamClient.update`."""
        self._do(self._client.update(**options))

    def keepalive(self) -> None:
        self._do(self._client.keepalive())

    def close(self) -> None:
        """Say that no frame follows; the finals, the totals and the end of the loop over messages follow."""
        self._do(self._client.close())

    def receive(self, timeout: float | None = None) -> ServerMessage | None:
        """The next message, None when the session has ended well. timeout: instead of the stream's own.

        Raises TimeoutError where none came in time (it is not lost: ask again), RemoteError, ConnectionFailed.
        """
        patience = self._timeout if timeout is None else timeout
        if self._thread is None and self._over is not None:
            raise self._over
        try:
            heard = self._heard.get(timeout=patience)
        except queue.Empty:
            raise TimeoutError(f"no message within {patience:g} s") from None
        if heard is None or isinstance(heard, Exception):
            self._heard.put(heard)  # whoever asks again hears it again
        if isinstance(heard, Exception):
            raise heard
        return heard

    def __iter__(self) -> Iterator[ServerMessage]:
        while (message := self.receive()) is not None:
            yield message

    # --- the other thread -----------------------------------------------------------------------------------------

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        if self._over is not None:
            work.close()
            raise self._over
        self._await(work)

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        result = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return result.result()
        except BaseException:  # an interrupt, say: nobody waits for it any more
            result.cancel()
            raise

    async def _open(self) -> None:
        await self._client.__aenter__()
        self._over = None
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        """Put down what is heard, and then, once, how it ended: also for who waits when the stream is left."""
        end: Exception | None = None
        try:
            while (message := await self._client.receive()) is not None:
                self._heard.put(message)
            self._over = ConnectionFailed("the session has ended")
        except Exception as error:
            end = self._over = error
        except asyncio.CancelledError:
            end = self._over = ConnectionFailed("the stream was left")
        self._heard.put(end)

    async def _leave(self) -> None:
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        await self._client.__aexit__(None, None, None)

    def _join(self) -> None:
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
