"""The API description: FastAPI's, with the wire's structs as its schemas, so that no second model of them exists."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from msgspec import Struct

from poseline.codec import schemas
from poseline.protocol import JobList, JobStatus, LocalizeRequest, LocalizeResponse, Ticket, VideoRequest

_WIRE: tuple[type[Struct], ...] = (LocalizeRequest, LocalizeResponse, VideoRequest, JobStatus, JobList, Ticket)
_BEARER = "An API key or a JSON Web Token; none where the server asks for none."
_REF = "#/components/schemas/{name}"


def body_of(kind: type[Struct], *others: str) -> dict[str, Any]:
    """`openapi_extra` of a route that reads this struct, or media of other types."""
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": _REF.format(name=kind.__name__)}}}
    content |= {other: {} for other in others}
    return {"requestBody": {"required": True, "content": content}}


def result_of(kind: type[Struct], status: int = 200) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that answers with this struct; every error is a problem document."""
    content = {"application/json": {"schema": {"$ref": _REF.format(name=kind.__name__)}}}
    return {
        status: {"description": "The answer", "content": content},
        "default": {"description": "A problem", "content": {"application/problem+json": {}}},
    }


def describe_wire(app: FastAPI) -> None:
    """Add the wire's schemas to the app's OpenAPI document."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        _, components = schemas(_WIRE, _REF)
        told = document.setdefault("components", {})
        told.setdefault("schemas", {}).update(components)
        told["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer", "description": _BEARER}}
        document["security"] = [{"bearer": []}, {}]
        return document

    app.openapi = openapi
