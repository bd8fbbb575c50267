"""Early directional convergence of deep homogeneous networks: arXiv:2403.08121."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import xarray

from ..kkt import wilson
from ..studies import Study
from ._claim import AbstractClaim, Paper, Size, Verdict

_CELLS: Mapping[Size, Sequence[tuple[int, int]]] = {
    "test": ((2, 2),),
    "quick": ((3, 1), (3, 2)),
    "full": ((3, 1), (4, 1), (2, 2), (3, 2), (4, 2), (2, 3), (3, 3), (4, 3)),
}
"""Depth `D` and power `p`. With two matrices and power one the order is two, which is the
companion paper's (arXiv:2402.09226). Each network compiles programs of its own, for which
`"quick"` has time for three, one of them of digits."""

_SCALES: Mapping[Size, Sequence[float]] = {
    "test": (1e-2, 1e-5, 1e-10, 1e-15, 1e-30),
    "quick": (1e-2, 1e-4, 1e-8, 1e-12, 1e-20, 1e-30),
    "full": (1e-2, 1e-4, 1e-6, 1e-8, 1e-12, 1e-16, 1e-20, 1e-25, 1e-30),
}
_MEMBERS: Mapping[Size, int] = {"test": 6, "quick": 16, "full": 64}
_WIDTHS: Mapping[Size, int] = {"test": 6, "quick": 10, "full": 16}
_SAMPLES: Mapping[Size, int] = {"test": 12, "quick": 20, "full": 32}

_CLOSEST = 1e-18
"""The `1 - cosine` below which the accuracy of the KKT points, 1e-10, hides it."""

_LEAST_EXCESS = -0.02
"""How far below its theory's a fitted order may lie. Fits begin at `1 - cosine` = 0.01,
where the terms that theory leaves out are a seventh of it: over the six decades and more of
a fit that is an error of log(8/7)/log(1e6), 0.01, on either side."""

_LARGEST_GROWTH = 1.1
"""`‖w‖/δ` over the limit's. At 99% of the blow-up time an error of 1e-3 in that time, far
more than the flows have, is one of 10% in the norm for `L = 3` and less for others."""

_ESCAPE = 0.01
"""Of the exponent. `‖w‖ = √δ` comes a share of about `δ^((L-2)/2)` before the blow-up: a
tenth for `δ = 1e-2` and `L = 3`, which over so many decades moves the slope by less."""

_MISSED = 1e-6
"""The conditions of a point that is known to 1e-10, with room for what separates `A^±` and
`G^±` from the weights."""


class EarlyPhase(AbstractClaim):
    """Small weights turn to KKT points of the neural correlation function."""

    name: ClassVar[str] = "early-phase"
    title: ClassVar[str] = "Early directional convergence for small initializations"
    paper: ClassVar[Paper] = Paper(
        "A. Kumar and J. Haupt",
        "Early Directional Convergence in Deep Homogeneous Neural Networks for Small "
        "Initializations",
        "2403.08121",
        "the theorem on early directional convergence; rank-one KKT points",
    )
    says: ClassVar[str] = (
        "For networks that are homogeneous of order L > 2 in their weights, with locally "
        "Lipschitz gradients, gradient flow from δw₀ with small δ has ‖w‖ = O(δ) up to "
        "times of order δ^(2-L), by which w/‖w‖ has come near a non-negative KKT point of "
        "the constrained neural correlation function, or w goes to zero. Second, there "
        "are necessary and sufficient conditions for KKT points of feed-forward networks "
        "with (polynomial) leaky ReLU to have layers of rank one. (Leaky) ReLU of power "
        "one has no locally Lipschitz gradient and is outside of the first theorem."
    )

    def studies(self, size: Size) -> Mapping[str, Study]:
        """`cells`, networks of several depths and powers; `points`, their KKT points;
        `digits`, with both losses; and `kinks`, outside of the theorem, in full only."""
        depths, powers = zip(*_CELLS[size])
        cells = {
            "network.depth": list(depths),
            "network.activation.power": list(powers),
            # Power one is inside of the theorem for linear networks only.
            "network.activation.slope": [1.0 if p == 1 else 0.5 for p in powers],
        }
        first = {
            "network": _network(_WIDTHS[size], 3, 2),
            "data": {
                "kind": "teacher_student",
                "inputs": {
                    "kind": "sphere_points",
                    "num": _SAMPLES[size],
                    "dim": 5 if size == "test" else 10,
                    "seed": 1,
                },
                "teacher": {**_network(5, 3, 2), "seed": 2},
                "target_norm": 1.0,
            },
            "initialization": {"num": _MEMBERS[size], "seed": 3},
            "sweep": [cells],
        }
        verify = {"kind": "verify_early_convergence", "scales": list(_SCALES[size])}
        found = {
            "cells": {"title": "Depths and powers", **first, "analysis": verify},
            "points": {
                "title": "The KKT points of the same starts",
                **first,
                "analysis": {"kind": "find_kkt"},
            },
        }
        full = size == "full"
        if size == "test":
            return {name: Study(tables) for name, tables in found.items()}
        digits = {"kind": "digits", "classes": [3, 8], "num": 2 * _SAMPLES[size]}
        found["digits"] = {
            "title": "Handwritten digits",
            "network": _network(_WIDTHS[size], *((3, 2) if full else (2, 2))),
            "data": digits,
            "initialization": {"num": _MEMBERS[size], "seed": 3},
            "analysis": verify,
            "sweep": {"loss": ["square", "logistic"] if full else ["logistic"]},
        }
        if full:
            found["kinks"] = {
                "title": "Leaky ReLU of power one, outside of the theorem",
                "network": _network(8, 3, 1),
                "data": {**digits, "classes": [0, 1], "num": 20},
                "initialization": {"num": 16, "seed": 3},
                "analysis": {**verify, "scales": [1e-2, 1e-5, 1e-8, 1e-16, 1e-30]},
                "sweep": {"network.activation.smoothing": [0.0, 0.03]},
            }
        return {name: Study(tables) for name, tables in found.items()}

    def verdicts(self, found: xarray.DataTree) -> Sequence[Verdict]:
        """Of the first theorem, its rates, the rank-one points, and what is outside."""
        cells, points = found["cells"].dataset, found["points"].dataset
        seen = [*_of_theorem(cells, "networks on synthetic data"), *_of_rates(cells)]
        seen += _of_points(points)
        if "digits" in found.children:
            seen += _of_theorem(found["digits"].dataset, "handwritten digits")
        if "kinks" in found.children:
            seen += _of_kinks(found["kinks"].dataset)
        return seen

    def draw(self, found: xarray.DataTree) -> Any:
        """`1 - cosine` against δ, a line for each network, and how often ends have rank
        one."""
        from ._early_phase_figure import draw

        digits = found["digits"].dataset if "digits" in found.children else None
        return draw(found["cells"].dataset, digits, _CLOSEST)


def _network(width: int, depth: int, power: int) -> dict[str, Any]:
    activation = {"kind": "LeakyReLU", "slope": 0.5, "power": power}
    return {
        "kind": "FeedForward",
        "depth": depth,
        "width": width,
        "activation": activation,
    }


def _of_theorem(cells: xarray.Dataset, where: str) -> list[Verdict]:
    verdict = cells["verdict"].values.astype(str)
    refuted = np.char.startswith(verdict, "no")
    slow = np.char.startswith(verdict, "slow")
    scale = float(cells["scale"][-1])
    reasons = sorted(set(verdict[refuted]))
    return [
        Verdict(
            statement=f"{where}: members that contradict the theorem",
            figure=float(refuted.sum()),
            most=0.0,
            reason="it holds for every start, once δ is small enough for that",
            note="; ".join([f"of {verdict.size}", *reasons[:3]]),
        ),
        Verdict(
            statement=f"{where}: share of members for which δ = {scale:g} is small enough",
            figure=float(1 - (slow | refuted).mean()),
            least=1.0,
            reason="the theorem has no figure for δ: those that pass near another KKT "
            "point first need smaller ones",
            note=f"{int(slow.sum())} of {verdict.size} are slow",
        ),
    ]


def _of_rates(cells: xarray.Dataset) -> list[Verdict]:
    excess = (cells["fitted_order"] - cells["expected_order"]).values
    # A member that is near its point at one scale only has an order of its path there.
    excess = excess[(cells["fitted_from"] > cells["fitted_to"]).values & _near(cells)]
    limit = cells["limit_growth"]
    says = limit <= cells["scale"] ** -0.5
    growth = (cells["growth"] / limit).where(says & cells["kkt_value"].notnull())
    rate = cells["rate"] - cells["expected_rate"]
    return [
        Verdict(
            statement="largest ‖w‖/δ up to the early-phase time (at most 99% of the "
            "blow-up's), over that of δ → 0",
            figure=float(growth.max()),
            most=_LARGEST_GROWTH,
            reason="‖w‖ = O(δ) with a constant that does not depend on δ; an error of "
            "0.1% in the time of the blow-up is allowed for",
            note="where the limit's is at most δ^(-1/2); beyond, the bound says nothing",
        ),
        Verdict(
            statement="exponent of the time of escape in δ, largest distance from 2 - L",
            figure=float(np.abs(rate).max()),
            most=_ESCAPE,
            reason="‖w‖ = √δ comes before the blow-up by a share that falls with δ",
        ),
        Verdict(
            statement="order of 1 - cosine in δ less that of the Hessian at the KKT point, "
            "the least of all members",
            figure=float(np.min(excess, initial=np.inf)),
            least=_LEAST_EXCESS,
            reason="1 - cosine is a sum of δ^(μ/λ) over the modes of the Hessian, of which "
            "the theory's order is the lowest (our derivation, not the paper's)",
            note=f"{len(excess)} members",
        ),
    ]


def _near(cells: xarray.Dataset) -> np.ndarray:
    """Members whose order is measured near the KKT point, as theory has it."""
    first = cells["closest"].where(cells["scale"] == cells["fitted_from"]).max("scale")
    return (first < 0.01).values


def _of_points(points: xarray.Dataset) -> list[Verdict]:
    one = points["rank_one"].values.astype(bool)
    ends, basin = points["end"].values, points["basin"].fillna(0).values
    reached = int((ends >= 0).sum())
    num = int(np.where(one, basin, 0).sum())
    low, high = wilson(num, reached)
    missed = points["rank_one_missed"].values
    return [
        Verdict(
            statement="rank-one KKT points: the most by which the necessary and sufficient "
            "conditions are missed",
            figure=float(np.nanmax(np.where(one, missed, np.nan))),
            most=_MISSED,
            reason="points are known to 1e-10",
            note=f"{int(one.sum())} points; both directions of the theorem are tested on "
            "networks made for it",
        ),
        Verdict(
            statement="share of members that end at points of rank one",
            figure=num / max(reached, 1),
            least=1.0,
            reason="seen, not claimed: the theorem says which points have rank one",
            applies=False,
            note=f"{num} of {reached}, 95% interval {low:.1%} to {high:.1%}",
        ),
    ]


def _of_kinks(kinks: xarray.Dataset) -> list[Verdict]:
    seen = []
    for smoothing in kinks["smoothing"].values:
        one = kinks.sel(smoothing=smoothing)
        verdict = one["verdict"].values.astype(str)
        holds = np.isin(verdict, ["converges", "goes to zero"])
        slow = np.char.startswith(verdict, "slow")
        last = one["closest"].isel(scale=-1)
        seen.append(
            Verdict(
                statement=f"leaky ReLU of power one, smoothing {smoothing:g}: share of "
                "members that converge",
                figure=float(holds.mean()),
                least=1.0,
                reason="as in the theorem, which needs locally Lipschitz gradients",
                applies=False,
                note=f"{int(slow.sum())} of {len(verdict)} are slow, with 1 - cosine "
                f"{float(last.median()):.2g} in the median at δ = {float(last.scale):g}",
            )
        )
    return seen
