"""The problem that the benchmarks share, and plain diffrax on that problem."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

import jaxflow as jf
from jaxflow.flows import PolarFlow
from jaxflow.networks import members
from jaxflow.solvers import FlowController, PredictiveController

from .tasks import Learner, teacher_student


class FirstBelow(jf.LossBelow):
    """Ends a member at the first step after which its loss is below the value, as an event
    of diffrax without a root finder does."""

    def closeness(self) -> None:
        return None


@dataclasses.dataclass(frozen=True)
class Workload(Learner):
    """Gradient flow that has to escape from the origin, where the loss is 1/2."""

    network: jf.FeedForward
    task: jf.Task
    scale: float = 1e-2
    level: float = 0.45
    rtol: float = 1e-6
    atol: float = 1e-8
    max_steps: int = 3000

    def starts(self, num: int) -> jf.FeedForward:
        """`num` initial directions."""
        return jf.sample_ensemble(self.network, num, key=jax.random.key(2))

    def run(self, starts: eqx.Module, **settings: Any) -> jf.Solution:
        """What jaxflow is timed on: one call; `settings` replace those of the workload."""
        return jf.gradient_flow(
            starts,
            self.task,
            **{
                "scale": self.scale,
                "stop": jf.LossBelow(self.level),
                "solver": diffrax.Tsit5(),
                "rtol": self.rtol,
                "atol": self.atol,
                "max_steps": self.max_steps,
                "coordinates": "polar",
                "progress": False,
                **settings,
            },
        )

    @property
    def dtype(self) -> np.dtype:
        return self.network.weights[0].dtype

    @property
    def flops_per_vjp(self) -> int:
        """In its matrix products.

        Two operations for each weight and sample forward and four backward, of which the
        first layer spares two, as nobody asks for the gradient in the inputs.
        """
        first, n = self.network.weights[0].size, self.task.num_samples
        return 2 * n * (3 * self.num_parameters - first)

    @property
    def polar_flow(self) -> PolarFlow:
        return PolarFlow(self.network, self.task, self.order)

    @property
    def log_scale(self) -> Float[Array, ""]:
        return jnp.asarray(np.log(self.scale), self.dtype)


def workload_e(
    *,
    width: int = 20,
    num_samples: int = 50,
    depth: int = 3,
    power: int = 2,
    dtype: Any = jnp.float64,
    **settings: Any,
) -> Workload:
    """Workload E: a network (10, width, width, 1) of order 7 learns a teacher's outputs.

    Other depths and powers have other orders.
    """
    sizes = (10, *(width,) * (depth - 1), 1)
    network, task = teacher_student(sizes, jf.LeakyReLU(0.5, power), num_samples)
    # Drawn in the default precision and rounded: the same problem in every precision.
    network = jax.tree_util.tree_map(lambda leaf: leaf.astype(dtype), network)
    if jnp.dtype(dtype).itemsize == 4:  # what float32 can meet
        settings = {"rtol": 1e-5, "atol": 1e-7, **settings}
    return Workload(network, task.astype(dtype), **settings)


def quick_rows(workload: Workload, num: int, *, most_steps: int = 200) -> np.ndarray:
    """Which of the `num_drawn(num)` starts come first that stop within `most_steps`."""
    pilot = workload.run(workload.starts(num_drawn(num)), max_steps=most_steps)
    rows = np.flatnonzero(pilot.status == "LossBelow")
    if len(rows) < num:
        raise RuntimeError(f"only {len(rows)} of {num} starts stop in {most_steps} steps")
    return rows[:num]


def quick_starts(workload: Workload, num: int) -> jf.FeedForward:
    """`num` starts without a straggler among them."""
    return members(workload.starts(num_drawn(num)), quick_rows(workload, num))


def num_drawn(num: int) -> int:
    """So many starts hold `num` quick ones, of which there are 97 in a hundred or more."""
    return num + num // 4 + 8


def levels_with_stragglers(workload: Workload, num: int, every: int) -> np.ndarray:
    """The loss each member has to reach; for one in `every` it is out of reach."""
    levels = np.full(num, workload.level)
    levels[straggler_rows(num, every)] = 0.0
    return levels


def straggler_rows(num: int, every: int) -> np.ndarray:
    """Spread evenly, so that neither the first nor the last member is one."""
    stragglers = num // every
    return ((np.arange(stragglers) + 0.5) * num / max(stragglers, 1)).astype(int)


def check_stopped_by(solution: jf.Solution, status: str) -> None:
    """All members ended for this one reason."""
    names, counts = np.unique(solution.status, return_counts=True)
    if names.tolist() != [status]:
        found = ", ".join(f"{name}: {count}" for name, count in zip(names, counts))
        raise AssertionError(f"members were to end by {status}, and ended by {found}")


def few_for_all(num_steps: np.ndarray, few: int) -> np.ndarray:
    """Members whose numbers of steps are evenly spaced quantiles of all members'."""
    quantiles = (np.arange(few) + 0.5) / few
    return np.argsort(num_steps, kind="stable")[(quantiles * len(num_steps)).astype(int)]


class Endings(NamedTuple):
    """Where plain diffrax ended each member."""

    loss: Float[Array, " num"]
    rescaled_time: Float[Array, " num"]
    num_steps: Int[Array, " num"]
    stopped: Bool[Array, " num"]  # by the event, and not by `max_steps`


def vmapped_diffeqsolve(
    workload: Workload,
) -> Callable[[eqx.Module, Float[ArrayLike, " num"]], Endings]:
    """What one writes without jaxflow: `diffrax.diffeqsolve` under one `jax.vmap`.

    Given jaxflow's own vector field, step size control and first step, so that it takes
    the same steps and the difference is the engine's alone.
    """
    flow = workload.polar_flow
    solver, terms = diffrax.Tsit5(), diffrax.ODETerm(flow.vector_field)
    rtol, atol = (jnp.asarray(x, workload.dtype) for x in (workload.rtol, workload.atol))
    controller = FlowController(
        PredictiveController(rtol, atol, flow.error_norm),
        flow.view_error,
    )
    log_scale = workload.log_scale

    def solve(network, level):
        def is_below(t, y, args, **kwargs):
            return flow.snapshot(t, y, y, args).loss <= level

        start = flow.enter(network, log_scale)
        zero, order = jnp.zeros_like(log_scale), solver.error_order(terms)
        # diffeqsolve hides the term from the choice of a first step, and then takes 0.01.
        first_step, _ = controller.init(
            terms, zero, jnp.inf, start, None, log_scale, solver.func, order
        )
        solution = diffrax.diffeqsolve(
            terms,
            solver,
            0.0,
            1e30,  # finite in float32 too
            first_step,
            start,
            log_scale,
            stepsize_controller=controller,
            event=diffrax.Event(is_below),
            max_steps=workload.max_steps,
            throw=False,
        )
        end = jax.tree_util.tree_map(lambda leaf: leaf[-1], solution.ys)
        final = flow.snapshot(solution.ts[-1], end, end, log_scale)
        return Endings(
            loss=final.loss,
            rescaled_time=final.rescaled_time,
            num_steps=solution.stats["num_steps"],
            stopped=solution.result == diffrax.RESULTS.event_occurred,
        )

    return jax.vmap(solve)
