"""What one core can do at best, and how much of that a network's step asks for.

The best is a product of matrices: the faster of numpy's at 2048³ and ONNX Runtime's at 512 x 384 x 128, which is the
shape of our own. The need is counted in the bundle's graphs: every product with weights, at its level's rate.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from poseline.bundle import ModelBundle
from poseline_bench.clock import Case, Timings

SIZE = 2048
_ROWS, _INPUTS, _OUTPUTS = 512, 384, 128


class Product(NamedTuple):
    """A product of matrices: one call, and its floating-point operations."""

    run: Case
    flop: int


def products() -> dict[str, Product]:
    """Those that the peak is the best of."""
    matrix = np.random.default_rng(0).random((SIZE, SIZE), dtype=np.float32)
    return {
        "numpy sgemm": Product(lambda: matrix @ matrix, 2 * SIZE**3),
        "ONNX Runtime Gemm": Product(_gemm(), 2 * _ROWS * _INPUTS * _OUTPUTS),
    }


def _gemm() -> Case:
    rng = np.random.default_rng(0)
    weight = numpy_helper.from_array(rng.random((_INPUTS, _OUTPUTS), dtype=np.float32), "weight")
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "weight"], ["y"])],
        "peak",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [_ROWS, _INPUTS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [_ROWS, _OUTPUTS])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {"x": rng.random((_ROWS, _INPUTS), dtype=np.float32)}
    return lambda: session.run(None, feeds)


def peak_gflops(timings: Timings, made: dict[str, Product]) -> float:
    """The best product's rate in these timings, GFLOP/s."""
    return max(product.flop / timings.seconds(name) for name, product in made.items()) / 1e9


def multiply_adds(bundle: ModelBundle) -> float:
    """Of one stream-frame, on average over the phases: every graph's products, each at its level's rate."""
    return sum(_multiply_adds(bundle.graph(level.name)) / level.every for level in bundle.manifest.state.levels)


def _multiply_adds(path: Path) -> int:
    """In one run for one stream: products with weights. A matrix that only picks and subtracts is no work of the net."""
    model = onnx.load(path)
    constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    size = _shapes_for_one(model) | {name: list(matrix.shape) for name, matrix in constants.items()}
    total = 0
    for node in model.graph.node:
        if node.op_type in ("MatMul", "Gemm"):
            weights = [constants[name] for name in node.input[:2] if name in constants]
            if weights and not np.isin(weights[0], (-1, 0, 1)).all():
                total += math.prod(size[node.output[0]]) * size[node.input[0]][-1]
    return total


def _shapes_for_one(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Shapes of everything in the graph when the batch is one stream."""
    one = onnx.ModelProto()
    one.CopyFrom(model)
    del one.graph.value_info[:]
    for given in one.graph.input:
        given.type.tensor_type.shape.dim[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(one, strict_mode=True, data_prop=True).graph
    known = [*graph.input, *graph.value_info, *graph.output]
    return {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in known}
