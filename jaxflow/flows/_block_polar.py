"""Gradient flow with a log-norm and a direction for every block of parameters.

While some neurons of a network are learned, others may still be at the scale δ. In one
direction for all of them the error of small weights is as large as that of large ones,
and may be larger than the small weights themselves.
With `w_b = e^(ρ_b) v_b`, `‖v_b‖ = 1` for each block `b`, `ρ = log ‖w‖`, the clock of the
polar flow `dτ = e^((L-2)ρ) dt` and the gradient `g` at the unit vector `w/‖w‖`,

    dv_b/dτ = e^(ρ-ρ_b) (g_b - ⟨v_b, g_b⟩ v_b),    dρ_b/dτ = e^(ρ-ρ_b) ⟨v_b, g_b⟩.

A neuron's gradient is in proportion to its weights, so every right-hand side is of order
one, and an error of `v_b` or `ρ_b` is a relative error of that neuron.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Real

from .._arrays import ratio
from ..networks import flatten
from ..solvers import ErrorView, Tolerances
from ..tasks import AbstractTask
from ._abstract import AbstractNetworkFlow, Snapshot
from ._elapsed import size_of_elapsed
from ._polar import growth_and_direction, PolarFlow, PolarState
from ._sides import sides_of_flow


class BlockPolarState(NamedTuple):
    direction: Float[Array, " parameters"]  # all v_b, up to rounding of their norms
    log_growths: Float[Array, " blocks"]  # log(‖w_b‖/δ)
    elapsed: Float[Array, ""]  # stands for s/S
    log_unit: Float[Array, ""]  # log S, which stays as it is


class BlockPolarFlow(AbstractNetworkFlow):
    """Gradient flow of a homogeneous network in polar coordinates of its blocks.

    Arguments:
        block: the number of each parameter's block.
    """

    network: eqx.Module
    task: AbstractTask
    order: int | float = eqx.field(static=True)
    block: Int[Array, " parameters"]
    num_blocks: int = eqx.field(static=True)

    @property
    def shows(self) -> tuple[str, ...]:  # pyright: ignore
        return self._polar.shows

    @property
    def sides(self):
        return sides_of_flow(self.network, self.task, self.weights, self.true_outputs)

    def enter(self, network: eqx.Module, args: Float[Array, ""]) -> BlockPolarState:
        weights = flatten(network)
        size = jax.ops.segment_max(jnp.abs(weights), self.block, self.num_blocks)
        size = jnp.where(size > 0, size, 1.0)
        scaled = weights / size[self.block]
        norms = self._norms(scaled)
        norms = jnp.where(norms > 0, norms, 1.0)
        whole = self._polar.enter(network, args)
        return BlockPolarState(
            direction=scaled / norms[self.block],
            log_growths=jnp.log(size) + jnp.log(norms),
            elapsed=whole.elapsed,
            log_unit=whole.log_unit,
        )

    def vector_field(
        self, clock: Real[Array, ""], state: BlockPolarState, args: Float[Array, ""]
    ) -> BlockPolarState:
        units, empty = self._units(state)
        whole = self._as_one(state)
        # The parts of the gradient at w/‖w‖ along and across it, added up again.
        turning = self._polar.vector_field(clock, whole, args)
        gradient = turning.direction + turning.log_growth * whole.direction
        along = jax.ops.segment_sum(units * gradient, self.block, self.num_blocks)
        log_ratios = whole.log_growth - state.log_growths
        # A block of zeros has no direction, and stays where it is.
        ratios = jnp.where(empty, 0.0, jnp.exp(log_ratios))
        return BlockPolarState(
            direction=ratios[self.block] * (gradient - along[self.block] * units),
            log_growths=ratios * along,
            elapsed=turning.elapsed,
            log_unit=turning.log_unit,
        )

    def snapshot(
        self,
        clock: Real[Array, ""],
        state: BlockPolarState,
        velocity: BlockPolarState,
        args: Float[Array, ""],
    ) -> Snapshot:
        (units, empty), whole = self._units(state), self._as_one(state)
        shares = self._shares(state, whole.log_growth, empty)
        moved = velocity.direction + velocity.log_growths[self.block] * units
        gradient = shares * moved
        along = jnp.dot(whole.direction, gradient)
        turning = PolarState(
            direction=gradient - along * whole.direction,
            log_growth=along,
            elapsed=velocity.elapsed,
            log_unit=velocity.log_unit,
        )
        return self._polar.snapshot(clock, whole, turning, args)

    def clock_at(self, quantity, value, args):
        return None

    @staticmethod
    def weights(state: BlockPolarState) -> Float[Array, " parameters"]:
        # Whatever positive factor a block has, its neurons are on the same side.
        return state.direction

    @staticmethod
    def drives(state: BlockPolarState) -> BlockPolarState:
        ones = jax.tree_util.tree_map(jnp.ones_like, state)
        zero = jnp.zeros_like(state.elapsed)
        return ones._replace(elapsed=zero, log_unit=zero)

    @staticmethod
    def view_error(view: ErrorView, tolerances: Tolerances) -> ErrorView:
        def measured(state):
            return BlockPolarState(
                direction=jnp.ones_like(state.direction),
                log_growths=jnp.ones_like(state.log_growths),
                elapsed=size_of_elapsed(state.elapsed),
                log_unit=jnp.ones_like(state.log_unit),
            )

        return ErrorView(measured(view.before), measured(view.after), view.error)

    @staticmethod
    def error_norm(scaled_error: Any) -> Float[Array, ""]:
        """The largest relative error of any block counts, not a mean over all."""
        parts = (scaled_error.direction, scaled_error.log_growths, scaled_error.elapsed)
        return jnp.max(jnp.stack([jnp.max(jnp.abs(part)) for part in parts]))

    @property
    def _polar(self) -> PolarFlow:
        return PolarFlow(self.network, self.task, self.order)  # pyright: ignore

    def _norms(self, vector):
        squares = jax.ops.segment_sum(vector**2, self.block, self.num_blocks)
        return jnp.sqrt(squares)

    def _units(
        self, state: BlockPolarState
    ) -> tuple[Float[Array, " parameters"], Bool[Array, " blocks"]]:
        """Every `v_b`, with the drift of its norm taken out, and which blocks are zero."""
        norms = self._norms(state.direction)
        return ratio(state.direction, norms[self.block]), norms == 0

    def _shares(self, state, log_growth, empty) -> Float[Array, " parameters"]:
        """`e^(ρ_b - ρ)` for every parameter; zero in a block of zeros."""
        shares = jnp.where(empty, 0.0, jnp.exp(state.log_growths - log_growth))
        return shares[self.block]

    def true_outputs(
        self, state: BlockPolarState, args: Float[Array, ""]
    ) -> Float[Array, "n out"]:
        """`H(x; w)` of all samples."""
        return self._polar.true_outputs(self._as_one(state), args)

    def _as_one(self, state: BlockPolarState) -> PolarState:
        """The same weights with one log-norm and one direction for all."""
        units, empty = self._units(state)
        largest = jnp.max(jnp.where(empty, -jnp.inf, state.log_growths))
        largest = jnp.where(jnp.all(empty), 0.0, largest)
        shares = self._shares(state, largest, empty)
        log_norm, direction = growth_and_direction(shares * units)
        return PolarState(direction, largest + log_norm, state.elapsed, state.log_unit)


def block_polar_flow(
    network: eqx.Module, task: AbstractTask, order: int | float, block: np.ndarray
) -> BlockPolarFlow:
    """The flow for these blocks, numbered from zero."""
    numbers = jnp.asarray(block, jnp.int32)
    count = int(block.max()) + 1
    return BlockPolarFlow(network, task, order, numbers, count)  # pyright: ignore
