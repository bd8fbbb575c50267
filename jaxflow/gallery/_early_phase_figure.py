"""The figure of the early phase: `1 - cosine` against δ, and ranks of KKT points."""

from typing import Any

import numpy as np
import xarray

from ..kkt import wilson
from ..plot._style import colors_of, legend, styles_of


def draw(cells: xarray.Dataset, hidden: float) -> Any:
    """Two panels.

    Arguments:
        cells: what `verify_early_convergence` found, over networks.
        hidden: the `1 - cosine` below which the accuracy of the KKT points hides it.
    """
    import matplotlib.pyplot as plt  # which other commands can do without

    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 4.4), width_ratios=(1.9, 1), layout="constrained"
    )
    scales = cells["scale"].values
    num = cells.sizes["depth"]
    names = []
    for number, (color, style) in enumerate(zip(colors_of(num), styles_of(num))):
        one = cells.isel(depth=number)
        depth, power = int(one["depth"]), int(one["power"])
        kind = "linear" if float(one["slope"]) == 1 else f"$p={power}$"
        closest = np.maximum(one["closest"].values, 1e-32)
        middle, worst = np.nanmedian(closest, axis=1), np.nanmax(closest, axis=1)
        order = float(one["fitted_order"].median())
        theory = float(one["expected_order"].median())
        label = f"$D={depth}$, {kind}: {order:.2f} ({theory:.2f})"
        left.plot(scales, middle, style, color=color, marker="o", ms=4, label=label)
        left.plot(scales, worst, ":", color=color, linewidth=1)
        known = np.isfinite(one["kkt_value"].values)
        rank_one = int((one["rank_one"].values.astype(bool) & known).sum())
        share, interval = rank_one / max(known.sum(), 1), wilson(rank_one, int(known.sum()))
        right.plot(interval, [number, number], color=color, linewidth=2)
        right.plot(share, number, "o", color=color)
        names.append(f"$D={depth}$, {kind}\n{rank_one} of {known.sum()}")
    left.axhspan(1e-32, hidden, color="0.93", zorder=0)
    left.text(scales[0], hidden / 30, "hidden by the accuracy\nof KKT points", va="top")
    left.set(xscale="log", yscale="log", xlabel="initialization scale δ")
    left.set_ylabel(r"1 - cosine to the KKT point, where $\|w\| = \sqrt{\delta}$")
    left.set_ylim(1e-32, 3)
    left.invert_xaxis()
    left.set_title("the smaller δ, the closer: order in δ (in theory)", fontsize=10)
    left.plot([], [], ":", color="0.4", linewidth=1, label="worst member")
    legend(left, fontsize=8, loc="lower left", title="medians over members")
    right.set_yticks(range(num), names, fontsize=8)
    right.invert_yaxis()
    right.set_ylim(num - 0.5, -0.5)
    right.set_xlim(0, 1.03)
    right.set_xlabel("share of members, with 95% interval")
    right.set_title("that end at a KKT point of rank one", fontsize=10)
    for ax in (left, right):
        ax.grid(alpha=0.25)
    return figure
