"""The long proofs (`make soak`, `make fuzz`) would see what they look for; the proofs themselves are not run here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from poseline import protocol
from poseline.codec import JSON, MSGPACK
from poseline_bench import wire
from poseline_bench.culprit import Heard, Line, Offence, documented, misbehave
from poseline_bench.mutations import Script, write
from poseline_bench.soak import theil_sen
from poseline_bench.witnesses import CLOSE, ROUNDING, Account, Final, compared
from servers import ServerProcess


def test_a_script_is_a_function_of_its_numbers() -> None:
    forth = [write(7, n) for n in range(200)]
    back = [write(7, n) for n in reversed(range(200))][::-1]
    assert forth == back
    assert write(8, 0) != forth[0]
    kinds = {kind for script in forth for kind in script.kinds}
    assert {"value_replaced", "storm", "bits_flipped", "in_fragments", "order_wrong"} <= kinds
    assert {script.end for script in forth} == {"wait", "cut", "half", "deaf"}


async def test_a_server_bears_some_of_it(server: ServerProcess) -> None:
    scripts = [script for n in range(60) if (script := write(5, n)).end in ("cut", "deaf")]
    heard = [await misbehave(server.port, replace(script, end="cut")) for script in scripts[:12]]
    assert sum(one.messages for one in heard) > 50
    assert all(one.outcomes for one in heard)


def started(**fields: Any) -> protocol.SessionStarted:
    return protocol.SessionStarted(
        model=protocol.ModelInfo("m", "1", "d", "body16", "none", False),
        classes=[],
        layout_conversion=protocol.LayoutConversion("body16", "body16", False),
        limits={},
        algorithmic_latency=0.0,
        hop=1 / 30,
        options={},
        resume_token="t",
        resume_ttl=60.0,
        session_id="s",
        **fields,
    )


def final(seq: int, name: str = "g1.1") -> protocol.SegmentFinal:
    return protocol.SegmentFinal(
        seq=seq, segment_id=name, track_id="p1", label="x", label_id=1, start=0.0, end=1.0, score=0.5, forced="none"
    )


def flushed(seq: int) -> protocol.Flushed:
    return protocol.Flushed(seq=seq, t=0.0)


def error(seq: int, code: str, fatal: bool = True) -> protocol.ErrorMessage:
    return protocol.ErrorMessage(seq=seq, code=code, detail="", fatal=fatal)


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ([started(), flushed(2)], "after message 0 came 2"),
        ([started(), flushed(1), flushed(1)], "after message 1 came 1"),
        ([started(), final(1), final(2)], "g1.1, which was over"),
        ([started(), error(1, "internal")], "error internal"),
        ([started(), error(1, "unheard_of", fatal=False)], "error unheard_of"),
        ([started(), error(1, "idle_timeout"), flushed(2)], "after idle_timeout came Flushed"),
        ([started(resumed=True)], "another session was resumed"),
        ([started(), flushed(1), final(2), error(2, "superseded")], None),
        ([started(), error(1, "unknown_type", fatal=False), flushed(2)], None),
    ],
)
def test_what_a_server_must_not_say_is_an_offence(said: list[protocol.ServerMessage], what: str | None) -> None:
    line = Line(0, Script(0, wire.JSON, [], "wait"), Heard())

    def hear() -> None:
        for message in said:
            line.take(wire.TEXT, JSON.encode(message))

    if what is None:
        hear()
    else:
        with pytest.raises(Offence, match=what):
            hear()


def test_bytes_that_are_none_of_the_protocol_s_are_an_offence() -> None:
    line = Line(0, Script(0, wire.JSON, [], "wait"), Heard())
    for opcode, payload in (
        (wire.TEXT, b"{"),
        (wire.TEXT, b'{"type":"news"}'),
        (wire.BINARY_DATA, MSGPACK.encode(flushed(0))),
    ):
        with pytest.raises(Offence):
            line.take(opcode, payload)
    with pytest.raises(Offence, match="closed with"):
        line.closed(b"\x03\xf3")  # 1011
    line.closed(b"\x03\xe8")


def test_the_document_is_read() -> None:
    codes, closes = documented()
    assert {"invalid_json", "superseded", "too_many_people"} <= codes
    assert {1000, 1002, 1009, 4400, 4409} <= closes
    assert 1006 not in closes, "that the line just ended is an offence"


FINAL: Final = ("g1.1", "p1", "wave", 0.0, 1.0)
OTHER: Final = ("g1.2", "p1", "wave", 2.0, 3.0)


def spoilt(score: float = 0.0, **fields: Any) -> Callable[[Account], Account]:
    def change(account: Account) -> Account:
        scores = {frame: {label: p + score for label, p in top.items()} for frame, top in account.scores.items()}
        return replace(account, scores=scores, **fields)

    return change


@pytest.mark.parametrize(
    ("change", "key", "value"),
    [
        (spoilt(finals=[]), "lost", 1),
        (spoilt(finals=[(FINAL, 0.5)] * 2), "doubled", 1),
        (spoilt(finals=[(FINAL, 0.5), (OTHER, 0.5)]), "invented", 1),
        (spoilt(finals=[((*FINAL[:4], 1.1), 0.5)]), "lost", 1),
        (spoilt(failure="it broke"), "failed", ["it broke"]),
        (spoilt(score=2 * ROUNDING), "same", False),
        (spoilt(score=2 * CLOSE), "same", False),
        (spoilt(score=CLOSE / 2), "same", True),
    ],
)
def test_witnesses_tell_what_was_wrong(change: Callable[[Account], Account], key: str, value: Any) -> None:
    truth = Account([(FINAL, 0.5)], {("p1", n / 30): {0: 0.4, 1: 0.6} for n in range(50)})
    assert compared([truth], [replace(truth)]).same
    told = compared([truth], [change(truth)]).told()
    assert told[key] == value
    assert told["same"] is (value is True)


def test_the_slope_of_most() -> None:
    t = np.arange(20.0)
    burst = np.where(t == 7, 1e6, 3 + 0.5 * t)
    assert theil_sen(t, burst) == pytest.approx(0.5)
    assert theil_sen(t, np.full(20, 4.0)) == 0
