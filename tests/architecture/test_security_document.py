"""docs/security.md: every promise names tests that exist, every setting that it names is one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from poseline_service.settings import PREFIX, ServiceSettings

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "security.md").read_text()
PROMISES = [
    re.split(r"\s*\|\s*", line[1:-1])
    for section in re.findall(r"\| promise \|.*?\n\|---.*?\n(.*?)(?:\n\n|\Z)", PAGE, re.DOTALL)
    for line in section.splitlines()
]
TESTS = {
    name
    for path in (PROJECT / "tests").rglob("test_*.py")
    for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
}


@pytest.mark.parametrize("promise", PROMISES, ids=lambda cells: cells[0][:50])
def test_a_promise_names_its_tests(promise: list[str]) -> None:
    assert len(promise) == 3
    named = re.findall(r"`(test_\w+)`", promise[2])
    assert named
    assert set(named) <= TESTS


def test_the_page_promises_much() -> None:
    """Or the test above would pass for want of anything to look at."""
    assert len(PROMISES) > 20
    assert set(re.findall(r"`(test_\w+)`", PAGE)) <= TESTS


def test_every_setting_that_is_named_exists() -> None:
    known = {PREFIX + name.upper() for name in ServiceSettings.model_fields}
    assert set(re.findall(rf"`({PREFIX}\w+)`", PAGE)) <= known
