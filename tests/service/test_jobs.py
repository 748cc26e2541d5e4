"""`/v1/jobs`: recordings that nobody waits for, uploads, the queue, and what is left behind: nothing."""

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from job_calls import JSON, accepted, emptied, files_in, found, long_recording, over, reach, submit
from made_up import request_of
from poseline.codec import decode_response, encode
from poseline.formats.timelines import FORMATS
from poseline_service.uploads import safe_name
from servers import PATIENCE, ServerProcess

BODY = encode(request_of(3, 240))
LONG = long_recording()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server keeps its jobs' files."""
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="module")
def server(models: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Takes videos, as far as it knows: its pose model is a file that no test here gets to."""
    pose = tmp_path_factory.mktemp("pose")
    (pose / "pose_landmarker_full.task").write_bytes(b"no model")
    limits = {"video_bytes": 3_000_000, "job_bytes": 2_000_000, "job_decompressed_bytes": 2_000_000}
    process = ServerProcess(models, pose=pose, job_folder=folder, idle_seconds=1, **limits)
    try:
        yield process.ready()
    finally:
        process.stop()
    assert files_in(folder) == []


def test_a_job_says_what_the_request_says(server: ServerProcess) -> None:
    path = accepted(submit(server, encode(request_of(3, 240))))
    status = over(server, path)
    assert (status["kind"], status["state"], status["progress"], status["error"]) == ("recording", "succeeded", 1, None)
    assert status["created"] <= status["started"] <= status["finished"] < status["expires"]
    at_once = decode_response(httpx.post(f"{server.url}/v1/localize", content=BODY, headers=JSON).content)
    later = decode_response(httpx.get(f"{server.url}{path}/result").content)
    part = httpx.get(f"{server.url}{path}/result", headers={"Range": "bytes=0-7"})  # read from its file, never whole
    assert (part.status_code, len(part.content)) == (206, 8)
    assert at_once.segments
    assert (later.segments, later.duration, later.model) == (at_once.segments, at_once.duration, at_once.model)
    packed = accepted(submit(server, gzip.compress(BODY), Content_Encoding="gzip"))
    over(server, packed)
    assert found(server, packed) == at_once.segments
    listed = [one["id"] for one in httpx.get(f"{server.url}/v1/jobs").json()["jobs"]]
    assert listed[:2] == [packed.rpartition("/")[2], path.rpartition("/")[2]]


@pytest.mark.parametrize("format", FORMATS)
def test_every_format(server: ServerProcess, format: str) -> None:
    path = accepted(submit(server, encode(request_of(3, 240)), Idempotency_Key="formats"))
    over(server, path)
    answer = httpx.get(f"{server.url}{path}/result", params={"format": format})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == FORMATS[format].media_type
    name = path.rpartition("/")[2] + FORMATS[format].suffix
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
    expected = found(server, path)
    if format == "json":
        assert decode_response(answer.content).segments == expected
    else:
        written = FORMATS[format].read(answer.content).segments
        assert [one.label for one in written] == [one.label for one in expected]
        for one, other in zip(written, expected, strict=True):
            assert (one.start, one.end) == pytest.approx((other.start, other.end), abs=1 / 60)


def test_an_unknown_format_is_told_the_known_ones(server: ServerProcess) -> None:
    path = accepted(submit(server, encode(request_of(3, 240)), Idempotency_Key="formats"))
    over(server, path)
    answer = httpx.get(f"{server.url}{path}/result?format=srt")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert all(name in answer.json()["detail"] for name in FORMATS)


def test_what_is_wrong_with_a_recording_is_told_by_its_job(server: ServerProcess) -> None:
    path = accepted(submit(server, b'{"tracks": NaN}'))
    status = over(server, path)
    assert (status["state"], status["error"]["code"]) == ("failed", "invalid_number")
    answer = httpx.get(f"{server.url}{path}/result")
    assert (answer.status_code, answer.json()["code"]) == (409, "no_result")
    assert httpx.delete(server.url + path).status_code == 204
    for call in (httpx.get, httpx.delete):
        assert call(server.url + path).json()["code"] == "unknown_job"
    for below in ("/result", "/poses"):
        assert httpx.get(server.url + path + below).status_code == 404


def test_the_same_key_is_the_same_job(server: ServerProcess) -> None:
    first = accepted(submit(server, BODY, Idempotency_Key="one"))
    assert accepted(submit(server, BODY, Idempotency_Key="one")) == first
    assert accepted(submit(server, BODY, Idempotency_Key="two")) != first
    assert accepted(submit(server, BODY)) != first
    other = submit(server, encode(request_of(4, 240)), Idempotency_Key="one")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    over(server, first)
    httpx.delete(server.url + first)
    assert accepted(submit(server, BODY, Idempotency_Key="one")) != first
    assert submit(server, BODY, Idempotency_Key="x" * 256).status_code == 422


def form(*parts: tuple[str, str, bytes], end: bytes = b"--x--\r\n") -> bytes:
    """name, file name (may be empty), content."""
    return (
        b"".join(
            b"--x\r\nContent-Disposition: form-data; "
            + f'name="{name}"'.encode()
            + (f'; filename="{file}"'.encode() if file else b"")
            + b"\r\n\r\n"
            + content
            + b"\r\n"
            for name, file, content in parts
        )
        + end
    )


FILE = ("file", "a.mp4", b"no video at all")
WRONG: dict[str, tuple[bytes, dict[str, str], int, str]] = {
    "no file": (form(("request", "", b"{}")), {}, 400, "invalid_form"),
    "two files": (form(FILE, FILE), {}, 400, "invalid_form"),
    "two requests": (form(("request", "", b"{}"), ("request", "", b"{}"), FILE), {}, 400, "invalid_form"),
    "cut off": (form(FILE, end=b""), {}, 400, "invalid_form"),
    "no form": (b"hello", {}, 400, "invalid_form"),
    "no boundary": (form(FILE), {"Content-Type": "multipart/form-data"}, 400, "invalid_form"),
    "unknown part": (form(FILE, ("fps", "", b"3")), {}, 422, "invalid_input"),
    "nobody": (form(FILE, ("people", "", b"0")), {}, 422, "invalid_input"),
    "a crowd": (form(FILE, ("request", "", b'{"people": 5}')), {}, 422, "invalid_input"),
    "no number": (form(FILE, ("people", "", "²".encode())), {}, 422, "invalid_input"),
    "bad request": (form(FILE, ("request", "", b"{")), {}, 400, "invalid_json"),
    "a class": (form(FILE, ("request", "", b'{"options": {"classes": ["fly"]}}')), {}, 422, "invalid_input"),
    "a model": (form(FILE, ("request", "", b'{"model": "gpt"}')), {}, 404, "unknown_model"),
    "a long request": (form(FILE, ("request", "", b" " * 65_537)), {}, 413, "too_large"),
    "many parts": (form(*((f"{n:01000}", "", b"") for n in range(100)), FILE), {}, 413, "too_large"),
    "long headers": (
        form(*((f"{n}", "", b"") for n in range(5))).replace(
            b"\r\n\r\n", b"\r\n" + b"X: %04000d\r\n" % 0 * 5 + b"\r\n"
        ),
        {},
        413,
        "too_large",
    ),
    "text": (b"hello", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
    "packed video": (b"hello", {"Content-Type": "video/mp4", "Content-Encoding": "gzip"}, 415, "unsupported_encoding"),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_uploads_are_problems_and_leave_nothing(server: ServerProcess, folder: Path, name: str) -> None:
    content, headers, status, code = WRONG[name]
    before = len(httpx.get(f"{server.url}/v1/jobs").json()["jobs"])
    given = FORM | headers
    answer = httpx.post(f"{server.url}/v1/jobs", content=content, headers=given)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(httpx.get(f"{server.url}/v1/jobs").json()["jobs"]) == before
    assert not [path for path in files_in(folder) if path.name == "upload"]


VIDEO, FORM = {"Content-Type": "video/mp4"}, {"Content-Type": "multipart/form-data; boundary=x"}
TOO_LARGE = {
    "declared": (b" " * 3_000_001, VIDEO | {"Content-Length": "9000000"}),
    "raw": (iter([b" " * 100_000] * 31), VIDEO),
    "form": (
        iter([form(("file", "a.mp4", b""), end=b"")[:-2], *[b" " * 100_000] * 31]),
        FORM,
    ),
    "json": (iter([b" " * 100_000] * 21), JSON),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_a_file_over_the_limit_is_refused_while_it_comes(server: ServerProcess, folder: Path, name: str) -> None:
    content, headers = TOO_LARGE[name]
    if name == "declared":
        with socket.create_connection(("127.0.0.1", server.port)) as caller:  # the body never comes
            head = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
            caller.sendall(f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n{head}\r\n".encode())
            assert caller.recv(65_536).startswith(b"HTTP/1.1 413")
    else:
        answer = httpx.post(f"{server.url}/v1/jobs", content=content, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert not [path for path in files_in(folder) if path.name == "upload"]


@pytest.mark.parametrize("how", ["gone", "silent"])
def test_an_upload_that_breaks_off_leaves_nothing(
    serve: Callable[..., ServerProcess], tmp_path: Path, how: str
) -> None:
    server = serve(job_folder=tmp_path, idle_seconds=1).ready()
    with socket.create_connection(("127.0.0.1", server.port)) as caller:
        head = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += b"Content-Length: 4000000\r\n\r\n"
        caller.sendall(head + b" " * 2_000_000)
        if how == "silent":
            assert caller.recv(65_536).startswith(b"HTTP/1.1 408")
    server.wait_for_metric(
        f'poseline_http_requests_total{{method="POST",route="/v1/jobs",status="{400 if how == "gone" else 408}"}}', 1
    )
    assert files_in(tmp_path) == []
    assert "Traceback" not in server.stop()


def test_an_upload_that_drips_loses_its_place(serve: Callable[..., ServerProcess], tmp_path: Path) -> None:
    server = serve(job_folder=tmp_path, idle_seconds=1, upload_rate=1000, queued_jobs=1).ready()
    with socket.create_connection(("127.0.0.1", server.port)) as caller:
        head = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += b"Content-Length: 4000000\r\n\r\n"
        caller.sendall(head)
        caller.settimeout(0.1)
        answer, deadline = b"", time.monotonic() + PATIENCE
        while not answer.endswith(b"}") and time.monotonic() < deadline:
            with suppress(TimeoutError, BrokenPipeError, ConnectionResetError):
                if not answer:
                    caller.sendall(b" ")
                answer += caller.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b'"too_slow"' in answer
    assert over(server, accepted(submit(server, BODY)))["state"] == "succeeded"


def test_jobs_wait_for_their_turn_and_can_be_cancelled(serve: Callable[..., ServerProcess], tmp_path: Path) -> None:
    server = serve(job_folder=tmp_path, queued_jobs=2).ready()
    running = accepted(submit(server, LONG))
    reach(server, running, "running")
    first, second = accepted(submit(server, BODY)), accepted(submit(server, BODY, Idempotency_Key="second"))
    assert server.metrics()["poseline_job_queue_depth"] == 2
    full = submit(server, BODY)
    assert (full.status_code, full.json()["code"]) == (503, "overloaded")
    pending = httpx.get(f"{server.url}{first}/result")
    assert (pending.status_code, pending.json()["code"]) == (409, "result_pending")
    assert int(pending.headers["retry-after"]) >= 1
    assert httpx.delete(server.url + first).json()["state"] == "cancelled"
    status = httpx.delete(server.url + running).json()
    assert (status["state"], status["error"]) == ("cancelled", None)
    assert status["progress"] < 1
    assert over(server, second)["state"] == "succeeded"
    assert found(server, second)
    assert {path.name for path in files_in(tmp_path)} == {"result.json"}
    assert httpx.delete(server.url + second).status_code == 204
    assert files_in(tmp_path) == []
    metrics = server.metrics()
    assert metrics['poseline_jobs_total{kind="recording",outcome="cancelled"}'] == 2
    assert metrics['poseline_jobs_total{kind="recording",outcome="succeeded"}'] == 1
    assert metrics['poseline_job_duration_seconds_count{kind="recording",outcome="cancelled"}'] == 1
    assert (metrics["poseline_state_bytes"], metrics["poseline_job_queue_depth"]) == (0, 0)


def test_a_request_does_not_wait_behind_a_job(serve: Callable[..., ServerProcess]) -> None:
    server = serve(drain_seconds=1).ready()
    path = accepted(submit(server, LONG))
    reach(server, path, "running")
    assert httpx.post(f"{server.url}/v1/localize", content=BODY, headers=JSON, timeout=60).status_code == 200
    assert httpx.get(server.url + path).json()["state"] == "running"


def test_files_of_all_jobs_have_a_bound(serve: Callable[..., ServerProcess], tmp_path: Path) -> None:
    server = serve(job_folder=tmp_path, job_disk_bytes=len(LONG) - 1).ready()
    refused = submit(server, LONG)
    assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
    assert int(refused.headers["retry-after"]) >= 1
    assert files_in(tmp_path) == []
    for _ in range(3):  # what was refused is not counted
        assert over(server, accepted(submit(server, BODY)))["state"] == "succeeded"


def test_old_jobs_are_forgotten(serve: Callable[..., ServerProcess], tmp_path: Path) -> None:
    server = serve(job_folder=tmp_path, max_jobs=1).ready()
    old = accepted(submit(server, BODY))
    over(server, old)
    new = accepted(submit(server, BODY))
    assert httpx.get(server.url + old).json()["code"] == "unknown_job"
    assert over(server, new)["state"] == "succeeded"
    server.stop()
    server = serve(job_folder=tmp_path, job_ttl=0.3, drain_seconds=1).ready()
    path = accepted(submit(server, BODY, Idempotency_Key="k"))
    server.wait_for(path, 404)
    assert files_in(tmp_path) == []
    assert accepted(submit(server, BODY, Idempotency_Key="k")) != path


def test_a_stopping_server_lets_a_job_finish_and_be_fetched(serve: Callable[..., ServerProcess]) -> None:
    server = serve().ready()
    path = accepted(submit(server, long_recording(150)))
    reach(server, path, "running")
    waiting = accepted(submit(server, BODY))
    server.signal()
    status = over(server, waiting)
    assert (status["state"], status["error"]["code"]) == ("cancelled", "draining")
    refused = submit(server, BODY)
    assert (refused.status_code, refused.json()["code"]) == (503, "draining")
    assert over(server, path)["state"] == "succeeded"
    assert found(server, path)
    assert server.process.wait(PATIENCE) is not None
    assert "drain_incomplete" not in server.stop()


def test_a_stopping_server_does_not_wait_for_ever(serve: Callable[..., ServerProcess], tmp_path: Path) -> None:
    server = serve(job_folder=tmp_path, drain_seconds=1).ready()
    path = accepted(submit(server, LONG))
    reach(server, path, "running")
    server.signal()
    server.process.wait(PATIENCE)
    ended = [json.loads(line) for line in server.stop().splitlines() if '"job_ended"' in line]
    assert [(one["state"], one["code"]) for one in ended] == [("cancelled", "draining")]
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_server_left_is_removed_and_nothing_else(
    serve: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    killed, alive = serve(job_folder=tmp_path).ready(), serve(job_folder=tmp_path).ready()
    over(killed, accepted(submit(killed, BODY)))
    [left] = tmp_path.iterdir()
    kept = accepted(submit(alive, BODY))
    over(alive, kept)
    killed.process.kill()
    killed.process.wait()
    mine = tmp_path / "poseline-notes"
    mine.mkdir()
    linked = tmp_path / "poseline-jobs-link"
    linked.symlink_to(mine)
    third = serve(job_folder=tmp_path).ready()
    assert not left.exists()
    assert linked.is_symlink()
    assert mine.is_dir()
    assert found(alive, kept)
    assert over(third, accepted(submit(third, BODY)))["state"] == "succeeded"


def test_without_eyes_only_videos_are_refused(serve: Callable[..., ServerProcess], tmp_path: Path) -> None:
    server = serve(pose=tmp_path).ready()
    answer = httpx.post(f"{server.url}/v1/jobs", content=b"whatever", headers=VIDEO)
    assert (answer.status_code, answer.json()["code"]) == (501, "video_unavailable")
    assert "poseline pose-model build" in answer.json()["detail"]
    assert over(server, accepted(submit(server, BODY)))["state"] == "succeeded"


@pytest.mark.parametrize("name", ["../../etc/cron.d/x.mp4", 'a"b\\..\\c.mp4', "ü" * 500 + ".mp4"])
def test_a_video_that_is_none_fails_and_its_name_is_a_label(server: ServerProcess, folder: Path, name: str) -> None:
    answer = httpx.post(f"{server.url}/v1/jobs", files={"file": (name, b"\0" * 5000, "video/mp4")})
    status = over(server, accepted(answer))
    assert (status["kind"], status["state"], status["error"]["code"]) == ("video", "failed", "unsupported_media")
    assert "/" not in status["source"]
    assert len(status["source"]) <= 128
    assert not [path for path in files_in(folder) if path.name == "upload"]


@pytest.mark.parametrize(
    ("name", "source", "saved"),
    [
        ("日本 \u2013 1.mp4".encode(), "日本 \u2013 1.mp4", "1"),
        ("Übung.mp4".encode(), "Übung.mp4", "bung"),
        (b"a\xff\xe6\x97b.mp4", "a\ufffd\ufffdb.mp4", "a__b"),
    ],
)
def test_a_name_in_any_writing(server: ServerProcess, name: bytes, source: str, saved: str) -> None:
    body = form(("file", "NAME", b"no video at all")).replace(b"NAME", name)
    path = accepted(httpx.post(f"{server.url}/v1/jobs", content=body, headers=FORM))
    assert over(server, path)["source"] == source
    assert safe_name(source, "job") == saved


def test_forgetting_every_job_leaves_nothing(server: ServerProcess, folder: Path) -> None:
    for one in httpx.get(f"{server.url}/v1/jobs").json()["jobs"]:
        over(server, f"/v1/jobs/{one['id']}")
        httpx.delete(f"{server.url}/v1/jobs/{one['id']}")
    emptied(folder)
