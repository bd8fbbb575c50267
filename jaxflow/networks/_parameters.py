"""A network's parameters as one flat vector, and back.

The parameters of an Equinox module are those of its inexact arrays that are trained
(`_trained.py`). Everything else in it (sizes, functions, masks, frozen arrays) is its
structure, which flows carry along and never change.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from .._arrays import on_device, repeated
from .._checks import check_precision, shown
from .._trained import parameters_of, split
from ..errors import InputError

Network = TypeVar("Network")


def check_module(network: Any, argument: str = "network") -> None:
    """Raises `InputError` for what is no Equinox module, or none that is called."""
    if not isinstance(network, eqx.Module):
        raise InputError(argument, shown(network), "an equinox.Module")
    if not callable(network):
        found = f"a {type(network).__name__}, which cannot be called on a sample"
        raise InputError(argument, found, "one network")


def flatten(network: eqx.Module) -> Float[Array, " parameters"]:
    """All parameters of one network in one vector, in the order of its leaves."""
    check_module(network)
    return ravel_pytree(parameters_of(network))[0]


def unflattener(network: eqx.Module) -> Callable[[Float[Array, " parameters"]], eqx.Module]:
    """The function that puts a vector of parameters into the structure of `network`."""
    check_module(network)
    parameters, structure = split(network)
    _, unravel = ravel_pytree(parameters)
    return lambda vector: eqx.combine(unravel(vector), structure)


class Parameters(eqx.Module):
    """Puts a vector of parameters into the pytree that an optimizer sees.

    Arguments:
        network: of which only the structure is read.
    """

    network: eqx.Module

    def __call__(self, vector: Float[Array, " parameters"]) -> PyTree:
        return parameters_of(unflattener(self.network)(vector))


def parameter_dtype(network: eqx.Module, argument: str = "network") -> jnp.dtype:
    """The one floating type of the network's parameters, or an `InputError`."""
    check_module(network, argument)
    arrays = jax.tree_util.tree_leaves_with_path(parameters_of(network))
    if not arrays:
        held = (
            "to train"
            if jax.tree_util.tree_leaves(eqx.filter(network, eqx.is_array))
            else ""
        )
        found = f"a module without arrays {held}".rstrip()
        raise InputError(argument, found, "a module with parameters")
    for path, array in arrays:
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise InputError(
                argument,
                f"an array of {array.dtype} at {jax.tree_util.keystr(path)}",
                "real parameters only",
            )
    dtypes = sorted({str(array.dtype) for _, array in arrays})
    if len(dtypes) > 1:
        raise InputError(argument, f"parameters of {' and '.join(dtypes)}", "one dtype")
    return check_precision(argument, arrays[0][1].dtype)


def flatten_rows(networks: eqx.Module) -> np.ndarray:
    """One vector of parameters in every row, in NumPy, from stacked networks."""
    leaves = jax.tree_util.tree_leaves(parameters_of(networks))
    arrays = [np.asarray(leaf) for leaf in leaves]
    return np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)


def as_jax(networks: Network) -> Network:
    """The same networks with JAX arrays for NumPy's."""
    return jax.tree_util.tree_map(
        lambda leaf: on_device(leaf) if eqx.is_array(leaf) else leaf, networks
    )


def unflatten_rows(network: Network, rows: np.ndarray) -> Network:
    """Stacked networks, in NumPy, from one vector of parameters in every row."""
    # Not by JAX, which would compile a program for every number of rows.
    parameters, structure = split(network)
    leaves, treedef = jax.tree_util.tree_flatten(parameters)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    stacked = [
        np.ascontiguousarray(part).reshape(len(rows), *leaf.shape)
        for part, leaf in zip(np.split(rows, ends, axis=1), leaves)
    ]
    kept = jax.tree_util.tree_map(
        lambda leaf: repeated(leaf, len(rows)) if eqx.is_array(leaf) else leaf, structure
    )
    return eqx.combine(treedef.unflatten(stacked), kept)
