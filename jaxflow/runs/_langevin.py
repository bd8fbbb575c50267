"""Gradient flow with noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, PRNGKeyArray

from .._checks import check_positive, shown
from .._compiled import running
from ..errors import InputError
from ..flows import AbstractNetworkFlow, CartesianFlow, LangevinFlow
from ..networks import parameter_dtype
from ..results import Solution
from ..stops import AbstractStop, Time
from ..tasks import AbstractTask, TaskPerMember
from ._equation import AbstractEquation, Defaults
from ._execution import check_keywords, Execution, run, Unpack
from ._given import given_record, given_scale, Network, NetworksOrSolution, THAT_OF_SOLUTION
from ._going_on import goes_on
from ._numbers import key_words
from ._record import Record
from ._simulation import Simulation
from ._stepping import Stepping
from ._temperature import (
    check_temperature,
    Temperature,
    temperature_over_time,
    told_of,
)


class Langevin(AbstractEquation):
    """`dw = -∇𝓛(w) dt + sqrt(2T) dB`, `w(0) = δ w₀`: overdamped Langevin dynamics.

    Given `temperature`, `time`, `step`, `key` and `solver` as for `jaxflow.langevin_flow`.

    Raises:
        InputError: for arguments that do not fit.

    Examples:
        >>> import jax, jaxflow as jf
        >>> jf.Langevin(temperature=0.1, time=1.0, step=0.1, key=jax.random.key(0)).kind
        'Langevin flow'
    """

    temperature: float | tuple[tuple[float, float], ...] | Callable
    time: float
    step: float
    key_data: np.ndarray
    solver: diffrax.AbstractSolver
    kind = "Langevin flow"
    lasts = ("time",)
    hints = {
        "non_finite": "Steps that are too long diverge: try a shorter step=.",
        Time.__name__: "Try a larger time=.",
    }

    def __init__(
        self,
        *,
        temperature: Temperature,
        time: float,
        step: float,
        key: PRNGKeyArray,
        solver: diffrax.AbstractSolver | None = None,
    ):
        self.time, self.step = check_positive("time", time), check_positive("step", step)
        _check_time(self.time, self.step)
        self.temperature = check_temperature(temperature, self.time)
        self.key_data = key_words(key)
        self.solver = diffrax.ShARK() if solver is None else solver
        _levy_area(self.solver)

    @property
    def num_steps(self) -> int:
        """The most steps that a member takes, the last of which may be shorter."""
        return _num_steps(self.time, self.step)

    def flow(self, network: eqx.Module, task: Any) -> AbstractNetworkFlow:
        return LangevinFlow(  # pyright: ignore[reportCallIssue]
            CartesianFlow(network, task, None),
            temperature_over_time(self.temperature, parameter_dtype(network)),
            jnp.asarray(self.key_data),
            _levy_area(self.solver),
        )

    def defaults(self, network, task, dtype):
        stepping = Stepping(
            solver=self.solver,
            rtol=0.0,
            atol=0.0,
            controller=diffrax.ConstantStepSize(),
            dt0=self.step,
            max_steps=self.num_steps,
        )
        return Defaults(stepping, ends=(Time(self.time),), steps_are_given=True)

    def checked_length(self, name, value):
        return _check_time(check_positive(name, value), self.step)

    def describe(self):
        return {"temperature": told_of(self.temperature), "flow_coordinates": "cartesian"}


def _num_steps(time: float, step: float) -> int:
    return math.ceil(time / step * (1 + 1e-9)) + 1


def _check_time(time: float, step: float) -> float:
    """The time, if it holds steps of this size, and not too many."""
    if step > time:
        raise InputError("step", f"{step:g}", f"at most the time {time:g}")
    if time / step >= 2**31 - 2 or _num_steps(time, step) >= 2**31:
        raise InputError("step", f"{step:g}", f"a larger part of the time {time:g}")
    return time


@running
@goes_on(Langevin)
def langevin_flow(
    networks: NetworksOrSolution[Network],
    task: AbstractTask | TaskPerMember = THAT_OF_SOLUTION,
    *,
    temperature: Temperature = THAT_OF_SOLUTION,
    time: float = THAT_OF_SOLUTION,
    step: float = THAT_OF_SOLUTION,
    key: PRNGKeyArray = THAT_OF_SOLUTION,
    scale: ArrayLike | Sequence[float] = 1.0,
    stop: AbstractStop | Sequence[AbstractStop] = (),
    solver: diffrax.AbstractSolver | None = None,
    record: Record | Mapping[str, Callable] | None = None,
    record_at: int | ArrayLike | Sequence | None = None,
    record_over: str | None = None,
    ensemble: bool | None = None,
    trainable: Any = None,
    **execution: Unpack[Execution],
) -> Solution[Network]:
    """Gradient flow with noise, overdamped Langevin dynamics, from many initializations.

    `dw = -∇𝓛(w) dt + sqrt(2T) dB`, `w(0) = δ w₀`. Its stationary density is proportional
    to `exp(-𝓛(w)/T)`, where that can be normalized.

    The arguments are those of `gradient_flow`, and these:

    Arguments:
        temperature: `T`, positive; or stages `[(0, T), (time, T), …]`, each from its time
            on; or a function of the time `t`, such as a schedule of optax. A schedule may
            reach zero. The noise of a step has the temperature in the middle of it.
        time: the time `t` at which every member ends that has not met a stop condition;
            beside a `Solution`, counted from the start of its members.
        step: the size of a step, in units of `t`; all are of this size but the last.
        key: a random key. Every member has noise of its own.
        stop: conditions that look at the end of a step or at the time, not `NormAbove`.
        solver: a diffrax solver of stochastic differential equations, for additive noise;
            `ShARK()` (strong order 1.5, two gradients in a step) if not given. `Euler()` is
            the unadjusted Langevin algorithm.
        record_at: how many points of each path, which are then every second step, every
            fourth, …, or a grid over `record_over`: `"rescaled_time"`, which is the time
            `t` here, for every network, or another quantity that increases along the path.

    Returns:
        A `Solution`, in Cartesian coordinates; its rescaled time is `t`.

    Raises:
        InputError: for arguments that do not fit.

    Source:
        J. Foster, G. dos Reis and C. Strange, arXiv:2210.17543, equation (6.1), for the
        solver.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.FeedForward((2, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> task = jf.Task(jax.numpy.eye(2), jax.numpy.array([1.0, 2.0]))
        >>> ensemble = jf.sample_ensemble(network, 500, key=jax.random.key(1))
        >>> end = jf.langevin_flow(
        ...     ensemble, task, temperature=0.01, time=5.0, step=0.1, key=jax.random.key(2)
        ... )
        >>> weights = end.networks.weights[0]
        >>> bool(abs(weights[:, 0, 1].mean() - 2.0) < 0.03)
        True
    """
    check_keywords("langevin_flow", execution)
    simulation = Simulation(
        Langevin(temperature=temperature, time=time, step=step, key=key, solver=solver),
        networks,
        task,
        scale=given_scale(scale),
        stop=stop,
        record=given_record(record, record_at, record_over),
        ensemble=ensemble,
        trainable=trainable,
    )
    return run(simulation, **execution)


def _levy_area(solver: Any) -> type:
    """What a solver of stochastic equations needs of a Brownian path, if it is one."""
    expected = "a diffrax solver for additive noise, such as ShARK() or Euler()"
    stochastic = isinstance(
        solver, (diffrax.AbstractItoSolver, diffrax.AbstractStratonovichSolver)
    )
    underdamped = isinstance(solver, diffrax.AbstractFosterLangevinSRK)
    if not stochastic or underdamped:
        raise InputError("solver", shown(solver), expected)
    needed = getattr(solver, "minimal_levy_area", diffrax.AbstractBrownianIncrement)
    for levy_area in (
        diffrax.BrownianIncrement,
        diffrax.SpaceTimeLevyArea,
        diffrax.SpaceTimeTimeLevyArea,
    ):
        if issubclass(levy_area, needed):
            return levy_area
    raise InputError("solver", shown(solver), expected)
