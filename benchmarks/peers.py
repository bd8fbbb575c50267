"""Members per second beside other packages, 256 members of each task until fixed times.

    python -m benchmarks.peers                     # nine tasks, an hour and a half
    python -m benchmarks.peers --problem linear    # one task
    python -m benchmarks.peers --quick             # tiny sizes: does it still run?

Two races. At rtol 1e-6, with kinks 1e-5: jaxflow, one `vmap(diffeqsolve)`, torchode and
torchdiffeq with all members in one batch, SciPy and SUNDIALS CVODE one member after
another. And gradient descent with steps so short that it is within 1e-2 of the flow, as a
jitted `lax.scan` over all members and as a loop in PyTorch, one member after another,
beside jaxflow at the loosest tolerance that is as close. Whoever goes one after another
gets a few members, evenly spaced quantiles by numbers of steps; these must end where SciPy
says at tight tolerances, or their integrator is not timed. The largest error of all members
is shown beside. jaxflow runs with several solvers; others are compared with the fastest.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import typer

from jaxflow.solvers import RKC2

from . import measuring, reporting
from .measuring import in_turn, is_installed, number, spread
from .problems import A_FEW, accuracy, Members, MOST_FOR_JACOBIANS, Problem, PROBLEMS
from .reporting import Report
from .workloads import few_for_all

_RTOL, _RTOL_WITH_KINKS = 1e-6, 1e-5  # all slide along kinks, in ever shorter steps
_ERROR = 1e-2  # of gradient descent; and where anybody ends must be as close as that
_LOOSEST = (1e-3, 1e-4, 1e-5, 1e-6)  # relative tolerances
_MOST_EVALUATIONS = 200_000  # of a member with SciPy
_MOST_STEPS = 2**14  # of gradient descent; with more there is no second race

Ends = np.ndarray  # (members, parameters)


def tolerances(problem: Problem) -> dict[str, float]:
    """`rtol` and `atol` for all who integrate the flow."""
    return accuracy(_RTOL if problem.smooth else _RTOL_WITH_KINKS)


@dataclasses.dataclass(frozen=True)
class Settings(measuring.Settings):
    """How large the runs are."""

    num: int = 256
    few: int = 4


@dataclasses.dataclass(frozen=True)
class Contender:
    """Somebody who takes members to their ends."""

    race: str
    run: Callable[[Members], Ends]
    one_by_one: bool = False


# jaxflow and plain diffrax

_SOLVERS = {"Tsit5": diffrax.Tsit5(), "auto": "auto", "RKC2": RKC2()}


def jaxflow(solver: Any, rtol: float, group: Members) -> Ends:
    """One call; in Cartesian coordinates, as the others."""
    found = group.run(solver=solver, coordinates="cartesian", **accuracy(rtol))
    assert set(found.status) == {"RescaledTime"}, found
    return group.problem.ends(found)


def plain_diffrax(problem: Problem) -> Callable[[Members], Ends]:
    """One `diffeqsolve` under one `vmap`, as its documentation has it."""
    field = problem.field()

    def solve(origin, horizon):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda s, u, args: field(u)),
            diffrax.Tsit5(),
            jnp.zeros_like(horizon),
            horizon,
            None,
            origin,
            stepsize_controller=diffrax.PIDController(**tolerances(problem)),
            max_steps=1_000_000,
        ).ys[0]

    solve_all = jax.jit(jax.vmap(solve))
    return lambda group: np.asarray(solve_all(group.origins, group.horizons))


# One member after another, with a jitted gradient


def cvode(problem: Problem) -> Callable[[Members], Ends]:
    """BDF; dense Jacobians from JAX for few parameters, a Krylov method for more."""
    from sksundae.cvode import CVODE

    field = jax.jit(problem.field())
    jacobian = jax.jit(jax.jacfwd(problem.field()))

    def rhs(s, u, change):
        change[:] = field(u)

    def fill(s, u, change, matrix):
        matrix[:] = jacobian(u)

    few = problem.num_parameters <= MOST_FOR_JACOBIANS
    how = {"jacfn": fill} if few else {"linsolver": "gmres", "krylov_dim": 5}

    def solve(origin, horizon):
        solver = CVODE(rhs, max_num_steps=1_000_000, **tolerances(problem), **how)
        return solver.solve(np.array([0.0, horizon]), origin).y[-1]

    return partial(_one_by_one, solve)


def _one_by_one(solve: Callable[..., np.ndarray], group: Members) -> Ends:
    return np.stack([solve(*one) for one in zip(group.origins, group.horizons)])


# PyTorch, all members in one batch


def torchode(group: Members) -> Ends:
    """Tsit5 with a step size for each member."""
    import torch
    import torchode

    from .torch_networks import velocity

    problem = group.problem
    field = velocity(problem.network, problem.task, problem.unit_of_outputs)
    term = torchode.ODETerm(lambda s, u: field(u), with_stats=False)
    solver = torchode.AutoDiffAdjoint(
        torchode.Tsit5(term=term),
        torchode.IntegralController(**tolerances(problem), term=term),
    )
    horizons = torch.from_numpy(group.horizons.copy())
    torch.set_num_threads(measuring.num_cores())
    with torch.no_grad():
        found = solver.solve(
            torchode.InitialValueProblem(
                y0=torch.from_numpy(group.origins.copy()),
                t_start=torch.zeros_like(horizons),
                t_end=horizons,
                t_eval=horizons[:, None],
            )
        )
    assert torch.all(found.status == torchode.Status.SUCCESS.value)
    return found.ys[:, -1].numpy()


def torchdiffeq(group: Members) -> Ends:
    """dopri5 on all members as one system, each with the horizon as its unit of time."""
    import torch
    from torchdiffeq import odeint

    from .torch_networks import velocity

    problem = group.problem
    field = velocity(problem.network, problem.task, problem.unit_of_outputs)
    horizons = torch.from_numpy(group.horizons.copy())[:, None]
    torch.set_num_threads(measuring.num_cores())
    with torch.no_grad():
        found = odeint(
            lambda share, u: horizons * field(u),
            torch.from_numpy(group.origins.copy()),
            torch.tensor([0.0, 1.0], dtype=torch.float64),
            method="dopri5",
            **tolerances(problem),
        )
    return found[-1].numpy()


# Gradient descent


def torch_descent(num_steps: int, group: Members) -> Ends:
    """A network, a loss, `torch.optim.SGD` and a loop."""
    import torch

    from .torch_networks import loss, outputs, torch_parts

    problem = group.problem
    forward, loss_of = outputs(problem.network, problem.task), loss(problem.task)
    # Steps of u in s are steps of w = δ u in t = δ^(2-L) s.
    unit, clock = problem.unit, problem.unit_of_time
    torch.set_num_threads(1)  # as fast for one small network, and steadier

    def solve(origin, horizon):
        flat = torch.from_numpy(unit * origin)
        weights = [
            torch.nn.Parameter(part.clone()) for part in torch_parts(problem.network, flat)
        ]
        optimizer = torch.optim.SGD(weights, lr=clock * horizon / num_steps)
        for _ in range(num_steps):
            optimizer.zero_grad()
            loss_of(forward(weights)).backward()
            optimizer.step()
        return torch.cat([w.detach().flatten() for w in weights]).numpy() / unit

    return _one_by_one(solve, group)


def rtol_for(solver: Any, some: Members) -> float:
    """The loosest tolerance with which jaxflow is as close; the tightest, if none is."""
    errors = ((rtol, some.error(jaxflow(solver, rtol, some))) for rtol in _LOOSEST)
    return next((rtol for rtol, error in errors if error <= _ERROR), _LOOSEST[-1])


# The races


def prepare(problem: Problem, num: int, few: int) -> tuple[Members, np.ndarray]:
    """All members, and which few stand for all; where these end is checked by SciPy."""
    starts, horizons = problem.members(num)
    rtol = 1e-9 if problem.smooth else 1e-7
    solver = diffrax.Tsit5() if problem.smooth else diffrax.Heun()
    exact = problem.run(starts, horizons, solver=solver, **accuracy(rtol))
    assert set(exact.status) == {"RescaledTime"}, exact
    everyone = Members(problem, starts, horizons, problem.ends(exact))
    rows = few_for_all(exact.stats.num_steps, few)
    some = everyone.take(rows)
    assert some.error(problem.reference(some.starts, some.horizons)) < 1e-2 * _ERROR
    return everyone, rows


def contenders(some: Members) -> dict[str, Contender]:
    """Those that are installed; settings of gradient descent are found on these members."""
    return {**_with_flow(some.problem), **_with_descent(some)}


def _with_flow(problem: Problem) -> dict[str, Contender]:
    asked = tolerances(problem)
    rtol = asked["rtol"]
    found = {
        f"jaxflow {name}, rtol {rtol:g}": Contender("flow", partial(jaxflow, solver, rtol))
        for name, solver in _SOLVERS.items()
    }
    found["vmap(diffeqsolve)"] = Contender("flow", plain_diffrax(problem))
    for method in ("RK45", "LSODA"):
        one = problem.scipy_solver(method, most_evaluations=_MOST_EVALUATIONS, **asked)
        solve = partial(_one_by_one, one)
        found[f"SciPy {method}"] = Contender("flow", solve, one_by_one=True)
    if is_installed("sksundae"):
        found["CVODE (BDF)"] = Contender("flow", cvode(problem), one_by_one=True)
    if is_installed("torchode"):
        found["torchode, one batch"] = Contender("flow", torchode)
    if is_installed("torchdiffeq"):
        found["torchdiffeq, one batch"] = Contender("flow", torchdiffeq)
    return found


def _with_descent(some: Members) -> dict[str, Contender]:
    accurate = some.euler_steps(_ERROR, _MOST_STEPS)
    if accurate is None:
        return {}
    num_steps, _ = accurate
    found = {}
    for name, solver in _SOLVERS.items():
        rtol = rtol_for(solver, some)
        one = Contender("descent", partial(jaxflow, solver, rtol))
        found[f"jaxflow {name} to 1%, rtol {rtol:g}"] = one
    descent = Contender("descent", some.problem.euler(num_steps))
    found[f"lax.scan, {num_steps:,} steps"] = descent
    if is_installed("torch"):
        loop = Contender("descent", partial(torch_descent, num_steps), one_by_one=True)
        found[f"PyTorch SGD, {num_steps:,} steps"] = loop
    return found


def compare(name: str, settings: Settings) -> Report:
    """Everybody on one problem."""
    problem = PROBLEMS[name]()
    num, few = settings.size((settings.num, settings.few), (4, 2))
    everyone, rows = prepare(problem, num, few)
    some = everyone.take(rows)
    everybody = contenders(some)
    groups = {name: some if one.one_by_one else everyone for name, one in everybody.items()}
    # Once to see where they end, which compiles, too.
    ends = {name: one.run(groups[name]) for name, one in everybody.items()}
    errors = {name: groups[name].error(ends[name]) for name in ends}
    others = {
        name: one
        for name, one in everybody.items()
        if some.error(ends[name] if one.one_by_one else ends[name][rows]) <= _ERROR
    }
    times = in_turn(
        {name: partial(one.run, groups[name]) for name, one in others.items()},
        settings.repeats,
    )
    seconds = {
        name: np.array(measured.timings.seconds) / len(groups[name].horizons)
        for name, measured in times.items()
    }
    fastest = {one.race: _fastest(one.race, others, seconds) for one in others.values()}
    # One ratio a turn: what disturbs one disturbs all.
    ratios = {
        name: seconds[name] / seconds[fastest[one.race]] for name, one in others.items()
    }
    table = []
    for name in everybody:
        cells = ("–", "elsewhere")  # no answer to be timed
        if name in others:
            ratio = "1" if name in fastest.values() else spread(ratios[name].tolist())
            cells = (number(float(np.median(1 / seconds[name]))), ratio)
        table.append((name, str(len(groups[name].horizons)), *cells, f"{errors[name]:.1e}"))
    if "descent" not in fastest:
        needs = f"gradient descent, more than {_MOST_STEPS:,} steps"
        table.append((needs, "", "–", "not run", ""))
    figures = {
        "parameters": problem.num_parameters,
        "seconds a member": seconds,
        "time over jaxflow's": ratios,
        "largest error": errors,
        "members": {name: len(group.horizons) for name, group in groups.items()},
    }
    title = f"{problem.name}, {problem.num_parameters} parameters, {num} members"
    head = ("", "members", "members/s", "time over jaxflow's", "largest error")
    return Report(title, head, table, figures, _summary(ratios))


def _fastest(race: str, others: dict[str, Contender], seconds: dict[str, Any]) -> str:
    """jaxflow's solver to compare with."""
    ours = [key for key, one in others.items() if one.race == race and _is_ours(key)]
    if not ours:
        raise RuntimeError(f"no solver of jaxflow arrives in the race {race!r}")
    return min(ours, key=lambda name: np.median(seconds[name]))


def _is_ours(name: str) -> bool:
    return name.startswith("jaxflow")


def _summary(ratios: dict[str, np.ndarray]) -> str:
    medians = {
        name: float(np.median(ratio))
        for name, ratio in ratios.items()
        if not _is_ours(name)
    }
    return "Time over jaxflow's: " + ", ".join(
        f"{name} {number(ratio)}" for name, ratio in medians.items()
    )


PARTS = {name: partial(compare, name) for name in PROBLEMS}
Name = reporting.choice(PARTS)
SHORT = Settings(repeats=1, quick=True)
SHORT_PARTS = A_FEW


def main(
    problem: Annotated[
        list[Name] | None, typer.Option(help="Which task; default: all.")
    ] = None,
    num: Annotated[int, typer.Option(min=1, help="Members.")] = 256,
    few: Annotated[
        int, typer.Option(min=1, help="Members of those who go one after another.")
    ] = 4,
    repeats: reporting.Repeats = 3,
    quick: reporting.Quick = False,
    output: reporting.Output = None,
) -> None:
    """Members per second beside other packages."""
    settings = Settings(repeats, quick, num, few)
    reporting.run_parts("peers", PARTS, problem, settings, output)


if __name__ == "__main__":
    typer.run(main)
