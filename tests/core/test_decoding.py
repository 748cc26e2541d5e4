import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from poseline.decoding import Decision, DecodingOptions, SegmentDecoder

QUIET = np.zeros(2, np.float32)


def scores(*p: float) -> np.ndarray:
    return np.array([1 - sum(p), *p], np.float32)


def run(
    track: list[float], options: DecodingOptions | None = None, borders: dict[int, tuple[float, float]] | None = None
):
    """One class with these scores, frame by frame; flushed at the end."""
    decoder = SegmentDecoder(2, options=options)
    found: list[Decision] = []
    for t, p in enumerate(track):
        found += decoder.push(scores(p, 0.0), np.array((borders or {}).get(t, (0, 0)), np.float32))
    return found, decoder


def test_a_clear_action_is_started_and_final_once() -> None:
    found, decoder = run([0.0] * 5 + [0.9] * 30 + [0.0] * 10)
    assert [d.phase for d in found] == ["started", "final"]
    started, final = found
    assert (started.start, started.decided) == (5, 5)
    assert (final.start, final.end) == (5, 35)
    assert final.decided == 35 + 3, "decided when the score has stayed low for more than the hang of 3 frames"
    assert final.key == started.key
    assert final.label == 1
    assert final.score == pytest.approx(0.9 * 0.9, abs=1e-5)
    assert decoder.flush("close") == []


def test_the_start_reaches_back_to_the_low_threshold() -> None:
    found, _ = run([0.0] * 5 + [0.3] * 4 + [0.9] * 30 + [0.0] * 10)
    assert (found[0].start, found[0].decided) == (5, 9)


def test_never_high_is_never_opened() -> None:
    assert run([0.3] * 60 + [0.0] * 10)[0] == []


def test_a_dip_within_the_hang_does_not_end_a_segment() -> None:
    found, _ = run([0.9] * 20 + [0.0] * 3 + [0.9] * 20 + [0.0] * 10)
    assert [(d.phase, d.start, d.end) for d in found][-1] == ("final", 0, 43)
    found, _ = run([0.9] * 20 + [0.0] * 4 + [0.9] * 20 + [0.0] * 10)
    assert [d.phase for d in found] == ["started", "final", "started", "final"]


def test_too_short_is_retracted() -> None:
    found, _ = run([0.0] * 3 + [0.9] * 15 + [0.0] * 10)
    assert [d.phase for d in found] == ["started", "retracted"]
    assert found[0].key == found[1].key


def test_borders_move_to_the_boundary_heads_peak() -> None:
    found, _ = run([0.0] * 10 + [0.9] * 30 + [0.0] * 10, borders={7: (0.8, 0.0), 37: (0.0, 0.7)})
    assert (found[-1].start, found[-1].end) == (7, 37)
    found, _ = run([0.0] * 10 + [0.9] * 30 + [0.0] * 10, borders={7: (0.2, 0.0), 37: (0.0, 0.2)})
    assert (found[-1].start, found[-1].end) == (10, 40), "a faint boundary says nothing"


def test_the_start_score_is_weighed_by_the_start_border() -> None:
    plain, _ = run([0.0] * 10 + [0.9] * 30)
    sure, _ = run([0.0] * 10 + [0.9] * 30, borders={9: (1.0, 0.0)})
    assert plain[0].score == pytest.approx(0.27, abs=1e-5)
    assert sure[0].score == pytest.approx(0.9, abs=1e-5)


def test_longer_than_the_maximum_is_cut_by_force_and_goes_on() -> None:
    found, _ = run([0.9] * 130, DecodingOptions(max_duration=2.0))
    finals = [(d.start, d.end, d.forced) for d in found if d.phase == "final"]
    assert finals == [(0, 60, "max_duration"), (60, 120, "max_duration")]


def test_flush_closes_what_is_open_and_says_why() -> None:
    _, decoder = run([0.9] * 20)
    (final,) = decoder.flush("flush")
    assert (final.phase, final.start, final.end, final.forced) == ("final", 0, 20, "flush")
    assert decoder.flush("flush") == []
    _, decoder = run([0.9] * 5)
    (retracted,) = decoder.flush("flush")
    assert retracted.phase == "retracted"


def test_updates_come_at_their_interval() -> None:
    found, _ = run([0.9] * 46 + [0.0] * 5, DecodingOptions(updates=0.5))
    assert [d.end for d in found if d.phase == "updated"] == [15, 30, 45]


def test_only_allowed_classes_are_decided() -> None:
    decoder = SegmentDecoder(2, allowed=np.array([False, True]))
    found = [d for _ in range(30) for d in decoder.push(scores(0.5, 0.45), QUIET)]
    assert {d.label for d in found} == {2}


def test_impossible_options_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"off_score 0\.5 is above min_score 0\.4"):
        DecodingOptions(off_score=0.5)


LEVELS = st.sampled_from([0.0, 0.1, 0.25, 0.45, 0.9])


@settings(max_examples=60)
@given(st.lists(st.tuples(LEVELS, LEVELS), min_size=1, max_size=150))
def test_every_segment_lives_once(track: list[tuple[float, float]]) -> None:
    """started → updated* → (final | retracted), nothing after; finals in order of decision; spans well formed."""
    decoder = SegmentDecoder(2, options=DecodingOptions(min_duration=0.1, updates=0.2))
    found = [d for a, b in track for d in decoder.push(scores(a, b), QUIET)] + decoder.flush("close")
    assert decoder.flush("close") == [], "flushing left something open"
    by_key: dict[int, list[Decision]] = {}
    for one in found:
        by_key.setdefault(one.key, []).append(one)
    for life in by_key.values():
        phases = [one.phase for one in life]
        assert phases[0] == "started"
        assert phases[-1] in ("final", "retracted")
        assert set(phases[1:-1]) <= {"updated"}
        assert len({one.label for one in life}) == 1
        assert len({one.start for one in life}) == 1, "a start that was announced never moves"
        assert all(0 <= one.start < one.end <= len(track) for one in life)
    decided = [one.decided for one in found if one.phase == "final"]
    assert decided == sorted(decided)
