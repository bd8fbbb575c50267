"""The shapes of what a run gives, without computing anything."""

from typing import Any

import equinox as eqx
import jax
import numpy as np

from .._arrays import by_structure
from ._driver import example_of, Source
from ._kept import num_bytes_kept
from ._lane import Problem
from ._observer import AbstractObserver
from ._pool import fill, Members, Outcome, Pool


def nobody(problem: Problem, source: Source, observer: AbstractObserver | None) -> Outcome:
    """The outcome of no members at all, of the shapes that those of a source would have."""
    return _nobody(problem, observer, example_of(source))


def shapes_of_pool(
    problem: Problem, source: Source, observer: AbstractObserver | None
) -> Pool:
    """The shapes of a pool of these members, of width one."""
    return _shapes_of_pool(problem, observer, example_of(source))


@by_structure
def _shapes_of_pool(problem, observer, example: Members) -> Pool:
    present = np.zeros(1, bool)
    return eqx.filter_eval_shape(fill, problem, observer, example, present)


@by_structure
def _nobody(
    problem: Problem, observer: AbstractObserver | None, example: Members
) -> Outcome:
    pool: Any = _shapes_of_pool(problem, observer, example)
    lanes, recordings = pool.lanes, pool.recordings
    work = jax.eval_shape(problem.stepper.cost, lanes.stepper_state, lanes.num_steps)
    shapes = Outcome(
        clock=lanes.clock,
        state=lanes.state,
        status=lanes.status,
        num_steps=lanes.num_steps,
        num_accepted=lanes.num_accepted,
        work=work,
        values=None if recordings is None else recordings.values,
        kept=np.zeros((1, num_bytes_kept(pool)), np.uint8) if problem.pauses else None,
    )
    return jax.tree_util.tree_map(
        lambda leaf: np.zeros((0, *leaf.shape[1:]), leaf.dtype), shapes
    )
