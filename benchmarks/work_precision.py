"""What accuracy costs: the error at the end against evaluations and wall time, by solver.

    python -m benchmarks.work_precision                    # nine tasks, about half an hour
    python -m benchmarks.work_precision --problem linear   # one task
    python -m benchmarks.work_precision --quick            # tiny sizes: does it still run?

Every solver is run at tighter and tighter tolerances, Euler with shorter and shorter steps
from its stability limit on. Errors are the distances of the last weights from a reference,
SciPy's DOP853 at rtol 1e-12, relative to their norm, the largest of all members. What Euler
needs for an error that it does not reach is extrapolated, error being of first order.
"""

import dataclasses
import enum
import pathlib
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any, NamedTuple

import diffrax
import jax
import matplotlib.pyplot as plt
import numpy as np
import scipy.integrate
import typer

import jaxflow as jf
from jaxflow.solvers import kvaerno5, RKC2, ROCK4

from . import measuring
from .measuring import CompileClock, in_turn, number, Report, spread
from .problems import Problem, PROBLEMS

_WANTED = 1e-6
_MOST_EVALUATIONS = 300_000
_MOST_FOR_JACOBIANS = 120  # parameters, for a method that solves dense systems
_TOLERANCES = tuple(10.0**-k for k in range(3, 13))
_FEWEST_EULER_STEPS = 64


class Point(NamedTuple):
    """One run of a solver."""

    setting: str
    settings: dict[str, Any]  # as `jf.gradient_flow` takes them
    evaluations: float  # a member, the mean; NaN where nobody counts
    seconds: float  # a member, timed once, without compilation
    error: float  # infinite if a member did not get to its end

    @property
    def figures(self) -> dict[str, Any]:
        return {k: v for k, v in self._asdict().items() if k != "settings"}


@dataclasses.dataclass(frozen=True)
class Case:
    """A problem with its starts, ends and reference."""

    problem: Problem
    starts: Any
    horizons: np.ndarray
    reference: np.ndarray  # (members, parameters)

    def error(self, solution: jf.Solution) -> float:
        """The largest relative error of all members; infinite if one did not arrive."""
        if not np.all(solution.status == "RescaledTime"):
            return np.inf
        apart = np.linalg.norm(self.problem.ends(solution) - self.reference, axis=1)
        return float(np.max(apart / np.linalg.norm(self.reference, axis=1)))

    def run(self, settings: Mapping[str, Any]) -> jf.Solution:
        return self.problem.run(self.starts, self.horizons, **settings)

    def measure(self, setting: str, settings: dict[str, Any]) -> Point:
        """One run, and another if programs had to be made for it."""
        programs = 1
        while programs:
            with CompileClock() as clock:
                begun = time.perf_counter()
                found = self.run(settings)
                seconds = time.perf_counter() - begun
            programs = clock.num_programs
        counted = found.stats.num_vjps
        evaluations = np.nan if counted is None else float(np.mean(counted))
        each = seconds / len(self.horizons)
        return Point(setting, settings, evaluations, each, self.error(found))


def prepare(problem: Problem, num: int) -> Case:
    """Members and where they really end."""
    starts, horizons = problem.members(num)
    field = jax.jit(problem.field())
    ends = [
        scipy.integrate.solve_ivp(
            lambda s, u: np.asarray(field(u)),
            (0.0, horizon),
            origin,
            "DOP853",
            rtol=1e-12,
            atol=1e-14,
        ).y[:, -1]
        for origin, horizon in zip(problem.origins(starts), horizons)
    ]
    return Case(problem, starts, horizons, np.stack(ends))


def adaptive(case: Case, solver: Any, tolerances) -> list[Point]:
    """Tighter and tighter, until the error is small enough or the work too much."""
    points = []
    for rtol in tolerances:
        settings = {"solver": solver, "rtol": rtol, "atol": 1e-3 * rtol}
        points.append(case.measure(f"rtol {rtol:g}", settings))
        if points[-1].error < 0.3 * _WANTED or points[-1].evaluations > _MOST_EVALUATIONS:
            break
    return points


def euler(case: Case, most_steps: int) -> list[Point]:
    """Gradient descent with steps of one size, from so few steps that it is unstable."""
    points, num_steps = [], _FEWEST_EULER_STEPS
    while num_steps <= most_steps:
        settings = {
            "solver": diffrax.Euler(),
            "controller": diffrax.ConstantStepSize(),
            "dt0": float(case.horizons.max()) / num_steps,
            "coordinates": "cartesian",
        }
        points.append(case.measure(f"{num_steps} steps", settings))
        num_steps *= 4
    return points


def solvers(problem: Problem) -> Iterator[tuple[str, Any]]:
    """Names and solvers, by increasing order."""
    yield "Heun", diffrax.Heun()
    yield "Tsit5", diffrax.Tsit5()
    yield "Dopri8", diffrax.Dopri8()
    yield "auto", "auto"
    yield "RKC2", RKC2()
    yield "ROCK4", ROCK4()
    if problem.num_parameters <= _MOST_FOR_JACOBIANS:
        yield "Kvaerno5", kvaerno5()


class Needed(NamedTuple):
    """What an error of at most `_WANTED` takes."""

    evaluations: float
    run: Point  # the one to be timed
    factor: float = 1.0  # by how much longer than that run: extrapolated unless 1


def needed(points: list[Point]) -> Needed | None:
    """The cheapest run that is accurate enough."""
    usable = [point for point in points if point.error <= _WANTED]
    if not usable:
        return None
    evaluations = [p.evaluations for p in usable if np.isfinite(p.evaluations)]
    cheapest = min(usable, key=lambda point: point.seconds)
    return Needed(min(evaluations, default=np.nan), cheapest)


def needed_by_euler(points: list[Point]) -> Needed | None:
    """Measured, or from the last run by the first order of the error."""
    found = needed(points)
    last = points[-1]
    if found is not None or not np.isfinite(last.error):
        return found
    factor = last.error / _WANTED
    return Needed(factor * last.evaluations, last, factor)


def compare(name: str, settings: "Settings") -> tuple[Report, dict[str, list[Point]]]:
    """All solvers on one problem."""
    problem, num = PROBLEMS[name](), settings.size(settings.num, 2)
    case = prepare(problem, num)
    tolerances = settings.size(_TOLERANCES, _TOLERANCES[1:3])
    runs = {"Euler": euler(case, settings.size(2**18, 1024))}
    wanted = {"Euler": needed_by_euler(runs["Euler"])}
    for solver_name, solver in solvers(problem):
        runs[solver_name] = adaptive(case, solver, tolerances)
        wanted[solver_name] = needed(runs[solver_name])
    found = {key: one for key, one in wanted.items() if one is not None}
    times = in_turn(
        {
            key: lambda one=one: case.run(one.run.settings).loss
            for key, one in found.items()
        },
        settings.repeats,
    )
    # Seconds a member in each turn, as one ratio a turn: what disturbs one disturbs all.
    seconds = {
        key: found[key].factor * np.array(measured.timings.seconds) / num
        for key, measured in times.items()
    }
    rows, ratios = [], {}
    for key, points in runs.items():
        best = min(points, key=lambda point: point.error)
        last = (f"{best.error:.1e}", best.setting)
        if key not in found:
            rows.append((key, "–", "", "–", "", *last))
            continue
        one = found[key]
        mark = "≈ " if one.factor != 1 else ""
        counted = np.isfinite(one.evaluations)
        fewer, less = "", ""
        if "Euler" in found and key != "Euler":
            ratios[key] = {
                "evaluations": found["Euler"].evaluations / one.evaluations,
                "seconds": seconds["Euler"] / seconds[key],
            }
            fewer = number(ratios[key]["evaluations"]) if counted else ""
            less = spread(ratios[key]["seconds"].tolist())
        evaluations = mark + number(one.evaluations) if counted else "not counted"
        milliseconds = mark + number(1e3 * float(np.median(seconds[key])))
        rows.append((key, evaluations, fewer, milliseconds, less, *last))
    figures = {
        "parameters": problem.num_parameters,
        "smooth": problem.smooth,
        "runs": {key: [p.figures for p in points] for key, points in runs.items()},
        "seconds a member for the error": seconds,
        "Euler extrapolated by": found["Euler"].factor if "Euler" in found else None,
        "Euler over": ratios,
    }
    head = (
        f"for an error of {_WANTED:g}",
        "evaluations",
        "fewer than Euler",
        "ms a member",
        "less than Euler",
        "best error",
        "at",
    )
    title = f"{problem.name}, {problem.num_parameters} parameters, {num} members"
    return Report(title, head, rows, figures), runs


def draw(runs: dict[str, dict[str, list[Point]]], path: pathlib.Path) -> None:
    """Error against evaluations, one panel for each problem."""
    columns = min(3, len(runs))
    lines = -(-len(runs) // columns)
    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(4.2 * columns, 3.2 * lines),
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat[len(runs) :]:
        ax.set_visible(False)
    names: dict[str, Any] = {}
    for ax, (title, solvers_) in zip(axes.flat, runs.items()):
        for i, (name, points) in enumerate(solvers_.items()):
            known = [p for p in points if np.isfinite(p.evaluations + p.error)]
            style = {"color": "k", "ls": "--"} if name == "Euler" else {"color": f"C{i}"}
            (line,) = ax.loglog(
                [p.evaluations for p in known],
                [p.error for p in known],
                marker="o",
                ms=3,
                **style,
            )
            if known:
                names.setdefault(name, line)
        ax.axhline(_WANTED, color="0.7", lw=0.8)
        ax.set_title(title, fontsize="medium")
        ax.set_ylim(1e-9, 2)
    for ax in axes[-1]:
        ax.set_xlabel("evaluations of the gradient")
    for ax in axes[:, 0]:
        ax.set_ylabel("relative error of the weights")
    figure.legend(
        names.values(),
        names.keys(),
        loc="outside lower center",
        ncols=len(names),
        frameon=False,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


@dataclasses.dataclass(frozen=True)
class Settings(measuring.Settings):
    """How large the runs are."""

    num: int = 4


Name = enum.StrEnum("Name", {name.upper(): name for name in PROBLEMS})


def main(
    problem: Annotated[
        list[Name] | None, typer.Option(help="Which task; default: all.")
    ] = None,
    num: Annotated[int, typer.Option(min=1, help="Members.")] = 4,
    repeats: Annotated[int, typer.Option(min=1, help="How often each thing is timed.")] = 3,
    quick: Annotated[bool, typer.Option(help="Tiny sizes: does it run?")] = False,
    output: Annotated[
        pathlib.Path | None, typer.Option(help="JSON of raw figures; a figure beside it.")
    ] = None,
) -> None:
    """What accuracy costs."""
    measuring.set_up()
    if output is None and not quick:
        output = pathlib.Path(__file__).parent / "results" / "work_precision.json"
    runs: dict[str, dict[str, list[Point]]] = {}

    def answer(name: str, settings: Settings) -> Report:
        report, runs[name] = compare(name, settings)
        if output is not None:
            draw(runs, output.with_suffix(".png"))
        return report

    parts = {name.value: partial(answer, name.value) for name in problem or list(Name)}
    measuring.run_parts(parts, Settings(repeats, quick, num), output)


if __name__ == "__main__":
    typer.run(main)
