"""Colours, scales and words that all pictures share."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import FuncFormatter, Locator, MaxNLocator

from ..quantities import KNOWN, quantity

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
COLORS = (BLUE, ORANGE, GREEN, PURPLE, "#000000", "#E69F00", "#56B4E9")
"""Colours that people with any colour vision tell apart: Okabe and Ito, Color Universal
Design (2008), without their yellow. The last two are pale on white, and seldom needed."""

STYLES = ("-", "--", "-.", ":")
MAP = "cividis"
"""The map from numbers to colours, from dark to light, which grey keeps and which people
with any colour vision see alike: Nuñez, Anderton and Renslow (2018). Of numbers of either
sign zero is its neutral grey, with the limits on both sides alike."""

_DARKEST = 0.8
"""The share of the map for lines that is dark enough on white. Chosen."""
_DECADES = 2
"""From so many decades on a scale is logarithmic. Chosen."""
_LOGARITHM = "natural logarithm of "
_SYMBOLS = {
    "loss": r"$\mathcal{L}(w)$",
    "final_loss": r"$\mathcal{L}(w)$",
    "norm": r"$\|w\|$",
    "log_norm": r"$\|w\|$",
    "layer_norms": r"$\|W_l\|_F$",
    "stable_rank": r"$\|W_l\|_F^2 / \|W_l\|_2^2$",
    "singular_values": r"$\sigma_k(W_l)$",
    "ncf": r"$N(w)$",
}
"""Symbols of quantities that usually have these names."""


def color_of(number: int) -> str:
    """The colour of the line of this number."""
    return COLORS[number % len(COLORS)]


def style_of(number: int) -> str:
    """The style of the line of this number, which grey keeps too."""
    return STYLES[number % len(STYLES)]


def styles_of(num: int) -> list[str]:
    """Styles for the lines of `colors_of(num)`: different ones up to a few."""
    return [style_of(number) if num <= len(COLORS) else "-" for number in range(num)]


def colors_of(num: int) -> list[Any]:
    """Colours for so many lines: by name up to a few, else along a map for a colour bar."""
    if num <= len(COLORS):
        return list(COLORS[:num])
    return list(plt.get_cmap(MAP)(np.linspace(0.0, _DARKEST, num)))


def name_colors(ax: Axes, num: int, what: str, styles: Sequence[str]) -> None:
    """Names for `colors_of(num)`: entries of a legend for a few, a colour bar for many."""
    if num <= len(COLORS):
        for number, (color, style) in enumerate(zip(colors_of(num), styles), start=1):
            ax.plot([], [], style, color=color, linewidth=1.8, label=f"{what} {number}")
        return
    norm = Normalize(1, 1 + (num - 1) / _DARKEST)
    scale = ScalarMappable(norm, MAP)
    bar = ax.get_figure(root=True).colorbar(scale, ax=ax, label=what)  # pyright: ignore
    bar.ax.set_ylim(1, num)
    bar.locator = MaxNLocator(integer=True, nbins=6)


def set_off(line: Line2D) -> None:
    """A white edge, by which a line is seen among many in grey too."""
    edge = Stroke(linewidth=line.get_linewidth() + 2, foreground="white")
    line.set_path_effects([edge, Normal()])


def legend(ax: Axes, **options: Any) -> None:
    """A legend, where anything has a name."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(**{"framealpha": 0.75, "edgecolor": "none", **options})


def in_words(dataset: xarray.Dataset, name: str) -> str:
    """What a column is, from its declaration: its long name, and its unit if it has one."""
    attrs = dataset[name].attrs if name in dataset.variables else {}
    text = attrs.get("long_name", "")
    units = attrs.get("units", "1")
    if not text and name in KNOWN:
        text, units = quantity(name).meaning, quantity(name).units
    if not text or text.startswith("recorded function"):
        text = name.replace("_", " ")
    if units in ("", "1") or units in text:
        return text
    return f"{units} {text}" if " = " in text else f"{text} [{units}]"


def with_symbol(dataset: xarray.Dataset, words: str, name: str) -> str:
    """The words for a quantity, and its symbol if it has one."""
    if name not in _SYMBOLS:
        return words
    about = dataset.attrs.get("jaxflow", {})
    is_limit = isinstance(about, dict) and about.get("kind") == "neural correlation flow"
    if is_limit and name in ("norm", "log_norm"):  # of w/δ
        return f"{words} $\\|w\\|/\\delta$"
    return f"{words} {_SYMBOLS[name]}"


def is_logarithm(dataset: xarray.Dataset, name: str) -> bool:
    """Whether a column holds natural logarithms."""
    return in_words(dataset, name).startswith(_LOGARITHM)


def of_logarithm(words: str) -> str:
    """The words for that of which it is the logarithm."""
    return words.removeprefix(_LOGARITHM).removeprefix("the ")


def show_powers(axis: Any) -> None:
    """Ticks of an axis of decimal logarithms, written as the numbers they stand for."""
    axis.set_major_locator(_OfExponents())
    axis.set_major_formatter(FuncFormatter(_power))


class _OfExponents(Locator):
    """Whole exponents, and where there are few the logarithms of 2 and 5 between them."""

    def __call__(self):
        return self.tick_values(*self.axis.get_view_interval())  # pyright: ignore

    def tick_values(self, vmin, vmax):
        low, high = sorted((vmin, vmax))
        if high - low >= _DECADES:
            return MaxNLocator(integer=True, nbins=7).tick_values(vmin, vmax)
        whole = np.arange(np.floor(low), np.ceil(high) + 1)
        ticks = np.add.outer(whole, np.log10([1, 2, 5])).ravel()
        return ticks[(low <= ticks) & (ticks <= high)]


def _power(exponent: float, _: Any = None) -> str:
    whole = round(exponent)
    if abs(exponent - whole) < 1e-9:
        return f"$10^{{{whole}}}$"
    return number_in_words(10.0**exponent)


def spans_decades(values: np.ndarray | Sequence[float], decades: float = _DECADES) -> bool:
    """Whether numbers are none of them negative, and of very different size."""
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    positive = known[known > 0]
    if not positive.size or (known < 0).any():
        return False
    return bool(positive.max() > 10**decades * positive.min())


def number_in_words(value: float) -> str:
    """A number with three digits, in powers of ten where it is large or small."""
    if value == 0 or not np.isfinite(value) or 1e-3 <= abs(value) < 1e4:
        return f"{value:.3g}"
    return exponential_in_words(np.log(abs(value)), "-" if value < 0 else "")


def exponential_in_words(log: float, sign: str = "") -> str:
    """The number of which this is the natural logarithm, which no float may hold."""
    if not np.isfinite(log) or abs(log) < np.log(1e3):
        return f"{sign}{np.exp(log):.3g}"
    exponent = int(np.floor(log / np.log(10)))
    factor, _, carried = f"{np.exp(log - exponent * np.log(10)):.1e}".partition("e")
    times = "" if factor == "1.0" else rf"{factor} \times "
    return rf"${sign}{times}10^{{{exponent + int(carried)}}}$"
