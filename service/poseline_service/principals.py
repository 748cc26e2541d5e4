"""Who asks, what they may do, and how much of it.

An *owner* is a name that sessions, jobs and tickets belong to; "" is everybody's, where no keys are asked for. What an owner
may have is counted per process, in buckets that fill up evenly: a minute's requests or a day's frames may come at once, and
no clock strikes at which all may come back together.
"""

from __future__ import annotations

from time import monotonic, time
from typing import Literal, get_args

from msgspec import Struct

from poseline_service.errors import ForbiddenScope, QuotaExceeded, RateLimited, TokenExpired, TooManySessions

Scope = Literal["localize", "jobs", "stream", "enroll"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
USUAL: tuple[Scope, ...] = ("localize", "jobs", "stream")
"""What a key may do that was made without a word about it: who enrolls a class changes the model for everybody."""
_MINUTE, _DAY = 60.0, 86_400.0


class Allowance(Struct, frozen=True):
    """How much an owner may have of one server process; None is without limit. sessions: open at a time. jobs: waiting."""

    sessions: int | None = None
    requests_per_minute: int | None = None
    frames_per_day: int | None = None
    jobs: int | None = None


class Principal(Struct, frozen=True):
    """A caller who has shown who they are. expires: Unix time. fingerprint: of the credential that showed it; a key that is
    replaced under the same name is another."""

    owner: str
    scopes: frozenset[str]
    allowance: Allowance = Allowance()
    expires: float | None = None
    fingerprint: str = ""

    def check(self, scope: str | None) -> None:
        """Raises TokenExpired, ForbiddenScope; no scope is anybody's."""
        if self.expires is not None and time() >= self.expires:
            raise TokenExpired("the credential's time is over; bring a new one")
        if scope is not None and scope not in self.scopes:
            raise ForbiddenScope(f"this credential has not the scope {scope!r}")


EVERYBODY = Principal("", frozenset(SCOPES))
"""Who asks where no keys are asked for."""


class Bucket:
    """`capacity` to be taken at once, filling up again evenly within `seconds`."""

    def __init__(self, capacity: float, seconds: float) -> None:
        self.capacity, self.seconds = capacity, seconds
        self.level = float(capacity)
        self._at = monotonic()

    @property
    def full(self) -> bool:
        return self.take(0) == 0 and self.level >= self.capacity

    def take(self, amount: float) -> float:
        """0 where it could be taken; else nothing is, and these are the seconds until it could be. What is more than there
        ever is may be taken of a full bucket, and leaves a debt."""
        now = monotonic()
        self.level = min(self.capacity, self.level + (now - self._at) * self.capacity / self.seconds)
        self._at = now
        lacking = min(amount, self.capacity) - self.level
        if lacking > 0:
            return lacking * self.seconds / self.capacity
        self.level -= amount
        return 0.0


class Account:
    """What one owner has taken of what they may."""

    def __init__(self, allowance: Allowance) -> None:
        self.sessions = 0
        self.change(allowance)

    def change(self, allowance: Allowance) -> None:
        """Other limits from now on."""
        self.allowance = allowance
        self.requests = _bucket(allowance.requests_per_minute, _MINUTE)
        self._frames = _bucket(allowance.frames_per_day, _DAY)

    def request(self) -> None:
        """One more request or handshake. Raises RateLimited."""
        if self.requests and (wait := self.requests.take(1)):
            what = f"more than {self.allowance.requests_per_minute} requests a minute"
            raise RateLimited(what, retry_after=wait)

    def enter(self) -> None:
        """One more stream. Raises RateLimited."""
        limit = self.allowance.sessions
        if limit is not None and self.sessions >= limit:
            what = f"{self.sessions} streams of this credential are open, the limit is {limit}"
            raise TooManySessions(what, retry_after=1.0)
        self.sessions += 1

    def leave(self) -> None:
        self.sessions -= 1

    def spend(self, frames: int) -> None:
        """So many frames to be scored. Raises QuotaExceeded."""
        if self._frames and (wait := self._frames.take(frames)):
            raise QuotaExceeded(f"more than {self.allowance.frames_per_day} frames a day", retry_after=wait)

    @property
    def idle(self) -> bool:
        """It is as if nothing had been taken."""
        buckets = [one for one in (self.requests, self._frames) if one is not None]
        return self.sessions == 0 and all(one.full for one in buckets)


def _bucket(capacity: int | None, seconds: float) -> Bucket | None:
    return None if capacity is None else Bucket(capacity, seconds)
