"""A solution in a few lines: what failed first, then how all members ended."""

import math
from collections.abc import Callable
from typing import Any, TYPE_CHECKING

import jax
import numpy as np

from .._trained import parameters_of
from ._status import ended_by, Ending, endings
from ._summary import median, power_of_ten, Summary, Table

if TYPE_CHECKING:
    from ._solution import Solution


def summarize(solution: "Solution") -> Summary:
    """The summary that printing a solution shows."""
    if not solution.size:
        return Summary(f"{_kind(solution)}: no initializations")
    ends = endings(solution.status)
    several = len(ends) > 1
    how = _table_of(solution, ends) if several else f"ended by {ended_by(solution.status)}"
    lines: list[str | Table] = [how, _values(solution)]
    if solution.records is not None:
        names = ", ".join(solution.records.values)
        points = f"{solution.records.grid.shape[-1]} points in {solution.records.over}"
        if solution.records.count is not None:
            points = f"{_around(solution.records.count, _whole)} points of each path"
        lines.append(f"recorded {names} at {points}")
    return Summary(_headline(solution), tuple(lines))


def _kind(solution: "Solution") -> str:
    return solution.kind[:1].upper() + solution.kind[1:]


def _headline(solution: "Solution") -> str:
    num = solution.size
    who = f"{num:,} initializations of " if solution.is_ensemble else ""
    order = solution.settings.get("order")
    degree = f", order {order:g}" if isinstance(order, (int, float)) else ""
    scale = "" if solution.blow_up_time is not None else f", δ = {_span(solution.scale)}"
    name, parameters = _network(solution)
    return f"{_kind(solution)}: {who}{name} ({parameters:,} parameters{degree}){scale}"


def _network(solution: "Solution") -> tuple[str, int]:
    """The class of the networks, and how many parameters one has."""
    settings = solution.settings
    if "network" in settings and "num_parameters" in settings:
        # Weights may be large, and on disk.
        return settings["network"], settings["num_parameters"]
    arrays = jax.tree_util.tree_leaves(parameters_of(solution.directions))
    parameters = sum(array.size for array in arrays) // max(solution.size, 1)
    return type(solution.directions).__name__, parameters


def _plain(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.4g}" if math.isfinite(value) else f"{value}".replace("inf", "infinite")


def _whole(value: Any) -> str:
    return f"{value:,.0f}"


def _power(logarithm: float) -> str:
    """A number given by its natural logarithm, which may be too large to write out."""
    if not math.isfinite(logarithm):
        return "0" if logarithm < 0 else _plain(logarithm)  # minus infinity: zero
    return power_of_ten(logarithm / math.log(10))


def _quantities(solution: "Solution") -> dict[str, tuple[np.ndarray, Callable]]:
    """What a summary shows of each member, and how a number of it is written."""
    limit = solution.blow_up_time is not None
    growth = np.asarray(solution.log_norm, float)
    if not limit:
        growth = growth - np.log(np.asarray(solution.scale, float))
    found: dict[str, tuple[Any, Callable]] = {
        "loss": (solution.loss, _plain),
        "‖u‖" if limit else "‖w‖/δ": (growth, _power),
        "rescaled time": (solution.rescaled_time, _plain),
        "time": (solution.log_time, _power),
        "blow-up time": (np.nan if not limit else solution.blow_up_time, _plain),
        "steps": (solution.stats.num_steps, _whole),
    }
    if solution.stats.num_vjps is not None:
        found["VJPs"] = (solution.stats.num_vjps, _whole)
    flat = {name: (np.ravel(x).astype(float), write) for name, (x, write) in found.items()}
    return {name: (x, write) for name, (x, write) in flat.items() if not _unknown(x)}


def _unknown(values: np.ndarray) -> bool:
    return bool(np.all(np.isnan(values)))


def _table_of(solution: "Solution", ends: list[Ending]) -> Table:
    """How many members ended in each way, and where: medians, failures first."""
    known = _quantities(solution)
    time = "rescaled time" if not np.any(np.isfinite(solution.log_time)) else "time"
    names = [name for name in known if name in ("loss", "‖w‖/δ", "‖u‖", time, "steps")]
    rows = []
    for end in ends:
        cells = [known[name][1](median(known[name][0][end.rows])) for name in names]
        rows.append((end.label, f"{end.rows.sum():,}", *cells))
    first, *others = names
    header = ("ended by", "members", f"medians: {first}", *others)
    return Table(tuple(rows), header, align="<")


def _values(solution: "Solution") -> Table:
    """Every quantity: its median, the least and the most, and what else there is to say."""
    stats, notes = solution.stats, {}
    notes["steps"] = f"{_share(stats)} rejected"
    if stats.num_stabilized is not None and np.any(stats.num_stabilized):
        notes["steps"] += f", {np.sum(stats.num_stabilized):,} stabilized in all"
    if stats.num_vjps is not None and solution.size > 1:
        notes["VJPs"] = f"{np.sum(stats.num_vjps):,} in all"
    rows = tuple(
        (name, *_spread(values, write), ", ".join([*_odd(values), *_listed(notes, name)]))
        for name, (values, write) in _quantities(solution).items()
    )
    if solution.size == 1:
        return Table(tuple((name, middle, note) for name, middle, _, _, note in rows))
    return Table(rows, ("all members", "median", "least", "most", ""), align="<>>><")


def where(solution: "Solution", rows: np.ndarray) -> str:
    """Where some members ended: time, loss and norm, and after how many steps."""
    known = _quantities(solution)
    around = lambda name: _around(known[name][0][rows], known[name][1])
    time = "time" if "time" in known and np.isfinite(known["time"][0]).any() else None
    names = (time or "rescaled time", "loss", "‖w‖/δ", "‖u‖")
    said = [f"{n} {text}" for n in names if n in known and (text := around(n))]
    at = f" at {', '.join(said)}" if said else ""
    return f"{at}, after {around('steps')} steps"


def _around(values: np.ndarray, write: Callable) -> str:
    """A typical value, and between which others it lies; nothing where none is known."""
    if _unknown(values):
        return ""
    middle, least, most = _spread(values, write)
    return f"{middle} ({least} to {most})" if least else middle


def _listed(notes: dict[str, str], name: str) -> list[str]:
    return [notes[name]] if name in notes else []


def _spread(values: np.ndarray, write: Callable) -> tuple[str, str, str]:
    """The median of what is finite, and the smallest and largest where they differ."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return write(median(values)), "", ""
    middle, *ends = map(write, (median(finite), finite.min(), finite.max()))
    # What differs in digits that are not shown is the same to a reader.
    return (middle, "", "") if set(ends) == {middle} else (middle, *ends)


def _odd(values: np.ndarray) -> list[str]:
    """How many numbers are no finite ones, where others are."""
    finite = np.isfinite(values)
    counts = {"infinite": np.isinf(values).sum(), "unknown": np.isnan(values).sum()}
    if not finite.any():
        del counts["infinite"]
    return [f"{name} for {count:,}" for name, count in counts.items() if count]


def _span(values: np.ndarray) -> str:
    """All values in a few words."""
    middle, least, most = _spread(np.ravel(values).astype(float), _plain)
    return f"{least} to {most}, median {middle}" if least else middle


def _share(stats) -> str:
    tried = np.sum(stats.num_steps)
    return f"{np.sum(stats.num_rejected) / tried:.0%}" if tried else "none"
