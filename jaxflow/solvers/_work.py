"""What steps have cost, for solvers whose steps do not all cost the same."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Int

Count = Int[Array | np.ndarray, "*members"]


class Work(NamedTuple):
    """Counts of one member so far."""

    num_evaluations: Count  # of the vector field
    num_power_iterations: Count  # the part that went into spectral radii
    num_stabilized: Count  # steps accepted that a stabilized method made
