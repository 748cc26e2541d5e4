"""The benchmark of hostile clients attacks, counts and says all that it promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from poseline_bench import holding, hostile
from poseline_bench.attackers import KINDS


def test_attacks_reach_the_server_and_are_counted(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "WARM_UP", 0.1)
    monkeypatch.setattr(holding, "HOLD", 0.3)
    monkeypatch.setattr(holding, "_SETTLING", 10.0)
    monkeypatch.setattr(hostile, "ROUNDS", 1)
    monkeypatch.setattr(hostile, "STREAMS", 3)
    figures = hostile.measure(models, None, ("header floods", "message floods"))
    assert set(figures["attacks"]) < set(KINDS)
    floods, messages = figures["attacks"].values()
    assert set(floods["became"]) <= {"431", "closed", "failed"}
    assert floods["refused"]["head_bytes"] > 0
    assert messages["became"]["messages"] > 0
    for one in figures["attacks"].values():
        assert (one["lost"], one["unanswered"]) == (0, 0)
        assert one["ratio"] == pytest.approx(one["p99_ms"][0] / figures["alone_p99_ms"][0], rel=0.1)
    assert figures["rss_mb"]["most"] >= figures["rss_mb"]["before"] > 0
