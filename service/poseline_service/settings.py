"""Every setting of the server, read once from the environment (`POSELINE_*`), frozen, none unknown.

Limits are refused politely and reported to clients (`session.started.limits`); each field says its unit and why its
default is what it is.
"""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import DirectoryPath, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from poseline.credentials import VARIABLE

PREFIX = "POSELINE_"
_PACE = ("queue_frames", "frames_per_second", "start_seconds", "idle_seconds")


class ServiceSettings(BaseSettings):
    """Settings of one server process."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on. Local by default: open it on purpose.")
    port: int = Field(8000, ge=0, le=65535, description="Port of the API and the page; 0 lets the system choose.")
    metrics_port: int = Field(
        9464,
        ge=0,
        le=65535,
        description="Port of /metrics, apart from traffic so that a firewall can tell them apart; 0 turns it off.",
    )
    admin_key: SecretStr | None = Field(
        None,
        min_length=16,
        description="Key of POST /admin/drain on the metrics port; without it there is no such route.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least that is logged.")
    models: Path = Field(Path("models"), description="Folder of model bundles; its file DEFAULT names one.")
    model: str | None = Field(None, description="Bundle to load instead of the default one.")
    pose: Path = Field(
        Path("pose"), description="Folder of the pose extractor (`poseline pose-model build`); video needs it."
    )

    keys: Path | None = Field(
        None,
        description="File of API keys (`poseline keys`). Without it and without an issuer, only this machine is served.",
    )
    key_sessions: int = Field(8, ge=1, description="Streams that one caller may have open, unless its key says more.")
    key_requests_per_minute: int = Field(
        600, ge=1, description="Requests and handshakes a minute of one caller, unless its key says more."
    )
    key_jobs: int = Field(
        8, ge=1, description="Jobs of one caller that wait, uploads included, unless its key says more."
    )
    jwks: str | None = Field(
        None, description="Where the keys of a token issuer are published: an https address, or a file."
    )
    jwt_issuer: str | None = Field(None, description="The `iss` that tokens must have; with POSELINE_JWKS.")
    jwt_audience: str | None = Field(None, description="The `aud` that tokens must have; with POSELINE_JWKS.")
    origins: tuple[str, ...] = Field(
        (), description='Web pages elsewhere that may speak to this server, as ["https://clinic.example"].'
    )
    recheck_seconds: float = Field(
        60.0, gt=0, description="Seconds after which a stream's caller is looked at again: expired, withdrawn?"
    )
    connections: int = Field(8192, ge=1, description="Open connections, streams among them; more are refused with 503.")
    connections_per_address: int = Field(
        1024,
        ge=0,
        description="Of these from one address, or one /64 of IPv6. Behind a proxy all have its address: set 0, no limit.",
    )
    head_seconds: float = Field(10.0, gt=0, description="Seconds from accept, or first byte, to a whole request head.")
    head_bytes: int = Field(16 * 1024, ge=1024, description="Largest request head: line and headers.")

    max_sessions: int = Field(4096, ge=1, description="Open streams; more are refused at the door with 503.")
    slots: int = Field(
        8192, ge=1, description="Tracks alive in all sessions. Memory is taken only as they are used (≤ 24 KiB each)."
    )
    max_pending: int = Field(
        20_000,
        ge=1,
        description="Grid frames waiting for the network over which new work is refused: about two seconds of a core.",
    )
    retry_after: float = Field(2.0, gt=0, description="Seconds after which a refused client may come back.")

    device: Literal["cpu", "cuda"] = Field(
        "cpu", description="What runs the network. Never another than the one asked for: then the server is not ready."
    )
    workers: int = Field(
        0,
        ge=0,
        le=64,
        description="Engine threads; 0 runs the engine on the event loop, which is best where that is the bottleneck.",
    )
    load_limit: float = Field(
        0.75, gt=0, description="Share of a core that streams need at which further ones are refused; measured."
    )
    late_limit: float = Field(
        0.05, gt=0, description="Seconds that the event loop may be late before streams are refused."
    )

    max_batch: int = Field(64, ge=1, description="Tracks per step: beyond it a larger batch gains little on a core.")
    max_steps: int = Field(16, ge=1, description="Frames of one track per job: bounds how long live streams wait.")

    message_bytes: int = Field(256 * 1024, ge=1024, description="Largest WebSocket message; larger ones close 1009.")
    frames_per_message: int = Field(64, ge=1, description="Frames in one message: about 2 s at 30 fps.")
    people_per_frame: int = Field(16, ge=1, description="People in one frame.")
    tracks_per_session: int = Field(32, ge=1, description="Tracks alive in one session, or in one request.")
    queue_frames: int = Field(256, ge=2, description="Pending grid frames at which a session's socket is not read.")
    frames_per_second: float = Field(
        120.0, gt=0, description="Frames that a session may send which asked to `fail` over it: sports cameras' rate."
    )
    unsent_bytes: int = Field(
        256 * 1024, ge=1024, description="Bytes that a client has not read at which its own are read no further."
    )
    ack_frames: int = Field(64, ge=1, description="Frames after which an ack is sent.")
    ack_seconds: float = Field(1.0, gt=0, description="Seconds after which an ack is sent if frames came.")
    start_seconds: float = Field(10.0, gt=0, description="Seconds from handshake to session.start.")
    idle_seconds: float = Field(30.0, gt=0, description="Seconds without any message before a session is closed.")
    state_url: str | None = Field(
        None,
        description="Where sessions' states are kept so that another server can go on with them: redis://… Else in memory.",
    )
    state_timeout: float = Field(2.0, gt=0, description="Seconds that the store of states gets for one answer.")
    resume_seconds: float | None = Field(
        None, gt=0, description="Seconds for which a session can be resumed; by default 60 in memory, 600 in a store."
    )
    state_memory_bytes: int = Field(
        256 * 1024**2, ge=1024, description="Bytes of states kept in memory; beyond it the oldest goes."
    )
    webhooks: Path | None = Field(
        None,
        description="File (TOML) of the webhook targets that sessions and jobs may choose by name; else there are none.",
    )
    webhook_queue: int = Field(
        10_000, ge=1, description="Events that wait for one target; beyond them new ones are given up."
    )
    webhook_concurrency: int = Field(
        4, ge=1, le=64, description="Deliveries to one target at a time: a slow one takes no more of the server."
    )
    webhook_rate: float = Field(
        100.0,
        gt=0,
        description="Attempts begun a second, all targets together: each takes the event loop milliseconds.",
    )
    webhook_timeout: float = Field(5.0, gt=0, description="Seconds for one attempt, look-up of the name included.")
    webhook_first_retry: float = Field(
        1.0, gt=0, description="Seconds until a failed delivery is tried again; doubled each time, give or take half."
    )
    webhook_last_retry: float = Field(3600.0, gt=0, description="Seconds between two attempts at the most: an hour.")
    webhook_give_up: float = Field(86_400.0, gt=0, description="Seconds for which a delivery is tried: a day.")
    capture: Path | None = Field(
        None,
        description="Folder in which poses of sessions that ask for it are kept, to learn from; without it none are.",
    )
    capture_days: float = Field(30.0, gt=0, description="Days for which they are kept: time to look and to label.")
    capture_bytes: int = Field(
        10 * 1024**3,
        ge=1024,
        description="Bytes of them; beyond it the oldest go. About a thousand hours of one person.",
    )
    capture_buffer_bytes: int = Field(
        64 * 1024**2,
        ge=1024,
        description="Bytes of poses that are gathered and not yet written; beyond it they are dropped.",
    )
    remember_bytes: int = Field(
        64 * 1024**2,
        ge=0,
        description="Bytes of the newest poses of sessions that ask to remember them: eighty minutes of one person.",
    )
    drain_seconds: float = Field(30.0, gt=0, description="Seconds that sessions get to finish when the server stops.")

    body_bytes: int = Field(32 * 1024**2, ge=1024, description="Largest body of POST /v1/localize.")
    decompressed_bytes: int = Field(64 * 1024**2, ge=1024, description="Largest body once decompressed.")
    all_body_bytes: int = Field(
        256 * 1024**2, ge=1024, description="Bytes of the bodies of all requests that are not answered yet."
    )
    unread_bytes: int = Field(
        256 * 1024**2, ge=1024, description="Bytes of all answers that were written and are not read yet."
    )
    max_frames: int = Field(108_000, ge=1, description="Frames of all tracks of a request: one hour at 30 fps.")

    video_workers: int = Field(1, ge=1, le=64, description="Videos that are looked at at a time; each takes a core.")
    queued_jobs: int = Field(64, ge=1, description="Jobs that wait, uploads included; more are refused with 503.")
    upload_rate: float = Field(
        16 * 1024, gt=0, description="Bytes a second at which an upload must come on average, or it loses its place."
    )
    max_jobs: int = Field(
        512, ge=1, description="Jobs kept in all; one that is over makes room for a new one, of who keeps most."
    )
    job_ttl: float = Field(86_400.0, gt=0, description="Seconds after its end for which a job is kept: a day.")
    job_folder: DirectoryPath | None = Field(None, description="Where jobs' files are kept; else the system's place.")
    job_disk_bytes: int = Field(
        8 * 1024**3, ge=1024, description="Bytes of all jobs' files: four of the largest videos."
    )
    video_bytes: int = Field(2 * 1024**3, ge=1024, description="Largest video of POST /v1/jobs.")
    video_seconds: float = Field(7200.0, gt=0, description="Longest video: two hours.")
    job_bytes: int = Field(128 * 1024**2, ge=1024, description="Largest recording (JSON) of POST /v1/jobs.")
    job_decompressed_bytes: int = Field(256 * 1024**2, ge=1024, description="Largest of them once decompressed.")
    job_frames: int = Field(864_000, ge=1, description="Frames of all tracks of a job: two hours of four people.")

    @model_validator(mode="after")
    def _check_doors(self) -> ServiceSettings:
        """Raises ValueError for a server that would let in strangers, or could let in nobody."""
        if self.jwks is not None and not (self.jwt_issuer and self.jwt_audience):
            raise ValueError("POSELINE_JWKS needs POSELINE_JWT_ISSUER and POSELINE_JWT_AUDIENCE")
        if self.jwks is not None and "://" in self.jwks and not self.jwks.startswith("https://"):
            raise ValueError("POSELINE_JWKS is a file or an https address")
        if self.keys is None and self.jwks is None and not is_loopback(self.host):
            raise ValueError(
                f"POSELINE_HOST {self.host} is open to others: that needs keys (POSELINE_KEYS; `poseline keys new`) "
                "or an issuer of tokens (POSELINE_JWKS)"
            )
        for origin in self.origins:
            parts = urlsplit(origin)
            if (
                parts.scheme not in ("http", "https")
                or not parts.netloc
                or origin != f"{parts.scheme}://{parts.netloc}"
            ):
                raise ValueError(f"POSELINE_ORIGINS: {origin!r} is no origin, as https://clinic.example is one")
        return self

    def for_jobs(self) -> ServiceSettings:
        """The same, with a job's limits in the place of a request's."""
        theirs = {"decompressed_bytes": self.job_decompressed_bytes, "max_frames": self.job_frames}
        return self.model_copy(update=theirs)

    def limits(self) -> dict[str, float]:
        """What a client of a stream should know."""
        names = ("message_bytes", "unsent_bytes", "frames_per_message", "people_per_frame", "tracks_per_session")
        return {name: getattr(self, name) for name in (*names, *_PACE)}


def is_loopback(name: str) -> bool:
    """Whether this is a name of one's own machine."""
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def unknown_variables() -> list[str]:
    """Variables that look like settings and are none: most likely misspelt, and silently ignored otherwise."""
    known = {PREFIX + name.upper() for name in ServiceSettings.model_fields} | {VARIABLE}
    return sorted(name for name in os.environ if name.startswith(PREFIX) and name.upper() not in known)
