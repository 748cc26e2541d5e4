"""From an error to what a caller sees of it: HTTP status with problem+json (RFC 9457), or WebSocket close code.

The one table of both. A server's own fault is told with the request's id and nothing else; its detail is in the log.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec import UNSET
from starlette.responses import Response

from poseline import errors as domain
from poseline.codec import encode
from poseline.protocol import ErrorMessage, Problem
from poseline_service import errors

_KINDS: Mapping[type[domain.PoselineError], tuple[int, int]] = {
    domain.PoselineError: (500, 1011),
    domain.InputError: (422, 4422),
    domain.MalformedMessage: (400, 4400),
    domain.BadNumber: (400, 4400),
    domain.BadConfidence: (422, 4422),
    domain.BadTimestamps: (400, 4400),
    domain.UnknownLayout: (404, 4422),
    domain.TooLarge: (413, 1009),
    domain.UnknownModel: (404, 4422),
    domain.ModeUnavailable: (422, 4422),
    domain.BundleError: (422, 1013),
    domain.Overloaded: (503, 1013),
    domain.Draining: (503, 1012),
    domain.EngineFailure: (500, 1011),
    domain.ExtractionTimeout: (504, 1011),
    errors.UnsupportedMedia: (415, 1003),
    errors.WrongData: (400, 1003),
    errors.InvalidText: (400, 1007),
    errors.HeadTooLarge: (431, 1009),
    errors.NotFound: (404, 4404),
    errors.SessionExpired: (410, 4410),
    errors.Superseded: (409, 4409),
    errors.IdempotencyConflict: (409, 4422),
    errors.ResultPending: (409, 1013),
    errors.NoResult: (409, 4422),
    errors.VideoUnavailable: (501, 4422),
    errors.Silence: (408, 4408),
    errors.Unauthorized: (401, 4401),
    errors.Forbidden: (403, 1008),
    errors.RateLimited: (429, 4429),
    errors.TooFast: (429, 4429),
    errors.DeadlineExceeded: (504, 1011),
    errors.NotKept: (507, 1011),
    errors.NotRemembered: (409, 4422),
    domain.TooManyClasses: (409, 4422),
}
"""Error → (HTTP status, close code); an error that is not listed is as its nearest listed ancestor."""


def _kind(error: domain.PoselineError) -> tuple[int, int]:
    return next(_KINDS[kind] for kind in type(error).__mro__ if kind in _KINDS)


def close_code(error: domain.PoselineError) -> int:
    return _kind(error)[1]


def told(error: domain.PoselineError) -> str:
    """What a caller may read of it."""
    return "the server failed; its log has the details" if _kind(error)[0] == 500 else error.detail


def error_message(error: domain.PoselineError, *, fatal: bool) -> ErrorMessage:
    """The stream's last (or, unless fatal, passing) word about an error."""
    return ErrorMessage(
        code=error.code,
        detail=told(error),
        fatal=fatal,
        param=error.param or UNSET,
        retry_after=error.retry_after if isinstance(error, domain.Overloaded) else UNSET,
    )


def problem_response(error: domain.PoselineError, path: str, request_id: str) -> Response:
    """The HTTP answer to an error."""
    status = _kind(error)[0]
    return problem(status, error.code, told(error), path, request_id, param=error.param, headers=_headers(error))


def _headers(error: domain.PoselineError) -> dict[str, str]:
    if isinstance(error, domain.Overloaded):
        return {"Retry-After": str(math.ceil(error.retry_after))}
    if isinstance(error, errors.Unauthorized):
        return {"WWW-Authenticate": 'Bearer realm="poseline"'}
    return {}


def problem(
    status: int,
    code: str,
    detail: str,
    path: str,
    request_id: str,
    *,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    body = Problem(
        type=f"urn:poseline:problem:{code}",
        title=code.replace("_", " ").capitalize(),
        status=status,
        detail=detail,
        instance=path,
        code=code,
        request_id=request_id,
        param=param or UNSET,
    )
    return Response(encode(body), status, headers, "application/problem+json")
