"""What the model claims to bear, as measurements: the same recordings, bent, through the online path.

`conditions`: how recordings are bent, each by degrees. `adversary`: joints moved against the network. `figures`: what is
left of it. `plot`: one picture of them all. Poses stay in the source's own layout and clock, so everything from the
converter to the decoder is under test.
"""

from poseline_training.robustness.conditions import CONDITIONS
from poseline_training.robustness.figures import measure, robustness

__all__ = ["CONDITIONS", "measure", "robustness"]
