"""One picture for each benchmark, from its file of figures.

python -m benchmarks.pictures     # draws all of benchmarks/results again
"""

import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Results = Mapping[str, Mapping[str, Any]]  # of the parts, by name
_PANEL = (4.0, 3.1)


def draw(benchmark: str, results: Results, path: pathlib.Path) -> None:
    """Draw what there is of a benchmark's parts; a part that never ran is left out."""
    parts = {name: one["figures"] for name, one in results.items()}
    with plt.rc_context({"font.size": 9, "axes.titlesize": "medium"}):
        figure = _DRAWINGS[benchmark](parts)
        figure.savefig(path, dpi=110)
        plt.close(figure)


def _panels(
    num: int, most: int = 3, size: tuple[float, float] = _PANEL, share: bool = False
):
    columns = min(most, num)
    lines = -(-num // columns)
    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(size[0] * columns, size[1] * lines),
        squeeze=False,
        sharex=share,
        sharey=share,
        layout="constrained",
    )
    for ax in axes.flat[num:]:
        ax.set_visible(False)
    return figure, list(axes.flat[:num]), axes


def _legend(figure: Figure, axes: list[Axes]) -> None:
    """One below all panels, with every label once."""
    handles = {
        label: handle
        for ax in axes
        for handle, label in zip(*ax.get_legend_handles_labels())
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=min(len(handles), 5),
        frameon=False,
    )


def _known(pairs) -> tuple[list[float], list[float]]:
    """Without those that JSON has no number for."""
    kept = [(x, y) for x, y in pairs if x is not None and y is not None]
    return [x for x, _ in kept], [y for _, y in kept]


def _style(name: str, index: int) -> dict[str, Any]:
    """Euler, to which all are compared, in black."""
    return {"color": "k", "ls": "--"} if name == "Euler" else {"color": f"C{index}"}


def _work_precision(parts: Mapping[str, Any]) -> Figure:
    figure, panels, axes = _panels(len(parts))
    solvers = list(dict.fromkeys(name for one in parts.values() for name in one["runs"]))
    for ax, (title, found) in zip(panels, parts.items()):
        for name, points in found["runs"].items():
            x, y = _known((p["evaluations"], p["error"]) for p in points)
            if x:
                style = _style(name, solvers.index(name))
                ax.loglog(x, y, marker="o", ms=3, label=name, **style)
        ax.axhline(found["error"], color="0.7", lw=0.8)
        ax.set_title(title)
        ax.set_ylim(1e-9, 2)
    for ax in axes[-1]:
        ax.set_xlabel("evaluations of the gradient")
    for ax in axes[:, 0]:
        ax.set_ylabel("relative error of the weights")
    _legend(figure, panels)
    return figure


def _plateau(parts: Mapping[str, Any]) -> Figure:
    cells = {}  # (part, δ) to runs by solver
    for part, found in parts.items():
        for key, runs in found.items():
            solver, scale = key.rsplit(", δ = ", 1)
            cells.setdefault((part, float(scale)), {})[solver] = runs
    solvers = list(dict.fromkeys(name for cell in cells.values() for name in cell))
    figure, panels, axes = _panels(len(cells), share=True)
    for ax, ((part, scale), cell) in zip(panels, cells.items()):
        for name, runs in cell.items():
            points = (
                (np.median(run["evaluations"]), _median(run["relative error of the time"]))
                for run in runs
            )
            x, y = _known(points)
            style = _style(name, solvers.index(name))
            ax.loglog(x, y, marker="o", ms=3, label=name, **style)
        ax.axhline(1e-3, color="0.7", lw=0.8)
        ax.set_title(f"{part}, δ = {scale:g}")
    for ax in axes[-1]:
        ax.set_xlabel("evaluations")
    for ax in axes[:, 0]:
        ax.set_ylabel("error of the escape time")
    _legend(figure, panels)
    return figure


def _defaults(parts: Mapping[str, Any]) -> Figure:
    (found,) = parts.values()
    known = {name: one for name, one in found.items() if one["best"] is not None}
    figure, (ax,), _ = _panels(1, size=(7.0, 0.8 + 0.2 * max(len(known), 4)))
    for place, one in enumerate(known.values()):
        ends = one["evaluations over best"], one["seconds over best"]
        ax.plot(ends, (place, place), color="0.8", lw=1, zorder=1)
    for key, face in (("evaluations", "tab:blue"), ("seconds", "none")):
        ratios = [one[f"{key} over best"] for one in known.values()]
        style = {"facecolor": face, "edgecolor": "tab:blue", "s": 20, "zorder": 2}
        ax.scatter(ratios, range(len(known)), label=key, **style)
    ax.axvline(1, color="0.6", lw=0.8)
    ax.axvline(2, color="0.6", lw=0.8, ls="--")
    ax.set_xscale("log")
    shares = (0.1, 0.2, 0.5, 1, 2, 5)
    ax.set_xticks(shares, [f"{share:g}" for share in shares])
    ax.minorticks_off()
    ax.set_yticks(range(len(known)), known)
    ax.invert_yaxis()
    ax.set_xlabel("all defaults, over the best setting chosen by hand")
    ax.legend(frameon=False, fontsize="small")
    return figure


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if len(known) == len(values) else None


def _early_phase(parts: Mapping[str, Any]) -> Figure:
    figure, panels, axes = _panels(len(parts))
    for ax, (order, found) in zip(panels, sorted(parts.items())):
        scales = {
            float(key.removeprefix("δ = ")): one
            for key, one in found.items()
            if key.startswith("δ = ") and isinstance(one, dict)
        }
        if not scales:
            continue
        evaluations = [float(np.median(one["evaluations"])) for one in scales.values()]
        ax.loglog(list(scales), evaluations, "o-", color="C0", label="jaxflow")
        for name, color in (("gradient descent", "k"), ("following the flow", "C1")):
            found = {x: one for x, one in scales.items() if one[name] is not None}
            steps = {x: float(np.median(one[name])) for x, one in found.items()}
            ax.loglog(list(steps), list(steps.values()), "--", color=color, lw=1)
            for kind, face in (("measured", color), ("extrapolated", "none")):
                of_kind = [x for x, one in found.items() if one[f"{name} is"] == kind]
                ax.loglog(
                    of_kind,
                    [steps[x] for x in of_kind],
                    "s",
                    mec=color,
                    mfc=face,
                    label=f"{name}, {kind}",
                )
        ax.invert_xaxis()
        ax.set_title(f"L = {order}")
        ax.set_xlabel("initialization scale δ")
    axes[0, 0].set_ylabel("evaluations to the KKT point")
    _legend(figure, panels)
    return figure


def _descent(parts: Mapping[str, Any]) -> Figure:
    figure, panels, _ = _panels(len(parts), size=(5.0, 3.6))
    drawings = {"distance": _draw_distance, "direction": _draw_direction}
    for ax, (part, found) in zip(panels, parts.items()):
        drawings[part](ax, found)
        ax.legend(frameon=False, fontsize="small")
    return figure


def _draw_distance(ax: Axes, found: Mapping[str, Any]) -> None:
    shares = [run["η"] / found["2/λ"] for run in found["runs"]]
    for key, color, label in (
        ("distance", "C0", "distance along the way, relative"),
        ("λ η/2", "C1", "sharpness λ η/2 at the end"),
    ):
        pairs = (
            (share, value)
            for share, run in zip(shares, found["runs"])
            for value in run[key]
        )
        ax.loglog(*_known(pairs), "o", ms=3, color=color, label=label)
    ax.axvline(1, color="0.7", lw=0.8)
    ax.axhline(1, color="0.7", lw=0.8)
    ax.set_xlabel("step size η in units of 2/λ")
    ax.set_title("gradient descent beside gradient flow")


def _draw_direction(ax: Axes, found: Mapping[str, Any]) -> None:
    scales = {float(key.removeprefix("δ = ")): one for key, one in found.items()}
    names = list(next(iter(scales.values())))
    for name in names:
        values = [float(np.median(one[name])) for one in scales.values()]
        style = {"color": "k", "ls": "--"} if name == "gradient flow" else {}
        ax.loglog(list(scales), values, marker="o", ms=3, label=name, **style)
    ax.invert_xaxis()
    ax.set_xlabel("initialization scale δ")
    ax.set_ylabel("1 - cosine to the KKT point")
    ax.set_title("direction at the end of the early phase")


def _scaling(parts: Mapping[str, Any]) -> Figure:
    figure, panels, _ = _panels(len(parts), size=(4.2, 3.0))
    for ax, (part, found) in zip(panels, parts.items()):
        sizes = [_first_number(key) for key in found]
        if part == "members":
            ax.loglog(
                sizes, [1e3 * one["seconds per member"] for one in found.values()], "o-"
            )
            ax.set_ylabel("ms a member")
        else:
            for key, label in (
                ("share of bare products", "of bare products"),
                ("share of peak", "of a large product"),
            ):
                shares = [one[key] for one in found.values()]
                x, y = _known(zip(sizes, shares))
                ax.semilogx(x, 100 * np.array(y), "o-", label=label)
            ax.axhline(50, color="0.7", lw=0.8)
            ax.set_ylim(0)
            ax.set_ylabel("share, %")
            ax.legend(frameon=False)
        ax.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
        ax.minorticks_off()
        ax.set_xlabel("width, n = 500" if part == "wide" else part)
    return figure


def _first_number(label: str) -> float:
    return float(re.findall(r"[\d,]+", label)[0].replace(",", ""))


def _peers(parts: Mapping[str, Any]) -> Figure:
    figure, (ax,), _ = _panels(1, size=(8.5, 1.2 + 0.42 * len(parts)))
    short = lambda name: re.sub(r", ([\d,]+ steps|one batch)$", "", name)
    colors: dict[str, str] = {}
    for line, found in enumerate(parts.values()):
        for name, ratios in found["time over jaxflow's"].items():
            if name.startswith("jaxflow"):
                continue
            color = colors.setdefault(short(name), f"C{len(colors)}")
            marker = "s" if "steps" in name else "o"
            low, middle, high = np.min(ratios), np.median(ratios), np.max(ratios)
            ax.plot([low, high], [line, line], color=color, lw=1)
            ax.plot(middle, line, marker, ms=5, color=color, label=short(name))
    ax.axvline(1, color="k", lw=0.8)
    ax.axvline(10, color="0.7", lw=0.8)
    ax.set_xscale("log")
    ax.set_yticks(range(len(parts)), list(parts))
    ax.margins(y=0.2 / len(parts))
    ax.invert_yaxis()
    ax.set_xlabel("wall time of a member over jaxflow's (squares: gradient descent to 1%)")
    _legend(figure, [ax])
    return figure


def _escape(parts: Mapping[str, Any]) -> Figure:
    figure, (ax,), _ = _panels(1, size=(6.0, 2.2))
    rates = parts["escape"]["members per second"]
    ax.barh(list(rates), list(rates.values()), color="C0")
    ax.set_xscale("log")
    ax.invert_yaxis()
    ax.set_xlabel("members per second")
    return figure


def _engine(parts: Mapping[str, Any]) -> Figure:
    wanted = {"stragglers": _draw_stragglers, "workers": _draw_workers}
    known = [part for part in wanted if part in parts] or [None]
    figure, panels, _ = _panels(len(known), size=(5.2, 3.0))
    for ax, part in zip(panels, known):
        if part is not None:
            wanted[part](ax, parts[part])
    return figure


def _draw_stragglers(ax: Axes, found: Mapping[str, Any]) -> None:
    cases = [key for key in found if "straggler" in key]
    for i, who in enumerate(("jaxflow", "vmap(diffeqsolve)")):
        rates = [found[case]["members per second"][who] for case in cases]
        ax.bar(np.arange(len(cases)) + 0.4 * i - 0.2, rates, 0.36, label=who)
    ax.set_xticks(range(len(cases)), cases)
    ax.set_yscale("log")
    ax.set_ylabel("members per second")
    ax.margins(y=0.2)  # room for the legend
    ax.legend(frameon=False)


def _draw_workers(ax: Axes, found: Mapping[str, Any]) -> None:
    ways: dict[str, list[tuple[float, float]]] = {}
    for key, one in found.items():
        width, way = key.removeprefix("width ").split(": ", 1)
        ways.setdefault(way, []).append((float(width), np.median(one["vjps per second"])))
    for way, points in ways.items():
        widths, rates = zip(*points)
        ax.semilogx(widths, np.array(rates) / 1e3, "o-", ms=3, label=way)
    ax.set_xlabel("lanes side by side")
    ax.set_ylabel("thousand VJPs per second")
    ax.set_ylim(0)
    ax.legend(frameon=False, fontsize="small")


_DRAWINGS = {
    "defaults": _defaults,
    "descent": _descent,
    "early_phase": _early_phase,
    "engine": _engine,
    "escape": _escape,
    "peers": _peers,
    "plateau": _plateau,
    "scaling": _scaling,
    "work_precision": _work_precision,
}


def main() -> None:
    """All pictures again."""
    for path in sorted((pathlib.Path(__file__).parent / "results").glob("*.json")):
        draw(path.stem, json.loads(path.read_text()), path.with_suffix(".png"))


if __name__ == "__main__":
    main()
