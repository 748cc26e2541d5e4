"""What can go wrong in the server alone, beyond the domain's own errors (`poseline.errors`)."""

from __future__ import annotations

from poseline.errors import InputError, MalformedMessage, Overloaded, PoselineError


class UnsupportedMedia(InputError):
    """A content type that this server does not read."""

    code = "unsupported_media_type"


class UnsupportedEncoding(UnsupportedMedia):
    code = "unsupported_encoding"


class UnsupportedSubprotocol(MalformedMessage):
    code = "unsupported_subprotocol"


class NotFound(InputError):
    code = "not_found"


class WrongData(MalformedMessage):
    """A binary WebSocket message in a session that speaks JSON, or text in one that speaks MessagePack."""

    code = "unsupported_data"


class OutOfOrder(MalformedMessage):
    """A message that cannot come at this point of a session."""

    code = "out_of_order"


class Silence(InputError):
    """Nothing was heard from the client for too long."""

    code = "idle_timeout"


class TooFast(InputError):
    """Frames come faster than a session that asked to `fail` then can take."""

    code = "too_fast"


class TooSlow(Silence):
    """An upload comes, but not as fast as it must."""

    code = "too_slow"


class HeadTooLarge(InputError):
    """A request's line and headers together."""

    code = "head_too_large"


class TooManyConnections(Overloaded):
    """Of all clients, or of one address."""

    code = "too_many_connections"


class InvalidText(MalformedMessage):
    """A WebSocket text message that is not UTF-8."""

    code = "invalid_text"


class DeadlineExceeded(InputError):
    """The client did not want to wait any longer."""

    code = "deadline_exceeded"


class NotRemembered(InputError):
    """A stretch of a live session whose poses nobody holds."""

    code = "not_remembered"


class UnknownSession(NotFound):
    """No session of that name, or not with this token: the answer does not tell which."""

    code = "unknown_session"


class SessionExpired(InputError):
    """The time in which it could be resumed is over."""

    code = "session_expired"


class ModelChanged(SessionExpired):
    """Another network answers now; it could not go on with this one's state."""

    code = "model_changed"


class SessionDeleted(SessionExpired):
    """Its owner did not want it any more."""

    code = "session_deleted"


class Superseded(InputError):
    """The session goes on over another connection."""

    code = "superseded"


class StoreUnavailable(Overloaded):
    """The store of states does not answer."""

    code = "state_unavailable"


class ModelLoading(Overloaded):
    """The network has not yet proved itself on its golden samples."""

    code = "model_loading"


class Unauthorized(InputError):
    """Who comes has not shown who they are; the answer does not tell what was wrong with it."""

    code = "unauthorized"


class TokenExpired(Unauthorized):
    """Who they were is known; the time of what showed it is over."""

    code = "token_expired"


class Forbidden(InputError):
    code = "forbidden"


class ForbiddenScope(Forbidden):
    code = "forbidden_scope"


class ForbiddenOrigin(Forbidden):
    """A web page that may not speak to this server."""

    code = "origin_not_allowed"


class ForbiddenHost(Forbidden):
    """The server was called by a name that is not its own."""

    code = "host_not_allowed"


class RateLimited(Overloaded):
    """One caller asks for too much; others are served."""

    code = "rate_limited"


class TooManySessions(RateLimited):
    code = "too_many_sessions"


class TooManyJobs(RateLimited):
    code = "too_many_jobs"


class QuotaExceeded(RateLimited):
    code = "quota_exceeded"


class AuthorityUnavailable(Overloaded):
    """Tokens cannot be checked: their issuer's keys are not to be had."""

    code = "authority_unavailable"


class UnknownJob(NotFound):
    code = "unknown_job"


class UnknownWebhook(InputError):
    """No webhook target of that name that this caller may choose, or none that takes what can happen here."""

    code = "unknown_webhook"


class IdempotencyConflict(InputError):
    """A key that came before, with something else."""

    code = "idempotency_conflict"


class ResultPending(Overloaded):
    """A job is not over yet."""

    code = "result_pending"


class NoResult(InputError):
    """A job is over, and what is asked for did not come of it."""

    code = "no_result"


class VideoUnavailable(PoselineError):
    """This server has no eyes: a library or the pose model is missing."""

    code = "video_unavailable"


class UnknownClass(NotFound):
    """No enrolled class of that name."""

    code = "unknown_class"


class NotKept(PoselineError):
    """What was asked for cannot be written down, and so was not done."""

    code = "not_kept"
