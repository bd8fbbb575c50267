"""Whether a flow shows what stop conditions and records look at."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._checks import shown
from .._trained import parameters_of
from ..engine import is_searched
from ..errors import InputError
from ..flows import AbstractNetworkFlow, MemberStart, NotShownError
from ..networks import member_numbers
from ..quantities import CLOCKS, KNOWN
from ..stops import AbstractStop
from ._record import Record


def check_fit(
    flow: AbstractNetworkFlow, stops: Sequence[AbstractStop], record: Record | None
) -> None:
    """Whether the flow shows what stop conditions and the grid of records look at."""
    shows = f"what {type(flow).__name__} shows: {', '.join(flow.shows)}"
    for stop in stops:
        if missing := _missing(flow, stop):
            found = f"{stop.name}, which looks at {missing}"
            hint = flow.hint(missing)
            raise InputError("stop", found + (f" ({hint})" if hint else ""), shows)
        if not flow.repeatable and _is_searched(flow, stop):
            raise InputError(
                "stop",
                f"{stop.name}, which holds at one moment within a step",
                "conditions on the time, or such as hold after a step",
            )
    if record is None or record.over is None:
        return
    if record.over not in flow.shows:
        raise InputError("record_over", shown(record.over), shows)
    if record.over in KNOWN and record.over not in CLOCKS:
        expected = f"a quantity that rises along a path, of {shows}"
        raise InputError("record_over", shown(record.over), expected)


def _missing(flow: AbstractNetworkFlow, stop: AbstractStop) -> str | None:
    """A quantity that the condition needs and the flow does not show."""
    needed = next((name for name in stop.needs if name not in flow.shows), None)
    if needed is not None or stop.needs:
        return needed
    try:  # it does not say: what does it read?
        _example_of(flow, lambda shown, args: stop.begin(shown).gap(shown))
    except NotShownError as error:
        return error.missing
    return None


def _is_searched(flow: AbstractNetworkFlow, stop: AbstractStop) -> bool:
    found = []
    _example_of(flow, lambda shown, args: found.append(is_searched(flow, stop, args)))
    return found[0]


def _example_of(flow: AbstractNetworkFlow, look: Any) -> None:
    """Let `look` see abstract values of a snapshot and of a member's `args`."""

    def trace(flow):
        dtype = jax.tree_util.tree_leaves(parameters_of(flow.network))[0].dtype
        number = member_numbers(np.zeros((), np.int64))
        args = flow.args_of(MemberStart(jnp.zeros((), dtype), number, flow.example_arrays))
        state = flow.enter(flow.network, args)
        clock = jnp.zeros((), dtype)
        velocity = flow.vector_field(clock, state, args)
        look(flow.snapshot(clock, state, velocity, args), args)

    eqx.filter_eval_shape(trace, flow)
