"""The activations under which a bias-free network is homogeneous in its parameters."""

from collections.abc import Callable
from typing import Any, cast, TypeGuard, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import check_not_negative, check_number, check_positive, check_whole, shown
from ..errors import InputError

Module = TypeVar("Module", bound=eqx.Module)


def _kept(value: Any, number: int | float) -> int | float:
    """A checked number: an `int` where one was given, so that it prints as such."""
    return int(value) if isinstance(value, int) else number


def _slope(value: Any) -> int | float:
    within = lambda slope: 0 <= slope <= 1
    return _kept(value, check_number("slope", value, "a number from 0 to 1", within))


def _power(value: Any) -> int:
    return check_whole("power", value)


def _smoothing(value: Any) -> int | float:
    return _kept(value, check_not_negative("smoothing", value))


def _sharpness(value: Any) -> float:
    return check_positive("sharpness", value)


class LeakyReLU(eqx.Module):
    """The polynomial (leaky) ReLU, `σ(x) = max(x, slope x)**power`.

    `slope = 1, power = 1` is the identity (a linear network), `power = 1` the (leaky)
    ReLU, `power >= 2` the polynomial (leaky) ReLU.

    A positive `smoothing` ε rounds the kink at zero without changing the order of
    homogeneity. Inside a layer with row `w_j` and input `h`, at the pre-activation
    `z = ⟨w_j, h⟩`,

        σ_ε(z) = (slope z + (1 - slope) (z + √(z² + ε² m²)) / 2)**power,
        m = ‖w_j‖ ‖h‖ / √(fan-in),

    which is homogeneous of order `power` in `w_j` and in `h`. The radius `m` belongs to
    the layer, so the layer passes its square.

    Arguments:
        slope: the slope on the negative side, from 0 to 1.
        power: a whole number, at least 1.
        smoothing: ε, not negative; 0 keeps the kink.

    Raises:
        InputError: for values outside these ranges.

    Source:
        arXiv:2403.08121, section 2 (activation).

    Examples:
        >>> import jax.numpy as jnp, jaxflow as jf
        >>> jf.LeakyReLU(slope=0.5, power=2)(jnp.array([-2.0, 3.0])).tolist()
        [1.0, 9.0]
    """

    slope: int | float = eqx.field(static=True, default=0.0, converter=_slope)
    power: int | float = eqx.field(static=True, default=1, converter=_power)
    smoothing: int | float = eqx.field(static=True, default=0.0, converter=_smoothing)

    def __call__(
        self,
        z: Float[Array, "*shape"],
        radius_squared: Float[Array, "*shape"] | None = None,
    ) -> Float[Array, "*shape"]:
        """`σ(z)`, or `σ_ε(z)` where a layer gives `m²` and the smoothing is positive."""
        return self._rounded(z, radius_squared) ** int(self.power)

    @property
    def is_linear(self) -> bool:
        """Whether `σ` is the identity."""
        return self.slope == 1 and self.power == 1

    @property
    def has_kink(self) -> bool:
        """Whether the derivative jumps at zero."""
        return self.slope != 1 and self.power == 1 and self.smoothing == 0

    def _rounded(self, z, radius_squared):
        if self.slope == 1:
            return z
        if self.smoothing == 0 or radius_squared is None:
            return jnp.where(z > 0, z, self.slope * z)
        squared = z**2 + self.smoothing**2 * radius_squared
        # A zero row or a zero input makes the root's argument zero, where its derivative
        # is infinite: take the root of one there, and the value zero.
        positive = squared > 0
        root = jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)
        return self.slope * z + (1 - self.slope) * (z + root) / 2


class SmoothLeakyReLU(eqx.Module):
    """A leaky ReLU without a kink, with a rounding of fixed width:

        σ(z) = slope z + (1 - slope) (log(1 + e^(κz)) - log 2) / κ.

    `σ(0) = 0`, its derivative is between `slope` and 1, and its second derivative at most
    `κ (1 - slope)/4`. Unlike a `LeakyReLU` with a smoothing, it is not homogeneous.

    Arguments:
        slope: the slope far on the negative side, from 0 to 1.
        sharpness: `κ`, positive; for large ones the leaky ReLU.

    Raises:
        InputError: for values outside these ranges.

    Source:
        arXiv:2210.07082 (gradient descent with a smoothed leaky ReLU).

    Examples:
        >>> import jax.numpy as jnp, jaxflow as jf
        >>> activation = jf.SmoothLeakyReLU(0.25, sharpness=100.0)
        >>> activation(jnp.array([-2.0, 0.0, 3.0])).round(1).tolist()
        [-0.5, 0.0, 3.0]
    """

    slope: int | float = eqx.field(static=True, default=0.0, converter=_slope)
    sharpness: float = eqx.field(static=True, default=1.0, converter=_sharpness)

    def __call__(self, z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        rounded = jax.nn.softplus(self.sharpness * z) - jnp.log(2.0).astype(z.dtype)
        return self.slope * z + (1 - self.slope) * rounded / self.sharpness


class Function(eqx.Module):
    """A function of arrays as an activation: no leaf of the network, but its structure.

    So `jax.vmap` and `jax.jit` take networks whose activation is `jax.nn.relu`, say.
    """

    function: Callable = eqx.field(static=True)

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        return self.function(x)


def check_activation(argument: str, activation: Any) -> Callable:
    """A function that gives an array for an array, of the same shape.

    It is called with an abstract array: a class, such as `LeakyReLU` without parentheses,
    can be called too.
    """
    expected = "a function of arrays, such as jaxflow.LeakyReLU() or jax.nn.relu"
    if not callable(activation):
        raise InputError(argument, shown(activation), expected)
    example = jax.ShapeDtypeStruct((2,), jnp.result_type(float))
    try:
        found = eqx.filter_eval_shape(activation, example)
    except Exception as error:  # whatever the caller's function raises
        failure = f"{shown(activation)}, which raises {type(error).__name__}: {error}"
        raise InputError(argument, failure, expected) from error
    if getattr(found, "shape", None) != (2,):
        failure = f"{shown(activation)}, which gives {shown(found)}"
        raise InputError(argument, failure, expected)
    if isinstance(activation, eqx.Module):
        return cast(Callable, activation)
    return Function(activation)


def needs_radius(activation: Any) -> bool:
    """Whether a layer has to hand this activation its radius `m²`."""
    return isinstance(activation, LeakyReLU) and activation.smoothing > 0


def is_linear(activation: Any) -> bool:
    """Whether this is known to be the identity."""
    return isinstance(activation, LeakyReLU) and activation.is_linear


def has_kink(activation: Any) -> bool:
    """Whether this is known to have a derivative that jumps at zero."""
    return isinstance(activation, LeakyReLU) and activation.has_kink


def leaky_relus(module: Any) -> list[LeakyReLU]:
    """The different `LeakyReLU`s in a module, wherever it keeps them."""
    leaves = jax.tree_util.tree_leaves(module, is_leaf=_is_leaky_relu)
    return list(dict.fromkeys(filter(_is_leaky_relu, leaves)))


def replace_kinked(module: Module, make: Callable[[LeakyReLU], Any]) -> Module:
    """The module with `make(activation)` for every `LeakyReLU` that has a kink."""
    return replace_leaky_relus(module, lambda a: make(a) if has_kink(a) else a)


def replace_leaky_relus(module: Module, make: Callable[[LeakyReLU], Any]) -> Module:
    """The module with `make(activation)` for every `LeakyReLU`."""
    return jax.tree_util.tree_map(
        lambda leaf: make(leaf) if _is_leaky_relu(leaf) else leaf,
        module,
        is_leaf=_is_leaky_relu,
    )


def smoothed(module: Module, smoothing: float) -> Module:
    """The same network (or ensemble) with every kink rounded by this `smoothing`."""
    return replace_kinked(module, lambda a: LeakyReLU(a.slope, a.power, smoothing))


def _is_leaky_relu(leaf: Any) -> TypeGuard[LeakyReLU]:
    return isinstance(leaf, LeakyReLU)
