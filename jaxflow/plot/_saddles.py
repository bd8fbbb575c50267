"""Members on their way from saddle to saddle."""

import numpy as np
import xarray
from matplotlib.axes import Axes

from ..saddles import SaddleToSaddle
from ._axes import dataset_of, MOST_LINES, new_if_none

_NEEDED = (
    *("final_loss", "status", "loss", "rank", "num_saddles", "scale"),
    *("log_arrival", "log_departure", "predicted_log_departure", "final_log_time"),
)


def saddle_to_saddle(
    found: SaddleToSaddle | xarray.Dataset, *, ax: Axes | None = None
) -> Axes:
    """Draw the loss of every member against rescaled time, and the saddles as plateaus.

    Lines follow the loss where `saddle_to_saddle` was asked for `points`, and are straight
    between saddles otherwise. Thick: visits, from arrival to departure. Crosses: predicted
    departures. At the right, the level of each saddle and how many parts have grown there.

    **Arguments:** what `saddle_to_saddle` found, or its dataset; matplotlib axes `ax`, new
    ones if not given.

    **Returns:** the axes.

    **Raises:** `InputError` for something else.

    >>> import jax, jaxflow as jf
    >>> network = jf.DiagonalLinear(2, 2, key=jax.random.key(0))
    >>> task = jf.Task(jax.numpy.eye(2), jax.numpy.array([2.0, 1.0]))
    >>> found = jf.saddle_to_saddle(network, task, scale=1e-4, solver=None)
    >>> saddle_to_saddle(found).get_ylabel()
    'loss'
    """
    dataset = dataset_of("found", found, "what saddle_to_saddle found", _NEEDED)
    order = float(dataset.attrs["jaxflow"]["settings"]["order"])
    final_loss, status = dataset["final_loss"].values, dataset["status"].values
    loss, rank = dataset["loss"].values, dataset["rank"].values
    visited = np.arange(loss.shape[1]) < dataset["num_saddles"].values[:, None]
    to_rescaled = (order - 2) * np.log(dataset["scale"].values)

    def rescaled(name):
        log_time = dataset[name].values
        with np.errstate(over="ignore"):
            return np.exp((log_time.T + to_rescaled).T)

    arrival, departure = rescaled("log_arrival"), rescaled("log_departure")
    predicted = rescaled("predicted_log_departure")
    curve = None
    if "loss_curve" in dataset:
        curve = rescaled("log_time_curve"), dataset["loss_curve"].values
    # What happens after the last departure takes no time beside the plateaus.
    last = np.max(np.where(np.isfinite(departure), departure, 0.0), initial=0.0)
    right = 1.12 * last if last > 0 else float(np.max(rescaled("final_log_time")))
    ax = new_if_none(ax)
    for member in range(min(len(loss), MOST_LINES)):
        known = visited[member]
        level = loss[member, known]
        left = np.minimum(
            np.where(np.isnan(departure[member]), right, departure[member]), right
        )
        times = np.stack([arrival[member, known], left[known]], axis=1)
        if curve is not None:
            x, y = (values[member] for values in curve)
            x, y = np.append(x, right), np.append(y, final_loss[member])
        else:
            x, y = times.ravel(), np.repeat(level, 2)
            if status[member] == "LossBelow":
                x = np.append(x, [times[-1, 1], right])
                y = np.append(y, [final_loss[member]] * 2)
        ax.plot(x, y, color="C0", alpha=0.5, linewidth=0.9)
        for k, (begin, stop) in enumerate(times):
            ax.plot([begin, stop], [level[k]] * 2, color=_color(k), linewidth=2.5)
        ax.plot(predicted[member, known], level, "x", color="k", markersize=6)
    ax.plot([], [], "x", color="k", label="departure, predicted")
    ax.plot([], [], color="0.4", linewidth=2.5, label="at a saddle")
    for k in range(loss.shape[1]):
        here = visited[:, k]
        level, grown = float(np.median(loss[here, k])), np.median(rank[here, k])
        ax.annotate(
            f"{level:.4g}" + (f", {grown:.0f} grown" if grown >= 0 else ""),
            (1.0, level),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=_color(k),
            fontsize=9,
        )
    ax.set_xlim(0, right)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("time $t$" if order == 2 else r"rescaled time $s = \delta^{L-2}\,t$")
    ax.set_ylabel("loss")
    ax.legend(frameon=False)
    ax.grid(alpha=0.25)
    return ax


def _color(saddle: int) -> str:
    return f"C{saddle % 9 + 1}"
