"""The diagonal linear network."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Real

from .._arrays import as_float
from .._checks import check_dtype, check_key, check_whole
from ..errors import InputError
from ._drawing import gaussian


class DiagonalLinear(eqx.Module):
    """A diagonal linear network: element-wise products of parameter vectors.

    `H(x)_k = ⟨w_{1,k} ⊙ w_{2,k} ⊙ … ⊙ w_{depth,k}, x⟩`, of order `L = depth`.

    Arguments:
        depth: the number of factors, at least 1.
        in_size: the length of `x`.
        out_size: the number of outputs, each with its own factors.
        key: a PRNG key; entries are drawn standard normal.
        dtype: of the weights; JAX's default float if not given.

    Raises:
        InputError: if a size is not a positive whole number.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.DiagonalLinear(3, 5, key=jax.random.key(0))
        >>> network(jax.numpy.ones(5)).shape, jf.order(network)
        ((1,), 3)
    """

    factors: tuple[Float[Array, "out in"], ...]
    depth: int = eqx.field(static=True)

    def __init__(
        self, depth: int, in_size: int, out_size: int = 1, *, key: PRNGKeyArray, dtype=None
    ):
        self.depth = check_whole("depth", depth)
        shape = (check_whole("out_size", out_size), check_whole("in_size", in_size))
        dtype = check_dtype("dtype", dtype)
        keys = jax.random.split(check_key("key", key), self.depth)
        self.factors = tuple(gaussian(k, shape, dtype) for k in keys)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.factors[0].shape[-1],)

    @property
    def layer_matrices(self) -> tuple[Float[Array, "rows columns"], ...]:
        """Each factor as the linear map that it is: a block-diagonal matrix."""
        return tuple(jnp.diag(factor.reshape(-1)) for factor in self.factors)

    def blocks(self) -> np.ndarray:
        """The coordinate of every parameter: the output is a sum over coordinates."""
        return np.concatenate([np.arange(factor.size) for factor in self.factors])

    def __call__(self, x: Real[Array, " in"], *, key=None) -> Float[Array, " out"]:
        """The network's output for one sample `x`; `key` is ignored."""
        shape = (self.factors[0].shape[-1],)
        if x.shape != shape:
            raise InputError("x", f"shape {x.shape}", f"shape {shape}")
        if self.factors[0].ndim != 2:
            raise InputError("network", "an ensemble, called as a whole", "one network")
        product = self.factors[0]
        for factor in self.factors[1:]:
            product = product * factor
        return product @ as_float(x, product.dtype)
