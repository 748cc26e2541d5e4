"""Teaching by showing: stretches of what plays in the console become a class, which the timeline finds from then on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from playwright.sync_api import Page

from browser import Console
from cutting import relayed
from poseline.actor import Performance, perform
from poseline.codec import encode
from poseline.remote import request_for
from poseline_service.keys import StoredKey, new_key, write_keys
from servers import ServerProcess

PROJECT = Path(__file__).parents[2]
FIDGET = "scratch_head"
"""Which no class of the model means, and the actor does."""
FINAL = "button.segment:not([disabled])"
FOUND = f"#lanes .lane:has(h3:text-is('mind itch 1')) {FINAL}"
SCRIPT = [FIDGET, "punch", "throw"] * 6
"""Between two of them is always something else: what surrounds an example is what the class is not."""

_COLOURS = """[...document.querySelectorAll("#lanes .lane:not(.leaving) .reel > :first-child")]
  .map((one) => one.style.getPropertyValue("--hue"))"""


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A folder of models of one's own: what is enrolled is written beside the bundle."""
    return shutil.copytree(PROJECT / "models", tmp_path / "models")


@pytest.fixture(scope="module")
def played() -> Performance:
    return perform(3, script=SCRIPT)


def test_what_is_shown_is_found_when_it_happens_again(
    serve: Callable[..., ServerProcess],
    console: Callable[..., Console],
    house: Path,
    played: Performance,
    tmp_path: Path,
) -> None:
    server = serve(house).ready()
    recording = tmp_path / "fidgets.json"
    recording.write_bytes(encode(request_for({"p1": played.poses})))
    truths = [one for one in played.segments if one.label == FIDGET]
    one, other = console(server), console(server)
    page = one.page
    for each in (other, one):
        each.play_file(recording)
    page.click("#teaching")
    page.locator("#class-name").press_sequentially("mind itch 1")  # shortcuts among its letters, which are none here
    for _ in range(2):
        _mark(page)
    for n, truth in enumerate(truths[:2]):
        # Who presses is late, and by how much is chance: the seconds are set right.
        borders = page.locator("#stretches li").nth(n).locator("input")
        borders.nth(0).fill(f"{truth.start:.1f}")
        borders.nth(1).fill(f"{truth.end:.1f}")
    one.until(lambda: _media_time(page) > truths[1].end + 0.5)
    page.click("#play")
    taught_at = _media_time(page)
    page.click("#learn")
    page.wait_for_selector("#taught:has-text('is found from now on, learnt from 2 examples')")
    assert _listed(server) == ["mind_itch_1"]
    assert page.inner_text("#enrolled").startswith("mind itch 1")
    assert page.locator("#stretches li").count() == 0

    started = one.of("session.started")[-1]
    assert started["options"]["remember"] == 60
    page.click("#play")
    found = page.locator(FOUND).first
    found.wait_for()
    assert one.of("session.started")[-1] is started, "the same session"
    final = next(message for message in one.of("segment.final") if message["label"] == "mind_itch_1")
    assert final["end"] > taught_at
    assert any(final["start"] < truth.end and final["end"] > truth.start for truth in truths[2:])
    assert "class " not in page.inner_text("#scores"), "a class that has no name yet"

    elsewhere = other.page.locator(FOUND).first
    elsewhere.wait_for()
    assert "mind_itch_1" not in other.of("session.started")[-1]["classes"], "this page hears of it by the segment alone"
    colour = "node => node.style.getPropertyValue('--hue')"
    colours = other.page.evaluate(_COLOURS)
    assert len(set(colours)) == len(colours) >= 2
    assert {found.evaluate(colour), page.locator("#enrolled li").evaluate(colour)} == {elsewhere.evaluate(colour)}

    page.click("#enrolled button")
    page.wait_for_selector("#taught:has-text('is found no more')")
    assert _listed(server) == []
    assert page.locator("#enrolled li").count() == 0
    assert found.is_visible(), "what was found stays"


def test_what_cannot_be_taught_is_said(server: ServerProcess, console: Callable[..., Console]) -> None:
    """By keyboard alone; the server's model brings nothing to tell a class from."""
    one = console(server)
    page, keys = one.page, one.page.keyboard
    one.state("live")
    page.focus("#teaching")
    keys.press("Enter")
    page.focus("#class-name")
    keys.type("no/name")
    _mark(page, "m")
    page.focus("#stretches button")
    keys.press("Enter")
    assert page.locator("#stretches li").count() == 0
    assert page.evaluate("document.activeElement.id") == "mark"
    assert page.is_disabled("#learn")

    _mark(page, "Space")
    keys.press("n")
    page.wait_for_selector("#taught:has-text('is forgotten')")
    assert page.locator("#stretches li").count() == 0
    _mark(page, "Space")
    page.focus("#class-name")
    keys.press("Enter")
    page.wait_for_selector("#taught:has-text('is no name for a class')")
    page.fill("#class-name", "name")
    keys.press("Enter")
    page.wait_for_selector("#taught:has-text('cannot be taught')")
    assert not page.is_visible("#lesson")
    one.state("live")
    heard = len(one.of("scores"))
    one.until(lambda: len(one.of("scores")) > heard)
    told = [said for said in one.complaints if "400" in said or "422" in said]  # Chromium tells of every such answer
    assert len(told) == 2
    assert told == one.complaints
    one.complaints.clear()


def test_after_a_broken_line_nothing_is_marked(server: ServerProcess, console: Callable[..., Console]) -> None:
    """A session that is resumed goes on, but its poses were in the memory of the connection that is gone."""
    with relayed(server.port) as line:
        one = console(SimpleNamespace(url=f"http://127.0.0.1:{line.port}"))  # type: ignore[arg-type]
        one.state("live")
        one.page.click("#teaching")
        _mark(one.page)
        line.loop.call_soon_threadsafe(line.cut)
        one.page.wait_for_selector("#taught:has-text('The connection broke')")
        assert one.of("session.started")[-1]["resumed"]
        assert one.page.locator("#stretches li").count() == 0
        _mark(one.page)
        one.complaints.clear()  # the browser itself complains about a socket that breaks


def test_a_key_without_the_scope_may_not_teach(
    serve: Callable[..., ServerProcess], console: Callable[..., Console], tmp_path: Path
) -> None:
    key, hashed = new_key("page")
    write_keys(tmp_path / "keys.json", [StoredKey("page", hashed, ["stream"])])
    one = console(serve(keys=tmp_path / "keys.json").ready())
    page = one.page
    page.locator("#key").press_sequentially(key)
    page.click("#door button")
    one.state("live")
    assert not [said for said in one.complaints if "403" in said], "nobody asked to teach"
    page.click("#teaching")
    page.wait_for_selector("#taught:has-text('the scope “enroll”')")
    assert not page.is_visible("#lesson")
    finals = len(one.of("segment.final"))
    one.until(lambda: len(one.of("segment.final")) > finals)
    told = [said for said in one.complaints if "401" in said or "403" in said]
    assert told == one.complaints
    one.complaints.clear()


def _mark(page: Page, key: str | None = None) -> None:
    """A stretch of a second or more; key: pressed on the button, which otherwise is clicked."""
    before = page.locator("#stretches li").count()
    for ready in ("#mark-text:text-is('Begin stretch')", "#marking:text-matches('[1-9][.]')"):
        page.wait_for_selector(f"#mark:enabled {ready}")
        if key:
            page.focus("#mark")
            page.keyboard.press(key)
        else:
            page.click("#mark")
    page.wait_for_selector(f"#stretches li:nth-child({before + 1})")


def _listed(server: ServerProcess) -> list[str]:
    told = httpx.get(f"{server.url}/v1/models/default/prototypes").raise_for_status().json()
    return [one["name"] for one in told["prototypes"]]


def _media_time(page: Page) -> float:
    return float(page.evaluate("document.getElementById('timeline').style.getPropertyValue('--now')"))
