"""Pictures of results. Every function draws into `ax` (or `axes`) and returns it."""

import math
from collections.abc import Sequence

import equinox as eqx
import matplotlib.pyplot as plt
import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from .errors import InputError
from .kkt import KKTPoints
from .kkt._points import NOT_CONVERGED, ZERO_TYPE
from .observables import layer_matrices, stable_rank
from .results import Solution
from .runs import EarlyConvergence
from .saddles import SaddleToSaddle

_BAND = (0.1, 0.9)
_MOST_LINES = 60


def recorded(
    results: Solution | xarray.Dataset,
    name: str,
    *,
    against: xarray.DataArray | np.ndarray | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a recorded quantity of all members against its grid.

    Each member is a thin line; the median is thick. A quantity with a further axis (such
    as one value for each layer) is drawn as one median for each entry, with the band that
    holds 80% of the members.

    **Arguments:**

    - `results`: a `Solution`, or its dataset.
    - `name`: of the recorded function.
    - `against`: what to draw it against, (points,) or (init, points); the grid if not
      given.
    - `ax`: matplotlib axes; new ones if not given.

    **Returns:** the axes.

    **Raises:** `InputError` if nothing was recorded under that name.

    >>> import jax, jaxflow as jf
    >>> network = jf.DiagonalLinear(3, 2, key=jax.random.key(0))
    >>> ensemble = jf.sample_ensemble(network, 4, key=jax.random.key(1))
    >>> solution = jf.gradient_flow(
    ...     ensemble,
    ...     jf.Task(jax.numpy.eye(2), jax.numpy.ones(2)),
    ...     scale=0.1,
    ...     stop=[jf.RescaledTime(1.0)],
    ...     record={"norm": jf.norm},
    ...     record_at=[0.0, 0.5, 1.0],
    ... )
    >>> recorded(solution, "norm").get_ylabel()
    'norm'
    """
    dataset = _dataset(results)
    values, grid = _values_and_grid(dataset, name)
    x = grid if against is None else np.asarray(against)
    x = np.broadcast_to(x, values.shape[:2])
    ax = _axes(ax)
    if values.ndim == 2:
        for member in range(min(len(values), _MOST_LINES)):
            ax.plot(x[member], values[member], color="C0", alpha=0.25, linewidth=0.6)
        ax.plot(_middle(x), _middle(values), color="C0", linewidth=2, label="median")
    else:
        entries = values.reshape(*values.shape[:2], -1)
        for entry in range(entries.shape[-1]):
            low, high = np.nanquantile(entries[..., entry], _BAND, axis=0)
            label = f"{dataset[name].dims[-1]} {entry + 1}"
            color = f"C{entry}"
            ax.fill_between(_middle(x), low, high, color=color, alpha=0.2, linewidth=0)
            ax.plot(_middle(x), _middle(entries[..., entry]), color=color, label=label)
        ax.legend(frameon=False)
    ax.set_xlabel(_grid_name(dataset) or "")
    ax.set_ylabel(name)
    return ax


def early_phase(
    results: Solution | xarray.Dataset, *, axes: Sequence[Axes] | None = None
) -> Sequence[Axes]:
    """Four panels of the early phase: norm, cosine, loss and stable rank of each layer.

    Against the share of the rescaled time that is left before the escape, `1 - s/T*`,
    which is where everything happens: near `T*` the norm grows like
    `((L-2) L N (T* - s))^(-1/(L-2))`, drawn as a dashed line.

    **Arguments:**

    - `results`: a `Solution` or dataset with the records `norm`, `cosine`, `loss` and
      `stable_rank` over rescaled time, and with `blow_up_time` and `kkt_value`, as the
      demo makes it.
    - `axes`: four matplotlib axes; a new figure if not given.

    **Returns:** the four axes.

    **Raises:** `InputError` if one of these is missing.
    """
    dataset = _dataset(results)
    for name in ("blow_up_time", "kkt_value"):
        if name not in dataset:
            raise InputError("results", f"a dataset without {name}", "one with it")
    axes = four_panels() if axes is None else list(axes)
    end = dataset["blow_up_time"].values[:, None]
    left = 1 - np.asarray(dataset["rescaled_time"]) / end
    norm, cosine, loss, rank = (
        recorded(dataset, name, against=left, ax=ax)
        for name, ax in zip(("norm", "cosine", "loss", "stable_rank"), axes)
    )
    for ax in axes:
        ax.set_xscale("log")
        ax.set_xlim(1, np.nanmin(left))
        ax.set_xlabel("rescaled time left before the escape, $1 - s/T^*$")
        ax.grid(alpha=0.25)
    for ax in axes[:2]:
        ax.set_xlabel("")
    order = float(dataset.attrs["order"])
    # What the norm tends to once the direction rests, with dρ/dτ = L N.
    rate = (order - 2) * order * dataset["kkt_value"].values[:, None] * end
    theory = dataset["scale"].values[:, None] * (rate * left) ** (-1 / (order - 2))
    norm.plot(_middle(left), _middle(theory), "k--", linewidth=1.2, label="theory")
    norm.set_ylim(bottom=0.7 * float(dataset["scale"].values[0]))
    norm.set_yscale("log")
    norm.set(title="the weights stay tiny", ylabel=r"$\|w\|$")
    norm.legend(frameon=False)
    cosine.set(title="their direction converges to a KKT point", ylabel="cosine")
    cosine.axhline(1, color="k", linewidth=0.8, linestyle=":")
    loss.set(title="the loss does not move", ylabel=r"$\mathcal{L}(w)$")
    loss.set_ylim(0, 1.15 * np.nanmax(dataset["loss"]))
    rank.set(title="every layer becomes rank one", ylabel="stable rank")
    rank.set_ylim(bottom=0)
    return axes


def four_panels() -> list[Axes]:
    """Axes of a new figure with two rows of two panels over one x axis."""
    _, grid = plt.subplots(2, 2, figsize=(9.5, 6.5), layout="constrained", sharex=True)
    return list(grid.ravel())


def kkt_points(points: KKTPoints, *, ax: Axes | None = None) -> Axes:
    """Draw the value `N` of every KKT point against the share of the sphere it attracts.

    Bars are Wilson's 95% intervals. Filled: second-order points; open: points with ascent
    directions. Disks have rank one in every layer, squares have not.

    **Arguments:** `points` of `find_kkt`; matplotlib axes `ax`, new ones if not given.

    **Returns:** the axes.

    >>> import jax, jaxflow as jf
    >>> network = jf.FeedForward((3, 1), jf.LeakyReLU(), key=jax.random.key(0))
    >>> task = jf.Task(jax.numpy.eye(3), jax.numpy.array([3.0, 0.0, 4.0]))
    >>> found = jf.find_kkt(jf.sample_ensemble(network, 4, key=jax.random.key(1)), task)
    >>> kkt_points(found).get_xlabel()
    'share of the sphere that flows there'
    """
    ax = _axes(ax)
    low, high = points.share_interval.T
    for rank_one, marker in ((True, "o"), (False, "s")):
        for stable, fill in ((True, "C0"), (False, "white")):
            chosen = (points.rank_one == rank_one) & ((points.index <= 0) == stable)
            if not chosen.any():
                continue
            share, value = points.share[chosen], points.value[chosen]
            ax.errorbar(
                share,
                value,
                xerr=[share - low[chosen], high[chosen] - share],
                fmt=marker,
                color="C0",
                markerfacecolor=fill,
                elinewidth=1,
                capsize=2,
                label=("rank one" if rank_one else "higher rank")
                + ("" if stable else ", with ascent directions"),
            )
    ax.set_xscale("log")
    if len(points) and points.value.max() > 30 * points.value.min():
        ax.set_yscale("log")
    ax.set_xlabel("share of the sphere that flows there")
    ax.set_ylabel("value $N(w)$")
    ax.set_title(f"{len(points)} KKT points from {points.num_members:,} initializations")
    if len(points):
        ax.legend(frameon=False)
    ax.grid(alpha=0.25)
    return ax


def layers(network: eqx.Module, *, axes: Sequence[Axes] | None = None) -> Sequence[Axes]:
    """Draw the layers of one network as heat maps, blue below and red above zero.

    **Arguments:** one `network`; one matplotlib `axes` for each layer, a new figure if not
    given.

    **Returns:** the axes.

    **Raises:** `InputError` for an ensemble, and for another number of axes.

    >>> import jax, jaxflow as jf
    >>> network = jf.FeedForward((3, 4, 1), jf.LeakyReLU(), key=jax.random.key(0))
    >>> len(layers(network))
    2
    """
    matrices = [np.asarray(matrix) for matrix in layer_matrices(network)]
    if any(matrix.ndim != 2 for matrix in matrices):
        raise InputError("network", "an ensemble", "one network")
    if axes is None:
        columns = [max(matrix.shape[1], 3) for matrix in matrices]
        _, grid = plt.subplots(
            1,
            len(matrices),
            figsize=(min(2.2 + 0.22 * sum(columns), 14), 4),
            layout="constrained",
            squeeze=False,
            width_ratios=columns,
        )
        axes = list(grid[0])
    if len(axes) != len(matrices):
        raise InputError("axes", f"{len(axes)} of them", f"{len(matrices)}")
    ranks = np.asarray(stable_rank(network))
    for number, (ax, matrix, rank) in enumerate(zip(axes, matrices, ranks), start=1):
        size = np.abs(matrix).max() or 1.0
        image = ax.imshow(matrix, cmap="RdBu_r", vmin=-size, vmax=size, aspect="auto")
        plt.colorbar(image, ax=ax, shrink=0.8)
        ax.set_title(f"$W_{number}$, stable rank {rank:.3g}", fontsize=10)
        ax.set_xlabel("input")
        for axis, size in zip((ax.yaxis, ax.xaxis), matrix.shape):
            axis.set_major_locator(MaxNLocator(min(size, 8), integer=True))
            if size == 1:
                axis.set_ticks([0])
    axes[0].set_ylabel("neuron")
    return axes


def stable_sets(points: KKTPoints, *, extent: float = 1.0, ax: Axes | None = None) -> Axes:
    """Draw which KKT point every initialization of a plane flows to.

    **Arguments:**

    - `points`: what `find_kkt` gives for a `slice_ensemble`.
    - `extent`: that of the ensemble.
    - `ax`: matplotlib axes; new ones if not given.

    **Returns:** the axes. Colors run through the points, best first; white goes to zero,
    grey did not converge.

    **Raises:** `InputError` if the number of members is not a square.

    >>> import jax, jaxflow as jf
    >>> c, p, q = (jf.DiagonalLinear(2, 2, key=jax.random.key(k)) for k in range(3))
    >>> plane = jf.slice_ensemble(c, p, q, extent=1.0, resolution=4)
    >>> found = jf.find_kkt(plane, jf.Task(jax.numpy.eye(2), jax.numpy.ones(2)))
    >>> stable_sets(found).get_xlabel()
    'a'
    """
    side = math.isqrt(points.num_members)
    if side**2 != points.num_members:
        raise InputError("points", f"{points.num_members} members", "a square number")
    ax = _axes(ax)
    colors = np.array([*plt.get_cmap("tab20").colors])[:, :3]  # pyright: ignore
    colors = np.concatenate([colors[0::2], colors[1::2]])
    picture = colors[np.maximum(points.ends, 0) % len(colors)]
    picture[points.ends == ZERO_TYPE] = 1.0
    picture[points.ends == NOT_CONVERGED] = 0.5
    limits = (-extent, extent, -extent, extent)
    ax.imshow(picture.reshape(side, side, 3), origin="lower", extent=limits)
    for k in range(min(len(points), 10)):
        ax.plot([], [], "s", color=colors[k % len(colors)], label=f"{points.value[k]:.4g}")
    if points.num_zero_type:
        ax.plot([], [], "s", color="white", markeredgecolor="k", label="goes to zero")
    ax.legend(title="$N$", loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    ax.set_xlabel("a")
    ax.set_ylabel("b")
    ax.set_title("the KKT point that each start flows to")
    return ax


def early_convergence(
    found: EarlyConvergence, *, axes: Sequence[Axes] | None = None
) -> Sequence[Axes]:
    """Two panels: the cosine against rescaled time, and how it improves as δ falls.

    Left, `1 - cosine` to the member's KKT point at the smallest scale against `1 - s/T`,
    with `T` the time of escape: one line for each member, the median thick. Right,
    `1 - cosine` where `‖w‖ = √δ`, against δ.

    **Arguments:** what `verify_early_convergence` found; two matplotlib `axes`, a new
    figure if not given.

    **Returns:** the axes.
    """
    if axes is None:
        _, grid = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
        axes = list(grid)
    left, right = axes
    members = len(found.verdict)
    records = found.flows.records
    assert records is not None
    cosine = np.asarray(records.values["cosine"])[-members:]
    grid, end = records.grid[-members:], found.flows.rescaled_time[-members:, None]
    going = np.isfinite(found.closest[-1])
    x, y = (1 - grid / end)[going], np.maximum(1 - cosine, 1e-16)[going]
    for member in range(min(len(y), _MOST_LINES)):
        left.plot(x[member], y[member], color="C0", alpha=0.25, linewidth=0.6)
    if len(y):
        left.plot(_middle(x), _middle(y), color="C0", linewidth=2, label="median")
        left.legend(frameon=False)
    left.set(xscale="log", yscale="log", ylabel="1 - cosine to the KKT point")
    left.invert_xaxis()
    left.set_xlabel(
        f"share of the time to the escape that is left, δ = {found.scales[-1]:g}"
    )
    for member in np.flatnonzero(going)[:_MOST_LINES]:
        y = np.maximum(found.closest[:, member], 1e-16)
        right.plot(found.scales, y, color="C1", alpha=0.25, linewidth=0.6)
    if going.any():
        y = np.nanmedian(found.closest[:, going], axis=1)
        right.plot(found.scales, y, "o-", color="C1", linewidth=2, label="median")
        right.legend(frameon=False)
    right.set(xscale="log", yscale="log", xlabel="initialization scale δ")
    right.set_ylabel(r"1 - cosine where $\|w\| = \sqrt{\delta}$")
    for ax in axes:
        ax.grid(alpha=0.25)
    return axes


def saddle_to_saddle(found: SaddleToSaddle, *, ax: Axes | None = None) -> Axes:
    """Draw the loss of every member against rescaled time, and the saddles as plateaus.

    Lines follow the loss where `saddle_to_saddle` was asked for `points`, and are straight
    between saddles otherwise. Thick: visits, from arrival to departure. Crosses: predicted
    departures. At the right, the level of each saddle and how many parts have grown there.

    **Arguments:** what `saddle_to_saddle` found; matplotlib axes `ax`, new ones if not
    given.

    **Returns:** the axes.

    >>> import jax, jaxflow as jf
    >>> network = jf.DiagonalLinear(2, 2, key=jax.random.key(0))
    >>> task = jf.Task(jax.numpy.eye(2), jax.numpy.array([2.0, 1.0]))
    >>> found = jf.saddle_to_saddle(network, task, scale=1e-4, solver=None)
    >>> saddle_to_saddle(found).get_ylabel()
    'loss'
    """
    ax = _axes(ax)
    to_rescaled = (found.attrs["order"] - 2) * np.log(found.scale)[:, None]
    with np.errstate(over="ignore"):
        rescaled = lambda log_time: np.exp(log_time + to_rescaled)
        arrival, departure = rescaled(found.log_arrival), rescaled(found.log_departure)
        predicted = rescaled(found.predicted_log_departure)
        end = rescaled(found.final_log_time[:, None])[:, 0]
    # What happens after the last departure takes no time beside the plateaus.
    last = np.max(np.where(np.isfinite(departure), departure, 0.0), initial=0.0)
    right = 1.12 * last if last > 0 else float(np.max(end))
    shown = range(min(len(end), _MOST_LINES))
    for member in shown:
        known = found.visited[member]
        level = found.loss[member, known]
        left = np.minimum(
            np.where(np.isnan(departure[member]), right, departure[member]), right
        )
        times = np.stack([arrival[member, known], left[known]], axis=1)
        if found.loss_curve is not None and found.log_time_curve is not None:
            x = rescaled(found.log_time_curve)[member]
            x, y = np.append(x, right), np.append(found.loss_curve[member], np.nan)
            y[-1] = found.final_loss[member]
        else:
            x, y = times.ravel(), np.repeat(level, 2)
            if found.status[member] == "LossBelow":
                x = np.append(x, [times[-1, 1], right])
                y = np.append(y, [found.final_loss[member]] * 2)
        ax.plot(x, y, color="C0", alpha=0.5, linewidth=0.9)
        for k, (begin, stop) in enumerate(times):
            ax.plot([begin, stop], [level[k]] * 2, color=f"C{k % 9 + 1}", linewidth=2.5)
        ax.plot(predicted[member, known], level, "x", color="k", markersize=6)
    ax.plot([], [], "x", color="k", label="departure, predicted")
    ax.plot([], [], color="0.4", linewidth=2.5, label="at a saddle")
    for k in range(found.loss.shape[1]):
        here = found.visited[:, k]
        grown = np.median(found.rank[here, k])
        text = f"{np.median(found.loss[here, k]):.4g}"
        text += f", {grown:.0f} grown" if grown >= 0 else ""
        level = float(np.median(found.loss[here, k]))
        ax.annotate(
            text,
            (1.0, level),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=f"C{k % 9 + 1}",
            fontsize=9,
        )
    ax.set_xlim(0, right)
    ax.set_ylim(bottom=0)
    ax.set_xlabel(
        "time $t$" if found.attrs["order"] == 2 else r"rescaled time $s = \delta^{L-2}\,t$"
    )
    ax.set_ylabel("loss")
    ax.legend(frameon=False)
    ax.grid(alpha=0.25)
    return ax


def _dataset(results) -> xarray.Dataset:
    dataset = results.dataset if isinstance(results, Solution) else results
    return dataset if "init" in dataset.dims else dataset.expand_dims("init")


def _values_and_grid(dataset, name):
    if name not in dataset or _grid_name(dataset) is None:
        raise InputError("name", repr(name), f"a recorded function of {list(dataset)}")
    return dataset[name].values, dataset[_grid_name(dataset)].values


def _grid_name(dataset) -> str | None:
    others = [str(name) for name in dataset.coords if name != "init"]
    return others[0] if others else None


def _middle(values):
    """The median over members, NaN where there is none."""
    known = np.isfinite(values).any(axis=0)
    return np.nanmedian(np.where(known, values, 0.0), axis=0) + np.where(known, 0.0, np.nan)


def _axes(ax) -> Axes:
    return plt.subplots(layout="constrained")[1] if ax is None else ax
