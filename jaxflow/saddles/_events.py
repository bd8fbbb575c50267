"""What happens to a member on its way from saddle to saddle, as stop conditions.

Every member has all of them at all times, with thresholds that switch off those that are
not its turn: so one compiled program serves every leg of every member.
"""

from typing import ClassVar

import jax.numpy as jnp

from ..flows import Snapshot
from ..stopping import AbstractStop, Threshold

OFF = 1e30
"""A threshold that is never met, with its sign; also in float32."""


class AtRest(AbstractStop):
    """Nothing moves any more: `‖g‖ <= e^log_floor`, with `g` the polar flow's gradient.

    Or the direction rests while the norm falls: `log ‖w‖ <= log_norm`, as for weights that
    go to zero.
    """

    log_floor: Threshold
    log_norm: Threshold
    exact: ClassVar[bool] = False

    def gap(self, snapshot):
        still = self.log_floor - jnp.log(snapshot.gradient_norm)
        straight = _STRAIGHT * snapshot.gradient_norm - snapshot.turning_rate
        shrunk = self.log_norm - snapshot.log_norm
        return jnp.maximum(still, jnp.minimum(straight, shrunk))

    def clock(self, flow, args):
        return None


class Arrival(AbstractStop):
    """`‖∇𝓛‖` is below a share `η` of its root mean square since the departure.

    As `∫ ‖∇𝓛‖² dt` is what the loss has fallen, that is
    `‖∇𝓛‖² t <= η² (𝓛_departure - 𝓛)`, with `t` since the departure.
    """

    log_share: Threshold
    departure_loss: Threshold
    on: Threshold
    exact: ClassVar[bool] = True

    def gap(self, snapshot):
        fallen = self.departure_loss - snapshot.loss
        rounding = 64 * jnp.finfo(fallen.dtype).eps * jnp.abs(self.departure_loss)
        known = (fallen > rounding) & jnp.isfinite(snapshot.log_time) & (self.on > 0)
        log_square = jnp.log(jnp.where(known, fallen, 1.0)) - snapshot.log_time
        gap = 2 * self.log_share + log_square - 2 * _log_gradient(snapshot)
        return jnp.where(known, gap, -OFF)

    def clock(self, flow, args):
        return None


class Closest(AbstractStop):
    """`‖∇𝓛‖` has begun to rise, or is so small that the errors of steps hide it."""

    log_enough: Threshold
    on: Threshold
    exact: ClassVar[bool] = False

    def gap(self, snapshot):
        rate = snapshot.gradient_rate
        assert rate is not None  # the flow is watched
        small = self.log_enough - _log_gradient(snapshot)
        return jnp.where(self.on > 0, jnp.maximum(rate, small), -OFF)

    def clock(self, flow, args):
        return None


class Departure(AbstractStop):
    """The loss has fallen to `loss` while `‖∇𝓛‖` rose, or `‖∇𝓛‖` is above its arrival's."""

    loss: Threshold
    log_risen: Threshold
    log_above: Threshold
    on: Threshold
    exact: ClassVar[bool] = True

    def gap(self, snapshot):
        size = jnp.abs(self.loss)
        fallen = (self.loss - snapshot.loss) / jnp.where(size > 0, size, 1.0)
        log_gradient = _log_gradient(snapshot)
        left = jnp.minimum(fallen, log_gradient - self.log_risen)
        gap = jnp.maximum(left, log_gradient - self.log_above)
        return jnp.where(self.on > 0, gap, -OFF)

    def clock(self, flow, args):
        return None


class SmallPartsLeave(AbstractStop):
    """In a `ResidualFlow`: `log N_r(u) >= log_fall`, or `log ‖∇N_r(u)‖ >= log_above`.

    The logarithms may be those of numbers that no float holds.
    """

    log_fall: Threshold
    log_above: Threshold
    order: Threshold
    exact: ClassVar[bool] = True

    def gap(self, snapshot):
        risen = snapshot.loss < 0
        log_value = jnp.log(jnp.where(risen, -snapshot.loss, 1.0))
        log_fall = jnp.where(risen, self.order * snapshot.log_norm + log_value, -OFF)
        above = _log_gradient(snapshot) - self.log_above
        return jnp.maximum(log_fall - self.log_fall, above)

    def clock(self, flow, args):
        return None


_STRAIGHT = 1e-8


def _log_gradient(snapshot: Snapshot):
    assert snapshot.log_gradient is not None  # the flow is watched
    return snapshot.log_gradient
