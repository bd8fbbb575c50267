"""How time per member, share of the machine's peak, and memory scale.

    python -m benchmarks.scaling                         # all parts
    python -m benchmarks.scaling --part width            # one part
    python -m benchmarks.scaling --quick --repeats 1     # tiny sizes: does it still run?

With members, width, samples and depth: twenty attempted steps of workload E, without a
condition to stop. What is timed is compared with plain diffrax first. README.md beside
this file says what each part means.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Annotated, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import typer
from jaxtyping import Array, Float

import jaxflow as jf
from jaxflow.engine import devices_of, LANE_UNIT
from jaxflow.flows import pull_back
from jaxflow.networks import flatten, members

from . import measuring, reporting
from .measuring import (
    best_loops,
    fresh_process,
    in_turn,
    Loops,
    number,
    Settings,
    spread,
)
from .reporting import Report
from .workloads import (
    check_stopped_by,
    vmapped_diffeqsolve,
    Workload,
    workload_e,
)

_STEPS = 20
_FEW = 4  # members that are compared with plain diffrax


# 1. Members


def ensembles(settings: Settings) -> Report:
    """What do time and memory per member come to, from one member to very many?"""
    counts = settings.size((1, 10, 100, 1_000, 10_000, 100_000), (1, 10))
    workload = _small_workload()
    expected = _check_close_to_plain_diffrax(workload, workload.starts(_FEW))
    with ExitStack() as stack:
        calls = {num: stack.enter_context(fresh_process()) for num in counts}
        first = {num: calls[num](_first_run, num) for num in counts}  # compiles, too
        for run in first.values():
            few = len(run.loss)
            np.testing.assert_allclose(run.loss, expected.loss[:few], rtol=1e-6)
            np.testing.assert_allclose(run.log_norm, expected.log_norm[:few], rtol=1e-6)
        times = in_turn(
            {num: lambda num=num: calls[num](_run_again, num) for num in counts},
            # The largest take a minute each.
            {
                num: min(settings.repeats, 2) if num > 1_000 else settings.repeats
                for num in counts
            },
        )
    least = first[counts[0]].peak
    table, figures = [], {}
    for num, measured in times.items():
        peak = first[num].peak
        # Of few members it says nothing: programs take more.
        further = (peak - least) / num if num >= 1_000 else None
        table.append(
            (
                f"{num:,}",
                spread([1e3 * s / num for s in measured.timings.seconds]),
                number(num / measured.median),
                number(peak / 2**20),
                "" if further is None else number(further / 2**10),
            )
        )
        figures[num] = {
            "seconds": measured.timings,
            "seconds per member": measured.median / num,
            "peak memory bytes": peak,
            "bytes for a further member": further,
        }
    summary = "Milliseconds a member: " + ", ".join(
        f"{number(1e3 * figures[num]['seconds per member'])} of {num:,}" for num in counts
    )
    return Report(
        f"{_STEPS} steps at width 8, n = 50, results in memory (no bar)",
        ("members", "ms a member", "members/s", "peak MiB", "KiB a further member"),
        table,
        figures,
        summary,
    )


class _FirstRun(NamedTuple):
    peak: int  # memory in bytes, compilation included
    loss: np.ndarray  # of the first few members
    log_norm: np.ndarray


def _small_workload() -> Workload:
    return workload_e(width=8, max_steps=_STEPS)


def _run_members(num: int) -> jf.Solution:
    workload = _small_workload()
    # Drawn when they are needed: the same as `workload.starts(num)`.
    starts = jf.Initializations(workload.network, num, key=jax.random.key(2))
    return workload.run(starts, stop=())


def _first_run(num: int) -> _FirstRun:
    """In a fresh process."""
    solution = _run_members(num)
    peak = measuring.peak_memory()
    check_stopped_by(solution, "max_steps")
    return _FirstRun(peak, solution.loss[:_FEW], solution.log_norm[:_FEW])


def _run_again(num: int) -> None:
    """In the same process, to be timed."""
    _run_members(num)


# 2. Width, samples, depth


def width(settings: Settings) -> Report:
    """What share of the peak is reached, from narrow networks to wide ones?"""
    widths = settings.size((8, 20, 50, 100, 200, 400), (8,))
    workloads = {f"width {w}": workload_e(width=w, max_steps=_STEPS) for w in widths}
    return _shares(
        workloads,
        f"{_STEPS} steps, n = 50, D = 3 (bar from width 100: 50% of bare products)",
        settings,
    )


def wide(settings: Settings) -> Report:
    """The same for wide networks with many samples.

    Steps read and write vectors of parameters, whatever the samples; these weigh less here.
    """
    widths = settings.size((100, 200, 400), (8,))
    workloads = {
        f"width {w}": workload_e(width=w, num_samples=500, max_steps=_STEPS) for w in widths
    }
    title = f"{_STEPS} steps, n = 500, D = 3 (bar from width 100: 50% of bare products)"
    return _shares(workloads, title, settings)


def samples(settings: Settings) -> Report:
    """What share of the peak is reached, from few samples to many?"""
    numbers = settings.size((10, 100, 1_000, 10_000), (10,))
    workloads = {f"n = {n:,}": workload_e(num_samples=n, max_steps=_STEPS) for n in numbers}
    return _shares(workloads, f"{_STEPS} steps, width 20, D = 3 (no bar)", settings)


def depth(settings: Settings) -> Report:
    """What share of the peak is reached, from two weight matrices to many?

    With an activation of power one, so that the order is the depth and not 2^D - 1.
    """
    depths = settings.size((2, 3, 4, 6, 8), (2,))
    workloads = {f"D = {d}": workload_e(depth=d, power=1, max_steps=_STEPS) for d in depths}
    title = f"{_STEPS} steps, width 20, n = 50, power 1 (no bar)"
    return _shares(workloads, title, settings)


def _shares(workloads: dict[str, Workload], title: str, settings: Settings) -> Report:
    """Of a large matrix product, and of the workload's own products alone."""
    on_cpu = jax.default_backend() == "cpu"
    product, product_flops = _matrix_product(settings.size(2048 if on_cpu else 8192, 128))
    devices = devices_of(jf.Schedule())  # one for every pool of the engine
    lanes = (1, 8, 16, 32, 64) if on_cpu else (256, 1024, 4096)
    table, figures = [], {}
    for name, workload in workloads.items():
        starts = workload.starts(_num_members(workload, settings))
        num = len(starts.weights[0])
        _check_close_to_plain_diffrax(workload, starts)
        _check_products(workload)
        bare, scanned = best_loops(
            lambda width, workload=workload: _product_loops(workload, width, devices),
            lanes,
            settings,
        )
        times = in_turn(
            {
                "flow": lambda starts=starts, workload=workload: workload.run(
                    starts, stop=()
                ),
                "bare products": bare.run,
                "matrix product": product,
            },
            settings.repeats,
        )
        flow, flops = times["flow"], workload.flops_per_vjp
        rate = int(flow.answer.stats.num_vjps.sum()) * flops / flow.median
        bare_rate = bare.num_evaluations * flops / times["bare products"].median
        peak = product_flops / times["matrix product"].median
        table.append(
            (
                name,
                f"{workload.num_parameters:,}",
                str(num),
                number(num / flow.median),
                spread([1e3 * s / num for s in flow.timings.seconds]),
                number(rate / 1e9),
                f"{100 * rate / peak:.0f}%",
                f"{100 * rate / bare_rate:.0f}%",
            )
        )
        figures[name] = {
            "order": workload.order,
            "members": num,
            "parameters": workload.num_parameters,
            "seconds": flow.timings,
            "members per second": num / flow.median,
            "seconds per member": flow.median / num,
            "flop for a vjp": flops,
            "gflop per second": rate / 1e9,
            "peak gflop per second": peak / 1e9,
            "share of peak": rate / peak,
            "bare products": {
                "seconds": times["bare products"].timings,
                "best lanes": bare.width,
                "gflop per second": bare_rate / 1e9,
                "gflop per second by lanes": {
                    width: flops / seconds / 1e9 for width, seconds in scanned.items()
                },
            },
            "share of bare products": rate / bare_rate,
        }
    summary = "Share of bare products: " + ", ".join(
        f"{100 * found['share of bare products']:.0f}% at {name}"
        for name, found in figures.items()
    )
    return Report(
        f"{title}, float64",
        (
            "",
            "parameters",
            "members",
            "members/s",
            "ms a member",
            "GFLOP/s",
            "share of peak",
            "of bare products",
        ),
        table,
        figures,
        summary,
    )


def _num_members(workload: Workload, settings: Settings) -> int:
    """As many as make a second or more of work, and leave no lane of a pool empty."""
    platform = jax.default_backend()
    budget, most = (2e10, 1024) if platform == "cpu" else (2e12, 16_384)
    vjps = 3 + 6 * workload.max_steps
    wanted = min(budget / (vjps * workload.flops_per_vjp), most)
    lanes = len(devices_of(jf.Schedule())) * LANE_UNIT.get(platform, 8)
    return settings.size(lanes * max(1, round(wanted / lanes)), _FEW)


def _matrix_product(size: int) -> tuple[Callable[[], Array], float]:
    """A large matrix product, the most that the machine can do, and its operations."""
    a, b = jax.random.normal(jax.random.key(3), (2, size, size), jnp.float64)
    multiply = jax.jit(jnp.matmul)
    np.testing.assert_allclose(
        multiply(a, b)[:2], np.asarray(a)[:2] @ np.asarray(b), rtol=1e-9, atol=1e-9 * size
    )
    return lambda: multiply(a, b), 2.0 * size**3


def _check_close_to_plain_diffrax(
    workload: Workload, starts: jf.FeedForward
) -> jf.Solution:
    """After the same number of steps; also compiles what is timed."""
    few = min(_FEW, len(starts.weights[0]))
    solution = workload.run(starts, stop=())
    check_stopped_by(solution, "max_steps")
    never = jnp.zeros(few)
    theirs = jax.jit(vmapped_diffeqsolve(workload))(members(starts, np.arange(few)), never)
    np.testing.assert_array_equal(solution.stats.num_steps[:few], theirs.num_steps)
    np.testing.assert_allclose(
        solution.rescaled_time[:few], theirs.rescaled_time, rtol=1e-6
    )
    np.testing.assert_allclose(solution.loss[:few], theirs.loss, rtol=1e-6)
    return solution


# 3. Bare products

Weights = tuple[Float[Array, "out in"], ...]


def _products(inputs: Float[Array, "n in"], weights: Weights) -> Weights:
    """The matrix products of a VJP and nothing else: no activation, no residuals.

    Samples are columns: with samples as rows XLA makes slower programs of them.
    """
    entering, h = [], inputs.T
    for weight in weights:
        entering.append(h)
        h = weight @ h
    pulled, gradients = h, []
    for layer in reversed(range(len(weights))):
        gradients.append(pulled @ entering[layer].T)
        if layer > 0:  # nobody asks for the gradient in the inputs
            pulled = weights[layer].T @ pulled
    return tuple(reversed(gradients))


def _product_loops(workload: Workload, width: int, devices: Sequence[jax.Device]) -> Loops:
    """These products in loops side by side, as many as the engine has workers."""
    weights = workload.starts(width).weights
    return Loops(_products, workload.task.inputs, weights, devices)


def _check_products(workload: Workload) -> None:
    """They are those of the engine's VJP: its result and operations for `σ(x) = x`."""
    linear = eqx.tree_at(
        lambda network: network.activation, workload.network, jf.LeakyReLU(1.0)
    )
    task = workload.task
    vjp = jax.jit(lambda w: pull_back(linear, task, w, lambda outputs: outputs))
    products = jax.jit(_products)
    theirs = vjp(flatten(linear))
    ours = jnp.concatenate([g.ravel() for g in products(task.inputs, linear.weights)])
    largest = float(jnp.max(jnp.abs(theirs)))
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12 * largest)
    counted = {
        "bare products": products.lower(task.inputs, linear.weights),
        "a VJP": vjp.lower(flatten(linear)),
    }
    for what, lowered in counted.items():
        found = lowered.cost_analysis()["flops"]
        if found != workload.flops_per_vjp:
            raise AssertionError(
                f"{what} takes {found:,.0f} operations and not {workload.flops_per_vjp:,}"
            )


# The command


PARTS = {
    "members": ensembles,
    "width": width,
    "wide": wide,
    "samples": samples,
    "depth": depth,
}
Part = reporting.choice(PARTS)
SHORT = Settings(repeats=1, quick=True)


def main(
    part: Annotated[
        list[Part] | None,
        typer.Option(help="Which part; may be given again. Default: all."),
    ] = None,
    repeats: reporting.Repeats = 5,
    quick: reporting.Quick = False,
    output: reporting.Output = None,
) -> None:
    """How time per member, share of the machine's peak, and memory scale."""
    reporting.run_parts("scaling", PARTS, part, Settings(repeats, quick), output)


if __name__ == "__main__":
    typer.run(main)
