"""Which pictures fit what a study left, and how they are drawn."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib.pyplot as plt
import xarray
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import plot
from ..errors import InputError
from ._outcome import in_a_cell, Outcome

_MOST_PANELS = 12
"""Settings that one figure shows beside each other. Chosen."""
_COLUMNS = 4
_OWN = "weights"


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure that can be drawn: its `name`, what it is in words, and how."""

    name: str
    title: str
    draw: Callable[[], Figure]


def pictures_of(outcome: Outcome, kind: str | None = None) -> list[Picture]:
    """All pictures that fit, or those of one kind, such as `curves` or `curves-loss`.

    Raises:
        InputError: for a kind that there is none of.
    """
    known = _all(outcome)
    if kind is None:
        return known
    found = [each for each in known if kind in (each.name, each.name.partition("-")[0])]
    if not found:
        names = ", ".join(each.name for each in known)
        expected = f"one that fits {outcome.path.name}: {names}"
        raise InputError("kind", repr(kind), expected)
    return found


def _curves(outcome: Outcome) -> Iterator[Picture]:
    """What was recorded, along the path of members."""
    for name in _recorded(outcome):
        draw = lambda dataset, ax, name=name: plot.recorded(dataset, name, ax=ax)
        title = f"{_in_words(name).capitalize()} along the path"
        yield _of_settings(outcome, f"curves-{name}", title, draw)


def _spectra(outcome: Outcome) -> Iterator[Picture]:
    if "singular_values" in _recorded(outcome) and not outcome.swept:
        yield _whole("spectra", "Singular values of each layer", plot.spectra, outcome)


def _final_losses(outcome: Outcome) -> Iterator[Picture]:
    if "final_loss" in outcome.dataset:
        draw = lambda dataset, ax: plot.final_losses(dataset, ax=ax)
        yield _of_settings(outcome, "final_losses", "Losses at the end", draw)


def _sweep(outcome: Outcome) -> Iterator[Picture]:
    """Medians over members, against what was swept."""
    dims = set(outcome.swept)
    if not dims:
        return
    for name in ("final_loss", "test_loss", "final_log_norm", "final_log_time"):
        if name not in outcome.dataset or not dims <= set(outcome.dataset[name].dims):
            continue
        title = f"{_in_words(name).capitalize()} over the sweep"
        yield Picture(f"sweep-{name}", title, _draws_sweep(outcome, name))


def _draws_sweep(outcome: Outcome, name: str) -> Callable[[], Figure]:
    def draw() -> Figure:
        others = list(outcome.swept[:-2])
        if not others:
            return _figure_of(plot.sweep(outcome.dataset, name))
        stacked = outcome.dataset.stack(panel=others)
        num = min(stacked.sizes["panel"], _MOST_PANELS)
        figure, axes = _grid(num)
        for place, ax in zip(range(num), axes):
            one = stacked.isel(panel=place)
            words = [f"{dim} = {in_a_cell(one[dim].item())}" for dim in others]
            plot.sweep(one.drop_vars(["panel", *others]), name, ax=ax)
            bar: Any = ax.collections[0].colorbar
            figure.suptitle(bar.ax.get_ylabel(), fontsize="medium")  # once for all panels
            bar.set_label("")
            ax.set_title(", ".join(words), fontsize="medium")
        return figure

    return draw


def _of_result(outcome: Outcome) -> Iterator[Picture]:
    """What a result says that it is drawn by."""
    for name in type(outcome.result).pictures if outcome.result is not None else ():
        title = _in_words(name).capitalize()
        yield _whole(name, title, getattr(plot, name), outcome)


def _all(outcome: Outcome) -> list[Picture]:
    makers = (_curves, _sweep, _final_losses, _spectra, _of_result)
    return [picture for maker in makers for picture in maker(outcome)]


def _in_words(name: str) -> str:
    """The name of a column or picture, with spaces, and without `log`: axes say of what."""
    return name.replace("_log_", "_").replace("_", " ")


def _recorded(outcome: Outcome) -> list[str]:
    """The names of recorded functions that are numbers."""
    about = outcome.dataset.attrs.get("jaxflow", {})
    dims = about.get("records", {}).get("dims", {}) if isinstance(about, dict) else {}
    return [name for name in dims if name in outcome.dataset and _OWN not in name]


def _of_settings(outcome: Outcome, name: str, title: str, draw: Callable) -> Picture:
    """One panel for each setting, the first dozen of them."""

    def drawn() -> Figure:
        if not outcome.swept:
            return _figure_of(draw(outcome.dataset, None))
        settings = [(words, one) for words, _, one in outcome.each() if _is_there(one)]
        figure, axes = _grid(min(len(settings), _MOST_PANELS))
        for (words, one), ax in zip(settings, axes):
            draw(one, ax)
            ax.set_title(words, fontsize="medium")
        return figure

    return Picture(name, title, drawn)


def _is_there(dataset: xarray.Dataset) -> bool:
    return "status" not in dataset or bool((dataset["status"].values != 0).any())


def _whole(name: str, title: str, draw: Callable, outcome: Outcome) -> Picture:
    def drawn() -> Figure:
        axes = draw(outcome.result)
        return _figure_of(axes if isinstance(axes, Axes) else axes[0])

    return Picture(name, title, drawn)


def _figure_of(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def _grid(num: int) -> tuple[Figure, list[Axes]]:
    columns = min(num, 3 if num in (3, 5, 6, 9) else _COLUMNS)
    rows = math.ceil(num / columns)
    size = (max(6.4, 3.4 * columns), max(4.0, 2.9 * rows))
    figure, grid = plt.subplots(
        rows, columns, figsize=size, layout="constrained", squeeze=False
    )
    axes = list(grid.ravel())
    for ax in axes[num:]:
        ax.set_visible(False)
    return figure, axes[:num]
