"""What the server counts, and the only door to prometheus_client.

One `Metrics` per server with its own registry, so that two servers in one process do not mix. Names and labels follow
Prometheus' conventions: base units, counters end in `_total`, labels never carry ids. Gauges are read when scraped, from the
counters that their owners keep anyway; a scrape runs in the metrics server's own thread and only reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from threading import Lock
from wsgiref.types import StartResponse, WSGIEnvironment

import numpy as np
from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.exposition import make_wsgi_app  # pyright: ignore[reportUnknownVariableType]
from prometheus_client.process_collector import ProcessCollector

disable_created_metrics()  # a `_created` beside every counter doubles a scrape and tells nobody anything

_HTTP = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_FRAME = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.033, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5)
_STAGE = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
_SESSION = (1, 10, 60, 300, 1800, 3600, 4 * 3600, 12 * 3600)
_JOB = (0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600)
_BATCH = (1, 2, 4, 8, 16, 32, 64)


_MANY = 512


class _Series:
    """One set of labels of a `BatchHistogram`."""

    def __init__(self, bounds: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
        self._bounds = bounds
        self._lock = Lock()
        self._fresh: list[float] = []
        self._counts = np.zeros(len(bounds) + 1, np.int64)
        self._total = 0.0

    def observe(self, values: Sequence[float]) -> None:
        with self._lock:
            self._fresh.extend(values)
        if len(self._fresh) >= _MANY:
            self.sums()

    def sums(self) -> tuple[list[int], float]:
        """How many values were at most each bound, and the sum of all. Also called by the scraping thread."""
        with self._lock:
            fresh, self._fresh = self._fresh, []
            places = np.searchsorted(self._bounds, fresh)  # a value on a bound belongs below it, as Prometheus counts
            self._counts += np.bincount(places, minlength=len(self._counts))
            self._total += sum(fresh)
            return np.cumsum(self._counts).tolist(), self._total


class BatchHistogram:
    """A histogram of values that come by the thousand: kept as they are, and counted many at a time."""

    def __init__(
        self, name: str, documentation: str, label: str, buckets: Iterable[float], registry: CollectorRegistry
    ) -> None:
        self._name, self._documentation, self._label = name, documentation, label
        self._bounds = np.array(tuple(buckets), np.float64)
        self._series: dict[str, _Series] = {}
        registry.register(self)

    def labels(self, value: str) -> _Series:
        return self._series.setdefault(value, _Series(self._bounds))

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self._name, self._documentation, labels=[self._label])
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        for value, series in list(self._series.items()):
            counts, total = series.sums()
            family.add_metric([value], list(zip(names, counts, strict=True)), total)
        yield family


class Metrics:
    """Every metric of one server."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(PLATFORM_COLLECTOR)
        registry.register(GC_COLLECTOR)
        build = Gauge("poseline_build_info", "Version that runs.", ["version"], registry=registry)
        build.labels(_version()).set(1)
        self.model_info = Gauge(
            "poseline_model_info",
            "Model that answers.",
            ["model", "model_version", "layout", "provider"],
            registry=registry,
        )
        self.models_loaded = Gauge(
            "poseline_models_loaded",
            "Models in memory: the one that answers, and former ones in use.",
            registry=registry,
        )
        self.http_requests = Counter(
            "poseline_http_requests_total", "HTTP requests.", ["route", "method", "status"], registry=registry
        )
        self.http_seconds = Histogram(
            "poseline_http_request_duration_seconds",
            "Time to answer an HTTP request.",
            ["route", "method", "status"],
            buckets=_HTTP,
            registry=registry,
        )
        self.connections = Gauge("poseline_connections", "Open connections, streams among them.", registry=registry)
        self.connections_refused = Counter(
            "poseline_connections_refused_total",
            "Connections refused or cut off, by what was wrong with them.",
            ["reason"],
            registry=registry,
        )
        self.sessions_active = Gauge("poseline_sessions_active", "Open streams.", registry=registry)
        self.sessions = Counter(
            "poseline_sessions_total", "Streams that ended, by how.", ["model", "end_reason"], registry=registry
        )
        self.session_seconds = Histogram(
            "poseline_session_duration_seconds", "Length of a stream.", ["model"], buckets=_SESSION, registry=registry
        )
        self.resumes = Counter(
            "poseline_session_resumes_total",
            "Attempts to go on with a session, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self.states_saved = Counter(
            "poseline_states_saved_total", "States of sessions written down.", registry=registry
        )
        self.state_saved_bytes = Counter("poseline_state_saved_bytes_total", "Bytes of them.", registry=registry)
        self.states_failed = Counter(
            "poseline_states_failed_total", "States that the store did not take.", registry=registry
        )
        self.rejections = Counter(
            "poseline_session_rejections_total", "Work refused at the door.", ["reason"], registry=registry
        )
        self.denials = Counter(
            "poseline_denials_total",
            "Callers who were not let in, by the code they were told.",
            ["code"],
            registry=registry,
        )
        self.ws_closes = Counter(
            "poseline_ws_closes_total", "WebSocket connections closed, by code.", ["code"], registry=registry
        )
        self.frames_received = Counter(
            "poseline_frames_received_total",
            "Frames received; a stream's frame holds everybody seen, a request's one track's pose.",
            ["model"],
            registry=registry,
        )
        self.frames_dropped = Counter(
            "poseline_frames_dropped_total", "Poses that were not scored.", ["reason"], registry=registry
        )
        self.media_seconds = Counter(
            "poseline_media_seconds_total", "Media time scored, of all tracks.", ["model"], registry=registry
        )
        self.frame_latency = BatchHistogram(
            "poseline_frame_latency_seconds",
            "From the moment a frame can be scored to its scores.",
            "model",
            _FRAME,
            registry,
        )
        self.stage = BatchHistogram(
            "poseline_stage_duration_seconds",
            "Time in one stage: queue (a batch's oldest frame waits), infer (one step of a batch).",
            "stage",
            _STAGE,
            registry,
        )
        self.batch_size = BatchHistogram("poseline_batch_size", "Tracks per step.", "model", _BATCH, registry)
        self.queue_depth = Gauge("poseline_queue_depth", "Grid frames waiting.", ["model"], registry=registry)
        self.segments = Counter(
            "poseline_segments_total", "Segment events.", ["model", "label", "phase"], registry=registry
        )
        self.jobs = Counter("poseline_jobs_total", "Jobs that ended, by how.", ["kind", "outcome"], registry=registry)
        self.job_seconds = Histogram(
            "poseline_job_duration_seconds",
            "From a job's turn to its end.",
            ["kind", "outcome"],
            buckets=_JOB,
            registry=registry,
        )
        self.job_queue_depth = Gauge("poseline_job_queue_depth", "Jobs that wait for their turn.", registry=registry)
        self.webhook_attempts = Counter(
            "poseline_webhook_attempts_total",
            "Attempts to deliver an event to a webhook target, by outcome.",
            ["target", "outcome"],
            registry=registry,
        )
        self.webhook_dead_letters = Counter(
            "poseline_webhook_dead_letters_total",
            "Events that a webhook target will not get, by why.",
            ["target", "reason"],
            registry=registry,
        )
        self.webhooks_waiting = Gauge(
            "poseline_webhooks_waiting", "Events that wait for a webhook target.", ["target"], registry=registry
        )
        self.capture_frames = Counter("poseline_capture_frames_total", "Poses kept of sessions.", registry=registry)
        self.capture_dropped = Counter(
            "poseline_capture_dropped_frames_total",
            "Poses that were to be kept and are not: no memory to wait in, or the disk took none.",
            ["reason"],
            registry=registry,
        )
        self.capture_bytes = Gauge("poseline_capture_bytes", "Poses kept of sessions, on disk.", registry=registry)
        self.load = Gauge(
            "poseline_load_ratio", "Share of a core that streams take, newcomers included.", registry=registry
        )
        self.lag = Gauge("poseline_loop_lag_seconds", "By how much the event loop is late.", registry=registry)
        self.tasks = Gauge("poseline_asyncio_tasks", "Tasks of the event loop.", registry=registry)
        self.state_bytes = Gauge("poseline_state_bytes", "State rows of the tracks alive.", registry=registry)

    def application(self) -> Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]:
        """What answers a scrape, as WSGI; to be called in any thread."""
        return make_wsgi_app(self.registry)  # pyright: ignore[reportUnknownVariableType]


def _version() -> str:
    try:
        return version("poseline")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"
