"""What the board of jobs keeps of one that is forgotten: nothing."""

from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path
from typing import Any, cast

import pytest

from poseline.errors import InputError
from poseline.protocol import JobKind
from poseline_service.jobs import JobBoard
from poseline_service.metrics import Metrics
from poseline_service.settings import ServiceSettings


class Unreadable:
    """A source of which nothing can be made."""

    kind: JobKind = "recording"
    reading = 0.5
    fingerprint = b"x"

    def read(self, model: Any, folder: Any, progress: Any) -> Any:
        raise InputError("this is nothing")

    def cancel(self) -> None: ...


@pytest.mark.parametrize("how", ["dropped", "crowded out"])
async def test_a_job_forgotten_early_is_not_kept_by_its_timer(tmp_path: Path, how: str) -> None:
    board = JobBoard(ServiceSettings(job_folder=tmp_path, max_jobs=1), Metrics())

    async def work() -> weakref.ref[Any]:
        with board.arriving() as folder:
            job = board.submit(Unreadable(), folder, cast(Any, None), None, None, "", lambda frames: None)
        assert job.task
        await job.task
        assert job.state == "failed"
        if how == "dropped":
            await board.drop(job)
        return weakref.ref(job)

    forgotten = await work()
    if how == "crowded out":
        await work()
    await asyncio.sleep(0)
    gc.collect()
    assert forgotten() is None
    await board.stop()
