"""The wire, version 1: every message of the stream and of `POST /v1/localize`, one schema for server and clients.

A stream message is told apart by its `type`; unknown fields are ignored (the compatibility policy). Media times are seconds
on the client's clock; the server numbers its messages without gaps. How messages become bytes is `codec`'s affair, and the
same for all of them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

Joint = list[float] | None
Keypoints = list[Joint]
Space = str  # checked by `Coordinates`, whose message names the known ones


# --- what both doors share ---------------------------------------------------------------------------------------


class CustomLayout(Struct, frozen=True):
    """A layout that is not registered: its joint names, in the order in which they come."""

    joints: list[str]
    name: Literal["custom"] = "custom"


class CoordinatesSpec(Struct, frozen=True):
    """What the numbers of a pose mean; `y_axis` is down by default in an image, up elsewhere."""

    space: Space = "camera_m"
    dims: int = 3
    y_axis: Literal["up", "down"] | None = None
    facing: Literal["+z", "-z"] = "-z"
    mirrored: bool = False
    image_size: tuple[int, int] | None = None


class DecodingChoice(Struct, frozen=True, kw_only=True):
    """How scores become segments; what is left out is as the model's manifest says. Durations in seconds."""

    min_score: float | None = None
    off_score: float | None = None
    min_duration: float | None = None
    off_hang: float | None = None
    max_duration: float | None = None
    classes: list[str] | None = None
    gap_reset: float = 2.0


class ModelInfo(Struct, frozen=True):
    """Which network answers, and under which licence."""

    name: str
    version: str
    digest: str
    layout: str
    license: str
    research_only: bool


class Problem(Struct, frozen=True, kw_only=True):
    """Why a request was refused (RFC 9457): `code` is for programs and stable, `detail` for people.

    param: the field at fault.
    """

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    param: str | UnsetType = UNSET


class Notice(Struct, frozen=True):
    """Something that the caller should know about an answer that was given all the same."""

    code: str
    detail: str


# --- POST /v1/localize -------------------------------------------------------------------------------------------


_number = {"type": "number"}
_joint = {"anyOf": [{"type": "null"}, {"type": "array", "items": _number}]}


class TrackSpec(Struct, frozen=True):
    """One person of a recording: keypoints (frames × joints × (dims + optional confidence)); a null joint is missing. Or
    they are packed: the bytes of little-endian float32 (frames × joints × (dims + 1)), as in `Person`.

    Frames stay unread until `keypoints.read_tracks` turns them into arrays, a slice at a time: as Python's lists, an
    hour would weigh hundreds of megabytes and hold the interpreter for a second. `write_tracks` makes them.
    start_frame: the recording's frame at which this track begins.
    """

    track_id: str
    keypoints: (
        Annotated[list[msgspec.Raw], msgspec.Meta(extra_json_schema={"items": {"type": "array", "items": _joint}})]
        | bytes
    )
    start_frame: int = 0


class LocalizeOptions(DecodingChoice, frozen=True, kw_only=True):
    """`return` may hold "segments" and "scores"; the latter come at most `frame_scores_hz` times a second."""

    mode: Literal["online", "offline"] = "online"
    max_segments: int | None = None
    returns: list[Literal["segments", "scores"]] = msgspec.field(name="return", default_factory=lambda: ["segments"])
    frame_scores_hz: float = 5.0


class LocalizeRequest(Struct, frozen=True, kw_only=True):
    """A finished recording: exactly one of `fps` and `timestamps` (seconds, strictly rising) gives its clock."""

    tracks: list[TrackSpec]
    layout: str | CustomLayout
    coordinates: CoordinatesSpec = CoordinatesSpec()
    fps: float | None = None
    timestamps: list[float] | None = None
    id: str | None = None
    model: str = "default"
    options: LocalizeOptions = LocalizeOptions()


class ExampleSpec(Struct, frozen=True, kw_only=True):
    """Somebody who does what a class is to mean, from `start` to `end`: in a recording, or in a session that is open on this
    server and asked it to `remember`.

    recording: holds one track; its `options` and `model` say nothing. Left out, `start` and `end` are its begin and its end.
    session_id: the caller's own; then `track_id` is who of it, and `start` and `end` are its media time.
    """

    recording: LocalizeRequest | UnsetType = UNSET
    session_id: str | UnsetType = UNSET
    track_id: str | UnsetType = UNSET
    start: float | None = None
    end: float | None = None


class EnrolRequest(Struct, frozen=True, kw_only=True):
    """A class from one to five examples; what was enrolled under that name before is replaced."""

    name: str
    examples: list[ExampleSpec]


class EnrolledClassInfo(Struct, frozen=True):
    """A class that was enrolled. frames: of its examples, on the network's grid. created: UTC."""

    name: str
    label_id: int
    examples: int
    frames: int
    created: datetime


class EnrolledClassList(Struct, frozen=True):
    prototypes: list[EnrolledClassInfo]


class FoundSegment(Struct, frozen=True):
    """One action, half-open [start, end) in seconds and [start_frame, end_frame) on the client's own frames.

    repetitions: how often it was done; left out where nobody counted.
    """

    segment_id: str
    track_id: str
    label: str
    label_id: int
    start: float
    end: float
    start_frame: int
    end_frame: int
    score: float
    repetitions: int | UnsetType = UNSET


class FrameScores(Struct, frozen=True):
    """Scores of one track over time: at `t[i]` the best classes were `top[i]` = [[label_id, score], …].

    unknown: `unknown[i]` where the answer at `t[i]` is "unknown", as in `Scores`; left out where it nowhere is.
    """

    track_id: str
    t: list[float]
    top: list[list[tuple[int, float]]]
    unknown: list[bool] | UnsetType = UNSET


class LocalizeResponse(Struct, frozen=True, kw_only=True):
    """Segments sorted by start, then track, then label."""

    request_id: str
    duration: float
    fps_used: float
    model: ModelInfo
    segments: list[FoundSegment]
    warnings: list[Notice]
    timing_ms: dict[str, float]
    id: str | UnsetType = UNSET
    scores: list[FrameScores] | UnsetType = UNSET


# --- /v1/jobs ----------------------------------------------------------------------------------------------------

JobKind = Literal["video", "recording"]
JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]


class VideoRequest(Struct, frozen=True, kw_only=True):
    """What is wanted of a video. people: so many at a time are looked for. poses: keep them for `/v1/jobs/{id}/poses`."""

    id: str | None = None
    model: str = "default"
    people: int = 1
    poses: bool = False
    options: LocalizeOptions = LocalizeOptions()


class JobError(Struct, frozen=True):
    """Why a job has no result."""

    code: str
    detail: str


class JobStatus(Struct, frozen=True, kw_only=True):
    """progress: 0 to 1. source: the uploaded file's name, or the recording's id. expires: when it will be forgotten."""

    id: str
    kind: JobKind
    state: JobState
    progress: float
    source: str | None
    created: datetime
    started: datetime | None
    finished: datetime | None
    expires: datetime | None
    error: JobError | None


class JobList(Struct, frozen=True):
    """Newest first."""

    jobs: list[JobStatus]


# --- /v1/stream/tickets ------------------------------------------------------------------------------------------


class Ticket(Struct, frozen=True):
    """Stands for its buyer once, within so many seconds."""

    ticket: str
    expires_in: float


# --- stream: client to server ------------------------------------------------------------------------------------


class StreamOptions(DecodingChoice, frozen=True, kw_only=True):
    """evidence: nats that must have come together before a segment's start is told; finals do not depend on it.

    scores_hz: `scores` messages a second and track, 0 for none, the grid's rate or more for every frame. look_ahead: seconds
    by which a score may lag behind its pose. on_overload: what becomes of frames that come faster than they are scored.
    capture: the server may keep the session's poses to learn from, where its operator does that. remember: seconds of
    everybody's newest poses that the server holds in memory, of which stretches may be shown as examples of a class.
    """

    evidence: float | None = None
    partials: Literal["none", "changes", "all"] = "changes"
    scores_hz: float = 0.0
    look_ahead: float | None = None
    on_overload: Literal["block", "drop_oldest", "fail"] = "block"
    capture: bool = False
    remember: float = 0.0


class ClientInfo(Struct, frozen=True):
    name: str = ""
    version: str = ""


class Resume(Struct, frozen=True):
    """A session to go on with, and the `seq` of the newest server message that was heard of it, -1 for none."""

    session_id: str
    token: str
    last_server_seq: Annotated[int, msgspec.Meta(ge=-1, le=2**53)]


class SessionStart(Struct, frozen=True, kw_only=True, tag="session.start"):
    """The first message of every connection: a new session's `layout` and what else is to be known of it, or `resume`.

    webhooks: names of the server's targets that are to hear of it, too.
    """

    layout: str | CustomLayout | UnsetType = UNSET
    resume: Resume | UnsetType = UNSET
    coordinates: CoordinatesSpec = CoordinatesSpec()
    fps: float | None = None
    model: str = "default"
    options: StreamOptions = StreamOptions()
    client: ClientInfo | None = None
    webhooks: list[str] = []


class Person(Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """id: left out where the server is to tell people apart: for everybody of a session, or for nobody.

    kp: joint by joint; or packed, as the bytes of little-endian float32 (joints × (dims + 1)), confidence last, where a
    NaN marks its joint missing.
    """

    id: str | None = None
    kp: Keypoints | bytes


class Frame(Struct, frozen=True, gc=False):
    """Everybody who is seen at media time `t`; nobody is a valid answer."""

    t: float
    people: list[Person]


class Frames(Struct, frozen=True, gc=False, tag="frames"):
    """Frames in rising time; `seq` is the client's number of the first of them."""

    seq: Annotated[int, msgspec.Meta(ge=0, le=2**53)]  # what a double can count, and every encoding can hold
    frames: list[Frame]


class Flush(Struct, frozen=True, tag="flush"):
    """Close open segments now, of one track or of all, and go on."""

    track_id: str | None = None


class SessionUpdate(Struct, frozen=True, tag="session.update"):
    """Change some of a running session's `StreamOptions`, for the frames that follow. options: an object of those to change.

    Checked by `translation.changed_options`, not here: a wrong option costs the client an answer, not its session.
    """

    options: Annotated[Any, msgspec.Meta(extra_json_schema={"type": "object"})] = None


class Keepalive(Struct, frozen=True, tag="keepalive"):
    pass


class SessionClose(Struct, frozen=True, tag="session.close"):
    pass


ClientMessage = SessionStart | Frames | Flush | SessionUpdate | Keepalive | SessionClose


# --- stream: server to client ------------------------------------------------------------------------------------


class Numbered(Struct, kw_only=True, gc=False):
    """Head of every server message; the outbox fills it in when the message is posted."""

    seq: int = 0
    session_id: str = ""


class LayoutConversion(Struct, frozen=True, rename={"source": "from", "target": "to"}):
    source: str
    target: str
    approximate: bool


class SessionStarted(Numbered, kw_only=True, tag="session.started"):
    """hop: seconds between two scores. algorithmic_latency: seconds by which a score lags behind its pose.

    unknown_below: least score of the best class that is an answer; where it is less, the answer is "unknown". 0 = never.

    It is message 0 of its session, and told again whenever that is resumed. resume_token: what a resume must bring, good for
    `resume_ttl` seconds after the connection has ended; a new one each time. Where `resumed`: frames before
    `next_client_seq` are done with, and messages up to `server_seq` follow that had not been heard.
    """

    model: ModelInfo
    classes: list[str]
    layout_conversion: LayoutConversion
    limits: dict[str, float]
    algorithmic_latency: float
    hop: float
    unknown_below: float = 0.0
    options: dict[str, Any]
    resume_token: str
    resume_ttl: float
    resumed: bool = False
    next_client_seq: int = 0
    server_seq: int = 0


class SessionUpdated(Numbered, kw_only=True, tag="session.updated"):
    """Every option as it holds for the frames that follow."""

    options: dict[str, Any]


class Ack(Numbered, kw_only=True, tag="ack"):
    """Frames up to `client_seq` are accepted; `queue_depth` grid frames still wait for the network."""

    client_seq: int
    t: float
    queue_depth: int
    realtime_factor: float
    dropped: int


class Scores(Numbered, kw_only=True, tag="scores"):
    """The best classes at media time `t`: [[label_id, score], …], background included.

    unknown: the best of them scores less than the model's `unknown_below`, so the answer is "unknown": neither an action nor
    background is sure. Left out where it is not so. Segments are decided by scores alone.
    """

    t: float
    track_id: str
    top: list[tuple[int, float]]
    unknown: bool | UnsetType = UNSET


class OfSegment(Numbered, kw_only=True):
    """Head of every message about one segment."""

    segment_id: str
    track_id: str
    label: str
    label_id: int


class SegmentStarted(OfSegment, kw_only=True, tag="segment.started"):
    start: float
    score: float


class SegmentUpdated(OfSegment, kw_only=True, tag="segment.updated"):
    """repetitions: how often the action was done so far; left out where nobody counted."""

    start: float
    end: float
    score: float
    repetitions: int | UnsetType = UNSET


class SegmentFinal(OfSegment, kw_only=True, tag="segment.final"):
    """Sent once, never changed. repetitions: as for `SegmentUpdated`."""

    start: float
    end: float
    score: float
    forced: str
    repetitions: int | UnsetType = UNSET


class SegmentRetracted(OfSegment, kw_only=True, tag="segment.retracted"):
    reason: Literal["below_threshold", "too_short"]


class TrackStarted(Numbered, kw_only=True, tag="track.started"):
    track_id: str
    t: float


class TrackEnded(Numbered, kw_only=True, tag="track.ended"):
    track_id: str
    t: float
    reason: str


class Tracks(Numbered, kw_only=True, tag="tracks"):
    """From frame `client_seq` on (media time `t`), a frame's people are these, in its order, until the next such message;
    null for who is not followed. Only where the client names nobody."""

    client_seq: int
    t: float
    track_ids: list[str | None]


class Flushed(Numbered, kw_only=True, tag="flushed"):
    t: float


class Warn(Numbered, kw_only=True, tag="warning"):
    code: str
    detail: str
    count: int | UnsetType = UNSET


class SessionDraining(Numbered, kw_only=True, tag="session.draining"):
    """The server is going away: it scores what it has accepted within `deadline` seconds and takes no more."""

    deadline: float
    resume: bool
    retry_after: float


class ErrorMessage(Numbered, kw_only=True, tag="error"):
    code: str
    detail: str
    fatal: bool
    param: str | UnsetType = UNSET
    retry_after: float | UnsetType = UNSET


class SessionClosed(Numbered, kw_only=True, tag="session.closed"):
    frames_received: int
    frames_processed: int
    frames_dropped: int
    media_seconds: float
    wall_seconds: float
    segments: int


# --- /v1/sessions ------------------------------------------------------------------------------------------------


class SessionStatus(Struct, frozen=True, kw_only=True):
    """state: `open`, over a connection; `kept`: its client may come back until it expires; `closed`: it has ended, and its
    client has not heard so. t: media time of the newest frame. people: in it now. segments: finals so far. finals: the
    newest of them as they were told, where one session is asked for."""

    session_id: str
    state: Literal["open", "kept", "closed"]
    created: datetime
    expires: datetime | None = None
    model: str
    layout: str
    people: int
    t: float
    frames_received: int
    segments: int
    finals: list[SegmentFinal] | UnsetType = UNSET


class SessionList(Struct, frozen=True):
    """Newest first."""

    sessions: list[SessionStatus]


ServerMessage = (
    SessionStarted
    | SessionUpdated
    | Ack
    | Scores
    | SegmentStarted
    | SegmentUpdated
    | SegmentFinal
    | SegmentRetracted
    | TrackStarted
    | TrackEnded
    | Tracks
    | Flushed
    | Warn
    | SessionDraining
    | ErrorMessage
    | SessionClosed
)
