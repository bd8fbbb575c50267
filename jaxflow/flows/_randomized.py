"""Flows that draw random numbers: every member has a stream of its own."""

import abc
from typing import NamedTuple

import diffrax
import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray, Real, UInt32

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

    A subclass gives the terms of its equation. How members come in, what they look like and
    where their clock stands is that of the flow without noise.
    """

    without_noise: eqx.AbstractVar[AbstractNetworkFlow]

    @abc.abstractmethod
    def terms(self, args: Randomized) -> diffrax.AbstractTerm:
        """What a solver integrates for one member."""

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

    def clock_at_rescaled_time(self, rescaled_time, args: Randomized):
        return self.without_noise.clock_at_rescaled_time(rescaled_time, args.log_scale)

    def clock_at_log_time(self, log_time, args: Randomized):
        return self.without_noise.clock_at_log_time(log_time, args.log_scale)
