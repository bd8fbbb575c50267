"""The Riemannian Hessian at a KKT point, and how many directions ascend from it."""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._compiled import compiled
from .._rows import map_rows
from ..flows import ncf
from ..networks import unflattener
from ._finish import Finish
from ._objective import AbstractObjective

_ZERO = 1e-6
"""Share of `λ` below which an eigenvalue counts as zero. Chosen; spectra are tested against
differences along geodesics."""

_DEPENDENT = 1e-8
"""Relative singular value below which constraints depend on each other: about the square
root of double rounding. Chosen."""


class SecondOrder(NamedTuple):
    """What decides whether a KKT point attracts."""

    spectrum: np.ndarray
    """Eigenvalues of `P (∇²N - λI) P` on the tangent space, largest first."""
    index: int
    """The number of ascent directions."""
    num_kinks: int
    """The number of samples that are on the kink of an active neuron."""
    gap: float
    """How far below zero, as a share of `λ`, the nearest eigenvalue is that is not zero."""


def second_order(objective: AbstractObjective, point: Finish) -> SecondOrder:
    """The spectrum and the index of one KKT point.

    On kinks `N` is smooth along the surface on which the same pre-activations vanish, and
    the spectrum is that of its Hessian there. Away from it `N` is tried: on either side
    of every kink, and of all kinks of one sample in a layer together. Each sample and layer
    with a side on which `N` rises adds a direction of ascent. Inactive neurons are left out
    where there are kinks: `N` is not differentiable twice at their zero weights.

    Arguments:
        point: as `finish` gives it, in NumPy.

    Returns:
        A `SecondOrder`.
    """
    vector = point.vector.astype(np.float64)
    columns, rises, gradient, parameters, pairs = map(
        np.asarray, _derivatives(objective, point.vector, point.slopes)
    )
    multiplier = float(vector @ gradient)
    rows, groups = rises.T.astype(np.float64), objective.groups()
    # Where a layer's input is zero, its pre-activations are zero whatever its weights: such
    # kinks are no constraints.
    kinked = point.kinked & pairs & (np.linalg.norm(rows, axis=1) > _DEPENDENT)
    constraints = [vector[None], rows[kinked], np.eye(len(vector))[~parameters]]
    basis = _null_space(np.concatenate(constraints))
    hessian = (columns + columns.T) / 2 - multiplier * np.eye(len(vector))
    spectrum = np.linalg.eigvalsh(basis.T @ hessian @ basis)[::-1]
    ascending = int(np.sum(spectrum > _ZERO * abs(multiplier)))
    groups = groups[kinked]
    if len(groups):
        ascending += _rising(objective, point, rows[kinked], groups, multiplier)
    samples = np.unique(groups % objective.task.num_samples)
    below = -spectrum / abs(multiplier)
    gap = np.min(below[below > _ZERO], initial=np.inf)
    return SecondOrder(spectrum, ascending, len(samples), float(gap))


def padded(found: Sequence[SecondOrder]) -> np.ndarray | None:
    """The spectra of several points, with NaN behind the shorter ones."""
    most = max((len(point.spectrum) for point in found), default=0)
    fill = lambda row: np.pad(row, (0, most - len(row)), constant_values=np.nan)
    return np.array([fill(point.spectrum) for point in found]) if found else None


def _rising(objective, point: Finish, rows, groups, multiplier: float) -> int:
    """The number of groups of kinks on some side of which `N` rises."""
    vector = point.vector
    off = np.linalg.pinv(rows, rcond=_DEPENDENT).T  # from one kink, staying on the others
    together = [off[groups == group].sum(axis=0) for group in np.unique(groups)]
    directions = np.concatenate([off, together])
    directions -= np.outer(directions @ vector, vector)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    length = float(np.finfo(vector.dtype).eps) ** 0.25
    tried = vector + length * np.concatenate([directions, -directions])
    tried /= np.linalg.norm(tried, axis=1, keepdims=True)
    value = eqx.Partial(_value, objective.network, objective.task)
    values = map_rows(value, tried.astype(vector.dtype))
    rises = (values - point.value) / length > 10 * length * abs(multiplier)
    belongs = np.tile(np.concatenate([groups, np.unique(groups)]), 2)
    return len(np.unique(belongs[rises]))


def _value(network, task, row):
    return ncf(unflattener(network)(row), task)


@compiled
def _derivatives(objective, vector, slopes):
    """The Hessian and the derivatives of the heights, a parameter in each row."""
    gradient = lambda v: objective.gradient(v, slopes)
    heights = lambda v: objective.heights(v, slopes).share

    def along(direction):
        _, column = jax.jvp(gradient, (vector,), (direction,))
        _, rise = jax.jvp(heights, (vector,), (direction,))
        return column, rise

    columns, rises = jax.vmap(along)(jnp.eye(vector.size, dtype=vector.dtype))
    active = objective.active(vector)
    return columns, rises, gradient(vector), *active


def _null_space(rows: np.ndarray) -> np.ndarray:
    """An orthonormal basis of the vectors that all rows are orthogonal to."""
    _, values, right = np.linalg.svd(rows)
    return right[np.sum(values > _DEPENDENT * values[0]) :].T
