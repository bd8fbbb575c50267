"""Directional convergence near the origin and near saddles, arXiv:2402.09226."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import xarray

from ..studies import Study
from ._claim import AbstractClaim, Paper, Size, Verdict
from ._two_homogeneous_figure import draw

SCALES = (1e-4, 1e-6, 1e-8)
GROWN = (1e-1, 1e-2, 1e-3)
"""Which share of the largest neuron has grown, for each scale: ReLUs grow in clusters, each
in proportion to its start, and small ones must stay below all of a cluster."""

_MEMBERS = {"test": 4, "quick": 8, "full": 32}
_POINTS = {"test": 40, "quick": 120, "full": 200}
_TOLD = 0.01
"""By how much a departure may be off: it is where the loss has fallen by 1%, so that up to
there nothing but the small parts has changed by more."""


def _teacher(network: dict[str, Any], num: int, norm: float | None) -> dict[str, Any]:
    inputs = {"kind": "sphere_points", "num": num, "dim": 4, "seed": 1}
    told = {} if norm is None else {"target_norm": norm}
    return {"kind": "teacher_student", "inputs": inputs, "teacher": network, **told}


_RELU = {"kind": "LeakyReLU", "slope": 0.0}
_DIAGONAL = {"kind": "DiagonalLinear", "depth": 2, "in_size": 4}
_NETWORKS = {
    "diagonal": _DIAGONAL,
    "linear": {
        "kind": "FeedForward",
        "sizes": [4, 4, 4],
        "activation": {"kind": "LeakyReLU", "slope": 1.0},
    },
    "relu": {
        "kind": "FeedForward",
        "sizes": [4, 12, 1],
        "activation": {**_RELU, "smoothing": 0.03},
    },
}
_RELU_TEACHER = {
    "kind": "FeedForward",
    "sizes": [4, 3, 1],
    "activation": _RELU,
    "seed": 9,  # whose two signs grow at rates that differ by a factor of four
}
_DATA = {
    "diagonal": _teacher({**_DIAGONAL, "seed": 5}, 12, 3.0),
    "linear": {
        "kind": "values",
        "inputs": np.eye(4).tolist(),
        "targets": np.diag([3.0, 2.0, 1.0, 0.0]).tolist(),
    },
    "relu": _teacher(_RELU_TEACHER, 20, 3.0),
}
LADDERS = tuple(_NETWORKS)
ORIGINS = (*LADDERS, "logistic")


class TwoHomogeneous(AbstractClaim):
    """Small weights turn to KKT points near the origin, and again near saddles."""

    name: ClassVar[str] = "near-saddles"
    title: ClassVar[str] = "Directional convergence near the origin and near saddles"
    paper: ClassVar[Paper] = Paper(
        "Akshay Kumar and Jarvis Haupt",
        "Directional Convergence Near Small Initializations and Saddles in "
        "Two-Homogeneous Neural Networks",
        "2402.09226",
    )
    says: ClassVar[str] = (
        "For networks that are homogeneous of order two in their weights, with locally "
        "Lipschitz gradients, and square or logistic loss: from w(0) = δ w₀ and small δ "
        "the weights stay small for times of order log(1/δ), and within them turn to a KKT "
        "point of the neural correlation function, or go to zero. For the square loss and "
        "a network H(w_n) + H(w_z), started at (w̄_n + δ ζ_n, δ ζ_z) near a saddle (w̄_n, 0) "
        "of its loss, w_n stays near w̄_n for such times, and w_z remains small and turns "
        "to a KKT point of the correlation function of the residual at the saddle. What is "
        "shown beyond that: departures at log(1/δ)/(2N) to leading order, and members on "
        "their way from the origin over all saddles."
    )

    def studies(self, size: Size) -> dict[str, Study]:
        num, points = _MEMBERS[size], _POINTS[size]
        if size == "test":
            scales = {"initialization": {"scale": list(SCALES[:2])}}
            near = _study("diagonal", num, scales, "near a saddle", grown=1)
            return {"diagonal": _study("diagonal", num, scales, points=points)} | {
                "near": near
            }
        found = {}
        plain = {"initialization": {"scale": list(SCALES)}}
        shrinking: Any = [
            {"initialization": {"scale": list(SCALES)}, "analysis": {"grown": list(GROWN)}}
        ]
        for name in LADDERS:
            sweep = shrinking if name == "relu" else plain
            found[name] = _study(name, num, sweep, points=points)
        found["logistic"] = _study("relu", num, shrinking, "logistic loss", "logistic")
        found["near"] = _study("relu", num, shrinking, "near a saddle", grown=1)
        return found

    def verdicts(self, found: xarray.DataTree) -> Sequence[Verdict]:
        return list(_verdicts(found))

    def draw(self, found: xarray.DataTree) -> Any:
        return draw(found, LADDERS)

    def exceptions(self, found: xarray.DataTree) -> list[str]:
        """What happened to each member whose departure was not where it was predicted, or
        that missed a saddle, in words."""
        return [text for part in found for text in _exceptions(str(part), found)]


def _study(
    name: str,
    num: int,
    sweep: Any,
    what: str = "from the origin",
    loss: str = "square",
    grown: int | None = None,
    points: int = 0,
) -> Study:
    """Members of a network from the origin over saddles, or `grown` near one, to its
    departure."""
    analysis: dict[str, Any] = {"kind": "saddle_to_saddle", "solver": "Tsit5"}
    once = grown is not None or loss != "square"
    analysis["max_saddles"] = 1 if once else 6
    if points:
        analysis["points"] = points
    if name == "relu":
        # Members creep at gradients of 1e-6 where all but a little has been learned.
        analysis |= {"rtol": 1e-5, "loss_below": 0.1, "max_steps": 1500}
    start: dict[str, Any] = {"num": num, "seed": 3}
    if grown is not None:
        start["near_saddle"] = {"grown": grown}
    if loss != "square":
        analysis.pop("loss_below")
    data = _DATA[name]
    if loss != "square":  # with signs for targets
        data = {key: value for key, value in data.items() if key != "target_norm"}
    return Study(
        {
            "title": f"{name}, {what}",
            "network": _NETWORKS[name],
            "data": data,
            "loss": loss,
            "initialization": start,
            "analysis": analysis,
            "sweep": sweep,
        }
    )


# -- verdicts --


def _verdicts(found: xarray.DataTree) -> Iterator[Verdict]:
    for part in ORIGINS:
        if part in found:
            yield from _first_departure(part, found[part].dataset, "the origin")
    if "near" in found:
        yield from _first_departure("near", found["near"].dataset, "the saddle")
    for part in LADDERS:
        if part in found:
            yield from _later(part, found)


def _first_departure(part: str, ds: xarray.Dataset, where: str) -> Iterator[Verdict]:
    first = ds.isel(saddle=0)
    off = _off(first)  # (scales, members)
    scales = ds["scale"].values
    middle = np.nanmedian(off, axis=1)
    order = _slope(np.log(scales), np.log(np.maximum(middle, 1e-16)))
    if part == "linear":
        bounds: dict[str, Any] = {"least": 2 / 3 - 0.05, "most": 2 / 3 + 0.05}
        reason = "2(1 - σ₂/σ₁) = 2/3: modes grow like e^{σt}; 0.05 for what is not leading"
    else:
        bounds, reason = {"least": 0.0}, "it tends to zero; at which order the task decides"
    worst = np.nanmax(off[-1])
    yield Verdict(
        statement=f"{part}: order in δ of 1 - cosine to the KKT point, leaving {where}",
        figure=order,
        reason=reason,
        note=f"at δ = {scales[-1]:g} median {middle[-1]:.1e}, worst {worst:.1e}",
        **bounds,
    )
    # Near a saddle starts are not of size δ alone, but what is small is.
    times = np.exp(first["log_departure"].values)
    span = np.log(scales[0]) - np.log(scales[-1])
    rate = (times[-1] - times[0]) / span * 2 * first["kkt_value"].values[-1]
    yield Verdict(
        statement=f"{part}: time to leave {where} over log(1/δ), times 2N",
        figure=float(np.nanmedian(rate)),
        least=1 - _TOLD,
        most=1 + _TOLD,
        reason="small weights grow like e^{2Nt} once they have turned; 1% as above",
        note=f"median; from {np.nanmin(rate):.4f} to {np.nanmax(rate):.4f}",
    )
    error = np.abs(_errors(first))[-1]
    yield Verdict(
        statement=f"{part}: largest error of a predicted time to leave {where}",
        figure=float(np.nanmax(error)),
        most=_TOLD,
        reason="until then the loss has fallen by 1%",
        note=f"at δ = {scales[-1]:g}; median {np.nanmedian(error):.1e}",
    )


def _later(part: str, found: xarray.DataTree) -> Iterator[Verdict]:
    ds = found[part].dataset
    kinds, errors = _kinds(ds)[:, :, 1:], np.abs(_errors(ds))[:, :, 1:]
    saddle = (kinds == "saddle") & np.isfinite(errors)
    last = saddle[-1]
    missed, scale = int(np.sum(kinds[-1] == "near_miss")), ds["scale"].values[-1]
    if not last.any():
        return
    worst = errors[-1][last]
    exceptions = [text for text in _exceptions(part, found) if f"δ = {scale:g}" in text]
    for what, figure in (("median", np.median(worst)), ("largest", np.max(worst))):
        note = f"{last.sum()} visits, and {missed} near misses" if what == "median" else ""
        yield Verdict(
            statement=f"{part}: {what} error of predicted waits at later saddles",
            figure=float(figure),
            most=_TOLD,
            reason="until the departure the loss has fallen by 1%",
            note=note or "; ".join(exceptions[:3]),
        )
    off = np.where(saddle, _off(ds)[:, :, 1:], np.nan)
    each = [np.nanmedian(o) if np.isfinite(o).any() else np.nan for o in off]
    known = np.isfinite(each)
    if known.sum() > 1:
        logs = np.log(np.maximum(np.array(each)[known], 1e-16))
        yield Verdict(
            statement=f"{part}: order in δ of 1 - cosine, leaving later saddles",
            figure=_slope(np.log(ds["scale"].values[known]), logs),
            least=0.0,
            reason="it tends to zero",
            note=f"largest at δ = {scale:g}: {np.nanmax(off[-1]):.1e}",
        )


def _exceptions(part: str, found: xarray.DataTree) -> Iterator[str]:
    ds = found[part].dataset
    kinds, errors = _kinds(ds), np.abs(_errors(ds))
    at = lambda name, s, m, k: float(ds[name].values[s, m, k])
    turned = ds["cosine"].values >= 0.9
    turned |= np.isnan(ds["cosine"].values) | (
        ds["scale"].values[:, None, None] > SCALES[-1]
    )
    told = np.isfinite(ds["predicted_log_departure"].values)
    left = np.isfinite(ds["log_departure"].values)
    odd = (kinds == "near_miss") | (errors > _TOLD) | ~turned | (left & ~told)
    for s, m, k in np.argwhere(odd).tolist():
        size = math.exp(min(at("log_small", s, m, k), 700.0))
        share, steady = at("small_share", s, m, k), at("steadiness", s, m, k)
        if left[s, m, k] and not told[s, m, k]:
            why = "the flow of its small parts alone came to no end"
        elif kinds[s, m, k] == "near_miss" and share >= 0.5:
            why = f"it came with small parts of norm {size:.2g}, already on their way"
        elif kinds[s, m, k] == "near_miss":
            why = f"what had grown still moved ({1 - share:.0%} of the gradient)"
        elif at("cosine", s, m, k) < 0.9:
            why = f"small parts still turning (cosine {at('cosine', s, m, k):.2f})"
        elif share < 0.1:
            why = f"what had grown still crept ({1 - share:.0%} of the gradient)"
        else:
            why = f"small parts of norm {size:.2g} were not small enough"
        error = errors[s, m, k]
        off = "no prediction" if np.isnan(error) else f"wrong by {error:.1%}"
        kind = kinds[s, m, k].replace("_", " ")
        who = f"{part}, δ = {ds['scale'].values[s]:g}, member {m}, visit {k} ({kind})"
        yield f"{who}: {off}, {why} (steadiness {steady:.2g})"


def _kinds(ds: xarray.Dataset) -> np.ndarray:
    """What every visit is, in words, (scales, members, visits)."""
    names = np.array(ds["kind"].attrs["flag_meanings"].split(" "))
    return names[ds["kind"].values]


def _errors(ds: xarray.Dataset) -> np.ndarray:
    errors = ds["escape_error"].values
    return np.where(np.isfinite(errors), errors, np.nan)


def _off(ds: xarray.Dataset) -> np.ndarray:
    """1 - cosine, no smaller than rounding makes it."""
    return np.maximum(1 - ds["cosine"].values, 1e-16)


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    """Of the straight line through these points by least squares."""
    return float(np.polyfit(x, y, 1)[0])
