"""The nine tasks on which solvers and packages are compared."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.integrate
from jaxtyping import Array, Float

import jaxflow as jf
from jaxflow.networks import flatten, members, unflatten_rows

from . import tasks

MOST_FOR_JACOBIANS = 120  # parameters, for methods that solve dense systems


@dataclasses.dataclass(frozen=True)
class Problem(tasks.Learner):
    """Gradient flow from random starts, each until a time when it has learned something.

    Everybody integrates `u = w/δ` in the time `s = δ^(L-2) t` (`w` in `t` for networks that
    are not homogeneous), from the same starts until the same times.
    """

    name: str
    smooth: bool = True

    @property
    def error(self) -> float:
        """The relative error that solvers are asked for.

        Sliding along kinks costs everybody work in proportion to the accuracy: millions of
        evaluations for 1e-6.
        """
        return 1e-6 if self.smooth else 1e-4

    def starts(self, num: int) -> eqx.Module:
        """`num` initial directions; fresh draws for networks that are not homogeneous."""
        key = jax.random.key(1)
        if self.order is not None:
            return jf.sample_ensemble(self.network, num, key=key)
        assert isinstance(self.network, eqx.nn.MLP)
        return _perceptrons(self.network, jax.random.split(key, num))

    @property
    def unit(self) -> float:
        """The weights `w` in units of the state `u`."""
        return 1.0 if self.order is None else self.scale

    @property
    def unit_of_outputs(self) -> float:
        """`δ^L`: the outputs of `w` in units of those of `u`, `H(x; δu) = δ^L H(x; u)`."""
        return 1.0 if self.order is None else float(self.scale**self.order)

    @property
    def unit_of_time(self) -> float:
        """The time `t` in units of `s`: `δ^(2-L)`."""
        return 1.0 if self.order is None else float(self.scale ** (2 - self.order))

    def field(self) -> Callable[[Float[Array, " p"]], Float[Array, " p"]]:
        """`u ↦ du/ds`."""
        flow, args = self.cartesian_flow, jnp.asarray(np.log(self.scale))
        zero = jnp.zeros(())
        return lambda u: flow.vector_field(zero, u, args)

    def origins(self, starts: eqx.Module) -> np.ndarray:
        """The states `u(0)` of an ensemble."""
        rows = np.asarray(eqx.filter_vmap(flatten)(starts))
        return rows if self.order is not None else self.scale * rows

    def ends(self, solution: jf.Solution) -> np.ndarray:
        """The states in which members ended."""
        rows = np.asarray(eqx.filter_vmap(flatten)(solution.networks))
        return rows / self.unit

    def losses(self, states: np.ndarray) -> np.ndarray:
        """The loss in each of these states."""
        networks = unflatten_rows(self.network, self.unit * np.asarray(states))
        return np.asarray(eqx.filter_vmap(lambda one: jf.loss(one, self.task))(networks))

    def members(self, num: int) -> tuple[eqx.Module, np.ndarray]:
        """`num` starts and for each the time `s` at which its loss reaches the level.

        Members that take more than two thousand steps to get there, a few in a hundred, are
        left out: what stragglers cost is another question (`engine.py`).
        """
        drawn = self.starts(2 * num + 8)
        pilot = jf.gradient_flow(
            drawn,
            self.task,
            scale=self.scale,
            stop=jf.LossBelow(self.level),
            rtol=1e-5,
            max_steps=2_000,
            progress=False,
        )
        rows = np.flatnonzero(pilot.status == "LossBelow")[:num]
        if len(rows) < num:
            raise RuntimeError(f"{self.name}: only {len(rows)} members reach {self.level}")
        return members(drawn, rows), pilot.rescaled_time[rows]

    def reference(self, starts: eqx.Module, horizons: np.ndarray) -> np.ndarray:
        """Where members really end: SciPy's DOP853 at rtol 1e-12.

        With kinks its RK23 at 1e-8, as high orders are lost on them.
        """
        method, rtol = ("DOP853", 1e-12) if self.smooth else ("RK23", 1e-8)
        solve = self.scipy_solver(method, rtol, 1e-2 * rtol)
        return np.stack([solve(*one) for one in zip(self.origins(starts), horizons)])

    def scipy_solver(
        self, method: str, rtol: float, atol: float, most_evaluations: float = np.inf
    ) -> Callable[[np.ndarray, float], np.ndarray]:
        """From where a member starts and its horizon to where SciPy says that it ends.

        No numbers, if that takes more than `most_evaluations`.
        """
        field = jax.jit(self.field())

        def solve(origin, horizon):
            counted = itertools.count()

            def velocity(s, u):
                if next(counted) >= most_evaluations:
                    raise _TooManyEvaluationsError
                return np.asarray(field(u))

            settings = {"t_eval": [horizon], "rtol": rtol, "atol": atol}
            try:
                found = scipy.integrate.solve_ivp(
                    velocity, (0.0, horizon), origin, method, **settings
                )
            except _TooManyEvaluationsError:
                return np.full_like(origin, np.nan)
            return found.y[:, -1]

        return solve

    def euler(self, num_steps: int) -> Callable[["Members"], np.ndarray]:
        """Where Euler's method ends: `lax.scan` over steps of one size, `vmap`, `jit`."""
        field = self.field()

        def solve(origin, horizon):
            step = horizon / num_steps
            ahead = lambda u, _: (u + step * field(u), None)
            return jax.lax.scan(ahead, origin, length=num_steps)[0]

        solve_all = jax.jit(jax.vmap(solve))
        return lambda group: np.asarray(solve_all(group.origins, group.horizons))

    def run(self, starts: eqx.Module, horizons: np.ndarray, **settings: Any) -> jf.Solution:
        """jaxflow until the horizons."""
        return jf.gradient_flow(
            starts,
            self.task,
            **{
                "scale": self.scale,
                "stop": jf.RescaledTime(horizons),
                "max_steps": 5_000_000,
                "progress": False,
                **settings,
            },
        )


def accuracy(rtol: float) -> dict[str, float]:
    """This relative tolerance, and a thousandth of it as the absolute one."""
    return {"rtol": rtol, "atol": 1e-3 * rtol}


class _TooManyEvaluationsError(Exception):
    pass


@dataclasses.dataclass(frozen=True)
class Members:
    """Some members of a problem: where they start, how long they go, where they end."""

    problem: Problem
    starts: Any
    horizons: np.ndarray
    ends: np.ndarray  # (members, parameters)

    @property
    def origins(self) -> np.ndarray:
        return self.problem.origins(self.starts)

    def take(self, rows: np.ndarray) -> "Members":
        starts = members(self.starts, rows)
        return Members(self.problem, starts, self.horizons[rows], self.ends[rows])

    def run(self, **settings: Any) -> jf.Solution:
        return self.problem.run(self.starts, self.horizons, **settings)

    def error(self, ends: np.ndarray) -> float:
        """The largest relative distance; no number if a member went out of bounds."""
        with np.errstate(over="ignore", invalid="ignore"):
            apart = np.linalg.norm(ends - self.ends, axis=1)
        return float(np.max(apart / np.linalg.norm(self.ends, axis=1)))

    def error_of(self, solution: jf.Solution) -> float:
        """The same; infinite if a member did not get to its end."""
        if not np.all(solution.status == "RescaledTime"):
            return np.inf
        return self.error(self.problem.ends(solution))

    def euler_steps(self, error: float, most: int) -> tuple[int, float] | None:
        """The fewest steps of Euler's method, by factors of two, with no larger error.

        And the error that they leave; `None` if it takes more than `most` steps.
        """
        num_steps = 64
        while num_steps <= most:
            if (left := self.error(self.problem.euler(num_steps)(self))) <= error:
                return num_steps, left
            num_steps *= 2
        return None


@eqx.filter_jit
def _perceptrons(network: eqx.nn.MLP, keys) -> eqx.nn.MLP:
    return eqx.filter_vmap(
        lambda key: eqx.nn.MLP(
            network.in_size,
            network.out_size,
            network.width_size,
            network.depth,
            activation=network.activation,
            key=key,
        )
    )(keys)


def linear() -> Problem:
    """Three modes, until the second is learned."""
    return Problem(*tasks.three_modes(), 0.1, 0.6, "linear")


def power_two() -> Problem:
    """D = 2, slope 0.5, power 2, n = 50, a teacher's targets.

    The order is three: with seven a plateau ends so suddenly that the state at a time just
    after it has no digits, whoever computes it.
    """
    made = tasks.teacher_student((10, 20, 1), jf.LeakyReLU(0.5, 2))
    return Problem(*made, 0.1, 0.1, "power 2")


def leaky_relu() -> Problem:
    """D = 3, slope 0.5, power 1, with kinks, n = 50, a teacher's targets."""
    made = tasks.teacher_student((10, 20, 20, 1), jf.LeakyReLU(0.5))
    return Problem(*made, 0.1, 0.3, "leaky ReLU", smooth=False)


def logistic() -> Problem:
    """Two layers of power 2 learn the signs of a teacher's outputs, n = 40."""
    return Problem(*tasks.signs_of_teacher(), 0.1, 0.5 * 40 * np.log(2), "logistic")


def convolutional() -> Problem:
    """Four 3 x 3 kernels of power 2 on fifty digits, logistic loss."""
    return Problem(*tasks.square_digits(50), 0.1, 0.5 * 50 * np.log(2), "convolutional")


def two_layer() -> Problem:
    """Two teacher neurons, one ten times weaker: from saddle to saddle."""
    return Problem(*tasks.two_neurons(0.3), 1e-2, 0.02, "two-layer, a saddle")


def digits() -> Problem:
    """The demo's hundred images of 3 and 8, logistic loss; D = 2, as in `power_two`."""
    return Problem(*tasks.digits(100), 0.1, 0.3 * 100 * np.log(2), "digits")


def softplus_small() -> Problem:
    """33 parameters with biases, softplus, a teacher of half the width, n = 200."""
    return _softplus(2, 8)


def softplus_large() -> Problem:
    """601 parameters with biases, softplus, a teacher of half the width, n = 200.

    Both in the manner of arXiv:2301.10638: teacher and student with one hidden layer of
    softplus neurons, standard normal inputs, square loss.
    """
    return _softplus(10, 50)


def _softplus(inputs: int, width: int) -> Problem:
    # From a loss of about 100, that of the best constant.
    return Problem(*tasks.softplus(inputs, width), 1.0, 2.0, "softplus")


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "linear": linear,
    "power-2": power_two,
    "leaky-relu": leaky_relu,
    "logistic": logistic,
    "convolutional": convolutional,
    "two-layer": two_layer,
    "digits": digits,
    "softplus-33": softplus_small,
    "softplus-601": softplus_large,
}

A_FEW = ("linear", "leaky-relu", "logistic")
"""Of the nine for a short run: one that is smooth, one with kinks, one with margins."""
