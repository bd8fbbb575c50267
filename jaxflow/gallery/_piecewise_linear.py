"""Noisy descent with a wide ReLU network ends at a function of few knots."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, final, NamedTuple

import numpy as np
import xarray

from ..observables import distinct_knots, DistinctKnots
from ..studies import Study
from ._claim import AbstractClaim, Paper, Size, Verdict
from ._piecewise_linear_figure import draw, Shown
from ._piecewise_linear_limit import Limit, limit

STRENGTH = 0.04
"""`λ` of `λ/2 ‖θ_j‖²` for each neuron, which is `0.02 ‖θ_j‖²`."""
NOISES = (1e-3, 1e-4, 1e-5, 1e-6)
"""`1/β`, one stage after the other."""
RELAXED = 20.0
"""Stages last so many times as long as weights take to decay, `1/λ`."""
WITHIN, SHARE = 0.05, 0.02
"""Neurons so close to each other have one knot, and one of less than this share of all
mass is none. Chosen: above the width of a knot at the last noise, below all distances of
interest."""


@dataclasses.dataclass(frozen=True)
class Data:
    """Samples of a function of one variable, what they are called, and the `step`.

    Steps of more than 2 over the largest curvature go around the minimum. That grows with
    what the network has to learn.
    """

    words: str
    step: float
    inputs: tuple[float, ...]
    targets: tuple[float, ...]

    @functools.cached_property
    def limit(self) -> Limit:
        return limit(np.array(self.inputs), np.array(self.targets), STRENGTH)


DATA = {
    "off": Data("four points", 0.2, (-2.0, -0.8, 1.2, 2.0), (1.0, -0.1, -0.1, 1.0)),
    "generic": Data(
        "six points",
        0.05,
        (-1.9, -1.2, -0.3, 0.4, 1.1, 1.8),
        (2.0, -1.0, -1.5, 1.5, 2.0, -0.5),
    ),
}


@dataclasses.dataclass(frozen=True)
class Part:
    """One run: of which data, with how many neurons, for how long."""

    data: str
    width: int
    longer: float = 1.0
    """Stages are so many times as long as others."""

    @property
    def name(self) -> str:
        more = {1.0: "", 2.0: "_twice"}.get(self.longer, "_short")
        return f"{self.data}_{self.width}{more}"

    @property
    def words(self) -> str:
        longer = "" if self.longer == 1 else f", {self.longer:g} times as long"
        return f"N = {self.width}{longer}"

    def study(self, num: int, stage: float) -> Study:
        """Mean-field scaling: time is counted in units of the number of neurons, in which
        the noise is `1/β`."""
        one, width = DATA[self.data], self.width
        unit = stage * self.longer / STRENGTH * width
        ends = [[number * unit, noise / width] for number, noise in enumerate(NOISES)]
        return Study(
            {
                "title": f"{one.words}, {self.words}",
                "network": {
                    "kind": "FeedForward",
                    "depth": 2,
                    "width": width,
                    "activation": {"kind": "LeakyReLU"},
                    "biases": True,
                    "output_scale": 1 / width,
                },
                "data": {
                    "kind": "values",
                    "inputs": [[x] for x in one.inputs],
                    "targets": list(one.targets),
                },
                "reduction": "mean",
                "regularizer": {"kind": "L2", "strength": STRENGTH / width},
                # On average the numbers of a neuron have the variance one.
                "initialization": {"num": num, "scale": math.sqrt(3 * width)},
                "equation": {
                    "kind": "langevin",
                    "temperature": ends,
                    "time": len(NOISES) * unit,
                    "step": one.step * width,
                },
                "record": {
                    "functions": ["knots", "weights", "loss"],
                    "at": [(number + 1) * unit for number in range(len(NOISES))],
                },
            }
        )


_TWICE, _SHORT = 2.0, 1 / RELAXED
PARTS: Mapping[Size, Sequence[Part]] = {
    "test": (Part("off", 50),),
    "quick": (Part("off", 200), Part("off", 200, _TWICE), Part("generic", 50)),
    "full": (
        *(Part(data, width) for data in DATA for width in (50, 200, 1000)),
        *(Part(data, 200, _TWICE) for data in DATA),
        Part("off", 200, _SHORT),
    ),
}


def knots_of(dataset: xarray.Dataset) -> DistinctKnots:
    """The knots of each member at the end of each stage."""
    position, mass = (dataset[f"knots_{name}"].values for name in ("position", "mass"))
    return distinct_knots(position, mass, within=WITHIN, share=SHARE)


@final
class PiecewiseLinear(AbstractClaim):
    """At most three knots between two samples, possibly away from them."""

    name = "piecewise-linear"
    title = "Piecewise linear solutions for wide ReLU networks"
    paper = Paper(
        "A. Shevchenko, V. Kungurtsev, M. Mondelli",
        "Mean-field Analysis of Piecewise Linear Solutions for Wide ReLU Networks",
        "2111.02278",
    )
    says = (
        "A wide network of two ReLU layers with biases in mean-field scaling, f(x) = (1/N) "
        "Σ_j a_j σ(w_j x + b_j), learns a function of one variable by noisy gradient "
        "descent on the mean square loss plus λ/2 ‖θ_j‖² for each neuron. As first N and "
        "the time go to infinity and then the noise to zero, f becomes piecewise linear, "
        "with at most three knots between two consecutive inputs, which may be away from "
        "the inputs."
    )

    def studies(self, size: Size) -> Mapping[str, Study]:
        # The test's stages are half of what is needed: it looks at less.
        stage = RELAXED / 2 if size == "test" else RELAXED
        num = {"test": 8, "quick": 16, "full": 16}[size]
        return {part.name: part.study(num, stage) for part in PARTS[size]}

    def verdicts(self, found: xarray.DataTree) -> Sequence[Verdict]:
        runs = _runs(found)
        done = [run for run in runs if run.part.longer >= 1]
        off = [run for run in done if run.part.data == "off"]
        rows = [
            Verdict(
                statement="most knots between two consecutive inputs, all runs",
                figure=max(_most(run) for run in done),
                most=3,
                reason="the theorem; a knot at an input counts on both sides",
            ),
            Verdict(
                statement="four points: members without exactly two knots between -0.8 "
                "and 1.2 and none elsewhere",
                figure=sum(_not_as_in_limit(run) for run in off),
                most=0,
                reason="the limiting convex problem has these two",
                note=f"of {sum(len(run.knots.count) for run in off)}",
            ),
            Verdict(
                statement="four points: largest share of the mass of f'' at inputs",
                figure=max(_share_at_inputs(run) for run in off),
                most=SHARE,
                reason="less is no knot; all knots of the limit are away from inputs",
            ),
        ]
        for data in DATA:
            rows += _against_limit([run for run in done if run.part.data == data])
        widest = max(off, key=lambda run: (run.part.width, run.part.longer))
        rows.append(
            Verdict(
                statement="four points: order of the width of knots in the noise",
                figure=_order_of_width(widest),
                least=0.4,
                most=0.6,
                reason="Gibbs law near the minimum: 1/2",
            )
        )
        by_name = {run.part.name: run for run in runs}
        for run in runs:
            if run.part.longer == _TWICE:
                once = by_name[dataclasses.replace(run.part, longer=1.0).name]
                rows.append(_moved(once, run))
            elif run.part.longer == _SHORT:
                rows.append(_too_early(run))
        return rows

    def draw(self, found: xarray.DataTree) -> Any:
        plain = [run for run in _runs(found) if run.part.longer == 1]
        shown = {
            one.words: Shown(
                one.inputs,
                one.targets,
                one.limit,
                {r.part.width: (r.dataset, r.knots) for r in plain if r.part.data == data},
            )
            for data, one in DATA.items()
        }
        return draw({words: one for words, one in shown.items() if one.runs}, NOISES)


class _Run(NamedTuple):
    """A part that was run: its dataset, and its knots at the end of each stage."""

    part: Part
    dataset: xarray.Dataset
    knots: DistinctKnots


def _runs(found: xarray.DataTree) -> list[_Run]:
    parts = {part.name: part for parts in PARTS.values() for part in parts}
    datasets = {name: found[name].to_dataset() for name in found.children}
    return [_Run(parts[name], one, knots_of(one)) for name, one in datasets.items()]


def _against_limit(runs: Sequence[_Run]) -> list[Verdict]:
    """Places of knots, and losses, of runs of the same data."""
    if not runs:
        return []
    one = DATA[runs[0].part.data]
    places = {run.part.words: _apart(_last(run), _of_limit(run)) for run in runs}
    losses = {run.part.words: _excess(run) for run in runs}
    in_words = lambda each: "; ".join(f"{words}: {x:.2g}" for words, x in each.items())
    return [
        Verdict(
            statement=f"{one.words}: places of knots against the limit",
            figure=max(places.values()),
            most=0.02,
            reason="resolution asked for; a knot is 0.005 wide at the last noise",
            note=in_words(places),
        ),
        Verdict(
            statement=f"{one.words}: loss above the limit's, in units of the last noise",
            # Of all runs the one that is nearest to a bound, or beyond it.
            figure=max(losses.values(), key=lambda excess: abs(excess - 0.75)),
            least=-0.01,
            most=1.5,
            reason="no network is below; and half the noise is what temperature adds for "
            "each of three numbers of a neuron, if none is free",
            note=in_words(losses),
        ),
    ]


def _moved(once: _Run, twice: _Run) -> Verdict:
    words = DATA[once.part.data].words
    return Verdict(
        statement=f"{words}: how far knots are elsewhere after twice the time",
        figure=_apart(_last(once), _last(twice)),
        most=0.01,
        reason="half of the resolution asked for",
    )


def _too_early(run: _Run) -> Verdict:
    return Verdict(
        statement="stages of 1/λ: most knots between two inputs after the first",
        figure=_most(run, stage=0),
        most=3,
        reason="the theorem, which is about converged runs",
        applies=False,
    )


def _most(run: _Run, stage: int = -1) -> int:
    """The most knots that a member has between two consecutive inputs."""
    inputs = np.array(DATA[run.part.data].inputs)
    position = run.knots.position[:, stage, :, None]
    between = (position >= inputs[:-1] - WITHIN) & (position <= inputs[1:] + WITHIN)
    return int(np.max(np.sum(between, axis=1), initial=0))


def _share_at_inputs(run: _Run) -> float:
    """The largest share of its mass that a member has at inputs."""
    place, mass = (run.dataset[f"knots_{n}"].values[:, -1] for n in ("position", "mass"))
    inputs, mass = np.array(DATA[run.part.data].inputs), np.abs(mass)
    at_input = np.any(np.abs(place[..., None] - inputs) < WITHIN, axis=-1)
    return float(np.max(np.sum(mass * at_input, axis=1) / np.sum(mass, axis=1)))


def _inside(position: np.ndarray, part: Part) -> np.ndarray:
    """The knots among the inputs; NaN for others."""
    inputs = DATA[part.data].inputs
    there = (position > inputs[0] - WITHIN) & (position < inputs[-1] + WITHIN)
    return np.where(there, position, np.nan)


def _last(run: _Run) -> np.ndarray:
    """Places of knots among the inputs at the end of the last stage, (members, knots)."""
    return _inside(run.knots.position[:, -1], run.part)


def _of_limit(run: _Run) -> np.ndarray:
    return _inside(DATA[run.part.data].limit.position, run.part)


def _apart(some: np.ndarray, others: np.ndarray) -> float:
    """How far a knot of one is from the nearest knot of the other, at most; either way."""
    distance = np.abs(some[..., :, None] - others[..., None, :])
    distance = np.where(np.isnan(distance), np.inf, distance)
    nearest = np.min(distance, axis=-1), np.min(distance, axis=-2)
    known = ~np.isnan(some), ~np.isnan(others)
    return max(
        float(np.max(np.where(is_known, each, 0.0), initial=0.0))
        for is_known, each in zip(known, nearest)
    )


def _not_as_in_limit(run: _Run) -> int:
    """How many members have other knots than two in the second interval."""
    position, inputs = _last(run), DATA[run.part.data].inputs
    middle = (position > inputs[1] + WITHIN) & (position < inputs[2] - WITHIN)
    two = (np.sum(middle, axis=1) == 2) & (np.sum(~np.isnan(position), axis=1) == 2)
    return int(np.sum(~two))


def _excess(run: _Run) -> float:
    """The mean loss above the least that there is, in units of the last noise."""
    excess = run.dataset["loss"].values[:, -1] - DATA[run.part.data].limit.minimum
    return float(np.mean(excess)) / NOISES[-1]


def _order_of_width(run: _Run) -> float:
    """How the widths of knots among the inputs fall with the noise, in the last stages."""
    inside = ~np.isnan(_inside(run.knots.position, run.part))
    squares = np.where(inside, run.knots.width, np.nan)[:, -2:] ** 2
    logs = np.log(np.nanmean(squares, axis=(0, 2))) / 2
    return float(np.diff(logs)[0] / np.log(NOISES[-1] / NOISES[-2]))
