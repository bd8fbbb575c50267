"""Weights that have grown."""

import jax.numpy as jnp

from ._abstract import AbstractLevel, Threshold


class NormAbove(AbstractLevel):
    """Ends a member where `‖w‖` reaches `value` (in the limit δ → 0: `‖u‖ = ‖w‖/δ`).

    **Arguments:** `value`, positive, scalar or (num,).

    >>> NormAbove(0.1)
    NormAbove(value=0.1)
    """

    value: Threshold
    quantity = "log_norm"

    def level(self):
        return jnp.log(self.value)
