"""`poseline pose-model build` from files; `make pose` is the test of what is fetched."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from poseline.errors import InputError, PoseModelError
from poseline_video import MODEL
from poseline_video.cli import manage_pose_model
from poseline_video.pose_model import KNOWN, make_model, take_browser


def build(*args: object) -> Result:
    import typer

    app = typer.Typer()
    app.command()(manage_pose_model)
    return CliRunner().invoke(app, ["build", *map(str, args)])


def test_the_model_is_the_known_one(pose_model: Path) -> None:
    assert hashlib.sha256(pose_model.read_bytes()).hexdigest() == KNOWN


def test_a_ready_model_is_taken(pose_model: Path, tmp_path: Path) -> None:
    done = build("--file", pose_model, "--output", tmp_path / "pose", "--without-browser")
    assert done.exit_code == 0
    assert KNOWN in done.stdout
    assert "warning" not in done.output
    assert (tmp_path / "pose" / MODEL).read_bytes() == pose_model.read_bytes()
    assert [one.name for one in (tmp_path / "pose").iterdir()] == [MODEL]


def test_another_model_is_taken_with_a_warning(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.task", "w") as out:
        out.writestr("pose_detector.tflite", b"TFL3")
    done = build("--file", tmp_path / "other.task", "--output", tmp_path / "pose", "--without-browser")
    assert done.exit_code == 0
    assert "not the model that Poseline knows" in done.output


def test_what_is_no_model_replaces_nothing(pose_model: Path, tmp_path: Path) -> None:
    build("--file", pose_model, "--output", tmp_path, "--without-browser")
    (tmp_path / "no.task").write_bytes(b"no")
    assert isinstance(build("--file", tmp_path / "no.task", "--output", tmp_path).exception, PoseModelError)
    assert isinstance(build("--file", "a", "--wheel", "b").exception, InputError)
    assert (tmp_path / MODEL).read_bytes() == pose_model.read_bytes()


def test_a_wheel_that_is_not_the_one(tmp_path: Path) -> None:
    wheel = tmp_path / "mediapipe.whl"
    wheel.write_bytes(b"no zip")
    with pytest.raises(PoseModelError, match="no wheel"):
        make_model(wheel, tmp_path / "pose")
    with zipfile.ZipFile(wheel, "w") as out:
        out.writestr("mediapipe/modules/pose_detection/pose_detection.tflite", b"tampered")
    with pytest.raises(PoseModelError, match="SHA-256"):
        make_model(wheel, tmp_path / "pose")
    assert not list((tmp_path / "pose").iterdir())


def test_a_package_that_is_not_the_one(tmp_path: Path) -> None:
    (tmp_path / "vision.tgz").write_bytes(b"tampered")
    with pytest.raises(PoseModelError, match="SHA-256"):
        take_browser(tmp_path / "vision.tgz", tmp_path)
