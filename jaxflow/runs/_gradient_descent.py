"""Gradient descent, with all samples or a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import ArrayLike, PRNGKeyArray

from .._checks import check_whole, shown
from .._compiled import running
from ..errors import InputError
from ..flows import AbstractNetworkFlow, DescentFlow, StochasticDescentFlow, TunedFlow
from ..networks import member_numbers, parameter_dtype, Parameters
from ..results import Solution
from ..solvers import Optimizer, Updates
from ..stops import AbstractStop, NumSteps
from ..tasks import AbstractTask, TaskPerMember
from ._equation import AbstractEquation, Defaults
from ._execution import check_keywords, Execution, run, Unpack
from ._given import given_record, given_scale, Network, NetworksOrSolution, THAT_OF_SOLUTION
from ._going_on import goes_on
from ._numbers import key_words
from ._record import Record
from ._simulation import Simulation
from ._stepping import Stepping


class GradientDescent(AbstractEquation):
    """`w_{k+1} = w_k + update(-∇𝓛(w_k))`, by any optax optimizer.

    Given `optimizer`, `num_steps`, `batch_size` and `key` as for
    `jaxflow.gradient_descent`.

    Raises:
        InputError: for arguments that do not fit.

    Examples:
        >>> import jaxflow as jf, optax
        >>> jf.GradientDescent(optax.sgd(0.1), num_steps=10).kind
        'gradient descent'
    """

    optimizer: optax.GradientTransformation = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    batch_size: int | None = eqx.field(static=True)
    key_data: np.ndarray | None
    first: Any
    """The number of the first member, from which rates of each one's own are counted."""
    lasts = ("num_steps",)
    hints = {
        "non_finite": "Descent that diverges needs a smaller learning rate.",
        "loss_rose": "Descent that diverges needs a smaller learning rate.",
        NumSteps.__name__: "Try a larger num_steps=, or another learning rate.",
    }

    def __init__(
        self,
        optimizer: optax.GradientTransformation,
        num_steps: int,
        batch_size: int | None = None,
        key: PRNGKeyArray | None = None,
    ):
        if not isinstance(optimizer, optax.GradientTransformation):
            raise InputError("optimizer", shown(optimizer), "an optax optimizer")
        if batch_size is None and key is not None:
            raise InputError("batch_size", "none beside key", "a number of samples")
        self.optimizer = optimizer
        self.num_steps = check_whole("num_steps", num_steps)
        self.batch_size = (
            None if batch_size is None else check_whole("batch_size", batch_size)
        )
        self.first = np.zeros((), np.int64)
        self.key_data = None if batch_size is None else key_words(key)

    @property
    def kind(self) -> str:  # pyright: ignore
        few = self.batch_size is not None
        return "stochastic gradient descent" if few else "gradient descent"

    def resolve(self, networks, task):
        if self.batch_size is not None and self.batch_size > task.num_samples:
            expected = f"at most the {task.num_samples} samples"
            raise InputError("batch_size", f"{self.batch_size}", expected)
        own = Optimizer(self.optimizer).own
        for rates in own:
            if networks.num is None or rates.shape != (networks.num,):
                num = "" if networks.num is None else f", or one for each of {networks.num}"
                found = f"numbers of shape {rates.shape} in inject_hyperparams"
                raise InputError("optimizer", found, f"one number{num}")
        if not own:
            return self
        return eqx.tree_at(lambda e: e.first, self, np.asarray(networks.start, np.int64))

    def flow(self, network: eqx.Module, task: Any) -> AbstractNetworkFlow:
        flow: Any = DescentFlow(network, task)
        if self.batch_size is not None:
            key_data = jnp.asarray(self.key_data)
            flow = StochasticDescentFlow(  # pyright: ignore[reportCallIssue]
                flow, key_data, self.batch_size
            )
        own = Optimizer(self.optimizer).own
        if not own:
            return flow
        dtype = parameter_dtype(network)
        rates = tuple(jnp.asarray(each, dtype) for each in own)
        first = jnp.asarray(member_numbers(self.first).low)
        return TunedFlow(flow, rates, first)  # pyright: ignore[reportCallIssue]

    def defaults(self, network, task, dtype):
        stepping = Stepping(
            solver=Updates(self.optimizer, Parameters(network)),
            rtol=0.0,
            atol=0.0,
            controller=diffrax.ConstantStepSize(),
            dt0=1.0,
            max_steps=self.num_steps,
        )
        return Defaults(
            stepping,
            ends=(NumSteps(self.num_steps),),
            record_over="clock",
            steps_are_given=True,
        )

    def checked_length(self, name, value):
        return check_whole(name, value)

    def describe(self):
        return {"flow_coordinates": "cartesian", "batch_size": self.batch_size}


@running
@goes_on(GradientDescent)
def gradient_descent(
    networks: NetworksOrSolution[Network],
    task: AbstractTask | TaskPerMember = THAT_OF_SOLUTION,
    *,
    optimizer: optax.GradientTransformation = THAT_OF_SOLUTION,
    num_steps: int = THAT_OF_SOLUTION,
    batch_size: int | None = None,
    key: PRNGKeyArray | None = None,
    scale: ArrayLike | Sequence[float] = 1.0,
    stop: AbstractStop | Sequence[AbstractStop] = (),
    record: Record | Mapping[str, Callable] | None = None,
    record_at: int | ArrayLike | Sequence | None = None,
    record_over: str | None = None,
    ensemble: bool | None = None,
    trainable: Any = None,
    **execution: Unpack[Execution],
) -> Solution[Network]:
    """Gradient descent on the same loss from the same initializations.

    `w_{k+1} = w_k + update(-∇𝓛(w_k))`; with `optax.sgd(η)` that is Euler's method for
    gradient flow with step `η`, `w_{k+1} = w_k - η ∇𝓛(w_k)`.

    The arguments are those of `gradient_flow`, and these:

    Arguments:
        optimizer: any optax optimizer. Another learning rate does not compile again, nor do
            other numbers of `optax.inject_hyperparams`, which may be arrays (num,), one for
            each member: `optax.inject_hyperparams(optax.sgd)(learning_rate=rates)`.
        num_steps: how many steps to take. The members of a `Solution` go on to so many,
            counted from their start, with the state of its optimizer.
        batch_size: for stochastic gradients, `b` samples drawn anew for every step and
            member, without replacement; the gradient of their loss times `n/b` has the mean
            `∇𝓛`. All `n` samples if not given. Losses are those of all samples.
        key: a random key, for these samples.
        stop: a member ends after the first step that meets a condition, `NormAbove` too.
        record_at: how many points of each path, which are then every second step, every
            fourth, …, or a grid over `record_over`: `"clock"`, the number of steps, or
            `"log_norm"`.

    Returns:
        A `Solution`; its times are NaN, since an optimizer has steps and no time.
        `stats.num_vjps` counts gradients, of `b` samples each, without those of line
        searches.

    Raises:
        InputError: for arguments that do not fit.

    Examples:
        >>> import equinox as eqx, jax, jax.numpy as jnp, jaxflow as jf, optax
        >>> network = jf.DiagonalLinear(1, 2, key=jax.random.key(0))
        >>> network = eqx.tree_at(lambda n: n.factors[0], network, jnp.array([[1.0, 0.0]]))
        >>> task = jf.Task(jax.numpy.eye(2), jax.numpy.zeros(2))
        >>> descent = jf.gradient_descent(
        ...     network, task, optimizer=optax.sgd(0.5), num_steps=2
        ... )
        >>> round(float(descent.networks.factors[0][0, 0]), 6)
        0.25
    """
    check_keywords("gradient_descent", execution)
    simulation = Simulation(
        GradientDescent(optimizer, num_steps, batch_size, key),
        networks,
        task,
        scale=given_scale(scale),
        stop=stop,
        record=given_record(record, record_at, record_over),
        ensemble=ensemble,
        trainable=trainable,
    )
    return run(simulation, **execution)
