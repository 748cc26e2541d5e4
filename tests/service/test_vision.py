"""The pose extractor's files: served from a folder of their own, which may be absent, and may come later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx

from poseline.skeleton import BODY16, conversion, layout
from servers import ServerProcess


def test_the_extractors_files_are_served_as_they_come(serve: Callable[..., ServerProcess], tmp_path: Path) -> None:
    folder = tmp_path / "pose"
    url = serve(pose=folder).ready().url
    lacking = httpx.get(url + "/vision").json()["missing"]
    assert lacking == ["pose_landmarker_full.task", "tasks-vision/vision_bundle.mjs", "tasks-vision/wasm"]
    answer = httpx.get(url + "/vision/tasks-vision/vision_bundle.mjs")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")

    (folder / "tasks-vision" / "wasm").mkdir(parents=True)
    (folder / "pose_landmarker_full.task").write_bytes(b"model")
    (folder / "tasks-vision" / "vision_bundle.mjs").write_text("export {}")
    (folder / "tasks-vision" / "wasm" / "a.wasm").write_bytes(b"\0asm")
    assert httpx.get(url + "/vision").json() == {"missing": []}
    script = httpx.get(url + "/vision/tasks-vision/vision_bundle.mjs")
    assert script.text == "export {}"
    assert script.headers["content-type"].startswith("text/javascript")
    assert httpx.get(url + "/vision/tasks-vision/wasm/a.wasm").headers["content-type"] == "application/wasm"
    known = {"If-None-Match": script.headers["etag"]}
    assert httpx.get(url + "/vision/tasks-vision/vision_bundle.mjs", headers=known).status_code == 304


def test_nothing_beside_that_folder_is_served(serve: Callable[..., ServerProcess], tmp_path: Path) -> None:
    (tmp_path / "pose").mkdir()
    (tmp_path / "secret").write_text("of mine")
    url = serve(pose=tmp_path / "pose").ready().url
    for path in (
        "/vision/../secret",
        "/vision/%2e%2e/secret",
        "/vision/..%2fsecret",
        "/vision//" + str(tmp_path / "secret"),
    ):
        assert httpx.get(url + path).status_code == 404


def test_a_layout_tells_its_way_to_body16(server: ServerProcess) -> None:
    shape = httpx.get(server.url + "/v1/layouts/blazepose33").json()
    weights = conversion(layout("blazepose33"), BODY16).weights
    told = [{int(j): weight for j, weight in row} for row in shape["to_body16"]]
    assert told == [{int(j): round(float(row[j]), 6) for j in row.nonzero()[0]} for row in weights]
    assert told[0] == {23: 0.5, 24: 0.5}
