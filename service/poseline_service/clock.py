"""A client's media clock, as the times of its frames tell it: which of them go on, and which are dropped. Sans-IO.

One rule each. A frame that is not later than the newest is late, or its duplicate. A clock that goes *forward* by whatever
has only been quiet; who is unseen for `gap_reset` has left (`sessions`). A clock that goes *back* by more than `gap_reset`
and runs on from there was set: at the third frame in a row of which that holds, for one or two may be strays. (And so a
single stray from the far future costs no more than two frames.)
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

BELIEVED = 3
"""Frames in a row by which a clock that went back is believed."""
_MEASURED = 60
"""Steps between frames after which their rate is known."""
_ALIKE = 0.75, 1.33
"""Measured by told rate, within which the two agree: 25 and 30 do, 15 and 30 do not."""

Verdict = Literal["late_frame", "duplicate_frame", "clock_jump"]


class ClockState(Struct, frozen=True):
    """All that a clock knows, to travel."""

    newest: float | None
    behind: int
    behind_t: float
    media: float
    steps: int
    step_seconds: float


class MediaClock:
    """One session's clock. gap_reset: seconds. told_fps: the rate that the client says, if it does."""

    def __init__(self, gap_reset: float, told_fps: float | None = None, state: ClockState | None = None) -> None:
        self._gap, self._told_fps = gap_reset, told_fps
        state = state or ClockState(None, 0, 0.0, 0.0, 0, 0.0)
        self.newest = state.newest
        """Time of the newest accepted frame."""
        self._behind, self._behind_t = state.behind, state.behind_t
        """How many frames in a row came from far behind, and the time of the last of them."""
        self.media = state.media
        """Seconds that the clock has run, jumps back apart."""
        self._steps, self._step_seconds = state.steps, state.step_seconds

    def save(self) -> ClockState:
        return ClockState(self.newest, self._behind, self._behind_t, self.media, self._steps, self._step_seconds)

    def judge(self, t: float) -> Verdict | None:
        """What a frame of that time would be; None for one that goes on."""
        newest = self.newest
        if newest is None or t > newest:
            return None
        if t == newest:
            return "duplicate_frame"
        believed = self._behind + 1 >= BELIEVED and t > self._behind_t and newest - t > self._gap
        return "clock_jump" if believed else "late_frame"

    def take(self, t: float) -> Verdict | None:
        """The same, of a frame that came: with `None` and `clock_jump` it is the newest from now on."""
        verdict, newest = self.judge(t), self.newest
        if verdict == "late_frame" and newest is not None and newest - t > self._gap:
            self._behind = self._behind + 1 if t > self._behind_t else 1
            self._behind_t = t
            return verdict
        self._behind = 0
        if verdict is None and newest is not None:
            self.media += t - newest
            if t - newest <= self._gap and self._steps < _MEASURED:
                self._steps, self._step_seconds = self._steps + 1, self._step_seconds + t - newest
        if verdict in (None, "clock_jump"):
            self.newest = t
        return verdict

    def wrong_rate(self) -> str | None:
        """In words, if frames come at another rate than the client says: known from now on, and told once."""
        if self._told_fps is None or self._steps != _MEASURED:
            return None
        self._steps += 1
        measured = _MEASURED / self._step_seconds
        low, high = _ALIKE
        if low <= measured / self._told_fps <= high:
            return None
        return f"frames come {measured:.3g} times a second, session.start says {self._told_fps:g}; their times count"
