"""Ensembles: one module whose arrays have a leading axis, as `eqx.filter_vmap` makes it."""

from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from ..errors import InputError
from .parameters import flatten, parameter_dtype, unflattener

Network = TypeVar("Network", bound=eqx.Module)


def sample_ensemble(network: Network, num: int, *, key: PRNGKeyArray) -> Network:
    """Draw `num` initial directions for a network, uniform on the unit sphere.

    `w₀ = g / ‖g‖` with `g` standard normal over all parameters together, so `‖w₀‖ = 1`.

    **Arguments:**

    - `network`: any Equinox module; its inexact arrays are the parameters.
    - `num`: the number of members.
    - `key`: a PRNG key.

    **Returns:** the same module, every array with a leading axis of length `num`.

    **Raises:** `InputError` if `num` is not positive or a parameter is not floating.

    **Source:** arXiv:2403.08121, section 2 (`w(0) = δ w₀`, `‖w₀‖ = 1`).

    >>> import jax, jaxflow as jf
    >>> network = jf.DiagonalLinear(2, 3, key=jax.random.key(0))
    >>> sample_ensemble(network, 5, key=jax.random.key(1)).factors[0].shape
    (5, 1, 3)
    """
    if int(num) != num or num < 1:
        raise InputError("num", repr(num), "a whole number, at least 1")
    parameter_dtype(network)
    vector = flatten(network)
    gaussian = jax.random.normal(key, (int(num), vector.size), vector.dtype)
    sphere = gaussian / jax.numpy.linalg.norm(gaussian, axis=1, keepdims=True)
    return eqx.filter_vmap(unflattener(network))(sphere)


def num_members(ensemble: eqx.Module, argument: str = "networks") -> int:
    """The length of the leading axis that all arrays share, or an `InputError`."""
    arrays = jax.tree_util.tree_leaves_with_path(eqx.filter(ensemble, eqx.is_array))
    lengths = {array.shape[0] if array.ndim else -1 for _, array in arrays}
    if len(lengths) != 1 or -1 in lengths:
        found = ", ".join(
            f"{jax.tree_util.keystr(path)}: {array.shape[0] if array.ndim else None}"
            for path, array in arrays
        )
        raise InputError(
            argument, f"leading axes ({found})", "one leading axis shared by all arrays"
        )
    return lengths.pop()


def member(ensemble: Network, index: int) -> Network:
    """One network of an ensemble."""
    # Through NumPy: indexing a JAX array compiles a program for every shape.
    return jax.tree_util.tree_map(
        lambda leaf: jnp.asarray(np.asarray(leaf)[index]) if eqx.is_array(leaf) else leaf,
        ensemble,
    )
