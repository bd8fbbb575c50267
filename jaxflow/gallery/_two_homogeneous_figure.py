"""The figure of the claim about two-homogeneous networks."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray
from matplotlib.axes import Axes

from ..plot._style import color_of

_MARKS = "osd^v"


def draw(found: xarray.DataTree, ladders: Sequence[str]) -> Any:
    """Ladders of the loss above; below what of them and of starts near a saddle is off."""
    there = [name for name in ladders if name in found]
    columns = max(len(there), 3)
    figure, axes = plt.subplots(
        2, columns, figsize=(4.2 * columns, 7.6), layout="constrained"
    )
    for ax, name in zip(axes[0], there):
        _ladder(ax, found[name].dataset, name)
    for ax in axes[0][len(there) :]:
        ax.set_visible(False)
    parts = [str(name) for name in found]
    _against_scale(axes[1][0], found, parts, _turned, "1 - cosine, first departure")
    _against_scale(axes[1][1], found, parts, _wrong, "error of predicted waits")
    _told_and_seen(axes[1][2], found["near"].dataset)
    for ax in axes[1][3:]:
        ax.set_visible(False)
    axes[1][0].set_title("distance to the KKT point")
    axes[1][1].set_title("predicted departures, all saddles")
    handles, labels = axes[1][0].get_legend_handles_labels()
    axes[1][1].legend(handles, labels, fontsize=8, framealpha=0.9, edgecolor="none")
    return figure


def _ladder(ax: Axes, ds: xarray.Dataset, name: str) -> None:
    scales = ds["scale"].values
    latest = 0.0
    for s, scale in enumerate(scales):
        unit, color = np.log(1 / scale), color_of(s)
        label = f"δ = {scale:g}"
        for m in range(ds.sizes["init"]):
            x = np.exp(ds["log_time_curve"].values[s, m]) / unit
            ax.plot(
                x, ds["loss_curve"].values[s, m], color=color, alpha=0.45, linewidth=0.8,
                label=label if m == 0 else None,
            )  # fmt: skip
            told = np.exp(ds["predicted_log_departure"].values[s, m]) / unit
            level = ds["loss"].values[s, m]
            left = np.isfinite(ds["log_departure"].values[s, m])
            told = np.where(left & np.isfinite(told), told, np.nan)
            ax.plot(told, level, "|", color=color, markersize=11, markeredgewidth=1.2)
            latest = max(latest, float(np.nanmax(told)))
    ax.plot([], [], "|", color="0.3", markersize=11, label="predicted departure")
    ax.set_xlim(0, 1.25 * latest)
    ax.set_ylim(bottom=0)
    ax.set_xlabel(r"time over $\log(1/\delta)$")
    ax.set_ylabel("loss")
    ax.set_title(name)
    ax.legend(fontsize=8, framealpha=0.75, edgecolor="none")
    ax.grid(alpha=0.25)


def _turned(ds: xarray.Dataset) -> np.ndarray:
    return np.maximum(1 - ds["cosine"].values[:, :, 0], 1e-16)


def _wrong(ds: xarray.Dataset) -> np.ndarray:
    """Errors at the start and at saddles, near misses left out, a row for each scale."""
    names = np.array(ds["kind"].attrs["flag_meanings"].split(" "))
    error = np.abs(ds["escape_error"].values)
    kept = (names[ds["kind"].values] != "near_miss") & np.isfinite(error)
    return np.where(kept, error, np.nan).reshape(len(error), -1)


def _against_scale(
    ax: Axes, found: xarray.DataTree, parts: Sequence[str], of: Any, words: str
) -> None:
    for k, part in enumerate(parts):
        ds = found[part].dataset
        values, scales = of(ds), ds["scale"].values
        color, mark = color_of(k), _MARKS[k % len(_MARKS)]
        label = "near a saddle" if part == "near" else part
        middle, worst = np.nanmedian(values, axis=1), np.nanmax(values, axis=1)
        ax.loglog(scales, middle, f"{mark}-", color=color, label=label, markersize=5)
        ax.loglog(scales, worst, f"{mark}:", color=color, markersize=5, mfc="none")
    ax.plot([], [], "-", color="0.3", label="median")
    ax.plot([], [], ":", color="0.3", label="worst member")
    ax.set_xlabel(r"scale $\delta$")
    ax.set_ylabel(words)
    ax.grid(alpha=0.25)


def _told_and_seen(ax: Axes, ds: xarray.Dataset) -> None:
    """Starts near a saddle: when they leave it, against the leading order."""
    seen = np.exp(ds["log_departure"].values[:, :, 0])
    value = ds["kkt_value"].values[:, :, 0]
    scales = ds["scale"].values
    for m in range(ds.sizes["init"]):
        ax.plot(
            np.log(1 / scales), 2 * value[:, m] * seen[:, m], color="0.6", linewidth=0.7
        )
    for s, scale in enumerate(scales):
        x = np.full(seen.shape[1], np.log(1 / scale))
        ax.plot(x, 2 * value[s] * seen[s], "o", color=color_of(s), markersize=4)
    ends = np.log(1 / scales[[0, -1]])
    middle = np.median(2 * value[-1] * seen[-1]) - ends[-1]
    ax.plot(ends, ends + middle, "--", color="k", label="slope one")
    ax.set_xlabel(r"$\log(1/\delta)$")
    ax.set_ylabel(r"$2 N_r\, t$ at the departure")
    ax.set_title("started near a saddle")
    ax.legend(fontsize=8, framealpha=0.75, edgecolor="none")
    ax.grid(alpha=0.25)
