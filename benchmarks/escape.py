"""Members per second until each escapes from the origin, beside SciPy and torchdiffeq.

    python -m benchmarks.escape                          # ten minutes
    python -m benchmarks.escape --quick --repeats 1      # tiny sizes: does it still run?

Until an event, and at any size of ensemble; `peers.py` has more packages, on nine tasks and
until fixed times.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.integrate
import typer

import jaxflow as jf
from jaxflow.networks import flatten, members

from . import reporting
from .measuring import in_turn, is_installed, number, Settings, spread
from .reporting import Report
from .workloads import check_stopped_by, few_for_all, quick_starts, Workload, workload_e


class Crossing(NamedTuple):
    """Where another integrator saw the loss fall below the level."""

    clock: float
    weights: np.ndarray  # u = w/δ
    restarts: int = 0


def escape(settings: Settings) -> Report:
    """How many members per second, beside SciPy and torchdiffeq?"""
    num = settings.size(2048, 8)
    workload = workload_e()
    starts = quick_starts(workload, num)
    cartesian = workload.run(starts, coordinates="cartesian")
    check_stopped_by(cartesian, "LossBelow")
    integrators = {"scipy RK45": (scipy_integrator(workload), settings.size(16, 2))}
    if is_installed("torchdiffeq"):
        few = settings.size(4, 1)
        integrators["torchdiffeq dopri5"] = (torch_integrator(workload), few)
    figures: dict[str, Any] = {}
    contenders: dict[str, Callable[[], Any]] = {
        f"jaxflow {coordinates}": lambda coordinates=coordinates: workload.run(
            starts, coordinates=coordinates
        )
        for coordinates in ("cartesian", "polar")
    }
    counts = dict.fromkeys(contenders, num)
    for name, (integrate, few) in integrators.items():
        rows = few_for_all(cartesian.stats.num_steps, few)
        origins = np.asarray(jax.vmap(flatten)(members(starts, rows)))
        horizons = 1.5 * cartesian.rescaled_time[rows]

        def solve(integrate=integrate, origins=origins, horizons=horizons):
            return [integrate(*one) for one in zip(origins, horizons)]

        crossings = solve()  # compiles, too
        errors = _check_crossings(workload, starts, cartesian, rows, crossings)
        figures[name] = {
            "largest differences": errors,
            "restarts": sum(crossing.restarts for crossing in crossings),
            "jaxflow's mean steps, these members": float(
                cartesian.stats.num_steps[rows].mean()
            ),
            "jaxflow's mean steps, all members": float(cartesian.stats.num_steps.mean()),
        }
        contenders[name], counts[name] = solve, few
    workload.run(starts)  # polar, to compile
    times = in_turn(contenders, settings.repeats)

    figures["seconds"] = {name: measured.timings for name, measured in times.items()}
    figures["members"] = counts
    figures["members per second"] = {
        name: counts[name] / measured.median for name, measured in times.items()
    }
    seconds = {
        name: np.array(measured.timings.seconds) / counts[name]
        for name, measured in times.items()
    }
    # One ratio a turn: what disturbs one disturbs all.
    ratios = {
        name: [(own / seconds[f"jaxflow {c}"]).tolist() for c in ("cartesian", "polar")]
        for name, own in seconds.items()
    }
    table = [
        (name, str(counts[name]), spread((1e3 * own).tolist()), *map(spread, ratios[name]))
        for name, own in seconds.items()
    ]
    return Report(
        "Gradient flow to the same event (bars: 30 times SciPy, 200 times torchdiffeq)",
        ("", "members", "ms a member", "jaxflow cartesian is faster by", "polar by"),
        table,
        figures,
        "Members per second of jaxflow over others: "
        + ", ".join(
            f"{name} {number(float(np.median(ratios[name][0])))}"
            for name in list(ratios)[2:]
        ),
    )


def scipy_integrator(workload: Workload) -> Callable[..., Crossing]:
    """`solve_ivp(RK45)` with a jitted gradient, in jaxflow's Cartesian coordinates."""
    flow, log_scale = workload.cartesian_flow, workload.log_scale
    zero = jnp.zeros(())
    gradient = jax.jit(lambda u: flow.vector_field(zero, u, log_scale))
    loss = jax.jit(lambda u: flow.snapshot(zero, u, u, log_scale).loss)

    def velocity(clock, weights):
        return np.asarray(gradient(weights))

    def gap(clock, weights):
        return float(loss(weights)) - workload.level

    gap.terminal = True

    def integrate(weights: np.ndarray, horizon: float) -> Crossing:
        clock, restarts, first_step = 0.0, 0, None
        while True:
            result = scipy.integrate.solve_ivp(
                velocity,
                (0.0, horizon),
                weights,
                method="RK45",
                rtol=workload.rtol,
                atol=workload.atol,
                events=gap,
                first_step=first_step,
            )
            clock, weights = clock + float(result.t[-1]), result.y[:, -1]
            if result.status != -1 or restarts == 10:
                break
            # SciPy gives up on steps of ten units in the last place of a clock that spent
            # long at the origin. The field does not depend on the clock: start it again.
            restarts += 1
            first_step = float(result.t[-1] - result.t[-2])
        if result.status != 1:
            raise AssertionError(f"SciPy did not reach the event: {result.message}")
        return Crossing(clock, weights, restarts)

    return integrate


def torch_integrator(workload: Workload) -> Callable[..., Crossing]:
    """torchdiffeq's `odeint_event` with `dopri5`, the gradient by PyTorch's autograd."""
    import torch
    from torchdiffeq import odeint_event

    from .torch_networks import loss, outputs, torch_parts, velocity

    # As fast here as with more, these matrices being small, and steadier: on a busy machine
    # PyTorch's threads wait for each other, a hundred times as long as they compute.
    torch.set_num_threads(1)
    network, task = workload.network, workload.task
    factor = math.exp(workload.order * float(workload.log_scale))  # H(x; w) = δ^L H(x; u)
    field = velocity(network, task, factor)
    forward, loss_of = outputs(network, task), loss(task)

    def gap(clock, weights):
        return loss_of(factor * forward(torch_parts(network, weights))) - workload.level

    def integrate(weights: np.ndarray, horizon: float) -> Crossing:
        del horizon  # it goes on until the event
        with torch.no_grad():
            clock, states = odeint_event(
                lambda clock, weights: field(weights),
                torch.from_numpy(np.array(weights)),
                torch.zeros((), dtype=torch.float64),
                event_fn=gap,
                method="dopri5",
                rtol=workload.rtol,
                atol=workload.atol,
            )
        return Crossing(float(clock), states[-1].numpy())

    return integrate


def _check_crossings(
    workload: Workload,
    starts: eqx.Module,
    cartesian: jf.Solution,
    rows: np.ndarray,
    crossings: list[Crossing],
) -> dict[str, float]:
    """The others leave the origin when jaxflow does, and by the same way.

    They locate the event on their dense output, and `LossBelow` by steps of its own. So the
    losses may differ by what dense output is off, and torchdiffeq's also by the digits that
    its clock, large by then, has no more for the event. Weights are compared where the
    norms are equal: next to the origin, tiny differences shift the time of the escape.
    """
    clocks, weights = (
        np.array([getattr(one, field) for one in crossings])
        for field in ("clock", "weights")
    )
    norms = workload.scale * np.linalg.norm(weights, axis=1)
    at_norm = workload.run(
        members(starts, rows), coordinates="cartesian", stop=jf.NormAbove(norms)
    )
    check_stopped_by(at_norm, "NormAbove")
    ours = np.asarray(jax.vmap(flatten)(at_norm.networks)) / workload.scale
    flow, log_scale = workload.cartesian_flow, workload.log_scale
    loss = jax.vmap(lambda u: flow.snapshot(jnp.zeros(()), u, u, log_scale).loss)
    level = workload.level
    errors = {
        "time of the crossing": np.abs(cartesian.rescaled_time[rows] / clocks - 1),
        "their loss at the event": np.abs(
            np.asarray(loss(jnp.asarray(weights))) / level - 1
        ),
        "our loss at the event": np.abs(cartesian.loss[rows] / level - 1),
        "weights at equal norm": np.linalg.norm(ours - weights, axis=1)
        / np.linalg.norm(weights, axis=1),
    }
    allowed = dict(zip(errors, (1e-3, 0.05, 0.1, 1e-2)))
    largest = {name: float(error.max()) for name, error in errors.items()}
    for name, error in largest.items():
        if not error <= allowed[name]:
            raise AssertionError(
                f"{name} differs by {error:.1e}, more than {allowed[name]}"
            )
    return largest


PARTS = {"escape": escape}
SHORT = Settings(repeats=1, quick=True)


def main(
    repeats: reporting.Repeats = 5,
    quick: reporting.Quick = False,
    output: reporting.Output = None,
) -> None:
    """Members per second until each escapes, beside SciPy and torchdiffeq."""
    reporting.run_parts("escape", PARTS, None, Settings(repeats, quick), output)


if __name__ == "__main__":
    typer.run(main)
