"""The three simulations: gradient flow, its δ → 0 limit, and gradient descent.

Here the parts come together: checked arguments become a flow, a problem and starts for
the engine, and what the engine gives back becomes a `Solution`.
"""

import dataclasses
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, PRNGKeyArray, PyTree

from .._versions import versions
from ..engine import InMemory, Problem, progress_bar, Recorder, run, Schedule
from ..errors import InputError, NotHomogeneousError
from ..flows import (
    AbstractNetworkFlow,
    AbstractRandomizedFlow,
    block_polar_flow,
    BlockPolarFlow,
    CartesianFlow,
    CorrelationFlow,
    DescentFlow,
    PolarFlow,
    Snapshot,
    StochasticDescentFlow,
)
from ..networks import as_jax, blocks, Initializations, order, unflattener
from ..results import check_storable, open_stored, RunStore, SINGLE, Solution
from ..solvers import (
    AbstractStagedSolver,
    count_evaluations,
    FlowController,
    OptimizerSteps,
    PredictiveController,
    write_out,
)
from ..stopping import AbstractStop, NumSteps, Stationary
from ..tasks import Task
from ._checks import (
    check_batch,
    check_blocks,
    check_margins,
    check_networks,
    check_record,
    check_scale,
    check_schedule,
    check_stepping,
    check_stops,
    check_store,
    check_whole,
    Ensemble,
    is_per_member,
    Recordables,
    Scale,
    Stepping,
)
from ._networks import RecordingOf, Source
from ._outcomes import Outcomes, without_axis
from ._storing import identify, interrupted_message, Stored

Networks = eqx.Module | Initializations | Iterable[eqx.Module]

_COORDINATES = ("auto", "polar", "block_polar", "cartesian")


def gradient_flow(
    networks: Networks,
    task: Task,
    *,
    scale: ArrayLike | Sequence[float] = 1.0,
    stop: AbstractStop | Sequence[AbstractStop] = (),
    solver: diffrax.AbstractSolver | str | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    max_steps: int = 10_000,
    coordinates: str = "auto",
    record: Mapping[str, Callable] | None = None,
    record_at: ArrayLike | Sequence | None = None,
    record_over: str = "rescaled_time",
    controller: diffrax.AbstractStepSizeController | None = None,
    dt0: float | None = None,
    ensemble: bool | None = None,
    schedule: Schedule | None = None,
    store: str | os.PathLike | None = None,
    progress: bool | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> Solution:
    """Gradient flow of the loss from many initializations at once.

    `dw/dt = -∇𝓛(w)`, `w(0) = δ w₀`.

    **Arguments:**

    - `networks`: one Equinox module, or an ensemble: every array with a leading axis
      (num, …). Its parameters are `w₀`, of unit norm if `sample_ensemble` drew them. Or
      members that come when they are needed: `Initializations`, or an iterator of
      modules.
    - `task`: the data and the loss.
    - `scale`: the initialization scale δ, positive, scalar or (num,).
    - `stop`: stop conditions; a member ends at the first that it meets.
    - `solver`: any diffrax solver of ordinary differential equations; `Tsit5()` if not
      given. `"auto"` is Tsit5 while accuracy limits the steps, and stabilized or implicit
      steps where stability does: on plateaus.
    - `rtol`, `atol`: tolerances of a step. A weight's error (in polar coordinates that of
      an entry of the direction) is measured against `atol + rtol |entry|`, the errors of
      the logarithm of the norm against `atol + rtol`. 1e-6 and 1e-9 if not given, 1e-5
      and 1e-7 in float32.
    - `max_steps`: attempted steps after which a member gives up.
    - `coordinates`: `"polar"` for homogeneous networks, `"cartesian"` for all, `"auto"`
      for polar where that is possible; `"block_polar"` for a log-norm and a direction of
      every block (hidden neuron of a two-layer network, coordinate of a diagonal one, else
      layer), so that small blocks are as accurate as large ones.
    - `record`: named functions of (network, task), each giving one array; `record_at`:
      an increasing grid, (points,) or (num, points), of the quantity `record_over`, which
      is `"rescaled_time"`, `"log_norm"` or `"log_time"`.
    - `controller`, `dt0`: a diffrax step size controller in place of the tolerances, and
      the first step, in the clock of the coordinates.
    - `ensemble`: says whether `networks` is one, where its shapes leave that open.
    - `schedule`: how the run is spread over the machine, a `Schedule`; measured if not
      given. Results do not depend on it, beyond rounding.
    - `store`: a folder, such as `"run.zarr"`, for members as they are done and for those
      in flight. The same call with the folder of a run that was interrupted goes on from
      there, with that of a run that has finished reads it. The solution then reads its
      weights and records from there.
    - `progress`: `True` for a progress bar, `False` for none; a bar on a terminal and a
      line now and then elsewhere if `None`.
    - `attrs`: anything to keep with the results, such as a seed.

    **Returns:** a `Solution`.

    **Raises:** `InputError` for arguments that do not fit, `NotHomogeneousError` for polar
    coordinates with a network that is not homogeneous, `StoreError` for a store that
    holds another run or cannot be written.

    **Source:** arXiv:2403.08121, equation (1); polar form as in the documentation.

    >>> import jax, jaxflow as jf
    >>> key = jax.random.key(0)
    >>> network = jf.FeedForward((3, 8, 1), jf.LeakyReLU(0.5, 2), key=key)
    >>> x = jf.data.sphere_points(10, 3, key=key)
    >>> task = jf.data.teacher_student(network, x, target_norm=1.0)
    >>> ensemble = jf.sample_ensemble(network, 4, key=key)
    >>> solution = gradient_flow(ensemble, task, scale=1e-20, stop=[jf.LossBelow(0.45)])
    >>> bool((solution.loss <= 0.45).all())
    True
    """
    checked = check_networks(networks, task, ensemble)
    task = task.astype(checked.dtype)
    scales = check_scale(scale, checked)
    stops = check_stops(stop, checked)
    stepping = check_stepping(solver, controller, rtol, atol, dt0, max_steps, checked.dtype)
    recordables = check_record(record, record_at, record_over, checked, task)
    schedule, store = check_schedule(schedule), check_store(store)
    degree = _order_for(coordinates, checked, task)
    flow = _flow(coordinates, degree, checked, task)
    return simulate(
        "gradient flow",
        flow,
        checked,
        task,
        scale=scales,
        stops=stops,
        stepping=stepping,
        recordables=recordables,
        schedule=schedule,
        store=store,
        progress=progress,
        attrs={"order": degree, "flow_coordinates": _name(flow), **(attrs or {})},
    )


def ncf_flow(
    networks: Networks,
    task: Task,
    *,
    stop: AbstractStop | Sequence[AbstractStop] | None = None,
    solver: diffrax.AbstractSolver | str | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    max_steps: int = 10_000,
    record: Mapping[str, Callable] | None = None,
    record_at: ArrayLike | Sequence | None = None,
    record_over: str = "rescaled_time",
    controller: diffrax.AbstractStepSizeController | None = None,
    dt0: float | None = None,
    ensemble: bool | None = None,
    schedule: Schedule | None = None,
    store: str | os.PathLike | None = None,
    progress: bool | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> Solution:
    """The δ → 0 limit of gradient flow: the flow of the neural correlation function.

    `du/ds = ∇N(u)`, `u(0) = w₀`, in polar coordinates, where the direction follows
    Riemannian gradient ascent of `N` on the unit sphere, towards KKT points.

    **Arguments:** as for `gradient_flow`, but there is no scale. `stop` is
    `Stationary(1e-8)` if not given, `Stationary(1e-4)` in float32. Norms are those of
    `u = w/δ`; recorded functions are given the network `u`.

    **Returns:** a `Solution` with `blow_up_time`, the rescaled time `T*` at which `u`
    becomes infinite (infinity if it does not, NaN where the member was stopped too early
    to tell). The `loss` is that at the origin, `log_time` is infinite for `L > 2`.

    **Raises:** `InputError` for arguments that do not fit, `NotHomogeneousError` for a
    network that is not homogeneous.

    **Source:** arXiv:2403.08121, section 3.

    >>> import jax, jaxflow as jf
    >>> key = jax.random.key(0)
    >>> network = jf.FeedForward((3, 1), jf.LeakyReLU(), key=key)
    >>> task = jf.Task(jax.numpy.eye(3), jax.numpy.array([3.0, 0.0, 4.0]))
    >>> limit = ncf_flow(jf.sample_ensemble(network, 2, key=key), task)
    >>> round(float(limit.directions.weights[0][0, 0, 2]), 6)
    0.8
    """
    checked = check_networks(networks, task, ensemble)
    task = task.astype(checked.dtype)
    if stop is None:
        single = jnp.dtype(checked.dtype).itemsize == 4
        stop = Stationary(1e-4 if single else 1e-8)
    stops = check_stops(stop, checked)
    stepping = check_stepping(solver, controller, rtol, atol, dt0, max_steps, checked.dtype)
    recordables = check_record(record, record_at, record_over, checked, task)
    schedule, store = check_schedule(schedule), check_store(store)
    degree = order_of(checked, task)
    return simulate(
        "neural correlation flow",
        CorrelationFlow(checked.one, task, degree),
        checked,
        task,
        scale=Scale(np.zeros(()), np.zeros((), checked.dtype)),
        stops=stops,
        stepping=stepping,
        recordables=recordables,
        schedule=schedule,
        store=store,
        progress=progress,
        attrs={"order": degree, "flow_coordinates": "polar", **(attrs or {})},
    )


def gradient_descent(
    networks: Networks,
    task: Task,
    *,
    optimizer: optax.GradientTransformation,
    num_steps: int,
    batch_size: int | None = None,
    key: PRNGKeyArray | None = None,
    scale: ArrayLike | Sequence[float] = 1.0,
    stop: AbstractStop | Sequence[AbstractStop] = (),
    record: Mapping[str, Callable] | None = None,
    record_at: ArrayLike | Sequence | None = None,
    record_over: str = "clock",
    ensemble: bool | None = None,
    schedule: Schedule | None = None,
    store: str | os.PathLike | None = None,
    progress: bool | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> Solution:
    """Gradient descent on the same loss from the same initializations.

    `w_{k+1} = w_k + update(-∇𝓛(w_k))`; with `optax.sgd(η)` that is Euler's method for
    gradient flow with step `η`, `w_{k+1} = w_k - η ∇𝓛(w_k)`.

    **Arguments:** as for `gradient_flow`, and

    - `optimizer`: any optax optimizer. Pass the same object again to avoid compiling
      again.
    - `num_steps`: how many steps to take.
    - `batch_size`, `key`: for stochastic gradients, `b` samples drawn anew for every step
      and member, without replacement; the gradient of their loss times `n/b` has the mean
      `∇𝓛`. All `n` samples if not given. Losses are those of all samples.
    - `stop`: a member ends after the first step that meets a condition, `NormAbove` too.
    - `record_over`: `"clock"`, the number of steps, or `"log_norm"`.

    **Returns:** a `Solution`; its times are NaN, since an optimizer has steps and no time.
    `stats.num_vjps` counts gradients, of `b` samples each.

    **Raises:** `InputError` for arguments that do not fit.

    >>> import jax, jaxflow as jf, optax
    >>> network = jf.DiagonalLinear(1, 2, key=jax.random.key(0))
    >>> network = eqx.tree_at(lambda n: n.factors[0], network, jnp.array([[1.0, 0.0]]))
    >>> task = jf.Task(jax.numpy.eye(2), jax.numpy.zeros(2))
    >>> descent = gradient_descent(network, task, optimizer=optax.sgd(0.5), num_steps=2)
    >>> round(float(descent.networks.factors[0][0, 0]), 6)
    0.25
    """
    checked = check_networks(networks, task, ensemble)
    task = task.astype(checked.dtype)
    if not isinstance(optimizer, optax.GradientTransformation):
        raise InputError("optimizer", repr(optimizer), "an optax optimizer")
    num_steps = check_whole("num_steps", num_steps)
    batch_size = check_batch(batch_size, key, task)
    if record_over not in ("clock", "log_norm"):
        raise InputError("record_over", repr(record_over), '"clock" or "log_norm"')
    stops = check_stops(stop, checked)
    flow = DescentFlow(checked.one, task)
    noise = None
    if batch_size is not None:
        assert key is not None
        noise = Noise(StochasticDescentFlow(checked.one, flow, batch_size), key)
    return simulate(
        "gradient descent" if noise is None else "stochastic gradient descent",
        flow,
        checked,
        task,
        scale=check_scale(scale, checked),
        stops=(*stops, *check_stops(NumSteps(num_steps), checked)),
        stepping=Stepping(
            solver=OptimizerSteps(optimizer, checked.one),
            controller=diffrax.ConstantStepSize(),
            rtol=0.0,
            atol=0.0,
            first_step=1.0,
            max_steps=num_steps,
        ),
        recordables=check_record(record, record_at, record_over, checked, task),
        schedule=check_schedule(schedule),
        store=check_store(store),
        progress=progress,
        attrs={
            "flow_coordinates": "cartesian",
            "batch_size": batch_size,
            **(attrs or {}),
        },
        noise=noise,
    )


def _flow(coordinates, degree, checked: Ensemble, task: Task) -> AbstractNetworkFlow:
    if degree is None or coordinates == "cartesian":
        return CartesianFlow(checked.one, task, degree)
    if coordinates == "block_polar":
        check_blocks(checked)
        return block_polar_flow(checked.one, task, degree, blocks(checked.one))
    return PolarFlow(checked.one, task, degree)


def _order_for(coordinates, checked: Ensemble, task: Task) -> int | float | None:
    """The order of the network; `None` where it has none and Cartesian coordinates do."""
    if coordinates not in _COORDINATES:
        expected = ", ".join(f'"{name}"' for name in _COORDINATES)
        raise InputError("coordinates", repr(coordinates), f"one of {expected}")
    try:
        return order_of(checked, task)
    except InputError as error:
        # Zero or NaN at random weights is no hindrance to a flow from other weights.
        if coordinates in ("auto", "cartesian"):
            return None
        if not isinstance(error, NotHomogeneousError):
            raise
        raise NotHomogeneousError(
            "coordinates",
            f'"{coordinates}" with a network that is not homogeneous: {error.found}',
            '"auto" or "cartesian"',
            error.discrepancy,
        ) from error


def order_of(checked: Ensemble, task: Task) -> int | float:
    """The order of the networks, with errors that name the caller's argument."""
    try:
        return order(checked.one, task.inputs)
    except NotHomogeneousError as error:
        raise NotHomogeneousError(
            "networks", error.found, error.expected, error.discrepancy
        ) from error
    except InputError as error:
        raise InputError("networks", error.found, error.expected) from error


class Noise(NamedTuple):
    """A flow with noise to be followed in place of one without, and where it comes from."""

    flow: AbstractRandomizedFlow
    key: PRNGKeyArray


def simulate(
    kind: str,
    flow: AbstractNetworkFlow,
    checked: Ensemble,
    task: Task,
    *,
    scale: Scale,
    stops: tuple[AbstractStop, ...],
    stepping: Stepping,
    recordables: Recordables | None,
    schedule: Schedule,
    store: pathlib.Path | None,
    progress: bool | None,
    attrs: Mapping[str, Any],
    noise: Noise | None = None,
) -> Solution:
    """Run what was checked, in memory or into a store."""
    check_margins(stops, flow)
    settings = {**_describe(stepping), **_describe_network(checked), **attrs}
    settings = {name: value for name, value in settings.items() if value is not None}
    outcomes = Outcomes(
        kind,
        flow,
        scales=scale.values,
        log_scales=scale.logarithms,
        stops=stops,
        stepping=stepping,
        recordables=recordables,
        attrs={**settings, **versions()},
    )
    recorder, recording = _recorder(recordables, checked, task)
    followed, key = (flow, None) if noise is None else noise
    source = Source(followed, checked.networks, scale.logarithms, stops, recording, key)
    evaluations = count_evaluations(stepping.solver, stepping.first_step is None)

    def run_into(sink: InMemory | Stored) -> None:
        per_step = evaluations.per_attempt
        with progress_bar(kind.capitalize(), progress, per_step) as on_progress:
            run(
                problem_of(followed, stepping, checked.dtype),
                source,
                sink,
                recorder=recorder,
                schedule=schedule,
                on_progress=on_progress,
            )

    if store is None:
        solution = _in_memory(run_into, outcomes)
        return without_axis(solution) if checked.is_single else solution
    identity = {
        "kind": kind,
        **identify(
            {
                **checked.networks.identity,
                SINGLE: checked.is_single,
                "inputs": np.asarray(task.inputs),
                "targets": np.asarray(task.targets),
                "loss": task.loss,
                "scale": scale.values,
                "stop": stops,
                "solver settings": stepping.solver,
                "controller": stepping.controller,
                "first step": stepping.first_step,
                **({} if noise is None else {"random key": noise.key}),
                **_identify_records(recordables),
                **settings,
            }
        ),
    }
    check_storable(checked.one)
    stored = RunStore(store, identity, checked.num)
    try:
        _into_store(run_into, stored, outcomes, source)
    finally:
        stored.close()
    return open_stored(store, checked.one)


def _in_memory(run_into, outcomes: Outcomes) -> Solution:
    sink = InMemory()
    run_into(sink)
    outcome = sink.outcome()
    if outcome is None:
        outcome = outcomes.none()
    solution = outcomes.solution(np.arange(len(outcome.status)), outcome)
    return dataclasses.replace(solution, directions=as_jax(solution.directions))


def _into_store(run_into, stored: RunStore, outcomes: Outcomes, source: Source) -> None:
    none = np.zeros(0, np.int64)
    # Nobody, so that every array is there; those that had gone come back empty.
    Stored(stored, outcomes).write(none, outcomes.none())
    sink = Stored(stored, outcomes)  # now it is known who is done
    if stored.is_finished:
        return
    try:
        run_into(sink)
    except KeyboardInterrupt:
        print(interrupted_message(stored, source.total), file=sys.stderr)
        raise
    total = source.total
    assert total is not None  # the run has seen the end of every iterator
    stored.finish(total)


def problem_of(flow: AbstractNetworkFlow, stepping: Stepping, dtype) -> Problem:
    controller = stepping.controller
    # Numbers go in as arrays: Python floats would be constants of the compiled program.
    number = lambda value: jnp.asarray(value, dtype)
    if controller is None:
        # pyright takes the abstract attributes for arguments.
        decides = PredictiveController(  # pyright: ignore
            rtol=number(stepping.rtol), atol=number(stepping.atol), norm=flow.error_norm
        )
        controller = FlowController(decides, flow.view_error)  # pyright: ignore
    solver = write_out(stepping.solver)
    if isinstance(solver, AbstractStagedSolver):
        solver = dataclasses.replace(solver, drives=flow.drives)
    if isinstance(solver, diffrax.AbstractImplicitSolver):
        solver = _with_root_tolerances(solver, controller)
    first = stepping.first_step
    return Problem(
        flow=flow,
        solver=solver,
        controller=controller,
        max_steps=jnp.asarray(stepping.max_steps, jnp.int32),
        first_step=None if first is None else number(first),
    )


def _with_root_tolerances(solver, controller):
    """Implicit solvers whose root finder has no tolerances of its own use the step's."""
    adaptive = diffrax.AbstractAdaptiveStepSizeController
    if not isinstance(controller, (FlowController, adaptive)):
        return solver
    finder = solver.root_finder
    unset = [
        name
        for name in ("rtol", "atol", "norm")
        if not (callable(getattr(finder, name)) or eqx.is_array_like(getattr(finder, name)))
    ]
    return eqx.tree_at(
        lambda s: [getattr(s.root_finder, name) for name in unset],
        solver,
        [getattr(controller, name) for name in unset],
    )


class _NetworkObserver(eqx.Module):
    """Calls the recorded functions with the network that a snapshot shows."""

    functions: Mapping[str, Any]  # callables, or flags in their place in a mask
    network: eqx.Module
    task: Task

    def __call__(self, snapshot: Snapshot) -> dict[str, Array]:
        dtype = snapshot.direction.dtype
        weights = jnp.exp(snapshot.log_norm) * snapshot.direction
        network = unflattener(self.network)(weights)
        return {
            name: jnp.asarray(function(network, self.task)).astype(dtype)
            for name, function in self.functions.items()
        }


def _recorder(
    recordables: Recordables | None, checked: Ensemble, task: Task
) -> tuple[Recorder | None, RecordingOf | None]:
    if recordables is None:
        return None, None
    observer = _NetworkObserver(recordables.functions, checked.one, task)
    is_own = _NetworkObserver(
        {
            name: _constant_like(function, is_per_member(function))
            for name, function in recordables.functions.items()
        },
        _constant_like(checked.one, False),
        _constant_like(task, False),
    )
    own, shared = eqx.partition(observer, is_own)
    own = eqx.filter(own, eqx.is_array)
    grid = recordables.grid.astype(checked.dtype)
    recording = RecordingOf(grid, own, dict(recordables.example))
    return Recorder(shared, recordables.over), recording


def _constant_like(tree: PyTree, value: bool) -> PyTree:
    return jax.tree_util.tree_map(lambda _: value, tree)


def _describe(stepping: Stepping) -> dict[str, Any]:
    return {
        "solver": type(stepping.solver).__name__,
        "rtol": stepping.rtol,
        "atol": stepping.atol,
        "max_steps": stepping.max_steps,
    }


def _describe_network(checked: Ensemble) -> dict[str, Any]:
    arrays = jax.tree_util.tree_leaves(eqx.filter(checked.one, eqx.is_inexact_array))
    return {
        "network": type(checked.one).__name__,
        "num_parameters": sum(array.size for array in arrays),
        "dtype": str(checked.dtype),
    }


def _identify_records(recordables: Recordables | None) -> dict[str, Any]:
    if recordables is None:
        return {}
    return {
        "record": dict(recordables.functions),
        "record_at": recordables.grid,
        "record_over": recordables.over,
    }


def _name(flow) -> str:
    names = {PolarFlow: "polar", BlockPolarFlow: "block_polar", CartesianFlow: "cartesian"}
    return names[type(flow)]
