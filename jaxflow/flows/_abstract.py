"""What a flow is, and what it shows of a member at one moment."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Bool, Float, PyTree, Real

from ..networks import MemberNumber
from ..solvers import ErrorView, Tolerances


class Snapshot(eqx.Module):
    """A member at one moment, in quantities that do not depend on the coordinates.

    Stop conditions and recorders read it: `shown.loss` and `shown["loss"]` are the same.
    Under `jit`, a quantity that is not read is not computed. Outside of traces a snapshot
    may hold many members, in NumPy arrays with a leading axis.
    """

    direction: Float[Array, " parameters"] | None
    """`w/‖w‖`, of unit norm; `None` where the flow is not one of a network."""
    quantities: dict[str, Real[Array, ""]]
    """By their names (`jaxflow.quantities`)."""

    def __getitem__(self, name: str) -> Any:
        try:
            return self.quantities[name]
        except KeyError:
            raise NotShownError(name, tuple(self.quantities)) from None

    def __getattr__(self, name: str) -> Any:
        # Called for names that are no fields. While a module is being made it has none, not
        # even `quantities`.
        if name.startswith("__") or "quantities" not in vars(self):
            raise AttributeError(name)
        return self[name]

    def showing(self, **more: Real[Array, ""]) -> "Snapshot":
        """The same with more quantities."""
        return Snapshot(self.direction, {**self.quantities, **more})


class NotShownError(AttributeError):
    """A quantity was asked for that the flow does not show."""

    def __init__(self, name: str, shown: tuple[str, ...]):
        self.missing = name
        super().__init__(f"{name!r} is not shown by this flow, which shows {list(shown)}")


def snapshot(
    direction: Float[Array, " parameters"] | None, **quantities: Real[Array, ""]
) -> Snapshot:
    """A snapshot of these quantities, and of the `time` where `log_time` is among them."""
    if "log_time" in quantities and "time" not in quantities:
        quantities["time"] = jnp.exp(quantities["log_time"])
    return Snapshot(direction, quantities)


class AbstractFlow(eqx.Module):
    """A vector field on a state, with a way out. It knows nothing of batches.

    `clock` is the flow's own time; `args` is what differs from member to member and stays
    fixed along the flow (for networks: the logarithm of the initialization scale).
    """

    repeatable: ClassVar[bool] = True
    """Whether a step may be tried again with another length, as without noise."""

    shows: ClassVar[tuple[str, ...]]
    """The quantities that stop conditions may look at and records may run over."""

    def hint(self, quantity: str) -> str | None:
        """Why a quantity is not shown, for the message of an error."""
        return None

    @abc.abstractmethod
    def vector_field(self, clock: Real[Array, ""], state: Any, args: Any) -> Any:
        """`d state / d clock`."""

    @abc.abstractmethod
    def snapshot(
        self, clock: Real[Array, ""], state: Any, velocity: Any, args: Any
    ) -> Snapshot:
        """The member at this moment; `velocity` is the vector field there."""

    @abc.abstractmethod
    def clock_at(
        self, quantity: str, value: Float[Array, ""], args: Any
    ) -> Float[Array, ""] | None:
        """The clock where a quantity has a value; `None` if only integration can tell."""

    def terms(self, args: Any) -> diffrax.AbstractTerm:
        """What a solver integrates for a member with these `args`."""
        return diffrax.ODETerm(self.vector_field)  # pyright: ignore[reportArgumentType]


class MemberStart(NamedTuple):
    """What a flow makes a member's `args` from; of many with a leading axis of members."""

    log_scale: Any
    number: MemberNumber
    arrays: tuple[Any, ...] = ()  # of the member's own, beside its weights


class AbstractNetworkFlow(AbstractFlow):
    """A flow of a network's parameters: it also has a way in, and a measure of errors."""

    network: eqx.AbstractVar[eqx.Module]
    """Any member; only its structure is read."""

    @abc.abstractmethod
    def enter(self, network: eqx.Module, args: Any) -> Any:
        """The state that stands for the weights `δ w₀` of one network."""

    @staticmethod
    @abc.abstractmethod
    def weights(state: Any) -> Float[Array, " parameters"]:
        """The weights at which the flow evaluates its network, up to their norm."""

    @staticmethod
    @abc.abstractmethod
    def drives(state: Any) -> Any:
        """One for components that others depend on, zero for such as a clock."""

    @property
    def sides(self) -> Callable[[Any, Any], Bool[Array, " pairs"]] | None:
        """A function of (state, args) that tells for everything at which the vector field
        jumps, such as a neuron on a sample, on which side of its kink it is; `None` where
        nothing is known to jump."""
        return None

    @staticmethod
    @abc.abstractmethod
    def view_error(view: ErrorView, tolerances: Tolerances) -> ErrorView:
        """The states and the error of a step as step-size control should see them."""

    @staticmethod
    @abc.abstractmethod
    def error_norm(scaled_error: Any) -> Float[Array, ""]:
        """The size of an error that has been divided by its tolerance."""

    def member_args(self, log_scale: Float[Array, ""], number: MemberNumber) -> Any:
        """The `args` of one member, from `log δ` and the member's number."""
        return log_scale

    @property
    def example_arrays(self) -> tuple[Any, ...]:
        """Arrays of a member's own, as of one of them."""
        return ()

    def args_of(self, start: MemberStart) -> Any:
        """The `args` of one member."""
        return self.member_args(start.log_scale, start.number)

    def at_end(self, shown: Snapshot, at_rest: Array) -> dict[str, Float[Array, ""]]:
        """Final values that only this flow has, by the name of their column."""
        return {}


class AbstractPlainFlow(AbstractNetworkFlow):
    """A network's flow whose errors are those of the state, entry by entry.

    The state is any pytree of arrays; a subclass gives the field, the way in and out.
    """

    @staticmethod
    def drives(state: PyTree) -> PyTree:
        return jax.tree_util.tree_map(jnp.ones_like, state)

    @staticmethod
    def view_error(view: ErrorView, tolerances: Tolerances) -> ErrorView:
        return view

    @staticmethod
    def error_norm(scaled_error: PyTree) -> Float[Array, ""]:
        return optx.rms_norm(scaled_error)
