"""Stop conditions: what ends a member.

A condition looks at a member through `jaxflow.flows.Snapshot` and gives a gap, negative
while the member goes on. An `exact` condition ends the member where its gap is zero,
found inside the last step; the others end it at the first step that meets them.
"""

import abc
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .flows import AbstractFlow, Snapshot

# A number, or one for each member: as the caller gave it outside, an array inside a run.
Threshold = Any


class AbstractStop(eqx.Module):
    """A stop condition. Thresholds are numbers, or arrays with one number a member.

    A subclass gives `gap`; an exact one may also tell beforehand on which clock it ends.
    Where only integration can tell, the clock is `None`.
    """

    exact: eqx.AbstractClassVar[bool]

    @abc.abstractmethod
    def gap(self, snapshot: Snapshot) -> Float[Array, ""]:
        """Negative while the member goes on, zero or positive once it is done."""

    @abc.abstractmethod
    def clock(self, flow: AbstractFlow, args) -> Float[Array, ""] | None:
        """The flow's clock at the end where that is known beforehand, else `None`."""


class LossBelow(AbstractStop):
    """Ends a member at the first step after which `𝓛(w) <= value`.

    **Arguments:** `value`, a loss (a sum over samples), scalar or (num,).

    >>> LossBelow(1e-3)
    LossBelow(value=0.001)
    """

    value: Threshold
    exact: ClassVar[bool] = False

    def gap(self, snapshot):
        return self.value - snapshot.loss

    def clock(self, flow, args):
        return None


class RescaledTime(AbstractStop):
    """Ends a member at the rescaled time `s = δ^(L-2) t = value` exactly.

    For a network that is not homogeneous, and for `L = 2`, this is the time `t`.

    **Arguments:** `value`, positive, scalar or (num,).

    >>> RescaledTime(50.0)
    RescaledTime(value=50.0)
    """

    value: Threshold
    exact: ClassVar[bool] = True

    def gap(self, snapshot):
        return snapshot.rescaled_time - self.value

    def clock(self, flow, args):
        return flow.clock_at_rescaled_time(self.value, args)


class Time(AbstractStop):
    """Ends a member at the physical time `t = value` exactly.

    **Arguments:** `value`, positive, scalar or (num,).

    >>> Time(10.0)
    Time(value=10.0)
    """

    value: Threshold
    exact: ClassVar[bool] = True

    def gap(self, snapshot):
        return snapshot.log_time - jnp.log(self.value)

    def clock(self, flow, args):
        return flow.clock_at_log_time(jnp.log(self.value), args)


class LogTime(AbstractStop):
    """Ends a member at `log t = value` (natural logarithm) exactly.

    For physical times that no floating-point number holds, such as `t = δ^(2-L)` at a
    tiny scale.

    **Arguments:** `value`, scalar or (num,).

    >>> LogTime(345.4)
    LogTime(value=345.4)
    """

    value: Threshold
    exact: ClassVar[bool] = True

    def gap(self, snapshot):
        return snapshot.log_time - self.value

    def clock(self, flow, args):
        return flow.clock_at_log_time(self.value, args)


class NormAbove(AbstractStop):
    """Ends a member where `‖w‖` reaches `value` (in the limit δ → 0: `‖u‖ = ‖w‖/δ`).

    **Arguments:** `value`, positive, scalar or (num,).

    >>> NormAbove(0.1)
    NormAbove(value=0.1)
    """

    value: Threshold
    exact: ClassVar[bool] = True

    def gap(self, snapshot):
        return snapshot.log_norm - jnp.log(self.value)

    def clock(self, flow, args):
        return None


class Stationary(AbstractStop):
    """Ends a member whose direction has come to rest, or whose gradient has vanished.

    With `g` the gradient that drives the direction `v` (`∇N(v)` in the limit δ → 0):
    `‖g - ⟨v, g⟩ v‖ <= tolerance ‖g‖`, the KKT residual relative to the gradient, or
    `‖g‖ <= gradient`, as for members that go to zero, whose gradient dies out slowly.

    With losses that have an exponential tail the gradient dies out as the data is fitted;
    see `MarginConverged` for the end of those.

    The gradient is the solver's own, from the end of its dense output; with a solver
    whose dense output is linear (Euler) it is that of the start of the last step.

    **Arguments:** `tolerance` and `gradient`, not negative, scalars or (num,); without a
    `gradient`, a billionth of each member's own at its start.

    >>> Stationary(1e-8)
    Stationary(tolerance=1e-08)
    """

    tolerance: Threshold
    gradient: Threshold = None  # filled in from the start of the run
    exact: ClassVar[bool] = False

    def gap(self, snapshot):
        resting = self.tolerance * snapshot.gradient_norm - snapshot.turning_rate
        vanished = self.gradient - snapshot.gradient_norm
        return jnp.maximum(resting, vanished)

    def clock(self, flow, args):
        return None


class MarginConverged(AbstractStop):
    """Ends a member whose direction has come close to a KKT point of the margin problem.

    At the first step after which the loss separates the data (`𝓛 < 𝓛(0)/n`, all margins
    positive) and `jaxflow.margin_kkt_residual` is at most `tolerance`. For losses with an
    exponential tail (logistic, exponential, cross-entropy), in polar coordinates.

    The residual falls like `1/log t` at best, and like `(log t)^(-1/L)` while weights that
    stand still, such as those of neurons that no sample activates, are a part of `‖w‖`.
    From a small scale 1e-2 to 1e-1 are reached by `t = 1e100`.

    **Arguments:** `tolerance`, positive, scalar or (num,).

    **Source:** Lyu and Li (2020), arXiv:1906.05890, section 4, and appendix C.

    >>> MarginConverged(1e-2)
    MarginConverged(tolerance=0.01)
    """

    tolerance: Threshold
    exact: ClassVar[bool] = False

    def gap(self, snapshot):
        return self.tolerance - snapshot.margin_residual

    def clock(self, flow, args):
        return None


class NumSteps(AbstractStop):
    """Ends gradient descent after `value` steps of the optimizer.

    `gradient_descent` makes it from `num_steps`.

    >>> NumSteps(100)
    NumSteps(value=100)
    """

    value: Threshold
    exact: ClassVar[bool] = True

    def gap(self, snapshot):
        return snapshot.clock - self.value

    def clock(self, flow, args):
        return jnp.asarray(self.value)
