"""Initial weights for which each layer has a word of its own."""

import math
import types
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from .._checks import shown
from .._compiled import compiled
from .._trained import is_trained, without_training
from ..errors import InputError
from ._chains import as_feed_forward
from ._distributions import (
    AbstractDistribution,
    Balanced,
    Gaussian,
    is_bias,
    named_distribution,
    positive_if_given,
    size_of,
    SPHERE,
    Uniform,
)
from ._named import check_names, is_of, name_of, named_arrays


class Signs(AbstractDistribution):
    """Entries `+s` in the first half of the columns and `-s` in the second: none is random.

    For a layer of outer weights, half of which are positive. A middle column is positive.

    Arguments:
        size: `s`, positive; `1/√d` if not given, `d` the entries that feed one.

    Raises:
        InputError: for other sizes.

    Source:
        arXiv:2210.07082 and arXiv:2310.18935 (a second layer that is fixed at `±1/√m`).

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.FeedForward((3, 4, 1), jf.LeakyReLU(0.2), key=jax.random.key(0))
        >>> layers = jf.ByLayer({"weights[1]": jf.Signs()})
        >>> drawn = jf.sample_ensemble(
        ...     network, 2, key=jax.random.key(1), distribution=layers
        ... )
        >>> drawn.weights[1][0].tolist()
        [[0.5, 0.5, -0.5, -0.5]]
    """

    size: float | None = eqx.field(
        static=True, default=None, converter=positive_if_given("size")
    )

    def __call__(self, parameters, key):
        return jax.tree_util.tree_map(self._of, parameters)

    def _of(self, leaf: Array) -> Array:
        size = size_of(leaf, self.size)
        columns = math.prod(leaf.shape[1:]) if leaf.ndim > 1 else leaf.size
        signs = np.where(np.arange(columns) < (columns + 1) // 2, size, -size)
        rows = np.broadcast_to(signs, (leaf.size // max(columns, 1), columns))
        return jnp.asarray(rows.reshape(leaf.shape), leaf.dtype)


class _Drawn(AbstractDistribution):
    """By a function as those of `jax.nn.initializers` are."""

    function: Callable

    def __call__(self, parameters, key):
        return self.function(key, parameters.shape, parameters.dtype)


class ByLayer(AbstractDistribution):
    """Each array of a network is drawn as is said for it.

    Arrays that are trained are drawn for every member. Those that are not, and are named,
    are drawn once, and all members have them; others that are not trained stay as they are.

    Arguments:
        layers: for the names of arrays or parts of the network, as one would write them
            behind it (`"weights[0]"`), how they are drawn: `"gaussian"`, `"uniform"`,
            `"signs"`, `"sphere"`, a `jaxflow.Gaussian`, `Uniform`, `Signs` or other
            distribution, which is then called with one array, or a function of key, shape
            and type as those of `jax.nn.initializers` are.
        otherwise: how arrays that are trained and not named are drawn. Biases are zero if
            it is not by their own name that they are drawn.

    Raises:
        InputError: for what is no such mapping; and, where it is used, for names that the
            network does not have.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.FeedForward((3, 4, 1), jf.LeakyReLU(0.2), key=jax.random.key(0))
        >>> layers = {"weights[0]": jf.Gaussian(1e-3), "weights[1]": "signs"}
        >>> drawn = jf.sample_ensemble(
        ...     network,
        ...     2,
        ...     key=jax.random.key(1),
        ...     trainable=jf.all_but(network, "weights[1]"),
        ...     distribution=jf.ByLayer(layers),
        ... )
        >>> drawn.weights[1].tolist()
        [[[0.5, 0.5, -0.5, -0.5]], [[0.5, 0.5, -0.5, -0.5]]]
    """

    layers: dict[str, AbstractDistribution]
    otherwise: AbstractDistribution

    def __init__(
        self, layers: Mapping[str, Any], otherwise: AbstractDistribution | str = "gaussian"
    ):
        if not isinstance(layers, Mapping):
            raise InputError(
                "layers", shown(layers), "names of arrays, and a word for each"
            )
        self.layers = {}
        for name, rule in layers.items():
            if not isinstance(name, str):
                raise InputError("layers", shown(name), "names of arrays")
            self.layers[name] = _as_rule("layers", rule)
        self.otherwise = _as_rule("otherwise", otherwise)

    def fitted(self, network):
        check_names("distribution", tuple(self.layers), network)
        return self

    def __call__(self, parameters, key):
        leaves, structure = jax.tree_util.tree_flatten_with_path(parameters)
        keys = jax.random.split(key, max(len(leaves), 1))
        drawn = [
            self._rule(name_of(path))(leaf, own) for (path, leaf), own in zip(leaves, keys)
        ]
        return structure.unflatten(drawn)

    def with_kept(self, network, key):
        trained = jax.tree_util.tree_leaves(is_trained(network))
        leaves, structure = jax.tree_util.tree_flatten_with_path(network)
        found = []
        for number, ((path, leaf), is_drawn) in enumerate(zip(leaves, trained)):
            named = any(is_of(name_of(path), name) for name in self.layers)
            if named and not is_drawn and eqx.is_inexact_array(leaf):
                leaf = _kept(self._rule(name_of(path)), leaf, _key_of_kept(key, number))
            found.append(leaf)
        return structure.unflatten(found)

    def _rule(self, name: str) -> AbstractDistribution:
        """That of the longest name that the array is of; for biases their own or none."""
        if is_bias(name):
            return self.layers.get(name, _Drawn(jax.nn.initializers.zeros))
        fit = [whole for whole in self.layers if is_of(name, whole)]
        return self.layers[max(fit, key=len)] if fit else self.otherwise


class Symmetric(AbstractDistribution):
    """Neurons in pairs of opposite outer weight: the output is zero at the start.

    In a chain of matrices `W_D σ(W_{D-1} …)` row `j + m/2` of `W_{D-1}` is row `j`, and
    column `j + m/2` of `W_D` is column `j` with the other sign, so that each pair cancels.

    Arguments:
        of: how the first of each pair is drawn: a name, or a distribution.

    Raises:
        InputError: for what is no distribution; and, where it is used, for a network that
            is no chain, or whose last hidden layer is of odd width.

    Source:
        arXiv:1812.07956 (symmetrized initialization, so that the first output is zero).

    Examples:
        >>> import jax, jax.numpy as jnp, jaxflow as jf
        >>> network = jf.FeedForward((3, 4, 1), jf.LeakyReLU(0.2), key=jax.random.key(0))
        >>> drawn = jf.sample_ensemble(
        ...     network, 5, key=jax.random.key(1), distribution=jf.Symmetric()
        ... )
        >>> outputs = jax.vmap(lambda one: one(jnp.ones(3)))(drawn)
        >>> bool(abs(outputs).max() < 1e-15)
        True
    """

    of: AbstractDistribution

    def __init__(self, of: AbstractDistribution | str = "gaussian"):
        self.of = named_distribution("of", of, _OF_NETWORKS)

    def fitted(self, network):
        chain = as_feed_forward(without_training(network, ()))
        arrays = named_arrays(network)
        num = len(arrays)
        if chain is None or num < 2 or num != len(chain.weights):
            found = f"pairs of neurons for a {type(network).__name__}"
            expected = "a chain of matrices without biases, such as a FeedForward"
            raise InputError("distribution", found, expected)
        width = chain.weights[-1].shape[1]
        if width % 2:
            found = f"pairs of {width} neurons"
            raise InputError(
                "distribution", found, "an even number in the last hidden layer"
            )
        *_, rows, columns = arrays
        return _Paired(self.of.fitted(network), rows, columns)

    def __call__(self, parameters, key):
        found = "pairs of neurons of a network that is not known"
        raise InputError("distribution", found, "a call of what fitted(network) gives")


class _Paired(AbstractDistribution):
    """`Symmetric`, where it is known which arrays have the neurons."""

    of: AbstractDistribution
    rows: str = eqx.field(static=True)
    columns: str = eqx.field(static=True)

    def __call__(self, parameters, key):
        return self._in_pairs(self.of(parameters, key))

    def with_kept(self, network, key):
        is_kept = jax.tree_util.tree_map(lambda trained: not trained, is_trained(network))
        kept, rest = eqx.partition(self.of.with_kept(network, key), is_kept)
        return eqx.combine(self._in_pairs(kept), rest)

    def _in_pairs(self, tree):
        return jax.tree_util.tree_map_with_path(self._half_again, tree)

    def _half_again(self, path, leaf):
        name = name_of(path)
        if name == self.rows:
            half = leaf[: leaf.shape[0] // 2]
            return jnp.concatenate([half, half])
        if name == self.columns:
            half = leaf.reshape(1, -1) if leaf.ndim == 1 else leaf
            half = half[:, : half.shape[1] // 2]
            return jnp.concatenate([half, -half], axis=1).reshape(leaf.shape)
        return leaf


_OF_LAYERS: Mapping[str, AbstractDistribution] = types.MappingProxyType(
    {"sphere": SPHERE, "gaussian": Gaussian(), "uniform": Uniform(), "signs": Signs()}
)
_OF_NETWORKS: Mapping[str, AbstractDistribution] = types.MappingProxyType(
    {
        "sphere": SPHERE,
        "gaussian": Gaussian(),
        "uniform": Uniform(),
        "balanced": Balanced(),
    }
)
DISTRIBUTIONS: Mapping[str, AbstractDistribution] = types.MappingProxyType(
    {**_OF_NETWORKS, "symmetric": Symmetric()}
)
"""Those that have a name."""


def _as_rule(argument: str, given: Any) -> AbstractDistribution:
    """How one array is drawn."""
    if not isinstance(given, (type, eqx.Module)) and callable(given):
        return _Drawn(given)
    return named_distribution(argument, given, _OF_LAYERS)


_OF_KEPT = 2**31
"""Folded into the key of member 0 it gives that of no member: the upper halves of their
numbers, which are folded in at that place, are below."""


def _key_of_kept(key: PRNGKeyArray, number: int) -> PRNGKeyArray:
    return jax.random.fold_in(jax.random.fold_in(key, 0), _OF_KEPT + number)


def _kept(rule: AbstractDistribution, leaf: Array, key: PRNGKeyArray) -> Array:
    found = _drawn(rule, leaf, key)
    if (found.shape, found.dtype) != (leaf.shape, leaf.dtype):
        told = f"one that gives {found.dtype}{list(found.shape)}"
        raise InputError("distribution", told, f"{leaf.dtype}{list(leaf.shape)}")
    return found


@compiled
def _drawn(rule, leaf, key):
    return rule(leaf, key)
