"""Where the derivative of a function of weights jumps, found in its program.

A derivative can jump only where something is chosen by comparing numbers: by a maximum, an
absolute value, a `where`, a pooling. Each such equation of a program is a *choice*, which
gives its *sides*: booleans, one for every pair of numbers that are compared. Not every
choice is a kink: `max(z, 0)²` and a `logsumexp` that is shifted by its maximum have none.
Whether one is, is measured, by the derivative on both sides of a change. A `LeakyReLU`
knows of itself.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._arrays import on_device, select
from .._compiled import compiled
from ._activations import has_kink, LeakyReLU, Module, replace_leaky_relus
from ._reading import evaluate, Eye

KINK, SMOOTH = "jaxflow_activation_with_a_kink", "jaxflow_activation_without_kink"
"""The names of functions in a program that are a `LeakyReLU`, and that nothing else has."""

_PLACES = 17
"""Places on a path through random weights at which sides are compared. Chosen: what has the
same side at all of them, such as a look for NaN, counts as no kink."""


def marked(network: Module) -> Module:
    """The same network, with calls that can be found in a program for its `LeakyReLU`s."""
    return replace_leaky_relus(network, _named)


def _named(activation: LeakyReLU) -> Callable:
    if activation.slope == 1 or activation.smoothing > 0:
        return activation  # compares nothing, or is told a radius by its layer

    def call(z):
        return activation(z)

    call.__name__ = KINK if has_kink(activation) else SMOOTH
    return jax.jit(call)


def choices(function: Callable[[Any], Any], weights: Any) -> tuple[list[Array], bool]:
    """The sides of all choices that a function makes at these weights, and whether all of
    them are known to be kinks."""
    program = jax.make_jaxpr(function)(weights)
    noted: list[Array] = []
    are_known = True

    def sees(equation):
        nonlocal are_known
        known = _of_known_kink(equation)
        found = known or _of_comparison(equation)
        are_known &= found is None or known is not None
        return found

    skips = lambda equation: equation.params.get("name") == SMOOTH
    evaluate(program.jaxpr, program.consts, [weights], Eye(sees, skips, _passed), noted)
    return noted, are_known


def _passed(name: str) -> None:
    """What is compared in a branch, or in a loop of unknown length, is not looked at."""


def _of_known_kink(equation: Any) -> Callable | None:
    if equation.params.get("name") != KINK:
        return None
    return lambda given: given[0].ravel() > 0


def _of_comparison(equation: Any) -> Callable | None:
    name = equation.primitive.name
    (*_, out) = equation.outvars
    if not jnp.issubdtype(out.aval.dtype, jnp.floating):
        return None
    if name == "select_n" and equation.invars[0].aval.dtype == bool:
        return lambda given: jnp.ravel(given[0])
    if name in ("max", "min"):
        return lambda given: jnp.ravel(given[0] > given[1])
    if name in ("abs", "sign"):
        return lambda given: jnp.ravel(given[0] > 0)
    if name == "clamp":
        return lambda given: jnp.ravel(
            jnp.stack([given[1] < given[0], given[1] > given[2]])
        )
    if name in _TAKES:
        return lambda given: jnp.ravel(_taken(equation, given))
    return None


_TAKES = ("reduce_max", "reduce_min", "reduce_window_max", "reduce_window_min")


def _taken(equation: Any, given: Sequence[Any]) -> Array:
    """Which entries a maximum or minimum is, found by its derivative."""

    def apply(operand):
        bound = equation.primitive.get_bind_params(equation.params)
        _, named = bound if isinstance(bound, tuple) else ((), bound)
        return equation.primitive.bind(operand, **named)

    value, pull = jax.vjp(apply, given[0])
    return pull(jnp.ones_like(value))[0] != 0


def kinks(
    function: Callable[[Any, Any], Float[Array, "..."]], data: Any, weights: Any
) -> tuple[int, ...]:
    """Which choices of a function are kinks, by their places in `choices`.

    Arguments:
        function: of (`data`, weights).
        weights: of its shape, of which the size of the entries is read.
    """
    at = lambda w: choices(lambda w: function(data, w), w)
    known: list[bool] = []
    shapes = jax.eval_shape(lambda w: _noting(at(w), known), weights)
    if all(known):
        return tuple(range(len(shapes)))
    sizes = [shape.size for shape in shapes]
    found = {
        place
        for factor in _SIZES
        for place in _kinks_on(function, data, _ends(weights, factor), sizes)
    }
    return tuple(sorted(found))


_SIZES = (1.0, 3.0, 10.0, 30.0)
"""Random weights are so many times as large as those given. Chosen: with small ones a
recurrent network forgets what it compared, and no margin is large enough for a hinge."""


def _ends(weights: Any, factor: float) -> np.ndarray:
    """Random weights, from which a path leads straight to others: (2, …)."""
    random = np.random.default_rng(0)
    size = factor * float(np.sqrt(np.mean(np.square(np.asarray(weights))))) or factor
    return (size * random.standard_normal((2, *np.shape(weights)))).astype(weights.dtype)


def _kinks_on(function, data, ends: np.ndarray, sizes: Sequence[int]) -> list[int]:
    """Which choices, of so many pairs each, are seen to be kinks on a path."""
    shares = np.linspace(0, 1, _PLACES, dtype=ends.dtype)
    path = on_device(ends)
    seen = np.asarray(_sides_on(function, data, path, on_device(shares)))

    def jumps(place: int, pair: int) -> bool:
        between = on_device(shares[place : place + 2])
        return bool(
            _jumps_between(function, data, path, between, on_device(pair, np.int32))
        )

    found, first = [], 0
    for choice, size in enumerate(sizes):
        sides = seen[:, first : first + size]
        changes = np.argwhere(sides[1:] != sides[:-1])
        if len(changes):
            some = np.unique(np.linspace(0, len(changes) - 1, _CHANGES).astype(int))
            chosen = changes[some].tolist()
            if any(jumps(place, first + pair) for place, pair in chosen):
                found.append(choice)
        first += size
    return found


_CHANGES = 6
"""How many changes are looked at. Chosen: in a deep network, and in a recurrent one, some
pairs hardly matter, but not all."""


def _noting(found: tuple[Any, bool], known: list[bool]) -> Any:
    sides, are_known = found
    known.append(are_known)
    return sides


@compiled
def _sides_on(function, data, ends, shares):
    """The sides of all choices, one after another, at these places on a path."""
    return jax.lax.map(lambda share: _sides_at(function, data, _at(ends, share)), shares)


@compiled
def _jumps_between(function, data, ends, between, pair):
    """Whether the derivative is another after a change of a pair's side."""

    def look(share):
        at = _at(ends, share)
        outputs, pull = jax.vjp(lambda w: function(data, w), at)
        mix = jnp.cos(jnp.arange(outputs.size, dtype=outputs.dtype))
        return pull(mix.reshape(outputs.shape))[0], _sides_at(function, data, at)[pair]

    low, high = between
    (before, side), (after, _) = look(low), look(high)

    def halve(_, path):
        low, high, before, after = path
        middle = (low + high) / 2
        derivative, found = look(middle)
        nearer = middle, high, derivative, after
        return select(found == side, nearer, (low, middle, before, derivative))

    eps = float(jnp.finfo(before.dtype).eps)
    num = round(-np.log2(eps)) - _SPARED
    *_, before, after = jax.lax.fori_loop(0, num, halve, (low, high, before, after))
    return jnp.linalg.norm(after - before) > eps**0.5 * jnp.linalg.norm(before)


def _at(ends, share):
    return (1 - share) * ends[0] + share * ends[1]


def _sides_at(function, data, weights):
    return jnp.concatenate(choices(lambda w: function(data, w), weights)[0])


_SPARED = 8
"""How many digits, of two each, are left of the share when both sides are compared. There a
smooth derivative changes by a few hundred roundings, and the root of one counts as a jump.
Chosen: a neuron on one of a million samples shows in double precision."""
