"""Gradient flow in polar coordinates: log-norm, direction, and a clock of their own.

With `w = e^ρ v`, `‖v‖ = 1`, `dτ = e^((L-2)ρ) dt` and one vector-Jacobian product

    g = Σ_i J_i(v)ᵀ c_i,    c_i = -ℓ'(e^(Lρ) H(x_i; v), y_i),

the flow is

    dv/dτ = g - ⟨v, g⟩ v,    dρ/dτ = ⟨v, g⟩,    ds/dτ = e^((2-L)(ρ - log δ)),

every right-hand side of order one at every scale δ. Two of the coordinates are kept in a
form that loses no digits: the growth `ρ - log δ = log(‖w‖/δ)`, and the time in units of
`S = 1/‖g‖` at the start, in which the weights first change by their own size
(`_elapsed.py`).

For losses with an exponential tail the clock is another, `_clocks.py`: every derivative
above is multiplied by `dτ/dσ = 𝓛(0)/𝓛`.

Weights that are all zero have no direction. For `L > 1`, where `∇𝓛(0) = 0`, they stay where
they are, and their state is `v = 0`, `ρ = log δ`: `e^ρ v` is right, all is finite, and time
passes. For `L <= 1` they may leave in a direction that they do not have yet.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Float, Real

from .._arrays import ratio
from ..networks import flatten
from ..solvers import ErrorView, Tolerances
from ..tasks import AbstractTask, is_separated, margin_residual
from ._abstract import AbstractNetworkFlow, Snapshot, snapshot
from ._cartesian import SHOWN_OF_WEIGHTS, TIMES
from ._clocks import pull_at
from ._elapsed import (
    log_rescaled_time,
    rate_of_elapsed,
    rescaled_time,
    size_of_elapsed,
)
from ._geometry import log_norm_and_direction, safe_norm, tangent_part
from ._gradients import outputs_and_pull, outputs_at, where_defined
from ._sides import sides_of_flow


class PolarState(NamedTuple):
    direction: Float[Array, " parameters"]  # v, up to rounding of its norm
    log_growth: Float[Array, ""]  # log(‖w‖/δ)
    elapsed: Float[Array, ""]  # stands for s/S
    log_unit: Float[Array, ""]  # log S, which stays as it is


class PolarGradient(NamedTuple):
    """The gradient on a flow's own clock `σ`, and how that clock runs."""

    gradient: Float[Array, " parameters"]  # g dτ/dσ
    log_pace: Float[Array, ""]  # log dτ/dσ


SHOWN_IN_POLAR = (*SHOWN_OF_WEIGHTS, "growth_rate")


class AbstractPolarFlow(AbstractNetworkFlow):
    """A flow of `PolarState`s: what all have in common but the vector field.

    Only integration can tell the clock at a given time.
    """

    def clock_at(self, quantity, value, args):
        return None

    @staticmethod
    def weights(state: PolarState) -> Float[Array, " parameters"]:
        return unit(state)

    @staticmethod
    def drives(state: PolarState) -> PolarState:
        """Zero for the time, on which nothing depends, and one for all else."""
        one, zero = jnp.ones_like(state.log_growth), jnp.zeros_like(state.log_growth)
        return PolarState(jnp.ones_like(state.direction), one, zero, zero)

    @staticmethod
    def view_error(view: ErrorView, tolerances: Tolerances) -> ErrorView:
        """Logarithms absolutely, the direction also against what it has left to turn.

        Errors of logarithms are relative errors already, so their magnitude is one. And
        near a rest point an explicit method steps at its stability limit, where errors as
        large as the tolerance would be kicked up again and again and the direction would
        never come to rest. So its error may be at most `rtol` of the direction, and at
        most a thousandth of the distance to rest, for which the angle turned per growth of
        the norm stands, though never less than rounding makes it.
        """
        before, after, error = view
        turned = jnp.linalg.norm(after.direction - before.direction)
        path = jnp.hypot(turned, after.log_growth - before.log_growth)
        turning = ratio(turned, path)
        share = _SHARE_OF_REST * turning / tolerances.rtol
        # So that rounding errors stay below rtol, and below atol for an entry of the usual
        # size of one of a unit vector, 1/√P.
        rounding = 32 * jnp.finfo(turned.dtype).eps
        entry = after.direction.size**-0.5
        least = jnp.maximum(rounding / tolerances.rtol, rounding * entry / tolerances.atol)
        # Where a step ends in NaN, its error is infinite and need not be divided.
        share = jnp.where(jnp.isfinite(share), jnp.clip(share, least, 1.0), 1.0)
        # Single precision holds a time of e^230 to a relative 1e-5 and no better, whatever
        # the tolerances are.
        known = 8 * jnp.finfo(turned.dtype).eps / tolerances.rtol
        return ErrorView(
            _with_absolute_logarithms(before, known),
            _with_absolute_logarithms(after, known),
            error._replace(direction=error.direction / share),
        )

    @staticmethod
    def error_norm(scaled_error: Any) -> Float[Array, ""]:
        """Root mean square over the direction; norm and time count in full beside it.

        In one mean over all coordinates those two would vanish among the parameters.
        """
        return jnp.maximum(
            optx.rms_norm(scaled_error.direction),
            jnp.maximum(jnp.abs(scaled_error.log_growth), jnp.abs(scaled_error.elapsed)),
        )


class PolarFlow(AbstractPolarFlow):
    """Gradient flow of a homogeneous network of order `L` in polar coordinates."""

    network: eqx.Module
    task: AbstractTask
    order: int | float = eqx.field(static=True)

    @property
    def shows(self) -> tuple[str, ...]:  # pyright: ignore
        margins = ("margin_residual",) if self.task.has_margins else ()
        return (*SHOWN_IN_POLAR, *TIMES, *margins)

    def hint(self, quantity: str) -> str | None:
        if quantity == "margin_residual" and not self.task.has_margins:
            return f"the loss {self.task.loss} has no margins"
        return None

    @property
    def sides(self):
        return sides_of_flow(self.network, self.task, self.weights, self.true_outputs)

    def enter(self, network: eqx.Module, args: Float[Array, ""]) -> PolarState:
        return polar_state(network, lambda state: self._gradient(state, args), self.order)

    def vector_field(
        self, clock: Real[Array, ""], state: PolarState, args: Float[Array, ""]
    ) -> PolarState:
        return polar_velocity(state, self._gradient(state, args), self.order)

    def snapshot(
        self,
        clock: Real[Array, ""],
        state: PolarState,
        velocity: PolarState,
        args: Float[Array, ""],
    ) -> Snapshot:
        at_unit = outputs_at(self.network, self.task, unit(state))
        outputs = self._true_outputs(at_unit, state, args)
        shown = polar_snapshot(
            state,
            velocity,
            log_norm=state.log_growth + args,
            log_time=log_rescaled_time(state.elapsed, state.log_unit)
            + (2 - self.order) * args,
            loss=self.task.total_loss(outputs),
            log_pace=pull_at(self.task, outputs).log_pace,
        )
        if not self.task.has_margins:
            return shown
        sine = shown.turning_rate / shown.gradient_norm
        # Infinite before the loss separates the data.
        residual = jnp.where(
            is_separated(self.task, outputs),
            margin_residual(self.task, outputs, sine),
            jnp.inf,
        )
        return shown.showing(margin_residual=residual)

    def _gradient(self, state, args):
        at_unit, pull_back = outputs_and_pull(self.network, self.task, unit(state))
        pull = pull_at(self.task, self._true_outputs(at_unit, state, args))
        gradient = where_defined(pull_back(pull.coefficients), pull.defined_by)
        return PolarGradient(gradient, pull.log_pace)

    def true_outputs(
        self, state: PolarState, args: Float[Array, ""]
    ) -> Float[Array, "n out"]:
        """`H(x; w)` of all samples."""
        at_unit = outputs_at(self.network, self.task, unit(state))
        return self._true_outputs(at_unit, state, args)

    def _true_outputs(self, outputs, state, args):
        """`H(x; w) = e^(Lρ) H(x; v)`."""
        return jnp.exp(self.order * (state.log_growth + args)) * outputs


def polar_state(
    network: eqx.Module,
    gradient: Callable[[PolarState], PolarGradient],
    order: int | float,
) -> PolarState:
    """The state at `s = 0` of a member that starts at `δ` times this network.

    Arguments:
        network: the weights `w₀`.
        gradient: `g` at a state, whatever the unit of time in it.
        order: the network's order `L`.
    """
    log_growth, direction = growth_and_direction(flatten(network))
    if order <= 1:  # zero weights may leave, and their direction is no number
        direction = jnp.where(jnp.any(direction != 0), direction, jnp.nan)
    zero = jnp.zeros_like(log_growth)
    state = PolarState(direction, log_growth, zero, zero)
    at_start = gradient(state)
    rate = safe_norm(at_start.gradient)
    usable = (rate > 0) & jnp.isfinite(rate)
    log_rate = jnp.log(jnp.where(usable, rate, 1.0)) - at_start.log_pace  # log ‖g‖
    log_unit = (2 - order) * log_growth - log_rate
    return state._replace(log_unit=jnp.where(jnp.isfinite(log_unit), log_unit, zero))


def growth_and_direction(
    vector: Float[Array, " n"],
) -> tuple[Float[Array, ""], Float[Array, " n"]]:
    """`log ‖x‖` and `x/‖x‖`; zero and zero for a zero vector, so that states are finite."""
    log_norm, direction = log_norm_and_direction(vector)
    return jnp.where(jnp.isneginf(log_norm), 0.0, log_norm), direction


def unit(state: PolarState) -> Float[Array, " parameters"]:
    """The direction, with the drift of its norm taken out; zero for zero weights."""
    return ratio(state.direction, jnp.linalg.norm(state.direction))


def polar_velocity(
    state: PolarState, at_unit: PolarGradient, order: int | float
) -> PolarState:
    """`dv/dσ`, `dρ/dσ` and `de/dσ`, `e` as in `_elapsed.py`, from the gradient at `v`."""
    direction, gradient = unit(state), at_unit.gradient
    log_rate = (2 - order) * state.log_growth - state.log_unit + at_unit.log_pace  # of s/S
    return PolarState(
        direction=tangent_part(gradient, direction),
        log_growth=jnp.dot(direction, gradient),
        elapsed=rate_of_elapsed(log_rate, state.elapsed),
        log_unit=jnp.zeros_like(state.log_unit),
    )


def polar_snapshot(
    state: PolarState,
    velocity: PolarState,
    *,
    log_norm: Float[Array, ""],
    log_time: Float[Array, ""],
    loss: Float[Array, ""],
    log_pace: Float[Array, ""],
) -> Snapshot:
    """The part of a snapshot that gradient flow and its δ → 0 limit have in common."""
    # `g` falls with the loss. Before it would underflow the factor is held fixed, so that
    # the ratio of its two parts stays right.
    limits = jnp.finfo(log_pace.dtype)
    factor = jnp.exp(jnp.maximum(-log_pace, jnp.log(limits.tiny / limits.eps)))
    turning = jnp.linalg.norm(velocity.direction)
    direction = unit(state)
    return snapshot(
        direction,
        log_norm=jnp.where(jnp.any(direction != 0), log_norm, -jnp.inf),
        rescaled_time=rescaled_time(state.elapsed, state.log_unit),
        log_time=log_time,
        loss=loss,
        gradient_norm=factor * jnp.hypot(turning, velocity.log_growth),
        turning_rate=factor * turning,
        growth_rate=factor * velocity.log_growth,
    )


def _with_absolute_logarithms(state: PolarState, known: Float[Array, ""]) -> PolarState:
    return PolarState(
        direction=state.direction,
        log_growth=jnp.ones_like(state.log_growth),
        elapsed=jnp.maximum(size_of_elapsed(state.elapsed), known * jnp.abs(state.elapsed)),
        log_unit=jnp.ones_like(state.log_unit),
    )


_SHARE_OF_REST = 1e-3
"""The largest error of the direction as a share of its distance to rest. Chosen;
docs/theory.md (Error control) says what it is for, not why a thousandth."""
