"""The feed-forward network without biases."""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Real

from .._arrays import as_float
from .._checks import check_dtype, check_key, check_sizes
from ..errors import InputError
from ._activations import check_activation, needs_radius
from ._drawing import gaussian


class FeedForward(eqx.Module):
    """A feed-forward network with `D` weight matrices and no biases.

    `H(x) = W_D σ(W_{D-1} … σ(W_1 x))`, of order `L = Σ_{l=1..D} p^(D-l)` in its
    parameters for an activation of power `p`: `L = D` for `p = 1`,
    `L = (p^D - 1)/(p - 1)` for `p >= 2`.

    Arguments:
        sizes: the widths from input to output, `(d_0, …, d_D)`; at least two.
        activation: a `LeakyReLU`, or any positively homogeneous function of arrays.
        key: a PRNG key; entries of `W_l` are drawn normal with variance `1/d_{l-1}`.
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
    """

    weights: tuple[Float[Array, "out in"], ...]
    activation: Callable
    sizes: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        sizes: Sequence[int],
        activation: Callable,
        *,
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

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.sizes[0],)

    @property
    def layer_matrices(self) -> tuple[Float[Array, "out in"], ...]:
        return self.weights

    def as_feed_forward(self) -> "FeedForward":
        """This network: it has the form that `jaxflow.networks.as_feed_forward` finds."""
        return self

    def __call__(self, x: Real[Array, " in"], *, key=None) -> Float[Array, " out"]:
        """The network's output for one sample `x`; `key` is ignored."""
        if x.shape != self.input_shape:
            raise InputError("x", f"shape {x.shape}", f"shape {self.input_shape}")
        if self.weights[0].ndim != 2:
            raise InputError("network", "an ensemble, called as a whole", "one network")
        h = as_float(x, self.weights[0].dtype)
        for weight in self.weights[:-1]:
            h = self._activate(weight, h)
        return self.weights[-1] @ h

    def _activate(self, weight, h):
        z = weight @ h
        if not needs_radius(self.activation):
            return self.activation(z)
        row = jnp.sum(weight**2, axis=1)
        return self.activation(z, row * jnp.sum(h**2) / h.size)
