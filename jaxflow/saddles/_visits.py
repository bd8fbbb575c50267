"""Which saddles each member visited, when, and what it saw there."""

import dataclasses
import functools
import math
from typing import Any

import numpy as np
import xarray

STAYS, MINIMUM = "stays", "minimum"
"""How a member that has come to rest is called: at a saddle, or not."""


@dataclasses.dataclass(frozen=True, repr=False)
class SaddleToSaddle:
    """What `saddle_to_saddle` found. Printing it shows a table.

    Arrays over members and saddles are (num, saddles), with NaN (-1 for counts) behind the
    last saddle of a member. Saddle 0 is the origin. Times are natural logarithms of `t`.
    """

    num_saddles: np.ndarray
    """How many saddles each member visited, the origin among them, (num,)."""
    status: np.ndarray
    """What ended each member, (num,): `"LossBelow"`, `"minimum"` (at rest, where the loss
    has no descent), `"stays"` (at rest at a saddle: for ever, as far as its weights in
    floating point can tell), `"max_saddles"`, `"max_steps"`, or another failure."""
    log_arrival: np.ndarray
    """`log t` at the arrival; minus infinity at the origin."""
    log_closest: np.ndarray
    """`log t` where `‖∇𝓛‖` is least during the visit; everything below is as seen there."""
    log_departure: np.ndarray
    """`log t` at the departure; infinity for a member that stays, NaN for one that was
    stopped before."""
    predicted_log_departure: np.ndarray
    """`log t` at the departure, predicted at `log_closest` from the small parts alone;
    infinity where they never leave, NaN where the network has no small parts."""
    loss: np.ndarray
    """The level of the loss."""
    log_gradient: np.ndarray
    """`log ‖∇𝓛‖`, the least of the visit."""
    index: np.ndarray
    """The number of negative eigenvalues of the Hessian, -1 where it was not computed."""
    lowest_curvature: np.ndarray
    """The lowest eigenvalue of the Hessian."""
    largest_curvature: np.ndarray
    """Its largest eigenvalue."""
    active: np.ndarray
    """Which hidden neurons (or coordinates) have grown, (num, saddles, neurons)."""
    rank: np.ndarray
    """How many parts have grown: singular directions of the fullest layer of a linear
    network, active neurons of others, -1 where nothing is known of the network."""
    log_small: np.ndarray
    """The logarithm of the norm `a` of the small parts; minus infinity if they are zero."""
    kkt_value: np.ndarray
    """`N_r` at the KKT point of the residual's correlation function to which the small
    parts' direction flows."""
    cosine: np.ndarray
    """The cosine between that point and the small parts at the departure."""
    kkt_residual: np.ndarray
    """How far the small parts' direction is from a KKT point at the departure,
    `‖∇N_r - λv‖/‖∇N_r‖`."""
    weights: np.ndarray
    """The weights there, in the order of the leaves, (num, saddles, parameters)."""
    small: np.ndarray
    """The direction of the small parts at the departure, (num, saddles, parameters)."""
    kkt_direction: np.ndarray
    """The KKT point, (num, saddles, parameters)."""
    loss_curve: np.ndarray | None
    """The loss at `log_time_curve`, (num, points), if it was asked for."""
    log_time_curve: np.ndarray | None
    """(num, points)."""
    scale: np.ndarray
    """δ, (num,)."""
    final_log_time: np.ndarray
    """`log t` where each member was ended, (num,)."""
    final_loss: np.ndarray
    """The loss there, (num,)."""
    num_steps: np.ndarray
    """Attempted steps, (num,)."""
    num_vjps: np.ndarray | None
    """Vector-Jacobian products, (num,), where the solver counts them."""
    attrs: dict[str, Any]

    @property
    def visited(self) -> np.ndarray:
        """Whether a member has a saddle of this number, (num, saddles)."""
        return np.arange(self.loss.shape[1]) < self.num_saddles[:, None]

    @property
    def escape_error(self) -> np.ndarray:
        """The relative error of the predicted waiting time, (num, saddles).

        `(t_predicted - t_departure) / (t_departure - t_closest)`.
        """
        with np.errstate(invalid="ignore", over="ignore"):
            ahead = np.expm1(self.predicted_log_departure - self.log_departure)
            waited = -np.expm1(self.log_closest - self.log_departure)
            known = np.isfinite(self.log_departure)
            return np.where(known, ahead / waited, np.nan)

    @functools.cached_property
    def dataset(self) -> xarray.Dataset:
        """All but the weights, dimensions `init`, `saddle`, `neuron` and `point`."""
        each, both = ("init",), ("init", "saddle")
        described = {
            "num_saddles": (each, "number of saddles visited, the origin among them", "1"),
            "log_arrival": (both, "log t at the arrival", "log time"),
            "log_closest": (both, "log t where ‖∇𝓛‖ is least", "log time"),
            "log_departure": (both, "log t at the departure", "log time"),
            "predicted_log_departure": (both, "log t predicted", "log time"),
            "escape_error": (both, "relative error of the predicted waiting time", "1"),
            "loss": (both, "loss, a sum over samples", "1"),
            "log_gradient": (both, "log ‖∇𝓛‖", "1"),
            "index": (both, "number of negative eigenvalues of the Hessian", "1"),
            "lowest_curvature": (both, "lowest eigenvalue of the Hessian", "1"),
            "largest_curvature": (both, "largest eigenvalue of the Hessian", "1"),
            "active": ((*both, "neuron"), "whether a neuron has grown", "1"),
            "rank": (both, "number of parts that have grown", "1"),
            "log_small": (both, "log of the norm of the small parts", "1"),
            "kkt_value": (both, "N_r at the KKT point of the residual", "1"),
            "cosine": (both, "cosine of small parts and KKT point at departure", "1"),
            "kkt_residual": (both, "relative KKT residual at departure", "1"),
            "scale": (each, "initialization scale δ", "1"),
            "final_log_time": (each, "log t at the end", "log time"),
            "final_loss": (each, "loss at the end", "1"),
            "num_steps": (each, "attempted steps", "steps"),
            "status": (each, "what ended the member", "1"),
        }
        if self.loss_curve is not None:
            described["loss_curve"] = (("init", "point"), "loss along the way", "1")
            text = "log t of the loss curve"
            described["log_time_curve"] = (("init", "point"), text, "log time")
        variables = {
            name: (
                dims,
                getattr(self, name).astype(str)
                if name == "status"
                else getattr(self, name),
                {"long_name": text, "units": units},
            )
            for name, (dims, text, units) in described.items()
        }
        return xarray.Dataset(variables, attrs=self.attrs)

    def __repr__(self) -> str:
        return table(self)


def table(found: SaddleToSaddle) -> str:
    """The text that printing the result shows."""
    attrs, num = found.attrs, len(found.status)
    low, high = float(np.min(found.scale)), float(np.max(found.scale))
    scale = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    names, counts = np.unique(found.status.astype(str), return_counts=True)
    ends = ", ".join(f"{name} {count:,}" for name, count in zip(names, counts))
    head = (
        f"Saddle to saddle: {num:,} initializations of {attrs['network']} "
        f"({attrs['num_parameters']:,} parameters, order {attrs['order']:g}), δ = {scale}"
    )
    rows = [
        (
            "saddle", "members", "loss", "‖∇𝓛‖", "index", "grown",
            "arrival", "departure", "predicted", "wrong by", "1 - cosine",
        )
    ]  # fmt: skip
    for k in range(found.loss.shape[1]):
        here = found.visited[:, k]
        some = lambda values, here=here, k=k: _median(values[here, k])
        error = np.abs(found.escape_error[here, k])
        rows.append(
            (
                f"{k}",
                f"{int(here.sum()):,}",
                f"{some(found.loss):.5g}",
                _power(some(found.log_gradient)),
                _count(some(found.index)),
                _count(some(found.rank)),
                _power(some(found.log_arrival)),
                _power(some(found.log_departure)),
                _power(some(found.predicted_log_departure)),
                "–" if np.isnan(error).all() else f"{np.nanmax(error):.2%}",
                f"{1 - some(found.cosine):.1e}".replace("nan", "–"),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths))
        for row in rows
    ]
    foot = f"  medians, errors at most; ended by: {ends}"
    return "\n".join([head, *lines, foot])


def _median(values: np.ndarray) -> float:
    known = values[~np.isnan(values.astype(float))]
    # The middle one that is there: infinities have no mean.
    return float(np.sort(known)[(len(known) - 1) // 2]) if len(known) else math.nan


def _count(value: float) -> str:
    return "–" if not value >= 0 else f"{value:.0f}"


def _power(logarithm: float) -> str:
    """A number given by its natural logarithm."""
    if math.isnan(logarithm):
        return "–"
    if math.isinf(logarithm):
        return "never" if logarithm > 0 else "0"
    exponent = logarithm / math.log(10)
    if abs(exponent) < 4:
        return f"{10**exponent:.4g}"
    whole = math.floor(exponent)
    return f"{10 ** (exponent - whole):.2f}e{whole:+d}"
