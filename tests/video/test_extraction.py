"""The extracting process, seen from its parent: what it finds, what it may not do, and every way in which it can end."""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from made_videos import write_video
from poseline.errors import (
    ExtractionCancelled,
    ExtractionFailed,
    ExtractionTimeout,
    InputError,
    MediaError,
    MediaTooLong,
    PoselineError,
    PoseModelError,
    UnsupportedMedia,
)
from poseline.pose import PoseConverter
from poseline_video.extraction import (
    COORDINATES,
    LAYOUT,
    Extraction,
    ExtractionLimits,
    extract_people,
    gather_people,
    open_extraction,
)
from poseline_video.wire import LONGEST, Frame, Opened, Request, Seen, encode, take

pytestmark = pytest.mark.usefixtures("_nothing_left")
LIMITS = ExtractionLimits()


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "shapes.mp4", 60, (160, 120))


@contextmanager
def listening() -> Iterator[tuple[socket.socket, int]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        yield server, server.getsockname()[1]


# --- what it finds -----------------------------------------------------------------------------------------------


def test_a_real_person(pose_model: Path, clip: Callable[[str], Path]) -> None:
    told: list[float] = []
    video = extract_people(clip("ntu_A001_drink_water.avi"), model=pose_model, on_progress=told.append)
    assert list(video.people) == ["p1"]
    poses = video.people["p1"]
    assert (video.width, video.height, video.frames, video.fps) == (720, 405, 103, 30.0)
    assert len(poses) >= 0.95 * video.frames
    assert video.duration == pytest.approx(103 / 30, abs=1e-5)
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1, abs=0.02)

    native = PoseConverter(LAYOUT, COORDINATES)(poses.joints, poses.confidence)
    at = {name: LAYOUT.joints.index(name) for name in ("nose", "left_hip", "right_hip", "left_ankle")}
    hips = (poses.joints[:, at["left_hip"]] + poses.joints[:, at["right_hip"]]) / 2
    assert np.abs(hips).max() < 0.02  # the origin, in metres
    assert (poses.joints[:, at["nose"], 1] < -0.3).all()  # y down
    assert (poses.joints[:, at["left_ankle"], 1] > 0.3).mean() > 0.95
    assert native[:, :, 1].max() > 0.3  # y up, once converted


def test_the_same_video_gives_the_same_numbers(pose_model: Path, clip: Callable[[str], Path]) -> None:
    first, again = (extract_people(clip("two_people_balance.mp4"), model=pose_model, people=2).people for _ in range(2))
    assert list(first) == list(again)
    assert len(first) >= 2
    for name, poses in first.items():
        assert np.array_equal(poses.joints, again[name].joints)
        assert np.array_equal(poses.timestamps, again[name].timestamps)


def test_nobody(pose_model: Path, shapes: Path) -> None:
    with open_extraction(shapes, model=pose_model) as extraction:
        frames = list(extraction)
    assert (extraction.width, extraction.height, extraction.frames) == (160, 120, 60)
    assert extraction.progress == 1.0
    assert [one.t for one in frames] == pytest.approx([i / 30 for i in range(60)], abs=1e-3)
    assert gather_people(frames) == {}
    video = extract_people(shapes, model=pose_model)
    assert (video.people, video.frames) == ({}, 60)
    assert video.duration == pytest.approx(2.0, abs=0.01)


def test_live_is_as_it_happens(pose_model: Path, shapes: Path) -> None:
    """Not measured: only that it ends, in order, and that nothing is told twice."""
    with open_extraction(shapes, model=pose_model, live=True) as extraction:
        times = [one.t for one in extraction]
    assert times
    assert times == sorted(set(times))


# --- what is refused ---------------------------------------------------------------------------------------------


def test_what_is_asked_must_make_sense(pose_model: Path, shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="people is 5"):
        open_extraction(shapes, model=pose_model, people=5)
    with pytest.raises(InputError, match="ask for egress"):
        open_extraction("rtsp://127.0.0.1/a", model=pose_model)
    with pytest.raises(InputError, match="egress is for URLs"):
        open_extraction(shapes, model=pose_model, egress=True)
    with pytest.raises(InputError, match="no camera"):
        open_extraction("webcam:front", model=pose_model)
    with pytest.raises(PoseModelError, match="pose-model build"):
        open_extraction(shapes, model=tmp_path / "none.task")


def test_errors_of_the_media_come_through(pose_model: Path, tmp_path: Path, shapes: Path) -> None:
    (tmp_path / "list.mp4").write_text("#EXTM3U\nfile:///etc/passwd\n")
    with pytest.raises(UnsupportedMedia):
        open_extraction(tmp_path / "list.mp4", model=pose_model)
    with pytest.raises(MediaTooLong):
        open_extraction(shapes, model=pose_model, limits=ExtractionLimits(seconds=1))
    for name in ("../../etc/passwd", "concat:a|b"):
        with pytest.raises(UnsupportedMedia):
            open_extraction(name, model=pose_model)
    with pytest.raises(UnsupportedMedia, match="/dev/video77"):
        open_extraction("webcam:77", model=pose_model)
    with pytest.raises(UnsupportedMedia, match="reached by"):
        open_extraction("file:///etc/passwd", model=pose_model, egress=True)


def test_a_model_that_is_none(tmp_path: Path, shapes: Path) -> None:
    (tmp_path / "a.task").write_bytes(b"no model")
    with pytest.raises(ExtractionFailed), open_extraction(shapes, model=tmp_path / "a.task") as extraction:
        list(extraction)


# --- what it may not do ------------------------------------------------------------------------------------------


def python(code: str, *args: object) -> str:
    roots = os.pathsep.join(path for path in sys.path if path)
    env = {"PYTHONPATH": roots, "OPENBLAS_NUM_THREADS": "1", "PATH": os.defpath}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], env=env, capture_output=True, text=True, timeout=60
    )
    return done.stdout.strip() or done.stderr.strip()


_CONNECT = """
import socket, sys
from poseline_video.isolation import cut_off
if sys.argv[2] == "cut": cut_off()
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5)
    print("connected")
except OSError as error:
    print(error)
"""


def test_the_network_is_gone() -> None:
    with listening() as (_, port):
        assert python(_CONNECT, port, "open") == "connected"
        assert "unreachable" in python(_CONNECT, port, "cut")


def test_the_process_reaches_a_camera_only_with_egress(pose_model: Path) -> None:
    """The very process that extracts, asked to open a URL: without egress nobody ever knocks."""
    with listening() as (server, port):
        request = Request(
            kind="url", source=f"http://127.0.0.1:{port}/", model=str(pose_model), people=1, limits=LIMITS
        )
        with pytest.raises(MediaError, match="cannot be opened"):
            Extraction(request)
        with pytest.raises(TimeoutError):
            server.accept()

        def answer() -> None:
            server.settimeout(30)
            server.accept()[0].close()

        knocking = threading.Thread(target=answer)
        knocking.start()
        with pytest.raises(MediaError, match="cannot be opened"):
            open_extraction(f"http://127.0.0.1:{port}/", model=pose_model, egress=True)
        knocking.join()


_GIVE_UP = """
import resource, sys
from poseline_video.isolation import give_up
from poseline_video.wire import ExtractionLimits
give_up(ExtractionLimits(memory_bytes=1 << 30, cpu_seconds=1))
for name, code in {
    "write": lambda: open(sys.argv[1], "wb", buffering=0).write(b"x" * 4096),
    "memory": lambda: bytearray(2 << 30),
    "raise": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)) if not sys.argv[2] else 1 / 0,
}.items():
    try: code(); print(name, "done", end=" ")
    except (OSError, MemoryError, ZeroDivisionError) as error: print(name, type(error).__name__, end=" ")
"""


def test_limits_stand(tmp_path: Path) -> None:
    assert python(_GIVE_UP, tmp_path / "a", "x") == "write OSError memory MemoryError raise ZeroDivisionError"


def test_the_environment_stays_at_home(pose_model: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSELINE_API_KEYS", "sesame")
    with open_extraction(shapes, model=pose_model) as extraction:
        [child] = _workers()
        environment = child.environ()
        assert "POSELINE_API_KEYS" not in environment
        assert set(environment) <= {"PATH", "LANG", "LC_CTYPE", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE"} | {
            "OPENBLAS_NUM_THREADS",
            "TMPDIR",
        }
        assert child.cwd() == "/"
        next(iter(extraction))


def test_nothing_is_left_behind(
    pose_model: Path, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # of one's own: others' tests run at the same time
    with open_extraction(shapes, model=pose_model) as extraction:
        next(iter(extraction))
        assert len(list(tmp_path.iterdir())) == 1
    assert not list(tmp_path.iterdir())


# --- how it can end ----------------------------------------------------------------------------------------------


def _workers() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if "poseline_video.worker" in one.cmdline()]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_crash_is_an_error(pose_model: Path, shapes: Path, number: signal.Signals) -> None:
    with open_extraction(shapes, model=pose_model, live=True) as extraction:
        [child] = _workers()
        child.send_signal(number)
        with pytest.raises(ExtractionFailed, match=number.name):
            list(extraction)


def test_cancelling_from_elsewhere(pose_model: Path, shapes: Path) -> None:
    with open_extraction(shapes, model=pose_model, live=True) as extraction:
        frames = iter(extraction)
        next(frames)
        thread = threading.Thread(target=extraction.cancel)
        thread.start()
        with pytest.raises(ExtractionCancelled):
            list(frames)
        thread.join()
        extraction.cancel()


def test_leaving_early_ends_the_process(pose_model: Path, shapes: Path) -> None:
    with open_extraction(shapes, model=pose_model, live=True) as extraction:
        next(iter(extraction))
        [child] = _workers()
    assert not child.is_running()


@pytest.mark.parametrize(
    ("limits", "error", "match"),
    [
        (ExtractionLimits(wall_seconds=1.5), ExtractionTimeout, "longer than 1.5 s"),
        (ExtractionLimits(silence_seconds=0.05), ExtractionTimeout, "nothing was heard"),
        (ExtractionLimits(cpu_seconds=1), ExtractionTimeout, "1 s of CPU"),
        (ExtractionLimits(memory_bytes=300 << 20), PoselineError, None),
    ],
)
def test_more_than_allowed(
    pose_model: Path, tmp_path: Path, limits: ExtractionLimits, error: type[Exception], match: str | None
) -> None:
    path = write_video(tmp_path / "long.mp4", 1800, (320, 240), options={"preset": "ultrafast"})
    with pytest.raises(error, match=match), open_extraction(path, model=pose_model, limits=limits) as extraction:
        list(extraction)


def babble(code: str, limits: ExtractionLimits = LIMITS) -> Extraction:
    request = Request(kind="file", source="/none", model="/none", people=1, limits=limits)
    return Extraction(request, ("-c", f"import sys, time; out = sys.stdout.buffer; {code}"))


_SAY = "from poseline_video.wire import *; out.write({}); out.flush()"
_OPEN = _SAY.format("encode(Opened(1, 1, None, None, None))")


@pytest.mark.parametrize(
    ("code", "error", "match"),
    [
        ("", ExtractionFailed, "status 0"),
        ("sys.exit(3)", ExtractionFailed, "status 3"),
        ("out.write(b'x' * 10**6)", ExtractionFailed, "does not keep to its words"),
        ("out.write((4).to_bytes(4, 'little') + b'abcd')", ExtractionFailed, "does not keep to its words"),
        (_SAY.format("encode(End())"), ExtractionFailed, "began with End"),
        ("out.write(b'ab'); out.flush(); time.sleep(60)", ExtractionTimeout, "nothing was heard"),
        ("time.sleep(60)", ExtractionTimeout, "nothing was heard"),
        ("import os; os.close(1); time.sleep(60)", ExtractionFailed, "did not end"),
        (_OPEN + "; " + _OPEN, ExtractionFailed, "said Opened"),
        (_OPEN + "; " + _SAY.format("encode(Frame(0.0, [Seen('p1', b'abc', b'')]))"), ExtractionFailed, "are none"),
        (_OPEN + "; " + _SAY.format("encode(Frame(float('nan'), []))"), ExtractionFailed, "nan"),
        (_OPEN + "; " + _SAY.format("encode(Failure('made_up', 'no'))"), ExtractionFailed, "no"),
    ],
)
def test_a_process_that_does_not_behave(code: str, error: type[Exception], match: str) -> None:
    limits = ExtractionLimits(silence_seconds=3) if error is ExtractionTimeout else LIMITS
    with pytest.raises(error, match=match), babble(code, limits) as extraction:
        list(extraction)


def test_landmarks_that_are_no_numbers() -> None:
    code = _OPEN + "; import numpy; bad = numpy.full((33, 4), numpy.inf, 'f4').tobytes(); "
    code += _SAY.format("encode(Frame(0.0, [Seen('p1', bad, bad)]))")
    with pytest.raises(ExtractionFailed, match="finite"), babble(code) as extraction:
        list(extraction)


def test_messages_in_pieces() -> None:
    data = encode(Opened(4, 3, None, 2.0, None)) + encode(Frame(math.pi, [Seen("p1", b"w", b"i")]))
    buffer, found = bytearray(), []
    for i in range(len(data)):
        buffer += data[i : i + 1]
        if (one := take(buffer)) is not None:
            found.append(one)
    assert found == [Opened(4, 3, None, 2.0, None), Frame(math.pi, [Seen("p1", b"w", b"i")])]
    with pytest.raises(ValueError, match="announced"):
        take(bytearray((LONGEST + 1).to_bytes(4, "little")))
