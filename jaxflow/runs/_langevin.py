"""Gradient flow with noise."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import diffrax
import jax.numpy as jnp
from jaxtyping import ArrayLike, PRNGKeyArray

from ..engine import Schedule
from ..errors import InputError
from ..flows import CartesianFlow, LangevinFlow
from ..results import Solution
from ..stopping import AbstractStop, LogTime, RescaledTime, Time
from ..tasks import Task
from ._checks import (
    check_key,
    check_networks,
    check_positive,
    check_record,
    check_scale,
    check_schedule,
    check_stops,
    check_store,
    Stepping,
)
from ._functions import Networks, Noise, simulate


def langevin_flow(
    networks: Networks,
    task: Task,
    *,
    temperature: float,
    time: float,
    step: float,
    key: PRNGKeyArray,
    scale: ArrayLike | Sequence[float] = 1.0,
    stop: AbstractStop | Sequence[AbstractStop] = (),
    solver: diffrax.AbstractSolver | None = None,
    record: Mapping[str, Callable] | None = None,
    record_at: ArrayLike | Sequence | None = None,
    record_over: str = "rescaled_time",
    ensemble: bool | None = None,
    schedule: Schedule | None = None,
    store: str | os.PathLike | None = None,
    progress: bool | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> Solution:
    """Gradient flow with noise, overdamped Langevin dynamics, from many initializations.

    `dw = -∇𝓛(w) dt + sqrt(2T) dB`, `w(0) = δ w₀`. Its stationary density is proportional
    to `exp(-𝓛(w)/T)`, where that can be normalized.

    **Arguments:** as for `gradient_flow`, and

    - `temperature`: `T`, positive.
    - `time`: the time `t` at which every member ends that has not met a stop condition.
    - `step`: the size of a step, in units of `t`; all are of this size but the last.
    - `key`: a random key. Every member has noise of its own.
    - `stop`: conditions that look at the end of a step or at the time, not `NormAbove`.
    - `solver`: a diffrax solver of stochastic differential equations, for additive noise;
      `ShARK()` (strong order 1.5, two gradients in a step) if not given. `Euler()` is the
      unadjusted Langevin algorithm.
    - `record_over`: `"rescaled_time"`, which is the time `t` here, for every network, or
      another quantity that increases along the path.

    **Returns:** a `Solution`, in Cartesian coordinates; its rescaled time is `t`.

    **Raises:** `InputError` for arguments that do not fit.

    **Source:** J. Foster, G. dos Reis and C. Strange, arXiv:2210.17543, equation (6.1), for
    the solver.

    >>> import jax, jaxflow as jf
    >>> network = jf.FeedForward((2, 1), jf.LeakyReLU(), key=jax.random.key(0))
    >>> task = jf.Task(jax.numpy.eye(2), jax.numpy.array([1.0, 2.0]))
    >>> ensemble = jf.sample_ensemble(network, 500, key=jax.random.key(1))
    >>> end = langevin_flow(
    ...     ensemble, task, temperature=0.01, time=5.0, step=0.1, key=jax.random.key(2)
    ... )
    >>> weights = end.networks.weights[0]
    >>> bool(abs(weights[:, 0, 1].mean() - 2.0) < 0.03)
    True
    """
    checked = check_networks(networks, task, ensemble)
    task = task.astype(checked.dtype)
    temperature = check_positive("temperature", temperature)
    time, step = check_positive("time", time), check_positive("step", step)
    if step > time:
        raise InputError("step", f"{step:g}", f"at most the time {time:g}")
    num_steps = math.ceil(time / step * (1 + 1e-9)) + 1
    if num_steps >= 2**31:
        raise InputError("step", f"{step:g}", f"a larger part of the time {time:g}")
    check_key(key)
    stops = check_stops(stop, checked)
    for given in stops:
        if given.exact and not isinstance(given, (Time, RescaledTime, LogTime)):
            raise InputError(
                "stop",
                f"{type(given).__name__}, which holds at one moment within a step",
                "conditions on the time, or such as hold after a step",
            )
    solver = diffrax.ShARK() if solver is None else solver
    without_noise = CartesianFlow(checked.one, task, None)
    flow = LangevinFlow(
        checked.one,
        without_noise,
        jnp.asarray(temperature, checked.dtype),
        _levy_area(solver),
    )
    return simulate(
        "Langevin flow",
        without_noise,
        checked,
        task,
        scale=check_scale(scale, checked),
        stops=(*stops, *check_stops(Time(time), checked)),
        stepping=Stepping(
            solver=solver,
            controller=diffrax.ConstantStepSize(),
            rtol=0.0,
            atol=0.0,
            first_step=step,
            max_steps=num_steps,
        ),
        recordables=check_record(record, record_at, record_over, checked, task),
        schedule=check_schedule(schedule),
        store=check_store(store),
        progress=progress,
        attrs={
            "temperature": temperature,
            "flow_coordinates": "cartesian",
            **(attrs or {}),
        },
        noise=Noise(flow, key),
    )


def _levy_area(solver: Any) -> type:
    """What a solver of stochastic equations needs of a Brownian path, if it is one."""
    expected = "a diffrax solver for additive noise, such as ShARK() or Euler()"
    stochastic = isinstance(
        solver, (diffrax.AbstractItoSolver, diffrax.AbstractStratonovichSolver)
    )
    underdamped = isinstance(solver, diffrax.AbstractFosterLangevinSRK)
    if not stochastic or underdamped:
        raise InputError("solver", repr(solver), expected)
    needed = getattr(solver, "minimal_levy_area", diffrax.AbstractBrownianIncrement)
    for levy_area in (
        diffrax.BrownianIncrement,
        diffrax.SpaceTimeLevyArea,
        diffrax.SpaceTimeTimeLevyArea,
    ):
        if issubclass(levy_area, needed):
            return levy_area
    raise InputError("solver", repr(solver), expected)
