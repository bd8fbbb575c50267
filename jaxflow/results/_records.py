"""The parts of a solution."""

import dataclasses
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Stats:
    """What each member cost. Arrays (num,), or scalars for a single network."""

    num_steps: np.ndarray
    """Attempted steps."""
    num_accepted: np.ndarray
    """Steps accepted."""
    num_rejected: np.ndarray
    """Steps rejected, those cut short to land on a stop condition included."""
    num_vjps: np.ndarray | None
    """Vector-Jacobian products of the network, those for spectral radii included; `None`
    where the solver does not count its evaluations (diffrax's implicit methods)."""
    num_stabilized: np.ndarray | None = None
    """Accepted steps that a stabilized method made; `None` with other solvers."""
    num_power_iterations: np.ndarray | None = None
    """Vector-Jacobian products that went into spectral radii; `None` with other solvers."""


@dataclasses.dataclass(frozen=True)
class Records:
    """What was recorded along the way."""

    over: str
    """The quantity along which the grid runs, such as `"rescaled_time"`."""
    grid: np.ndarray
    """(points,), or (num, points) where every member had a grid of its own."""
    values: Mapping[str, np.ndarray]
    """By name, (num, points, …); NaN at points that a member did not reach."""
    dims: Mapping[str, tuple[str, ...]]
    """By name, what the axes after `points` are, such as `("layer",)`."""
