"""The early phase of an ensemble, and how it depends on the initialization scale."""

from collections.abc import Sequence

import numpy as np
import xarray
from matplotlib.axes import Axes

from .._checks import shown
from ..early_phase import EarlyConvergence, EarlyPhase
from ..errors import InputError
from ..results import Solution
from ._axes import check_axes, dataset_of, draw_members, median, panels
from ._curves import Curves
from ._recorded import recorded
from ._style import legend, ORANGE

_OF_EARLY_PHASE = (
    *("blow_up_time", "kkt_value", "rescaled_time", "scale"),
    *("norm", "cosine", "loss", "stable_rank"),
)


def early_phase(
    results: EarlyPhase | Solution | xarray.Dataset,
    *,
    axes: Sequence[Axes] | None = None,
) -> Sequence[Axes]:
    """Four panels of the early phase: norm, cosine, loss and stable rank of each layer.

    Against the share of the rescaled time that is left before the escape, `1 - s/T*`,
    which is where everything happens: near `T*` the norm grows like
    `((L-2) L N (T* - s))^(-1/(L-2))`, drawn as a dashed line.

    Arguments:
        results: what `follow_early_phase` found; or a `Solution` or dataset with the
            records `norm`, `cosine`, `loss` and `stable_rank` over rescaled time, and with
            `blow_up_time` and `kkt_value`, such as its `curves`.
        axes: four matplotlib axes; a new figure if not given.

    Returns:
        The four axes.

    Raises:
        InputError: if one of these is missing.
    """
    expected = "what follow_early_phase found, or records, blow_up_time and kkt_value"
    results = results.curves if isinstance(results, EarlyPhase) else results
    dataset = dataset_of("results", results, expected, _OF_EARLY_PHASE)
    axes = four_panels() if axes is None else check_axes(axes, 4)
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
    order = float(dataset.attrs["jaxflow"]["settings"]["order"])
    # What the norm tends to once the direction rests, with dρ/dτ = L N.
    rate = (order - 2) * order * dataset["kkt_value"].values[:, None] * end
    theory = dataset["scale"].values[:, None] * (rate * left) ** (-1 / (order - 2))
    norm.plot(median(left), median(theory), "k--", linewidth=1.2, label="theory")
    norm.set_ylim(bottom=0.7 * float(dataset["scale"].values[0]))
    norm.set_yscale("log")
    norm.set(title="the weights stay tiny", ylabel=r"$\|w\|$")
    legend(norm)
    cosine.set(title="their direction converges to a KKT point", ylabel="cosine")
    cosine.axhline(1, color="k", linewidth=0.8, linestyle=":")
    loss.set(title="the loss does not move", ylabel=r"$\mathcal{L}(w)$")
    loss.set_ylim(0, 1.15 * np.nanmax(dataset["loss"]))
    rank.set(title="every layer becomes rank one", ylabel="stable rank")
    rank.set_ylim(bottom=0)
    return axes


def four_panels() -> list[Axes]:
    """Axes of a new figure with two rows of two panels over one x axis."""
    return panels(2, 2, (9.5, 6.5), sharex=True)


def early_convergence(
    found: EarlyConvergence, *, axes: Sequence[Axes] | None = None
) -> Sequence[Axes]:
    """Two panels: the cosine against rescaled time, and how it improves as δ falls.

    Left, `1 - cosine` to the member's KKT point at the smallest scale against `1 - s/T`,
    with `T` the time of escape: one line for each member, the median thick. Right,
    `1 - cosine` where `‖w‖ = √δ`, against δ.

    Arguments:
        result: what `verify_early_convergence` found; its dataset alone has not the curves
            of the left panel.
        axes: two matplotlib axes, a new figure if not given.

    Returns:
        The axes.

    Raises:
        InputError: for something else.
    """
    if not isinstance(found, EarlyConvergence):
        raise InputError("found", shown(found), "what verify_early_convergence found")
    axes = panels(1, 2, (9.5, 3.8)) if axes is None else check_axes(axes, 2)
    left, right = axes
    flows = dataset_of("found", found.flows, "the flows of verify_early_convergence")
    scales = found.dataset["scale"].values
    closest = found.dataset["closest"].values
    going = np.isfinite(closest[-1])
    # The smallest scale comes last, and its members are as many as any scale's.
    last = flows.isel(init=slice(-len(going), None)).isel(init=np.flatnonzero(going))
    x = 1 - last["rescaled_time"].values / last["final_rescaled_time"].values[:, None]
    y = np.maximum(1 - last["cosine"].values, 1e-16)
    if going.any():
        curves = Curves.of(x, y[..., None], x_log=True, y_log=True)
        draw_members(left, x, y, (curves.places, curves.middle(0)))
        legend(left)
        drawn = np.maximum(closest[:, going].T, 1e-16)
        middle = (scales, np.nanmedian(closest[:, going], axis=1))
        draw_members(right, [scales] * len(drawn), drawn, middle, ORANGE, "o-")
        legend(right)
    left.set(xscale="log", yscale="log", ylabel="1 - cosine to the KKT point")
    left.invert_xaxis()
    left.set_xlabel(f"share of the time to the escape that is left, δ = {scales[-1]:g}")
    right.set(xscale="log", yscale="log", xlabel="initialization scale δ")
    right.set_ylabel(r"1 - cosine where $\|w\| = \sqrt{\delta}$")
    for ax in axes:
        ax.grid(alpha=0.25)
    return axes
