"""Thirty ordinary problems with all defaults: who ends as asked, and at what cost.

    python -m benchmarks.defaults              # all, about half an hour
    python -m benchmarks.defaults --quick      # a few, one network each: does it still run?

Beside the defaults every problem is run with settings that somebody would choose by hand
who knows what is stiff and what has kinks. Of those with which every member ends as asked,
and no less accurately, the cheapest counts: its median error may be twice that of the
defaults. The cost is that of evaluations, each a vector-Jacobian or Hessian-vector product
of the network, and wall time, with programs that are compiled.

Errors are relative distances to a run at much tighter tolerances: of the weights until a
time, of the time until a loss or a norm, and of the loss, over that of the start, where
members have converged.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import diffrax
import equinox as eqx
import numpy as np
import typer

import jaxflow as jf
from jaxflow.errors import InputError
from jaxflow.flows import sides_of_loss
from jaxflow.networks import flatten, member
from jaxflow.solvers import RKC2

from . import measuring, reporting
from .measuring import number, spread
from .ordinary import Ordinary, problems
from .reporting import Report

_PATIENCE = 30_000
"""Steps that hand-chosen settings may take, three times the default."""

_AS_LONG_AS_IT_TAKES = 2_000_000
"""Steps for the run that others are compared with."""

_NO_LESS_ACCURATE = 2.0
"""Times the error of the defaults that a setting may leave which is compared with them."""


class Run(NamedTuple):
    """What became of the members of one problem with one setting."""

    solution: jf.Solution
    seconds: float  # of the second run

    @property
    def evaluations(self) -> int:
        return int(np.sum(self.solution.stats.num_vjps))

    def ended(self, problem: Ordinary) -> np.ndarray:
        """Which members ended as asked."""
        return np.asarray(self.solution.status) == type(problem.stop).__name__


def by_hand(problem: Ordinary) -> dict[str, Callable[[], dict[str, Any]]]:
    """Settings that somebody would choose who knows the solvers."""
    plain = {
        "Tsit5, 1e-6": (diffrax.Tsit5(), 1e-6),
        "Tsit5, 1e-4": (diffrax.Tsit5(), 1e-4),
        "Bosh3, 3e-5": (diffrax.Bosh3(), 3e-5),
    }
    if not _has_kinks(problem):  # there nobody would: every kink rejects many stages
        plain |= {"RKC2, 1e-6": (RKC2(), 1e-6), "RKC2, 3e-5": (RKC2(), 3e-5)}
    found: dict[str, Callable[[], dict[str, Any]]] = {
        name: lambda one=one: _settings(*one) for name, one in plain.items()
    }
    network = member(problem.starts(1), 0)
    found["sliding, 3e-5"] = lambda: _settings(
        jf.sliding_solver(diffrax.Bosh3(), network, problem.task), 3e-5
    )
    return found


def _settings(solver: Any, rtol: float) -> dict[str, Any]:
    return {"solver": solver, "rtol": rtol, "atol": 1e-3 * rtol, "max_steps": _PATIENCE}


def run(problem: Ordinary, num: int, **settings: Any) -> Run:
    """Twice, as the first time compiles; settings by hand that fail are not timed."""
    first = Run(problem.run(num, **settings), math.nan)
    if settings and not np.all(first.ended(problem)):
        return first
    begun = time.perf_counter()
    solution = problem.run(num, **settings)
    return Run(solution, time.perf_counter() - begun)


def errors(problem: Ordinary, found: jf.Solution, exact: jf.Solution) -> np.ndarray:
    """How far members ended from where they should have; see above."""
    if type(problem.stop) is jf.Time:
        ends, right = (np.asarray(_flat(one.networks)) for one in (found, exact))
        return np.linalg.norm(ends - right, axis=1) / np.linalg.norm(right, axis=1)
    if type(problem.stop) is jf.Stationary:
        return np.abs(found.loss - exact.loss) / problem.losses_at_start(len(found.loss))
    return np.abs(np.expm1(found.log_time - exact.log_time))


_flat = eqx.filter_jit(eqx.filter_vmap(flatten))


def exactly(problem: Ordinary, num: int) -> jf.Solution:
    """The same members at tight tolerances, with all the steps that takes."""
    solver, rtol = ("auto", 1e-6) if _has_kinks(problem) else (diffrax.Tsit5(), 1e-9)
    settings = {"solver": solver, "rtol": rtol, "atol": 1e-3 * rtol}
    return problem.run(num, max_steps=_AS_LONG_AS_IT_TAKES, **settings)


def _has_kinks(problem: Ordinary) -> bool:
    return sides_of_loss(member(problem.starts(1), 0), problem.task) is not None


class Compared(NamedTuple):
    """The defaults on one problem, beside the best setting chosen by hand."""

    problem: Ordinary
    default: Run
    error: float  # of the defaults, the median
    others: dict[str, tuple[Run, float]]  # with their errors
    best: str | None

    @property
    def num_ended(self) -> int:
        return int(np.sum(self.default.ended(self.problem)))

    @property
    def evaluations(self) -> float:
        """Those of the defaults over those of the best."""
        return self.default.evaluations / self._best.evaluations

    @property
    def seconds(self) -> float:
        return self.default.seconds / self._best.seconds

    @property
    def _best(self) -> Run:
        return self.default if self.best is None else self.others[self.best][0]

    @property
    def row(self) -> tuple[str, ...]:
        num = len(self.default.solution.loss)
        return (
            self.problem.name,
            f"{self.num_ended} of {num}",
            number(self.default.evaluations / num),
            f"{self.error:.0e}",
            self.best or "–",
            f"{self.evaluations:.2f}",
            f"{self.seconds:.2f}",
        )

    @property
    def figures(self) -> dict[str, Any]:
        named = {"defaults": (self.default, self.error), **self.others}
        settings = {
            name: {
                "ended": one.ended(self.problem),
                "evaluations": one.solution.stats.num_vjps,
                "seconds": one.seconds,
                "median error": error,
            }
            for name, (one, error) in named.items()
        }
        ratios = {
            "evaluations over best": self.evaluations,
            "seconds over best": self.seconds,
        }
        return {"best": self.best, **ratios, "settings": settings}


def compare(problem: Ordinary, num: int) -> Compared:
    """One problem with all defaults, and with every setting chosen by hand."""
    default, exact = run(problem, num), exactly(problem, num)
    middle = lambda one: float(np.median(errors(problem, one.solution, exact)))
    error = middle(default)
    others = {}
    for name, make in by_hand(problem).items():
        with contextlib.suppress(InputError):  # nothing slides in a smooth network
            one = run(problem, num, **make())
            others[name] = one, middle(one)
    fit = [
        name
        for name, (one, its_error) in others.items()
        if np.all(one.ended(problem)) and its_error <= _NO_LESS_ACCURATE * error
    ]
    best = min(fit, key=lambda name: others[name][0].evaluations, default=None)
    return Compared(problem, default, error, others, best)


def ordinary(settings: "Settings") -> Report:
    """All of them."""
    chosen = problems()
    if settings.quick:
        chosen = [one for one in chosen if "converged" in one.name]
    if settings.only:
        chosen = [one for one in chosen if settings.only in one.name]
    num = settings.size(settings.num, 1)
    found = []
    for problem in chosen:
        found.append(compare(problem, num))
        print(" | ".join(found[-1].row), flush=True)
    ended, asked = sum(one.num_ended for one in found), num * len(found)
    compared = [one for one in found if one.best is not None]
    ratios = sorted(one.evaluations for one in compared)
    seconds = sorted(one.seconds for one in compared)
    return Report(
        f"Ordinary problems with all defaults, {num} networks each",
        (
            *("problem", "ended as asked", "evaluations a network", "error"),
            *("best by hand", "evaluations over its", "seconds over its"),
        ),
        [one.row for one in found],
        {one.problem.name: one.figures for one in found},
        f"{ended} of {asked} networks end as asked. Over the best setting chosen by hand: "
        f"evaluations {spread(ratios)} times, seconds {spread(seconds)} times.",
    )


@dataclasses.dataclass(frozen=True)
class Settings(measuring.Settings):
    """How many networks, and of which problems."""

    num: int = 8
    only: str = ""


PARTS = {"ordinary": ordinary}
SHORT = Settings(repeats=1, quick=True)


def main(
    num: Annotated[int, typer.Option(min=1, help="Networks of each problem.")] = 8,
    only: Annotated[str, typer.Option(help="Problems with this in their names.")] = "",
    quick: reporting.Quick = False,
    output: reporting.Output = None,
) -> None:
    """Who ends as asked with all defaults, and at what cost."""
    settings = Settings(quick=quick, num=num, only=only)
    reporting.run_parts("defaults", PARTS, None, settings, output)


if __name__ == "__main__":
    typer.run(main)
