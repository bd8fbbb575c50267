"""A recurrent network for sequences."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import check_dtype, check_flag, check_key, check_whole


class GRU(eqx.Module):
    """A gated recurrent unit that reads a sequence, and a matrix that reads its end.

    `h_t = GRU(x_t, h_{t-1})` with `h_0 = 0`, and the output `W h_T + b`.

    Arguments:
        in_size: entries of `x_t`.
        hidden_size: entries of `h_t`.
        out_size: entries of the output.
        use_bias: whether there are biases.
        key: a random key.
        dtype: JAX's default float if not given.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> import jaxflow as jf
        >>> network = jf.GRU(1, 4, key=jax.random.key(0))
        >>> network(jnp.ones((6, 1))).shape
        (1,)
    """

    cell: eqx.nn.GRUCell
    readout: eqx.nn.Linear

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        out_size: int = 1,
        use_bias: bool = True,
        dtype=None,
        *,
        key: PRNGKeyArray,
    ):
        sizes = {"in_size": in_size, "hidden_size": hidden_size, "out_size": out_size}
        sizes = {name: check_whole(name, size) for name, size in sizes.items()}
        use_bias, dtype = check_flag("use_bias", use_bias), check_dtype("dtype", dtype)
        in_size, hidden_size, out_size = sizes.values()
        first, second = jax.random.split(check_key("key", key))
        self.cell = eqx.nn.GRUCell(in_size, hidden_size, use_bias, dtype, key=first)
        self.readout = eqx.nn.Linear(hidden_size, out_size, use_bias, dtype, key=second)

    def __call__(self, x: Float[Array, "time in_size"]) -> Float[Array, " out_size"]:
        start = jnp.zeros(self.cell.hidden_size, x.dtype)
        end, _ = jax.lax.scan(lambda h, x_t: (self.cell(x_t, h), None), start, x)
        return self.readout(end)
