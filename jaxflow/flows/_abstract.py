"""What a flow is, and what it shows of a member at one moment."""

import abc
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, Real

from ..solvers import ErrorView, Tolerances


class Snapshot(eqx.Module):
    """A member at one moment, in quantities that do not depend on the coordinates.

    Stop conditions and recorders read it. Under `jit`, what nobody reads is not computed.
    """

    clock: Real[Array, ""]
    direction: Float[Array, " parameters"]  # w/‖w‖, of unit norm
    log_norm: Float[Array, ""]  # log ‖w‖ (of ‖u‖ = ‖w‖/δ in the limit δ → 0)
    rescaled_time: Float[Array, ""]  # s = δ^(L-2) t
    log_time: Float[Array, ""]  # log t
    loss: Float[Array, ""]
    gradient_norm: Float[Array, ""]  # ‖g‖, the length of the flow's own gradient
    turning_rate: Float[Array, ""]  # ‖g - ⟨v, g⟩ v‖, its part that turns the direction
    # How far from a KKT point of the margin problem, infinite before the loss separates the
    # data; None for losses without margins and in coordinates that do not get that far.
    margin_residual: Float[Array, ""] | None = None
    # Only of a flow that is watched (`WatchedFlow`):
    log_gradient: Float[Array, ""] | None = None  # log ‖∇𝓛(w)‖
    gradient_rate: Float[Array, ""] | None = None  # d log ‖∇𝓛(w)‖ / dτ


class AbstractFlow(eqx.Module):
    """A vector field on a state, with a way out. It knows nothing of batches.

    `clock` is the flow's own time; `args` is what differs from member to member and stays
    fixed along the flow (for networks: the logarithm of the initialization scale).
    """

    @abc.abstractmethod
    def vector_field(self, clock: Real[Array, ""], state: Any, args: Any) -> Any:
        """`d state / d clock`."""

    @abc.abstractmethod
    def snapshot(self, clock: Real[Array, ""], state: Any, velocity: Any, args: Any) -> Any:
        """The member at this moment; `velocity` is the vector field there."""

    @abc.abstractmethod
    def clock_at_rescaled_time(
        self, rescaled_time: Float[Array, ""], args: Any
    ) -> Float[Array, ""] | None:
        """The clock at a rescaled time, or `None` where only integration can tell."""

    @abc.abstractmethod
    def clock_at_log_time(
        self, log_time: Float[Array, ""], args: Any
    ) -> Float[Array, ""] | None:
        """The clock at a physical time, or `None` where only integration can tell."""


class AbstractNetworkFlow(AbstractFlow):
    """A flow of the parameters of a network: it also has a way in, and a sense of error."""

    network: eqx.AbstractVar[eqx.Module]  # any member; only its structure is read

    @abc.abstractmethod
    def enter(self, network: eqx.Module, args: Float[Array, ""]) -> Any:
        """The state that stands for the weights `δ w₀` of one network, `args = log δ`."""

    @staticmethod
    @abc.abstractmethod
    def drives(state: Any) -> Any:
        """One for components that others depend on, zero for such as a clock."""

    @staticmethod
    @abc.abstractmethod
    def view_error(view: ErrorView, tolerances: Tolerances) -> ErrorView:
        """The states and the error of a step as step-size control should see them."""

    @staticmethod
    @abc.abstractmethod
    def error_norm(scaled_error: Any) -> Float[Array, ""]:
        """The size of an error that has been divided by its tolerance."""
