"""Solvers for networks whose gradient jumps."""

from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._checks import check_number, shown
from ..errors import InputError
from ..networks import as_feed_forward, check_one, parameter_dtype, switches, unflattener
from ..solvers import SlidingSteps
from ..tasks import AbstractTask, check_task
from ._accepted import trained_on_task


class Sides(eqx.Module):
    """Tells for every sample and neuron the side of its kink, from the weights.

    Arguments:
        network: of which only the structure is read.
        task: the data and the loss.
    """

    network: eqx.Module
    task: AbstractTask

    def __call__(self, weights: Float[Array, " parameters"]) -> Bool[Array, "n neurons"]:
        return switches(unflattener(self.network)(weights), self.task.inputs)


def sliding_solver(
    solver: diffrax.AbstractSolver,
    network: eqx.Module,
    task: AbstractTask,
    *,
    factor: float = 30.0,
    trainable: Any = None,
) -> SlidingSteps:
    """A solver for (leaky) ReLU networks, with a looser tolerance where the flow slides.

    Where gradient flow slides along a kink every step crosses it, with an error that no
    order of a method and only a tiny step makes small, though these errors do not add up.
    Steps that slide are held to `factor` times the tolerances, all others to the
    tolerances. A pair of a neuron and a sample slides while it switches again and again.

    Arguments:
        solver: an explicit Runge–Kutta method of diffrax; one of low order, such as
            `Bosh3()`, is best.
        network: one network (not an ensemble) with a `LeakyReLU` of power 1, a slope other
            than 1 and no smoothing; or any module without biases that is a chain of
            matrices and (leaky) ReLUs, or that has a method `switches(x)`.
        task: the task of the run.
        factor: at least 1.
        trainable: that of the run.

    Returns:
        A solver for `gradient_flow` and `ncf_flow`, in polar or Cartesian coordinates.

    Raises:
        InputError: for arguments that do not fit or a network without kinks.

    Examples:
        >>> import diffrax, jax, jaxflow as jf
        >>> key = jax.random.key(0)
        >>> network = jf.FeedForward((3, 8, 8, 1), jf.LeakyReLU(0.5), key=key)
        >>> x = jf.data.sphere_points(10, 3, key=key)
        >>> task = jf.data.teacher_student(network, x, target_norm=1.0)
        >>> ensemble = jf.sample_ensemble(network, 2, key=key)
        >>> solver = jf.sliding_solver(diffrax.Bosh3(), network, task)
        >>> stop = jf.LossBelow(1e-2)
        >>> solution = jf.gradient_flow(ensemble, task, stop=stop, solver=solver, rtol=3e-5)
        >>> bool((solution.loss <= 1e-2).all())
        True
    """
    tableau = getattr(solver, "tableau", None)
    explicit = isinstance(solver, diffrax.AbstractERK)
    if not explicit or not isinstance(tableau, diffrax.ButcherTableau):
        raise InputError("solver", shown(solver), "an explicit method, such as Bosh3()")
    within = lambda number: 1 <= number < float("inf")
    factor = check_number("factor", factor, "a number >= 1", within)
    check_task(task)
    check_one(network)
    network = trained_on_task(network, task, trainable)
    dtype = parameter_dtype(network)
    task = task.astype(dtype).shaped_for(network)
    # A chain with the same parameters, if it is one: its kinks are known, whatever its
    # module calls its activation.
    network = as_feed_forward(network, task.inputs) or network
    try:
        eqx.filter_eval_shape(switches, network, task.inputs)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(
            "network", "one that fails on the task's samples", "one network for them"
        ) from error
    return SlidingSteps(  # pyright: ignore[reportCallIssue]
        solver, Sides(network, task), jnp.asarray(factor, dtype)
    )
