"""What a caller gave as networks: found out, and checked against the task."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._arrays import words_of
from .._checks import check_flag
from .._trained import (
    is_trained,
    not_trained,
    split,
    trained_on,
    with_trainable,
    without_training,
)
from ..errors import InputError
from ..networks import (
    AbstractDistribution,
    Initializations,
    member,
    members,
    num_members,
    parameter_dtype,
)
from ..tasks import AbstractTask, check_task
from ._networks import (
    AbstractNetworks,
    DrawnNetworks,
    IteratedNetworks,
    queued,
    StackedNetworks,
)


def as_networks(
    given: Any, task: AbstractTask, ensemble: bool | None, trainable: Any = None
) -> AbstractNetworks:
    """Find out what the caller gave, and whether it fits the task.

    Arguments:
        trainable: the filter of what is trained; if not given, what a module says of
            itself, or what a gradient reaches.
    """
    check_task(task)
    ensemble = check_flag("ensemble", ensemble, optional=True)
    if isinstance(given, AbstractNetworks):
        return given
    if isinstance(given, Initializations):
        if trainable is not None:
            found = "a filter beside Initializations"
            raise InputError("trainable", found, "Initializations(…, trainable=…)")
        _check_one(given.network, task)
        return _as_drawn(given)
    if isinstance(given, eqx.Module):
        return _as_stacked(given, task, ensemble, trainable)
    if isinstance(given, Iterable) and not isinstance(given, (str, Mapping)):
        return _as_iterated(given, task, trainable)
    raise InputError(
        "networks",
        type(given).__name__,
        "an equinox.Module, a jaxflow.Initializations, or an iterator of modules",
    )


def trained_on_task(one: Any, task: AbstractTask, trainable: Any) -> Any:
    """One network that knows what is trained: as the caller says, or as a gradient does."""
    if trainable is not None:
        return with_trainable(one, trainable)
    return trained_on(one, _outputs, task)


def _outputs(network: Any, task: AbstractTask) -> Any:
    return task.outputs(network)


def _as_drawn(given: Initializations) -> DrawnNetworks:
    typed = jnp.issubdtype(given.key.dtype, jax.dtypes.prng_key)
    key = given.key if typed else jax.random.wrap_key_data(given.key)
    return DrawnNetworks(  # pyright: ignore[reportCallIssue]
        given.network,
        int(given.num),
        np.asarray(jax.random.key_data(key)),
        str(jax.random.key_impl(key)),
        int(given.start),
        distribution=cast(AbstractDistribution, given.distribution),
    )


def _as_iterated(given: Iterable, task: AbstractTask, trainable: Any) -> IteratedNetworks:
    networks = iter(given)
    one = next(networks, None)
    if not isinstance(one, eqx.Module):
        held = "nothing" if one is None else type(one).__name__
        found = f"a {type(given).__name__} of {held}"
        raise InputError("networks", found, "an iterator of equinox.Modules")
    if trainable is not None:
        one = with_trainable(one, trainable)
    _check_one(one, task)
    one = trained_on_task(one, task.astype(parameter_dtype(one)), trainable)
    shapes = eqx.filter_eval_shape(lambda: one)
    shared = jax.tree_util.tree_map(words_of, eqx.filter(split(one)[1], eqx.is_array))

    def check(row: int, network: Any) -> eqx.Module:
        argument = f"networks[{row}]"
        if not isinstance(network, eqx.Module):
            raise InputError(argument, type(network).__name__, "an equinox.Module")
        network = without_training(network, not_trained(one))
        if not eqx.tree_equal(eqx.filter_eval_shape(lambda: network), shapes):
            raise InputError(argument, "another structure", "that of the first network")
        _check_finite_parameters(network)
        kept = eqx.filter(split(network)[1], eqx.is_array)
        if not eqx.tree_equal(jax.tree_util.tree_map(words_of, kept), shared):
            found = "arrays of its own that are not trained"
            raise InputError(argument, found, "those of the first, or an ensemble")
        return network

    return queued(networks, one, check)


def _as_stacked(
    networks: eqx.Module, task: AbstractTask, ensemble: bool | None, trainable: Any
):
    """Find out whether this is one network or an ensemble."""
    if trainable is not None:
        networks = with_trainable(networks, trainable)
    task = task.astype(_check_dtype(networks))
    _check_finite_parameters(networks)
    excluded = "excluded by the argument ensemble"
    as_one = excluded if ensemble is True else task.misfit(networks)
    as_many = excluded if ensemble is False else _misfit_of_ensemble(networks, task)
    if as_one is None and as_many is None:
        raise InputError(
            "networks",
            "arrays that fit the task as one network and as an ensemble",
            "ensemble=True or ensemble=False beside them",
        )
    if as_one is not None and as_many is not None:
        reasons = f"as one network: {as_one}; as an ensemble: {as_many}"
        raise _misfit_error(reasons, task)
    is_single = as_one is None
    if is_single:
        # Through NumPy: JAX would compile a program for every shape.
        networks = members(networks, np.newaxis)
    num = num_members(networks)
    one = trained_on_task(member(networks, 0), task, trainable)
    networks = without_training(networks, not_trained(one))
    return StackedNetworks(  # pyright: ignore[reportCallIssue]
        networks, num, is_single=is_single, own_places=_own_places(networks)
    )


def _own_places(networks: eqx.Module) -> tuple[int, ...]:
    """The places of leaves beside the weights of which some member has another."""
    leaves = jax.tree_util.tree_leaves(networks)
    trained = jax.tree_util.tree_leaves(is_trained(networks))

    def differs(leaf: Any) -> bool:
        words = words_of(leaf)
        return bool(np.any(words != words[:1]))

    return tuple(
        place
        for place, (leaf, counts) in enumerate(zip(leaves, trained))
        if eqx.is_array(leaf) and not counts and differs(leaf)
    )


def _check_one(network: eqx.Module, task: AbstractTask) -> None:
    """Whether one network fits the task."""
    dtype = _check_dtype(network)
    _check_finite_parameters(network)
    if (reason := task.astype(dtype).misfit(network)) is not None:
        raise _misfit_error(f"one network: {reason}", task)


def _check_dtype(networks: eqx.Module) -> Any:
    dtype = jnp.dtype(parameter_dtype(networks, "networks"))
    if dtype.itemsize < 4:
        raise InputError("networks", f"parameters of {dtype}", "float32 or float64")
    return dtype


def _check_finite_parameters(networks: eqx.Module) -> None:
    arrays = jax.tree_util.tree_leaves_with_path(eqx.filter(networks, eqx.is_inexact_array))
    for path, array in arrays:
        where = jax.tree_util.keystr(path)
        if array.size == 0:
            expected = "at least one member and one parameter"
            raise InputError("networks", f"an empty array at {where}", expected)
        bad = int(np.sum(~np.isfinite(np.asarray(array))))
        if bad:
            found = f"{bad} parameters that are NaN or infinite at {where}"
            raise InputError("networks", found, "finite weights")


def _misfit_error(reasons: str, task: AbstractTask) -> InputError:
    return InputError(
        "networks",
        f"a module that does not fit the task ({reasons})",
        task.asks_for,
    )


def _misfit_of_ensemble(networks: eqx.Module, task: AbstractTask) -> str | None:
    try:
        num_members(networks)
    except InputError as error:
        return error.found
    return task.misfit(member(networks, 0))
