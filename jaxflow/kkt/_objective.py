"""What the search for KKT points maximizes: `N`, with its kinks put into slopes.

For chains of matrices and (leaky) ReLUs, `N` is written as `N(v, s)`: each hidden neuron
multiplies the pre-activation `z` of each sample by a slope `s` of its own. With `s = 1`
where `z > 0` and `s = α` where `z < 0` that is `N(v)`. Where `z = 0`, slopes between `α`
and 1 give the elements of the subdifferential that backpropagation defines.

Other networks have no slopes, and `N(v, s)` is `N(v)`.
"""

import abc
import itertools
from typing import cast, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._arrays import ratio
from ..flows import ncf, ncf_gradient
from ..networks import (
    as_feed_forward,
    FeedForward,
    has_kink,
    LeakyReLU,
    smoothed,
    unflattener,
)
from ..tasks import Task

_SAME_RATE = 1e-3
"""The relative difference below which neurons grow at one rate. Chosen; rates as close as
1.005 have been met (docs/theory.md, On kinks)."""

_LARGE, _GONE = -2.3, -30.0
"""Logarithms of a neuron's share of the norm: a tenth, and 1e-13, which is next to double
rounding. Chosen."""

_INACTIVE = 1e-6
"""Share of `‖w‖` below which the weights into and out of a neuron count as zero. Chosen."""


class AbstractObjective(eqx.Module):
    """`N(v, s)` for parameters `v` in one vector and slopes `s` in another."""

    has_kinks: eqx.AbstractClassVar[bool]
    network: eqx.AbstractVar[eqx.Module]
    task: eqx.AbstractVar[Task]
    least_slope: eqx.AbstractVar[float]  # `α`
    smoothing: eqx.AbstractVar[float]  # ε of the flow that leads near a KKT point

    @abc.abstractmethod
    def value(self, vector: Float[Array, " p"], slopes: Float[Array, " k"]):
        """`N(v, s)`."""

    @abc.abstractmethod
    def heights(self, vector: Float[Array, " p"], slopes: Float[Array, " k"]) -> "Heights":
        """How far every pair of a neuron and a sample is from its kink."""

    @abc.abstractmethod
    def signals(self, vector: Float[Array, " p"], slopes: Float[Array, " k"]):
        """`∂N/∂σ(z)` of every pair: a kink attracts where it is negative; (k,)."""

    @abc.abstractmethod
    def first_slopes(self, vector: Float[Array, " p"]) -> Float[Array, " k"]:
        """The slopes at the end `v` of a flow."""

    @abc.abstractmethod
    def active(
        self, vector: Float[Array, " p"]
    ) -> tuple[Bool[Array, " p"], Bool[Array, " k"]]:
        """Parameters and pairs that do not belong to an inactive neuron."""

    @abc.abstractmethod
    def groups(self) -> np.ndarray:
        """Numbers of the layer and sample that each pair belongs to, (k,)."""

    def gradient(self, vector: Float[Array, " p"], slopes: Float[Array, " k"]):
        """`∇_v N(v, s)`."""
        return jax.grad(self.value)(vector, slopes)


class Heights(NamedTuple):
    """Pre-activations `z`, signed, relative to the largest that they could be.

    With `m = ‖W_{l-1}‖_F … ‖W_1‖_F ‖x‖`, the largest norm of the layer's input.
    """

    cosine: Float[Array, " k"]  # `z/(‖w_j‖ m)`; zero for a neuron that is zero
    share: Float[Array, " k"]  # `z/(‖W_l‖_F m)`


class SmoothObjective(AbstractObjective):
    """Any network; there are no slopes."""

    has_kinks: ClassVar[bool] = False
    network: eqx.Module
    task: Task
    least_slope: float = eqx.field(static=True, default=0.0)
    smoothing: float = eqx.field(static=True, default=1.0)

    def value(self, vector, slopes):
        return ncf(unflattener(self.network)(vector), self.task)

    def heights(self, vector, slopes):
        return Heights(slopes, slopes)

    def signals(self, vector, slopes):
        return slopes

    def first_slopes(self, vector):
        return jnp.zeros(0, vector.dtype)

    def active(self, vector):
        return jnp.ones(vector.shape, bool), jnp.zeros(0, bool)

    def groups(self):
        return np.zeros(0, int)


class KinkedObjective(AbstractObjective):
    """A chain of matrices and (leaky) ReLUs with a kink."""

    has_kinks: ClassVar[bool] = True
    network: FeedForward
    task: Task
    smoothing: float = eqx.field(static=True)

    @property
    def least_slope(self) -> float:  # pyright: ignore
        return float(cast(LeakyReLU, self.network.activation).slope)

    def value(self, vector, slopes):
        return self._propagate(vector, slopes)[0]

    def heights(self, vector, slopes):
        _, cosines, shares = self._propagate(vector, slopes)
        return Heights(cosines, shares)

    def signals(self, vector, slopes):
        value = lambda shifts: self._propagate(vector, slopes, shifts)[0]
        return jax.grad(value)(jnp.zeros_like(slopes))

    def first_slopes(self, vector):
        weights, slopes = self._weights(vector), []
        h, least = self.task.inputs, self.least_slope
        for weight in weights[:-1]:
            z = h @ weight.T
            fan_in = weight.shape[1]
            m = _lengths(h)[:, None] * _lengths(weight)[None, :] / fan_in**0.5
            root = jnp.sqrt(z**2 + (self.smoothing * m) ** 2)
            part = (1 + ratio(z, root)) / 2
            slopes.append((least + (1 - least) * part).ravel())
            h = least * z + (1 - least) * (z + root) / 2
        return jnp.concatenate(slopes)

    def active(self, vector):
        weights = self._weights(vector)
        square = _per_neuron(weights[:-1], weights[:-1], 1)
        square = jnp.maximum(square, _per_neuron(weights[1:], weights[1:], 0))
        neurons = square > (_INACTIVE * jnp.linalg.norm(vector)) ** 2
        sides = self._sides(neurons)
        parameters = [
            (after[:, None] & before[None, :]).ravel()
            for before, after in itertools.pairwise(sides)
        ]
        n = self.task.num_samples
        pairs = [jnp.broadcast_to(side, (n, side.size)).ravel() for side in sides[1:-1]]
        return jnp.concatenate(parameters), jnp.concatenate(pairs)

    def groups(self):
        n, widths = self.task.num_samples, self.network.sizes[1:-1]
        layers = [
            np.repeat(n * layer + np.arange(n), width) for layer, width in enumerate(widths)
        ]
        return np.concatenate(layers)

    def forwarded(
        self, vector: Float[Array, " p"]
    ) -> tuple[Float[Array, " p"], Bool[Array, ""]]:
        """A later point of the flow, once the direction of every neuron rests.

        The weights into and out of neuron `j` then grow together, at a rate `ρ_j λ`, and
        relative to the whole like `e^((ρ_j - 1) λ T)`. In `T` the fastest of those that
        grow becomes large or, if none grows, all that shrink are gone. Near a saddle the
        flow itself would need thousands of steps for that.

        Returns:
            The unit vector, and whether there was nothing to wait for.
        """
        smooth = smoothed(self.network, self.smoothing)
        gradient = ncf_gradient(unflattener(smooth)(vector), self.task)
        weights, gains = self._weights(vector), self._weights(gradient)
        multiplier = vector @ gradient
        inside = lambda a, b: _per_neuron(a[:-1], b[:-1], 1) + _per_neuron(a[1:], b[1:], 0)
        square = inside(weights, weights)
        rate = ratio(inside(weights, gains), square * multiplier) - 1
        size = jnp.log(jnp.where(square > 0, square, 1.0)) / 2
        moving = (square > 0) & (jnp.abs(rate) > _SAME_RATE)
        growing = moving & (rate > 0) & (size < _LARGE)
        fading = moving & (rate < 0) & (size > _GONE)
        pace = jnp.where(moving, jnp.abs(rate), 1.0)
        until_large = jnp.min(jnp.where(growing, (_LARGE - size) / pace, jnp.inf))
        until_gone = jnp.max(jnp.where(fading, (size - _GONE) / pace, 0.0))
        time = jnp.where(jnp.any(growing), until_large, until_gone)
        sides = self._sides(jnp.exp(jnp.where(moving, rate, 0.0) * time))
        moved = [
            (after[:, None] * weight * before[None, :]).ravel()
            for weight, (before, after) in zip(weights, itertools.pairwise(sides))
        ]
        later = jnp.concatenate(moved)
        return later / jnp.linalg.norm(later), ~jnp.any(growing | fading)

    def _sides(self, neurons):
        """One number for each hidden neuron, by layers, with ones at both ends."""
        sizes = self.network.sizes
        hidden = jnp.split(neurons, np.cumsum(sizes[1:-1])[:-1])
        ones = lambda size: jnp.ones(size, neurons.dtype)
        return [ones(sizes[0]), *hidden, ones(sizes[-1])]

    def _weights(self, vector) -> tuple[Array, ...]:
        return unflattener(self.network)(vector).weights  # pyright: ignore

    def _propagate(self, vector, slopes, shifts=None):
        """`N` and the heights of all pairs; `shifts` are added to all `σ(z)`."""
        weights = self._weights(vector)
        n, h = self.task.num_samples, self.task.inputs
        most = _lengths(h)[:, None]  # no layer's input can be longer
        cosines, shares, start = [], [], 0
        for weight in weights[:-1]:
            z, rows = h @ weight.T, _lengths(weight)[None, :]
            cosines.append(ratio(z, most * rows).ravel())
            most = most * jnp.linalg.norm(rows)
            shares.append(ratio(z, most).ravel())
            end = start + n * weight.shape[0]
            h = slopes[start:end].reshape(z.shape) * z
            if shifts is not None:
                h = h + shifts[start:end].reshape(z.shape)
            start = end
        outputs = self.network.output_scale * (h @ weights[-1].T)
        value = jnp.sum(self.task.correlation_weights(outputs) * outputs)
        return value, jnp.concatenate(cosines), jnp.concatenate(shares)


def objective_of(network: eqx.Module, task: Task, smoothing: float) -> AbstractObjective:
    """`N` as it suits a network: with slopes for the kinks of power one, if it has any."""
    # pyright takes class variables and abstract attributes for arguments.
    chain = as_feed_forward(network, task.inputs)
    if chain is not None and has_kink(chain.activation) and len(chain.weights) > 1:
        return KinkedObjective(chain, task, smoothing)  # pyright: ignore
    return SmoothObjective(network, task)  # pyright: ignore


def _per_neuron(matrices, others, axis: int):
    """Scalar products of rows (axis 1) or columns (axis 0), one for each hidden neuron."""
    products = [jnp.sum(a * b, axis=axis) for a, b in zip(matrices, others)]
    return jnp.concatenate(products)


def _lengths(rows):
    """The length of every row; its derivative is not used."""
    return jnp.linalg.norm(jax.lax.stop_gradient(rows), axis=1)
