"""Whether a network can be evaluated on a task, for functions of the two."""

from typing import Any

import equinox as eqx

from .._arrays import by_structure, is_known
from ..errors import InputError
from ..networks import check_one, parameter_dtype
from ..tasks import AbstractTask, check_task


def fitted(network: Any, task: Any) -> AbstractTask:
    """The task in the network's floating type, once it is known that they fit.

    Raises:
        InputError: for what is no network, no task, an ensemble, or a network that cannot
            be trained on the task.
    """
    check_one(network)
    check_task(task)
    task = task.astype(parameter_dtype(network))
    # Shapes tell all but the labels of classes, and need be looked at once.
    numbers_count = task.loss.labels and is_known(task)
    if numbers_count or _misfit(network, task) is not None:
        if (reason := task.misfit(network)) is not None:
            found = f"a module that does not fit the task ({reason})"
            raise InputError("network", found, task.asks_for)
    return task.shaped_for(network)


@by_structure
def _misfit(network: eqx.Module, task: AbstractTask) -> str | None:
    return task.misfit(network)
