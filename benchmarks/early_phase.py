"""The early phase against Euler: evaluations until the direction is that of a KKT point.

    python -m benchmarks.early_phase                # L = 2, 3 and 7, seven minutes
    python -m benchmarks.early_phase --order 3      # one order
    python -m benchmarks.early_phase --quick        # tiny sizes: does it still run?

Weights of size δ stay small for a time of order δ^(2-L). Gradient descent with a step size
at which training is stable, `η <= 2/λ` with the largest eigenvalue λ of the Hessian at the
end of training, has to walk all that time. So has, in shorter steps, who takes Euler's
method for the gradient flow itself, and wants what has been learned within 1% of the
flow's. Euler steps for the early phase alone may be as long as the phase allows: the last
column, which nobody can use who does not know when the phase will end.
"""

import dataclasses
from functools import partial
from typing import Annotated, Any, NamedTuple

import diffrax
import jax
import numpy as np
import optax
import typer

import jaxflow as jf
from jaxflow.networks import member, members

from . import measuring, reporting
from .measuring import number, spread
from .problems import accuracy, Members, Problem
from .reporting import Report
from .tasks import largest_rate, teacher_student

_CLOSE = 1e-4  # of 1 - cosine to the KKT point
_MOST_STEPS = 2_000_000
_FOLLOWING = 1e-2  # of the weights where the task is learned
_MOST_STEPS_TO_LEARN = 2**17
_RTOL = 1e-3  # accurate enough for that
_GRID_POINTS = 400
_LARGEST_NORM = 0.3  # up to which a member may come close
_TRAINED = 0.3  # the scale of those that learn the task


@dataclasses.dataclass(frozen=True)
class Settings(measuring.Settings):
    """How large the runs are."""

    num: int = 16


class Case(NamedTuple):
    """A network and a task, starts, and the KKT points to which their directions tend."""

    task: jf.Task
    starts: Any
    points: Any
    rate: float  # the largest eigenvalue of the Hessian at the end of training
    following_step: float | None  # of Euler's method, to be the flow until then


def make(order: int) -> tuple[jf.FeedForward, jf.Task]:
    """Linear networks of order two and three; of order seven one of power two."""
    sizes, slope, power = {
        2: ((10, 20, 1), 1.0, 1),
        3: ((10, 20, 20, 1), 1.0, 1),
        7: ((10, 20, 20, 1), 0.5, 2),
    }[order]
    return teacher_student(sizes, jf.LeakyReLU(slope, power))


def prepare(order: int, num: int) -> Case:
    """Members whose directions have come to a KKT point in the limit δ → 0."""
    network, task = make(order)
    drawn = jf.sample_ensemble(network, 2 * num, key=jax.random.key(2))
    limit = jf.ncf_flow(drawn, task, progress=False)
    settled = limit.status == "Stationary"
    value = jax.vmap(lambda one: jf.ncf(one, task))(limit.directions)
    rows = np.flatnonzero(settled & (np.asarray(value) > 0))[:num]
    starts = members(drawn, rows)
    few = members(starts, np.arange(min(4, num)))
    trained = jf.gradient_flow(
        few,
        task,
        scale=_TRAINED,
        stop=jf.LossBelow(0.02),
        solver="auto",
        max_steps=3000,
        progress=False,
    )
    used = np.flatnonzero(trained.loss < 0.1)
    if not len(used):
        raise RuntimeError(f"order {order}: nobody has learned the task")
    rate = max(largest_rate(member(trained.networks, int(i)), task) for i in used)
    problem = Problem(network, task, _TRAINED, 0.02, f"L = {order}")
    step = following_step(problem, members(few, used), trained.rescaled_time[used])
    return Case(task, starts, members(limit.directions, rows), rate, step)


def following_step(problem: Problem, starts: Any, horizons: np.ndarray) -> float | None:
    """The longest step of Euler's method that is close to the flow until these times."""
    exact = problem.run(starts, horizons, **accuracy(1e-9))
    learned = Members(problem, starts, horizons, problem.ends(exact))
    found = learned.euler_steps(_FOLLOWING, _MOST_STEPS_TO_LEARN)
    if found is None:
        return None
    num_steps, error = found
    num_steps = int(np.ceil(num_steps * error / _FOLLOWING))  # of first order
    assert learned.error(problem.euler(num_steps)(learned)) < 1.1 * _FOLLOWING
    return float(np.median(horizons) / num_steps * problem.unit_of_time)


class Arrival(NamedTuple):
    """When members come close to their KKT points; the others stay at their start."""

    close: np.ndarray  # whether they do
    log_norm: np.ndarray
    evaluations: np.ndarray
    log_time: np.ndarray
    rescaled_time: np.ndarray


def arrival(case: Case, scale: float) -> Arrival | None:
    """By jaxflow in polar coordinates; `None` if most escape before they are close."""
    settings: dict[str, Any] = {"scale": scale, "progress": False, "max_steps": 20_000}
    grid = np.linspace(np.log(scale), np.log(_LARGEST_NORM), _GRID_POINTS)
    shown = jf.gradient_flow(
        case.starts,
        case.task,
        stop=jf.NormAbove(1.001 * _LARGEST_NORM),
        record={"cosine": jf.CosineTo(case.points, per_member=True)},
        record_at=grid,
        record_over="log_norm",
        **settings,
    )
    close = 1 - np.asarray(shown.records.values["cosine"]) <= _CLOSE
    if close.any(axis=1).mean() <= 0.5:
        return None
    first = grid[np.argmax(close, axis=1)]  # the start, where there is none
    found = jf.gradient_flow(
        case.starts,
        case.task,
        stop=jf.NormAbove(np.exp(first)),
        rtol=_RTOL,
        atol=1e-2 * _RTOL,
        **settings,
    )
    assert set(found.status) == {"NormAbove"}, found
    assert distance(case, found)[close.any(axis=1)].max() < 2 * _CLOSE
    return Arrival(
        close.any(axis=1),
        first,
        found.stats.num_vjps,
        found.log_time,
        found.rescaled_time,
    )


def distance(case: Case, solution: jf.Solution) -> np.ndarray:
    """`1 - cosine` of members' directions to their KKT points."""
    return 1 - np.asarray(jax.vmap(jf.cosine)(solution.directions, case.points))


class Steps(NamedTuple):
    """Those that members take who come close."""

    steps: np.ndarray
    is_measured: bool


def descent(case: Case, scale: float, there: Arrival, step: float | None) -> Steps | None:
    """Steps of gradient descent to the same norms: taken, or extrapolated if too many."""
    if step is None:
        return None
    expected = np.exp(there.log_time) / step
    if expected.max() > _MOST_STEPS:
        return Steps(expected[there.close], is_measured=False)
    found = jf.gradient_descent(
        case.starts,
        case.task,
        scale=scale,
        optimizer=optax.sgd(step),
        num_steps=2 * int(expected.max()) + 100,
        stop=jf.NormAbove(np.exp(there.log_norm)),
        progress=False,
    )
    assert set(found.status) == {"NormAbove"}, found
    assert distance(case, found)[there.close].max() < 3 * _CLOSE
    return Steps(found.stats.num_steps[there.close], is_measured=True)


def early_steps(case: Case, scale: float, there: Arrival) -> int | None:
    """The fewest Euler steps of one size, for the early phase alone, as close as that."""
    for num_steps in 2 ** np.arange(3, 17):
        found = jf.gradient_flow(
            case.starts,
            case.task,
            scale=scale,
            coordinates="cartesian",
            stepping=jf.Stepping(
                diffrax.Euler(),
                controller=diffrax.ConstantStepSize(),
                dt0=float(there.rescaled_time.max()) / int(num_steps),
                max_steps=4 * int(num_steps) + 100,
            ),
            stop=jf.NormAbove(np.exp(there.log_norm)),
            progress=False,
        )
        arrived = found.status == "NormAbove"
        if arrived.all() and distance(case, found)[there.close].max() < 2 * _CLOSE:
            return int(np.median(found.stats.num_accepted[there.close]))
    return None


def compare(order: int, settings: Settings) -> Report:
    """Evaluations to the same closeness, at every scale."""
    case = prepare(order, settings.size(settings.num, 2))
    step = 2 / case.rate
    rows: list[tuple[str, ...]] = []
    figures: dict[str, Any] = {
        "order": order,
        "largest stable step": step,
        "step that follows the flow": case.following_step,
    }
    ratios: dict[float, float] = {}
    for scale in settings.size((1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6), (1e-3,)):
        there = arrival(case, scale)
        if there is None:
            rows.append((f"{scale:g}", "not that close", *[""] * 5))
            figures[f"δ = {scale:g}"] = "most are not that close at the end of the phase"
            continue
        evaluations = there.evaluations[there.close]
        stable = descent(case, scale, there, step)
        following = descent(case, scale, there, case.following_step)
        alone = early_steps(case, scale, there)
        assert stable is not None
        ratios[scale] = float(np.median(stable.steps / evaluations))
        rows.append(
            (
                f"{scale:g}",
                spread(evaluations.tolist()),
                *_cells(stable, evaluations),
                *_cells(following, evaluations),
                "–" if alone is None else number(alone),
            )
        )
        figures[f"δ = {scale:g}"] = {
            "members that come that close": there.close.sum(),
            "evaluations": evaluations,
            **_figures("gradient descent", stable),
            **_figures("following the flow", following),
            "Euler, early phase alone": alone,
        }
    head = (
        *("δ", "jaxflow", "gradient descent", "ratio"),
        *("following the flow", "ratio", "Euler, this phase alone"),
    )
    title = f"Evaluations until 1 - cosine <= {_CLOSE:g}, L = {order}, η = {step:.2g}"
    summary = "Most members escape before they are that close"
    if ratios:
        scale, ratio = ratios.popitem()
        summary = f"At δ = {scale:g} gradient descent needs {_power(ratio)} times as many"
    return Report(title, head, rows, figures, summary)


def _cells(found: Steps | None, evaluations: np.ndarray) -> tuple[str, str]:
    """How many steps, and how many times the evaluations."""
    if found is None:
        return "–", ""
    about = "" if found.is_measured else "≈ "
    ratios = (found.steps / evaluations).tolist()
    return about + _power(float(np.median(found.steps))), spread(ratios, show=_power)


def _figures(name: str, found: Steps | None) -> dict[str, Any]:
    if found is None:
        return {name: None}
    return {name: found.steps, f"{name} is": _HOW[found.is_measured]}


_HOW = {True: "measured", False: "extrapolated"}


def _power(value: float) -> str:
    return number(value) if value < 1e7 else f"{value:.1e}"


PARTS = {str(order): partial(compare, order) for order in (2, 3, 7)}
Order = reporting.choice(PARTS)
SHORT = Settings(repeats=1, quick=True)


def main(
    order: Annotated[list[Order] | None, typer.Option(help="L; default: all.")] = None,
    num: Annotated[int, typer.Option(min=1, help="Members.")] = 16,
    quick: reporting.Quick = False,
    output: reporting.Output = None,
) -> None:
    """The early phase against Euler."""
    reporting.run_parts("early_phase", PARTS, order, Settings(quick=quick, num=num), output)


if __name__ == "__main__":
    typer.run(main)
