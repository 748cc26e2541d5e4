"""The network, run by ONNX Runtime: the only door to it in the server.

A checked bundle enters, a `StepScorer` leaves: one inference session per level graph, one thread each, on the CPU. It
is also the way to localize in one's own process, without a server:

    scorer = open_scorer(bundle, slots=1)
    with StreamLocalizer(bundle.manifest, scorer) as stream: ...

Not thread-safe, like the scorer's state pool: one owner at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import onnxruntime  # pyright: ignore[reportMissingTypeStubs]

from poseline.bundle import ModelBundle
from poseline.errors import BundleError, EngineFailure
from poseline.skeleton import Floats
from poseline.stepping import StepScorer

PROVIDER = "CPUExecutionProvider"
_ERRORS_ONLY = 3


class LevelGraphs:
    """A bundle's graphs, by level; a `GraphRunner`."""

    def __init__(self, bundle: ModelBundle) -> None:
        self._sessions = {level.name: _open(bundle.path / level.graph) for level in bundle.manifest.state.levels}

    def __call__(self, level: str, feeds: dict[str, Floats]) -> Sequence[Floats]:
        try:
            return self._sessions[level].run(None, feeds)
        except Exception as error:  # the runtime's exceptions share no base of their own
            raise EngineFailure(f"level {level} could not be run: {error}") from error


def _open(path: Path) -> Any:
    options = cast(Any, onnxruntime.SessionOptions())  # pyright: ignore[reportUnknownMemberType]
    # A step is too small to share: a second thread costs more in waking up than it saves, and spins besides.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    try:
        session: Any = onnxruntime.InferenceSession(path, options, providers=[PROVIDER])
    except Exception as error:
        raise BundleError(f"{path} cannot be opened: {error}") from error
    found = cast(list[str], session.get_providers())[0]
    if found != PROVIDER:
        raise BundleError(f"{path} would run on {found}, expected {PROVIDER}")
    return session


def open_scorer(bundle: ModelBundle, slots: int) -> StepScorer:
    """The bundle's network, ready for up to `slots` tracks at once. Raises BundleError."""
    return StepScorer(bundle.manifest.state, LevelGraphs(bundle), slots)
