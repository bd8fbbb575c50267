"""Ensembles: one module whose arrays have a leading axis, as `eqx.filter_vmap` makes it.

Or a recipe for one, `Initializations`, for more members than memory holds.
"""

import dataclasses
from typing import Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from ..errors import InputError
from ._parameters import as_jax, flatten, parameter_dtype, unflatten_rows, unflattener

Network = TypeVar("Network", bound=eqx.Module)


def sample_ensemble(network: Network, num: int, *, key: PRNGKeyArray) -> Network:
    """Draw `num` initial directions for a network, uniform on the unit sphere.

    `w₀ = g / ‖g‖` with `g` standard normal over all parameters together, so `‖w₀‖ = 1`.

    **Arguments:**

    - `network`: any Equinox module; its inexact arrays are the parameters.
    - `num`: the number of members.
    - `key`: a PRNG key. Member `i` is drawn from `jax.random.fold_in(key, i)`, so that it
      does not depend on how many there are.

    **Returns:** the same module, every array with a leading axis of length `num`.

    **Raises:** `InputError` if `num` is not positive or a parameter is not floating.

    **Source:** arXiv:2403.08121, section 2 (`w(0) = δ w₀`, `‖w₀‖ = 1`).

    >>> import jax, jaxflow as jf
    >>> network = jf.DiagonalLinear(2, 3, key=jax.random.key(0))
    >>> sample_ensemble(network, 5, key=jax.random.key(1)).factors[0].shape
    (5, 1, 3)
    """
    _check_count(num, least=1)
    parameter_dtype(network)
    return _draw(network, key, np.arange(int(num), dtype=np.int32))


@dataclasses.dataclass(frozen=True, repr=False)
class Initializations(Generic[Network]):
    """The members that `sample_ensemble` would draw, drawn when they are needed.

    `w₀ = g / ‖g‖` as there, and the same numbers. For ensembles that memory should not
    hold at once, with `store=`.

    **Arguments:**

    - `network`: any Equinox module; its inexact arrays are the parameters.
    - `num`: the number of members, which may be zero.
    - `key`: a PRNG key.

    **Raises:** `InputError` if `num` is negative or a parameter is not floating.

    **Source:** arXiv:2403.08121, section 2 (`w(0) = δ w₀`, `‖w₀‖ = 1`).

    >>> import jax, jaxflow as jf
    >>> network = jf.DiagonalLinear(2, 3, key=jax.random.key(0))
    >>> Initializations(network, 1_000_000, key=jax.random.key(1))
    Initializations(1,000,000 of DiagonalLinear)
    """

    network: Network
    num: int
    key: PRNGKeyArray = dataclasses.field(kw_only=True)

    def __post_init__(self):
        _check_count(self.num, least=0)
        parameter_dtype(self.network)

    def __repr__(self) -> str:
        return f"Initializations({int(self.num):,} of {type(self.network).__name__})"

    def members(self, rows: np.ndarray) -> Network:
        """The members with these numbers, stacked."""
        return _draw(self.network, self.key, rows.astype(np.int32))


@eqx.filter_jit
def _draw(network: Network, key: PRNGKeyArray, rows) -> Network:
    vector = flatten(network)

    def direction(row):
        gaussian = jax.random.normal(
            jax.random.fold_in(key, row), vector.shape, vector.dtype
        )
        return gaussian / jnp.linalg.norm(gaussian)

    # One after another: a batch would be rounded differently for every number of rows.
    return eqx.filter_vmap(unflattener(network))(jax.lax.map(direction, rows))


def slice_ensemble(
    center: Network, first: Network, second: Network, *, extent: float, resolution: int
) -> Network:
    """Initial directions on a plane through parameter space, for pictures of stable sets.

    `w₀ ∝ c + a p + b q` for `a`, `b` on a grid from `-extent` to `extent`, every one scaled
    to `‖w₀‖ = 1`.

    **Arguments:**

    - `center`, `first`, `second`: networks `c`, `p`, `q` of one structure.
    - `extent`: the largest `|a|` and `|b|`, positive.
    - `resolution`: points along each side of the grid, at least 2.

    **Returns:** the same module with a leading axis of `resolution²` members, row by row:
    `b` from below, and `a` from the left in each.

    **Raises:** `InputError` for an extent or a resolution that cannot be used, for networks
    of different structure, and if a member has no direction.

    >>> import jax, jaxflow as jf
    >>> c, p, q = (jf.DiagonalLinear(1, 2, key=jax.random.key(k)) for k in range(3))
    >>> slice_ensemble(c, p, q, extent=1.0, resolution=5).factors[0].shape
    (25, 1, 2)
    """
    _check_count(resolution, least=2, argument="resolution")
    if not 0 < extent < float("inf"):
        raise InputError("extent", repr(extent), "a positive number")
    shapes = [eqx.filter_eval_shape(lambda n=n: n) for n in (center, first, second)]
    if not (eqx.tree_equal(shapes[0], shapes[1]) and eqx.tree_equal(shapes[0], shapes[2])):
        raise InputError("first, second", "another structure", "that of the center")
    c, p, q = (np.asarray(flatten(network)) for network in (center, first, second))
    side = np.linspace(-extent, extent, int(resolution), dtype=c.dtype)
    b, a = (grid.reshape(-1, 1) for grid in np.meshgrid(side, side, indexing="ij"))
    rows = c + a * p + b * q
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.all(lengths > 0):
        raise InputError("center", "a plane through zero", "a plane that misses it")
    return as_jax(unflatten_rows(center, rows / lengths))


def _check_count(num, least: int, argument: str = "num") -> None:
    try:
        usable = int(num) == num and num >= least
    except (TypeError, ValueError):
        usable = False
    if not usable:
        raise InputError(argument, repr(num), f"a whole number, at least {least}")


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
    return members(ensemble, np.asarray(index))


def members(ensemble: Network, rows: np.ndarray) -> Network:
    """The networks at these places of an ensemble."""
    # Through NumPy: indexing a JAX array compiles a program for every shape.
    return jax.tree_util.tree_map(
        lambda leaf: jnp.asarray(np.asarray(leaf)[rows]) if eqx.is_array(leaf) else leaf,
        ensemble,
    )
