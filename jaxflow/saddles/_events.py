"""What happens to a member on its way from saddle to saddle, as stop conditions.

Every member has all of them at all times, and each says for whom it is `on`: so one
compiled program serves every leg of every member.
"""

import abc
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arrays import ratio
from ..flows import Snapshot
from ..stops import AbstractStop, Stationary, Threshold


class AbstractEvent(AbstractStop):
    """A condition for those members alone for which it is `on`."""

    on: Any

    def gap(self, shown: Snapshot) -> Float[Array, ""]:
        gap = self.gap_if_on(shown)
        return jnp.where(self.on, gap, jnp.full_like(gap, -jnp.inf))

    @abc.abstractmethod
    def gap_if_on(self, shown: Snapshot) -> Float[Array, ""]:
        """The gap of a member that has the condition."""


class Waits(AbstractEvent):
    """Members that are to stay where they are."""

    exact = False
    needs = ("loss",)

    def gap_if_on(self, shown):
        return jnp.zeros_like(shown.loss)


class Rests(AbstractEvent):
    """As `Stationary`, for those members alone for which it is on."""

    tolerance: Threshold
    gradient: Threshold
    exact = False
    needs = Stationary.needs

    def gap_if_on(self, shown):
        return Stationary(self.tolerance, self.gradient).gap(shown)


class AtRest(AbstractStop):
    """Nothing moves any more: `‖g‖ <= e^log_floor`, with `g` the polar flow's gradient.

    Or the direction rests while the norm falls: `log ‖w‖ <= log_norm`, as for weights that
    go to zero. Minus infinity is a bound that is never met, but by a gradient of zero.
    """

    log_floor: Threshold
    log_norm: Threshold
    exact = False
    needs = ("gradient_norm", "turning_rate", "log_norm")

    def gap(self, shown):
        size = shown.gradient_norm
        some = jnp.where(size > 0, size, 1.0)
        still = jnp.where(size > 0, self.log_floor - jnp.log(some), jnp.inf)
        straight = _STRAIGHT * size - shown.turning_rate
        shrunk = self.log_norm - shown.log_norm
        return jnp.maximum(still, jnp.minimum(straight, shrunk))


class Arrival(AbstractEvent):
    """`‖∇𝓛‖` is below a share `η` of its root mean square since the departure.

    As `∫ ‖∇𝓛‖² dt` is what the loss has fallen, that is
    `‖∇𝓛‖² t <= η² (𝓛_departure - 𝓛)`, with `t` since the departure.
    """

    log_share: Threshold
    departure_loss: Threshold
    exact = True
    needs = ("loss", "log_time", "log_gradient")

    def gap_if_on(self, shown):
        fallen = self.departure_loss - shown.loss
        rounding = 64 * jnp.finfo(fallen.dtype).eps * jnp.abs(self.departure_loss)
        known = (fallen > rounding) & jnp.isfinite(shown.log_time)
        log_square = jnp.log(jnp.where(known, fallen, 1.0)) - shown.log_time
        gap = 2 * self.log_share + log_square - 2 * shown.log_gradient
        return jnp.where(known, gap, -jnp.inf)


class Closest(AbstractEvent):
    """`‖∇𝓛‖` has begun to rise, or is so small that the errors of steps hide it."""

    log_enough: Threshold
    exact = False
    needs = ("gradient_rate", "log_gradient")

    def gap_if_on(self, shown):
        return jnp.maximum(shown.gradient_rate, self.log_enough - shown.log_gradient)


class Departure(AbstractEvent):
    """The loss has fallen to `loss` while `‖∇𝓛‖` rose, or `‖∇𝓛‖` is above its arrival's."""

    loss: Threshold
    log_risen: Threshold
    log_above: Threshold
    exact = True
    needs = ("loss", "log_gradient")

    def gap_if_on(self, shown):
        size = jnp.abs(self.loss)
        fallen = ratio(self.loss - shown.loss, size)
        left = jnp.minimum(fallen, shown.log_gradient - self.log_risen)
        return jnp.maximum(left, shown.log_gradient - self.log_above)


class SmallPartsLeave(AbstractStop):
    """In a `ResidualFlow`: `log N_r(u) >= log_fall`, or `log ‖∇N_r(u)‖ >= log_above`.

    The logarithms may be those of numbers that no float holds, and infinite for what never
    happens. Members with `at_once` stay where they are.
    """

    log_fall: Threshold
    log_above: Threshold
    order: Threshold
    at_once: Any
    exact = True
    needs = ("loss", "log_norm", "log_gradient")

    def gap(self, shown):
        risen = shown.loss < 0
        log_value = jnp.log(jnp.where(risen, -shown.loss, 1.0))
        log_fall = jnp.where(risen, self.order * shown.log_norm + log_value, -jnp.inf)
        gap = jnp.maximum(log_fall - self.log_fall, shown.log_gradient - self.log_above)
        return jnp.where(self.at_once, 0.0, gap)


_STRAIGHT = 1e-8
"""The relative turning rate at which a direction rests. Chosen."""
