"""Witnesses: honest streams of which it is known what they must be told, whatever happens to them or around them.

A witness plays the scripted actor's motion. What an undisturbed server tells of it is the truth: finals must be exactly
those; scores, which the wire rounds to `ROUNDING`, may differ by one such step where a sum lies on the edge of two, so
the mean of all differences, in which rounding cancels out, is what `CLOSE` bounds.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from poseline.actor import perform
from poseline.client import ConnectionFailed, StreamClient
from poseline.pose import PoseSequence
from poseline.protocol import CoordinatesSpec, Frame, Scores, SegmentFinal, ServerMessage, StreamOptions
from poseline.remote import describe, play, timeline

ROUNDING = 1e-4
CLOSE = 1e-5
_AT_ONCE = 16
_TRIES = 5

Final = tuple[str, str, str, float, float]
"""segment_id, track_id, label, start, end."""


@dataclass(frozen=True)
class Part:
    """What a witness plays: a few people's motion."""

    frames: list[Frame]
    coordinates: CoordinatesSpec


def part(seed: int, *, seconds: float, fps: float = 30.0, people: int = 1) -> Part:
    """Motion of the actor, at that many frames a second (a divisor of 30)."""
    acts = {f"p{n + 1}": perform(1000 * seed + n, seconds=seconds).poses for n in range(people)}
    step = round(30 / fps)
    thinned = {
        name: PoseSequence(one.joints[::step], one.confidence[::step], one.timestamps[::step])
        for name, one in acts.items()
    }
    return Part(timeline(thinned, packed=True), describe(acts["p1"].coordinates))


@dataclass
class Account:
    """What a stream was told. finals: with their scores, in the order in which they came. pause: the longest time in which
    nothing was heard, in seconds. resumes: how often it was cut off."""

    finals: list[tuple[Final, float]] = field(default_factory=list[tuple[Final, float]])
    scores: dict[tuple[str, float], dict[int, float]] = field(default_factory=dict[tuple[str, float], dict[int, float]])
    pause: float = 0.0
    resumes: int = 0
    failure: str | None = None

    def hear(self, message: ServerMessage) -> None:
        if isinstance(message, SegmentFinal):
            name = message.segment_id, message.track_id, message.label, message.start, message.end
            self.finals.append((name, message.score))
        elif isinstance(message, Scores):
            self.scores[message.track_id, message.t] = dict(message.top)


async def attest(
    ws: str, played: Part, *, speed: float | None, scores_hz: float = 0.0, chunk: int = 1, late: float = 0.0
) -> Account:
    """Play a part `late` seconds from now, `speed` times as fast as it happened (None: as fast as it is taken)."""
    await asyncio.sleep(late)
    account = Account()
    try:
        async with _opened(ws, played, StreamOptions(scores_hz=scores_hz)) as client:
            heard = perf_counter()
            async for message in play(client, played.frames, chunk=chunk, speed=speed):
                now = perf_counter()
                account.pause, heard = max(account.pause, now - heard), now
                account.hear(message)
            account.resumes = client.resumes
    except Exception as error:  # a witness that fails is what is looked for: it is told, not raised
        account.failure = repr(error)
    return account


@asynccontextmanager
async def _opened(ws: str, played: Part, options: StreamOptions) -> AsyncIterator[StreamClient]:
    """A session that has begun. Where the line is cut before it has, it is opened anew: there is nothing to resume yet."""
    async with AsyncExitStack() as stack:
        for left in reversed(range(_TRIES)):
            client = StreamClient(ws, coordinates=played.coordinates, options=options)
            try:
                await stack.enter_async_context(client)
            except ConnectionFailed:
                if not left:
                    raise
                continue
            yield client
            return


async def undisturbed(ws: str, parts: Sequence[Part], *, scores_hz: float = 0.0) -> list[Account]:
    """The truth of each part, from a server that does nothing else."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(played: Part) -> Account:
        async with gate:
            return await attest(ws, played, speed=None, scores_hz=scores_hz, chunk=32)

    return await asyncio.gather(*(one(played) for played in parts))


@dataclass
class Comparison:
    """What became of many witnesses beside the truth. worst, mean: difference of scores that were told to both."""

    streams: int = 0
    finals: int = 0
    lost: int = 0
    doubled: int = 0
    invented: int = 0
    failed: list[str] = field(default_factory=list[str])
    scores: int = 0
    worst: float = 0.0
    _sum: float = 0.0

    @property
    def mean(self) -> float:
        return self._sum / max(1, self.scores)

    @property
    def same(self) -> bool:
        """Not one final lost, doubled or invented; scores within rounding, and within `CLOSE` on average."""
        wrong = self.lost + self.doubled + self.invented + len(self.failed)
        return not wrong and self.worst <= 1.01 * ROUNDING and self.mean <= CLOSE

    def told(self) -> dict[str, Any]:
        """As figures."""
        names = ("streams", "finals", "lost", "doubled", "invented", "failed", "scores", "worst", "mean", "same")
        return {name: getattr(self, name) for name in names}

    def add(self, truth: Account, found: Account) -> None:
        expected, heard = dict(truth.finals), Counter(name for name, _ in found.finals)
        self.streams += 1
        self.finals += len(expected)
        self.lost += len(expected.keys() - heard.keys())
        self.invented += len(heard.keys() - expected.keys())
        self.doubled += sum(count - 1 for count in heard.values())
        if found.failure or truth.failure:
            self.failed.append(found.failure or f"undisturbed: {truth.failure}")
        for name, score in found.finals:
            if name in expected:
                self._differ(abs(score - expected[name]))
        for frame, told in found.scores.items():
            for label in told.keys() & truth.scores.get(frame, {}).keys():  # the fifth of five may be another
                self._differ(abs(told[label] - truth.scores[frame][label]))

    def _differ(self, by: float) -> None:
        self.scores += 1
        self._sum += by
        self.worst = max(self.worst, by)


def compared(truth: Sequence[Account], found: Sequence[Account]) -> Comparison:
    comparison = Comparison()
    for one, other in zip(truth, found, strict=True):
        comparison.add(one, other)
    return comparison
