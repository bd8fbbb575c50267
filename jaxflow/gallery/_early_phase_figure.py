"""The figure of the early phase: `1 - cosine` against δ, and ranks of KKT points."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray

from ..kkt import wilson
from ..plot._style import colors_of, legend, style_of

_LEAST = 1e-32
"""Where a picture ends below: the square of the rounding of a cosine's vectors."""


def draw(cells: xarray.Dataset, digits: xarray.Dataset | None, hidden: float) -> Any:
    """Two panels.

    Arguments:
        cells: what `verify_early_convergence` found, over networks.
        digits: the same over losses, if there is one.
        hidden: the `1 - cosine` below which the accuracy of the KKT points hides it.
    """
    import matplotlib.pyplot as plt  # which other commands can do without

    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 4.8), width_ratios=(1.9, 1), layout="constrained"
    )
    lines = list(_lines(cells, digits))
    scales = cells["scale"].values
    names, worst = [], []
    looks = zip(colors_of(len(lines)), map(style_of, range(len(lines))))
    for number, ((name, one), (color, style)) in enumerate(zip(lines, looks)):
        closest = np.maximum(one["closest"].values, _LEAST)
        worst.append(np.nanmax(closest, axis=1))
        order, theory = float(one["fitted_order"].median()), one["expected_order"].median()
        label = f"{name}: {order:.2f} ({float(theory):.2f})"
        middle = np.nanmedian(closest, axis=1)
        left.plot(scales, middle, style, color=color, marker="o", ms=4, label=label)
        known = np.isfinite(one["kkt_value"].values)
        num = int((one["rank_one"].values.astype(bool) & known).sum())
        low, high = wilson(num, int(known.sum()))
        right.plot([low, high], [number, number], color=color, linewidth=2)
        right.plot(num / max(known.sum(), 1), number, "o", color=color)
        names.append(f"{name}\n{num} of {known.sum()}")
    left.plot(
        scales,
        np.max(worst, axis=0),
        ":",
        color="0.3",
        linewidth=1.2,
        label="the worst member of all",
    )
    left.axhspan(_LEAST, hidden, color="0.93", zorder=0)
    told = "hidden by the accuracy of KKT points"
    left.text(scales[-1], 20 * _LEAST, told, ha="right", fontsize=8, color="0.3")
    left.set(xscale="log", yscale="log", xlabel="initialization scale δ")
    left.set_ylabel(r"1 - cosine to the KKT point, where $\|w\| = \sqrt{\delta}$")
    left.set_ylim(_LEAST, 3)
    left.invert_xaxis()
    left.set_title("the smaller δ, the closer to the KKT point", fontsize=10)
    legend(left, fontsize=8, loc="lower left", title="medians: order in δ (in theory)")
    right.set_yticks(range(len(names)), names, fontsize=8)
    right.set_ylim(len(names) - 0.5, -0.5)
    right.set_xlim(0, 1.03)
    right.set_xlabel("share of members, with 95% interval")
    right.set_title("members that end at a KKT point of rank one", fontsize=10)
    for ax in (left, right):
        ax.grid(alpha=0.25)
    return figure


def _lines(
    cells: xarray.Dataset, digits: xarray.Dataset | None
) -> Iterator[tuple[str, xarray.Dataset]]:
    """The name of every line, and what it shows."""
    for number in range(cells.sizes["depth"]):
        one = cells.isel(depth=number)
        kind = "linear" if float(one["slope"]) == 1 else f"$p={int(one['power'])}$"
        yield f"$D={int(one['depth'])}$, {kind}", one
    if digits is not None:
        for number in range(digits.sizes["loss"]):
            one = digits.isel(loss=number)
            yield f"digits, {one['loss'].item()}", one
