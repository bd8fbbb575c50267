"""How fast the engine is, and beside what.

    python -m benchmarks.engine                          # all parts, an hour or two
    python -m benchmarks.engine --part overhead          # one part
    python -m benchmarks.engine --quick --repeats 1      # tiny sizes: does it still run?

Every part checks first that whatever it compares gives the same answers, and then times
them in turn. README.md beside this file says what each part means.
"""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import typer
from jaxtyping import Array, Float

import jaxflow as jf
from jaxflow.flows import outputs_at, pull_back
from jaxflow.networks import flatten, members

from . import measuring, reporting
from .measuring import (
    best_loops,
    CompileClock,
    fresh_process,
    in_turn,
    Loops,
    number,
    spread,
    Timings,
)
from .reporting import Report
from .workloads import (
    check_stopped_by,
    Endings,
    FirstBelow,
    levels_with_stragglers,
    num_drawn,
    quick_rows,
    quick_starts,
    straggler_rows,
    vmapped_diffeqsolve,
    Workload,
    workload_e,
)


@dataclasses.dataclass(frozen=True)
class Settings(measuring.Settings):
    """And how often what takes minutes is run."""

    baseline_repeats: int = 5  # of plain diffrax with stragglers
    memory_repeats: int = 5  # of the runs of which the peak memory is taken


# 1. Stragglers


def stragglers(settings: Settings) -> Report:
    """How many members per second, beside one `vmap(diffeqsolve)`?"""
    num, every = settings.size((512, 100), (16, 8))
    workload = workload_e(max_steps=settings.size(3000, 400))
    same = np.full(num, workload.level)
    cases = {
        "no straggler": (same, settings.repeats),
        f"one straggler in {every}": (
            levels_with_stragglers(workload, num, every),
            settings.baseline_repeats,
        ),
    }
    with CompileClock() as compiling:
        starts = quick_starts(workload, num)
        ours = workload.run(starts, stop=FirstBelow(same))
    baseline = vmapped_diffeqsolve(workload)
    theirs, their_compilation = _compiled(baseline, starts, jnp.asarray(same))

    # Lanes of a vmap know nothing of each other, so that the quick members and, apart
    # from them, the stragglers are as good a check as both together, and minutes shorter.
    _check_same_endings(ours, theirs(starts, jnp.asarray(same)))
    slow = members(starts, straggler_rows(num, every))
    never = jnp.zeros(len(slow.weights[0]))
    _check_same_endings(
        workload.run(slow, stop=FirstBelow(0.0)), jax.jit(baseline)(slow, never)
    )

    table = [
        ("compilation, jaxflow", number(compiling.seconds()), "", ""),
        ("compilation, vmap(diffeqsolve)", number(their_compilation), "", ""),
    ]
    figures = {
        "members": num,
        "compilation s": {
            "jaxflow": compiling.seconds(),
            "vmap(diffeqsolve)": their_compilation,
        },
    }
    for name, (levels, baseline_repeats) in cases.items():
        run_ours = lambda levels=levels: workload.run(starts, stop=FirstBelow(levels))
        run_theirs = lambda levels=levels: theirs(starts, jnp.asarray(levels))
        with CompileClock() as warming:
            run_ours()  # stragglers end in narrow pools, which are to be compiled too
        with CompileClock() as timing:
            times = in_turn(
                {"jaxflow": run_ours, "vmap(diffeqsolve)": run_theirs},
                {"jaxflow": settings.repeats, "vmap(diffeqsolve)": baseline_repeats},
            )
        ours = times["jaxflow"].answer
        _check_same_endings(ours, times["vmap(diffeqsolve)"].answer)
        ratio = times["vmap(diffeqsolve)"].median / times["jaxflow"].median
        rates = {key: num / measured.median for key, measured in times.items()}
        table += [
            (
                f"{contender}, {name}",
                spread(measured.timings.seconds),
                number(rates[contender]),
                number(ratio) if contender == "jaxflow" else "1",
            )
            for contender, measured in times.items()
        ]
        figures[name] = {
            "stragglers": int(np.sum(levels == 0)),
            "seconds": {key: measured.timings for key, measured in times.items()},
            "members per second": rates,
            "ratio": ratio,
            "median steps of a quick member": np.median(ours.stats.num_steps[levels > 0]),
            "jaxflow's further compilation s": warming.seconds(),
            "programs compiled while timed": timing.num_programs,
        }
    return Report(
        f"{num} members of workload E (bars: 1.3 without stragglers, 15 with)",
        ("", "seconds", "members/s", "times plain diffrax"),
        table,
        figures,
        "Members per second over plain diffrax: "
        + ", ".join(f"{number(figures[name]['ratio'])} with {name}" for name in cases),
    )


def _compiled(function: Callable, *arguments: Any) -> tuple[Callable, float]:
    """A compiled function for arguments like these, and the seconds it took to make."""
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    return compiled, time.perf_counter() - start


def _check_same_endings(ours: jf.Solution, theirs: Endings) -> None:
    """The same members stop, after as much work, at the same time and loss.

    One order of summation or another may round a step across the border between accepted
    and rejected, which no tolerance of a step rules out: hence bounds on all members, and
    near equality of most. The loss at the end is that of the step which met the level, and
    falls by a good part of itself within that step.
    """
    np.testing.assert_array_equal(ours.status != "max_steps", np.asarray(theirs.stopped))
    steps = np.asarray(theirs.num_steps)
    np.testing.assert_allclose(ours.stats.num_steps.sum(), steps.sum(), rtol=0.01)
    _check_close("rescaled times", ours.rescaled_time, theirs.rescaled_time, 1e-3, 1e-6)
    _check_close("losses", ours.loss, theirs.loss, 0.3, 1e-4)


def _check_close(what: str, ours: Any, theirs: Any, worst: float, typical: float) -> None:
    """Relative differences: the largest, and their median."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    difference = np.abs(ours - theirs) / np.abs(theirs)
    if not (difference.max() <= worst and np.median(difference) <= typical):
        raise AssertionError(
            f"{what} differ by {difference.max():.1e} at most (allowed: {worst:g}) and "
            f"{np.median(difference):.1e} in the median (allowed: {typical:g})"
        )


# 2. Overhead

_WIDTHS = (8, 16, 32, 64, 128, 256)


def overhead(settings: Settings) -> Report:
    """How much longer does a run take than the gradients in it?"""
    table, figures, over = [], {}, []
    for dtype in ("float64", "float32"):
        workload = workload_e(dtype=jnp.dtype(dtype))
        starts = quick_starts(workload, settings.size(512, 16))
        solution = workload.run(starts)
        check_stopped_by(solution, "LossBelow")
        num_vjps = int(solution.stats.num_vjps.sum())
        device = jax.devices()[0]
        bare = {
            f"threads: {threads}": best_loops(
                lambda width, workload=workload, devices=[device] * threads: _loops(
                    workload, width, devices
                ),
                _WIDTHS,
                settings,
            )
            for threads in dict.fromkeys((1, measuring.num_cores()))
        }
        times = in_turn(
            {
                "run": lambda starts=starts, workload=workload: workload.run(starts),
                **{name: loops.run for name, (loops, _) in bare.items()},
            },
            settings.repeats,
        )
        run = times["run"]
        table.append((f"{dtype}: jaxflow, {num_vjps:,} VJPs", str(run.timings), "", ""))
        figures[dtype] = {"run s": run.timings, "vjps": num_vjps, "bare loop": {}}
        for name, (loops, scanned) in bare.items():
            per_vjp = [
                seconds / loops.num_evaluations for seconds in times[name].timings.seconds
            ]
            ratio = run.median / (num_vjps * statistics.median(per_vjp))
            table.append(
                (
                    f"{dtype}: bare loop, {name}",
                    "",
                    f"{spread([1e6 * s for s in per_vjp], 'µs')}, width {loops.width}",
                    number(ratio),
                )
            )
            if name == "threads: 1":
                over.append(f"{number(ratio)} in {dtype}")
            figures[dtype]["bare loop"][name] = {
                "s for a vjp": Timings(tuple(per_vjp)),
                "best width": loops.width,
                "s for a vjp by width": scanned,
                "run / (vjps x s for a vjp)": ratio,
            }
    return Report(
        "A run without stragglers beside its VJPs alone (bar: 1.5 in float64)",
        ("", "seconds", "one VJP", "run / VJPs"),
        table,
        figures,
        f"A run takes as long as its VJPs alone, in one thread, times {', '.join(over)}",
    )


def _loops(workload: Workload, width: int, devices: Sequence[jax.Device]) -> Loops:
    """Bare loops of VJPs, of `width` members each."""
    network = workload.network

    def gradient(task, vector):
        return pull_back(network, task, vector, task.residuals)

    vectors = jax.vmap(flatten)(workload.starts(width))
    _check_gradient(workload, vectors)
    return Loops(gradient, workload.task, vectors, devices)


def _check_gradient(workload: Workload, vectors: Float[Array, "width parameters"]) -> None:
    """What the loops compute is the gradient that JAX finds for the loss."""
    task, network = workload.task, workload.network
    loss = lambda vector: task.total_loss(outputs_at(network, task, vector))
    ours = pull_back(network, task, vectors[0], task.residuals)
    expected = -jax.grad(loss)(vectors[0])
    tolerance = 100 * float(jnp.finfo(ours.dtype).eps)
    largest = float(jnp.max(jnp.abs(expected)))
    np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=tolerance * largest)


# 3. Linear in members


def linear(settings: Settings) -> Report:
    """Does a member cost the same, in time and memory, however many there are?"""
    time_report, memory_report = _time_per_member(settings), _peak_memory(settings)
    return Report(
        "Linear in members (bars: time 1.1, memory 1.2 and under 2 GiB)",
        time_report.columns,
        time_report.rows + memory_report.rows,
        {**time_report.figures, **memory_report.figures},
        f"{time_report.summary}; {memory_report.summary}",
    )


def _time_per_member(settings: Settings) -> Report:
    few, many = settings.size((1_000, 10_000), (8, 24))
    # Members that never stop would be as many by chance in one run as in the other.
    workload = workload_e(max_steps=settings.size(300, 150))
    all_starts = workload.starts(many)
    starts = {few: members(all_starts, np.arange(few)), many: all_starts}
    small, large = (workload.run(starts[num]) for num in (few, many))
    np.testing.assert_array_equal(small.status, large.status[:few])
    for name in ("loss", "rescaled_time"):
        _check_close(name, getattr(small, name), getattr(large, name)[:few], 0.05, 1e-4)

    times = in_turn(
        {num: lambda num=num: workload.run(starts[num]) for num in (few, many)},
        settings.repeats,
    )
    vjps = {num: int(times[num].answer.stats.num_vjps.sum()) for num in times}
    ratio = (times[many].median / many) / (times[few].median / few)
    ratio_of_vjps = (times[many].median / vjps[many]) / (times[few].median / vjps[few])
    table = [
        (
            f"time, {num:,} members",
            f"{spread([1e3 * s / num for s in times[num].timings.seconds], 'ms')} a member",
            number(ratio) if num == many else "1",
        )
        for num in times
    ]
    figures = {
        "seconds": {num: measured.timings for num, measured in times.items()},
        "vjps": vjps,
        "ratio of times per member": ratio,
        "ratio of times per vjp": ratio_of_vjps,
    }
    summary = f"time per member, {many:,} over {few:,}: {number(ratio)}"
    return Report("", ("", "measured", "ratio"), table, figures, summary)


def _peak_memory(settings: Settings) -> Report:
    few, many = settings.size((10_000, 100_000), (32, 96))
    peaks: dict[int, list[int]] = {few: [], many: []}
    seconds: dict[int, list[float]] = {few: [], many: []}
    for _ in range(settings.memory_repeats):
        for num in (few, many):
            with fresh_process() as call:
                peak, elapsed = call(_stored_run, num)
            peaks[num].append(peak)
            seconds[num].append(elapsed)
    ratio = statistics.median(peaks[many]) / statistics.median(peaks[few])
    table = [
        (
            f"peak memory, {num:,} members to a store",
            spread([peak / 2**20 for peak in peaks[num]], "MiB"),
            number(ratio) if num == many else "1",
        )
        for num in peaks
    ]
    figures = {
        "peak memory bytes": peaks,
        "seconds to a store": {num: Timings(tuple(s)) for num, s in seconds.items()},
        "ratio of peak memory": ratio,
    }
    summary = f"peak memory, {many:,} over {few:,}: {number(ratio)}"
    return Report("", ("", "measured", "ratio"), table, figures, summary)


def _stored_run(num: int) -> tuple[int, float]:
    """Peak memory and time of a short run that writes to a store; in a fresh process."""
    workload = workload_e(max_steps=20)
    stop = jf.RescaledTime(0.1)  # reached within a few steps
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        solution = workload.run(
            jf.Initializations(workload.network, num, key=jax.random.key(2)),
            stop=stop,
            store=f"{folder}/run.zarr",
        )
        elapsed = time.perf_counter() - start
        peak = measuring.peak_memory()  # before the checks, which read all members
        np.testing.assert_array_equal(solution.dataset["init"], np.arange(num))
        check_stopped_by(solution, "RescaledTime")
        np.testing.assert_allclose(solution.rescaled_time, stop.value, rtol=1e-6)
        few = 4
        expected = workload.run(workload.starts(few), stop=stop)
        np.testing.assert_allclose(solution.log_norm[:few], expected.log_norm, rtol=1e-9)
    return peak, elapsed


# 4. Compilation


def compilation(settings: Settings) -> Report:
    """How long until the first answer of a fresh process, and what is that spent on?"""
    num = settings.size(64, 4)
    workload = workload_e()
    rows = quick_rows(workload, num)
    expected = workload.run(members(workload.starts(num_drawn(num)), rows))
    found: dict[str, list[dict[str, Any]]] = {
        "nothing remembered": [],
        "widths remembered": [],
    }
    for _ in range(settings.repeats):
        with tempfile.TemporaryDirectory() as cache:
            for calls in found.values():
                with fresh_process(cache=cache) as call:
                    calls.append(call(_first_call, num, rows))
                _check_close("losses", calls[-1].pop("losses"), expected.loss, 0.05, 1e-4)
    table = [
        (label, *(spread([one[what] for one in calls], unit) for calls in found.values()))
        for label, what, unit in (
            ("first call", "first call s", "s"),
            ("making programs, all together", "making programs s", "s"),
            ("  of that XLA", "compile s", "s"),
            ("  tracing", "trace s", "s"),
            ("  lowering", "lower s", "s"),
            ("share of the first call", "share %", "%"),
            ("programs", "programs", ""),
            ("second call", "second call s", "s"),
            ("programs made by it", "programs of the second call", ""),
        )
    ]
    figures = {"members": num, **found}
    return Report(
        f"The first call of a process, {num} members (bar: 10 s for making programs)",
        ("", *found),
        table,
        figures,
        f"Making programs takes {table[1][1]} in a fresh process",
    )


def _first_call(num: int, rows: np.ndarray) -> dict[str, Any]:
    """What the first call spends its time on; in a fresh process."""
    workload = workload_e()
    starts = members(workload.starts(num_drawn(num)), rows)
    with CompileClock() as clock:
        begin = time.perf_counter()
        first = workload.run(starts)
        elapsed = time.perf_counter() - begin
    with CompileClock() as warm:
        begin = time.perf_counter()
        second = workload.run(starts)
        again = time.perf_counter() - begin
    np.testing.assert_array_equal(first.loss, second.loss)
    return {
        "first call s": elapsed,
        "making programs s": clock.seconds(),
        **{f"{kind} s": clock.seconds(kind) for kind in ("compile", "trace", "lower")},
        "share %": 100 * clock.seconds() / elapsed,
        "programs": clock.num_programs,
        "costliest programs s": clock.costliest,
        "second call s": again,
        "programs of the second call": warm.num_programs,
        "losses": first.loss,
    }


# 5. Workers


def workers(settings: Settings) -> Report:
    """Are two threads on one device as good as two devices with a thread each?"""
    cores = max(2, measuring.num_cores())
    ways = {
        "one device, one thread": (1, 1),
        f"one device, {cores} threads": (1, cores),
        f"{cores} devices, a thread each": (cores, cores),
    }
    table, figures = [], {}
    with ExitStack() as stack:
        # A process has as many devices as it was started with.
        calls = {
            devices: stack.enter_context(fresh_process(num_devices=devices))
            for devices in (1, cores)
        }
        for width in settings.size((8, 16, 64, 256), (8,)):
            lasting = settings.size(1.0, 0.02)
            work = calls[1](_prepare_loops, width, 1, None, lasting)
            vectors = []
            for devices, threads in ways.values():
                calls[devices](_prepare_loops, width, threads, work.iterations, lasting)
                vectors.append(calls[devices](_run_loops, width, threads).vectors)
            for other in vectors[1:]:
                np.testing.assert_allclose(other, vectors[0], rtol=1e-12, atol=1e-15)

            found: dict[str, list[_LoopsRun]] = {name: [] for name in ways}
            for _ in range(settings.repeats):
                for name, (devices, threads) in ways.items():
                    found[name].append(calls[devices](_run_loops, width, threads))
            alone = statistics.median(
                run.vjps_per_second for run in found[next(iter(ways))]
            )
            for name, runs in found.items():
                rates = [run.vjps_per_second for run in runs]
                busy = statistics.median(run.cores for run in runs)
                table.append(
                    (
                        f"width {width}: {name}",
                        spread([rate / 1e3 for rate in rates]),
                        number(statistics.median(rates) / alone),
                        number(busy),
                    )
                )
                figures[f"width {width}: {name}"] = {
                    "vjps per second": rates,
                    "times one thread": statistics.median(rates) / alone,
                    "cores busy": busy,
                }
    return Report(
        "Bare loops of VJPs, compiled ahead of time (no bar)",
        ("", "thousand VJPs/s", "times one thread", "cores busy"),
        table,
        figures,
        f"At {table[-1][0]} {table[-1][2]} times what one thread makes",
    )


class _LoopsRun(NamedTuple):
    vjps_per_second: float
    cores: float  # seconds of processor time in a second
    vectors: np.ndarray


class _Work(NamedTuple):
    iterations: int


_prepared: dict[tuple[int, int], Loops] = {}  # of the fresh process that runs them


def _prepare_loops(
    width: int, threads: int, iterations: int | None, lasting: float
) -> _Work:
    """Compile; with no number of iterations given, choose one."""
    devices = jax.devices("cpu")
    loops = _loops(workload_e(), width, [devices[i % len(devices)] for i in range(threads)])
    if iterations is None:
        loops.last_for(lasting)
    else:
        loops.iterations = iterations
    loops.run()
    _prepared[width, threads] = loops
    return _Work(loops.iterations)


def _run_loops(width: int, threads: int) -> _LoopsRun:
    loops = _prepared[width, threads]
    wall, processor = time.perf_counter(), time.process_time()
    vectors = loops.run()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return _LoopsRun(
        loops.num_evaluations / wall, processor / wall, np.asarray(vectors[-1])
    )


# The command


PARTS = {
    "stragglers": stragglers,
    "overhead": overhead,
    "linear": linear,
    "compile": compilation,
    "workers": workers,
}
Part = reporting.choice(PARTS)
SHORT = Settings(1, True, baseline_repeats=1, memory_repeats=1)


def main(
    part: Annotated[
        list[Part] | None,
        typer.Option(help="Which part; may be given again. Default: all."),
    ] = None,
    repeats: reporting.Repeats = 5,
    baseline_repeats: Annotated[
        int | None,
        typer.Option(
            min=1, help="The same for plain diffrax with stragglers: minutes each."
        ),
    ] = None,
    memory_repeats: Annotated[
        int | None,
        typer.Option(min=1, help="The same for peak memory: minutes each."),
    ] = None,
    quick: reporting.Quick = False,
    output: reporting.Output = None,
) -> None:
    """How fast the engine is, and beside what."""
    fewer = 1 if quick else repeats
    settings = Settings(
        repeats,
        quick,
        baseline_repeats=baseline_repeats or fewer,
        memory_repeats=memory_repeats or fewer,
    )
    reporting.run_parts("engine", PARTS, part, settings, output)


if __name__ == "__main__":
    typer.run(main)
