"""The arrays of a network by name, as one writes them behind it: `weights[0]`."""

from collections.abc import Sequence

import equinox as eqx
import jax
from jaxtyping import Array, PyTree

from .._checks import shown
from ..errors import InputError
from ._parameters import check_module


def named_arrays(network: PyTree) -> dict[str, Array]:
    """All inexact arrays, in order, trained or not, by their names."""
    leaves = jax.tree_util.tree_leaves_with_path(network)
    return {name_of(path): leaf for path, leaf in leaves if eqx.is_inexact_array(leaf)}


def name_of(path: tuple) -> str:
    return jax.tree_util.keystr(path).removeprefix(".")


def is_of(name: str, whole: str) -> bool:
    """Whether an array is a part of what has the other name, or is it itself."""
    return name == whole or name.startswith((f"{whole}.", f"{whole}["))


def check_names(argument: str, wanted: Sequence[str], network: eqx.Module) -> None:
    """Raises `InputError` for what is no name, or that of nothing in the network."""
    there = named_arrays(network)
    for name in wanted:
        if not isinstance(name, str) or not any(is_of(each, name) for each in there):
            found = f"{shown(name)}, which a {type(network).__name__} has not"
            raise InputError(argument, found, f"of {', '.join(there)}")


def all_but(network: eqx.Module, *names: str) -> PyTree[bool]:
    """A filter for `trainable=` of all arrays of a network but those of these names.

    Arguments:
        network: one network, or an ensemble.
        names: of arrays that are kept as they are, or of parts of the network, as one would
            write them behind it: `"weights[1]"`, or `"layers[0].bias"`, or `"layers"`.

    Returns:
        The network with `True` or `False` in the place of each of its leaves.

    Raises:
        InputError: for names that the network does not have.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.FeedForward((3, 8, 1), jf.LeakyReLU(0.2), key=jax.random.key(0))
        >>> first = jf.all_but(network, "weights[1]")
        >>> jf.order(network), jf.order(network, trainable=first)
        (2, 1)
        >>> drawn = jf.sample_ensemble(network, 5, key=jax.random.key(1), trainable=first)
        >>> bool((drawn.weights[1][3] == network.weights[1]).all())
        True
    """
    check_module(network)
    check_names("names", names, network)
    return jax.tree_util.tree_map_with_path(
        lambda path, _: not any(is_of(name_of(path), name) for name in names), network
    )
