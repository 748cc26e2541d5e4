"""The API in the words of machines: OpenAPI for HTTP, JSON Schema for the stream. Both are made of the wire's own structs,
so that no second model of them exists; `poseline schemas` writes them down."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import FastAPI
from msgspec import Struct

from poseline.codec import JSON, MEDIA_TYPES, schemas
from poseline.protocol import ClientMessage, Problem, ServerMessage

_HTTP_REF = "#/components/schemas/{name}"
_BEARER = "An API key or a JSON Web Token; none where the server asks for none."
_STREAM_REF = "#/$defs/{name}"
_READ: dict[str, Any] = {}
_WRITTEN: dict[str, Any] = {"Problem": Problem}
"""Structs that routes read and answer with, by name: filled where a route is declared."""
_PROBLEM = {
    "description": "What is wrong: a problem document (RFC 9457)",
    "content": {"application/problem+json": {"schema": {"$ref": _HTTP_REF.format(name="Problem")}}},
}


def body_of(kind: type[Struct], *others: str, form: type[Struct] | None = None) -> dict[str, Any]:
    """`openapi_extra` of a route that reads this struct, in either encoding.

    others: media types that it takes besides. form: struct of the part `request` of a multipart form with a file.
    """
    content: dict[str, Any] = {media: {"schema": _reference(_READ, kind)} for media in MEDIA_TYPES}
    for media in others:
        content[media] = {}
    if form is not None:
        file = {"type": "string", "contentMediaType": "application/octet-stream"}
        people = {"type": "integer", "minimum": 1}
        parts = {"file": file, "request": _reference(_READ, form), "people": people}
        content["multipart/form-data"] = {"schema": {"type": "object", "properties": parts, "required": ["file"]}}
    return {"requestBody": {"required": True, "content": content}}


def _reference(kinds: dict[str, Any], kind: type[Struct]) -> dict[str, Any]:
    kinds[kind.__name__] = kind
    return {"$ref": _HTTP_REF.format(name=kind.__name__)}


def result_of(
    kind: type[Struct] | None, status: int = 200, *, media: tuple[str, ...] = (), what: str = "The answer"
) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that answers with this struct as JSON. media: types in which it may answer besides."""
    schema: dict[str, Any] = {}
    if kind is not None:
        schema = {"schema": _reference(_WRITTEN, kind)}
        media = (JSON.media_type, *media)
    content = dict.fromkeys(media, schema)
    return {status: {"description": what, "content": content} if content else {"description": what}}


def describe_wire(app: FastAPI) -> None:
    """Complete the app's OpenAPI document: the wire's schemas, and that every error is a problem document."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)  # FastAPI's own form of what `app` tells as a problem
                operation["responses"]["default"] = {"$ref": "#/components/responses/Problem"}
        found = schemas(_READ, _WRITTEN, _HTTP_REF)
        made = {
            "responses": {"Problem": _PROBLEM},
            "schemas": dict(sorted(found.items())),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "description": _BEARER}},
        }
        document["components"] = document.get("components", {}) | made
        document["security"] = [{"bearer": []}, {}]
        return document

    app.openapi = cache(openapi)


def stream_schema() -> dict[str, Any]:
    """JSON Schema of every message of `/v1/stream`, as JSON."""
    definitions = schemas({"ClientMessage": ClientMessage}, {"ServerMessage": ServerMessage}, _STREAM_REF)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:poseline:stream:1",
        "title": "Poseline stream, version 1",
        "description": "A message of the WebSocket /v1/stream. Unknown fields are to be ignored, as are messages of an "
        "unknown type from the server.",
        "anyOf": [{"$ref": _STREAM_REF.format(name=name)} for name in ("ClientMessage", "ServerMessage")],
        "$defs": dict(sorted(definitions.items())),
    }
