"""A run whose members end at very different times, for any schedule."""

import jax
import numpy as np

import jaxflow as jf

from .problems import teacher_task, TSIT5

NUM = 37


def problem():
    """An ensemble of `NUM` members, and its task."""
    network, task = teacher_task(sizes=(3, 4, 1))
    return jf.sample_ensemble(network, NUM, key=jax.random.key(5)), task


def flow(ensemble, task, order=None, stop=jf.LossBelow, **settings):
    """Members that stop at once, soon, late and never; by their place in the ensemble."""
    order = np.arange(NUM) if order is None else order
    levels = np.linspace(0.3, 0.6, NUM)
    levels[[3, 20]] = 0.0
    return jf.gradient_flow(
        jax.tree_util.tree_map(lambda leaf: leaf[order], ensemble),
        task,
        scale=0.1,
        stop=stop(levels[order]),
        max_steps=250,
        record={"norm": jf.norm},
        record_at=[0.0, 1.0, 30.0],
        progress=False,
        **TSIT5 | settings,
    )


def numbers(solution, order=None):
    """All that came out, for the members in the order of their places."""
    back = np.argsort(np.arange(len(solution.status)) if order is None else order)
    arrays = [
        *jax.tree_util.tree_leaves(solution.directions),
        *(getattr(solution, name) for name in ("log_norm", "log_time", "loss", "status")),
        *(array for array in vars(solution.stats).values() if array is not None),
        solution.records.values["norm"],
    ]
    return [np.asarray(array)[back] for array in arrays]
