"""Names for the axes of what is recorded."""

from collections.abc import Callable

from ._knots import knots
from ._margins import margins, normalized_margins
from ._signs import block_singular_values, block_stable_ranks
from ._weights import layer_norms, singular_values, stable_rank

_DIMENSIONS = (
    (knots, ("neuron",)),
    (layer_norms, ("layer",)),
    (stable_rank, ("layer",)),
    (singular_values, ("layer", "singular_value")),
    (block_stable_ranks, ("block",)),
    (block_singular_values, ("block", "singular_value")),
    (margins, ("sample",)),
    (normalized_margins, ("sample",)),
)


def dimensions(name: str, observable: Callable, ndim: int) -> tuple[str, ...]:
    """Names for the axes of a recorded observable's values."""
    for known, dims in _DIMENSIONS:
        if observable is known:
            return dims
    return tuple(f"{name}_{axis}" for axis in range(ndim))
