"""What plateaus cost: evaluations until the second mode is learned, by solver.

    python -m benchmarks.plateau                       # all parts, about half an hour
    python -m benchmarks.plateau --part linear         # one part
    python -m benchmarks.plateau --quick               # tiny sizes: does it still run?

Evaluations are vector-Jacobian products and Hessian-vector products of the network, one
each; a dense Jacobian counts as many as there are parameters. Every solver is run at
several tolerances, and the table has, for every start, its cheapest run from which on the
error is within the bound: the relative error of the time when the loss crosses the level,
against a reference at rtol 1e-10.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import numpy as np
import optax
import scipy.integrate
import typer

import jaxflow as jf
from jaxflow.flows import outputs_at, pull_back
from jaxflow.networks import flatten, member
from jaxflow.solvers import RKC2

from . import measuring, reporting, tasks
from .measuring import is_installed, number, spread
from .reporting import Report

_ACCURATE = 1e-3  # relative error of the escape time
_TOLERANCES = (1e-4, 3e-5, 1e-5, 3e-6, 1e-6, 3e-7, 1e-7, 3e-8, 1e-8)


class Case(NamedTuple):
    """A task with a plateau, from several starts."""

    name: str
    task: jf.Task
    ensemble: eqx.Module
    num: int
    level: float  # of the loss, once the second mode is learned
    largest_rate: float  # of the Hessian on the plateau


class Run(NamedTuple):
    evaluations: np.ndarray  # (members,)
    times: np.ndarray  # physical, at which the loss crosses the level
    setting: str


def linear_case(num: int) -> Case:
    """D = 3, 6 x 6, whitened data, modes 3, 2, 1."""
    network, task = tasks.three_modes()
    ensemble = jf.sample_ensemble(network, num, key=jax.random.key(1))
    # λ_max at the first saddle, W_l of one singular value 3^(1/3): 3 · 3^(4/3).
    return Case("linear, D = 3", task, ensemble, num, 0.6, 3 * 3 ** (4 / 3))


def two_layer_case(num: int) -> Case:
    """Leaky ReLU (slope 0.5, smoothing 0.1), n = 20, a teacher of two neurons.

    The second is a thousand times weaker than the first and keeps the student waiting.
    """
    student, task = tasks.two_neurons(0.003)
    ensemble = jf.sample_ensemble(student, num, key=jax.random.key(1))
    level = 1e-6
    on_plateau = jf.gradient_flow(
        ensemble, task, scale=1e-3, stop=jf.LossBelow(1e-3), solver="auto", progress=False
    )
    rate = max(tasks.largest_rate(member(on_plateau.networks, i), task) for i in range(num))
    return Case("two-layer leaky ReLU", task, ensemble, num, level, rate)


def flows(case: Case, scale: float, solver: Any, rtols: Sequence[float]) -> list[Run]:
    """jaxflow in polar coordinates."""
    runs = []
    for rtol in rtols:
        found = jf.gradient_flow(
            case.ensemble,
            case.task,
            scale=scale,
            stop=jf.LossBelow(case.level),
            solver=solver,
            rtol=rtol,
            atol=1e-3 * rtol,
            max_steps=5_000_000,
            progress=False,
        )
        stopped = found.status == "LossBelow"
        times = np.where(stopped, np.exp(found.log_time), np.nan)
        runs.append(Run(found.stats.num_vjps, times, f"rtol {rtol:g}"))
    return runs


def euler(case: Case, scale: float, shares: Sequence[float]) -> list[Run]:
    """Gradient descent, up to its largest stable step."""
    runs = []
    for share in shares:
        step = share * 2 / case.largest_rate
        found = jf.gradient_descent(
            case.ensemble,
            case.task,
            scale=scale,
            stop=jf.LossBelow(case.level),
            optimizer=optax.sgd(step),
            num_steps=100_000_000,
            progress=False,
        )
        stopped = found.status == "LossBelow"
        times = np.where(stopped, step * found.stats.num_steps, np.nan)
        runs.append(Run(found.stats.num_vjps, times, f"η = {share:g} · 2/λ"))
    return runs


class _Peer:
    """The flow of one member in the weights and in physical time, for other packages."""

    def __init__(self, case: Case, scale: float, index: int):
        network, task, level = member(case.ensemble, index), case.task, case.level
        self.start = scale * np.asarray(flatten(network))
        field = lambda w: pull_back(network, task, w, task.residuals)
        self._field, self._jacobian = jax.jit(field), jax.jit(jax.jacfwd(field))
        self._gap = jax.jit(lambda w: task.total_loss(outputs_at(network, task, w)) - level)
        self.num_fields = self.num_jacobians = 0

    def field(self, t, w):
        self.num_fields += 1
        return np.asarray(self._field(w))

    def jacobian(self, t, w):
        self.num_jacobians += 1
        return np.asarray(self._jacobian(w))

    def gap(self, t, w):
        return float(self._gap(w))

    @property
    def evaluations(self) -> int:
        return self.num_fields + self.start.size * self.num_jacobians


def scipy_peer(method: str) -> Callable[[_Peer, float, float], float]:
    """The time of the crossing by a method of SciPy."""

    def solve(peer: _Peer, horizon: float, rtol: float) -> float:
        event = lambda t, w: peer.gap(t, w)
        event.terminal = True  # pyright: ignore[reportFunctionMemberAccess]
        found = scipy.integrate.solve_ivp(
            peer.field,
            (0.0, horizon),
            peer.start,
            method,
            events=event,
            jac=peer.jacobian,
            rtol=rtol,
            atol=1e-3 * rtol,
        )
        return float(found.t_events[0][0]) if len(found.t_events[0]) else np.nan

    return solve


def cvode(peer: _Peer, horizon: float, rtol: float) -> float:
    """The time of the crossing by SUNDIALS CVODE, BDF with a dense Jacobian."""
    from sksundae.cvode import CVODE

    def rhs(t, y, yp):
        yp[:] = peer.field(t, y)

    def jacobian(t, y, yp, matrix):
        matrix[:] = peer.jacobian(t, y)

    def event(t, y, values):
        values[0] = peer.gap(t, y)

    solver = CVODE(
        rhs,
        rtol=rtol,
        atol=1e-3 * rtol,
        jacfn=jacobian,
        eventsfn=event,
        num_events=1,
        max_num_steps=10_000_000,
    )
    found = solver.solve(np.array([0.0, horizon]), peer.start)
    return float(found.t_events[0]) if found.t_events is not None else np.nan


def peers(case: Case, scale: float, solve, horizon: float, rtols) -> list[Run]:
    """Another package, one member after another."""
    runs = []
    for rtol in rtols:
        made = [_Peer(case, scale, i) for i in range(case.num)]
        times = np.array([solve(peer, horizon, rtol) for peer in made])
        evaluations = np.array([peer.evaluations for peer in made])
        runs.append(Run(evaluations, times, f"rtol {rtol:g}"))
    return runs


def _contenders(
    case: Case, scale: float, horizon: float, tolerances: Sequence[float]
) -> dict[str, Callable[[], list[Run]]]:
    others = {"CVODE (BDF)": cvode} if is_installed("sksundae") else {}
    others |= {"SciPy LSODA": scipy_peer("LSODA"), "SciPy BDF": scipy_peer("BDF")}
    found: dict[str, Callable[[], list[Run]]] = {
        "auto": lambda: flows(case, scale, "auto", tolerances),
        "RKC2": lambda: flows(case, scale, RKC2(), tolerances),
    }
    if scale >= 1e-4:  # at smaller scales these take hours to days
        found["Tsit5"] = lambda: flows(case, scale, diffrax.Tsit5(), tolerances[::4])
        found["Euler"] = lambda: euler(case, scale, (0.98, 0.5, 0.25))
    for name, solve in others.items():
        found[name] = lambda solve=solve: peers(case, scale, solve, horizon, tolerances)
    return found


class Cheapest(NamedTuple):
    """What every start needs, with the solver's best setting for that start."""

    evaluations: np.ndarray
    errors: np.ndarray
    settings: str


def cheapest(runs: Sequence[Run], errors: np.ndarray) -> Cheapest | None:
    """The cheapest accurate run of every start; `None` if a start has none.

    `runs` become more accurate one after another. One that is accurate by chance, before
    others that are not, does not count.
    """
    evaluations = np.stack([run.evaluations for run in runs]).astype(float)
    accurate = errors <= _ACCURATE  # NaN is not
    settled = np.logical_and.accumulate(accurate[::-1])[::-1]
    evaluations = np.where(settled, evaluations, np.inf)
    best, columns = np.argmin(evaluations, axis=0), np.arange(evaluations.shape[1])
    if not np.all(np.isfinite(evaluations[best, columns])):
        return None
    settings = [runs[i].setting for i in range(len(runs)) if i in best]
    return Cheapest(evaluations[best, columns], errors[best, columns], ", ".join(settings))


def compare(make: Callable[[int], Case], settings: "Settings") -> Report:
    """Every contender's cheapest runs that are accurate enough, at each scale."""
    case = make(settings.size(settings.num, 1))
    table: list[tuple[str, ...]] = []
    figures: dict[str, Any] = {}
    tolerances = settings.size(_TOLERANCES, _TOLERANCES[2:5])
    over: dict[str, str] = {}  # at the last scale at which anybody else arrived
    for scale in settings.size((1e-2, 1e-4, 1e-6), (1e-2,)):
        first = flows(case, scale, "auto", (1e-8,))[0]
        horizon = 3 * float(first.times.max())
        exact = cvode if is_installed("sksundae") else scipy_peer("LSODA")
        (reference,) = peers(case, scale, exact, horizon, (1e-10,))
        contenders = _contenders(case, scale, horizon, tolerances)
        least = None  # of "auto", which comes first
        for name, run in contenders.items():
            runs = run()
            errors = np.stack([np.abs(r.times / reference.times - 1) for r in runs])
            figures[f"{name}, δ = {scale:g}"] = [
                {
                    "setting": r.setting,
                    "evaluations": r.evaluations,
                    "relative error of the time": e,
                }
                for r, e in zip(runs, errors)
            ]
            found = cheapest(runs, errors)
            if found is None:
                worst = float(np.min(np.max(errors, axis=1)))
                table.append((f"δ = {scale:g}", name, "–", "", f"{worst:.1e}", ""))
                continue
            if name == "auto":
                least = found.evaluations
            ratio = [] if least is None else (found.evaluations / least).tolist()
            if ratio and name != "auto":
                over[name] = f"{number(float(np.median(ratio)))} times at δ = {scale:g}"
            table.append(
                (
                    f"δ = {scale:g}",
                    name,
                    number(float(np.median(found.evaluations))),
                    spread(ratio) if ratio else "",
                    f"{found.errors.max():.1e}",
                    found.settings,
                )
            )
    title = f"{case.name}, {case.num} starts, until the loss is {case.level:g}"
    head = ("scale", "solver", "evaluations", "over auto", "largest error", "at")
    summary = "Evaluations over those of auto: "
    summary += ", ".join(f"{name} {times}" for name, times in over.items())
    if not over:
        summary = "Nobody can be compared with auto at these tolerances"
    return Report(title, head, table, figures, summary)


@dataclasses.dataclass(frozen=True)
class Settings(measuring.Settings):
    """How large the parts are."""

    num: int = 4


PARTS = {
    "linear": partial(compare, linear_case),
    "two-layer": partial(compare, two_layer_case),
}
Part = reporting.choice(PARTS)
SHORT = Settings(repeats=1, quick=True)


def main(
    part: Annotated[
        list[Part] | None, typer.Option(help="Which part; default: all.")
    ] = None,
    num: Annotated[int, typer.Option(min=1, help="Starts.")] = 4,
    quick: reporting.Quick = False,
    output: reporting.Output = None,
) -> None:
    """What plateaus cost."""
    reporting.run_parts("plateau", PARTS, part, Settings(quick=quick, num=num), output)


if __name__ == "__main__":
    typer.run(main)
