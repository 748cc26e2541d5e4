"""`poseline schemas`: the API's machine-readable descriptions as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from poseline_service.app import create_app
from poseline_service.openapi import stream_schema
from poseline_service.settings import ServiceSettings


def documents() -> dict[str, str]:
    """By file name. They depend on no setting."""
    app = create_app(ServiceSettings.model_construct())
    return {"openapi.json": _text(app.openapi()), "stream.schema.json": _text(stream_schema())}


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def write(
    output: Annotated[Path, typer.Option(help="Folder to write openapi.json and stream.schema.json to.")] = Path(
        "docs/schemas"
    ),
) -> None:
    """Write the OpenAPI document and the JSON Schema of the stream's messages."""
    output.mkdir(parents=True, exist_ok=True)
    for name, text in documents().items():
        (output / name).write_text(text, encoding="utf-8")
        typer.echo(output / name)
