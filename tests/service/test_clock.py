"""The rules of time, one each: docs/protocol.md, "Time"."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from poseline_service.clock import BELIEVED, MediaClock, Verdict

GAP = 2.0
steps = st.floats(1 / 120, 0.2)
wild = st.lists(st.floats(-50, 50) | st.integers(-40, 40).map(float), max_size=40)


def verdicts(times: list[float], clock: MediaClock | None = None) -> list[Verdict | None]:
    clock = clock or MediaClock(GAP)
    return [clock.take(t) for t in times]


def evenly(begin: float, step: float, count: int) -> list[float]:
    return [begin + i * step for i in range(count)]


@given(wild)
def test_times_that_count_rise_but_where_the_clock_was_set(times: list[float]) -> None:
    found = list(zip(times, verdicts(times), strict=True))
    counted = [(t, verdict) for t, verdict in found if verdict in (None, "clock_jump")]
    for (before, _), (after, verdict) in pairwise(counted):
        assert after > before if verdict is None else after < before - GAP
    newest: float | None = None
    for t, verdict in found:
        if verdict == "duplicate_frame":
            assert t == newest
        elif verdict == "late_frame":
            assert newest is not None
            assert t < newest
        else:
            newest = t


@given(st.floats(-1e6, 1e6), steps, st.floats(GAP + 0.01, 1e5), st.integers(BELIEVED, 30))
def test_a_clock_that_was_set_back_goes_on_from_there(begin: float, step: float, back: float, count: int) -> None:
    before = evenly(begin, step, 10)
    after = evenly(before[-1] - back - 30 * step, step, count)
    told = verdicts(before + after)
    dropped = BELIEVED - 1
    assert told[:10] == [None] * 10
    assert told[10:] == ["late_frame"] * dropped + ["clock_jump"] + [None] * (count - dropped - 1)


@given(steps, st.floats(0.001, GAP))
def test_a_clock_that_goes_back_a_little_is_late_until_it_has_caught_up(step: float, back: float) -> None:
    before = evenly(0, step, 10)
    after = evenly(before[-1] - back, step, round(back / step) + 10)
    told = verdicts(before + after)[10:]
    assert "clock_jump" not in told
    assert told == [None if t > before[-1] else "duplicate_frame" if t == before[-1] else "late_frame" for t in after]


@given(st.data(), steps)
def test_strays_do_not_set_the_clock(data: st.DataObject, step: float) -> None:
    """One or two frames in a row from any past cost themselves alone; one from any future two more."""
    times = evenly(100, step, 40)
    at = data.draw(st.integers(1, 39))
    past = data.draw(st.lists(st.floats(-100, 90), min_size=1, max_size=BELIEVED - 1))
    told = verdicts(times[:at] + past + times[at:])
    assert told == [None] * at + ["late_frame"] * len(past) + [None] * (40 - at)
    future = data.draw(st.floats(200, 1e9))
    told = verdicts([*times[:at], future, *times[at:]])
    dropped = min(BELIEVED - 1, 40 - at)
    assert told[at + 1 :] == (["late_frame"] * dropped + ["clock_jump"] + [None] * 40)[: 40 - at]


@given(wild, st.integers(0, 40))
def test_a_saved_clock_goes_on_exactly(times: list[float], at: int) -> None:
    clock = MediaClock(GAP, 30)
    told = verdicts(times[:at], clock)
    again = MediaClock(GAP, 30, clock.save())
    assert told + verdicts(times[at:], again) == verdicts(times)
    assert again.media >= clock.media


def test_two_clocks_in_turn_are_no_clock_that_was_set() -> None:
    told = verdicts([t for i in range(50) for t in (1000 + i / 30, i / 30)])
    assert told == [None, "late_frame"] * 50


@given(st.floats(5, 120), st.floats(5, 120), st.floats(0, 0.4), st.randoms(use_true_random=False))
def test_a_wrong_rate_is_told_once_and_a_right_one_never(
    told: float, real: float, jitter: float, random: object
) -> None:
    assume(not 0.7 < real / told < 0.8 and not 1.25 < real / told < 1.45)  # what jitter may decide
    clock = MediaClock(GAP, told)
    words = []
    for i in range(200):
        clock.take((i + random.uniform(-jitter, jitter)) / real)  # type: ignore[attr-defined]
        words.append(clock.wrong_rate())
    heard = [one for one in words if one]
    assert len(heard) == (not 0.75 <= real / told <= 1.33)
    assert all(f"{told:g}" in one for one in heard)


@pytest.mark.parametrize("pause", [0.5, 3.0])
def test_a_pause_is_no_other_rate(pause: float) -> None:
    clock = MediaClock(GAP, 30)
    for t in [*evenly(0, 1 / 30, 30), *evenly(1 + pause, 1 / 30, 60)]:
        clock.take(t)
        assert clock.wrong_rate() is None
