"""What schemathesis is told of this API beyond its OpenAPI document (`SCHEMATHESIS_HOOKS`)."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import jsonschema_rs
import msgspec
import schemathesis

from poseline_service.schemas import documents

DOCUMENT = json.loads(documents()["openapi.json"])


@schemathesis.serializer("application/msgpack")
def to_messagepack(context: schemathesis.SerializationContext, value: Any) -> bytes:
    return msgspec.msgpack.encode(_held(value))


def _held(value: Any) -> Any:
    """The same with integers that MessagePack can hold."""
    if isinstance(value, dict):
        return {str(name): _held(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_held(one) for one in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return float(min(max(value, -(10**300)), 10**300))
    return value


@schemathesis.deserializer("application/msgpack")
def from_messagepack(context: schemathesis.DeserializationContext, response: schemathesis.Response) -> Any:
    return msgspec.msgpack.decode(response.content)


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """Every other recording gets poses that can be scored: of numbers drawn freely, hardly any would reach the network."""
    if not isinstance(body, dict) or not isinstance(body.get("tracks"), list) or len(repr(body)) % 2:
        return body
    poses = [[[0.1 * joint, 1.0, 0.5, 1.0] for joint in range(16)]] * 40
    tracks = [track | {"keypoints": poses, "start_frame": 0} for track in body["tracks"] if isinstance(track, dict)]
    return body | {"tracks": tracks, "layout": "body16", "coordinates": {}, "fps": 30.0, "timestamps": None}


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, **_: Any) -> None:
    """Who does not want to wait is answered 504, and honestly so: everybody waits."""
    headers = case.headers or {}
    if str(headers.get("X-Request-Timeout-Ms", "")).isdigit():
        headers["X-Request-Timeout-Ms"] = "60000"


@schemathesis.check
def answer_is_as_described(context: Any, response: schemathesis.Response, case: schemathesis.Case) -> None:
    """As `response_schema_conformance`, which stumbles over `prefixItems` where they stand in the answer itself."""
    operation = DOCUMENT["paths"].get(case.operation.path, {}).get(case.operation.method)
    if operation is None:
        return
    told = operation["responses"].get(str(response.status_code), DOCUMENT["components"]["responses"]["Problem"])
    media = response.headers["content-type"][0].partition(";")[0] if "content-type" in response.headers else None
    if media is None or not (schema := told["content"][media].get("schema")):
        return
    decode = msgspec.msgpack.decode if media.endswith("msgpack") else json.loads
    errors = [str(error) for error in _validator(json.dumps(schema)).iter_errors(decode(response.content))]
    assert not errors, errors


@cache
def _validator(schema: str) -> Any:
    return jsonschema_rs.validator_for(json.loads(schema) | {"components": DOCUMENT["components"]})
