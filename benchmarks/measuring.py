"""How the benchmarks measure: in turn, medians with their spread, fresh processes."""

import contextlib
import dataclasses
import importlib.util
import multiprocessing
import os
import pathlib
import resource
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import jax

Choice = TypeVar("Choice")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How often each thing is timed, and at what sizes."""

    repeats: int = 5
    quick: bool = False

    def size(self, full: Choice, quick: Choice) -> Choice:
        return quick if self.quick else full


class Timings(NamedTuple):
    """Wall times of repeats of the same thing."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        return spread(self.seconds, "s")


class Measured(NamedTuple):
    """How long something took, and what it gave the last time."""

    timings: Timings
    answer: Any

    @property
    def median(self) -> float:
        return self.timings.median


def in_turn(
    contenders: Mapping[str, Callable[[], Any]], repeats: int | Mapping[str, int]
) -> dict[str, Measured]:
    """Time contenders as A, B, A, B, …, so that a slow minute of the machine hits all.

    Arguments:
        repeats: of all or by name. Whoever has fewer drops out of the last rounds.
    """
    wanted = {
        name: repeats if isinstance(repeats, int) else repeats[name] for name in contenders
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    answers: dict[str, Any] = {}
    for turn in range(max(wanted.values())):
        for name, run in contenders.items():
            if turn < wanted[name]:
                start = time.perf_counter()
                answers[name] = jax.block_until_ready(run())
                seconds[name].append(time.perf_counter() - start)
    return {
        name: Measured(Timings(tuple(seconds[name])), answers[name]) for name in contenders
    }


def number(value: float) -> str:
    """Three digits that count, without an exponent where one can do without."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(
    values: Sequence[float], unit: str = "", show: Callable[[float], str] = number
) -> str:
    """The median, and between which values it lies."""
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{show(middle)} {unit}".strip() + f" ({show(least)}..{show(most)})"


class Loops:
    """Bare loops `v <- v + 1e-6 g(v)` side by side: `g` and nothing else.

    One thread of Python drives each loop; threads release the lock while programs run.

    Arguments:
        change: `g(data, v)` of one lane; vmapped over lanes.
        data: what all lanes share. An argument of the programs, as in the engine: a
            constant might be folded.
        lanes: the first `v`, with a leading axis.
        devices: one for each loop.
    """

    def __init__(
        self,
        change: Callable[[Any, Any], Any],
        data: Any,
        lanes: Any,
        devices: Sequence[jax.Device],
    ):
        def loop(data, lanes, iterations):
            def step(_, lanes):
                changes = jax.vmap(change, (None, 0))(data, lanes)
                return jax.tree_util.tree_map(lambda v, g: v + 1e-6 * g, lanes, changes)

            return jax.lax.fori_loop(0, iterations, step, lanes)

        self.width = len(jax.tree_util.tree_leaves(lanes)[0])
        self.iterations = 1
        self._calls = []
        for device in devices:
            inputs = jax.device_put((data, lanes), device)
            compiled = jax.jit(loop).lower(*inputs, 1).compile()
            self._calls.append(lambda n, f=compiled, x=inputs: f(*x, n))
        self._threads = ThreadPoolExecutor(len(devices))

    @property
    def num_evaluations(self) -> int:
        """Of `g`, in all loops together."""
        return len(self._calls) * self.width * self.iterations

    def run(self) -> list[Any]:
        """All loops to their end; every loop gives the same."""
        wait = lambda call: jax.block_until_ready(call(self.iterations))
        return list(self._threads.map(wait, self._calls))

    def seconds(self) -> float:
        start = time.perf_counter()
        self.run()
        return time.perf_counter() - start

    def last_for(self, seconds: float) -> "Loops":
        """From now on, every run takes about so long."""
        self.iterations = 1
        self.run()
        while (once := self.seconds()) < 0.2 * seconds:
            self.iterations *= 4
        self.iterations = max(1, round(self.iterations * seconds / once))
        return self


def best_loops(
    make: Callable[[int], Loops], widths: Sequence[int], settings: Settings
) -> tuple[Loops, dict[int, float]]:
    """The width at which an evaluation takes least, and what it takes at every width."""
    lasting = settings.size(0.4, 0.01)
    candidates = [
        make(width).last_for(lasting) for width in settings.size(widths, widths[:2])
    ]
    times = in_turn(
        {loops.width: loops.run for loops in candidates}, min(3, settings.repeats)
    )
    scanned = {
        loops.width: times[loops.width].median / loops.num_evaluations
        for loops in candidates
    }
    return min(candidates, key=lambda loops: scanned[loops.width]), scanned


class CompileClock:
    """What JAX spends on making programs inside a `with` block.

    Listens to JAX's own monitoring. Tracing one function traces those it calls, so that
    spans lie inside each other: what counts is the time that they cover together.
    """

    _KINDS = {
        "/jax/core/compile/jaxpr_trace_duration": "trace",
        "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower",
        "/jax/core/compile/backend_compile_duration": "compile",
    }

    def __init__(self) -> None:
        self._spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._by_program: dict[str, float] = defaultdict(float)

    def __enter__(self) -> "CompileClock":
        jax.monitoring.register_event_time_span_listener(self._listen)
        return self

    def __exit__(self, *exception: object) -> None:
        jax.monitoring.unregister_event_time_span_listener(self._listen)

    def _listen(self, event: str, start: float, end: float, **labels: Any) -> None:
        kind = self._KINDS.get(event)
        if kind is None:
            return
        self._spans[kind].append((start, end))
        if kind == "compile":
            self._by_program[str(labels.get("fun_name", "?"))] += end - start

    def seconds(self, *kinds: str) -> float:
        """Covered by `"trace"`, `"lower"` or `"compile"`, or by any of them."""
        kinds = kinds or tuple(self._spans)
        covered, last = 0.0, float("-inf")
        for start, end in sorted(span for kind in kinds for span in self._spans[kind]):
            covered += max(0.0, end - max(start, last))
            last = max(last, end)
        return covered

    @property
    def num_programs(self) -> int:
        return len(self._spans["compile"])

    @property
    def costliest(self) -> dict[str, float]:
        """The five programs that took the backend longest, in seconds."""
        return dict(sorted(self._by_program.items(), key=lambda item: -item[1])[:5])


def peak_memory() -> int:
    """The largest resident memory of this process so far, in bytes."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/self/status").read_text().splitlines():
            # Not `ru_maxrss`, where there is a choice: on Linux a new process inherits the
            # peak of the one that started it.
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextlib.contextmanager
def fresh_process(
    *, num_devices: int = 1, cache: str | None = None
) -> Iterator[Callable[..., Any]]:
    """A process that has not used JAX yet; gives a way to call functions in it.

    Arguments:
        num_devices: how many CPU devices it sees.
        cache: a folder in place of the user's cache, in which jaxflow remembers the widths
            that it has measured.
    """
    spawn = multiprocessing.get_context("spawn")  # a fork would inherit JAX as it is
    with ProcessPoolExecutor(
        1, mp_context=spawn, initializer=_set_up_process, initargs=(num_devices, cache)
    ) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


def _set_up_process(num_devices: int, cache: str | None) -> None:
    set_up()
    jax.config.update("jax_num_cpu_devices", num_devices)
    # A first call has to compile, whatever an earlier process left on the disk.
    jax.config.update("jax_enable_compilation_cache", False)
    if cache is not None:
        os.environ["XDG_CACHE_HOME"] = cache


def set_up() -> None:
    """Double precision, as in everything that the benchmarks claim unless stated."""
    jax.config.update("jax_enable_x64", True)


def is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load() -> float:
    """Processes that wanted a core in the last minute; others disturb what is measured."""
    return os.getloadavg()[0]
