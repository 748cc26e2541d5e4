"""A bundle small enough to understand: the service's tests need a network, not a good one.

Two levels over rings of width 8. The first reads its own last two rows and the deeper level's newest one; its row is a
running mix of the pose's height profile, its scores a softmax over that row: so they depend on the joints, on what came
before, and on the state being the right stream's. `softness` makes the classes flip often enough for segments to occur
in a few seconds of made-up motion.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from poseline.bundle import GOLDEN, ModelBundle, file_digest
from poseline.decoding import DecodingOptions
from poseline.manifest import LevelSpec, ModelManifest, RingSpec, StateSpec, TapSpec
from poseline.stepping import StepScorer

CLASSES = ("background", "wave", "sit_down", "jump")
WIDTH, JOINTS = 8, 16


def write_bundle(folder: Path, name: str = "tiny", look_ahead: int = 0, unknown_below: float = 0.0) -> ModelBundle:
    """Make `<folder>/<name>` and name it in `<folder>/DEFAULT`."""
    path = folder / name
    path.mkdir(parents=True)
    rng = np.random.default_rng(7)
    _save(path / "fast.onnx", *_fast(rng))
    _save(path / "slow.onnx", *_slow(rng))
    state = StateSpec(
        width=WIDTH,
        rings=(RingSpec(name="fast", length=3), RingSpec(name="slow", length=2)),
        levels=(
            LevelSpec(
                name="fast",
                graph="fast.onnx",
                every=1,
                reads=(TapSpec(ring="fast", age=1), TapSpec(ring="fast", age=2), TapSpec(ring="slow", age=1)),
                writes=("fast",),
            ),
            LevelSpec(
                name="slow",
                graph="slow.onnx",
                every=4,
                reads=(TapSpec(ring="fast", age=1), TapSpec(ring="slow", age=1)),
                writes=("slow",),
            ),
        ),
    )
    manifest = ModelManifest(
        name=name,
        version="1",
        license="Apache-2.0",
        research_only=False,
        look_ahead=look_ahead,
        classes=CLASSES,
        state=state,
        decoding=DecodingOptions(min_duration=4 / 30),
        unknown_below=unknown_below,
    )
    _write_golden(path, manifest, rng)
    files = {one: file_digest(path / one) for one in ("fast.onnx", "slow.onnx", GOLDEN)}
    (path / "manifest.json").write_text(json.dumps(manifest.model_dump(mode="json") | {"files": files}))
    (folder / "DEFAULT").write_text(name)
    return ModelBundle.open(path)


def _write_golden(path: Path, manifest: ModelManifest, rng: np.random.Generator) -> None:
    from poseline_service.engine import LevelGraphs

    poses = np.concatenate([motion(rng, 40)[None] for _ in range(3)])
    draft = ModelBundle(path, manifest, "")
    answer = StepScorer(manifest.state, LevelGraphs(draft), 3).replay(poses)
    np.savez(path / GOLDEN, poses=poses, **answer._asdict())


def motion(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Native poses (T, 16, 4) that sway slowly enough for segments to last."""
    t = np.arange(frames)[:, None, None] / 30
    phase, rate = rng.uniform(0, 6, (1, JOINTS, 3)), rng.uniform(0.3, 1.2, (1, 1, 3))
    joints = np.sin(2 * np.pi * rate * t + phase)
    return np.concatenate([joints, np.ones((frames, JOINTS, 1))], axis=-1).astype(np.float32)


def _fast(rng: np.random.Generator) -> tuple[list, list, list, list]:
    """joints (B, 16, 4), rows (B, 24) → scores (B, 4), boundaries (B, 2), rows (B, 8)."""
    constants = {
        "w_joints": rng.normal(0, 0.6, (JOINTS * 4, WIDTH)),
        "w_rows": rng.normal(0, 0.3, (3 * WIDTH, WIDTH)),
        "w_scores": rng.normal(0, 4, (WIDTH, len(CLASSES))),
        "w_boundaries": rng.normal(0, 2, (WIDTH, 2)),
    }
    nodes = [
        helper.make_node("Flatten", ["joints"], ["flat_joints"], axis=1),
        helper.make_node("MatMul", ["flat_joints", "w_joints"], ["from_joints"]),
        helper.make_node("MatMul", ["rows", "w_rows"], ["from_rows"]),
        helper.make_node("Add", ["from_joints", "from_rows"], ["mixed"]),
        helper.make_node("Tanh", ["mixed"], ["new_rows"]),
        helper.make_node("Identity", ["new_rows"], ["vectors"]),
        helper.make_node("MatMul", ["new_rows", "w_scores"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
        helper.make_node("MatMul", ["new_rows", "w_boundaries"], ["boundary_logits"]),
        helper.make_node("Sigmoid", ["boundary_logits"], ["boundaries"]),
    ]
    inputs = [_tensor("joints", ["B", JOINTS, 4]), _tensor("rows", ["B", 3 * WIDTH])]
    outputs = [
        _tensor("scores", ["B", len(CLASSES)]),
        _tensor("boundaries", ["B", 2]),
        _tensor("vectors", ["B", WIDTH]),
        _tensor("new_rows", ["B", WIDTH]),
    ]
    return nodes, inputs, outputs, _constants(constants)


def _slow(rng: np.random.Generator) -> tuple[list, list, list, list]:
    """rows (B, 16) → rows (B, 8)."""
    nodes = [
        helper.make_node("MatMul", ["rows", "w_rows"], ["mixed"]),
        helper.make_node("Tanh", ["mixed"], ["new_rows"]),
    ]
    constants = _constants({"w_rows": rng.normal(0, 0.5, (2 * WIDTH, WIDTH))})
    return nodes, [_tensor("rows", ["B", 2 * WIDTH])], [_tensor("new_rows", ["B", WIDTH])], constants


def _tensor(name: str, shape: list) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _constants(values: dict[str, np.ndarray]) -> list[onnx.TensorProto]:
    return [numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()]


def _save(path: Path, nodes: list, inputs: list, outputs: list, constants: list) -> None:
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
