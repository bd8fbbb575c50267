"""The everyday calls' keywords, made into the parts of a simulation."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import equinox as eqx

from .._checks import shown
from ..errors import InputError
from ..networks import Initializations
from ..results import Solution
from ._record import check_at, check_functions, check_over, Record
from ._stepping import MAX_STEPS, Stepping

Network = TypeVar("Network", bound=eqx.Module)
NetworksLike = Initializations[Network] | Network | Iterable[Network]
NetworksOrSolution = NetworksLike[Network] | Solution[Network]

THAT_OF_SOLUTION: Any = None
"""The default of arguments that can be left out where members of a `Solution` go on."""


def given_stepping(
    stepping: Any, solver: Any, rtol: Any, atol: Any, max_steps: Any
) -> Stepping:
    """One `Stepping` from a call's keywords; what a given one says goes before them."""
    if stepping is not None and not isinstance(stepping, Stepping):
        raise InputError("stepping", shown(stepping), "a jaxflow.Stepping")
    if max_steps is None:
        raise InputError("max_steps", "None", "a whole number from 1 to 2**31 - 1")
    given = stepping or Stepping()
    for name, value, default in (
        ("solver", solver, None),
        ("rtol", rtol, None),
        ("atol", atol, None),
        ("max_steps", max_steps, MAX_STEPS),
    ):
        same = value is default or (type(value) is type(default) and value == default)
        if getattr(given, name) is not None and not same:
            found = f"{shown(value)} beside stepping={given}"
            raise InputError(name, found, "one of the two")
    first = lambda one, other: other if one is None else one
    return Stepping(
        solver=first(given.solver, solver),
        rtol=first(given.rtol, rtol),
        atol=first(given.atol, atol),
        controller=given.controller,
        dt0=given.dt0,
        max_steps=first(given.max_steps, max_steps),
    )


def given_scale(scale: Any) -> Any:
    """The scale that a call was given; `None` is none."""
    if scale is None:
        raise InputError("scale", "None", "positive numbers")
    return scale


def given_record(
    record: Record | Mapping[str, Callable] | None, record_at: Any, record_over: Any
) -> Record | None:
    """One `Record` from a call's keywords."""
    if record_over is not None:
        check_over("record_over", record_over)
    if isinstance(record, Record):
        if record_at is not None:
            raise InputError("record_at", f"{shown(record_at)} beside a Record", "none")
        if record_over is None:
            return record
        if record.over is not None:
            found = f"{shown(record_over)} beside a Record over {shown(record.over)}"
            raise InputError("record_over", found, "one of the two")
        return Record(record.functions, record.at, record_over, record.every)
    functions = {} if record is None else check_functions("record", record)
    if not functions:
        if record_at is not None:
            raise InputError("record", "none beside record_at", "functions to record")
        return None
    if record_at is None:
        found, expected = "none beside record", "how many points to record, or a grid"
        raise InputError("record_at", found, expected)
    at = check_at("record_at", record_at, "every", None)
    return Record(functions, at, record_over)
