"""What steps have cost, for solvers whose steps do not all cost the same."""

from typing import NamedTuple

from jaxtyping import Array, Int


class Work(NamedTuple):
    """Counts of one member so far."""

    num_evaluations: Int[Array, "*members"]  # of the vector field
    num_power_iterations: Int[Array, "*members"]  # the part that went into spectral radii
    num_stabilized: Int[Array, "*members"]  # steps accepted that a stabilized method made
