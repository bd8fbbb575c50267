"""What accuracy costs: the error at the end against evaluations and wall time, by solver.

    python -m benchmarks.work_precision                    # nine tasks, an hour or two
    python -m benchmarks.work_precision --problem linear   # one task
    python -m benchmarks.work_precision --quick            # tiny sizes: does it still run?

Every solver is run at tighter and tighter tolerances, Euler with shorter and shorter steps
from its stability limit on. Errors are the distances of the last weights from a reference
by SciPy, relative to their norm, the largest of all members: DOP853 at rtol 1e-12, with
kinks RK23 at 1e-8. What Euler needs for an error that it does not reach is extrapolated,
error being of first order.
"""

import dataclasses
import time
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, NamedTuple

import diffrax
import numpy as np
import typer

import jaxflow as jf
from jaxflow.solvers import kvaerno5, RKC2, ROCK4

from . import measuring, reporting
from .measuring import CompileClock, in_turn, number, spread
from .problems import A_FEW, accuracy, Members, MOST_FOR_JACOBIANS, Problem, PROBLEMS
from .reporting import Report

_MOST_STEPS, _LONGEST = 20_000, 5.0  # steps and seconds a member of an adaptive solver
_TOLERANCES = tuple(10.0**-k for k in range(3, 13))
_FEWEST_EULER_STEPS = 64
_ENOUGH_TO_TIME = 10_000  # Euler steps, one being as long as another


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


def prepare(problem: Problem, num: int) -> Members:
    """Members and where they really end."""
    starts, horizons = problem.members(num)
    return Members(problem, starts, horizons, problem.reference(starts, horizons))


def measure(group: Members, setting: str, settings: dict[str, Any]) -> Point:
    """One run, and another if programs had to be made for it."""
    programs = 1
    while programs:
        with CompileClock() as clock:
            begun = time.perf_counter()
            found = group.run(**settings)
            seconds = time.perf_counter() - begun
        programs = clock.num_programs
    counted = found.stats.num_vjps
    evaluations = np.nan if counted is None else float(np.mean(counted))
    each = seconds / len(group.horizons)
    return Point(setting, settings, evaluations, each, group.error_of(found))


def adaptive(group: Members, solver: Any, tolerances, enough: float = 0.0) -> list[Point]:
    """Tighter and tighter, until the error is at most `enough` or the work too much."""
    points = []
    for rtol in tolerances:
        settings = {"solver": solver, "max_steps": _MOST_STEPS, **accuracy(rtol)}
        points.append(measure(group, f"rtol {rtol:g}", settings))
        last = points[-1]
        too_much = last.evaluations > _MOST_STEPS or last.seconds > _LONGEST
        if last.error < enough or too_much:
            break
    return points


def euler(group: Members, most_steps: int) -> list[Point]:
    """Gradient descent with steps of one size, from so few steps that it is unstable."""
    points, num_steps = [], _FEWEST_EULER_STEPS
    while num_steps <= most_steps:
        settings = {
            "stepping": jf.Stepping(
                diffrax.Euler(),
                controller=diffrax.ConstantStepSize(),
                dt0=float(group.horizons.max()) / num_steps,
            ),
            "coordinates": "cartesian",
        }
        points.append(measure(group, f"{num_steps} steps", settings))
        num_steps *= 4
    return points


def solvers(problem: Problem) -> Iterator[tuple[str, Any]]:
    """Names and solvers, by increasing order."""
    if not problem.smooth:
        sliding = jf.sliding_solver(diffrax.Bosh3(), problem.network, problem.task)
        yield "sliding Bosh3", sliding
    yield "Heun", diffrax.Heun()
    yield "Tsit5", diffrax.Tsit5()
    yield "Dopri8", diffrax.Dopri8()
    yield "auto", "auto"
    yield "RKC2", RKC2()
    yield "ROCK4", ROCK4()
    if problem.num_parameters <= MOST_FOR_JACOBIANS:
        yield "Kvaerno5", kvaerno5()


@dataclasses.dataclass(frozen=True)
class Settings(measuring.Settings):
    """How large the runs are."""

    num: int = 4


class Needed(NamedTuple):
    """What the error takes that is wanted."""

    evaluations: float
    run: Point  # the one to be timed
    factor: float = 1.0  # by how much longer than that run: extrapolated unless 1


def needed(points: list[Point], wanted: float) -> Needed | None:
    """The cheapest run that is accurate enough."""
    usable = [point for point in points if point.error <= wanted]
    if not usable:
        return None
    evaluations = [p.evaluations for p in usable if np.isfinite(p.evaluations)]
    cheapest = min(usable, key=lambda point: point.seconds)
    return Needed(min(evaluations, default=np.nan), cheapest)


def needed_by_euler(points: list[Point], wanted: float) -> Needed | None:
    """Measured, or from the last two runs by the first order of the error."""
    found = needed(points, wanted)
    before, last = points[-2:]
    # Four times the steps, a quarter of the error.
    if found is not None or not 3 < before.error / last.error < 5:
        return found
    evaluations = last.evaluations * last.error / wanted
    timed = next(p for p in points if p.evaluations >= _ENOUGH_TO_TIME or p is last)
    return Needed(evaluations, timed, evaluations / timed.evaluations)


def run_all(group: Members, wanted: float, settings: Settings) -> dict[str, list[Point]]:
    """Every solver's runs, from loose to tight."""
    tolerances = settings.size(_TOLERANCES, _TOLERANCES[1:4])
    enough = 0.3 * wanted
    runs = {"Euler": euler(group, settings.size(2**16, 1024))}
    for name, solver in solvers(group.problem):
        runs[name] = adaptive(group, solver, tolerances, enough)
    return runs


def time_in_turn(
    group: Members, found: dict[str, Needed], repeats: int
) -> dict[str, np.ndarray]:
    """Seconds a member in each turn."""
    runs = {
        name: lambda one=one: group.run(**one.run.settings).loss
        for name, one in found.items()
    }
    times = in_turn(runs, repeats)
    num = len(group.horizons)
    return {
        name: found[name].factor * np.array(measured.timings.seconds) / num
        for name, measured in times.items()
    }


def compare(name: str, settings: Settings) -> Report:
    """All solvers on one problem."""
    group = prepare(PROBLEMS[name](), settings.size(settings.num, 2))
    wanted = settings.size(group.problem.error, 1e-3)
    runs = run_all(group, wanted, settings)
    all_needed = {
        name: (needed_by_euler if name == "Euler" else needed)(points, wanted)
        for name, points in runs.items()
    }
    found = {name: one for name, one in all_needed.items() if one is not None}
    seconds = time_in_turn(group, found, settings.repeats)
    # One ratio a turn: what disturbs one disturbs all.
    euler_over = {
        name: {
            "evaluations": found["Euler"].evaluations / one.evaluations,
            "seconds": seconds["Euler"] / seconds[name],
        }
        for name, one in found.items()
        if name != "Euler" and "Euler" in found
    }
    rows = [
        (
            name,
            *_costs(found.get(name), seconds.get(name)),
            *_savings(euler_over.get(name)),
            *_best(points),
        )
        for name, points in runs.items()
    ]
    figures = {
        "parameters": group.problem.num_parameters,
        "smooth": group.problem.smooth,
        "error": wanted,
        "runs": {name: [p.figures for p in points] for name, points in runs.items()},
        "seconds a member for the error": seconds,
        "Euler extrapolated by": found["Euler"].factor if "Euler" in found else None,
        "Euler over": euler_over,
    }
    head = (
        f"for an error of {wanted:g}",
        "evaluations",
        "ms a member",
        "evaluations: Euler's over these",
        "time: Euler's over this",
        "best error",
        "at",
    )
    problem, num = group.problem, len(group.horizons)
    title = f"{problem.name}, {problem.num_parameters} parameters, {num} members"
    return Report(title, head, rows, figures, _summary(euler_over, wanted))


def _costs(one: Needed | None, seconds: np.ndarray | None) -> tuple[str, str]:
    if one is None or seconds is None:
        return ("–", "–")
    mark = "≈ " if one.factor != 1 else ""
    counted = np.isfinite(one.evaluations)
    evaluations = mark + number(one.evaluations) if counted else "not counted"
    return (evaluations, mark + number(1e3 * float(np.median(seconds))))


def _savings(over: dict[str, Any] | None) -> tuple[str, str]:
    if over is None:
        return ("", "")
    counted = np.isfinite(over["evaluations"])
    fewer = number(over["evaluations"]) if counted else ""
    return (fewer, spread(over["seconds"].tolist()))


def _best(points: list[Point]) -> tuple[str, str]:
    best = min(points, key=lambda point: point.error)
    return (f"{best.error:.1e}", best.setting)


def _summary(euler_over: dict[str, Any], wanted: float) -> str:
    fewer = {
        name: over["evaluations"]
        for name, over in euler_over.items()
        if np.isfinite(over["evaluations"])
    }
    if not fewer:
        return f"Nobody's evaluations for an error of {wanted:g} can be compared"
    best = max(fewer, key=lambda name: fewer[name])
    return (
        f"For an error of {wanted:g} Euler takes {number(fewer[best])} times the "
        f"evaluations of {best}"
    )


PARTS = {name: partial(compare, name) for name in PROBLEMS}
Name = reporting.choice(PARTS)
SHORT = Settings(repeats=1, quick=True)
SHORT_PARTS = A_FEW


def main(
    problem: Annotated[
        list[Name] | None, typer.Option(help="Which task; default: all.")
    ] = None,
    num: Annotated[int, typer.Option(min=1, help="Members.")] = 4,
    repeats: reporting.Repeats = 3,
    quick: reporting.Quick = False,
    output: reporting.Output = None,
) -> None:
    """What accuracy costs."""
    settings = Settings(repeats, quick, num)
    reporting.run_parts("work_precision", PARTS, problem, settings, output)


if __name__ == "__main__":
    typer.run(main)
