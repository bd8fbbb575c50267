"""Thirty problems as people have them in their first hour, each run with all defaults."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import jaxflow as jf
from jaxflow.networks import flatten_rows, member, unflatten_rows

from . import tasks

_KEY = jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class Ordinary:
    """Some networks, what they learn, and until when."""

    name: str
    starts: Callable[[int], Any]  # so many networks
    task: jf.Task
    stop: jf.AbstractStop
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def run(self, num: int, **settings: Any) -> jf.Solution:
        """jaxflow with what nobody can leave out, and these settings."""
        return jf.gradient_flow(
            self.starts(num),
            self.task,
            stop=self.stop,
            progress=False,
            **self.options,
            **settings,
        )

    def losses_at_start(self, num: int) -> np.ndarray:
        """The losses of so many networks before their first step."""
        networks, scale = self.starts(num), self.options.get("scale", 1.0)
        starts = unflatten_rows(member(networks, 0), scale * flatten_rows(networks))
        losses = eqx.filter_vmap(jf.loss, in_axes=(eqx.if_array(0), None))
        return np.asarray(losses(starts, self.task))


class Convolution(eqx.Module):
    """A 3 x 3 convolution, an activation, pooling, and a matrix."""

    convolution: eqx.nn.Conv2d
    pool: eqx.Module
    last: eqx.nn.Linear
    activation: Callable = eqx.field(static=True)

    def __init__(self, pool: eqx.Module, activation: Callable, *, key: Array):
        first, last = jax.random.split(key)
        self.convolution = eqx.nn.Conv2d(1, 4, 3, key=first)
        self.pool, self.activation = pool, activation
        self.last = eqx.nn.Linear(4 * 3 * 3, 10, key=last)

    def __call__(self, x: Array) -> Array:
        seen = self.activation(self.convolution(x.reshape(1, 8, 8)))
        return self.last(self.pool(seen).ravel())  # pyright: ignore[reportCallIssue]


class Recurrent(eqx.Module):
    """A gated recurrent unit over a sequence of numbers, read at its end."""

    cell: eqx.nn.GRUCell
    last: eqx.nn.Linear

    def __init__(self, *, key: Array):
        first, last = jax.random.split(key)
        self.cell = eqx.nn.GRUCell(1, 6, key=first)
        self.last = eqx.nn.Linear(6, 1, key=last)

    def __call__(self, x: Array) -> Array:
        step = lambda h, one: (self.cell(one[None], h), None)
        return self.last(jax.lax.scan(step, jnp.zeros(6), x)[0])


class Attending(eqx.Module):
    """One block of attention over a sequence of numbers, and the mean."""

    embed: eqx.nn.Linear
    attention: eqx.nn.MultiheadAttention
    last: eqx.nn.Linear

    def __init__(self, *, key: Array):
        keys = jax.random.split(key, 3)
        self.embed = eqx.nn.Linear(1, 6, key=keys[0])
        self.attention = eqx.nn.MultiheadAttention(2, 6, key=keys[1])
        self.last = eqx.nn.Linear(6, 1, key=keys[2])

    def __call__(self, x: Array) -> Array:
        seen = jax.vmap(self.embed)(x[:, None])
        return self.last(jnp.mean(seen + self.attention(seen, seen, seen), axis=0))


class Hinge(jf.AbstractLoss):
    """`max(1 - y f, 0)`."""

    def __call__(self, prediction: Array, target: Array) -> Array:
        return jnp.sum(jnp.maximum(1 - prediction * target, 0.0))


class SquaredHinge(jf.AbstractLoss):
    """`max(1 - y f, 0)²`."""

    def __call__(self, prediction: Array, target: Array) -> Array:
        return jnp.sum(jnp.maximum(1 - prediction * target, 0.0) ** 2)


def problems() -> list[Ordinary]:
    """All thirty."""
    return [*_homogeneous(), *_linear(), *_perceptrons(), *_digits(), *_others()]


def _homogeneous() -> list[Ordinary]:
    relu, leaky, smooth = jf.LeakyReLU(0.0), jf.LeakyReLU(0.5), jf.LeakyReLU(0.5, 2)
    wave = _wave(20, 5)
    plane = _wave(12, 2)
    deep, teacher = tasks.teacher_student((10, 20, 20, 1), leaky)
    power, squares = tasks.teacher_student((10, 20, 20, 1), smooth)
    shallow, three = tasks.teacher_student((10, 20, 1), smooth)
    return [
        _drawn(
            "ReLU (5, 20, 1), δ = 0.1, t = 20", _net(relu, 5, 20), wave, 0.1, jf.Time(20.0)
        ),
        _drawn(
            "ReLU (5, 20, 1), δ = 1, half the loss",
            _net(relu, 5, 20),
            wave,
            1.0,
            _share(wave, 0.5),
        ),
        _drawn(
            "ReLU (2, 50, 1), δ = 1e-6, condensation",
            _net(relu, 2, 50),
            plane,
            1e-6,
            _share(plane, 0.7),
        ),
        _drawn("leaky ReLU, D = 3, δ = 0.1, loss", deep, teacher, 0.1, jf.LossBelow(0.3)),
        _drawn(
            "leaky ReLU, D = 3, δ = 1e-8, escape", deep, teacher, 1e-8, jf.NormAbove(1e-4)
        ),
        _drawn("power 2, D = 3, δ = 1e-8, loss", power, squares, 1e-8, jf.LossBelow(0.45)),
        _drawn("power 2, D = 2, δ = 1e-2, loss", shallow, three, 1e-2, jf.LossBelow(0.1)),
    ]


def _linear() -> list[Ordinary]:
    modes_network, modes = tasks.three_modes()
    rows = np.random.default_rng(0).standard_normal((40, 5))
    answers = jnp.asarray(np.sin(rows[:, 0]))
    plain, spread = jnp.asarray(rows), jnp.asarray(rows * np.geomspace(1, 1e-2, 5))
    line = jf.FeedForward((5, 1), jf.LeakyReLU(), key=_KEY)
    sparse = jnp.zeros(8).at[:2].set(1.0)
    x = jax.random.normal(jax.random.key(3), (20, 8))
    diagonal = jf.DiagonalLinear(2, 8, key=_KEY)
    return [
        _drawn(
            "linear, D = 3, δ = 1e-2, t = 1e3", modes_network, modes, 1e-2, jf.Time(1000.0)
        ),
        _drawn(
            "linear, D = 3, δ = 1e-8, second mode",
            modes_network,
            modes,
            1e-8,
            jf.LossBelow(0.6),
        ),
        _drawn(
            "least squares, converged",
            line,
            jf.Task(plain, answers),
            1.0,
            jf.Stationary(1e-8),
        ),
        _drawn(
            "least squares, condition 1e4, t = 1e3",
            line,
            jf.Task(spread, answers),
            1.0,
            jf.Time(1e3),
        ),
        _drawn(
            "diagonal, δ = 1e-4, loss",
            diagonal,
            jf.Task(x, x @ sparse),
            1e-4,
            jf.LossBelow(1e-3),
        ),
    ]


def _perceptrons() -> list[Ordinary]:
    wave, plane = _wave(40, 5), _wave(20, 2)
    two = jf.Task(plane.inputs, jnp.stack([plane.targets[:, 0]] * 2, 1))
    leaky = jax.nn.leaky_relu
    return [
        Ordinary("MLP(2, 2, 2, 2), t = 1", _mlps(2, 2, 2, jax.nn.relu), two, jf.Time(1.0)),
        Ordinary(
            "ReLU MLP, biases, loss", _mlps(5, 1, 32, jax.nn.relu), wave, _share(wave, 0.1)
        ),
        Ordinary(
            "ReLU MLP, no biases, t = 5",
            _mlps(5, 1, 20, jax.nn.relu, use_bias=False, use_final_bias=False),
            wave,
            jf.Time(5.0),
        ),
        Ordinary(
            "leaky ReLU MLP, biases, t = 5", _mlps(5, 1, 20, leaky), wave, jf.Time(5.0)
        ),
        Ordinary(
            "tanh MLP, biases, t = 20", _mlps(5, 1, 20, jnp.tanh), wave, jf.Time(20.0)
        ),
        Ordinary(
            "tanh MLP, no biases, loss",
            _mlps(5, 1, 20, jnp.tanh, use_bias=False, use_final_bias=False),
            wave,
            _share(wave, 0.1),
        ),
        Ordinary(
            "GELU MLP, biases, t = 20", _mlps(5, 1, 20, jax.nn.gelu), wave, jf.Time(20.0)
        ),
        Ordinary(
            "softplus MLP, biases, converged",
            _mlps(2, 1, 8, jax.nn.softplus),
            plane,
            jf.Stationary(1e-3, gradient=1e-3),
        ),
    ]


def _digits() -> list[Ordinary]:
    ten = jf.data.digits(tuple(range(10)), 100)
    pair = jf.data.digits((3, 8), 50)
    network, _ = tasks.digits(50)
    line = jf.FeedForward((64, 10), jf.LeakyReLU(), key=_KEY)
    pooled = lambda key: Convolution(eqx.nn.MaxPool2d(2, 2), jax.nn.relu, key=key)
    average = lambda key: Convolution(eqx.nn.AvgPool2d(2, 2), jnp.tanh, key=key)
    return [
        Ordinary(
            "digits, ReLU MLP, cross-entropy, t = 1",
            _mlps(64, 10, 20, jax.nn.relu, depth=1),
            ten,
            jf.Time(1.0),
        ),
        Ordinary(
            "digits, tanh MLP, cross-entropy, loss",
            _mlps(64, 10, 20, jnp.tanh, depth=1),
            ten,
            _share(ten, 0.1, 10),
        ),
        _drawn("digits, softmax regression, t = 10", line, ten, 1e-2, jf.Time(10.0)),
        _drawn(
            "digits 3 and 8, power 2, δ = 1e-8, escape",
            network,
            pair,
            1e-8,
            jf.NormAbove(1e-4),
        ),
        Ordinary(
            "digits, convolution, max-pooling, t = 0.2", _many(pooled), ten, jf.Time(0.2)
        ),
        Ordinary(
            "digits, convolution, tanh, loss", _many(average), ten, _share(ten, 0.2, 10)
        ),
    ]


def _others() -> list[Ordinary]:
    waves = jax.random.normal(jax.random.key(5), (24, 8))
    sums = jf.Task(waves, jnp.sin(jnp.sum(waves, axis=1)))
    wave = _wave(40, 5)
    signs = jnp.where(wave.targets > 0, 1.0, -1.0)
    classes = lambda loss: jf.Task(wave.inputs, signs, loss=loss)
    line = jf.FeedForward((5, 1), jf.LeakyReLU(), key=_KEY)
    return [
        Ordinary(
            "GRU, sequences of 8, t = 5",
            _many(lambda key: Recurrent(key=key)),
            sums,
            jf.Time(5.0),
        ),
        Ordinary(
            "attention, sequences of 8, t = 5",
            _many(lambda key: Attending(key=key)),
            sums,
            jf.Time(5.0),
        ),
        _drawn("linear, hinge loss, t = 1", line, classes(Hinge()), 1.0, jf.Time(1.0)),
        Ordinary(
            "tanh MLP, squared hinge, loss",
            _mlps(5, 1, 20, jnp.tanh),
            classes(SquaredHinge()),
            jf.LossBelow(1.0),
        ),
    ]


# -- how they are made --


def _wave(num: int, size: int) -> jf.Task:
    x = jax.random.normal(jax.random.key(1), (num, size))
    return jf.Task(x, (jnp.sin(x[:, 0]) * x[:, 1])[:, None])


def _net(activation: jf.LeakyReLU, inputs: int, width: int) -> jf.FeedForward:
    return jf.FeedForward((inputs, width, 1), activation, key=_KEY)


def _share(task: jf.Task, share: float, num_outputs: int = 1) -> jf.LossBelow:
    """Until this share of the loss of a network that gives zeros."""
    nothing = jnp.zeros((len(task.inputs), num_outputs))
    return jf.LossBelow(share * float(task.total_loss(nothing)))


def _drawn(
    name: str, network: eqx.Module, task: jf.Task, scale: float, stop: jf.AbstractStop
) -> Ordinary:
    """Directions on the unit sphere."""
    starts = lambda num: jf.sample_ensemble(network, num, key=jax.random.key(2))
    return Ordinary(name, starts, task, stop, {"scale": scale})


def _mlps(
    inputs: int,
    outputs: int,
    width: int,
    activation: Callable,
    depth: int = 2,
    **options: Any,
) -> Callable[[int], Any]:
    return _many(
        lambda key: eqx.nn.MLP(
            inputs, outputs, width, depth, activation, key=key, **options
        )
    )


def _many(make: Callable[[Array], Any]) -> Callable[[int], Any]:
    """As each class initializes itself."""
    return lambda num: eqx.filter_vmap(make)(jax.random.split(jax.random.key(2), num))
