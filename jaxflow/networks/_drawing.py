"""Random weights."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._compiled import compiled


def gaussian(
    key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any, divisor: float = 1.0
) -> Float[Array, "..."]:
    """Independent normal numbers over a divisor; of JAX's default type for `None`."""
    dtype = jax.dtypes.canonicalize_dtype(dtype or float)
    return _gaussian(key, shape, dtype, np.asarray(divisor, dtype))


@compiled
def _gaussian(key, shape, dtype, divisor):
    return jax.random.normal(key, shape, dtype) / divisor
