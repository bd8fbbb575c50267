"""What the public functions ask of their arguments, before anything is compiled."""

import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast, NamedTuple, TypeGuard

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from ..engine import Schedule
from ..errors import InputError
from ..flows import AbstractNetworkFlow, PolarFlow
from ..networks import (
    are_separable,
    Initializations,
    member,
    num_members,
    parameter_dtype,
)
from ..observables import dimensions
from ..results import RECORDED_OVER, RESERVED
from ..solvers import Automatic
from ..stopping import AbstractStop, MarginConverged
from ..tasks import Task
from ._networks import DrawnNetworks, IteratedNetworks, Networks, StackedNetworks


class Ensemble(NamedTuple):
    """Checked networks, whatever the caller gave."""

    networks: Networks
    num: int | None  # None: an iterator will tell
    is_single: bool  # one network without a leading axis
    one: eqx.Module  # any member
    dtype: Any


def check_networks(networks: Any, task: Task, ensemble: bool | None) -> Ensemble:
    """Find out what the caller gave, and whether it fits the task."""
    if not isinstance(task, Task):
        raise InputError("task", type(task).__name__, "a jaxflow.Task")
    if isinstance(networks, Initializations):
        one = networks.network
        dtype = _check_one(one, task)
        return Ensemble(DrawnNetworks(networks), int(networks.num), False, one, dtype)
    if isinstance(networks, eqx.Module):
        return _check_module(networks, task, ensemble)
    if isinstance(networks, Iterable) and not isinstance(networks, (str, Mapping)):
        return _check_iterator(networks, task)
    raise InputError(
        "networks",
        type(networks).__name__,
        "an equinox.Module, a jaxflow.Initializations, or an iterator of modules",
    )


def _check_iterator(given: Iterable, task: Task) -> Ensemble:
    networks = iter(given)
    one = next(networks, None)
    if not isinstance(one, eqx.Module):
        held = "nothing" if one is None else type(one).__name__
        found = f"a {type(given).__name__} of {held}"
        raise InputError("networks", found, "an iterator of equinox.Modules")
    dtype = _check_one(one, task)
    shapes = eqx.filter_eval_shape(lambda: one)

    def check(index: int, network: Any) -> eqx.Module:
        argument = f"networks[{index}]"
        if not isinstance(network, eqx.Module):
            raise InputError(argument, type(network).__name__, "an equinox.Module")
        if not eqx.tree_equal(eqx.filter_eval_shape(lambda: network), shapes):
            raise InputError(argument, "another structure", "that of the first network")
        _check_finite_parameters(network)
        return network

    return Ensemble(IteratedNetworks(networks, one, check), None, False, one, dtype)


def _check_one(network: eqx.Module, task: Task) -> Any:
    """Whether one network fits the task; its dtype."""
    dtype = _check_dtype(network)
    _check_finite_parameters(network)
    if (reason := _misfit(network, task.astype(dtype))) is not None:
        raise _misfit_error(f"one network: {reason}", task)
    return dtype


def _check_dtype(networks: eqx.Module) -> Any:
    dtype = jnp.dtype(parameter_dtype(networks, "networks"))
    if dtype.itemsize < 4:
        raise InputError("networks", f"parameters of {dtype}", "float32 or float64")
    return dtype


def _check_module(networks: eqx.Module, task: Task, ensemble: bool | None) -> Ensemble:
    """Find out whether this is one network or an ensemble."""
    dtype = _check_dtype(networks)
    _check_finite_parameters(networks)
    task = task.astype(dtype)
    as_one = _misfit(networks, task) if ensemble is not True else "excluded"
    as_many = _misfit_of_ensemble(networks, task) if ensemble is not False else "excluded"
    if as_one is None and as_many is None:
        raise InputError(
            "networks",
            "arrays that fit the task as one network and as an ensemble",
            "ensemble=True or ensemble=False beside them",
        )
    if as_one is not None and as_many is not None:
        reasons = [
            f"as {name}: {reason}"
            for name, reason in [("one network", as_one), ("an ensemble", as_many)]
            if reason != "excluded"
        ]
        raise _misfit_error("; ".join(reasons), task)
    is_single = as_one is None
    if is_single:
        # Through NumPy: JAX would compile a program for every shape.
        networks = jax.tree_util.tree_map(
            lambda leaf: (
                jnp.asarray(np.asarray(leaf)[None]) if eqx.is_array(leaf) else leaf
            ),
            networks,
        )
    num = num_members(networks)
    return Ensemble(
        StackedNetworks(networks, num), num, is_single, member(networks, 0), dtype
    )


def _misfit_error(reasons: str, task: Task) -> InputError:
    return InputError(
        "networks",
        f"a module that does not fit the task ({reasons})",
        f"outputs like the targets {task.targets.shape} for the inputs {task.inputs.shape}",
    )


def check_blocks(checked: Ensemble) -> None:
    """A layer of zeros has no direction, and may be pulled away from zero."""
    held = checked.networks
    ensemble = held.ensemble if isinstance(held, StackedNetworks) else checked.one
    if are_separable(checked.one):
        return
    axes = 1 if isinstance(held, StackedNetworks) else 0
    for path, array in jax.tree_util.tree_leaves_with_path(
        eqx.filter(ensemble, eqx.is_inexact_array)
    ):
        values = np.asarray(array)
        if not np.all(np.any(values != 0, axis=tuple(range(axes, values.ndim)))):
            raise InputError(
                "networks",
                f"zeros only at {jax.tree_util.keystr(path)} of some member",
                'other coordinates than "block_polar" for a layer without a direction',
            )


class Scale(NamedTuple):
    """δ and log δ: one number, or one for each member."""

    values: np.ndarray
    logarithms: np.ndarray


def check_scale(scale: Any, ensemble: Ensemble) -> Scale:
    """Positive numbers. Logarithms are taken in double precision."""
    values = _number_or_one_each("scale", scale, ensemble.num)
    if np.any(values <= 0):
        raise InputError("scale", f"{values.min():g}", "positive numbers")
    return Scale(values, np.asarray(np.log(values), ensemble.dtype))


def check_stops(stops: Any, ensemble: Ensemble) -> tuple[AbstractStop, ...]:
    """Stop conditions with one threshold for all members, or one for each."""
    several = isinstance(stops, Sequence) and not isinstance(stops, str)
    stops = tuple(stops) if several else (stops,)
    return tuple(_check_stop(stop, ensemble) for stop in stops)


def _check_stop(stop, ensemble):
    if not isinstance(stop, AbstractStop):
        raise InputError("stop", repr(stop), "stop conditions, such as LossBelow(1e-3)")

    def one_each(threshold):
        name = f"stop={type(stop).__name__}"
        values = _number_or_one_each(name, threshold, ensemble.num)
        return values.astype(ensemble.dtype)

    is_list = lambda node: isinstance(node, (list, tuple))
    return jax.tree_util.tree_map(one_each, stop, is_leaf=is_list)


def check_margins(stops: Sequence[AbstractStop], flow: AbstractNetworkFlow) -> None:
    """Whether the flow can tell a condition on margins how far it is from them."""
    if not any(isinstance(stop, MarginConverged) for stop in stops):
        return
    expected = "homogeneous networks in polar coordinates under gradient_flow"
    if not isinstance(flow, PolarFlow):
        found = f"MarginConverged with a {type(flow).__name__}"
        raise InputError("stop", found, expected)
    if not flow.task.has_margins:
        raise InputError(
            "stop",
            f"MarginConverged with the loss {flow.task.loss}, which has no margins",
            'a loss with an exponential tail: "logistic", "exponential", '
            '"cross_entropy" or an AbstractMarginLoss',
        )


def check_whole(argument: str, value: Any) -> int:
    """A whole number that is at least one."""
    try:
        whole = int(value)
        usable = whole == value and 1 <= whole < 2**31  # counted in int32
    except (TypeError, ValueError, OverflowError):
        usable = False
    if not usable:
        raise InputError(argument, repr(value), "a whole number from 1 to 2**31 - 1")
    return whole


def check_positive(argument: str, value: Any) -> float:
    """A positive number."""
    number = _number(argument, value)
    if not 0 < number < np.inf:
        raise InputError(argument, f"{number:g}", "a positive number")
    return number


def check_key(key: Any) -> PRNGKeyArray:
    """A random key, and not the raw numbers that older code uses."""
    is_array = isinstance(key, jax.Array)
    if not is_array or not jnp.issubdtype(key.dtype, jax.dtypes.prng_key) or key.ndim:
        found = f"an array of {key.dtype}" if is_array else repr(key)
        raise InputError("key", found, "a random key, such as jax.random.key(0)")
    usual = jax.random.key_impl(jax.random.key(0))
    if jax.random.key_impl(key) != usual:
        found = f"a key of the implementation {jax.random.key_impl(key)}"
        raise InputError("key", found, f"one of JAX's usual implementation, {usual}")
    return key


def check_batch(batch_size: Any, key: Any, task: Task) -> int | None:
    """How many samples a gradient is taken of; `None` for all."""
    if batch_size is None:
        if key is not None:
            raise InputError("batch_size", "none beside key", "a number of samples")
        return None
    batch_size = check_whole("batch_size", batch_size)
    if batch_size > task.num_samples:
        raise InputError(
            "batch_size", f"{batch_size}", f"at most the {task.num_samples} samples"
        )
    check_key(key)
    return batch_size


def check_schedule(schedule: Any) -> Schedule:
    """How the run is spread over the machine; `None` leaves it open."""
    if schedule is None:
        return Schedule()
    if not isinstance(schedule, Schedule):
        raise InputError("schedule", repr(schedule), "a jaxflow.Schedule")
    return schedule


def check_store(store: Any) -> pathlib.Path | None:
    """The folder of a store."""
    if store is None:
        return None
    try:
        return pathlib.Path(store)
    except TypeError as error:
        raise InputError("store", repr(store), "the path of a folder") from error


class Stepping(NamedTuple):
    """Checked settings of the integration."""

    solver: diffrax.AbstractSolver
    controller: diffrax.AbstractStepSizeController | None  # None: to be made from these:
    rtol: float
    atol: float
    first_step: float | None
    max_steps: int


def check_stepping(
    solver: Any, controller: Any, rtol: Any, atol: Any, dt0: Any, max_steps: Any, dtype
) -> Stepping:
    """The solver, the controller or its tolerances, and the first step."""
    single = jnp.dtype(dtype).itemsize == 4
    if solver is None or solver == "auto":
        solver = diffrax.Tsit5() if solver is None else Automatic()
    if not isinstance(solver, diffrax.AbstractSolver):
        raise InputError(
            "solver", repr(solver), 'a diffrax solver, such as Tsit5(), or "auto"'
        )
    rtol = (1e-5 if single else 1e-6) if rtol is None else _number("rtol", rtol)
    atol = (1e-7 if single else 1e-9) if atol is None else _number("atol", atol)
    dt0 = None if dt0 is None else _number("dt0", dt0)
    eps = float(jnp.finfo(dtype).eps)
    if not rtol >= 4 * eps:
        raise InputError(
            "rtol", f"{rtol:g}", f"at least {4 * eps:.1e}, which {dtype} can meet"
        )
    if not 0 <= atol < np.inf:
        raise InputError("atol", f"{atol:g}", "a number >= 0")
    if dt0 is not None and not 0 < dt0 < np.inf:
        raise InputError("dt0", f"{dt0:g}", "a positive number")
    max_steps = check_whole("max_steps", max_steps)
    is_controller = isinstance(controller, diffrax.AbstractStepSizeController)
    if controller is not None and not is_controller:
        raise InputError("controller", repr(controller), "a diffrax step size controller")
    estimates = isinstance(solver, diffrax.AbstractAdaptiveSolver)
    if controller is None and not estimates:
        controller = diffrax.ConstantStepSize()
    constant = isinstance(controller, diffrax.ConstantStepSize)
    adaptive = isinstance(controller, diffrax.AbstractAdaptiveStepSizeController)
    if not estimates and adaptive:
        raise InputError(
            "controller",
            f"an adaptive one with {type(solver).__name__}, which estimates no error",
            "diffrax.ConstantStepSize(), or another solver",
        )
    if constant and dt0 is None:
        raise InputError("dt0", "none with steps of constant size", "the size of a step")
    if isinstance(controller, diffrax.ClipStepSizeController):
        raise InputError(
            "controller", "a ClipStepSizeController", "one without jumps or fixed times"
        )
    return Stepping(
        solver,
        controller,
        rtol,
        atol,
        dt0,
        max_steps,
    )


class Recordables(NamedTuple):
    """Checked recorders and their grid."""

    functions: Mapping[str, Callable]
    grid: np.ndarray  # (points,) or (num, points), as the caller gave it
    over: str
    example: Mapping[str, jax.ShapeDtypeStruct]  # what one member records at one point


def check_record(
    record: Any, record_at: Any, record_over: Any, ensemble: Ensemble, task: Task
) -> Recordables | None:
    """Recorders that give arrays, at an increasing grid."""
    if not record:
        if record_at is not None:
            raise InputError("record", "none beside record_at", "functions to record")
        return None
    if not isinstance(record, Mapping):
        raise InputError("record", type(record).__name__, "a dict of named functions")
    if record_over not in RECORDED_OVER:
        names = ", ".join(repr(name) for name in RECORDED_OVER)
        raise InputError("record_over", repr(record_over), f"one of {names}")
    if record_at is None:
        raise InputError("record_at", "none beside record", "a grid to record at")
    grid = np.asarray(record_at)
    if grid.dtype.kind not in "iuf" or grid.size == 0 or np.any(np.isnan(grid)):
        raise InputError("record_at", repr(record_at), "numbers")
    if grid.ndim not in (1, 2) or (grid.ndim == 2 and len(grid) != ensemble.num):
        own = "" if ensemble.num is None else f" or ({ensemble.num}, points)"
        raise InputError("record_at", f"shape {grid.shape}", f"(points,){own}")
    if np.any(np.diff(grid) <= 0):
        raise InputError("record_at", "points out of order", "an increasing grid")
    example = {
        name: _check_recorder(name, function, ensemble, task)
        for name, function in record.items()
    }
    axes = [
        axis
        for name, function in record.items()
        for axis in dimensions(name, function, len(example[name].shape))
    ]
    if taken := sorted(set(axes) & set(record)):
        raise InputError("record", f"the name {taken[0]!r}", "one that no axis has")
    return Recordables(dict(record), grid, record_over, example)


def _check_recorder(name, function, ensemble, task):
    argument = f"record[{name!r}]"
    if not isinstance(name, str) or not name.isidentifier() or name in RESERVED:
        raise InputError("record", f"the name {name!r}", "a new name without spaces")
    if not callable(function):
        raise InputError(argument, repr(function), "a function of (network, task)")
    of_one: Callable = function
    if is_per_member(function):
        if num_members(function, argument) != ensemble.num:
            raise InputError(
                argument,
                f"a leading axis of {num_members(function, argument)}",
                "one for each member of an ensemble of a known size"
                if ensemble.num is None
                else f"one of {ensemble.num}, the members of the ensemble",
            )
        of_one = cast(Callable, member(function, 0))
    try:
        found = eqx.filter_eval_shape(of_one, ensemble.one, task)
    except Exception as error:  # whatever the user's function raises
        raise InputError(
            argument,
            f"{type(error).__name__} when called: {error}",
            "a function of (network, task) that JAX can trace",
        ) from error
    numeric = isinstance(found, jax.ShapeDtypeStruct) and (
        found.dtype == bool or jnp.issubdtype(found.dtype, jnp.number)
    )
    is_number = isinstance(found, (bool, int, float))
    if not (numeric or is_number) or jnp.iscomplexobj(found):
        raise InputError(argument, f"a function that returns {found}", "one real array")
    return jax.ShapeDtypeStruct(jnp.shape(found), ensemble.dtype)


def is_per_member(function: Callable) -> TypeGuard[eqx.Module]:
    """Whether every array of a recorder has a leading axis of members."""
    return isinstance(function, eqx.Module) and bool(getattr(function, "per_member", False))


def _check_finite_parameters(networks) -> None:
    arrays = jax.tree_util.tree_leaves_with_path(eqx.filter(networks, eqx.is_array))
    for path, array in arrays:
        if array.size == 0:
            raise InputError(
                "networks",
                f"an empty array at {jax.tree_util.keystr(path)}",
                "at least one member and one parameter",
            )
        bad = int(np.sum(~np.isfinite(np.asarray(array))))
        if bad:
            raise InputError(
                "networks",
                f"{bad} parameters that are NaN or infinite at "
                f"{jax.tree_util.keystr(path)}",
                "finite weights",
            )


def _misfit_of_ensemble(networks, task) -> str | None:
    try:
        num_members(networks)
    except InputError as error:
        return error.found
    return _misfit(member(networks, 0), task)


def _misfit(network, task) -> str | None:
    """Why a network cannot be trained on a task; `None` if it can."""
    sample = jax.ShapeDtypeStruct(task.inputs.shape[1:], task.inputs.dtype)
    try:
        output = eqx.filter_eval_shape(network, sample)
    except Exception as error:  # whatever the user's module raises
        return f"{type(error).__name__} on one sample: {error}"
    if not isinstance(output, jax.ShapeDtypeStruct) or output.ndim > 1:
        return f"its output for one sample is {output}, not a vector or a scalar"
    if task.loss.labels:
        classes = max(int(np.max(np.asarray(task.targets))) + 1, 2)
        if output.size < classes:
            return f"{output.size} outputs for {classes} classes"
    else:
        wanted = task.targets.shape[1] if task.targets.ndim == 2 else 1
        if output.size != wanted:
            return f"{output.size} outputs for targets {task.targets.shape}"
    losses = eqx.filter_eval_shape(
        lambda task, outputs: jax.vmap(task.loss)(outputs, task.target_rows),
        task,
        jax.ShapeDtypeStruct((task.num_samples, output.size), output.dtype),
    )
    if getattr(losses, "shape", None) != (task.num_samples,):
        raise InputError(
            "loss", f"{task.loss} giving {losses} for {task.num_samples} samples", "scalars"
        )
    return None


def _number(argument, value) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise InputError(argument, repr(value), "a number") from error


def _number_or_one_each(argument, values, num) -> np.ndarray:
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(argument, repr(values), "a number") from error
    if numbers.shape not in ([()] if num is None else [(), (num,)]):
        each = "" if num is None else f", or one for each of {num}"
        raise InputError(argument, f"shape {numbers.shape}", f"a number{each}")
    if not np.all(np.isfinite(numbers)):
        raise InputError(argument, "NaN or infinity", "finite numbers")
    return numbers
