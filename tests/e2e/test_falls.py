"""docs/falls.md: its rule is run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs/falls.md"


@pytest.fixture
def alarm() -> Any:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    there: dict[str, Any] = {}
    exec(code, there)
    return there["FallAlarm"](wait=10.0)


def fall(end: float, who: str = "p1") -> dict[str, Any]:
    return {"type": "segment.final", "label": "fall", "track_id": who, "start": end - 1, "end": end}


def lies(end: float, start: float = 5.5, who: str = "p1") -> dict[str, Any]:
    return {"type": "segment.updated", "label": "lying", "track_id": who, "start": start, "end": end, "score": 0.9}


def test_who_falls_and_lies_is_told_of_once(alarm: Any) -> None:
    heard = [alarm.hear(one) for one in (fall(5.0), *[lies(5.5 + n / 2) for n in range(40)])]
    assert [n for n, who in enumerate(heard) if who] == [21], "ten seconds after it began to lie"
    assert alarm.hear(fall(60.0)) is None
    assert alarm.hear(lies(71.0, 61.0)) == "p1"


def test_who_gets_up_or_only_lies_down_is_not(alarm: Any) -> None:
    up = {"type": "segment.final", "label": "stand_up", "track_id": "p1", "start": 6.0, "end": 7.0}
    assert [alarm.hear(one) for one in (fall(5.0), lies(6.0), up, lies(30.0), lies(60.0))] == [None] * 5
    assert [alarm.hear(one) for one in (fall(5.0), lies(60.0, who="p2"))] == [None] * 2
    assert [alarm.hear(one) for one in (fall(100.0), lies(4000.0, 3900.0))] == [None] * 2, "long after"


def test_who_falls_and_is_seen_no_more_is_told_of(alarm: Any) -> None:
    gone = {"type": "track.ended", "track_id": "p1", "t": 6.0, "reason": "absent"}
    assert alarm.hear(gone) is None
    assert [alarm.hear(one) for one in (fall(5.0), gone)] == [None, "p1"]
    assert [alarm.hear(one) for one in (fall(5.0), gone | {"reason": "close"})] == [None, None]
    assert [alarm.hear(one) for one in (fall(5.0), gone | {"t": 500.0})] == [None, None]
