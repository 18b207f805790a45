"""How far an estimate of distinct users by a HyperLogLog sketch may be from the exact number."""

from __future__ import annotations

import math

#: Binary logarithm of a sketch's buckets: 64 KiB for each week.
LOG2_BUCKETS = 16

#: Relative standard error of an estimate: 1.04 over the root of the buckets (Flajolet, Fusy, Gandouet and Meunier,
#: HyperLogLog, 2007), 0.41 %.
STANDARD_ERROR = 1.04 / math.sqrt(2**LOG2_BUCKETS)

#: Half the width of the 95 % interval of an estimate, as a share of it.
ERROR_95 = 1.96 * STANDARD_ERROR

#: More standard errors than this are no chance: less than one week in a million is as far off.
_TOO_MANY = 5


def is_estimate_of(exact: int, estimate: int) -> bool:
    """Whether an estimate is as near to the exact number as a sketch allows; one user off is only rounding."""
    return abs(estimate - exact) <= max(1, _TOO_MANY * STANDARD_ERROR * exact)
