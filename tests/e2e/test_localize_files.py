"""`poseline localize FILE -o OUT`: recordings of other programs in, timelines in every format out, as users do it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from msgspec import to_builtins

from made_up import recording
from poseline.codec import encode
from poseline.formats.timelines import FORMATS
from poseline.pose import PoseSequence
from poseline.remote import describe, request_for, timeline
from poseline.timeline import Timeline
from servers import ServerProcess

FPS = 30.0


def poseline(*args: str | Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    roots = os.pathsep.join(path for path in sys.path if path)
    env = os.environ | {"PYTHONPATH": roots, "COLUMNS": "100", "NO_COLOR": "1"} | environment
    return subprocess.run(
        [sys.executable, "-m", "poseline_cli", *map(str, args)], env=env, capture_output=True, timeout=120
    )


def localized(path: Path, *args: str | Path, format: str = "json") -> Timeline:
    done = poseline("localize", path, *args, "--format", format)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""  # no progress where nobody watches
    return FORMATS[format].read(done.stdout)


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recordings") / "walk.json"
    path.write_bytes(encode(request_for({"p1": recording(11, 600)})))
    return path


@pytest.fixture(scope="module")
def whole(walk: Path, models: Path) -> Timeline:
    found = localized(walk, "--models", models)
    assert len(found.segments) > 10
    return found


def test_a_recorded_stream_lasts_as_long_as_its_frames(models: Path, tmp_path: Path) -> None:
    """Before somebody comes and after they left there are frames, too."""
    poses = recording(11, 90)
    frames = timeline({"p1": poses})
    empty = [{"t": round(t / FPS, 6), "people": []} for t in (-60, -30, 150)]
    head = {"layout": poses.layout.name, "coordinates": to_builtins(describe(poses.coordinates))}
    lines = [json.dumps(one) for one in (head, *empty[:2])] + [encode(frame).decode() for frame in frames]
    path = tmp_path / "s.ndjson"
    path.write_text("\n".join([*lines, json.dumps(empty[2])]))
    found = localized(path, "--models", models)
    assert found.duration == pytest.approx(7 + 7 / (len(frames) + 2), abs=1e-3)
    assert found.fps == pytest.approx(FPS, abs=1e-3)


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_by_its_name_and_to_a_file(
    walk: Path, models: Path, whole: Timeline, format: str, tmp_path: Path
) -> None:
    out = tmp_path / "timeline"
    done = poseline("localize", walk, "--models", models, "--format", format, "-o", out)
    assert (done.returncode, done.stdout) == (0, b""), done.stderr.decode()
    back = FORMATS[format].read(out.read_bytes())
    assert (back.source, back.duration, back.fps, back.layout) == ("walk.json", 20.0, FPS, "body16")
    assert (back.model, back.thresholds) == (whole.model, whole.thresholds)
    spans = sorted((one.label, one.start, one.end) for one in back.segments)
    for (label, start, end), one in zip(
        spans, sorted(whole.segments, key=lambda one: (one.label, one.start)), strict=True
    ):
        assert label == one.label
        assert start == pytest.approx(one.start, abs=0.5 / FPS)
        assert end == pytest.approx(one.end, abs=0.5 / FPS)


def test_the_suffix_names_the_format(walk: Path, models: Path, whole: Timeline, tmp_path: Path) -> None:
    for name in ("json", "csv", "parquet", "webvtt", "elan"):
        out = tmp_path / f"out{FORMATS[name].suffix}"
        assert poseline("localize", walk, "--models", models, "-o", out).returncode == 0
        assert len(FORMATS[name].read(out.read_bytes()).segments) == len(whole.segments)


def test_here_is_there(server: ServerProcess, walk: Path, whole: Timeline) -> None:
    assert localized(walk, "--url", server.url) == whole
    assert localized(walk, "--url", server.url + "/localize") == whole


def test_people_who_come_and_go_are_found_alike_here_and_there(
    server: ServerProcess, models: Path, tmp_path: Path
) -> None:
    """Each on their own clock, one with a gap: no single request could hold them."""
    first, second = recording(11, 600), recording(12, 400, start=4.0)
    kept = np.r_[0:150, 320:600]
    gap = PoseSequence(first.joints[kept], first.confidence[kept], first.timestamps[kept])
    lines = [b'{"layout": "body16", "coordinates": {"space": "world_m", "facing": "+z"}}']
    path = tmp_path / "two.ndjson"
    path.write_bytes(b"\n".join([*lines, *(encode(frame) for frame in timeline({"a": gap, "b": second}))]))
    here = localized(path, "--models", models)
    assert {one.track_id for one in here.segments} == {"a", "b"}
    assert here.duration == pytest.approx(20.0, abs=0.05)
    assert localized(path, "--url", server.url) == here
    done = poseline("stream", path, "--url", server.ws, "--speed", "max", "--format", "json")
    finals = [one for one in map(json.loads, done.stdout.splitlines()) if one["type"] == "segment.final"]
    assert sorted((one["track_id"], one["start"], one["end"], one["score"]) for one in finals) == sorted(
        (one.track_id, one.start, one.end, one.score) for one in here.segments
    )


def npz(folder: Path, poses: PoseSequence) -> tuple[Path, list[str]]:
    np.savez(folder / "a.npz", keypoints=poses.joints, confidence=poses.confidence, fps=FPS, layout="body16",
             space="world_m", facing="+z")  # fmt: skip
    return folder / "a.npz", []


def ndjson(folder: Path, poses: PoseSequence) -> tuple[Path, list[str]]:
    head = b'{"layout": "body16", "coordinates": {"space": "world_m", "facing": "+z"}}'
    path = folder / "a.ndjson"
    path.write_bytes(b"\n".join([head, *(encode(frame) for frame in timeline({"p1": poses}))]))
    return path, []


def trc(folder: Path, poses: PoseSequence) -> tuple[Path, list[str]]:
    markers = ["CShoulder" if name == "neck" else name for name in poses.layout.joints]
    head = [
        "PathFileType\t4\t(X/Y/Z)\ta.trc",
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits",
        f"30\t30\t{len(poses)}\t{len(markers)}\tm",
        "Frame#\tTime\t" + "\t\t\t".join(markers),
        "\t\tX1\tY1\tZ1",
    ]
    seen = np.where(poses.confidence[..., None] > 0, poses.joints, np.nan).reshape(len(poses), -1)
    cells = [["" if np.isnan(x) else repr(x) for x in row] for row in seen.tolist()]
    rows = [
        f"{n}\t{t!r}\t" + "\t".join(row)
        for n, (t, row) in enumerate(zip(poses.timestamps.tolist(), cells, strict=True))
    ]
    path = folder / "a.trc"
    path.write_text("\n".join([*head, *rows]))
    return path, []


@pytest.mark.parametrize("make", [npz, ndjson, trc])
def test_the_same_poses_in_other_files_are_the_same_actions(
    make: Callable[[Path, PoseSequence], tuple[Path, list[str]]], models: Path, tmp_path: Path
) -> None:
    poses = recording(11, 600)
    sure = PoseSequence(poses.joints, (poses.confidence > 0).astype(np.float32), poses.timestamps)  # .trc has no other
    request = tmp_path / "same.json"
    request.write_bytes(encode(request_for({"p1": sure})))
    wanted = localized(request, "--models", models)
    path, options = make(tmp_path, sure)
    found = localized(path, *options, "--models", models)
    assert len(found.segments) > 10
    assert [(one.label, one.start, one.end) for one in found.segments] == [
        (one.label, one.start, one.end) for one in wanted.segments
    ]


def test_mediapipe_into_the_table(models: Path, tmp_path: Path) -> None:
    pose = np.random.default_rng(0).uniform(-0.5, 0.5, (60, 33, 4)).round(3)
    pose[:, 23:25, :3] = 0
    (tmp_path / "dump.json").write_text(json.dumps(np.abs(pose).tolist()))
    done = poseline("localize", tmp_path / "dump.json", "--fps", "30", "--models", models)
    assert done.returncode == 0, done.stderr.decode()
    assert "track" in done.stdout.decode()


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_picture(models: Path, walk: Path, suffix: str, tmp_path: Path) -> None:
    picture, out = tmp_path / f"timeline.{suffix}", tmp_path / "out.csv"
    done = poseline("localize", walk, "--models", models, "--plot", picture, "-o", out)
    assert done.returncode == 0, done.stderr.decode()
    data = picture.read_bytes()
    if suffix == "png":
        assert data.startswith(b"\x89PNG")
    else:
        for label in {one.label for one in FORMATS["csv"].read(out.read_bytes()).segments}:
            assert f">{label.replace('_', ' ')}<" in data.decode()


def test_a_picture_of_nothing_and_of_odd_names(tmp_path: Path) -> None:
    from poseline.timeline import TimelineSegment
    from poseline_cli.drawing import draw

    draw(Timeline(source="$x_", segments=(), duration=3.0), tmp_path / "none.svg")
    assert "no action was found" in (tmp_path / "none.svg").read_text()
    odd = [TimelineSegment("", track, "$\\frac$", 1.0, 1.0, 1.0) for track in ("$a", "b_{")]
    draw(Timeline(source="<&>", segments=tuple(odd)), tmp_path / "odd.svg")
    assert "$\\frac$" in (tmp_path / "odd.svg").read_text()


@pytest.mark.parametrize(
    ("library", "args", "message"),
    [
        ("pyarrow", ("--format", "parquet"), "missing_extra: Parquet needs pyarrow: pip install 'poseline[bulk]'"),
        ("matplotlib", ("--plot", "x.png"), "Drawing a timeline needs matplotlib: pip install 'poseline[bulk]'"),
        ("onnxruntime", (), "Localizing without a server (--url) needs onnxruntime: pip install 'poseline[service]'"),
        ("av", ("--input-format", "video"), "Video needs av: pip install 'poseline[video]'"),
    ],
)
def test_a_missing_extra_is_one_line(
    library: str, args: tuple[str, ...], message: str, walk: Path, models: Path
) -> None:
    hide = f"import sys; sys.modules[{library!r}] = None\nfrom poseline_cli import main\nsys.argv[1:] = {{}}\nmain()"
    told = ["localize", str(walk), "--models", str(models), *args]
    roots = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", hide.format(told)],
        env=os.environ | {"PYTHONPATH": roots},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("walk.json", "--format", "srt"), "unknown format 'srt'; known: json, csv"),
        (("walk.json", "-o", "out.srt"), "no format has the suffix '.srt'"),
        (("walk.json", "--input-format", "bvh"), "unknown input format 'bvh'"),
        (("walk.json", "--image-size", "640"), "--image-size is '640', expected WIDTHxHEIGHT"),
        (("walk.json", "-o", "walk.json/out.csv"), "out.csv cannot be written"),
        (("walk.json", "--plot", "out.csv"), "out.csv cannot be drawn"),
        (("nowhere.mp4",), "nowhere.mp4"),
    ],
)
def test_mistakes_are_one_line(args: tuple[str, ...], message: str, walk: Path, models: Path) -> None:
    told = [one.replace("walk.json", str(walk)) for one in args]
    done = poseline("localize", *told, "--models", models)
    assert done.returncode == 1, done.stdout
    assert message in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
