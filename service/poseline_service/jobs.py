"""Work that outlives its request: videos, and recordings too long to be waited for.

A `Source` enters (a file that was uploaded, and what is wanted of it); a `LocalizeResponse` lies in the job's folder in
the end. A job is one task: it waits for its turn (`video_workers` videos at a time, one recording), reads its source in a
thread, and plays it through a recording's own objects, so that its answer is what `POST /v1/localize` or the command line
would give. Jobs live in memory and in one folder of files, and end with the process.

A job is queued → running → succeeded, failed or cancelled; once over, nothing changes but that it is forgotten. Everything
here happens on the event loop but for the reading.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from secrets import token_hex
from time import perf_counter
from typing import Protocol, TypeVar

from poseline.codec import encode
from poseline.errors import Draining, Overloaded, PoselineError
from poseline.protocol import JobError, JobKind, JobState, JobStatus, LocalizeResponse
from poseline.timeline import Timeline, effective_thresholds, source_rate
from poseline_service.errors import IdempotencyConflict, NoResult, ResultPending, TooManyJobs, UnknownJob
from poseline_service.logging import log
from poseline_service.metrics import Metrics
from poseline_service.playback import RecordingLocalizer
from poseline_service.problems import told
from poseline_service.recordings import Recording
from poseline_service.settings import ServiceSettings
from poseline_service.tracks import Changes, LoadedModel
from poseline_service.uploads import Budget, JobFolder
from poseline_service.workplace import Workplace

T = TypeVar("T")
UPLOAD, POSES, RESULT = "upload", "poses.ndjson", "result.json"
"""The files of a job; the first is gone as soon as it has been read."""
Told = Callable[[float], None]
"""Hears the share that is done, 0 to 1, from any thread."""


class Source(Protocol):
    """An uploaded file, and what is wanted of it."""

    @property
    def kind(self) -> JobKind: ...

    @property
    def reading(self) -> float:
        """The share of the whole work that `read` is."""
        ...

    @property
    def fingerprint(self) -> bytes:
        """Equal where the same is wanted of the same bytes."""
        ...

    def read(self, model: LoadedModel, folder: JobFolder, progress: Told) -> Recording:
        """Find the poses; blocks, in a thread. Raises whatever is wrong with the file."""
        ...

    def cancel(self) -> None:
        """Let `read` end soon, however; from any thread."""
        ...


@dataclass(eq=False)
class Job:
    """One piece of work. owner: whose it is (`principals`). spend: takes its frames of what they may have. told: hears how
    it ended. about: completes its answer by what an export must say too; once it has succeeded."""

    source: Source
    folder: JobFolder
    name: str | None
    key: str | None
    owner: str
    spend: Callable[[int], None]
    told: Callable[[JobStatus], None] | None = None
    id: str = field(default_factory=lambda: token_hex(16))
    state: JobState = "queued"
    progress: float = 0.0
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    started: datetime | None = None
    finished: datetime | None = None
    expires: datetime | None = None
    error: JobError | None = None
    about: Callable[[LocalizeResponse], Timeline] | None = None
    fetched: bool = False
    task: asyncio.Task[None] | None = None
    expiry: asyncio.TimerHandle | None = None

    @property
    def over(self) -> bool:
        return self.finished is not None

    def status(self) -> JobStatus:
        return JobStatus(
            id=self.id,
            kind=self.source.kind,
            state=self.state,
            progress=round(self.progress, 4),
            source=self.name,
            created=self.created,
            started=self.started,
            finished=self.finished,
            expires=self.expires,
            error=self.error,
        )


class JobBoard:
    """Every job of one server."""

    def __init__(self, settings: ServiceSettings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        # Its own, so that a request never waits behind a job's recording.
        self._recordings = RecordingLocalizer(settings, metrics)
        self._disk = Budget(settings.job_disk_bytes, settings.retry_after, "files of all jobs")
        self._jobs: dict[str, Job] = {}
        self._keys: dict[tuple[str, str], Job] = {}
        self._arriving = Counter[str]()
        self._closed: Draining | None = None
        self._turns = {"video": asyncio.Semaphore(settings.video_workers), "recording": asyncio.Semaphore(1)}
        self._changes = Changes()
        self._workplace = Workplace(settings.job_folder)
        # A reading that is cancelled may take a moment to end: the next one need not wait for a thread.
        self._threads = ThreadPoolExecutor(2 * (settings.video_workers + 1), thread_name_prefix="job")
        metrics.job_queue_depth.set_function(lambda: sum(job.state == "queued" for job in list(self._jobs.values())))

    # --- coming in ------------------------------------------------------------------------------------------------

    @contextmanager
    def arriving(self, owner: str, limit: int | None = None) -> Generator[JobFolder]:
        """A folder for a new job's upload, removed at the end unless a job has taken it.

        limit: of the owner's jobs that wait, this one included. Raises TooManyJobs, Overloaded, Draining.
        """
        self._check_open()
        waiting = self._arriving + Counter(job.owner for job in self._jobs.values() if job.state == "queued")
        if limit is not None and waiting[owner] >= limit:
            what = f"{waiting[owner]} jobs of this caller are waiting, the limit is {limit}"
            raise TooManyJobs(what, retry_after=self._settings.retry_after)
        if waiting.total() >= self._settings.queued_jobs:
            what = f"{waiting.total()} jobs are waiting, the limit is {self._settings.queued_jobs}"
            raise Overloaded(what, retry_after=self._settings.retry_after)
        folder = JobFolder(Path(tempfile.mkdtemp(dir=self._workplace.path)), self._disk)
        self._arriving[owner] += 1
        try:
            yield folder
        finally:
            self._arriving -= Counter([owner])  # keeps no zeros
            if not any(job.folder is folder for job in self._jobs.values()):
                folder.remove()

    def _check_open(self) -> None:
        if self._closed is not None:
            raise self._closed

    def submit(
        self,
        source: Source,
        folder: JobFolder,
        model: LoadedModel,
        name: str | None,
        key: str | None,
        owner: str,
        spend: Callable[[int], None],
        told: Callable[[JobStatus], None] | None = None,
    ) -> Job:
        """A new job, or the one that came from the same owner with the same key. Raises IdempotencyConflict, Draining."""
        self._check_open()
        if key is not None and (known := self._keys.get((owner, key))) is not None:
            if known.source.fingerprint != source.fingerprint:
                raise IdempotencyConflict("this Idempotency-Key came with another job", param="Idempotency-Key")
            return known
        self._make_room()
        job = Job(source, folder, name, key, owner, spend, told)
        self._jobs[job.id] = job
        if key is not None:
            self._keys[owner, key] = job
        job.task = asyncio.create_task(self._run(job, model), name=f"job-{job.id}")
        # Not in the task: one that is cancelled before its first step runs nothing of its own.
        job.task.add_done_callback(lambda _: job.over or self._end(job, "cancelled"))
        return job

    def _make_room(self) -> None:
        """Of those that are over, forget the oldest of the owner who keeps most of them: nobody crowds out others'."""
        while len(self._jobs) >= self._settings.max_jobs and (over := [job for job in self._jobs.values() if job.over]):
            ((most, _),) = Counter(job.owner for job in over).most_common(1)
            self._forget(next(job for job in over if job.owner == most))

    # --- asking ---------------------------------------------------------------------------------------------------

    def find(self, name: str, owner: str) -> Job:
        """Raises UnknownJob, for somebody else's too."""
        job = self._jobs.get(name)
        if job is None or job.owner != owner:
            raise UnknownJob("there is no such job, or it was forgotten")
        return job

    def all(self, owner: str) -> list[Job]:
        """An owner's, newest first."""
        return [job for job in self._jobs.values() if job.owner == owner][::-1]

    def result(self, job: Job) -> Path:
        """The file of a finished job's answer, which is taken to be fetched now. Raises ResultPending, NoResult."""
        self._check_succeeded(job)
        job.fetched = True
        self._changes.notify()
        return job.folder.path / RESULT

    def poses(self, job: Job) -> Path:
        """The file of a finished job's poses. Raises ResultPending, NoResult."""
        self._check_succeeded(job)
        path = job.folder.path / POSES
        if not path.exists():
            raise NoResult("no poses were kept; ask for a video's with `poses`: true")
        return path

    def _check_succeeded(self, job: Job) -> None:
        if not job.over:
            raise ResultPending(f"the job is {job.state}", retry_after=self._settings.retry_after)
        if job.state != "succeeded":
            raise NoResult(f"the job has {job.state}" if job.state == "failed" else "the job was cancelled")

    async def drop(self, job: Job) -> bool:
        """Cancel a job that is not over (True), or forget it (False)."""
        if job.over:
            self._forget(job)
            return False
        await self._cancel(job)
        return True

    def _forget(self, job: Job) -> None:
        if self._jobs.pop(job.id, None) is not None:
            if job.expiry is not None:
                job.expiry.cancel()
            if job.key is not None:
                del self._keys[job.owner, job.key]
            job.folder.remove()

    # --- working --------------------------------------------------------------------------------------------------

    async def _run(self, job: Job, model: LoadedModel) -> None:
        kind, begin = job.source.kind, perf_counter()
        try:
            async with self._turns[kind]:
                job.state, job.started = "running", datetime.now(UTC)
                log.info("job_started", job=job.id, kind=kind)
                await self._work(job, model, begin)
            self._end(job, "succeeded")
        except PoselineError as error:
            if told(error) != error.detail:
                log.error("job_failed", job=job.id, code=error.code, detail=error.detail)
            job.error = JobError(error.code, told(error))
            self._end(job, "failed")
        except Exception as error:
            log.exception("job_broke", job=job.id)
            job.error = JobError(PoselineError.code, told(PoselineError(repr(error))))
            self._end(job, "failed")

    async def _work(self, job: Job, model: LoadedModel, came: float) -> None:
        source, loop = job.source, asyncio.get_running_loop()
        begun = perf_counter()

        def set_progress(share: float) -> None:
            job.progress = share

        def reading(share: float) -> None:
            loop.call_soon_threadsafe(set_progress, share * source.reading)

        def playing(share: float) -> None:
            set_progress(source.reading + share * (1 - source.reading))

        recording = await self._in_thread(partial(source.read, model, job.folder, reading), source.cancel)
        job.folder.discard(UPLOAD)
        job.spend(sum(map(len, recording.tracks)))
        while True:
            try:
                answer = await self._recordings.play(recording, model, job.id, (came, begun), playing)
                break
            except Overloaded:  # all slots are taken by streams: a job has time
                await asyncio.sleep(self._settings.retry_after)
        job.name = job.name or recording.request.id
        job.folder.write(RESULT, encode(answer))
        job.about = _about(job.name or job.id, recording, model)

    async def _in_thread(self, work: Callable[[], T], cancel: Callable[[], None]) -> T:
        """As `asyncio.to_thread`; but who is cancelled says so to the work, and waits until it has ended."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            cancel()
            await asyncio.wait([future])
            future.exception()  # looked at, or asyncio would complain
            raise

    def _end(self, job: Job, state: JobState) -> None:
        job.state, job.finished = state, datetime.now(UTC)
        job.expires = job.finished + timedelta(seconds=self._settings.job_ttl)
        if state == "succeeded":
            job.progress = 1.0
        else:
            for name in (UPLOAD, POSES):
                job.folder.discard(name)
        job.expiry = asyncio.get_running_loop().call_later(self._settings.job_ttl, self._forget, job)
        kind, seconds = job.source.kind, (job.finished - (job.started or job.finished)).total_seconds()
        self._metrics.jobs.labels(kind, state).inc()
        if job.started is not None:
            self._metrics.job_seconds.labels(kind, state).observe(seconds)
        code = job.error.code if job.error else None
        if job.told is not None:
            job.told(job.status())
        log.info("job_ended", job=job.id, kind=kind, state=state, code=code, seconds=round(seconds, 3))
        self._changes.notify()

    async def _cancel(self, job: Job, error: JobError | None = None) -> None:
        assert job.task is not None
        job.error = job.error or error
        job.task.cancel()
        await asyncio.wait([job.task])

    # --- the end --------------------------------------------------------------------------------------------------

    async def drain(self, error: Draining, seconds: float) -> None:
        """Cancel what has not begun; what runs gets so many seconds to end and to be fetched, for nothing survives."""
        self._closed, why = error, JobError(error.code, error.detail)
        begun = [job for job in self._jobs.values() if job.state == "running"]
        await self._cancel_all(why, "queued")
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changes.until(
                    lambda: all(job.over and (job.fetched or job.state != "succeeded") for job in begun)
                )
        await self._cancel_all(why, "queued", "running")

    async def _cancel_all(self, why: JobError, *states: JobState) -> None:
        wanted = [job for job in self._jobs.values() if job.state in states]
        await asyncio.gather(*(self._cancel(job, why) for job in wanted))

    async def stop(self) -> None:
        """End every job, and remove every file."""
        await self._cancel_all(JobError(Draining.code, "this server is shutting down"), "queued", "running")
        self._threads.shutdown()
        self._workplace.remove()


def _about(name: str, recording: Recording, model: LoadedModel) -> Callable[[LocalizeResponse], Timeline]:
    request, manifest = recording.request, model.bundle.manifest
    return partial(
        Timeline.from_response,
        source=name,
        layout=request.layout if isinstance(request.layout, str) else request.layout.name,
        fps=source_rate(request.fps, recording.clocks, manifest.fps),
        thresholds=effective_thresholds(request.options, manifest.decoding),
    )
