"""Weights that have grown."""

import jax.numpy as jnp

from ._abstract import AbstractLevel, check_threshold, positive, Threshold


class NormAbove(AbstractLevel):
    """Ends a member where `‖w‖` reaches `value` (in the limit δ → 0: `‖u‖ = ‖w‖/δ`).

    Arguments:
        value: positive, scalar or (num,).

    Raises:
        InputError: for other values.

    Examples:
        >>> import jaxflow as jf
        >>> jf.NormAbove(0.1)
        NormAbove(value=0.1)
    """

    value: Threshold
    quantity = "log_norm"

    def __check_init__(self):
        check_threshold("value", self.value, "a norm, a positive number", positive)

    def level(self):
        return jnp.log(self.value)
