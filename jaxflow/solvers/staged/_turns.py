"""Which kinds of steps are made in an attempt, of lanes side by side that want several."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

_SHARE = 3
"""A dear step is made once one in so many live lanes wants it. Chosen: with `x` steps of
each kind at a cost of `c` each, all take `x_E c_E 3/2 + 3 x_S c_S` where those of the dear
kind are fewer than a third, and `(x_E + x_S)(c_E + c_S)` without waiting, which is more
wherever `c_S >= c_E`. On the problem of scripts/one_million.py `c_S = 2.5 c_E`."""

_PATIENCE = 8
"""Attempts for which a lane waits at most, so that a few in a large ensemble do not wait
for its end. Chosen: what they cost all others is then a third of an attempt."""


class Turns(NamedTuple):
    """A lane among others, which waits for its turn.

    Arguments:
        live: whether it is; `None` if it is alone.
        lanes: the axis of the others, under `jax.vmap`; `None` if it is alone.
    """

    live: Bool[Array, ""] | None
    lanes: str | None

    def any_wants(self, wanted: Bool[Array, ""]) -> Bool[Array, ""]:
        """Whether any live lane does: the same for all of them."""
        return self._count(wanted) > 0

    def enough_want(
        self, wanted: Bool[Array, ""], waited: Int[Array, ""]
    ) -> Bool[Array, ""]:
        """Whether it is worth its cost, and how long each has waited: the same for all."""
        count, among = self._count(wanted), self._count(jnp.ones_like(wanted))
        enough = (count > 0) & (_SHARE * count >= among)
        return enough | self.any_wants(wanted & (waited >= _PATIENCE))

    def _count(self, wanted: Bool[Array, ""]) -> Int[Array, ""]:
        if self.live is not None:
            wanted = wanted & self.live
        count = wanted.astype(jnp.int32)
        return count if self.lanes is None else jax.lax.psum(count, self.lanes)
