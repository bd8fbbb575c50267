"""Knots of a function of one variable: where its slope jumps, and by how much."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from .._checks import check_numbers, check_positive, check_share
from ..errors import InputError
from ..networks import check_one, own_method
from ..tasks import AbstractTask, check_task


class Knots(NamedTuple):
    """What each neuron has of `f'' = Σ_j mass_j δ(x - position_j)`."""

    position: Float[Array, " neurons"]
    """`-b_j/w_j`; infinite for a neuron that does not look at the input."""
    mass: Float[Array, " neurons"]
    """The jump of the slope there, `(1 - α) a_j |w_j|` times the scale of the output."""


def knots(network: eqx.Module, task: AbstractTask | None = None) -> Knots:
    """Where the slope of a piecewise linear function of one variable jumps.

    `f(x) = c Σ_j a_j σ(w_j x + b_j)` with a (leaky) ReLU of slope `α` has
    `f'' = Σ_j c (1 - α) a_j |w_j| δ(x + b_j/w_j)`. `jaxflow.distinct_knots` puts neurons
    together that have one knot.

    Arguments:
        network: one `FeedForward` of two layers with one input and one output, or a module
            with a method `knots()` that gives positions and masses.
        task: not used.

    Returns:
        `Knots`, (neurons,) each: in records `knots_position` and `knots_mass`.

    Raises:
        InputError: for another network, and for an ensemble.

    Examples:
        >>> import equinox as eqx, jax, jax.numpy as jnp, jaxflow as jf
        >>> network = jf.FeedForward(
        ...     (1, 2, 1), jf.LeakyReLU(), biases=True, key=jax.random.key(0)
        ... )
        >>> network = eqx.tree_at(
        ...     lambda n: (n.weights, n.biases),
        ...     network,
        ...     (
        ...         (jnp.array([[2.0], [-1.0]]), jnp.array([[3.0, 1.0]])),
        ...         (jnp.array([1.0, 0.5]),),
        ...     ),
        ... )
        >>> found = jf.knots(network)
        >>> found.position.tolist(), found.mass.tolist()
        ([-0.5, 0.5], [6.0, 1.0])
    """
    check_one(network)
    if task is not None:
        check_task(task)
    own = own_method(network, "knots")
    if own is None:
        expected = "a FeedForward, or a module with a method knots()"
        raise InputError("network", f"a {type(network).__name__}", expected)
    return Knots(*own())


class DistinctKnots(NamedTuple):
    """Knots of one or several functions, by position; NaN where a function has fewer."""

    position: np.ndarray
    """(…, knots), the mean of the positions of its neurons, weighted by their masses."""
    mass: np.ndarray
    """(…, knots), the jump of the slope: the sum of the masses of its neurons."""
    width: np.ndarray
    """(…, knots), the standard deviation of the positions, with the same weights."""
    count: np.ndarray
    """(…,), how many there are."""


def distinct_knots(
    position: Any, mass: Any, *, within: float, share: float = 0.02
) -> DistinctKnots:
    """Neurons that have one knot, put together, and small ones left out.

    The lightest neurons that hold no more than a `share` of all mass, `Σ_j |mass_j|`, are
    left out. Of the others, two that are next to each other have one knot where they are
    not further apart than `within`. A knot counts if its mass is at least that share.

    Arguments:
        position: (…, neurons), of `jaxflow.knots`, of one network or many.
        mass: the same.
        within: a distance, positive.
        share: from 0 to 1.

    Returns:
        `DistinctKnots`, in NumPy.

    Raises:
        InputError: for arguments that do not fit.

    Examples:
        >>> import jaxflow as jf
        >>> found = jf.distinct_knots(
        ...     [0.99, 1.01, 3.0, -2.0], [0.5, 0.5, -1.0, 1e-3], within=0.1
        ... )
        >>> found.position.tolist(), found.mass.tolist(), found.count.tolist()
        ([1.0, 3.0], [1.0, -1.0], 2)
    """
    within, share = check_positive("within", within), check_share("share", share)
    anything = lambda numbers: np.ones(np.shape(numbers), bool)
    places = check_numbers("position", position, "numbers (…, neurons)", anything)
    masses = check_numbers("mass", mass, "numbers (…, neurons)", anything)
    if not places.ndim or places.shape != masses.shape:
        found = f"shape {masses.shape} beside positions of shape {places.shape}"
        raise InputError("mass", found, "one for each position")
    shape = places.shape
    rows = math.prod(shape[:-1]), shape[-1]
    places, masses = places.reshape(rows), masses.reshape(rows)
    masses = np.where(np.isfinite(places) & np.isfinite(masses), masses, 0.0)
    heavy = _heaviest(np.abs(masses), share)
    order: Any = np.argsort(np.where(heavy, places, np.inf), axis=1, kind="stable")
    places, masses, heavy = (
        np.take_along_axis(array, order, axis=1) for array in (places, masses, heavy)
    )
    places, weights = np.where(heavy, places, 0.0), np.where(heavy, np.abs(masses), 0.0)
    far = heavy[:, 1:] & (np.diff(places, axis=1) > within)
    number: Any = np.cumsum(np.pad(far, ((0, 0), (1, 0))), axis=1)[:, : shape[-1]]

    def summed(values: np.ndarray) -> np.ndarray:
        total = np.zeros_like(places)
        np.add.at(total, (np.arange(len(total))[:, None], number), values)
        return total

    net, weight = summed(np.where(heavy, masses, 0.0)), summed(weights)
    over = np.where(weight > 0, weight, 1.0)
    mean = summed(weights * places) / over
    apart = places - np.take_along_axis(mean, number, axis=1)
    width = np.sqrt(summed(weights * apart**2) / over)
    counts = (np.abs(net) >= share * np.sum(np.abs(masses), axis=1)[:, None]) & (net != 0)
    count = np.sum(counts, axis=1)
    order = np.argsort(np.where(counts, 0, 1), axis=1, kind="stable")
    first = order[:, : int(max(count, default=0))]
    shown = np.take_along_axis(counts, first, axis=1)
    position, mass, width = (
        np.where(shown, np.take_along_axis(each, first, axis=1), np.nan).reshape(
            *shape[:-1], first.shape[1]
        )
        for each in (mean, net, width)
    )
    return DistinctKnots(position, mass, width, count.reshape(shape[:-1]))


def _heaviest(weights: np.ndarray, share: float) -> np.ndarray:
    """All but the lightest of each row, which hold no more than a share of its sum."""
    order = np.argsort(weights, axis=1, kind="stable")
    held = np.cumsum(np.take_along_axis(weights, order, axis=1), axis=1)
    keep = np.empty(weights.shape, bool)
    np.put_along_axis(keep, order, held > share * held[:, -1:], axis=1)
    return keep & (weights > 0)
