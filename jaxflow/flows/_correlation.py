"""The neural correlation function, its gradient, and its flow in polar coordinates.

    N_r(w) = Σ_i ⟨r_i, H(x_i; w)⟩,    ∇N_r(w) = Σ_i J_i(w)ᵀ r_i.

With `r_i = z_i = -ℓ'(0, y_i)` it is the neural correlation function `N`, whose flow is the
limit δ → 0 of gradient flow: the direction follows Riemannian gradient ascent of `N` on the
unit sphere, whose rest points are the KKT points of the constrained problem. With
`r_i = -ℓ'(H(x_i; w_s), y_i)` it is what the weights that are still small follow, to leading
order, at a saddle `w_s`.

The log-norm here is that of `u = w/δ`, and `s` measures the time, which ends at the blow-up
time `T*` where `u` becomes infinite.
"""

import abc

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Real

from .._arrays import ratio
from ..networks import flatten, parameter_dtype
from ..tasks import AbstractTask
from ._abstract import Snapshot
from ._cartesian import TIMES
from ._elapsed import log_rescaled_time
from ._fit import fitted
from ._geometry import safe_norm
from ._gradients import outputs_and_pull, outputs_at, pull_back, where_defined
from ._polar import (
    AbstractPolarFlow,
    polar_snapshot,
    polar_state,
    polar_velocity,
    PolarGradient,
    PolarState,
    SHOWN_IN_POLAR,
    unit,
)
from ._sides import sides_of_outputs


def ncf(network: eqx.Module, task: AbstractTask) -> Float[Array, ""]:
    """The neural correlation function `N(w) = Σ_i ⟨z_i, H(x_i; w)⟩`.

    With `z_i = -ℓ'(0, y_i)`: `y_i` for the square loss, `y_i/2` for the logistic, `y_i`
    for the exponential. Near the origin `-∇𝓛(w) ≈ ∇N(w)`.

    Arguments:
        network: one network, called on one sample.
        task: the data and the loss.

    Returns:
        `N(w)`, a scalar.

    Raises:
        InputError: for arguments that do not fit, such as an ensemble.

    Source:
        arXiv:2403.08121, section 3 (neural correlation function).

    Examples:
        >>> import jax, jax.numpy as jnp, jaxflow as jf
        >>> network = jf.FeedForward((2, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> task = jf.Task(jnp.eye(2), jnp.array([1.0, 0.0]))
        >>> bool(jf.ncf(network, task) == network.weights[0][0, 0])
        True
    """
    task = fitted(network, task)
    outputs = task.outputs(network)
    return jnp.sum(task.correlation_weights(outputs) * outputs)


def ncf_gradient(network: eqx.Module, task: AbstractTask) -> Float[Array, " parameters"]:
    """`∇N(w)` as one vector, in the order of the network's leaves."""
    task = task.astype(parameter_dtype(network)).shaped_for(network)
    return pull_back(network, task, flatten(network), task.correlation_weights)


class AbstractCorrelationFlow(AbstractPolarFlow):
    """`du/ds = ∇N_r(u)` in polar coordinates. A subclass gives the residual `r`."""

    network: eqx.AbstractVar[eqx.Module]
    task: eqx.AbstractVar[AbstractTask]
    order: eqx.AbstractVar[int | float]

    @property
    def sides(self):
        return sides_of_outputs(self.network, self.task, self.weights)

    @abc.abstractmethod
    def residual(self, outputs: Float[Array, "n out"], args) -> Float[Array, "n out"]:
        """`r_i` for every sample; only the shape of `outputs` is read."""

    def enter(self, network: eqx.Module, args) -> PolarState:
        at = lambda state: self._polar_gradient(self.gradient(state, args), state)
        return polar_state(network, at, self.order)

    def vector_field(self, clock: Real[Array, ""], state: PolarState, args) -> PolarState:
        gradient = self._polar_gradient(self.gradient(state, args), state)
        return polar_velocity(state, gradient, self.order)

    def gradient(self, state: PolarState, args) -> Float[Array, " parameters"]:
        """`∇N_r` at the direction."""
        outputs, pull = outputs_and_pull(self.network, self.task, unit(state))
        return where_defined(pull(self.residual(outputs, args)), outputs)

    @staticmethod
    def _polar_gradient(gradient, state: PolarState) -> PolarGradient:
        return PolarGradient(gradient, jnp.zeros_like(state.log_growth))


class CorrelationFlow(AbstractCorrelationFlow):
    """The δ → 0 limit of gradient flow of a homogeneous network of order `L`.

    The loss that it shows is that at the origin. For `L > 2` its time is infinite, and only
    its rescaled time can be stopped at.
    """

    network: eqx.Module
    task: AbstractTask
    order: int | float = eqx.field(static=True)

    @property
    def shows(self) -> tuple[str, ...]:  # pyright: ignore
        times = TIMES if self.order <= 2 else ("rescaled_time",)
        return (*SHOWN_IN_POLAR, *times)

    def residual(self, outputs, args):
        return self.task.correlation_weights(outputs)

    def snapshot(
        self,
        clock: Real[Array, ""],
        state: PolarState,
        velocity: PolarState,
        args: Float[Array, ""],
    ) -> Snapshot:
        outputs = outputs_at(self.network, self.task, unit(state))
        infinite = jnp.full_like(state.elapsed, jnp.inf)
        return polar_snapshot(
            state,
            velocity,
            log_norm=state.log_growth,
            log_time=log_rescaled_time(state.elapsed, state.log_unit)
            if self.order <= 2
            else infinite,
            # That at the origin, though no number where the outputs are none.
            loss=self.task.total_loss(0 * outputs),
            log_pace=jnp.zeros_like(state.log_growth),
        )

    def at_end(self, shown, at_rest):
        return {"blow_up_time": blow_up_time(shown, self.order, at_rest)}


class ResidualFlow(AbstractCorrelationFlow):
    """The flow of `N_r` for a residual of each member's own, which is its `args`.

    The `loss` of a snapshot is `-N_r(v)`, of the direction, and `log_gradient` is that of
    `‖∇N_r(u)‖`. Of the task only the inputs are read.
    """

    network: eqx.Module
    task: AbstractTask
    order: int | float = eqx.field(static=True)
    shows = (*SHOWN_IN_POLAR, *TIMES, "log_gradient")

    def residual(self, outputs, args):
        return args

    def snapshot(
        self,
        clock: Real[Array, ""],
        state: PolarState,
        velocity: PolarState,
        args: Float[Array, "n out"],
    ) -> Snapshot:
        # Without `velocity`, which exact stop conditions are not given.
        gradient = self.gradient(state, args)
        log_size = jnp.log(safe_norm(gradient))
        shown = polar_snapshot(
            state,
            velocity,
            log_norm=state.log_growth,
            log_time=log_rescaled_time(state.elapsed, state.log_unit),
            loss=-jnp.dot(unit(state), gradient) / self.order,
            log_pace=jnp.zeros_like(state.log_growth),
        )
        return shown.showing(log_gradient=log_size + (self.order - 1) * state.log_growth)


def blow_up_time(
    shown: Snapshot, order: int | float, at_rest: Bool[Array, "*members"]
) -> Float[Array, "*members"]:
    """The rescaled time `T*` at which the limit flow reaches infinity, of each member.

    Once the direction rests at a KKT point with multiplier `λ = L N`, the norm grows like
    `e^(λτ)` and what is left of the time is `∫ ‖u‖^(2-L) dτ = ‖u‖^(2-L) / ((L-2) λ)`.
    For `L <= 2`, and for members `at_rest` with `N <= 0`, no time is finite. NaN where the
    direction still turns too fast to tell: while it turns at a relative rate `r`, the
    formula is wrong by a share of order `r²` of the time left; a thousandth is accepted.
    """
    multiplier = shown.growth_rate
    if order <= 2:
        return jnp.full_like(multiplier, jnp.inf)
    positive = multiplier > 0
    left = jnp.exp((2 - order) * shown.log_norm) / (
        (order - 2) * jnp.where(positive, multiplier, 1.0)
    )
    total = shown.rescaled_time + left
    turning = ratio(shown.turning_rate, shown.gradient_norm)
    known = turning**2 * left <= _ACCEPTED * total
    never = jnp.where(at_rest, jnp.inf, jnp.nan)
    return jnp.where(positive, jnp.where(known, total, jnp.nan), never)


_ACCEPTED = 1e-3
"""The largest relative error of `T*` that is given out instead of NaN. Chosen."""
