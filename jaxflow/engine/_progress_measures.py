"""What the points of a record are spread over, along a path whose length nobody knows."""

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree, Real

from ..flows import Snapshot

_MOST_GROWTH = 0.05
"""The most that norm and time count in one step. Chosen: in a longer step the solver has
seen nothing but growth along a fixed direction. At δ = 1e-30 a network of order 7 grows by
69 e-folds. Of 60 points its fall of the loss from 0.5 to 0.1 had two where a step counted
up to 0.5 and three with 0.1; with this it has seven, and 13 at δ = 1e-2."""

_MOST_CHANGE = 0.5
"""The most that turning and the loss count in one step. Chosen: one step, such as that in
which a loss becomes zero, cannot count more than all others."""


class AbstractMeasure(eqx.Module):
    """How far a member has come: a number that never falls, told step by step.

    What it has to remember of the path is a pytree of scalars.
    """

    @abc.abstractmethod
    def begin(self, shown: Snapshot) -> PyTree:
        """What it remembers before the first step."""

    @abc.abstractmethod
    def step(
        self, memory: PyTree, before: Snapshot, after: Snapshot
    ) -> tuple[PyTree, Float[Array, ""]]:
        """What it remembers after an accepted step, and how much that step counts. What is
        no number or negative counts nothing."""


class Steps(AbstractMeasure):
    """Every accepted step counts one."""

    def begin(self, shown):
        return ()

    def step(self, memory, before, after):
        return (), jnp.ones((), _dtype(after))


class Along(AbstractMeasure):
    """The change of one quantity.

    Given its name, which is that of a quantity the flow shows.
    """

    quantity: str = eqx.field(static=True)

    def begin(self, shown):
        return ()

    def step(self, memory, before, after):
        change = after[self.quantity] - before[self.quantity]
        return (), jnp.abs(change).astype(_dtype(after))


class AlongLogTime(AbstractMeasure):
    """The change of `log(t + t₁)`, with `t₁` the end of the first step.

    Given the name of the quantity that is the time or its logarithm.
    """

    quantity: str = eqx.field(static=True)

    def begin(self, shown):
        return _Time.unknown(shown)

    def step(self, memory, before, after):
        memory = memory.seen(log_of_time(after, self.quantity))
        change = memory.log_since(after, self.quantity) - memory.log_since(
            before, self.quantity
        )
        return memory, change


class Change(AbstractMeasure):
    """The relative change of weights, loss and time.

        dp = min(|dρ| + d log(t + t₁), 1/20) + min(‖dv‖ - d log min 𝓛, 1/2)

    in every step, with `w = e^ρ v`, `‖v‖ = 1`, `min 𝓛` the least loss so far and `t₁` the
    end of the first step. A turn by one radian counts as much as an e-fold of the loss, at
    every scale. Steps in which nothing changes count nothing, as those of an explicit
    method on a plateau; steps in which only the norm grows, or time passes, count the less
    the longer they are. So points are dense where steps are short because much happens.

    Given the quantity that is the time or its logarithm, and whether the flow shows a loss.
    """

    time: str | None = eqx.field(static=True)
    has_loss: bool = eqx.field(static=True)

    def begin(self, shown):
        return _Time.unknown(shown), self._log_loss(shown)

    def step(self, memory, before, after):
        time, least = memory
        assert before.direction is not None and after.direction is not None
        growth = jnp.abs(_number(after.log_norm - before.log_norm))
        if self.time is not None:
            time = time.seen(log_of_time(after, self.time))
            since = time.log_since(after, self.time) - time.log_since(before, self.time)
            growth = growth + _number(since)
        log_loss = self._log_loss(after)
        change = _number(jnp.linalg.norm(after.direction - before.direction))
        change = change + _number(jnp.maximum(least - log_loss, 0.0))
        memory = time, jnp.fmin(least, log_loss)
        change = jnp.minimum(change, _MOST_CHANGE)
        return memory, jnp.minimum(growth, _MOST_GROWTH) + change

    def _log_loss(self, shown: Snapshot) -> Float[Array, ""]:
        dtype = _dtype(shown)
        if not self.has_loss:
            return jnp.zeros((), dtype)
        return jnp.log(jnp.maximum(shown["loss"], jnp.finfo(dtype).tiny)).astype(dtype)


class _Time(NamedTuple):
    """When the first step ended, as soon as that is known."""

    known: Bool[Array, ""]
    log_first: Float[Array, ""]

    @classmethod
    def unknown(cls, shown: Snapshot) -> "_Time":
        return cls(jnp.zeros((), bool), jnp.zeros((), _dtype(shown)))

    def seen(self, log_time: Float[Array, ""]) -> "_Time":
        first = jnp.where(self.known, self.log_first, log_time.astype(self.log_first.dtype))
        return _Time(jnp.ones((), bool), first)

    def log_since(self, shown: Snapshot, quantity: str) -> Float[Array, ""]:
        log_time = log_of_time(shown, quantity).astype(self.log_first.dtype)
        return jnp.logaddexp(log_time, self.log_first)


def log_of_time(shown: Snapshot, quantity: str) -> Real[Array, ""]:
    """The logarithm of a time, which may be shown as such."""
    return shown[quantity] if quantity.startswith("log_") else jnp.log(shown[quantity])


def _number(value: Any) -> Any:
    return jnp.where(jnp.isfinite(value), value, 0.0)


def _dtype(shown: Snapshot) -> Any:
    return jnp.result_type(*shown.quantities.values())
