"""Moments on each of the clocks."""

import jax.numpy as jnp
import numpy as np

from ._abstract import AbstractLevel, check_threshold, positive, Threshold


class RescaledTime(AbstractLevel):
    """Ends a member at the rescaled time `s = δ^(L-2) t = value` exactly.

    For a network that is not homogeneous, and for `L = 2`, this is the time `t`.

    Arguments:
        value: positive, scalar or (num,).

    Raises:
        InputError: for other values.

    Examples:
        >>> import jaxflow as jf
        >>> jf.RescaledTime(50.0)
        RescaledTime(value=50.0)
    """

    value: Threshold
    quantity = "rescaled_time"

    def __check_init__(self):
        check_threshold("value", self.value, "a time, a positive number", positive)

    def level(self):
        return self.value


class Time(AbstractLevel):
    """Ends a member at the physical time `t = value` exactly.

    Arguments:
        value: positive, scalar or (num,).

    Raises:
        InputError: for other values.

    Examples:
        >>> import jaxflow as jf
        >>> jf.Time(10.0)
        Time(value=10.0)
    """

    value: Threshold
    quantity = "log_time"

    def __check_init__(self):
        check_threshold("value", self.value, "a time, a positive number", positive)

    def level(self):
        return jnp.log(self.value)


class LogTime(AbstractLevel):
    """Ends a member at `log t = value` (natural logarithm) exactly.

    For physical times that no floating-point number holds, such as `t = δ^(2-L)` at a
    tiny scale.

    Arguments:
        value: scalar or (num,).

    Raises:
        InputError: for other values.

    Examples:
        >>> import jaxflow as jf
        >>> jf.LogTime(345.4)
        LogTime(value=345.4)
    """

    value: Threshold
    quantity = "log_time"

    def __check_init__(self):
        check_threshold("value", self.value, "the logarithm of a time, a number")

    def level(self):
        return self.value


class NumSteps(AbstractLevel):
    """Ends gradient descent after `value` steps of the optimizer.

    `gradient_descent` makes it from `num_steps`.

    Arguments:
        value: a whole number.

    Raises:
        InputError: for other values.

    Examples:
        >>> import jaxflow as jf
        >>> jf.stops.NumSteps(100)
        NumSteps(value=100)
    """

    value: Threshold
    quantity = "clock"

    def __check_init__(self):
        whole = lambda steps: (steps >= 1) & (steps == np.floor(steps))
        check_threshold("value", self.value, "a whole number, at least 1", whole)

    def level(self):
        return self.value
