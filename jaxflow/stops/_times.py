"""Moments on each of the clocks."""

import jax.numpy as jnp

from ._abstract import AbstractLevel, Threshold


class RescaledTime(AbstractLevel):
    """Ends a member at the rescaled time `s = δ^(L-2) t = value` exactly.

    For a network that is not homogeneous, and for `L = 2`, this is the time `t`.

    **Arguments:** `value`, positive, scalar or (num,).

    >>> RescaledTime(50.0)
    RescaledTime(value=50.0)
    """

    value: Threshold
    quantity = "rescaled_time"

    def level(self):
        return self.value


class Time(AbstractLevel):
    """Ends a member at the physical time `t = value` exactly.

    **Arguments:** `value`, positive, scalar or (num,).

    >>> Time(10.0)
    Time(value=10.0)
    """

    value: Threshold
    quantity = "log_time"

    def level(self):
        return jnp.log(self.value)


class LogTime(AbstractLevel):
    """Ends a member at `log t = value` (natural logarithm) exactly.

    For physical times that no floating-point number holds, such as `t = δ^(2-L)` at a
    tiny scale.

    **Arguments:** `value`, scalar or (num,).

    >>> LogTime(345.4)
    LogTime(value=345.4)
    """

    value: Threshold
    quantity = "log_time"

    def level(self):
        return self.value


class NumSteps(AbstractLevel):
    """Ends gradient descent after `value` steps of the optimizer.

    `gradient_descent` makes it from `num_steps`.

    **Arguments:** `value`, a whole number.

    >>> NumSteps(100)
    NumSteps(value=100)
    """

    value: Threshold
    quantity = "clock"

    def level(self):
        return self.value
