"""The δ → 0 limit of gradient flow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import diffrax
import equinox as eqx
from jaxtyping import ArrayLike

from .._arrays import by_precision
from .._checks import check_positive
from .._compiled import running
from ..flows import AbstractNetworkFlow, CorrelationFlow
from ..results import Solution
from ..solvers import AbstractStepper
from ..stops import AbstractStop, Stationary
from ..tasks import AbstractTask, TaskPerMember
from ._equation import AbstractEquation, Defaults
from ._execution import check_keywords, Execution, run, Unpack
from ._given import (
    given_record,
    given_stepping,
    Network,
    NetworksOrSolution,
    THAT_OF_SOLUTION,
)
from ._going_on import goes_on
from ._gradient_flow import order_of
from ._networks import check_directions
from ._record import Record
from ._simulation import Simulation
from ._stepping import Stepping


class CorrelationLimit(AbstractEquation):
    """`du/ds = ∇N(u)`, `u(0) = w₀`: the flow of the neural correlation function.

    In polar coordinates, where the direction follows Riemannian gradient ascent of `N` on
    the unit sphere, towards KKT points. There is no scale.

    Source:
        arXiv:2403.08121, section 3.

    Examples:
        >>> import jaxflow as jf
        >>> jf.CorrelationLimit().kind
        'neural correlation flow'
    """

    order: int | float | None = eqx.field(static=True, default=None, kw_only=True)
    """The network's order of homogeneity, once it has been measured."""
    kind = "neural correlation flow"
    has_scale = False

    def __check_init__(self):
        if self.order is not None:
            check_positive("order", self.order)

    def resolve(self, networks, task):
        check_directions(networks, "the limit δ → 0 is about where it turns")
        return CorrelationLimit(order=order_of(networks, task))

    def flow(self, network: eqx.Module, task: Any) -> AbstractNetworkFlow:
        assert self.order is not None
        return CorrelationFlow(network, task, self.order)

    def defaults(self, network, task, dtype):
        tolerance = by_precision(dtype, double=1e-8, single=1e-4)
        stepping = super().defaults(network, task, dtype).stepping
        return Defaults(stepping, stops=(Stationary(tolerance),))

    def describe(self):
        return {"order": self.order, "flow_coordinates": "polar"}


@running
@goes_on(CorrelationLimit)
def ncf_flow(
    networks: NetworksOrSolution[Network],
    task: AbstractTask | TaskPerMember = THAT_OF_SOLUTION,
    *,
    stop: AbstractStop | Sequence[AbstractStop] | None = None,
    solver: diffrax.AbstractSolver | AbstractStepper | str | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    max_steps: int = 10_000,
    record: Record | Mapping[str, Callable] | None = None,
    record_at: int | ArrayLike | Sequence | None = None,
    record_over: str | None = None,
    stepping: Stepping | None = None,
    ensemble: bool | None = None,
    trainable: Any = None,
    **execution: Unpack[Execution],
) -> Solution[Network]:
    """The δ → 0 limit of gradient flow: the flow of the neural correlation function.

    `du/ds = ∇N(u)`, `u(0) = w₀`, in polar coordinates, where the direction follows
    Riemannian gradient ascent of `N` on the unit sphere, towards KKT points.

    Arguments are as for `gradient_flow`, but there is no scale. `stop` is
    `Stationary(1e-8)` if not given, `Stationary(1e-4)` in float32. Norms are those of
    `u = w/δ`; recorded functions are given the network `u`.

    Returns:
        A `Solution` with `blow_up_time`, the rescaled time `T*` at which `u` becomes
        infinite (infinity if it does not, NaN where the member was stopped too early to
        tell). The `loss` is that at the origin, `log_time` is infinite for `L > 2`.

    Raises:
        InputError: for arguments that do not fit, weights that are all zero among them.
        NotHomogeneousError: for a network that is not homogeneous.

    Source:
        arXiv:2403.08121, section 3.

    Examples:
        >>> import jax, jaxflow as jf
        >>> key = jax.random.key(0)
        >>> network = jf.FeedForward((3, 1), jf.LeakyReLU(), key=key)
        >>> task = jf.Task(jax.numpy.eye(3), jax.numpy.array([3.0, 0.0, 4.0]))
        >>> limit = jf.ncf_flow(jf.sample_ensemble(network, 2, key=key), task)
        >>> round(float(limit.directions.weights[0][0, 0, 2]), 6)
        0.8
    """
    check_keywords("ncf_flow", execution)
    simulation = Simulation(
        CorrelationLimit(),
        networks,
        task,
        stop=stop,
        stepping=given_stepping(stepping, solver, rtol, atol, max_steps),
        record=given_record(record, record_at, record_over),
        ensemble=ensemble,
        trainable=trainable,
    )
    return run(simulation, **execution)
