"""Descent whose optimizer has numbers of each member's own, such as learning rates."""

from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Real, UInt32

from ._abstract import Snapshot
from ._cartesian import AbstractCartesianFlow
from ._descent import DescentFlow, DescentTerm
from ._stochastic_descent import StochasticDescentFlow

Vector = Float[Array, " parameters"]


class Tuned(NamedTuple):
    """What differs from member to member, where rates do as well."""

    args: Any  # of the descent without rates
    rates: tuple[Float[Array, "*members"], ...]


class TunedFlow(AbstractCartesianFlow):
    """A descent whose members bring their rates along; its `args` are `Tuned`.

    Arguments:
        descent: what is tuned.
        rates: of all members, by row.
        first: the lower half of the first member's number.
    """

    descent: DescentFlow | StochasticDescentFlow
    rates: tuple[Float[Array, " num"], ...]
    first: UInt32[Array, ""]

    @property
    def network(self) -> eqx.Module:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.descent.network

    @property
    def shows(self) -> tuple[str, ...]:  # pyright: ignore
        return self.descent.shows

    def member_args(self, log_scale, number):
        row = jnp.asarray(number.low) - self.first
        args = self.descent.member_args(log_scale, number)
        return Tuned(args, tuple(each[row] for each in self.rates))

    def enter(self, network: eqx.Module, args: Tuned) -> Vector:
        return self.descent.enter(network, args.args)

    def vector_field(self, clock: Real[Array, ""], state: Vector, args: Tuned) -> Vector:
        return self.descent.vector_field(clock, state, args.args)

    def loss(self, clock: Real[Array, ""], state: Vector, args: Tuned) -> Float[Array, ""]:
        """The loss that the field is the negative gradient of."""
        return self.descent.loss(clock, state, args.args)

    def terms(self, args: Tuned) -> diffrax.AbstractTerm:
        return DescentTerm(self.vector_field, self.loss)  # pyright: ignore[reportCallIssue]

    def snapshot(
        self, clock: Real[Array, ""], state: Vector, velocity: Vector, args: Tuned
    ) -> Snapshot:
        return self.descent.snapshot(clock, state, velocity, args.args)

    def clock_at(self, quantity, value, args: Tuned):
        return self.descent.clock_at(quantity, value, args.args)
