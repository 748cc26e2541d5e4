import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from poseline.decoding import Decision, DecodingOptions, SegmentDecoder
from poseline.errors import StateError
from poseline.segments import Forced

PLAIN = DecodingOptions(min_score=0.4, off_score=0.2, min_duration=16 / 30)
QUIET = np.zeros(2, np.float32)
NAMES = ("one", "other")


def with_(**changes: object) -> DecodingOptions:
    return DecodingOptions.model_validate(PLAIN.model_dump() | changes)


class Alone:
    """The decoder of one track."""

    def __init__(self, options: DecodingOptions | None = None, allowed: np.ndarray | None = None) -> None:
        self._decoder = SegmentDecoder(3, 2)
        self._decoder.open(1, options or PLAIN, allowed, NAMES)

    def push(self, p: np.ndarray, boundaries: np.ndarray) -> list[Decision]:
        return [one for _, one in self._decoder.push(np.array([1]), p[None], boundaries[None])]

    def flush(self, forced: Forced) -> list[Decision]:
        return self._decoder.flush(1, forced)


def scores(*p: float) -> np.ndarray:
    return np.array([1 - sum(p), *p], np.float32)


def run(
    track: list[float], options: DecodingOptions | None = None, borders: dict[int, tuple[float, float]] | None = None
):
    """One class with these scores, frame by frame; flushed at the end."""
    decoder = Alone(options)
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


def test_the_next_of_the_same_class_is_cut_off_where_both_borders_peak() -> None:
    """Two kicks in a row, the score high throughout: the second is announced five frames after it began."""
    found, _ = run([0.9] * 60 + [0.0] * 10, borders={28: (0.1, 0.8), 30: (0.7, 0.2)})
    assert [(d.phase, d.key, d.start, d.end, d.decided) for d in found] == [
        ("started", 0, 0, 1, 0),
        ("final", 0, 0, 28, 35),
        ("started", 1, 30, 36, 35),
        ("final", 1, 30, 60, 63),
    ]
    assert found[1].score == found[3].score == pytest.approx(0.81, abs=1e-5)


@pytest.mark.parametrize(
    "borders",
    [
        {30: (0.9, 0.2)},  # nothing ended
        {28: (0.1, 0.9), 30: (0.3, 0.2)},  # nothing began
        {12: (0.0, 0.9), 14: (0.9, 0.0)},  # what ended would be too short
        dict.fromkeys(range(20, 60), (0.9, 0.9)),  # no peak while it lasts
    ],
)
def test_one_border_alone_cuts_nothing(borders: dict[int, tuple[float, float]]) -> None:
    found, _ = run([0.9] * 60, borders=borders)
    assert [d.phase for d in found] == ["started"]


def test_a_plateau_cuts_once() -> None:
    found, _ = run([0.9] * 80, borders=dict.fromkeys(range(30, 40), (0.9, 0.9)))
    assert [(d.phase, d.start) for d in found] == [("started", 0), ("final", 0), ("started", 39)]


def test_a_score_that_has_fallen_is_not_cut() -> None:
    found, _ = run([0.9] * 32 + [0.3] * 20 + [0.0] * 9, borders={30: (0.9, 0.9)})
    assert [d.phase for d in found] == ["started", "final"]


def test_a_score_that_lingers_ends_where_the_end_border_peaked() -> None:
    """The score stays between the thresholds: only the border tells that it is over, five frames later."""
    lingering = [0.9] * 30 + [0.3] * 40
    found, _ = run(lingering, borders={30: (0.0, 0.7)})
    assert [(d.phase, d.start, d.end, d.decided) for d in found] == [("started", 0, 1, 0), ("final", 0, 30, 35)]
    assert found[-1].score == pytest.approx(0.9 * (0.9 * 30 + 0.3 * 6) / 36, abs=1e-5)
    assert len(run(lingering, borders={30: (0.0, 0.3)})[0]) == 1, "a faint border ends nothing"
    assert len(run([0.9] * 70, borders={30: (0.0, 0.7)})[0]) == 1, "nor does one while the score is high"
    assert len(run([0.9] * 12 + [0.3] * 40, borders={12: (0.0, 0.7)})[0]) == 1, "nor is what is too short made final"


def test_the_start_score_is_weighed_by_the_start_border() -> None:
    plain, _ = run([0.0] * 10 + [0.9] * 30)
    sure, _ = run([0.0] * 10 + [0.9] * 30, borders={9: (1.0, 0.0)})
    assert plain[0].score == pytest.approx(0.27, abs=1e-5)
    assert sure[0].score == pytest.approx(0.9, abs=1e-5)


def test_longer_than_the_maximum_is_cut_by_force_and_goes_on() -> None:
    found, _ = run([0.9] * 130, with_(max_duration=2.0))
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
    found, _ = run([0.9] * 46 + [0.0] * 5, with_(updates=0.5))
    assert [d.end for d in found if d.phase == "updated"] == [15, 30, 45]


def test_only_allowed_classes_are_decided() -> None:
    decoder = Alone(allowed=np.array([False, True]))
    found = [d for _ in range(30) for d in decoder.push(scores(0.5, 0.45), QUIET)]
    assert {d.label for d in found} == {2}


def test_impossible_options_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"off_score 0\.5 is above min_score 0\.4"):
        with_(off_score=0.5)
    with pytest.raises(ValidationError, match=r"off_score 0\.5 is above min_score 0\.3"):
        with_(thresholds={"one": {"min_score": 0.3, "off_score": 0.5}})


@pytest.mark.parametrize("evidence", [0.0, 6.0])
def test_a_class_goes_by_its_own_thresholds_and_the_other_by_those_of_all(evidence: float) -> None:
    rng = np.random.default_rng(3)
    track = np.repeat(rng.uniform(0, 0.5, (60, 2)), 4, axis=0)
    own, plain = {"min_score": 0.25, "off_score": 0.1}, with_(evidence=evidence, min_duration=0.1)
    mixed = of_each_class(track, with_(evidence=evidence, min_duration=0.1, thresholds={"other": own}))
    for_all = of_each_class(track, with_(evidence=evidence, min_duration=0.1, **own))
    as_told = of_each_class(track, plain)
    assert mixed == {1: as_told[1], 2: for_all[2]}
    assert for_all != as_told


def of_each_class(track: np.ndarray, options: DecodingOptions) -> dict[int, list[tuple]]:
    """What is decided of each label, but for its key: those are counted over both."""
    decoder = Alone(options)
    found = [d for p in track for d in decoder.push(scores(*p), QUIET)]
    return {k: [(d.phase, d.start, d.end, d.score, d.decided) for d in found if d.label == k] for k in (1, 2)}


LEVELS = st.sampled_from([0.0, 0.1, 0.25, 0.45, 0.9])


@settings(deadline=None)
@given(st.lists(st.tuples(LEVELS, LEVELS), min_size=1, max_size=150))
def test_every_segment_lives_once(track: list[tuple[float, float]]) -> None:
    """started → updated* → (final | retracted), nothing after; finals in order of decision; spans well formed."""
    decoder = Alone(with_(min_duration=0.1, updates=0.2))
    found = [d for a, b in track for d in decoder.push(scores(a, b), borders(a, b))] + decoder.flush("close")
    assert decoder.flush("close") == [], "flushing left something open"
    check_lives(found, len(track))


def check_lives(found: list[Decision], frames: int, *, patient: bool = False) -> None:
    """patient: some were to be told once there was evidence for them, so a final may come directly."""
    by_key: dict[int, list[Decision]] = {}
    for one in found:
        by_key.setdefault(one.key, []).append(one)
    for life in by_key.values():
        phases = [one.phase for one in life]
        assert phases[0] == "started" or (patient and phases == ["final"])
        assert phases[-1] in ("final", "retracted")
        assert set(phases[1:-1]) <= {"updated"}
        assert len({one.label for one in life}) == 1
        assert len({one.start for one in life}) == 1, "a start that was announced never moves"
        assert all(0 <= one.start < one.end <= frames for one in life)
    decided = [one.decided for one in found if one.phase == "final"]
    assert decided == sorted(decided)


# --- evidence ---------------------------------------------------------------------------------------------------------

SURE = float(np.log(0.9 / 0.1) - np.log(0.4 / 0.6))
"""Nats that a frame at 0.9 is worth where 0.4 is no news."""


@pytest.mark.parametrize(("frames", "told_at"), [(0.0, 5), (0.5, 5), (1.5, 6), (9.5, 14)])
def test_a_start_is_told_once_there_is_evidence_for_it(frames: float, told_at: int) -> None:
    found, _ = run([0.0] * 5 + [0.9] * 30 + [0.0] * 10, with_(evidence=frames * SURE))
    started, final = found
    assert (started.phase, started.start, started.end, started.decided) == ("started", 5, told_at + 1, told_at)
    assert (final.phase, final.start, final.end, final.decided) == ("final", 5, 35, 38)


def test_what_ends_before_it_was_told_of_is_final_directly_or_never_heard_of() -> None:
    track = [0.9] * 20 + [0.0] * 10 + [0.9] * 10 + [0.0] * 10
    assert [(d.phase, d.key) for d in run(track)[0]] == [("started", 0), ("final", 0), ("started", 1), ("retracted", 1)]
    found, _ = run(track, with_(evidence=25 * SURE, updates=0.2))
    assert [(d.phase, d.key) for d in found] == [("final", 0)]


def test_evidence_is_lost_where_the_score_falls_and_gathers_anew() -> None:
    """Page's sum stays at nothing below `min_score`: what was at 0.3 for long has no debt to pay."""
    dip = [0.9] * 3 + [0.3] * 20 + [0.9] * 30
    found, _ = run(dip, with_(evidence=3.5 * SURE))
    assert [(d.phase, d.start, d.decided) for d in found] == [("started", 0, 26)]
    found, _ = run([0.0] * 5 + [0.3] * 40 + [0.9] * 30, with_(evidence=0.5 * SURE))
    assert [(d.phase, d.start, d.decided) for d in found] == [("started", 5, 45)]


def test_a_perfect_score_is_no_infinite_evidence() -> None:
    found, _ = run([1.0] * 40, with_(evidence=20.0))
    assert [(d.phase, d.decided) for d in found] == [("started", 2)]
    assert run([1.0] * 40, with_(evidence=1000.0))[0] == []


def test_the_next_of_the_same_class_gathers_its_own_evidence() -> None:
    double = {"track": [0.9] * 70 + [0.0] * 10, "borders": {28: (0.1, 0.8), 30: (0.7, 0.2)}}
    found, _ = run(**double, options=with_(evidence=5.5 * SURE))
    assert [(d.phase, d.key, d.decided) for d in found][1:3] == [("final", 0, 35), ("started", 1, 35)]
    found, _ = run(**double, options=with_(evidence=7.5 * SURE))
    assert [(d.phase, d.key, d.decided) for d in found][1:3] == [("final", 0, 35), ("started", 1, 37)]


def test_less_evidence_wanted_under_way_tells_at_once() -> None:
    found = adjusted([0.9] * 40, 20, PLAIN, with_(evidence=1000.0))
    assert [(one.phase, one.start, one.decided) for one in found] == [("started", 0, 20), ("final", 0, 39)]
    saved, other = SegmentDecoder(1, 2), SegmentDecoder(1, 2)
    saved.open(0, with_(evidence=1000.0))
    other.open(0, PLAIN)
    assert saved.push(np.array([0]), scores(0.9, 0)[None], QUIET[None]) == []
    other.load(0, saved.save(0))
    ((_, started),) = other.push(np.array([0]), scores(0.9, 0)[None], QUIET[None])
    assert (started.phase, started.start, started.decided) == ("started", 0, 1)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(LEVELS, LEVELS), min_size=1, max_size=150),
    st.sampled_from([0, 1, 2]),
    st.floats(0, 40),
    st.floats(0, 40),
)
def test_finals_do_not_depend_on_evidence(
    track: list[tuple[float, float]], which: int, little: float, much: float
) -> None:
    """Nor do they come later, and more evidence only takes starts away or makes them later."""
    little, much = sorted((little, much))
    plain, early, late = (
        alone(track, OPTIONS[which].model_copy(update={"evidence": nats})) for nats in (0.0, little, much)
    )
    finals = [one for one in plain if one.phase == "final"]
    for found in (early, late):
        check_lives(found, len(track), patient=True)
        assert [one for one in found if one.phase == "final"] == finals
    at = {one.key: one.decided for one in early if one.phase == "started"}
    for one in late:
        if one.phase == "started":
            assert one.decided >= at[one.key]


# --- many tracks side by side -----------------------------------------------------------------------------------------

OPTIONS = (
    with_(min_duration=0.1, updates=0.2),
    with_(min_score=0.8, off_score=0.3, max_duration=1.0, thresholds={"other": {"min_score": 0.2, "off_score": 0.05}}),
    with_(off_hang=0.0, min_duration=0.0, evidence=3.0),
)
TRACK = st.lists(st.tuples(LEVELS, LEVELS), min_size=1, max_size=80)


def alone(track: list[tuple[float, float]], options: DecodingOptions) -> list[Decision]:
    decoder = Alone(options)
    return [d for a, b in track for d in decoder.push(scores(a, b), borders(a, b))] + decoder.flush("close")


def borders(a: float, b: float) -> np.ndarray:
    """Borders that come and go with the scores, so that segments are cut, too."""
    return np.array([0.9 if b > a else 0.1, 0.9 if a > 0.5 else 0.0], np.float32)


@settings(max_examples=60, deadline=None)
@given(st.lists(TRACK, min_size=3, max_size=3), st.permutations(range(5)), st.randoms())
def test_neighbours_slots_and_pace_change_nothing(tracks: list, slots: list[int], chance) -> None:
    """Each with its own options, stepping whenever it likes, in slots that somebody else has left full."""
    decoder = SegmentDecoder(5, 2)
    for slot in range(5):
        decoder.open(slot, OPTIONS[0])
    for _ in range(7):
        decoder.push(np.arange(5), np.array([[0, 1, 0]] * 5, np.float32), np.ones((5, 2), np.float32))
    for slot, options in zip(slots, OPTIONS, strict=False):
        decoder.open(slot, options, names=NAMES)
    found: list[list[Decision]] = [[], [], []]
    at = [0, 0, 0]
    while live := [i for i in range(3) if at[i] < len(tracks[i])]:
        some = chance.sample(live, chance.randint(1, len(live)))
        p = np.array([scores(*tracks[i][at[i]]) for i in some])
        ends = np.array([borders(*tracks[i][at[i]]) for i in some])
        for row, one in decoder.push(np.array([slots[i] for i in some]), p, ends):
            found[some[row]].append(one)
        for i in some:
            at[i] += 1
    for i in range(3):
        found[i] += decoder.flush(slots[i], "close")
    assert found == [alone(track, options) for track, options in zip(tracks, OPTIONS, strict=True)]


@settings(max_examples=60, deadline=None)
@given(TRACK, TRACK, st.sampled_from(OPTIONS))
def test_a_saved_track_goes_on_elsewhere(before: list, after: list, options: DecodingOptions) -> None:
    here, there = SegmentDecoder(2, 2), SegmentDecoder(4, 2)
    here.open(1, options, names=NAMES)
    there.open(2, options, names=NAMES)
    found: list[Decision] = []
    for a, b in before:
        found += [one for _, one in here.push(np.array([1]), scores(a, b)[None], borders(a, b)[None])]
    there.load(2, here.save(1))
    for a, b in after:
        found += [one for _, one in there.push(np.array([2]), scores(a, b)[None], borders(a, b)[None])]
    assert found + there.flush(2, "close") == alone(before + after, options)


def test_a_state_of_other_classes_is_refused() -> None:
    decoder = SegmentDecoder(1, 3)
    decoder.open(0, PLAIN)
    decoder.push(np.array([0]), np.array([[0, 0, 0, 1]], np.float32), QUIET[None])
    with pytest.raises(StateError, match="of 2 classes here"):
        SegmentDecoder(1, 2).load(0, decoder.save(0))


# --- options that change under way --------------------------------------------------------------------------------------


def adjusted(
    track: list[float], at: int, later: DecodingOptions, first: DecodingOptions | None = None, allowed=None
) -> list[Decision]:
    """One class with these scores, `later` in force from frame `at` on."""
    decoder = SegmentDecoder(3, 2)
    decoder.open(1, first or PLAIN)
    found: list[Decision] = []
    for t, p in enumerate(track):
        if t == at:
            decoder.adjust(1, later, allowed)
        found += [one for _, one in decoder.push(np.array([1]), scores(p, 0.0)[None], QUIET[None])]
    return found + decoder.flush(1, "close")


def told(found: list[Decision]) -> list[tuple]:
    return [(one.phase, one.key, one.start, one.end, one.forced) for one in found]


def test_a_higher_threshold_stops_starts_and_ends_nothing() -> None:
    """Two actions at 0.6, and the threshold rises within the first: it goes on, the second never begins."""
    track = [0.6] * 40 + [0.0] * 10 + [0.6] * 40 + [0.0] * 10
    found = adjusted(track, 20, with_(min_score=0.8))
    assert told(found) == [("started", 0, 0, 1, "none"), ("final", 0, 0, 40, "none")]
    assert told(adjusted(track, 0, with_(min_score=0.8))) == []


def test_a_lower_threshold_lets_start_what_is_under_way() -> None:
    track = [0.0] * 5 + [0.3] * 40 + [0.0] * 10
    found = adjusted(track, 25, with_(min_score=0.25))
    assert told(found) == [("started", 0, 5, 26, "none"), ("final", 0, 5, 45, "none")]


def test_a_lower_maximum_cuts_what_is_open_at_once() -> None:
    found = adjusted([0.9] * 50, 40, with_(max_duration=1.0, min_duration=0.0))
    assert told(found)[:2] == [("started", 0, 0, 1, "none"), ("final", 0, 0, 41, "max_duration")]
    found = adjusted([0.9] * 50, 10, with_(max_duration=1.0))
    assert told(found)[1] == ("final", 0, 0, 30, "max_duration")


def test_a_higher_maximum_spares_what_is_open() -> None:
    found = adjusted([0.9] * 50, 20, PLAIN, with_(max_duration=1.0))
    assert told(found) == [("started", 0, 0, 1, "none"), ("final", 0, 0, 50, "close")]


def test_updates_begin_and_end_with_the_wish_for_them() -> None:
    often = with_(updates=0.5)
    assert [d.end for d in adjusted([0.9] * 70, 20, often) if d.phase == "updated"] == [30, 45, 60]
    assert [d.end for d in adjusted([0.9] * 70, 20, PLAIN, often) if d.phase == "updated"] == [15]


def test_a_class_no_longer_wanted_ends_where_it_was_last_seen() -> None:
    found = adjusted([0.9] * 60, 30, PLAIN, allowed=np.array([False, True]))
    assert told(found) == [("started", 0, 0, 1, "none"), ("final", 0, 0, 30, "none")]
    assert found[-1].decided == 33, "the hang has passed"


def test_a_longer_minimum_retracts_what_ends_too_early_for_it() -> None:
    found = adjusted([0.9] * 40 + [0.0] * 10, 20, with_(min_duration=2.0))
    assert [one.phase for one in found] == ["started", "retracted"]


@settings(max_examples=60, deadline=None)
@given(TRACK, st.lists(st.integers(0, 2), min_size=1, max_size=80))
def test_options_that_change_all_the_time_break_no_life(track: list[tuple[float, float]], choices: list[int]) -> None:
    decoder = SegmentDecoder(1, 2)
    decoder.open(0, OPTIONS[0], names=NAMES)
    found: list[Decision] = []
    for t, p in enumerate(track):
        decoder.adjust(0, OPTIONS[choices[t % len(choices)]], names=NAMES)
        found += [one for _, one in decoder.push(np.array([0]), scores(*p)[None], borders(*p)[None])]
    check_lives(found + decoder.flush(0, "close"), len(track), patient=True)


@settings(max_examples=60, deadline=None)
@given(TRACK, st.sampled_from([0, 1, 2]), st.sets(st.integers(0, 80)))
def test_the_same_options_again_change_nothing(track: list[tuple[float, float]], which: int, when: set[int]) -> None:
    decoder = SegmentDecoder(1, 2)
    decoder.open(0, OPTIONS[which], names=NAMES)
    found: list[Decision] = []
    for t, p in enumerate(track):
        if t in when:
            decoder.adjust(0, OPTIONS[which], names=NAMES)
        found += [one for _, one in decoder.push(np.array([0]), scores(*p)[None], borders(*p)[None])]
    assert found + decoder.flush(0, "close") == alone(track, OPTIONS[which])
