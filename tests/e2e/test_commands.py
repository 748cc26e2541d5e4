"""The command `poseline`, as its users run it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from made_up import request_of
from poseline.codec import encode
from servers import ServerProcess

FIELDS = ("track_id", "label", "start", "end", "score")


def poseline(*args: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    roots = os.pathsep.join(path for path in sys.path if path)
    env = os.environ | {"PYTHONPATH": roots, "COLUMNS": "100", "NO_COLOR": "1"} | environment
    command = [sys.executable, "-m", "poseline_cli", *map(str, args)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def request_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("requests") / "walk.json"
    path.write_bytes(encode(request_of(11, 600)))
    return path


def streamed(server: ServerProcess, source: Path | str, *args: str) -> list[dict[str, object]]:
    done = poseline("stream", source, "--url", server.ws, "--speed", "max", "--format", "json", *args)
    assert done.returncode == 0, done.stderr
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    return [{name: one[name] for name in FIELDS} for one in messages if one["type"] == "segment.final"]


def told(localized: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    """What `localize --format json` found, without the names that a stream gives otherwise."""
    assert localized.returncode == 0, localized.stderr
    return [{name: one[name] for name in FIELDS} for one in json.loads(localized.stdout)["segments"]]


@pytest.mark.parametrize("chunk", ["1", "13", "64"])
def test_stream_finds_what_localize_finds(server: ServerProcess, request_file: Path, chunk: str) -> None:
    done = poseline("localize", request_file, "--url", server.url + "/localize", "--format", "json")
    whole = told(done)
    assert len(whole) > 10
    key = lambda one: (one["start"], one["label"])  # noqa: E731
    assert sorted(streamed(server, request_file, "--chunk", chunk), key=key) == sorted(whole, key=key)


def test_localize_here_equals_localize_there(server: ServerProcess, request_file: Path, models: Path) -> None:
    there = poseline("localize", request_file, "--url", server.url + "/v1/localize", "--format", "csv")
    here = poseline("localize", request_file, "--models", models, "--format", "csv")
    assert next(csv.DictReader(here.stdout.splitlines())).keys() >= set(FIELDS)
    assert here.stdout == there.stdout


def test_the_actor_streams(server: ServerProcess) -> None:
    done = poseline("stream", "actor", "--url", server.ws, "--speed", "max", "--seconds", "10", "--chunk", "30")
    assert done.returncode == 0, done.stderr
    assert "segments in 10.0 s" in done.stdout or "segments in 9.9" in done.stdout


def test_help_names_every_command_without_importing_it() -> None:
    found = poseline("--help")
    for name in ("serve", "stream", "localize", "layouts", "models", "pretrain", "finetune", "evaluate", "export"):
        assert name in found.stdout
    code = "import sys; sys.argv[1:] = ['--help']\nfrom poseline_cli import app\n"
    code += "try: app()\nexcept SystemExit: pass\nprint([name for name in sys.modules if name in "
    code += "('torch', 'onnxruntime', 'fastapi', 'websockets')])"
    roots = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": roots}, capture_output=True)
    assert done.stdout.decode().splitlines()[-1] == "[]"
    assert "--speed" in poseline("stream", "--help").stdout


def test_lists(models: Path) -> None:
    assert "kinect_v2_25" in poseline("layouts").stdout
    assert "tiny" in poseline("models", "--folder", models).stdout


def test_a_missing_extra_names_its_installation(tmp_path: Path) -> None:
    (tmp_path / "fastapi.py").write_text("raise ModuleNotFoundError('no fastapi here', name='fastapi')")
    roots = os.pathsep.join([str(tmp_path), *(path for path in sys.path if path)])
    done = poseline("serve", PYTHONPATH=roots)
    assert done.returncode == 1
    assert "poseline serve needs fastapi: pip install 'poseline[service]'" in done.stderr


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("stream", "nowhere.json"), 1, "invalid_input: nowhere.json is missing"),
        (("stream", "walk.trc"), 1, "invalid_input: walk.trc is missing"),
        (("stream", "actor", "--speed", "warp"), 1, "--speed is 'warp'"),
        (("stream", "actor", "--seconds", "2", "--url", "ws://127.0.0.1:9/v1/stream"), 1, "connection_failed"),
        (("localize", "actor", "--seconds", "2", "--url", "http://127.0.0.1:9/"), 1, "connection_failed"),
        (("localize", "actor", "--seconds", "2", "--models", "/nonexistent"), 1, "unknown_model"),
        (("stream", "--chunk", "0", "actor"), 2, "--chunk"),
        (("dance",), 2, "dance"),
    ],
)
def test_mistakes_are_one_clear_line(args: tuple[str, ...], code: int, message: str) -> None:
    done = poseline(*args)
    assert done.returncode == code, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_files_own_options_hold_everywhere(server: ServerProcess, request_file: Path, models: Path) -> None:
    """Asked for one class and a high threshold, the server, this process and the stream all obey."""
    asked = json.loads(request_file.read_text())
    plain = told(poseline("localize", request_file, "--models", models, "--format", "json"))
    wanted = plain[0]["label"]
    asked["options"] |= {"classes": [wanted], "min_score": 0.5}
    path = request_file.with_name("asked.json")
    path.write_text(json.dumps(asked))
    here = told(poseline("localize", path, "--models", models, "--format", "json"))
    there = told(poseline("localize", path, "--url", server.url, "--format", "json"))
    assert {one["label"] for one in here} == {wanted}
    assert len(here) < len(plain)
    assert here == there
    key = lambda one: (one["start"], one["label"])  # noqa: E731
    assert sorted(streamed(server, path, "--chunk", "16"), key=key) == sorted(there, key=key)


def test_names_are_no_markup(server: ServerProcess, models: Path, tmp_path: Path) -> None:
    """A track may be called anything; brackets are Rich's markup only in what Poseline itself writes."""
    asked = json.loads(encode(request_of(11, 600)))
    asked["tracks"][0]["track_id"] = "[/red] p[bold]1\\"
    path = tmp_path / "named.json"
    path.write_text(json.dumps(asked))
    for command in (("stream", path, "--url", server.ws, "--speed", "max"), ("localize", path, "--models", models)):
        done = poseline(*command)
        assert done.returncode == 0, done.stderr
        assert "[/red] p[bold]1\\" in done.stdout


def test_the_actor_as_a_recording(server: ServerProcess, tmp_path: Path) -> None:
    path = tmp_path / "recording.json"
    path.write_text(poseline("actor", "--seed", "3", "--seconds", "5").stdout)
    done = poseline("localize", path, "--url", server.url, "--format", "json")
    assert done.returncode == 0, done.stderr
