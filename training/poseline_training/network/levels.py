"""What a network must say of itself to be deployed: its rings of state and the levels that read and write them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from poseline.manifest import LevelSpec, RingSpec, StateSpec, TapSpec


@dataclass(frozen=True)
class Level:
    """One step graph. reads: (ring, age), age 1 the newest. writes: rings that get one row each.

    Rows stand side by side: (B, taps · width) read, (B, writes · width) written. The first level's module maps
    (pose (B, ·), rows) → (vector, and one row for each ring it writes); a deeper one maps rows → rows.
    """

    name: str
    every: int
    reads: tuple[tuple[str, int], ...]
    writes: tuple[str, ...]
    module: nn.Module


@dataclass(frozen=True)
class Steps:
    """A body frame by frame. rings: (name, length); width: numbers per row."""

    width: int
    rings: tuple[tuple[str, int], ...]
    levels: tuple[Level, ...]

    def spec(self) -> StateSpec:
        """The same in the manifest's words: what the server must know."""
        return StateSpec(
            width=self.width,
            rings=tuple(RingSpec(name=name, length=length) for name, length in self.rings),
            levels=tuple(
                LevelSpec(
                    name=level.name,
                    graph=f"{level.name}.onnx",
                    every=level.every,
                    reads=tuple(TapSpec(ring=ring, age=age) for ring, age in level.reads),
                    writes=level.writes,
                )
                for level in self.levels
            ),
        )
