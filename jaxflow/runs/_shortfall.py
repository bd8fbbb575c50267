"""What a run falls short of: members that gave up, or never came to a stop condition."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..engine import distinct_names
from ..results import Ending, endings, Reason, shortfall, Solution, some_of, where
from ._outcomes import Outcomes
from ._simulation import Simulation
from ._source import MemberSource

_MANY_REJECTED = 0.3
"""The share of rejected steps above which it is worth a word. Chosen: smooth flows have
less, and a field with jumps has more."""

_MOST_LOOKED_AT = 4096
"""Members whose loss is compared with that of their start: those in which it is largest.
Chosen: a store of a million members is to be read without drawing all of them again."""

_ADVICE: Mapping[str, str] = {
    "max_steps": "Try a larger max_steps=, a looser rtol= or a stop= that comes before.",
    "non_finite": (
        "The weights, the loss or its gradient are no numbers there: look for NaN in the "
        "data and in the loss, or stop= before, as with NormAbove."
    ),
    "step_too_small": (
        "The vector field jumps or becomes infinite there, as at a kink or where a loss "
        "has no lower bound, or the tolerances are below rounding errors: try a "
        "looser rtol= or atol=, or a stop= that comes before."
    ),
    "solver_failed": (
        "The solver could not solve the equations of its own step: try another solver=, or "
        "a shorter first step by stepping=jaxflow.Stepping(dt0=…)."
    ),
}
"""What to try, whatever the equation."""


def without_stop(simulation: Simulation) -> str | None:
    """What to tell whoever forgot `stop=`, before time is spent."""
    if simulation.stops:
        return None
    steps = simulation.stepping.max_steps
    return (
        "This run has no stop condition: every member goes on until it gives up, after "
        f"max_steps={steps:,} attempted steps.\n  Say where it is to end, as by "
        "stop=jaxflow.LossBelow(1e-3) or stop=jaxflow.Time(10.0)."
    )


def shortfall_of_run(
    simulation: Simulation, solution: Solution, source: MemberSource, outcomes: Outcomes
) -> str | None:
    """What to tell a caller of the members of a run."""
    if not solution.size:
        return None
    hints = simulation.equation.hints
    given, own_ends = _stops_by_name(simulation)
    # Nothing but `max_steps` ends a run without stop conditions; that was said before it.
    expected = () if simulation.stops else ("max_steps",)
    most = simulation.stepping.max_steps
    found, members = [], np.zeros(solution.size, bool)
    for end in endings(solution.status):
        if end.failed and end.name not in expected:
            advice = [_ADVICE.get(end.name, ""), *_further(solution, end, most)]
            advice.append(hints.get(end.name, ""))
            found.append(_reason(solution, end.name, end.rows, " ".join(advice)))
            members |= end.rows
        elif given and end.name in own_ends:
            what = f"{end.name}, never {' or '.join(given)}"
            found.append(_reason(solution, what, end.rows, hints.get(end.name, "")))
            members |= end.rows
    rose = _loss_rose(simulation, solution, source, outcomes) & ~members
    if rose.any():
        what = "a larger loss than at the start"
        found.append(_reason(solution, what, rose, hints["loss_rose"]))
        members |= rose
    who = some_of(int(members.sum()), solution.size)
    gave_up = solution.is_ensemble and np.any(solution.failed)
    look = "Those that gave up are solution[solution.failed]." if gave_up else ""
    kind = simulation.equation.kind
    head = f"{kind[:1].upper()}{kind[1:]}: {who} did not end as asked."
    return shortfall(head, found, look)


def _stops_by_name(simulation: Simulation) -> tuple[list[str], list[str]]:
    """The names of the stop conditions that a caller gave, and of the equation's own."""
    names = distinct_names([stop.name for stop in simulation.stops])
    networks, task = simulation.networks, simulation.task.example
    ends = simulation.equation.defaults(networks.one, task, networks.dtype).ends
    num = len(names) - len(ends)
    return list(names[:num]), list(names[num:])


def _reason(solution: Solution, what: str, rows: np.ndarray, advice: str) -> Reason:
    return Reason(what, int(rows.sum()), where(solution, rows), " ".join(advice.split()))


def _further(solution: Solution, end: Ending, most: Any) -> list[str]:
    """What the steps of these members suggest."""
    found = []
    stats, rows = solution.stats, end.rows
    steps = np.sum(np.ravel(stats.num_steps)[rows])
    rejected = np.sum(np.ravel(stats.num_rejected)[rows])
    if steps and rejected / steps > _MANY_REJECTED:
        found.append(f"Of their steps {rejected / steps:.0%} were rejected, as at kinks.")
    if end.name != "max_steps":
        return found
    if stats.num_stabilized is None:
        found.append('On plateaus solver="auto" takes fewer steps.')
    elif np.any(np.ravel(stats.num_steps)[rows] < most):
        found.append("A step of many gradients counts for more than one.")
    return found


def _loss_rose(
    simulation: Simulation, solution: Solution, source: MemberSource, outcomes: Outcomes
) -> np.ndarray:
    """Which members of a flow whose loss is to fall have ended above their start."""
    final = np.ravel(np.asarray(solution.loss, float))
    none = np.zeros(solution.size, bool)
    if "loss_rose" not in simulation.equation.hints or simulation.num is None:
        return none
    finite = np.where(np.isfinite(final), final, -np.inf)
    rows = np.sort(np.argsort(finite)[-_MOST_LOOKED_AT:])
    at_start = np.full(solution.size, np.inf)
    at_start[rows] = outcomes.losses_at_start(source, rows)
    return final > at_start
