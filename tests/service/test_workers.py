"""However many engines share the streams, on the loop or in threads of their own, everybody hears the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from made_up import NATIVE, recording
from poseline.bundle import find_bundle
from poseline.client import StreamClient
from poseline.online import localize
from poseline.protocol import Scores, SegmentFinal, StreamOptions
from poseline.remote import play, timeline
from poseline.translation import rounded
from poseline_service.engine import open_scorer
from servers import ServerProcess

STREAMS = 9


async def heard(server: ServerProcess, seed: int) -> tuple[list[tuple[str, float, float, float]], int]:
    """A stream's finals, and how many frames it was told the scores of."""
    options = StreamOptions(scores_hz=30)
    async with StreamClient(server.ws, coordinates=NATIVE, options=options) as client:
        messages = [
            one async for one in play(client, timeline({"p1": recording(seed, 200 + 7 * seed)}), chunk=seed + 1)
        ]
    finals = [(one.label, one.start, one.end, one.score) for one in messages if isinstance(one, SegmentFinal)]
    return finals, sum(isinstance(one, Scores) for one in messages)


@pytest.mark.parametrize("workers", [0, 1, 3])
async def test_workers_change_nothing(serve: Callable[..., ServerProcess], models: Path, workers: int) -> None:
    server = serve(workers=workers, slots=4 * STREAMS).ready()
    found = await asyncio.gather(*(heard(server, seed) for seed in range(STREAMS)))
    bundle = find_bundle(models)
    scorer = open_scorer(bundle, 1)
    for seed, (finals, scores) in enumerate(found):
        events = localize(bundle.manifest, scorer, recording(seed, 200 + 7 * seed))
        expected = [(one.label, *rounded(one)) for one in events if one.phase == "final"]
        assert [final[:3] for final in finals] == [final[:3] for final in expected] != []
        assert [final[3] for final in finals] == pytest.approx([final[3] for final in expected], abs=2e-4)
        assert scores == 200 + 7 * seed
    await asyncio.to_thread(server.wait_for_metric, "poseline_state_bytes", 0)
    log = server.stop()
    assert "Traceback" not in log
