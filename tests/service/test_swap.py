"""Another model without a restart: who is there hears what they would have heard, who comes meets the new one."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from cutting import Relay
from made_up import NATIVE, frames_of, request_of
from poseline.bundle import GOLDEN, file_digest
from poseline.client import RemoteError, StreamClient
from poseline.errors import InputError
from poseline.protocol import SegmentFinal
from poseline.remote import localize as ask
from poseline_service.cli import swap as command
from servers import ServerProcess
from tiny_bundle import write_bundle

KEY = "an-admin-key-of-36-letters-and-signs"
LENGTH = 600


@pytest.fixture(scope="module")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny`, which is the default; `late`, which answers otherwise; and two that must not: `false` says other scores than
    its golden samples, `torn` is not what its manifest says."""
    folder = tmp_path_factory.mktemp("two-models")
    write_bundle(folder, "late", look_ahead=9)
    write_bundle(folder, "tiny")
    for name in ("false", "torn"):
        shutil.copytree(folder / "late", folder / name)
    golden = dict(np.load(folder / "false" / GOLDEN))
    np.savez(folder / "false" / GOLDEN, **golden | {"scores": golden["scores"][..., ::-1]})
    manifest = json.loads((folder / "false" / "manifest.json").read_text())
    manifest["files"][GOLDEN] = file_digest(folder / "false" / GOLDEN)
    (folder / "false" / "manifest.json").write_text(json.dumps(manifest))
    (folder / "torn" / "slow.onnx").write_bytes(b"")
    return folder


def swap(server: ServerProcess, body: Any, method: str = "POST", key: str = KEY) -> httpx.Response:
    url, headers = f"http://127.0.0.1:{server.metrics_port}/admin/model", {"Authorization": f"Bearer {key}"}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.request(method, url, content=content, headers=headers, timeout=30)


async def whole(server: ServerProcess, seed: int) -> list[tuple[Any, ...]]:
    """What the model that answers now finds in a recording."""
    answer = await asyncio.to_thread(ask, server.url + "/v1/localize", request_of(seed, LENGTH))
    assert len(answer.segments) > 5
    return sorted((one.label, one.start, one.end, one.score) for one in answer.segments)


async def rest(client: StreamClient, seed: int, first: int = 0) -> list[tuple[Any, ...]]:
    """Send a recording from that frame on, and close: the finals."""
    frames = frames_of(seed, LENGTH)
    for i in range(first, LENGTH, 20):
        await client.send(frames[i : i + 20])
    await client.close()
    heard = [message async for message in client]
    return sorted((one.label, one.start, one.end, one.score) for one in heard if isinstance(one, SegmentFinal))


@pytest.mark.parametrize("workers", [0, 1])
async def test_streams_that_run_across_a_swap_hear_what_they_would_have_heard(
    workers: int, two_models: Path, serve: Callable[..., ServerProcess]
) -> None:
    server = serve(two_models, admin_key=KEY, workers=workers).ready()
    expected = await whole(server, 5)
    async with StreamClient(server.ws, coordinates=NATIVE) as old:
        await old.send(frames_of(5, LENGTH)[:60])
        swapped = await asyncio.to_thread(swap, server, {"model": "late"})
        assert (swapped.status_code, swapped.json()["name"]) == (200, "late")
        metrics = server.metrics()
        assert [name for name in metrics if name.startswith("poseline_model_info")] == [
            'poseline_model_info{layout="body16",model="late",model_version="1",provider="CPUExecutionProvider"}'
        ]
        assert metrics["poseline_models_loaded"] == 2
        async with StreamClient(server.ws, coordinates=NATIVE) as new:
            assert (old.started.model.name, new.started.model.name) == ("tiny", "late")
            heard = await asyncio.gather(rest(old, 5, 60), rest(new, 7))
    assert heard == [expected, await whole(server, 7)]
    # The former one's memory and threads go with the last who used it.
    await asyncio.to_thread(server.wait_for_metric, "poseline_models_loaded", 1)
    assert [model["name"] for model in httpx.get(server.url + "/v1/models").json()["models"]] == ["late"]
    assert "Traceback" not in await asyncio.to_thread(server.stop)


async def test_what_fails_its_golden_samples_changes_nothing(
    two_models: Path,
    serve: Callable[..., ServerProcess],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = serve(two_models, admin_key=KEY, model="torn")  # which cannot answer: a swap mends it
    await asyncio.to_thread(server.wait_for, "/livez")
    assert httpx.get(server.url + "/readyz").status_code == 503
    for wrong, status, code in (
        ({"model": "torn"}, 422, "bad_bundle"),
        ({"model": "nobody"}, 404, "unknown_model"),
    ):
        answer = await asyncio.to_thread(swap, server, wrong)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert (await asyncio.to_thread(swap, server, {"model": "default"})).json()["name"] == "tiny"
    async with Relay(server.port) as line, StreamClient(line.ws, coordinates=NATIVE) as client:
        await client.send(frames_of(5, LENGTH)[:64])
        for wrong, status, code in (
            ({"model": "false"}, 422, "bad_bundle"),
            ({"model": "../tiny"}, 404, "unknown_model"),
            ({"model": str(two_models / "late")}, 404, "unknown_model"),
            ({"model": ""}, 404, "unknown_model"),
            ({"model": 7}, 400, "invalid_json"),
            (b"\xff", 400, "invalid_json"),
            (b"x" * 5000, 413, "too_large"),
        ):
            answer = await asyncio.to_thread(swap, server, wrong)
            assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert (await asyncio.to_thread(swap, server, {"model": "late"}, key=KEY[:-1])).status_code == 401
        assert (await asyncio.to_thread(swap, server, {"model": "late"}, method="GET")).status_code == 405
        assert httpx.get(server.url + "/v1/models/default").json()["name"] == "tiny"
        assert server.metrics()["poseline_models_loaded"] == 1
        # A session of the former model goes on over its own line, and over no other.
        monkeypatch.setenv("POSELINE_ADMIN_KEY", KEY)
        monkeypatch.setenv("POSELINE_METRICS_PORT", str(server.metrics_port))
        with pytest.raises(InputError, match=r"bad_bundle: .*golden samples differ"):
            await asyncio.to_thread(command, "false")
        await asyncio.to_thread(command, "late")
        assert capsys.readouterr().out.startswith("late 1 sha256:")
        line.cut()
        with pytest.raises(RemoteError, match="another model") as changed:
            await rest(client, 5, 64)
        assert changed.value.code == "model_changed"
