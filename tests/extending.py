"""A script of a user: a flow, a stepper and a stop condition that jaxflow knows nothing of.

Momentum gradient flow, `ẅ + γ ẇ = -∇𝓛(w)`, `ẇ(0) = 0`.
"""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxflow as jf
from jaxflow import flows, networks, solvers


class MomentumFlow(flows.AbstractPlainFlow):
    network: eqx.Module
    task: jf.Task
    friction: float
    shows = ("time", "log_time", "log_norm", "loss", "speed")

    def enter(self, network, args):
        weights = jnp.exp(args) * networks.flatten(network)
        return weights, jnp.zeros_like(weights)

    @staticmethod
    def weights(state):
        return state[0]

    def vector_field(self, clock, state, args):
        weights, velocity = state
        pull = flows.pull_back(self.network, self.task, weights, self.task.residuals)
        return velocity, pull - self.friction * velocity

    def snapshot(self, clock, state, velocity, args):
        outputs = flows.outputs_at(self.network, self.task, state[0])
        log_norm, direction = flows.log_norm_and_direction(state[0])
        return flows.snapshot(
            direction,
            log_time=jnp.log(clock),
            log_norm=log_norm,
            loss=self.task.total_loss(outputs),
            speed=jnp.linalg.norm(state[1]),
        )

    def clock_at(self, quantity, value, args):
        return {"time": value, "log_time": jnp.exp(value)}.get(quantity)


class Momentum(jf.AbstractEquation):
    friction: float
    kind = "momentum gradient flow"

    def flow(self, network, task):
        return MomentumFlow(network, task, self.friction)

    def describe(self):
        return {"friction": self.friction}


class SpeedBelow(jf.AbstractCondition):
    """Ends a member that has become slow, once it has moved."""

    value: float
    needs = ("speed", "time")

    def gap(self, shown):
        return jnp.where(shown.time > 1, self.value - shown.speed, -1.0)


class Midpoint(solvers.AbstractStepper):
    """The midpoint rule, `y ← y + h f(y + h f(y)/2)`: of order two."""

    divisible = True
    estimates_error = False
    evaluations_per_attempt = 2
    is_light = False

    def init(self, terms, t0, t1, y0, args):
        return jnp.zeros((), jnp.int32)  # how many steps were accepted

    def attempt(self, terms, t0, t1, y0, args, state):
        moved = lambda y, share, f: jax.tree_util.tree_map(
            lambda a, b: a + share * (t1 - t0) * b, y, f
        )
        middle = moved(y0, 0.5, terms.vf(t0, y0, args))
        y1 = moved(y0, 1.0, terms.vf(t0, middle, args))
        return solvers.Step(
            candidate=y1,
            error=None,
            error_order=2,
            dense_info={"y0": y0, "y1": y1},
            result=diffrax.RESULTS.successful,
            ready=jnp.asarray(True),
            settle=lambda accepted: state + accepted.astype(state.dtype),
        )

    def interpolation(self, t0, t1, dense_info):
        return diffrax.LocalLinearInterpolation(t0=t0, t1=t1, **dense_info)

    def longest_step(self, state):
        return None

    def cost(self, state, num_attempts):
        return solvers.Work(2 * num_attempts)

    def error_order(self, terms):
        return 2


def simulation(num=6, *, key=3, friction=0.5, stop=None, record=None, **options):
    """A small run of it."""
    network = jf.FeedForward((3, 4, 1), jf.LeakyReLU(0.5, 2), key=jax.random.key(0))
    x = jf.data.sphere_points(8, 3, key=jax.random.key(1))
    task = jf.data.teacher_student(network, x, target_norm=1.0)
    return jf.Simulation(
        Momentum(friction),
        jf.Initializations(network, num, key=jax.random.key(key)),
        task,
        stop=[jf.Time(4.0)] if stop is None else stop,
        record=record,
        **options,
    )


def many():
    """Members that end at very different times, some at once and some late."""
    times = np.geomspace(0.01, 40.0, 400)
    record = jf.Record({"norm": jf.norm}, [0.0, 0.5, 10.0], over="time")
    return simulation(400, stop=[jf.LossBelow(1e-8), jf.Time(times)], record=record)
