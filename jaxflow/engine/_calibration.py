"""The width at which a machine's gradients are cheapest: measured once, then remembered.

On a CPU the lanes' intermediate arrays should stay in its cache, which a few lanes fill;
on an accelerator thousands of lanes keep it busy. Where the optimum lies depends on the
network, the data and the machine, so the vector field itself is timed.
"""

import concurrent.futures
import contextlib
import hashlib
import json
import os
import pathlib
import re
import tempfile
import time
from collections.abc import Callable, Hashable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import _files
from .._compiled import as_here
from .._decompositions import lower
from ._lane import Problem, Start
from ._programs import key_of
from ._schedule import Device

_CANDIDATES = {"cpu": (8, 16, 32, 64, 128)}
"""From `LANE_UNIT` on; a few lanes fill a core's cache. Chosen."""

_CANDIDATES_ON_ACCELERATORS = (256, 1024, 4096, 16384)
"""Chosen; the benchmarks were run on CPUs alone."""

_AS_GOOD = 1.2
"""Of widths whose costs are within this factor the narrowest is taken: stragglers cost less
there, and the slopes that a solver keeps need room in the cache beside what an evaluation
needs. On workload E, 8 lanes instead of 16 took 12% less time in Cartesian coordinates, and
7% more in polar ones."""

_SECONDS, _ROUNDS = 0.02, 5
"""The length of one measurement, and how many there are of each width. Chosen: five rounds
of five widths take half a second."""
_MOST_BYTES = 1000  # of a file with one width
_remembered: dict[Hashable, int] = {}


def best_width(problem: Problem, one: Start, devices: tuple[Device, ...]) -> int:
    """The width that gives most vector field evaluations a second on these devices.

    Arguments:
        problem: what all members share.
        one: a member before its start, for shapes and a point to evaluate at.
        devices: one for each pool, which are timed at the same time.
    """
    key = key_of((problem.flow, one), *devices)
    if key not in _remembered:
        fingerprint = _fingerprint(problem, one, devices)
        known = _read(fingerprint, _candidates(devices))
        _remembered[key] = known or _measure(problem, one, devices)
        _write(fingerprint, _remembered[key])
    return _remembered[key]


def default_width(device: Device) -> int:
    """A width that is rarely bad, for runs too short to measure anything."""
    return 16 if device.platform == "cpu" else 4096


def _candidates(devices: tuple[Device, ...]) -> tuple[int, ...]:
    return _CANDIDATES.get(devices[0].platform, _CANDIDATES_ON_ACCELERATORS)


def _measure(problem: Problem, one: Start, devices) -> int:
    candidates = _candidates(devices)
    timers: dict[int, Callable[[], float]] = {}
    for width in candidates:
        try:
            timers[width] = _timer(problem, one, width, devices)
        except jax.errors.JaxRuntimeError:  # out of memory
            break
    # In turns, and the best of each, so that a short disturbance has no effect.
    rounds = [{width: timer() for width, timer in timers.items()} for _ in range(_ROUNDS)]
    cost = {width: min(costs[width] for costs in rounds) for width in timers}
    if not cost:
        return candidates[0]
    return min(w for w in cost if cost[w] <= _AS_GOOD * min(cost.values()))


def _timer(problem: Problem, one: Start, width: int, devices) -> Callable[[], float]:
    """Measures the seconds of an evaluation of one lane while all pools are busy."""
    flow, structure = eqx.partition(problem.flow, eqx.is_array)

    def evaluate(flow, count, state, args):
        flow = eqx.combine(flow, structure)

        def follow(_, state):
            # A loop in which every evaluation needs the last, and moves nothing.
            velocity = jax.vmap(lambda y, a: flow.vector_field(_zero(y), y, a))(state, args)
            return jax.tree_util.tree_map(lambda y, v: y + 0 * v, state, velocity)

        return jax.lax.fori_loop(0, count, follow, state)

    def stacked(tree):
        return jax.tree_util.tree_map(
            lambda leaf: np.broadcast_to(leaf, (width, *np.shape(leaf))).copy(), tree
        )

    arguments = (flow, np.asarray(1, np.int32), stacked(one.state), stacked(one.args))
    programs = {
        device: lower(evaluate, *jax.device_put(arguments, device)).compile()
        for device in set(devices)
    }
    prepared = [(programs[device], jax.device_put(arguments, device)) for device in devices]

    as_set = as_here()

    def seconds(count: int) -> float:
        def timed(prepared):
            program, (flow, one, *rest) = prepared
            with as_set():
                begun = time.perf_counter()
                jax.block_until_ready(program(flow, count * one, *rest))
                return time.perf_counter() - begun

        with concurrent.futures.ThreadPoolExecutor(len(devices)) as pool:
            return max(pool.map(timed, prepared))

    seconds(1)
    count = max(1, int(_SECONDS / max(seconds(2) / 2, 1e-7)))
    return lambda: seconds(count) / count / width


def _zero(state):
    return jnp.zeros((), jnp.result_type(*jax.tree_util.tree_leaves(state)))


def _fingerprint(problem: Problem, one: Start, devices) -> str:
    """The same for the same computation on the same machine, in any process."""
    field = jax.make_jaxpr(lambda y, a: problem.flow.vector_field(_zero(y), y, a))
    text = re.sub(r"0x[0-9a-f]+", "", str(field(one.state, one.args)))
    kinds = [(device.platform, device.device_kind) for device in devices]
    description = [text, kinds, jax.__version__, os.cpu_count(), _AS_GOOD]
    return hashlib.sha256(json.dumps(description).encode()).hexdigest()[:32]


def _file(key: str) -> pathlib.Path:
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(home) / "jaxflow" / "widths" / f"{key}.json"


def _read(key: str, candidates: tuple[int, ...]) -> int | None:
    try:
        file = _file(key)
        width = json.loads(_files.read(file.parent, file.name, _MOST_BYTES))["width"]
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        return None
    # A file is not believed more than a measurement.
    usable = type(width) is int and candidates[0] <= width <= candidates[-1]
    return width if usable else None


def _write(key: str, width: int) -> None:
    # What cannot be remembered is measured again.
    with contextlib.suppress(OSError, RuntimeError):
        path = _file(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            json.dump({"width": width}, file)
        os.replace(file.name, path)
