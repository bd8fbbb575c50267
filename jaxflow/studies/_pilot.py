"""What a study is, and what it will take, before it is run."""

import resource
import sys
import time
import warnings
from collections.abc import Iterator

import equinox as eqx
import jax
import numpy as np

from .._trained import parameters_of
from ..errors import NotHomogeneousError, RunWarning
from ..networks import order
from ..runs import run
from ._running import prepare, Prepared
from ._study import Study
from ._sweep import label_of

_MEMBERS = 8
"""Of a pilot: what a pool on a CPU has room for in any case."""
_RUNS = 3
"""Of a study with many runs so many are tried. Chosen."""


def description(study: Study) -> Iterator[str]:
    """Lines that say what a study asks for.

    Raises:
        StudyError: for parts that do not fit.
    """
    prepared = study.prepared()
    if title := study.tables.get("title"):
        yield str(title)
    for axis in study.axes:
        for key, values in zip(axis.keys, axis.values):
            name = ".".join(map(str, key))
            yield f"  {name}: {', '.join(str(label_of(value)) for value in values)}"
    runs = len(prepared)
    members = sum(each.num * len(each.group.settings) for each in prepared)
    yield (
        f"  {_many(len(study.settings), 'setting')}, {_many(members, 'member')}, "
        f"{_many(runs, 'run')} of the engine"
    )
    networks = dict.fromkeys(_network_in_words(each) for each in prepared)
    yield from (f"  {each}" for each in networks)
    tasks = dict.fromkeys(_task_in_words(each) for each in prepared)
    yield from (f"  {each}" for each in tasks)


def estimate(study: Study) -> Iterator[str]:
    """Lines that say how long a study may take, from a few members of some of its runs.

    Raises:
        StudyError: for parts that do not fit.
    """
    with study.precision():
        groups = study.groups
        some = [groups[k] for k in _spread(len(groups), _RUNS)]
        prepared = [prepare(group, study.workshop(group)) for group in some]
        if prepared[0].simulation is None:
            yield "  how long an analysis takes is not known before"
            return
        tried = [_tried(each) for each in prepared]
    members = len(study.settings) * float(np.mean([p.num for p in prepared]))
    compiling, seconds, size = (float(np.mean(each)) for each in zip(*tried))
    total = compiling * len(groups) + seconds * members
    yield (
        f"  about {_duration(total)}: {_duration(compiling)} to compile a run, "
        f"{seconds * 1e3:.3g} ms for each member"
    )
    results = size * members
    yield f"  about {_size(_peak() + results)} of memory, {_size(results)} of it results"
    yield f"  from {_many(_MEMBERS, 'member')} of {_many(len(tried), 'run')}, twice"


def _peak() -> float:
    """The most memory that this process has had, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) if sys.platform == "darwin" else 1024.0 * peak


def _tried(prepared: Prepared) -> tuple[float, float, float]:
    """Seconds to compile, seconds for each member, and bytes of what it leaves."""
    assert prepared.simulation is not None
    simulation = prepared.simulation
    assert simulation.num is not None
    rows = _spread(simulation.num // _MEMBERS or 1, 2)
    parts = [simulation[row * _MEMBERS :][:_MEMBERS] for row in (rows[0], rows[-1])]
    seconds = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RunWarning)  # the run itself tells
        for part in parts:
            begun = time.perf_counter()
            result = run(part, progress=False)
            seconds.append(time.perf_counter() - begun)
    num = len(result)
    left = result.dataset.nbytes + sum(
        leaf.nbytes for leaf in jax.tree_util.tree_leaves(result.directions)
        if eqx.is_array(leaf)
    )  # fmt: skip
    pace = seconds[1] / num
    return max(0.0, seconds[0] - seconds[1]), pace, left / num


def _spread(num: int, most: int) -> list[int]:
    """Places among so many, from the first to the last."""
    return sorted({round(k) for k in np.linspace(0, num - 1, min(num, most))})


def _network_in_words(prepared: Prepared) -> str:
    count = sum(
        leaf.size for leaf in jax.tree_util.tree_leaves(parameters_of(prepared.network))
    )
    name = type(prepared.network).__name__
    try:
        own = f"of order {order(prepared.network):g}"
    except NotHomogeneousError:
        own = "not homogeneous"
    return f"{name}, {_many(count, 'parameter')}, {own}"


def _task_in_words(prepared: Prepared) -> str:
    shapes = [
        " and ".join(str(leaf.shape[1:]) for leaf in jax.tree_util.tree_leaves(part))
        for part in (prepared.task.inputs, prepared.task.targets)
    ]
    num = _many(prepared.task.num_samples, "sample")
    return f"{num}, inputs {shapes[0]}, targets {shapes[1]}"


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.3g} min" if seconds < 5400 else f"{seconds / 3600:.3g} h"


def _size(count: float) -> str:
    power = 0 if count < 1 else min(4, int(np.log10(count) // 3))
    return f"{count / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"
