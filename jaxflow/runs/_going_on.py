"""Members of a solution that go on: the everyday calls with a solution for networks."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from .._checks import check_flag, shown
from .._signals import ends_on_signals
from .._telling import one_call
from ..engine import check_schedule
from ..errors import InputError
from ..results import Continuation, Solution
from ..stores import as_path
from ._execution import carry_out, check_attrs, check_keywords, Earlier, Execution
from ._identity import identify
from ._simulation import Simulation

Function = TypeVar("Function", bound=Callable)


def goes_on(equation: type) -> Callable[[Function], Function]:
    """An everyday call that is given a `Solution` in place of networks, too.

    Given the class of the call's `equation`.
    """

    def of(function: Function) -> Function:
        signature = inspect.signature(function)
        name = function.__name__

        @functools.wraps(function)
        def call(*args, **keywords):
            networks = args[0] if args else keywords.get("networks")
            if not isinstance(networks, Solution):
                return function(*args, **keywords)
            given = dict(signature.bind_partial(*args, **keywords).arguments)
            execution = given.pop("execution", {})
            check_keywords(name, execution)
            return _go_on(name, equation, given.pop("networks"), given, execution)

        return call  # type: ignore[return-value]

    return of


@ends_on_signals()
@one_call()
def _go_on(
    name: str,
    equation: type,
    solution: Solution,
    given: dict[str, Any],
    execution: Mapping[str, Any],
) -> Solution:
    """The members of a solution, on from where they are.

    Given the `name` of the call and the class of its `equation`; the `solution`;
    what the caller has given beside it; and how it is run.
    """
    came_from = _continuation(solution, name, equation)
    simulation, rows = came_from.simulation, came_from.rows
    if "task" in given:
        _check_same_task(given.pop("task"), simulation)
    lengths = {length: given.pop(length) for length in equation.lasts if length in given}
    for length, value in lengths.items():
        lengths[length] = simulation.equation.checked_length(length, value)
    free = ["stop"] if equation.lasts else ["stop", "max_steps"]
    for argument in given:
        if argument not in free:
            expected = "none beside a Solution, which goes on as it began, but for: "
            expected += ", ".join([*free, *equation.lasts, *Execution.__annotations__])
            raise InputError(argument, shown(given[argument]), expected)
    later = simulation.lasting(rows, **given, **lengths)
    store = execution.get("store")
    path = None if store is None else as_path(store, "store")
    earlier = Earlier(
        simulation, rows, lambda places: came_from.lanes(places), solution.is_single
    )
    if path is not None:
        later, earlier = _of_some(later, earlier, rows)
    schedule = check_schedule(execution.get("schedule"))
    progress = check_flag("progress", execution.get("progress"), optional=True)
    attrs = check_attrs(execution.get("attrs", solution.attrs))
    return carry_out(later, earlier, path, schedule, progress, attrs)


def _continuation(solution: Solution, name: str, equation: type) -> Continuation:
    found = solution.continuation
    if found is None:
        raise InputError(
            "networks",
            "a Solution that does not say from where its members go on: one that was "
            "loaded, pickled, joined from several runs, of an iterator, or too large",
            "the call that made it, with its store= and a later stop=",
        )
    if type(found.simulation.equation) is not equation:
        kind = found.simulation.equation.kind
        raise InputError("networks", f"a Solution of {kind}", f"one that {name} has given")
    return found


def _check_same_task(task: Any, simulation: Simulation) -> None:
    dtype = simulation.networks.dtype
    same = hasattr(task, "astype") and (
        identify(task.astype(dtype)) == identify(simulation.task)
    )
    if not same:
        expected = "none, or the task with which the members of the Solution began"
        raise InputError("task", shown(task), expected)


def _of_some(
    simulation: Simulation, earlier: Earlier, rows: np.ndarray
) -> tuple[Simulation, Earlier]:
    """The simulation of the members that go on, for a store of its own."""
    if simulation.num == len(rows) and np.array_equal(rows, np.arange(len(rows))):
        return simulation, earlier
    first = int(rows[0]) if len(rows) else 0
    if earlier.is_single or not np.array_equal(rows, first + np.arange(len(rows))):
        found = "a store for members that are not next to each other, or for one of many"
        raise InputError("store", found, "none, or members such as solution[10:20]")
    last = first + len(rows)
    some = earlier._replace(
        simulation=earlier.simulation[first:last], rows=np.arange(len(rows))
    )
    return simulation[first:last], some
