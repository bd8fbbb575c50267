"""The convolutional network without biases."""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Real

from .._arrays import as_float
from .._checks import check_choice, check_dtype, check_key, check_sizes, check_whole
from ..errors import InputError
from ._activations import check_activation, needs_radius
from ._drawing import gaussian


class ConvNet(eqx.Module):
    """Convolutions without biases, an activation after each, and a linear read-out.

    `H(x) = W vec σ(K_C * … σ(K_1 * x))`, with `C` kernels and one matrix: of order
    `L = Σ_{l=1..C+1} p^(C+1-l)` in its parameters.

    Arguments:
        input_shape: of one sample, `(channels, *space)` with one or more axes of space.
        channels: the number of channels after each convolution.
        out_size: the number of outputs.
        activation: a `LeakyReLU`, or any positively homogeneous function of arrays.
        kernel_size: the same along every axis of space and for every layer.
        stride: the same along every axis of space and for every layer.
        padding: `"SAME"` or `"VALID"`.
        key: a PRNG key; entries are drawn normal with variance 1/fan-in.
        dtype: of the weights; JAX's default float if not given.

    Raises:
        InputError: for sizes that are not positive or leave nothing to read out.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.ConvNet((1, 8, 8), (4,), 3, jf.LeakyReLU(), key=jax.random.key(0))
        >>> network(jax.numpy.ones((1, 8, 8))).shape, jf.order(network)
        ((3,), 2)
    """

    kernels: tuple[Float[Array, "out in *window"], ...]
    readout: Float[Array, "out features"]
    activation: Callable
    input_shape: tuple[int, ...] = eqx.field(static=True)
    stride: int = eqx.field(static=True)
    padding: str = eqx.field(static=True)

    def __init__(
        self,
        input_shape: Sequence[int],
        channels: Sequence[int],
        out_size: int,
        activation: Callable,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        padding: str = "SAME",
        key: PRNGKeyArray,
        dtype=None,
    ):
        self.input_shape = check_sizes("input_shape", input_shape, least=2)
        channels = check_sizes("channels", channels, least=1)
        out_size = check_whole("out_size", out_size)
        kernel_size = check_whole("kernel_size", kernel_size)
        self.activation = check_activation("activation", activation)
        self.stride = stride = check_whole("stride", stride)
        self.padding = check_choice("padding", padding, ("SAME", "VALID"))
        dtype = check_dtype("dtype", dtype)
        keys = jax.random.split(check_key("key", key), len(channels) + 1)
        window = (kernel_size,) * (len(self.input_shape) - 1)
        fans_in = (self.input_shape[0], *channels[:-1])
        self.kernels = tuple(
            _draw(k, (out, fan_in, *window), dtype)
            for k, fan_in, out in zip(keys, fans_in, channels)
        )

        def last_convolution(h):
            for kernel in self.kernels:
                h = _convolve(kernel, h, stride, padding)
            return h

        features = jax.eval_shape(last_convolution, jnp.zeros(self.input_shape, dtype))
        if features.size == 0:
            raise InputError(
                "input_shape", repr(self.input_shape), "space for every convolution"
            )
        self.readout = _draw(keys[-1], (out_size, features.size), dtype)

    @property
    def layer_matrices(self) -> tuple[Float[Array, "out in"], ...]:
        flat = tuple(kernel.reshape(kernel.shape[0], -1) for kernel in self.kernels)
        return (*flat, self.readout)

    def __call__(self, x: Real[Array, "in *space"], *, key=None) -> Float[Array, " out"]:
        """The network's output for one sample `x`; `key` is ignored."""
        if x.shape != self.input_shape:
            raise InputError("x", f"shape {x.shape}", f"shape {self.input_shape}")
        if self.readout.ndim != 2:
            raise InputError("network", "an ensemble, called as a whole", "one network")
        return self.readout @ self._features(x)

    def _features(self, x):
        h = as_float(x, self.readout.dtype)
        for kernel in self.kernels:
            h = self._activate(kernel, h)
        return h.reshape(-1)

    def _activate(self, kernel, h):
        z = self._convolve(kernel, h)
        if not needs_radius(self.activation):
            return self.activation(z)
        # The input of one output position is the window under the kernel.
        ones = jnp.ones((1, *kernel.shape[1:]), kernel.dtype)
        window = self._convolve(ones, h**2)
        row = jnp.sum(kernel**2, axis=tuple(range(1, kernel.ndim)), keepdims=True)
        fan_in = kernel[0].size
        return self.activation(z, row.reshape(-1, *([1] * (z.ndim - 1))) * window / fan_in)

    def _convolve(self, kernel, h):
        return _convolve(kernel, h, self.stride, self.padding)


def _convolve(kernel, h, stride, padding):
    """`K * h`, as the matrix product of the kernels with the windows under them.

    XLA's own convolution, when both kernels and inputs differ from member to member, is one
    of many groups, which takes several times as long on a CPU.
    """
    windows = _windows(h, kernel.shape[2:], stride, padding)
    flat = windows.reshape(kernel[0].size, *windows.shape[2:])
    return jnp.tensordot(kernel.reshape(len(kernel), -1), flat, axes=1)


def _windows(
    h: Float[Array, "in *space"], size: tuple[int, ...], stride: int, padding: str
) -> Float[Array, "in window *places"]:
    """The entries under each of a kernel's places."""
    strides = (stride,) * len(size)
    pads = jax.lax.padtype_to_pads(h.shape[1:], size, strides, padding)
    h = jnp.pad(h, ((0, 0), *pads))
    reach = [max(0, n - k + 1) for n, k in zip(h.shape[1:], size)]  # of a window's corner
    entries = [
        h[:, *(slice(o, o + r, stride) for o, r in zip(offset, reach))]
        for offset in np.ndindex(*size)
    ]
    return jnp.stack(entries, axis=1)


def _draw(key, shape, dtype):
    fan_in = 1
    for size in shape[1:]:
        fan_in *= size
    return gaussian(key, shape, dtype, fan_in**0.5)
