"""The feed-forward network, without biases or with them."""

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Real

from .._arrays import as_float
from .._checks import check_dtype, check_key, check_positive, check_sizes, shown
from ..errors import InputError
from ._activations import check_activation, needs_radius
from ._drawing import gaussian

Biases: TypeAlias = bool | Literal["first"]
"""Which hidden layers have biases: none, all, or the first alone."""


class FeedForward(eqx.Module):
    """A feed-forward network with `D` weight matrices, without biases unless asked for.

    `H(x) = W_D σ(W_{D-1} … σ(W_1 x))`, of order `L = Σ_{l=1..D} p^(D-l)` in its
    parameters for an activation of power `p`: `L = D` for `p = 1`,
    `L = (p^D - 1)/(p - 1)` for `p >= 2`.

    With biases a hidden layer is `h_l = σ(W_l h_{l-1} + b_l)`. Those of the first layer
    are as one more input that is always one, and leave the order as it is; with those of
    a later layer too the network is not homogeneous. `c H(x)` with an `output_scale` `c`
    is of the same order: `c = 1/d_1` is the mean-field scaling of two layers, in which the
    output is a mean over neurons.

    Arguments:
        sizes: the widths from input to output, `(d_0, …, d_D)`; at least two.
        activation: a `LeakyReLU`, or any positively homogeneous function of arrays.
        biases: whether hidden layers have them; `"first"` for the first of them alone.
        output_scale: `c`, a positive number that is not trained.
        key: a PRNG key; entries of `W_l` and `b_l` are drawn normal with variance
            `1/d_{l-1}`.
        dtype: of the weights; JAX's default float if not given.

    Raises:
        InputError: if `sizes` are not positive whole numbers, and for other arguments that
            do not fit.

    Source:
        arXiv:2403.08121, section 2.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.FeedForward(
        ...     (10, 20, 20, 1), jf.LeakyReLU(0.5, 2), key=jax.random.key(0)
        ... )
        >>> network(jax.numpy.ones(10)).shape, jf.order(network)
        ((1,), 7)
        >>> network = jf.FeedForward(
        ...     (1, 50, 1),
        ...     jf.LeakyReLU(),
        ...     biases=True,
        ...     output_scale=1 / 50,
        ...     key=jax.random.key(0),
        ... )
        >>> network.biases[0].shape, jf.order(network)
        ((50,), 2)
    """

    weights: tuple[Float[Array, "out in"], ...]
    activation: Callable
    sizes: tuple[int, ...] = eqx.field(static=True)
    # With values, which networks in files that are older than these fields take.
    biases: tuple[Float[Array, " out"], ...] = ()
    output_scale: float = eqx.field(static=True, default=1.0)

    def __init__(
        self,
        sizes: Sequence[int],
        activation: Callable,
        *,
        biases: Biases = False,
        output_scale: float = 1.0,
        key: PRNGKeyArray,
        dtype=None,
    ):
        self.sizes = check_sizes("sizes", sizes, least=2)
        self.activation = check_activation("activation", activation)
        dtype = check_dtype("dtype", dtype)
        keys = jax.random.split(check_key("key", key), len(self.sizes) - 1)
        self.weights = tuple(
            gaussian(k, (out, fan_in), dtype, fan_in**0.5)
            for k, fan_in, out in zip(keys, self.sizes[:-1], self.sizes[1:])
        )
        num = _num_biases(biases, len(self.sizes) - 2)
        self.biases = tuple(
            gaussian(jax.random.fold_in(k, 1), (out,), dtype, fan_in**0.5)
            for k, fan_in, out in zip(keys[:num], self.sizes, self.sizes[1:])
        )
        self.output_scale = check_positive("output_scale", output_scale)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.sizes[0],)

    @property
    def layer_matrices(self) -> tuple[Float[Array, "out in"], ...]:
        return self.weights

    def as_feed_forward(self) -> "FeedForward | None":
        """This network, if it has the form that `jaxflow.networks.as_feed_forward` finds:
        a chain of matrices, without biases."""
        return None if self.biases else self

    def blocks(self) -> np.ndarray | None:
        """Neurons with the weights and the bias of each, where those are two layers."""
        if not self.biases or len(self.weights) != 2:
            return None  # of a chain they are found by its form
        neurons, fan_in, out = np.arange(self.sizes[1]), self.sizes[0], self.sizes[2]
        return np.concatenate([np.repeat(neurons, fan_in), np.tile(neurons, out), neurons])

    def __call__(self, x: Real[Array, " in"], *, key=None) -> Float[Array, " out"]:
        """The network's output for one sample `x`; `key` is ignored."""
        if x.shape != self.input_shape:
            raise InputError("x", f"shape {x.shape}", f"shape {self.input_shape}")
        if self.weights[0].ndim != 2:
            raise InputError("network", "an ensemble, called as a whole", "one network")
        h = as_float(x, self.weights[0].dtype)
        without = (None,) * (len(self.weights) - 1 - len(self.biases))
        for weight, bias in zip(self.weights[:-1], (*self.biases, *without)):
            h = self._activate(weight, bias, h)
        output = self.weights[-1] @ h
        return output if self.output_scale == 1 else self.output_scale * output

    def _activate(self, weight, bias, h):
        z = weight @ h if bias is None else weight @ h + bias
        if not needs_radius(self.activation):
            return self.activation(z)
        row, squares, size = jnp.sum(weight**2, axis=1), jnp.sum(h**2), h.size
        if bias is not None:  # one more weight, from an input that is one
            row, squares, size = row + bias**2, squares + 1, size + 1
        return self.activation(z, row * squares / size)


def _num_biases(biases: Biases, num_hidden: int) -> int:
    """How many layers, counted from the first, have biases."""
    if biases is True or biases is False:
        return num_hidden if biases else 0
    if isinstance(biases, str) and biases == "first":
        return min(1, num_hidden)
    raise InputError("biases", shown(biases), "True, False or 'first'")
