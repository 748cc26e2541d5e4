"""The kept descriptions of the API are those of the code, and the server's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import jsonschema_rs
import pytest

from poseline.protocol import ClientMessage, ServerMessage
from poseline_service.schemas import documents
from servers import ServerProcess

KEPT = Path(__file__).parents[2] / "docs" / "schemas"
HINT = "they are written by: poseline schemas"


@pytest.mark.parametrize("name", ["openapi.json", "stream.schema.json"])
def test_the_kept_ones_are_those_of_the_code(name: str) -> None:
    assert (KEPT / name).read_text("utf-8") == documents()[name], HINT


def test_the_command_writes_them_whatever_the_settings(tmp_path: Path) -> None:
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "POSELINE_MODELS": "elsewhere"}
    command = [sys.executable, "-m", "poseline_cli", "schemas", "--output", str(tmp_path / "new")]
    subprocess.run(command, check=True, env=os.environ | paths)
    assert {path.name: path.read_text("utf-8") for path in (tmp_path / "new").iterdir()} == documents()


def test_the_server_answers_with_the_same(server: ServerProcess) -> None:
    assert httpx.get(f"{server.url}/openapi.json").json() == json.loads(documents()["openapi.json"])


def test_every_route_tells_its_problems() -> None:
    document = json.loads(documents()["openapi.json"])
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len(operations) > 10
    for operation in operations:
        assert operation["responses"]["default"] == {"$ref": "#/components/responses/Problem"}
        assert "422" not in operation["responses"]
    assert "HTTPValidationError" not in document["components"]["schemas"]
    assert {"Problem", "LocalizeRequest", "LocalizeResponse", "JobStatus"} <= document["components"]["schemas"].keys()


def test_every_message_of_the_stream_is_described() -> None:
    document = json.loads(documents()["stream.schema.json"])
    jsonschema_rs.meta.validate(document)
    for union, name in ((ClientMessage, "ClientMessage"), (ServerMessage, "ServerMessage")):
        kinds = {kind.__struct_config__.tag for kind in union.__args__}
        told = [document["$defs"][one["$ref"].rpartition("/")[2]] for one in document["$defs"][name]["anyOf"]]
        assert {one["properties"]["type"]["enum"][0] for one in told} == kinds
    valid = jsonschema_rs.validator_for(document).is_valid
    assert valid({"type": "flush"})
    assert not valid({"type": "frames", "seq": -1, "frames": []})
    assert not valid({"type": "flushed", "t": 1.0})  # from the server all fields come
    assert valid({"type": "flushed", "t": 1.0, "seq": 3, "session_id": "s"})
