"""What a receiver may believe: an event that was signed with its secret, unchanged and not long ago."""

from __future__ import annotations

import hmac
from base64 import b64encode
from hashlib import sha256
from typing import Any

import pytest
from msgspec import json

from poseline.errors import BadSignature, InputError
from poseline.webhooks import Event, new_secret, secret_bytes, sign, verify

SECRET = "whsec_" + b64encode(bytes(range(32))).decode()
EVENT = Event(
    id="ses_1.g1.1.final", source="/v1/sessions/ses_1", type="poseline.segment.final", time="t", data={"a": 1}
)
BODY = json.encode(EVENT)
NOW = 1_800_000_000


def headers(**changes: str) -> dict[str, str]:
    signature = sign(SECRET, EVENT.id, NOW, BODY)
    return {"Webhook-Id": EVENT.id, "Webhook-Timestamp": str(NOW), "Webhook-Signature": signature} | {
        name.replace("_", "-").title(): value for name, value in changes.items()
    }


def test_what_was_signed_is_believed() -> None:
    assert verify(SECRET, headers(), BODY, now=NOW + 299) == EVENT
    assert verify([new_secret(), SECRET], headers(), BODY, now=NOW - 299) == EVENT
    several = headers(webhook_signature=f"v1,AAAA v2,AAAA {sign(SECRET, EVENT.id, NOW, BODY)}")
    assert verify(SECRET, several, BODY, now=NOW) == EVENT


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """Of id, timestamp and body, joined by dots, under the secret's decoded bytes."""
    expected = hmac.new(bytes(range(32)), f"{EVENT.id}.{NOW}.".encode() + BODY, sha256).digest()
    assert sign(SECRET, EVENT.id, NOW, BODY) == "v1," + b64encode(expected).decode()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"body": BODY + b" "}, "no signature"),
        ({"secrets": new_secret()}, "no signature"),
        ({"secrets": []}, "no signature"),
        ({"headers": headers(webhook_id="ses_2.g1.1.final")}, "no signature"),
        ({"headers": headers(webhook_signature=sign(SECRET, EVENT.id, NOW, BODY).replace("v1", "v2"))}, "no signature"),
        ({"headers": headers(webhook_signature="ü")}, "no signature"),
        ({"headers": headers(webhook_timestamp=str(NOW + 1))}, "no signature"),
        ({"now": NOW + 301}, "timestamp"),
        ({"now": NOW - 301}, "timestamp"),
        ({"headers": {}}, "missing"),
        ({"headers": headers(webhook_timestamp="soon")}, "missing"),
        ({"headers": headers(webhook_timestamp="9" * 400)}, "missing"),
    ],
)
def test_anything_else_is_not(changes: dict[str, Any], why: str) -> None:
    told = {"secrets": SECRET, "headers": headers(), "body": BODY, "now": NOW} | changes
    with pytest.raises(BadSignature, match=why):
        verify(told["secrets"], told["headers"], told["body"], now=told["now"])


def test_who_has_the_secret_can_still_be_wrong() -> None:
    for body, why in ((b"{}", "no event"), (json.encode({**json.decode(BODY), "id": "other"}), "the event's id")):
        with pytest.raises(BadSignature, match=why):
            verify(SECRET, headers(webhook_signature=sign(SECRET, EVENT.id, NOW, body)), body, now=NOW)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_%%%", b64encode(bytes(32)).decode(), "whsec_AAAA"])
def test_a_secret_is_long_and_says_what_it_is(secret: str) -> None:
    with pytest.raises(InputError, match="secret"):
        secret_bytes(secret)
    assert len(secret_bytes(new_secret())) >= 24
