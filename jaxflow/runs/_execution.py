"""Running a simulation: in memory, or into a store from which a killed run goes on."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypedDict, Unpack as Unpack

import jax
import numpy as np

from .._checks import check_flag, shown
from .._compiled import running
from .._signals import ends_on_signals
from .._telling import one_call, tell
from .._trained import parameters_of
from .._versions import versions
from ..engine import (
    AbstractObserver,
    check_schedule,
    find_passed,
    from_rows,
    in_flight_rows,
    InMemory,
    nobody,
    Outcome,
    PassedError,
    Pool,
    Problem,
    progress_bar,
    run as run_engine,
    Schedule,
    shapes_of_pool,
    with_rows,
)
from ..errors import InputError, StoreError
from ..networks import as_jax
from ..results import (
    check_attributes,
    check_storable,
    Continuation,
    Given,
    lanes_reader,
    open_stored,
    RunStore,
    SIMULATION,
    SINGLE,
    Solution,
    weights_dataset,
)
from ..stores import as_path
from ._failures import failures
from ._outcomes import Outcomes
from ._shortfall import shortfall_of_run, without_stop
from ._simulation import Simulation
from ._source import MemberSource
from ._stepping import problem_of, Stepping
from ._storing import interrupted_message, StoreSink


class Execution(TypedDict, total=False):
    """How a simulation is run: what does not change its numbers."""

    store: str | os.PathLike | None
    schedule: Schedule | None
    progress: bool | None
    attrs: Mapping[str, Any] | None


def check_keywords(caller: str, given: Mapping[str, Any]) -> None:
    """Whether a call was given keywords that it has.

    Raises:
        TypeError: as Python does, with where a keyword has gone.
    """
    unknown = next((name for name in given if name not in Execution.__annotations__), None)
    if unknown is None:
        return
    fields = {field.name for field in dataclasses.fields(Stepping)}
    hint = f": pass stepping=jaxflow.Stepping({unknown}=…)" if unknown in fields else ""
    raise TypeError(f"{caller}() got an unexpected keyword argument {unknown!r}{hint}")


@running
@ends_on_signals()
@one_call()
def run(
    simulation: Simulation,
    *,
    store: str | os.PathLike | None = None,
    schedule: Schedule | None = None,
    progress: bool | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> Solution:
    """Run a simulation.

    Arguments:
        simulation: a `jaxflow.Simulation`.
        store: a folder, such as `"run.zarr"`, for members as they are done and for those in
            flight. The same call with the folder of a run that was interrupted goes on from
            there, with that of a run that has finished reads it, and with that of a run
            that had an earlier stop or fewer `max_steps` goes on with its members. The
            solution then reads its weights and records from there.
        schedule: how the run is spread over the machine, a `Schedule`; measured if not
            given. Results do not depend on it, beyond rounding.
        progress: `True` for a progress bar, `False` for none; a bar on a terminal and a
            line now and then elsewhere if `None`.
        attrs: anything to keep with the results, such as a seed.

    Returns:
        A `Solution`.

    Raises:
        InputError: for arguments that do not fit.
        StoreError: for a store that holds another run or cannot be written.
        KeyboardInterrupt: at Ctrl-C.
        SystemExit: with `128 + n` at SIGTERM and SIGHUP, with members and lanes safe in the
            store.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.DiagonalLinear(3, 2, key=jax.random.key(0))
        >>> task = jf.Task(jax.numpy.eye(2), jax.numpy.ones(2))
        >>> sim = jf.Simulation(jf.GradientFlow(), network, task, stop=jf.RescaledTime(0.1))
        >>> str(jf.run(sim).status)
        'RescaledTime'
    """
    if not isinstance(simulation, Simulation):
        raise InputError("simulation", shown(simulation), "a jaxflow.Simulation")
    schedule = check_schedule(schedule)
    path = None if store is None else as_path(store, "store")
    progress, attrs = check_flag("progress", progress, optional=True), check_attrs(attrs)
    return carry_out(simulation, None, path, schedule, progress, attrs)


def carry_out(
    simulation: Simulation,
    earlier: Earlier | None,
    path: pathlib.Path | None,
    schedule: Schedule | None,
    progress: bool | None,
    attrs: dict[str, Any],
) -> Solution:
    """Run a simulation, with arguments that have been checked.

    Given `earlier`, the run whose members go on; `None` if they start.

    Raises:
        InputError: if they went further than they now should.
        StoreError: if those in the store at `path` did.
    """
    try:
        return _carry_out(simulation, earlier, path, schedule, progress, attrs)
    except PassedError as error:
        rows = None if earlier is None else earlier.rows
        num = simulation.num if rows is None else len(rows)
        which = ", ".join(map(str, np.sort(error.indices)[:5]))
        more = ", …" if len(error.indices) > 5 else ""
        found = f"{len(error.indices):,} of {num:,} members had passed: {which}{more}"
        if earlier is None:
            raise StoreError(
                f"{path} holds another run: one with an end that {found}. Choose another "
                "name, or ask for an end that comes later."
            ) from None
        raise InputError(
            "stop",
            f"an end that {found}",
            "stop conditions that are met later, and no fewer steps than were made",
        ) from None


def _carry_out(
    simulation: Simulation,
    earlier: Earlier | None,
    path: pathlib.Path | None,
    schedule: Schedule | None,
    progress: bool | None,
    attrs: dict[str, Any],
) -> Solution:
    keeps = path is not None or _are_kept_in_memory(simulation)
    lanes = _Lanes.of(simulation, keeps, earlier)
    settings = {**simulation.describe(), **versions()}
    outcomes = Outcomes(simulation, lanes.problem, settings, attrs)
    tell(without_stop(simulation))

    def run_into(sink: InMemory | StoreSink, lanes: _Lanes) -> None:
        per_step = lanes.problem.stepper.evaluations_per_attempt
        title = simulation.equation.kind
        title = title[:1].upper() + title[1:]
        with progress_bar(title, progress, per_step) as on_progress, failures(title):
            run_engine(
                lanes.problem,
                lanes.source,
                sink,
                observer=lanes.observer,
                schedule=schedule,
                on_progress=on_progress,
            )

    def told(solution: Solution) -> Solution:
        tell(shortfall_of_run(simulation, solution, lanes.source, outcomes))
        return solution

    if path is None:
        is_single = simulation.networks.is_single if earlier is None else earlier.is_single
        return told(_in_memory(run_into, outcomes, lanes, simulation, is_single))
    identity = simulation.identity | {SINGLE: simulation.networks.is_single}
    check_storable(simulation.networks.one)
    first = simulation.networks.start
    lengths = None if simulation.networks.pass_once else simulation.equation.lasts
    stored = RunStore(path, identity, simulation.num, first=first, lengths=lengths)
    try:
        if stored.goes_on:
            lanes = _begun_before(simulation, stored, lanes)
        stored.set_attrs(attrs)
        _keep(simulation, stored)
        _into_store(run_into, stored, outcomes, lanes)
    finally:
        stored.close()
    solution = open_stored(path, simulation.networks.one)
    if not simulation.networks.pass_once:
        everybody = np.arange(solution.size)
        known = Continuation(simulation, everybody, lanes_reader(path), everybody)
        solution = dataclasses.replace(solution, continuation=known)
    return told(solution)


def _begun_before(simulation: Simulation, stored: RunStore, lanes: "_Lanes") -> "_Lanes":
    """What the engine is given where the store has members of an earlier run.

    Raises:
        PassedError: before anything is changed, if some cannot go on.
    """
    none = lanes.nobody().kept
    assert none is not None
    num_bytes = none.shape[1]
    if stored.lane_bytes not in (None, num_bytes):
        found = f"{stored.path}, whose members are recorded at other points"
        raise InputError("store", found, "a new one, to go on from a Solution")
    flying, kept = np.zeros(0, np.int64), none
    if is_of_earlier := stored.is_of_earlier:
        flying, kept = in_flight_rows(lanes.problem, stored.in_flight(), lanes.shapes)

    def read_lanes(rows: np.ndarray) -> np.ndarray:
        found = stored.lanes(rows, num_bytes)
        aloft = np.isin(rows, flying)
        if np.any(aloft):
            order = np.argsort(flying)
            found[aloft] = kept[order][np.searchsorted(flying[order], rows[aloft])]
        return found

    is_single, num = simulation.networks.is_single, simulation.num
    rows = None if num is None else np.arange(num)
    later = _Lanes.of(simulation, True, Earlier(simulation, rows, read_lanes, is_single))
    if is_of_earlier:
        assert rows is not None
        passed = find_passed(later.problem, later.source, rows)
        if len(passed):
            raise PassedError(passed)
        stored.begin_again(flying, kept)
        flying, kept = flying[:0], kept[:0]
    return later


class Earlier(NamedTuple):
    """A run whose members go on.

    Given its `simulation`, the `rows` in it of those members, `None` for all that there
    will be, a function of places among them that gives their lanes in bytes, and whether
    there is one without an axis.
    """

    simulation: Simulation
    rows: np.ndarray | None
    read_lanes: Callable[[np.ndarray], np.ndarray]
    is_single: bool


class _Lanes(NamedTuple):
    """What the engine is given."""

    problem: Problem
    source: MemberSource
    observer: AbstractObserver | None

    @classmethod
    def of(
        cls, simulation: Simulation, keeps: bool, earlier: Earlier | None = None
    ) -> "_Lanes":
        dtype = simulation.networks.dtype
        problem = problem_of(simulation.flow, simulation.stepping, dtype)
        problem = dataclasses.replace(problem, pauses=keeps)
        record, observer = simulation.record, None
        if record is not None:
            observe = record.observe(*simulation.examples_and_own)
            observer = record.places(problem).observer(observe)
        lanes = cls(problem, MemberSource(simulation, problem), observer)
        if earlier is None:
            return lanes
        there, here = cls.of(earlier.simulation, keeps).shapes, lanes.shapes

        def kept(places: np.ndarray) -> Pool:
            found = from_rows(earlier.read_lanes(places), there)
            assert found is not None
            return with_rows(found, here)

        source = MemberSource(simulation, problem, earlier.rows, kept)
        return lanes._replace(source=source)

    @property
    def shapes(self) -> Pool:
        """Of a pool."""
        return shapes_of_pool(self.problem, self.source, self.observer)

    def nobody(self) -> Outcome:
        """The outcome of no members."""
        return nobody(self.problem, self.source, self.observer)


_MOST_WEIGHTS = 2**25
"""Bytes of weights up to which results in memory keep what it takes to go on. Chosen: that
takes 2 to 5 times as much as the weights, as the solver has it."""


def _are_kept_in_memory(simulation: Simulation) -> bool:
    networks = simulation.networks
    if networks.pass_once or networks.num is None:
        return False
    arrays = jax.tree_util.tree_leaves(parameters_of(networks.one))
    return networks.num * sum(array.nbytes for array in arrays) <= _MOST_WEIGHTS


def _keep(simulation: Simulation, stored: RunStore) -> None:
    """Keep what the run was beside its results, as far as a file can hold it."""
    try:
        described = weights_dataset(simulation, None, whole=True)
    except StoreError:  # optimizers and lambdas have no names
        return
    stored.keep(SIMULATION, described)


def _in_memory(
    run_into: Callable,
    outcomes: Outcomes,
    lanes: _Lanes,
    simulation: Simulation,
    is_single: bool,
) -> Solution:
    sink = InMemory()
    run_into(sink, lanes)
    outcome = sink.outcome()
    if outcome is None:
        outcome = lanes.nobody()
    places = np.arange(len(outcome.status))
    rows = lanes.source.rows(places)
    solution = outcomes.solution(rows, outcome)
    on_device = Given(as_jax(solution.directions))
    solution = dataclasses.replace(solution, read_directions=on_device)
    if (kept := outcome.kept) is not None:
        continuation = Continuation(simulation, rows, kept.__getitem__, places)
        solution = dataclasses.replace(solution, continuation=continuation)
    if not is_single:
        return solution
    # A single network has no axis of members, and no number.
    members = None if simulation.networks.is_single else solution[0].members
    return dataclasses.replace(solution[0], members=members)


def _into_store(
    run_into: Callable, stored: RunStore, outcomes: Outcomes, lanes: _Lanes
) -> None:
    if stored.is_finished:
        return
    # Written without members first, so that every array is there.
    StoreSink(stored, outcomes).write(np.zeros(0, np.int64), lanes.nobody())
    sink = StoreSink(stored, outcomes)  # now it is known who is done
    source = lanes.source
    try:
        run_into(sink, lanes)
        total = source.total
        assert total is not None  # the run has seen the end of every iterator
        stored.finish(total)
    except (KeyboardInterrupt, SystemExit):  # the latter from other signals
        print(interrupted_message(stored, source.total), file=sys.stderr)
        raise


def check_attrs(attrs: Any) -> dict[str, Any]:
    """What the caller wants to be kept, by names."""
    if attrs is None:
        return {}
    if not isinstance(attrs, Mapping) or not all(isinstance(name, str) for name in attrs):
        raise InputError("attrs", shown(attrs), "a dict with words for names")
    attrs = dict(attrs)
    check_attributes(attrs)
    return attrs
