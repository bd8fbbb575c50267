"""A direction that has come to rest."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from ._abstract import AbstractCondition, check_threshold, not_negative, Threshold

_VANISHED = 1e-9  # share of a member's first gradient below which it has died out


class Stationary(AbstractCondition):
    """Ends a member whose direction has come to rest, or whose gradient has vanished.

    With `g` the gradient that drives the direction `v` (`∇N(v)` in the limit δ → 0):
    `‖g - ⟨v, g⟩ v‖ <= tolerance ‖g‖`, the KKT residual relative to the gradient, or
    `‖g‖ <= gradient`, as for members that go to zero, whose gradient dies out slowly.

    With losses that have an exponential tail the gradient dies out as the data is fitted;
    see `MarginConverged` for the end of those.

    On a kink of the network or the loss no gradient vanishes. With the default solver a
    member that has gone back and forth about one for a thousand steps ends too, with the
    status `"rests_at_kink"`: as near to rest as its tolerances allow.

    The gradient is the solver's own, from the end of its dense output; with a solver
    whose dense output is linear (Euler) it is that of the start of the last step.

    Arguments:
        tolerance: not negative, scalar or (num,).
        gradient: not negative, scalar or (num,); a billionth of each member's own at its
            start if not given.

    Raises:
        InputError: for other values.

    Examples:
        >>> import jaxflow as jf
        >>> jf.Stationary(1e-8)
        Stationary(tolerance=1e-08)
    """

    tolerance: Threshold
    gradient: Threshold = None
    needs = ("gradient_norm", "turning_rate")
    at_rest: ClassVar[bool] = True

    def __check_init__(self):
        check_threshold("tolerance", self.tolerance, "a number >= 0", not_negative)
        if self.gradient is not None:
            check_threshold("gradient", self.gradient, "a number >= 0", not_negative)

    def begin(self, shown):
        if self.gradient is not None:
            return self
        return dataclasses.replace(self, gradient=_VANISHED * shown.gradient_norm)

    def gap(self, shown):
        resting = self.tolerance * shown.gradient_norm - shown.turning_rate
        vanished = self.gradient - shown.gradient_norm
        return jnp.maximum(resting, vanished)
