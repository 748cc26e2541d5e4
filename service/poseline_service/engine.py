"""The network, run by ONNX Runtime: the only door to it in the server.

A checked bundle enters, a `StepScorer` leaves: one inference session per level graph, one thread each, on the CPU or on
one CUDA device. It is also the way to localize in one's own process, without a server:

    scorer = open_scorer(bundle, slots=1)
    with StreamLocalizer(bundle.manifest, scorer) as stream: ...

Inputs and outputs are bound once for each batch size, to buffers that stay: a call copies rows in and hands out views.
On CUDA the sizes are rounded up to buckets, so that each is captured once as a CUDA graph and replayed.

Not thread-safe, like the scorer's state pool: one owner at a time. `WholeGraph` binds nothing and may be shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import onnxruntime  # pyright: ignore[reportMissingTypeStubs]

from poseline.bundle import ModelBundle
from poseline.errors import BundleError, EngineFailure
from poseline.skeleton import Floats
from poseline.stepping import StepScorer

Device = Literal["cpu", "cuda"]

PROVIDER = "CPUExecutionProvider"
PROVIDERS: dict[Device, str] = {"cpu": PROVIDER, "cuda": "CUDAExecutionProvider"}
# TF32 would round every product to ten bits: scores would differ from the workshop's by more than golden samples may.
_OPTIONS: dict[Device, dict[str, str]] = {"cpu": {}, "cuda": {"enable_cuda_graph": "1", "use_tf32": "0"}}
_SMALLEST_BUCKET = 16
_ERRORS_ONLY = 3


class LevelGraphs:
    """A bundle's graphs, by level; a `GraphRunner`. Batches are padded to buckets if asked, and always on CUDA."""

    def __init__(self, bundle: ModelBundle, device: Device = "cpu", *, bucketed: bool = False) -> None:
        self._graphs = {
            level.name: _BoundGraph(
                _open(bundle.path / level.graph, device, _OPTIONS[device]), device, bucketed or device == "cuda"
            )
            for level in bundle.manifest.state.levels
        }

    def __call__(self, level: str, feeds: dict[str, Floats]) -> Sequence[Floats]:
        try:
            return self._graphs[level](feeds)
        except Exception as error:  # the runtime's exceptions share no base of their own
            raise EngineFailure(f"level {level} could not be run: {error}") from error


@dataclass(frozen=True, slots=True)
class _Binding:
    """One batch size: views of the host's buffers and, where the graph runs on another device, their twins there."""

    bound: Any
    options: Any
    inputs: dict[str, Floats]
    outputs: list[Floats]
    sent: list[tuple[Any, Floats]]
    fetched: list[Any]


class _BoundGraph:
    """One level's graph and its buffers, which all batch sizes share on the host: a smaller batch uses their beginning.

    A bucket's rows beyond the batch hold whatever was left there; nobody reads what comes of them.
    """

    def __init__(self, session: Any, device: Device, bucketed: bool) -> None:
        self._session = session
        self._device = device
        self._bucketed = bucketed
        self._inputs: list[str] = [one.name for one in session.get_inputs()]
        self._outputs: list[str] = [one.name for one in session.get_outputs()]
        every = [*session.get_inputs(), *session.get_outputs()]
        self._shapes: dict[str, list[int]] = {one.name: one.shape[1:] for one in every}
        self._capacity = 0
        self._buffers: dict[str, Floats] = {}
        self._bindings: dict[int, _Binding] = {}

    def __call__(self, feeds: dict[str, Floats]) -> list[Floats]:
        batch = len(feeds["rows"])
        size = _bucket(batch) if self._bucketed else batch
        binding = self._bindings.get(size) or self._bind(size)
        for name, value in feeds.items():
            binding.inputs[name][:batch] = value
        for twin, value in binding.sent:
            twin.update_inplace(value)
        self._session.run_with_iobinding(binding.bound, binding.options)
        outputs = [twin.numpy() for twin in binding.fetched] or binding.outputs
        return outputs if size == batch else [one[:batch] for one in outputs]

    def _bind(self, size: int) -> _Binding:
        if size > self._capacity:  # bindings to the old buffers keep them
            self._capacity = max(size, 2 * self._capacity)
            self._buffers = {name: np.zeros((self._capacity, *rest), np.float32) for name, rest in self._shapes.items()}
        host = {name: buffer[:size] for name, buffer in self._buffers.items()}
        # On the CPU such a value is the buffer itself, elsewhere a twin of it at an address that stays.
        values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(part, self._device, 0) for name, part in host.items()}
        bound = self._session.io_binding()
        for name in self._inputs:
            bound.bind_ortvalue_input(name, values[name])
        for name in self._outputs:
            bound.bind_ortvalue_output(name, values[name])
        elsewhere = self._device != "cpu"
        self._bindings[size] = _Binding(
            bound,
            _captured_as(size) if elsewhere else None,
            {name: host[name] for name in self._inputs},
            [host[name] for name in self._outputs],
            [(values[name], host[name]) for name in self._inputs if elsewhere],
            [values[name] for name in self._outputs if elsewhere],
        )
        return self._bindings[size]


def _captured_as(size: int) -> Any:
    """Run options under which a size has a captured CUDA graph of its own: the runtime does not check that an id keeps
    its shapes. Any run options at all cost 30 µs a call, so the CPU goes without."""
    options = cast(Any, onnxruntime.RunOptions())  # pyright: ignore[reportUnknownMemberType]
    options.add_run_config_entry("gpu_graph_id", str(size))
    return options


def _bucket(batch: int) -> int:
    """The next of 16, 64, 256, 1024, …"""
    size = _SMALLEST_BUCKET
    while size < batch:
        size *= 4
    return size


class WholeGraph:
    """The network that sees a recording as a whole; a `WholeScorer`. Any length, so nothing is bound or captured."""

    def __init__(self, path: Path, device: Device) -> None:
        options = {name: value for name, value in _OPTIONS[device].items() if name != "enable_cuda_graph"}
        self._session = _open(path, device, options)

    def __call__(self, poses: Floats) -> tuple[Floats, Floats]:
        try:
            scores, boundaries = self._session.run(["scores", "boundaries"], {"poses": poses[None]})
        except Exception as error:
            raise EngineFailure(f"the network that sees the whole could not be run: {error}") from error
        return scores[0], boundaries[0]


def _open(path: Path, device: Device, provider_options: dict[str, str]) -> Any:
    options = cast(Any, onnxruntime.SessionOptions())  # pyright: ignore[reportUnknownMemberType]
    # A step is too small to share: a second thread costs more in waking up than it saves, and spins besides.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    asked = PROVIDERS[device]
    try:
        session: Any = onnxruntime.InferenceSession(path, options, providers=[(asked, provider_options)])
    except Exception as error:
        raise BundleError(f"{path} cannot be opened: {error}") from error
    found = cast(list[str], session.get_providers())[0]
    if found != asked:  # asked for CUDA where there is none, the runtime takes the CPU and says nothing
        raise BundleError(f"{path} would run on {found}, expected {asked}")
    return session


def open_scorer(bundle: ModelBundle, slots: int, device: Device = "cpu") -> StepScorer:
    """The bundle's network on `device`, ready for up to `slots` tracks at once. Raises BundleError.

    "cuda" is one CUDA device; where it cannot be had, this raises and takes nothing else instead. It has not been run on
    a device yet: its padding and binding are tested on the CPU (ADR 0004).
    """
    return StepScorer(bundle.manifest.state, LevelGraphs(bundle, device), slots)


def open_whole(bundle: ModelBundle, device: Device = "cpu") -> WholeGraph | None:
    """The bundle's network for mode `offline`, or None where it has none. Raises BundleError."""
    whole = bundle.manifest.whole
    return WholeGraph(bundle.path / whole.graph, device) if whole else None
