"""Members on their way from saddle to saddle."""

import math
from typing import NamedTuple

import numpy as np
import xarray
from matplotlib.axes import Axes

from .._checks import check_choice
from ..results import decode
from ..saddles import SaddleToSaddle
from ._axes import dataset_of, MOST_LINES, new_if_none
from ._style import color_of, legend, show_powers, spans_decades

_NEEDED = (
    *("final_loss", "status", "loss", "rank", "num_saddles", "scale"),
    *("log_arrival", "log_departure", "predicted_log_departure", "final_log_time"),
)


def saddle_to_saddle(
    found: SaddleToSaddle | xarray.Dataset, *, over: str = "auto", ax: Axes | None = None
) -> Axes:
    """Draw the loss of every member against time, and the saddles as plateaus.

    Lines follow the loss where `saddle_to_saddle` was asked for `points`, and are straight
    between saddles otherwise. Thick: visits, from arrival to departure. Crosses: predicted
    departures. At the right, the level of each saddle and how many parts have grown there.

    Arguments:
        found: what `saddle_to_saddle` found, or its dataset.
        over: `"time"` in the units in which the saddles are left at all scales: `δ^(2-L)`,
            and `log(1/δ)` for `L = 2`; `"log_time"` for `t` on a logarithmic scale;
            `"auto"` for this where departures lie decades apart.
        ax: matplotlib axes; new ones if not given.

    Returns:
        The axes.

    Raises:
        InputError: for something else.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.DiagonalLinear(2, 2, key=jax.random.key(0))
        >>> task = jf.Task(jax.numpy.eye(2), jax.numpy.array([2.0, 1.0]))
        >>> found = jf.saddle_to_saddle(network, task, scale=1e-4, solver=None)
        >>> jf.plot.saddle_to_saddle(found).get_ylabel()
        'loss'
    """
    dataset = dataset_of("found", found, "what saddle_to_saddle found", _NEEDED)
    check_choice("over", over, ("auto", "time", "log_time"))
    order = float(dataset.attrs["jaxflow"]["settings"]["order"])
    final_loss, status = dataset["final_loss"].values, decode(dataset["status"])
    loss, rank = dataset["loss"].values, dataset["rank"].values
    visited = np.arange(loss.shape[1]) < dataset["num_saddles"].values[:, None]
    departure = dataset["log_departure"].values
    departed = np.exp(departure - np.nanmax(np.where(np.isfinite(departure), departure, 0)))
    if over == "auto":
        over = "log_time" if spans_decades(departed, 1.5) else "time"
    axis = _time_axis(dataset, order) if over == "time" else _log_axis()

    arrival, departure = axis.at(dataset["log_arrival"]), axis.at(dataset["log_departure"])
    predicted = axis.at(dataset["predicted_log_departure"])
    curve = None
    if "loss_curve" in dataset:
        curve = axis.at(dataset["log_time_curve"]), dataset["loss_curve"].values
    # What happens after the last departure takes no time beside the plateaus.
    final = axis.at(dataset["final_log_time"])
    left, right = axis.limits(departure if np.isfinite(departure).any() else final)
    ax = new_if_none(ax)
    for member in range(min(len(loss), MOST_LINES)):
        known = visited[member]
        level = loss[member, known]
        gone = np.where(np.isnan(departure[member]), right, departure[member])
        gone = np.minimum(gone, right)
        came = np.maximum(arrival[member, known], left)
        times = np.stack([came, gone[known]], axis=1)
        if curve is not None:
            x, y = (values[member] for values in curve)
            x, y = np.append(x, right), np.append(y, final_loss[member])
        else:
            x, y = times.ravel(), np.repeat(level, 2)
            if status[member] == "LossBelow":
                x = np.append(x, [times[-1, 1], right])
                y = np.append(y, [final_loss[member]] * 2)
        ax.plot(x, y, color="0.35", alpha=0.5, linewidth=0.9)
        for k, (begin, stop) in enumerate(times):
            ax.plot([begin, stop], [level[k]] * 2, color=color_of(k), linewidth=2.5)
        ax.plot(predicted[member, known], level, "x", color="k", markersize=6)
    if len(loss) > MOST_LINES:
        label = f"{MOST_LINES} of {len(loss):,} members"
        ax.plot([], [], color="0.35", linewidth=0.9, label=label)
    ax.plot([], [], "x", color="k", label="departure, predicted")
    ax.plot([], [], color="0.4", linewidth=2.5, label="at a saddle")
    for k in range(loss.shape[1]):
        here = visited[:, k]
        if not here.any():
            continue
        level, grown = float(np.median(loss[here, k])), np.median(rank[here, k])
        ax.annotate(
            f"{level:.4g}" + (f", {grown:.0f} grown" if grown >= 0 else ""),
            (1.0, level),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=color_of(k),
            fontsize=9,
        )
    ax.set_xlim(left, right)
    ax.set_ylim(bottom=0)
    if axis.in_powers:
        show_powers(ax.xaxis)
    ax.set_xlabel(axis.words)
    ax.set_ylabel("loss")
    legend(ax)
    ax.grid(alpha=0.25)
    return ax


class _Axis(NamedTuple):
    """How times are drawn, which are given by their logarithms."""

    words: str
    in_powers: bool
    log_unit: np.ndarray  # one for each member

    def at(self, log_time: xarray.DataArray) -> np.ndarray:
        shifted = (log_time.values.T - self.log_unit).T
        with np.errstate(over="ignore"):
            return shifted / math.log(10) if self.in_powers else np.exp(shifted)

    def limits(self, times: np.ndarray) -> tuple[float, float]:
        """The edges of the picture, for departures of all members."""
        known = times[np.isfinite(times)]
        if self.in_powers:
            low, high = np.min(known), np.max(known)
            return float(low - 0.5), float(high + 0.05 * (high - low + 2))
        return 0.0, 1.12 * float(np.max(known))


def _log_axis() -> _Axis:
    return _Axis("time $t$", True, np.zeros(()))


def _time_axis(dataset: xarray.Dataset, order: float) -> _Axis:
    log_scale = np.log(dataset["scale"].values)
    if order != 2:
        words = r"rescaled time $s = \delta^{L-2}\,t$"
        return _Axis(words, False, (2 - order) * log_scale)
    if np.any(log_scale >= 0):
        return _Axis("time $t$", False, np.zeros(()))
    return _Axis(r"time over $\log(1/\delta)$", False, np.log(-log_scale))
