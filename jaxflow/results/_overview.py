"""A solution in a few lines."""

import collections
import math
from typing import TYPE_CHECKING

import equinox as eqx
import jax
import numpy as np

from ._summary import median, power_of_ten, Summary

if TYPE_CHECKING:
    from ._solution import Solution


def summarize(solution: "Solution") -> Summary:
    """The summary that printing a solution shows."""
    if not solution.size:
        return Summary(f"{solution.kind.capitalize()}: no initializations")
    rows = [
        ("ended by", _statuses(solution.status)),
        ("loss", _range(solution.loss)),
        ("‖w‖/δ" if solution.blow_up_time is None else "‖u‖", _growth(solution)),
        ("rescaled time", _range(solution.rescaled_time)),
        ("time", _powers(solution.log_time)),
    ]
    if solution.blow_up_time is not None:
        rows.append(("blow-up time", _range(solution.blow_up_time)))
    stats = solution.stats
    steps = f"{_range(stats.num_steps)}; {_share(stats)} rejected"
    if stats.num_stabilized is not None:
        steps += f", {np.sum(stats.num_stabilized):,} stabilized in all"
    rows.append(("steps", steps))
    if stats.num_vjps is not None:
        rows.append(("VJPs", f"{_range(stats.num_vjps)}; {stats.num_vjps.sum():,} in all"))
    if solution.records is not None:
        names = ", ".join(solution.records.values)
        points = f"{solution.records.grid.shape[-1]} points in {solution.records.over}"
        if solution.records.count is not None:
            points = f"{_range(solution.records.count)} points of each path"
        rows.append(("recorded", f"{names} at {points}"))
    return Summary(_headline(solution), tuple(row for row in rows if row[1]))


def _headline(solution) -> str:
    num = solution.size
    who = f"{num:,} initializations of " if solution.is_ensemble else ""
    order = solution.settings.get("order")
    degree = f", order {order:g}" if isinstance(order, (int, float)) else ""
    scale = "" if solution.blow_up_time is not None else f", δ = {_range(solution.scale)}"
    name, parameters = _network(solution)
    return (
        f"{solution.kind.capitalize()}: {who}{name} "
        f"({parameters:,} parameters{degree}){scale}"
    )


def _network(solution) -> tuple[str, int]:
    """The class of the networks, and how many parameters one has."""
    settings = solution.settings
    if "network" in settings and "num_parameters" in settings:
        # Weights may be large, and on disk.
        return settings["network"], settings["num_parameters"]
    arrays = jax.tree_util.tree_leaves(
        eqx.filter(solution.directions, eqx.is_inexact_array)
    )
    parameters = sum(array.size for array in arrays) // max(solution.size, 1)
    return type(solution.directions).__name__, parameters


def _statuses(status) -> str:
    counts = collections.Counter(np.ravel(status).tolist())
    return " · ".join(f"{name} {count:,}" for name, count in counts.most_common())


def _growth(solution) -> str:
    start = np.zeros_like(solution.log_norm)
    if solution.blow_up_time is None:
        start = np.log(solution.scale)
    return _powers(solution.log_norm - start)


def _range(values) -> str:
    """The median, and the smallest and largest where they differ."""
    values = np.ravel(values).astype(float)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return "infinite" if np.any(np.isinf(values)) else ""
    if finite.size == values.size == 1 or finite.min() == finite.max():
        text = f"{finite[0]:.4g}"
    else:
        text = f"median {median(finite):.4g} ({finite.min():.4g} to {finite.max():.4g})"
    infinite = int(np.isinf(values).sum())
    unknown = int(np.isnan(values).sum())
    text += f", infinite for {infinite}" if infinite else ""
    return text + (f", unknown for {unknown}" if unknown else "")


def _powers(logarithms) -> str:
    """Numbers given by their natural logarithms, which may be too large to write out."""
    exponents = np.ravel(logarithms) / math.log(10)
    finite = exponents[np.isfinite(exponents)]
    if not finite.size:
        return "infinite" if np.any(exponents == np.inf) else ""
    if finite.size == 1 or finite.max() - finite.min() < 5e-3:
        return power_of_ten(finite[0])
    least, most = power_of_ten(finite.min()), power_of_ten(finite.max())
    return f"median {power_of_ten(median(finite))} ({least} to {most})"


def _share(stats) -> str:
    tried = stats.num_steps.sum()
    return f"{stats.num_rejected.sum() / tried:.0%}" if tried else "none"
