"""A loss that is small enough."""

import jax.numpy as jnp

from ._abstract import AbstractCondition, check_threshold, not_negative, Threshold


class LossBelow(AbstractCondition):
    """Ends a member where `𝓛(w)` has fallen to the value.

    The last steps of a flow are made shorter until the loss is at most the value and less
    than a millionth below it (in single precision four millionths). Gradient descent ends
    with the first step after which `𝓛(w) <= value`, and so does a flow with noise.

    Arguments:
        value: a loss (a sum over samples), not negative, scalar or (num,).

    Raises:
        InputError: for other values.

    Examples:
        >>> import jaxflow as jf
        >>> jf.LossBelow(1e-3)
        LossBelow(value=0.001)
    """

    value: Threshold
    needs = ("loss",)

    def __check_init__(self):
        check_threshold("value", self.value, "a loss, a number >= 0", not_negative)

    def gap(self, shown):
        return self.value - shown.loss

    def closeness(self):
        value = jnp.asarray(self.value)
        eps = float(jnp.finfo(jnp.result_type(value, float)).eps)
        return max(_CLOSE, 32 * eps) * value


_CLOSE = 1e-6
"""Relative to the value. Chosen: as the tolerance of a step is by default."""
