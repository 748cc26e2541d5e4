"""What a model folder says about itself: the contract between workshop and server.

The network is a set of pure step graphs, one per level of its U in time, over *rings* of state rows. A ring is the last
`length` rows that one level has written; a level runs every `every` frames, reads rows by ring and age (1 = the newest)
and writes one row to each of its rings. Whoever runs the graphs needs to know no more of the network than this page.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from poseline.decoding import DecodingOptions
from poseline.pose import Space
from poseline.skeleton import SkeletonLayout, layout


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RingSpec(_Frozen):
    """Rows of one kind that a stream remembers: the last `length` of them."""

    name: str
    length: int = Field(ge=1, le=256)


class TapSpec(_Frozen):
    """One row read: the `age`-th newest row of a ring."""

    ring: str
    age: int = Field(ge=1)


class LevelSpec(_Frozen):
    """One graph: runs on every `every`-th frame, after the levels before it, on the rows it reads."""

    name: str
    graph: str
    every: int = Field(ge=1)
    reads: tuple[TapSpec, ...]
    writes: tuple[str, ...]


class StateSpec(_Frozen):
    """A stream's memory: rings of rows of `width` float32 numbers."""

    width: int = Field(ge=1)
    rings: tuple[RingSpec, ...]
    levels: tuple[LevelSpec, ...] = Field(min_length=1)

    @property
    def rows(self) -> int:
        return sum(ring.length for ring in self.rings)

    @property
    def bytes_per_stream(self) -> int:
        return self.rows * self.width * 4

    @model_validator(mode="after")
    def _consistent(self) -> StateSpec:
        length = {ring.name: ring.length for ring in self.rings}
        writers = [name for level in self.levels for name in level.writes]
        if sorted(writers) != sorted(length):
            raise ValueError(f"rings {sorted(length)} must each be written by one level; written: {sorted(writers)}")
        for level in self.levels:
            for tap in level.reads:
                if tap.ring not in length or tap.age > length[tap.ring]:
                    raise ValueError(f"level {level.name} reads {tap.ring} at age {tap.age}, which no ring holds")
        if self.levels[0].every != 1:
            raise ValueError("the first level must run on every frame: it makes the scores")
        return self


class WholeSpec(_Frozen):
    """A second network, which sees a recording as a whole: for what is finished and can wait.

    graph: poses (1, T, V, 4) → scores (1, T, 1 + K), boundaries (1, T, 2), for any T. reach: frames on either side beyond
    which it sees nothing. chunk: frames that are scored in one run of a long recording, `reach` frames of context on both
    sides aside. Both are multiples of the network's slowest stride, so that every chunk falls on its grid.
    """

    graph: str
    reach: int = Field(ge=0)
    chunk: int = Field(ge=1)


Mode = Literal["online", "offline"]


class ModelManifest(_Frozen):
    """Everything that the server must know to run a bundle.

    classes: names, background first. fps: the grid. look_ahead: frames by which scores lag behind their pose. whole: the
    network for mode `offline`, where there is one; it shares all else. decoding: the thresholds at which the bundle was
    measured. unknown_below: where the best class, background included, scores less, the answer is "unknown"; 0 = never.
    files: file name → sha256 of every other file of the bundle.
    """

    format_version: Literal[2] = 2
    name: str
    version: str
    description: str = ""
    license: str
    research_only: bool
    layout: str = "body16"
    fps: float = 30.0
    dims: tuple[int, ...] = (3,)
    spaces: tuple[Space, ...] = ("camera_m", "world_m")
    look_ahead: int = Field(default=0, ge=0)
    classes: tuple[str, ...] = Field(min_length=2)
    state: StateSpec
    whole: WholeSpec | None = None
    decoding: DecodingOptions = DecodingOptions()
    unknown_below: float = Field(default=0.0, ge=0, le=1)
    metrics: dict[str, Any] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _named(self) -> ModelManifest:
        if self.classes[0] != "background" or len(set(self.classes)) != len(self.classes):
            raise ValueError("classes must be distinct and begin with 'background'")
        if unknown := set(self.decoding.thresholds) - set(self.classes[1:]):
            raise ValueError(f"decoding has thresholds of {', '.join(sorted(unknown))}, which is no class of the model")
        return self

    @property
    def native(self) -> SkeletonLayout:
        return layout(self.layout)

    @property
    def modes(self) -> tuple[Mode, ...]:
        """How a recording may be localized."""
        return ("online", "offline") if self.whole else ("online",)

    @property
    def fingerprint(self) -> str:
        """sha256 of all that a stream's state depends on: graphs, state, look-ahead, classes, joints and grid. A new model
        card, licence or threshold leaves running streams what they are."""
        what = self.model_dump_json(include={"layout", "fps", "look_ahead", "classes", "state"})
        graphs = [self.files.get(level.graph, "") for level in self.state.levels]
        return hashlib.sha256("\n".join([what, *graphs]).encode()).hexdigest()
