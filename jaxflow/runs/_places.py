"""Where along its path a member is looked at: at the points of a grid, or so many times."""

import abc
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from ..engine import (
    AbstractMeasure,
    AbstractObserver,
    Along,
    AlongLogTime,
    Change,
    grid_recordings,
    GridObserver,
    path_recordings,
    PathObserver,
    Problem,
    Steps,
)
from ..quantities import CLOCKS
from ..results import Records
from ._numbers import of_rows


class AbstractPlaces(abc.ABC):
    """What the engine is asked to look at, and what becomes of that."""

    @abc.abstractmethod
    def observer(self, observe: Callable) -> AbstractObserver:
        """What the engine asks for, with a function of snapshots that is given values."""

    @abc.abstractmethod
    def recordings(
        self, rows: np.ndarray, own: PyTree, examples: Mapping[str, Any], dtype: Any
    ) -> PyTree:
        """Recordings of these members before their start."""

    @abc.abstractmethod
    def records(
        self, rows: np.ndarray, found: Any, names: tuple[str, ...], dims: Mapping
    ) -> Records:
        """What was recorded of these members, as a part of their result."""


class OnGrid(AbstractPlaces):
    """At the points of a grid, (points,) or (num, points), over one quantity."""

    def __init__(self, at: np.ndarray, over: str):
        self._at, self._over = at, over

    def observer(self, observe):
        return GridObserver(observe, self._over)

    def recordings(self, rows, own, examples, dtype):
        grids = self._grids(rows).astype(dtype)
        grids = np.broadcast_to(grids, (len(rows), grids.shape[-1]))
        return grid_recordings(grids, own, dict(examples))

    def records(self, rows, found, names, dims):
        values = {name: found[name] for name in names}
        return Records(over=self._over, grid=self._grids(rows), values=values, dims=dims)

    def _grids(self, rows):
        return self._at if self._at.ndim == 1 else of_rows(self._at, rows)


class AlongPath(AbstractPlaces):
    """So many times along each member's own path.

    Arguments:
        rows: how many points there can be.
        every: accepted steps from point to point, in place of as few as fit.
        over: the quantity that points are spread over; `None` for what the path has.
        problem: which says what the flow shows and how its steps are made.
    """

    def __init__(
        self,
        rows: int,
        every: int | None,
        over: str | None,
        problem: Problem,
    ):
        shows = problem.flow.shows
        divides = problem.stepper.divisible and problem.flow.repeatable
        clocks = [name for name in CLOCKS if name in shows] or ["log_norm"]
        self._rows, self._over = rows, clocks[0] if over is None else over
        self._coordinates = tuple(dict.fromkeys([self._over, *clocks]))
        by_steps = every is not None or (over is None and not divides)
        self._measure: AbstractMeasure = Steps() if by_steps else _measure(over, shows)
        self._divides = divides and not by_steps
        self._stride = float(every or (1.0 if by_steps else 0.0))

    def observer(self, observe):
        return PathObserver(observe, self._measure, self._divides)

    def recordings(self, rows, own, examples, dtype):
        return path_recordings(
            num=len(rows),
            rows=self._rows,
            stride=self._stride,
            own=own,
            example=dict(examples),
            measure=self._measure,
            coordinates=self._coordinates,
            dtype=dtype,
        )

    def records(self, rows, found, names, dims):
        beyond = np.arange(self._rows) >= found.count[:, None]

        def cut(leaf):
            further = (1,) * (leaf.ndim - 2)
            return np.where(beyond.reshape(beyond.shape + further), np.nan, leaf).astype(
                leaf.dtype
            )

        found_at = found.coordinates
        # Dense output falls by a rounding where a time stands still beside the clock.
        rise = lambda name: np.maximum.accumulate(found_at[name], axis=1)
        coordinates = {
            name: cut(rise(name) if name in _RISING else found_at[name])
            for name in self._coordinates
        }
        return Records(
            over=self._over,
            grid=coordinates[self._over],
            values={n: jax.tree_util.tree_map(cut, found.values[n]) for n in names},
            dims=dims,
            coordinates=coordinates,
            count=found.count,
        )


_RISING = tuple(name for name in CLOCKS if name != "log_norm")


def _measure(over: str | None, shows: tuple[str, ...]) -> AbstractMeasure:
    if over == "log_time":
        return AlongLogTime(over)
    if over is not None:
        return Along(over)
    # The limit of gradient flow has no time that is finite, but one that is rescaled.
    times = ("log_time", "rescaled_time", "time")
    time = next((name for name in times if name in shows), None)
    return Change(time, "loss" in shows)
