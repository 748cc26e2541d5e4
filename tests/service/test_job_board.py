"""Whose jobs the board takes and forgets, and what it keeps of one that is forgotten: nothing."""

from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path
from typing import Any, cast

import pytest

from poseline.errors import InputError, Overloaded
from poseline.protocol import JobKind
from poseline_service.errors import TooManyJobs
from poseline_service.jobs import Job, JobBoard
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
        with board.arriving("") as folder:
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


def submit(board: JobBoard, owner: str, limit: int | None = None) -> Job:
    with board.arriving(owner, limit) as folder:
        return board.submit(Unreadable(), folder, cast(Any, None), None, None, owner, lambda frames: None)


async def test_who_keeps_most_makes_room(tmp_path: Path) -> None:
    board = JobBoard(ServiceSettings(job_folder=tmp_path, max_jobs=4), Metrics())

    async def ended(owner: str) -> str:
        job = submit(board, owner)
        assert job.task
        await job.task
        return job.id

    def kept(owner: str) -> list[str]:
        return [job.id for job in board.all(owner)][::-1]

    few = await ended("few")
    many = [await ended("many") for _ in range(6)]
    assert (kept("few"), kept("many")) == ([few], many[-3:])
    new = await ended("few")
    assert (kept("few"), kept("many")) == ([few, new], many[-2:])
    await board.stop()


async def test_a_callers_waiting_jobs_are_limited(tmp_path: Path) -> None:
    board = JobBoard(ServiceSettings(job_folder=tmp_path, queued_jobs=3), Metrics())
    first = submit(board, "one", 2)  # it is queued until its task has had a turn
    with board.arriving("one", 2):
        with pytest.raises(TooManyJobs), board.arriving("one", 2):
            pass
        submit(board, "other", 2)
        with pytest.raises(Overloaded), board.arriving("third", 2):
            pass
    submit(board, "one", 2)
    assert first.task
    await first.task
    submit(board, "one", 2)
    await board.stop()
