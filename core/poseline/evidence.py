"""When there is enough evidence to tell of an action: Page's cumulative sum over the scores of a class.

    S = max(0, S + ln o(p) - ln o(p0)),    o(p) = p / (1 - p)

a frame, from 0 on: p is the class's score, o its odds against all the rest, and p0 the score that is no news, `min_score`.
(E. S. Page, Continuous inspection schemes, Biometrika 41, 1954.) It is A. Wald's sequential probability ratio test
(Sequential Analysis, 1947), begun anew whenever it has spoken for the rest, with p0 as the prior probability. S is 0 as long
as the score has not been above p0, so a threshold of 0 tells at the first frame that is.

The unit is the nat, but in name only: the scores of neighbouring frames share nearly all that they have seen, so they do not
add up as independent ones would. Where to put the threshold is measured (docs/results.md), not reckoned.
"""

from __future__ import annotations

import numpy as np

from poseline.skeleton import Floats

_CERTAIN = 0.999
"""A surer score counts as this, and one less it is the least: no single frame is worth more than 7 nats."""


def log_odds(p: Floats | float) -> Floats:
    """ln(p / (1 - p)), of any shape."""
    bounded = np.clip(np.asarray(p, np.float32), 1 - _CERTAIN, _CERTAIN)
    return np.log(bounded / (1 - bounded))


def gathered(evidence: Floats, p: Floats, neutral: Floats) -> Floats:
    """The evidence after one frame more: all (N,); neutral: log odds of the score that is no news."""
    return np.maximum(evidence + (log_odds(p) - neutral), 0)
