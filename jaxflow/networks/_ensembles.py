"""Ensembles: one module whose arrays have a leading axis, as `eqx.filter_vmap` makes it.

Or a recipe for one, `Initializations`, for more members than memory holds.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Generic, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, UInt32

from .._arrays import by_words
from .._checks import check_key, check_positive, check_rows, check_whole, shown
from .._compiled import compiled
from .._trained import parameters_of, with_trainable
from ..errors import InputError
from ._by_layer import DISTRIBUTIONS
from ._distributions import AbstractDistribution, as_distribution, SPHERE
from ._parameters import (
    as_jax,
    check_module,
    flatten,
    parameter_dtype,
    unflatten_rows,
    unflattener,
)
from ._single import check_one, seen

Network = TypeVar("Network", bound=eqx.Module)

_MOST = 2**63 - 1  # members are numbered by 64-bit integers
_MOST_AT_ONCE = 2**31 - 1  # in one ensemble in memory


def sample_ensemble(
    network: Network,
    num: int,
    *,
    key: PRNGKeyArray,
    trainable: Any = None,
    distribution: AbstractDistribution | str = "sphere",
) -> Network:
    """Draw `num` initial weights for a network, if not told otherwise directions.

    `w₀ = g / ‖g‖` with `g` standard normal over all parameters together, so `‖w₀‖ = 1`.

    Arguments:
        network: any Equinox module. Its parameters are the inexact arrays that a gradient
            reaches; every member has the others, as they are.
        num: the number of members, below 2³¹; `Initializations` has room for more.
        key: a PRNG key. Member `i` is drawn from `jax.random.fold_in(key, i)`, so that it
            does not depend on how many there are.
        trainable: which arrays are parameters, as for `jaxflow.gradient_flow`.
        distribution: of `w₀`. `"sphere"`: uniform on the unit sphere. Layer by layer, with
            `d` the entries that feed one and biases zero: `"gaussian"` with variance
            `1/d`, `"uniform"` between `-1/√d` and `1/√d`. `"balanced"`: what the flow of a
            chain of layers conserves is zero (`W_{l+1}ᵀ W_{l+1} = W_l W_lᵀ` if it is
            linear, `‖row_j W_l‖² = p ‖column_j W_{l+1}‖²` at every neuron for an activation
            of power `p`). `"symmetric"`: as for `jaxflow.Symmetric`. Or a
            `jaxflow.AbstractDistribution`, such as a `jaxflow.ByLayer`, which has a word
            for each layer, and may draw arrays that are not trained.

    Returns:
        The same module, every array with a leading axis of length `num`.

    Raises:
        InputError: if `num` is out of range, a parameter is not floating, or a distribution
            does not fit.

    Source:
        arXiv:2403.08121, section 2 (`w(0) = δ w₀`, `‖w₀‖ = 1`); arXiv:1806.00900, theorems
        2.1 and 2.2 (what is conserved).

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.DiagonalLinear(2, 3, key=jax.random.key(0))
        >>> jf.sample_ensemble(network, 5, key=jax.random.key(1)).factors[0].shape
        (5, 1, 3)
    """
    num = check_whole("num", num, most=_MOST_AT_ONCE)
    check_one(network)
    network = _settled(network, trainable)
    distribution = as_distribution(distribution, network, DISTRIBUTIONS)
    network = distribution.with_kept(network, check_key("key", key))
    return draw_members(network, key, np.arange(num), distribution)


@dataclasses.dataclass(frozen=True, repr=False)
class Initializations(Generic[Network]):
    """The members that `sample_ensemble` would draw, drawn when they are needed.

    `w₀ = g / ‖g‖` as there, and the same numbers. For ensembles that memory should not
    hold at once, with `store=`, and for a part of one: all members that a key can draw are
    numbered, from 0 to 2⁶³ - 1, and these are `num` of them.

    `initializations[10:20]` are some of them, `len()` says how many there are, and they can
    be pickled, as far as the network can.

    Arguments:
        network: any Equinox module, with parameters as for `sample_ensemble`.
        num: the number of members, which may be zero.
        key: a PRNG key.
        start: the number of the first member.
        trainable: which arrays are parameters, as for `jaxflow.gradient_flow`.
        distribution: of `w₀`, as for `sample_ensemble`.

    Raises:
        InputError: if `num` or `start` is negative, a member's number is 2⁶³ or more, a
            parameter is not floating, or a distribution does not fit.

    Source:
        arXiv:2403.08121, section 2 (`w(0) = δ w₀`, `‖w₀‖ = 1`).

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.DiagonalLinear(2, 3, key=jax.random.key(0))
        >>> many = jf.Initializations(network, 1_000_000, key=jax.random.key(1))
        >>> many
        Initializations(1,000,000 of DiagonalLinear)
        >>> many[10:20]
        Initializations(10 of DiagonalLinear, from 10)
    """

    network: Network
    num: int
    key: PRNGKeyArray = dataclasses.field(kw_only=True)
    start: int = dataclasses.field(kw_only=True, default=0)
    trainable: dataclasses.InitVar[Any] = dataclasses.field(kw_only=True, default=None)
    distribution: AbstractDistribution | str = dataclasses.field(
        kw_only=True, default="sphere"
    )

    def __post_init__(self, trainable: Any):
        for name in ("num", "start"):
            whole = check_whole(name, getattr(self, name), least=0, most=_MOST)
            object.__setattr__(self, name, whole)
        if self.start + self.num > _MOST:
            found = f"{self.num} members from {self.start}"
            raise InputError("num, start", found, "a sum of at most 2**63 - 1")
        check_one(self.network)
        object.__setattr__(self, "network", _settled(self.network, trainable))
        distribution = as_distribution(self.distribution, self.network, DISTRIBUTIONS)
        object.__setattr__(self, "distribution", distribution)
        network = distribution.with_kept(self.network, check_key("key", self.key))
        object.__setattr__(self, "network", network)

    def __repr__(self) -> str:
        first = f", from {self.start:,}" if self.start else ""
        return f"Initializations({self.num:,} of {type(self.network).__name__}{first})"

    def __len__(self) -> int:
        return self.num

    def __getitem__(self, chosen: slice) -> "Initializations[Network]":
        """The members of this range."""
        if not isinstance(chosen, slice) or chosen.step not in (None, 1):
            raise InputError("members", shown(chosen), "a range first:end without a step")
        try:
            first, end, _ = chosen.indices(self.num)
        except TypeError as error:
            raise InputError("members", shown(chosen), "whole numbers") from error
        return dataclasses.replace(self, num=max(end - first, 0), start=self.start + first)

    def numbers(self, rows: np.ndarray) -> np.ndarray:
        """The numbers of members among all that the key can draw, from those here."""
        return self.start + check_rows("rows", rows, self.num)

    def members(self, rows: np.ndarray) -> Network:
        """The members with these numbers, counted from `start`, stacked."""
        numbers = self.numbers(rows)
        return draw_members(self.network, self.key, numbers, self.distribution)

    def __getstate__(self) -> dict[str, Any]:
        # Typed keys cannot be pickled; the integers that they are made of can.
        state = {**vars(self)}
        if jnp.issubdtype(self.key.dtype, jax.dtypes.prng_key):
            state["key"] = np.asarray(jax.random.key_data(self.key))
            state["key_impl"] = str(jax.random.key_impl(self.key))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = {**state}
        impl = state.pop("key_impl", None)
        if impl is not None:
            state["key"] = jax.random.wrap_key_data(jnp.asarray(state["key"]), impl=impl)
        vars(self).update(state)


def _settled(network: Network, trainable: Any) -> Network:
    """The network with what is trained in it known, and of one floating type."""
    network = network if trainable is None else with_trainable(network, trainable)
    parameter_dtype(network)
    return seen(network) if trainable is None else network


class MemberNumber(NamedTuple):
    """A member's number in halves of 32 bits: JAX has no wider integers unless told."""

    low: UInt32[Array | np.ndarray, "*members"]
    high: UInt32[Array | np.ndarray, "*members"]


def member_numbers(numbers: np.ndarray) -> MemberNumber:
    """Numbers of members, (members,), for use under a trace."""
    numbers = np.asarray(numbers, np.int64)
    low = (numbers & 0xFFFFFFFF).astype(np.uint32)
    return MemberNumber(low, (numbers >> 32).astype(np.uint32))


def member_key(key: PRNGKeyArray, number: MemberNumber) -> PRNGKeyArray:
    """The key of one member, from its number alone.

    `fold_in(key, i)` for `i < 2³²`; beyond, the upper half of the number is folded in too.
    """
    lower = jax.random.fold_in(key, number.low)
    return jnp.where(number.high == 0, lower, jax.random.fold_in(lower, number.high))


def draw_members(
    network: Network,
    key: PRNGKeyArray,
    numbers: np.ndarray,
    distribution: Any = SPHERE,
) -> Network:
    """The members of these numbers, of all that a key can draw, stacked."""
    return _draw(network, distribution, key, member_numbers(numbers))


@compiled
def _draw(
    network: Network, distribution: Any, key: PRNGKeyArray, words: MemberNumber
) -> Network:
    parameters = parameters_of(network)

    def vector(word: MemberNumber) -> Float[Array, " parameters"]:
        return ravel_pytree(distribution(parameters, member_key(key, word)))[0]

    # One after another: a batch would be rounded differently for every number of rows.
    return eqx.filter_vmap(unflattener(network))(jax.lax.map(vector, words))


def slice_ensemble(
    center: Network, first: Network, second: Network, *, extent: float, resolution: int
) -> Network:
    """Initial directions on a plane through parameter space, for pictures of stable sets.

    `w₀ ∝ c + a p + b q` for `a`, `b` on a grid from `-extent` to `extent`, every one scaled
    to `‖w₀‖ = 1`.

    Arguments:
        center: the network `c`.
        first: the network `p`, of the same structure.
        second: the network `q`, likewise.
        extent: the largest `|a|` and `|b|`, positive.
        resolution: points along each side of the grid, at least 2.

    Returns:
        The same module with a leading axis of `resolution²` members, row by row: `b` from
        below, and `a` from the left in each.

    Raises:
        InputError: for an extent or a resolution that cannot be used, for networks of
            different structure, and if a member has no direction.

    Examples:
        >>> import jax, jaxflow as jf
        >>> c, p, q = (jf.DiagonalLinear(1, 2, key=jax.random.key(k)) for k in range(3))
        >>> jf.slice_ensemble(c, p, q, extent=1.0, resolution=5).factors[0].shape
        (25, 1, 2)
    """
    resolution = check_whole("resolution", resolution, least=2)
    extent = check_positive("extent", extent)
    for name, network in (("center", center), ("first", first), ("second", second)):
        check_one(network, name)
        parameter_dtype(network, name)
    shapes = [eqx.filter_eval_shape(lambda n=n: n) for n in (center, first, second)]
    for name, shape in (("first", shapes[1]), ("second", shapes[2])):
        if not eqx.tree_equal(shapes[0], shape):
            raise InputError(name, "another structure", "that of the center")
    c, p, q = (np.asarray(flatten(network)) for network in (center, first, second))
    side = np.linspace(-extent, extent, resolution, dtype=c.dtype)
    b, a = (grid.reshape(-1, 1) for grid in np.meshgrid(side, side, indexing="ij"))
    rows = c + a * p + b * q
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.all(lengths > 0):
        raise InputError("center", "a plane through zero", "a plane that misses it")
    return as_jax(unflatten_rows(center, rows / lengths))


def num_members(ensemble: eqx.Module, argument: str = "networks") -> int:
    """The length of the leading axis that all arrays share, or an `InputError`."""
    check_module(ensemble, argument)
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


def members(ensemble: Network, rows: np.ndarray | None) -> Network:
    """The networks at these places of an ensemble; `None` adds a leading axis."""
    # Through NumPy: indexing a JAX array compiles a program for every shape.
    pick = lambda array: array[rows]
    return jax.tree_util.tree_map(
        lambda leaf: as_jax(by_words(pick, leaf)) if eqx.is_array(leaf) else leaf,
        ensemble,
    )
