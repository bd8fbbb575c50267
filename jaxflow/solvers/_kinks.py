"""What is remembered of the kinks that a path crosses: who switched, and how long ago.

A *pair* is a place where the vector field jumps as something changes sign, such as the
pre-activation of a neuron on a sample. It *switches* in a step if not all points at which
the field was evaluated are on the same side. A step *slides* if a pair switches in it that
has switched in two of the ten steps before.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int8

Sides = Callable[[Any, Any], Bool[Array, "*pairs"]]
"""Of a state and a member's `args`."""

_MEMORY = 10
"""Steps after which a switch is forgotten: a pair that switches a third time before that
slides. Chosen; the table in docs/guides/solvers.md (Kinks), by scripts/kinks.py, has it."""


class KinkMemory(NamedTuple):
    """What is known at the start of a step."""

    sides: Bool[Array, "*pairs"]  # on which side of its kink each pair is
    last: Int8[Array, "*pairs"]  # accepted steps since the last switch
    before: Int8[Array, "*pairs"]  # since the last but one

    def slides(self, switched: Bool[Array, "*pairs"]) -> Bool[Array, ""]:
        """Whether a step slides in which these pairs switched."""
        return jnp.any(switched & (self.before < _MEMORY))

    def after(
        self, sides: Bool[Array, "*pairs"], switched: Bool[Array, "*pairs"]
    ) -> "KinkMemory":
        """The memory after an accepted step that ends on these `sides`."""
        return KinkMemory(
            sides,
            last=jnp.where(switched, jnp.int8(0), _older(self.last)),
            before=_older(jnp.where(switched, self.last, self.before)),
        )


def no_switch_yet(sides: Bool[Array, "*pairs"]) -> KinkMemory:
    """The memory before the first step."""
    never = jnp.full(sides.shape, _MEMORY, jnp.int8)
    return KinkMemory(sides, never, never)


def switched_in_stages(
    memory: KinkMemory,
    sides: Callable[[Any], Bool[Array, "*pairs"]],
    tableau: diffrax.ButcherTableau,
    start: Any,
    end_sides: Bool[Array, "*pairs"],
    increments: Any,
) -> Bool[Array, "*pairs"]:
    """Which pairs have not the same side at all stages of an explicit step.

    The states of the stages are computed again from the increments `h k_i`, and the network
    with them: a compiler that sees both computations does each once.
    """
    switched = end_sides != memory.sides
    for row in tableau.a_lower[: -1 if tableau.ssal else None]:
        stage = jax.tree_util.tree_map(
            lambda y, k, row=row: y + _combination(row, k), start, increments
        )
        switched |= sides(stage) != memory.sides
    return switched


def _combination(row, increments):
    terms = [float(a) * increments[j] for j, a in enumerate(row) if a != 0]
    return sum(terms[1:], start=terms[0])


def _older(age):
    return jnp.minimum(age + 1, _MEMORY).astype(jnp.int8)
