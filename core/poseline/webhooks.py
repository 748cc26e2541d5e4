"""Webhooks: what a server sends to a target when something has happened, and how a receiver knows that it is genuine.

The body is a CloudEvent 1.0 in JSON (structured mode); the headers are those of Standard Webhooks 1.0: `webhook-id`,
`webhook-timestamp` (Unix seconds of this attempt) and `webhook-signature`, `v1,` and the base64 of the HMAC-SHA256 over
`id.timestamp.body`. Deliveries come at least once, in no promised order: `webhook-id` is the event's `id`, the same however
often it comes. No HTTP here: `verify` takes the headers and the body that any framework has.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Mapping, Sequence
from hashlib import sha256
from secrets import token_bytes
from time import time
from typing import Any, Literal, get_args

from msgspec import UNSET, DecodeError, Struct, UnsetType, json

from poseline.errors import BadSignature, InputError

EventKind = Literal["segment.final", "segment.started", "session.closed", "job.finished"]
KINDS: tuple[EventKind, ...] = get_args(EventKind)
CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
_PREFIX = "whsec_"
_SHORTEST, _LONGEST = 24, 64
"""Bytes of a secret, as Standard Webhooks asks for."""
_TOLERANCE = 300.0


class Event(Struct, frozen=True, kw_only=True):
    """A CloudEvent. source: the session's or job's path on the server. type: `poseline.` and an `EventKind`. subject: the
    segment's id. time: RFC 3339, when it was decided. data: the fields of the stream's message of that name, or of a job."""

    id: str
    source: str
    type: str
    time: str
    data: dict[str, Any]
    subject: str | UnsetType = UNSET
    specversion: Literal["1.0"] = "1.0"
    datacontenttype: Literal["application/json"] = "application/json"


def new_secret() -> str:
    """A secret to be shared by server and receiver."""
    return _PREFIX + b64encode(token_bytes(_SHORTEST)).decode()


def secret_bytes(secret: str) -> bytes:
    """The key that a secret `whsec_…` holds. Raises InputError."""
    try:
        if not secret.startswith(_PREFIX):
            raise ValueError
        key = b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (Error, ValueError):
        raise InputError(f"a webhook's secret is {_PREFIX} and base64", param="secret") from None
    if not _SHORTEST <= len(key) <= _LONGEST:
        what = f"a webhook's secret holds {len(key)} bytes, expected {_SHORTEST} to {_LONGEST}"
        raise InputError(what, param="secret")
    return key


def sign(secret: str, event_id: str, timestamp: int, body: bytes) -> str:
    """What `webhook-signature` says. timestamp: Unix seconds."""
    signed = f"{event_id}.{timestamp}.".encode() + body
    return "v1," + b64encode(hmac.digest(secret_bytes(secret), signed, sha256)).decode()


def verify(
    secrets: str | Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    tolerance: float = _TOLERANCE,
    now: float | None = None,
) -> Event:
    """The event, if one of the secrets signed it less than `tolerance` seconds ago (nor later than in as many).

    secrets: more than one while an old one is being replaced. headers: names in any case. body: the bytes as they came,
    before any JSON is read. now: Unix seconds, by default the clock's. Raises BadSignature.
    """
    told = {name.lower(): value for name, value in headers.items()}
    event_id, stamp, signatures = (told.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    if not (event_id and signatures and stamp.isascii() and stamp.isdigit() and len(stamp) < 16):
        raise BadSignature("webhook-id, webhook-timestamp or webhook-signature is missing or malformed")
    if abs((time() if now is None else now) - int(stamp)) > tolerance:
        raise BadSignature(f"the timestamp is more than {tolerance:g} seconds away: a replay, or a clock is wrong")
    known = [secrets] if isinstance(secrets, str) else secrets
    expected = [sign(secret, event_id, int(stamp), body).encode() for secret in known]
    came = signatures.encode().split()
    if not any(hmac.compare_digest(one, other) for one in expected for other in came):
        raise BadSignature("no signature is one of ours: another secret, or another body than was sent")
    try:
        event = json.decode(body, type=Event)
    except (DecodeError, UnicodeDecodeError) as error:
        raise BadSignature(f"the body is signed, and no event: {error}") from None
    if event.id != event_id:
        raise BadSignature(f"webhook-id is {event_id}, the event's id {event.id}")
    return event
