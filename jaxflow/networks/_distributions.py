"""How initial weights are drawn: on the sphere, layer by layer, or balanced."""

import abc
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .._checks import check_not_negative, check_positive, shown
from .._trained import parameters_of
from ..errors import InputError
from ._activations import is_linear, leaky_relus
from ._chains import as_feed_forward

Network = TypeVar("Network", bound=eqx.Module)


def positive_if_given(argument: str) -> Callable[[Any], float | None]:
    """A converter of a field: a positive number, or `None`."""
    return lambda value: None if value is None else check_positive(argument, value)


class AbstractDistribution(eqx.Module):
    """How the weights of a member are drawn before they are scaled by δ.

    Subclass it for a distribution of your own, and pass an instance as `distribution=` to
    `jaxflow.Initializations` or `sample_ensemble`. A call draws one member, under a trace,
    from its own key: so it depends on the key and the member's number only.

    Examples:
        >>> import jax, jaxflow as jf
        >>> class Rademacher(jf.AbstractDistribution):
        ...     def __call__(self, parameters, key):
        ...         leaves, structure = jax.tree_util.tree_flatten(parameters)
        ...         keys = jax.random.split(key, len(leaves))
        ...         drawn = [
        ...             jax.random.rademacher(key, leaf.shape, leaf.dtype)
        ...             for key, leaf in zip(keys, leaves)
        ...         ]
        ...         return structure.unflatten(drawn)
        >>> network = jf.DiagonalLinear(2, 3, key=jax.random.key(0))
        >>> drawn = jf.sample_ensemble(
        ...     network, 4, key=jax.random.key(1), distribution=Rademacher()
        ... )
        >>> abs(drawn.factors[0]).mean().item()
        1.0
    """

    @abc.abstractmethod
    def __call__(self, parameters: PyTree[Array], key: PRNGKeyArray) -> PyTree[Array]:
        """One member's parameters.

        Arguments:
            parameters: the trained arrays of the network, of which shapes and types count.
            key: the member's.

        Returns:
            Arrays of the same structure.
        """

    def fitted(self, network: eqx.Module) -> "AbstractDistribution":
        """The distribution for this network, of which it may ask what it needs to know.

        Raises:
            InputError: if it does not fit.
        """
        return self

    def with_kept(self, network: Network, key: PRNGKeyArray) -> Network:
        """The network, of which arrays that are not trained may be drawn too.

        Once, from the key of all members, which have them in common. As they are if not
        overridden.
        """
        return network


class Sphere(AbstractDistribution):
    """A direction, uniform on the unit sphere: `w₀ = g / ‖g‖`, `g` standard normal.

    Source:
        arXiv:2403.08121, section 2.
    """

    def __call__(self, parameters, key):
        vector, unravel = ravel_pytree(parameters)
        normal = jax.random.normal(key, vector.shape, vector.dtype)
        return unravel(normal / jnp.linalg.norm(normal))


def _of_biases(value: Any) -> float:
    return check_not_negative("biases", value)


class Gaussian(AbstractDistribution):
    """Layer by layer: normal entries of variance `1/d`, `d` the entries that feed one.

    An array of axes (out, in, …) has `d` entries behind its first axis, one of a single
    axis its length. Biases, which are arrays with that in their name, are zero, if nothing
    else is said.

    Arguments:
        deviation: the standard deviation of all entries, positive; `1/√d` if not given.
        biases: that of biases, not negative.

    Raises:
        InputError: for other numbers.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.FeedForward((9, 9, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> drawn = jf.sample_ensemble(
        ...     network, 99, key=jax.random.key(1), distribution=jf.Gaussian(1e-3)
        ... )
        >>> round(float(drawn.weights[0].std()), 4)
        0.001
    """

    deviation: float | None = eqx.field(
        static=True, default=None, converter=positive_if_given("deviation")
    )
    biases: float = eqx.field(static=True, default=0.0, converter=_of_biases)

    def __call__(self, parameters, key):
        draw = lambda key, shape, dtype: jax.random.normal(key, shape, dtype)
        return _by_array(parameters, key, draw, self.deviation, self.biases)


class Uniform(AbstractDistribution):
    """Layer by layer: entries uniform between `-1/√d` and `1/√d`, `d` as for `Gaussian`.

    Arguments:
        bound: of the size of all entries, positive; `1/√d` if not given.
        biases: that of biases, not negative.

    Raises:
        InputError: for other numbers.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.FeedForward((9, 9, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> drawn = jf.sample_ensemble(
        ...     network, 99, key=jax.random.key(1), distribution=jf.Uniform(1e-3)
        ... )
        >>> round(float(drawn.weights[0].max()), 4)
        0.001
    """

    bound: float | None = eqx.field(
        static=True, default=None, converter=positive_if_given("bound")
    )
    biases: float = eqx.field(static=True, default=0.0, converter=_of_biases)

    def __call__(self, parameters, key):
        draw = lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -1.0, 1.0)
        return _by_array(parameters, key, draw, self.bound, self.biases)


class Balanced(AbstractDistribution):
    """What gradient flow keeps the same is zero: layers of one size at every neuron.

    For a chain `W_D σ(W_{D-1} … σ(W_1 x))` with an activation of power `p`, gradient flow
    conserves `‖row_j W_l‖² - p ‖column_j W_{l+1}‖²` for every neuron. `W_1` is drawn as by
    `Gaussian`, and the columns of each further layer are made as long as that asks. Where
    the activation is linear it conserves `W_{l+1}ᵀ W_{l+1} - W_l W_lᵀ`, and the layers are
    `U_l S^{1/D} U_{l-1}ᵀ` with one matrix `S` of the singular values of a Gaussian matrix
    from input to output, and orthonormal columns drawn at random.

    Source:
        arXiv:1806.00900, theorems 2.1 (for `p = 1`) and 2.2 (what is conserved);
        arXiv:1810.02281, procedure 1 (balanced linear layers).
    """

    power: float | None = eqx.field(static=True, default=None)

    def fitted(self, network):
        chain = as_feed_forward(network)
        if chain is None:
            found = f'"balanced" for a {type(network).__name__}'
            expected = "a chain of matrices without biases, such as a FeedForward"
            raise InputError("distribution", found, expected)
        if is_linear(chain.activation):
            return BalancedLinear()
        activations = leaky_relus(chain.activation)
        if len(activations) != 1:
            found = f'"balanced" with {shown(chain.activation)}'
            raise InputError("distribution", found, "one LeakyReLU, whose power is known")
        return Balanced(float(activations[0].power))

    def __call__(self, parameters, key):
        leaves, structure = jax.tree_util.tree_flatten(Gaussian()(parameters, key))
        drawn = [_matrix(leaves[0])]
        for leaf in leaves[1:]:
            matrix = _matrix(leaf, out_of=drawn[-1].shape[0])
            wanted = jnp.linalg.norm(drawn[-1], axis=1) / math.sqrt(self.power or 1.0)
            drawn.append(matrix * (wanted / jnp.linalg.norm(matrix, axis=0))[None])
        shaped = [one.reshape(leaf.shape) for one, leaf in zip(drawn, leaves)]
        return structure.unflatten(shaped)


class BalancedLinear(AbstractDistribution):
    """`Balanced`, where the activation is linear."""

    def __call__(self, parameters, key):
        leaves, structure = jax.tree_util.tree_flatten(parameters)
        sizes = [_matrix(leaves[0]).shape[1]]
        for leaf in leaves:
            sizes.append(_matrix(leaf, out_of=sizes[-1]).shape[0])
        rank, dtype = min(sizes), leaves[0].dtype
        keys = jax.random.split(key, len(sizes) + 1)
        whole = jax.random.normal(keys[-1], (sizes[-1], sizes[0]), dtype)
        values = jnp.linalg.svd(whole / math.sqrt(sizes[0]), compute_uv=False)[:rank]
        each = values ** (1 / len(leaves))
        bases = [
            jnp.linalg.qr(jax.random.normal(key, (size, rank), dtype))[0]
            for key, size in zip(keys, sizes)
        ]
        drawn = [
            ((after * each[None]) @ before.T).reshape(leaf.shape)
            for (before, after), leaf in zip(itertools.pairwise(bases), leaves)
        ]
        return structure.unflatten(drawn)


SPHERE = Sphere()


def as_distribution(
    given: Any, network: eqx.Module, known: Mapping[str, AbstractDistribution]
) -> AbstractDistribution:
    """The distribution of that name, or a caller's own, for a network.

    Arguments:
        known: those that have a name.

    Raises:
        InputError: for what is none, or does not fit the network.
    """
    fitted = named_distribution("distribution", given, known).fitted(network)
    parameters = parameters_of(network)
    found, wanted = (
        jax.tree_util.tree_map(lambda leaf: (leaf.shape, str(leaf.dtype)), tree)
        for tree in (jax.eval_shape(fitted, parameters, jax.random.key(0)), parameters)
    )
    if found != wanted:
        raise InputError("distribution", f"one that gives {found}", f"{wanted}")
    return fitted


def named_distribution(
    argument: str, given: Any, known: Mapping[str, AbstractDistribution]
) -> AbstractDistribution:
    """The distribution of that name, or a caller's own."""
    if isinstance(given, str) and given in known:
        return known[given]
    if not isinstance(given, AbstractDistribution):
        names = ", ".join(f'"{name}"' for name in known)
        raise InputError(
            argument, shown(given), f"{names} or a jaxflow.AbstractDistribution"
        )
    return given


def _by_array(parameters, key, draw, size, biases):
    leaves = jax.tree_util.tree_leaves_with_path(parameters)
    keys = jax.random.split(key, max(len(leaves), 1))

    def one(path, leaf, key):
        if not is_bias(jax.tree_util.keystr(path)):
            return draw(key, leaf.shape, leaf.dtype) * size_of(leaf, size)
        return (
            biases * draw(key, leaf.shape, leaf.dtype) if biases else jnp.zeros_like(leaf)
        )

    drawn = [one(*leaf, key) for leaf, key in zip(leaves, keys)]
    return jax.tree_util.tree_structure(parameters).unflatten(drawn)


def is_bias(name: str) -> bool:
    """Whether an array is one of biases, as `layers[0].bias` and `biases[0]` are."""
    return "bias" in name.rpartition(".")[2]


def size_of(leaf: Array, given: float | None) -> float:
    """Of the entries of an array: as given, or by how many entries feed one."""
    return 1 / math.sqrt(fan_in(leaf)) if given is None else given


def fan_in(leaf: Array) -> int:
    return max(math.prod(leaf.shape[1:]) if leaf.ndim > 1 else leaf.size, 1)


def _matrix(leaf: Array, out_of: int | None = None) -> Float[Array, "out in"]:
    """A layer as a matrix; the last one of a network with one number may be a vector."""
    return leaf if leaf.ndim == 2 else leaf.reshape(-1, out_of or leaf.size)
