"""Webhooks: what happened, told to the targets that a session or job has chosen. At least once, and beside the streams.

Events enter as messages that a session posts, or a job that ends; signed POSTs leave (`sender`), so many at a time to each
target. In between they wait in a queue (`deliveries`): this process's, or in the store of sessions' states. There they are
before a state that knows of them is saved (`stored`), so before a final is told; and there they stay until a target has
confirmed them, whichever server sends them. A delivery that fails is tried again, later each time, and given up in the end.

Three kinds of task: one takes what is posted to the queue, one a target takes what is due from it, one a delivery sends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from random import uniform
from time import time
from typing import Any

import httpx
from msgspec import UNSET, json, to_builtins

from poseline import protocol
from poseline.webhooks import Event, EventKind
from poseline_service.deliveries import Delivery, DeliveryQueue, MemoryQueue, RedisQueue
from poseline_service.errors import StoreUnavailable
from poseline_service.logging import log
from poseline_service.metrics import Metrics
from poseline_service.redis import Redis
from poseline_service.sender import DeliveryFailed, Sender, lookup_in
from poseline_service.settings import ServiceSettings
from poseline_service.targets import Target, choose, read_targets

_OF_SESSIONS: Mapping[type[Any], EventKind] = {
    protocol.SegmentFinal: "segment.final",
    protocol.SegmentStarted: "segment.started",
    protocol.SessionClosed: "session.closed",
}
_OF_JOBS: EventKind = "job.finished"
_POLL = 1.0
"""Seconds after which a target's queue is looked at again where nothing says that something is due."""
_UNSAID = {"seq", "type"}
"""Of a message: its number belongs to the connection, its type is the event's."""

Copy = Callable[[protocol.ServerMessage], None]
"""Hears what a session posts."""


def open_queue(settings: ServiceSettings) -> DeliveryQueue:
    """Raises InputError for an address of the store that is none."""
    if settings.state_url is None:
        return MemoryQueue(settings.webhook_queue)
    redis = Redis(settings.state_url, settings.state_timeout)
    return RedisQueue(redis, settings.webhook_queue, settings.webhook_give_up + settings.webhook_last_retry)


class Webhooks:
    """The targets of one server, and what is on its way to them. Raises InputError for a file of targets that is none."""

    def __init__(self, settings: ServiceSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._targets = read_targets(settings.webhooks)
        self._queue = open_queue(settings)
        self._posted: list[Delivery] = []
        """Not yet in the queue."""
        self._arrived = asyncio.Event()
        self._storing = asyncio.Lock()
        self._due = {name: asyncio.Event() for name in self._targets}
        """Something may be."""
        self._senders: dict[str, Sender] = {}
        self._ending = False
        self._turn = 0.0
        """When the next attempt may begin, by the loop's clock."""
        self._running: set[asyncio.Task[None]] = set()
        self._workers: list[asyncio.Task[None]] = []
        self._resolving = {name: ThreadPoolExecutor(1, f"webhook-names-{name}") for name in self._targets}
        """A thread for each target: where one's name server does not answer, the others' names are looked up."""

    # --- what happens ---------------------------------------------------------------------------------------------

    def of_session(self, names: Sequence[str], session_id: str, owner: str) -> Copy | None:
        """What tells these targets of a session's messages; None where it chose none. Raises UnknownWebhook."""
        chosen = choose(self._targets, names, _OF_SESSIONS.values(), owner)
        if not chosen:
            return None

        def copy(message: protocol.ServerMessage) -> None:
            kind = _OF_SESSIONS.get(type(message))
            if kind is None:
                return
            data = {name: one for name, one in to_builtins(message).items() if name not in _UNSAID}
            subject = data.get("segment_id")
            last = kind.rpartition(".")[2]
            event_id = f"{session_id}.{subject}.{last}" if subject else f"{session_id}.{last}"
            self._post(chosen, kind, event_id, f"/v1/sessions/{session_id}", data, subject)

        return copy

    def of_job(self, names: Sequence[str], owner: str) -> Callable[[protocol.JobStatus], None]:
        """What tells these targets of a job that is over. Raises UnknownWebhook."""
        chosen = choose(self._targets, names, [_OF_JOBS], owner)

        def over(job: protocol.JobStatus) -> None:
            self._post(chosen, _OF_JOBS, f"job_{job.id}.finished", f"/v1/jobs/{job.id}", to_builtins(job), None)

        return over

    def _post(
        self, targets: Sequence[Target], kind: EventKind, event_id: str, source: str, data: Any, subject: str | None
    ) -> None:
        told = [target for target in targets if kind in target.events]
        if not told:
            return
        event = Event(
            id=event_id,
            source=source,
            type=f"poseline.{kind}",
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            subject=subject or UNSET,
            data=data,
        )
        body, now = json.encode(event), time()
        for target in told:
            delivery = Delivery(target.name, event_id, body, now)
            if len(self._posted) < self._settings.webhook_queue:
                self._posted.append(delivery)
            else:
                self._give_up(delivery, "no_room")
        self._arrived.set()

    async def stored(self) -> None:
        """All that was posted so far is in the queue. Raises StoreUnavailable; then it is taken there later."""
        async with self._storing:
            batch, self._posted = self._posted, []
            if not batch:
                return
            try:
                refused = await self._queue.add(batch)
            except BaseException:
                self._posted = batch + self._posted  # what arrived all the same is known by its id
                raise
        for one in refused:
            self._give_up(one, "no_room")
        for target in {one.target for one in batch}:
            self._due[target].set()

    def _give_up(self, delivery: Delivery, reason: str) -> None:
        self._metrics.webhook_dead_letters.labels(delivery.target, reason).inc()
        log.error("webhook_given_up", target=delivery.target, event_id=delivery.event_id, reason=reason)

    # --- on its way -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to send, also what another server has left."""
        if not self._targets:
            return
        context = await asyncio.to_thread(httpx.create_ssl_context)
        self._senders = {
            name: Sender(one, lookup_in(self._resolving[name]), context, self._settings.webhook_timeout)
            for name, one in self._targets.items()
        }
        tasks = [self._store(), *(self._work(name) for name in self._targets)]
        self._workers = [asyncio.create_task(task, name="webhooks") for task in tasks]

    async def _store(self) -> None:
        """Take what is posted to the queue, until the end."""
        while not self._ending:
            await self._arrived.wait()
            self._arrived.clear()
            try:
                await self.stored()
            except StoreUnavailable as error:
                log.warning("webhooks_not_stored", detail=error.detail)
                await asyncio.sleep(_POLL)
                self._arrived.set()

    async def _work(self, target: str) -> None:
        """Send what is due, until the end."""
        due, most = self._due[target], self._settings.webhook_concurrency
        running: set[asyncio.Task[None]] = set()

        def ended(task: asyncio.Task[None]) -> None:
            running.discard(task)
            self._running.discard(task)
            due.set()

        while not self._ending:
            due.clear()
            taken = await self._take(target, most - len(running)) if len(running) < most else []
            for one in taken:
                task = asyncio.create_task(self._deliver(one))
                running.add(task)
                self._running.add(task)
                task.add_done_callback(ended)
            if not taken:
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(_POLL, self._settings.webhook_first_retry)):
                        await due.wait()

    async def _take(self, target: str, most: int) -> list[Delivery]:
        lease = 2 * self._settings.webhook_timeout + 1
        try:
            taken, waiting = await self._queue.take(target, most, lease)
        except StoreUnavailable as error:
            log.warning("webhooks_not_taken", target=target, detail=error.detail)
            return []
        self._metrics.webhooks_waiting.labels(target).set(waiting)
        return taken

    async def _wait_for_turn(self) -> None:
        """So that a backlog takes no more of the event loop than its share."""
        now = asyncio.get_running_loop().time()
        begin = max(now, self._turn)
        self._turn = begin + 1 / self._settings.webhook_rate
        if begin > now:
            await asyncio.sleep(begin - now)

    async def _deliver(self, one: Delivery) -> None:
        """One attempt, and what follows from it."""
        settings, attempts = self._settings, self._metrics.webhook_attempts
        await self._wait_for_turn()
        try:
            try:
                await self._senders[one.target].send(one)
                attempts.labels(one.target, "delivered").inc()
                await self._queue.done(one)
            except DeliveryFailed as failed:
                attempts.labels(one.target, failed.outcome).inc()
                about = {"target": one.target, "event_id": one.event_id, "attempt": one.attempts + 1}
                log.warning("webhook_failed", **about, outcome=failed.outcome, detail=str(failed))
                wait = settings.webhook_first_retry * 2.0 ** min(one.attempts, 60) * uniform(0.5, 1.5)
                if time() - one.posted > settings.webhook_give_up:
                    self._give_up(one, "too_old")
                    await self._queue.done(one)
                else:
                    await self._queue.again(one, min(wait, settings.webhook_last_retry))
        except StoreUnavailable as error:  # its lease will end, and it is sent once more
            log.warning("webhook_not_noted", target=one.target, event_id=one.event_id, detail=error.detail)
        except Exception:  # likewise
            log.exception("webhook_broke", target=one.target, event_id=one.event_id)

    # --- the end --------------------------------------------------------------------------------------------------

    async def drain(self, seconds: float) -> None:
        """Send what can be sent in so many seconds: all that would end with this process, once more; and what is due."""
        if not self._workers:
            return
        self._ending = True
        for waited_for in (self._arrived, *self._due.values()):
            waited_for.set()
        with suppress(TimeoutError, StoreUnavailable):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*self._workers)
                await self.stored()
                await asyncio.gather(*self._running)
                self._queue.hasten()
                await asyncio.gather(*map(self._empty, self._targets))
        for one in [*self._posted, *self._queue.hasten()]:
            self._give_up(one, "shutdown")

    async def _empty(self, target: str) -> None:
        while taken := await self._take(target, self._settings.webhook_concurrency):
            await asyncio.gather(*map(self._deliver, taken))

    async def stop(self) -> None:
        self._ending = True
        tasks = [*self._workers, *self._running]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for sender in self._senders.values():
            await sender.close()
        await self._queue.close()
        for resolving in self._resolving.values():
            resolving.shutdown(wait=False, cancel_futures=True)
