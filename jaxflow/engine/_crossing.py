"""Where a quantity crosses zero inside a step."""

from collections.abc import Callable

import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Bool, Float, Real


def first_crossing(
    gap: Callable[[Real[Array, ""]], Float[Array, ""]],
    start: Real[Array, ""],
    end: Real[Array, ""],
    wanted: Bool[Array, ""],
) -> Real[Array, ""]:
    """A clock in `[start, end]` at which `gap` turns from negative to not negative.

    Needs `gap(start) < 0 <= gap(end)`. Where the crossing is not `wanted` the answer is
    `end`, found in one iteration: under `vmap` it costs only where a member wants it.
    """
    eps = float(jnp.finfo(start.dtype).eps)

    def sign(share, _):
        # Bisection needs only a sign. Given no more, it stops by the bracket alone, and a
        # gap of minus infinity (the logarithm of time zero) does no harm.
        negative = gap(start + share * (end - start)) < 0
        return jnp.where(negative, -eps, eps).astype(start.dtype)

    one = jnp.ones_like(start)
    lower = jnp.where(wanted, jnp.zeros_like(start), one)
    solution = optx.root_find(
        sign,
        optx.Bisection(rtol=0.0, atol=2 * eps, flip=False),
        jnp.where(wanted, 0.5 * one, one),
        options={"lower": lower, "upper": one},
        max_steps=64,
        throw=False,
    )
    return jnp.where(wanted, start + solution.value * (end - start), end)
