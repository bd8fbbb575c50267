"""The figure of piecewise linear solutions: functions, masses, and knots, by noise."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray

from ..observables import DistinctKnots
from ..plot._style import color_of, colors_of, legend, styles_of
from ._piecewise_linear_limit import Limit

_BIN = 0.02
"""Width of a bin of masses."""


class Shown(NamedTuple):
    """One set of data: `inputs`, `targets`, the `limit`, and runs with knots by width."""

    inputs: Sequence[float]
    targets: Sequence[float]
    limit: Limit
    runs: Mapping[int, tuple[xarray.Dataset, DistinctKnots]]


def draw(shown: Mapping[str, Shown], noises: Sequence[float]) -> Any:
    """A row of three panels for each set of data, of the widest network's first member."""
    import matplotlib.pyplot as plt  # which other commands can do without

    figure, axes = plt.subplots(
        len(shown), 3, figsize=(13, 3.9 * len(shown)), squeeze=False, layout="constrained"
    )
    for row, (words, one) in zip(axes, shown.items()):
        width = max(one.runs)
        dataset, _ = one.runs[width]
        span = one.inputs[0] - 0.4, one.inputs[-1] + 0.4
        _functions(row[0], dataset, one, noises, span)
        _masses(row[1], dataset, one, noises, span)
        _places(row[2], one, noises, span)
        row[0].set_title(f"{words}, N = {width}, one member", fontsize=10)
        row[1].set_title("where its slope changes", fontsize=10)
        row[2].set_title("knots of all members, and of the limit", fontsize=10)
    legend(axes[0, 0], fontsize=8, loc="upper center")
    return figure


def _functions(ax, dataset, one, noises, span) -> None:
    x = np.linspace(span[0], span[1], 400)
    last = dataset.isel(init=0)
    columns = last["weights_weights_1"].values[:, 0]
    rows, biases = (
        last["weights_weights_0"].values[:, :, 0],
        last["weights_biases_0"].values,
    )
    styles = styles_of(len(noises))
    for stage, (noise, color) in enumerate(zip(noises, colors_of(len(noises)))):
        hidden = np.maximum(np.outer(x, rows[stage]) + biases[stage], 0.0)
        ax.plot(x, hidden @ columns[stage] / len(rows[stage]), styles[stage], color=color)
        ax.plot([], [], styles[stage], color=color, label=f"$1/\\beta$ = {_power(noise)}")
    ax.plot(x, one.limit.values(x), color="0.6", linewidth=4, zorder=0, label="limit")
    ax.plot(one.inputs, one.targets, "o", color="black", label="data")
    ax.set(xlabel="x", ylabel="f(x)", xlim=span)


def _masses(ax, dataset, one, noises, span) -> None:
    edges = np.arange(span[0], span[1] + _BIN, _BIN)
    last = dataset.isel(init=0)
    for stage, color in enumerate(colors_of(len(noises))):
        place, mass = (last[f"knots_{n}"].values[stage] for n in ("position", "mass"))
        seen, _ = np.histogram(place, edges, weights=np.abs(mass))
        share = seen / np.sum(np.abs(mass))
        lift = len(noises) - 1 - stage
        ax.stairs(
            lift + 0.9 * share / share.max(), edges, baseline=lift, fill=True, color=color
        )
        most = f"largest bin {100 * share.max():.0f}%"
        ax.text(span[1], lift + 0.6, most, fontsize=8, ha="right", color=color)
    for place in one.inputs:
        ax.axvline(place, color="0.7", linewidth=0.8, zorder=0)
    names = [_power(noise) for noise in reversed(noises)]
    ax.set_yticks(range(len(noises)), names)
    ax.set(xlabel="$-b_j/w_j$ (grey: inputs)", xlim=span, ylim=(0, len(noises)))
    ax.set_ylabel(f"noise $1/\\beta$: shares of mass in bins of {_BIN}")


def _places(ax, one, noises, span) -> None:
    for place in one.inputs:
        ax.axvline(place, color="0.7", linewidth=0.8, zorder=0)
    for place in one.limit.position:
        if span[0] < place < span[1]:
            ax.axvline(place, color="0.6", linewidth=4, zorder=0)
    for number, (width, (_, knots)) in enumerate(sorted(one.runs.items())):
        shift = 10 ** (0.22 * (number - (len(one.runs) - 1) / 2))
        for stage, noise in enumerate(noises):
            place = knots.position[:, stage].ravel()
            place = place[np.isfinite(place)]
            color = color_of(number)
            ax.plot(place, np.full(len(place), noise * shift), "|", color=color, ms=8)
        ax.plot([], [], "|", color=color_of(number), label=f"N = {width}")
    ax.set(xlabel="position (thin: inputs, thick: limit)", xlim=span, yscale="log")
    ax.set_ylabel(r"noise $1/\beta$")
    ax.set_ylim(noises[-1] / 4, noises[0] * 4)
    legend(ax, fontsize=8, loc="lower left")


def _power(noise: float) -> str:
    return f"$10^{{{np.log10(noise):.0f}}}$"
