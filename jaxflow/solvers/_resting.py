"""Whether a path goes on, or only back and forth about a kink.

At a minimum on a kink the gradient does not vanish. An explicit method steps across the
kink, back, and across again, and no tolerance brings it to rest; but neither does it get
anywhere.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._arrays import ratio, select

_LONG = 1000
"""Steps after which a path that has got nowhere rests. Chosen: one that gets on by a
hundredth of what its steps are long leaves the place in that many."""

_NEAR = 10.0
"""A path has got nowhere while it is within so many mean steps of a place. Chosen: one that
runs ahead leaves it after ten steps, a random walk after a hundred."""


class Resting(NamedTuple):
    """A place on the path of a direction, and how long the path has been about it."""

    place: Float[Array, " parameters"]
    length: Float[Array, ""]  # of the path since
    count: Int[Array, ""]  # accepted steps since

    @property
    def rests(self) -> Bool[Array, ""]:
        return self.count >= _LONG

    def after(self, before: Any, end: Any) -> "Resting":
        """The same after a step from weights `before` to weights `end`."""
        here = _direction(end)
        length = self.length + jnp.linalg.norm(here - _direction(before))
        count = self.count + 1
        away = jnp.linalg.norm(here - self.place)
        is_near = away * count.astype(away.dtype) <= _NEAR * length
        return select(is_near, Resting(self.place, length, count), resting_at(end))


def resting_at(weights: Any) -> Resting:
    """The memory of a path that has just come there."""
    place = _direction(weights)
    return Resting(place, jnp.zeros((), place.dtype), jnp.zeros((), jnp.int32))


def _direction(weights):
    return ratio(weights, jnp.linalg.norm(weights))
