"""Flows that draw random numbers: every member has a stream of its own."""

from typing import NamedTuple

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray, Real, UInt32

from ..networks import member_key
from ._abstract import AbstractNetworkFlow, Snapshot
from ._cartesian import AbstractCartesianFlow

Vector = Float[Array, " parameters"]


class Randomized(NamedTuple):
    """What differs from member to member, where random numbers do as well."""

    log_scale: Float[Array, "*members"]
    key_data: UInt32[Array, "*members words"]  # as numbers, so that it can be stored

    @property
    def key(self) -> PRNGKeyArray:
        """The random key of one member."""
        return jax.random.wrap_key_data(self.key_data)


class AbstractRandomizedFlow(AbstractCartesianFlow):
    """A flow with noise, made from one without; its `args` are `Randomized`.

    How members come in, what they look like and where their clock stands is that of the
    flow without noise.
    """

    without_noise: eqx.AbstractVar[AbstractNetworkFlow]
    key_data: eqx.AbstractVar[UInt32[Array, " words"]]
    """Of the key from which every member's own is made."""

    @property
    def network(self) -> eqx.Module:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.without_noise.network

    @property
    def shows(self) -> tuple[str, ...]:  # pyright: ignore
        return self.without_noise.shows

    def member_args(self, log_scale, number):
        key = member_key(jax.random.wrap_key_data(self.key_data), number)
        return Randomized(log_scale, jax.random.key_data(key))

    def enter(self, network, args: Randomized) -> Vector:
        return self.without_noise.enter(network, args.log_scale)

    def snapshot(
        self,
        clock: Real[Array, ""],
        state: Vector,
        velocity: Vector,
        args: Randomized,
    ) -> Snapshot:
        return self.without_noise.snapshot(clock, state, velocity, args.log_scale)

    def clock_at(self, quantity, value, args: Randomized):
        return self.without_noise.clock_at(quantity, value, args.log_scale)
