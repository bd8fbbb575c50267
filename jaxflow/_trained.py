"""Which arrays of a module are trained.

The inexact ones, but for those that the caller keeps as they are (`trainable=`), those that
no gradient reaches (`jax.lax.stop_gradient`), and those of `equinox.nn.State`. All other
arrays are carried along: integers, booleans and random keys too.

A module in which some inexact arrays are not trained is of a class of its own, which has
the class of the caller's module for its base and one more field, `not_trained`: the paths
of those arrays. So what is trained is part of the module, and goes wherever it goes:
through `jax.tree_util.tree_map` and `vmap`, into results, files and other processes.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import partial_eval
from jaxtyping import PyTree

from ._arrays import by_structure
from ._checks import shown
from .errors import InputError

Network = TypeVar("Network")

NOT_TRAINED, _WHOLE = "not_trained", "_whole_class"
_STATES = (eqx.nn.State, eqx.nn.StateIndex)


def split(network: Network) -> tuple[Network, Network]:
    """What is trained, and all else, each with `None` in the places of the other."""
    return eqx.partition(network, is_trained(network))


def parameters_of(network: Network) -> Network:
    """The arrays that are trained, and `None` in the place of all else."""
    return eqx.filter(network, is_trained(network))


def is_trained(network: PyTree) -> PyTree:
    """`True` in the place of every array that is trained, `False` for all other leaves."""
    structure = jax.tree_util.tree_structure(network)
    return structure.unflatten(list(_flags(network, "", frozenset())))


def not_trained(network: Any) -> tuple[str, ...]:
    """The paths of inexact arrays that are kept as they are."""
    return getattr(network, NOT_TRAINED) if _is_marked(network) else ()


def whole_class(network: Any) -> type:
    """The class that the caller gave the module."""
    return getattr(type(network), _WHOLE, type(network))


def with_trainable(network: Network, trainable: Any) -> Network:
    """The module, of which only what a filter says is trained.

    Arguments:
        trainable: a filter as for `equinox.partition`: a pytree prefix of the module, of
            booleans or functions of one leaf.

    Raises:
        InputError: for what is no such filter, and if nothing is left to train.
    """
    whole = without_training(network, ())
    if _is_marked(trainable):  # booleans in the form of a module that was marked before
        trainable = without_training(trainable, ())
    try:
        chosen = jax.tree_util.tree_map(_chosen, trainable, whole)
    except Exception as error:  # whatever a filter of another structure raises
        expected = "a filter of the network's arrays, as for equinox.partition"
        raise InputError("trainable", shown(trainable), expected) from error
    leaves = zip(_paths_of_leaves(whole), jax.tree_util.tree_leaves(chosen))
    kept = {path for path, is_chosen in leaves if not is_chosen}
    paths = _paths_of_trained(whole)
    if kept.issuperset(paths):
        found = "a filter that leaves nothing to train"
        raise InputError("trainable", found, "one that does")
    return without_training(whole, tuple(path for path in paths if path in kept))


def _chosen(mask: Any, part: PyTree) -> PyTree:
    """Whether each leaf of a part of a module is chosen, by a boolean or a function."""
    if not isinstance(mask, (bool, np.bool_)) and not callable(mask):
        raise TypeError(f"{mask!r} is neither a boolean nor a function")

    def of(leaf: Any) -> bool:
        answer = mask(leaf) if callable(mask) else mask
        if not isinstance(answer, (bool, np.bool_)):
            raise TypeError(f"{answer!r} is no boolean")
        return bool(answer)

    return jax.tree_util.tree_map(of, part)


def without_training(network: Network, paths: tuple[str, ...]) -> Network:
    """The module, of which the arrays at these paths are not trained, and no others."""
    if paths == not_trained(network):
        return network
    whole = whole_class(network)
    copy = object.__new__(partly_trained(whole) if paths else whole)
    for name, value in vars(network).items():
        if name != NOT_TRAINED:
            object.__setattr__(copy, name, value)
    if paths:
        object.__setattr__(copy, NOT_TRAINED, paths)
    return copy


@functools.cache
def partly_trained(cls: type) -> type:
    """The class of modules of this class of which a part is not trained."""
    return type(cls)(
        cls.__name__,
        (cls,),
        {
            "__module__": cls.__module__,
            "__qualname__": cls.__qualname__,
            "__doc__": cls.__doc__,
            "__annotations__": {NOT_TRAINED: "tuple[str, ...]"},
            NOT_TRAINED: eqx.field(static=True, default=()),
            _WHOLE: cls,
            "__reduce__": _reduce,
        },
    )


def trained_on(
    network: Network, function: Callable[..., PyTree], *given: PyTree
) -> Network:
    """The module, where arrays that no gradient of a function reaches are not trained.

    What a module says of itself already is left as it is, and so is one of which no array
    would be left.

    Arguments:
        function: of the network and of what is `given`.
    """
    if _is_marked(network):
        return network
    paths = _unreached(function, network, given)
    return network if paths is None else without_training(network, paths)


@by_structure
def _unreached(
    function: Callable[..., PyTree], network: eqx.Module, given: tuple[PyTree, ...]
) -> tuple[str, ...] | None:
    """The paths of arrays whose gradient is zero whatever the values are.

    The program of the derivative is written down, and what its outputs do not depend on
    crossed out. `None` if that cannot be done, or if nothing is reached.
    """
    parameters, rest = split(network)
    leaves, structure = jax.tree_util.tree_flatten(parameters)
    arrays, static = eqx.partition((rest, given), _is_shape)

    def tangents(directions, at, arrays):
        rest, given = eqx.combine(arrays, static)

        def outputs(leaves):
            one = eqx.combine(structure.unflatten(leaves), rest)
            found = function(one, *given)
            return jax.tree_util.tree_leaves(eqx.filter(found, eqx.is_inexact_array))

        return jax.jvp(outputs, (at,), (directions,))[1]

    try:
        program = jax.make_jaxpr(tangents)(leaves, leaves, arrays).jaxpr
        used = partial_eval.dce_jaxpr(program, [True] * len(program.outvars))[1]
    except Exception:  # whatever the caller's module raises, or no forward mode
        return None
    reached = used[: len(leaves)]
    paths = zip(_paths_of_trained(network), reached)
    return (
        tuple(path for path, is_reached in paths if not is_reached)
        if any(reached)
        else None
    )


def _is_shape(leaf: Any) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct)


def _is_inexact(leaf: Any) -> bool:
    if _is_shape(leaf):
        return jnp.issubdtype(leaf.dtype, jnp.inexact)
    return eqx.is_inexact_array(leaf)


def _is_marked(node: Any) -> bool:
    return hasattr(type(node), _WHOLE)


def _flags(tree: PyTree, prefix: str, frozen: frozenset[str]) -> Iterator[bool]:
    """For every leaf, in order, whether it is trained; paths begin with the `prefix`."""
    frozen = frozen.union(f"{prefix}{path}" for path in not_trained(tree))
    apart = lambda node: (
        node is not tree and (_is_marked(node) or isinstance(node, _STATES))
    )
    for path, node in jax.tree_util.tree_leaves_with_path(tree, is_leaf=apart):
        where = f"{prefix}{jax.tree_util.keystr(path)}"
        if isinstance(node, _STATES):
            yield from (False for _ in jax.tree_util.tree_leaves(node))
        elif _is_marked(node):
            yield from _flags(node, where, frozen)
        else:
            yield _is_inexact(node) and where not in frozen


def _paths_of_leaves(tree: PyTree) -> list[str]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [jax.tree_util.keystr(path) for path, _ in leaves]


def _paths_of_trained(network: PyTree) -> list[str]:
    flags = _flags(network, "", frozenset())
    return [path for path, flag in zip(_paths_of_leaves(network), flags) if flag]


def _reduce(self: Any) -> tuple[Any, ...]:
    return _restored, (whole_class(self), dict(vars(self)))


def _restored(cls: type, fields: dict[str, Any]) -> Any:
    module = object.__new__(partly_trained(cls))
    for name, value in fields.items():
        object.__setattr__(module, name, value)
    return module
