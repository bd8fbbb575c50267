"""Gradient flow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax
import numpy as np
from jaxtyping import ArrayLike

from .._checks import check_choice, check_positive
from .._compiled import running
from .._trained import parameters_of
from ..errors import InputError, NotHomogeneousError
from ..flows import AbstractNetworkFlow, block_polar_flow, CartesianFlow, PolarFlow
from ..networks import are_separable, blocks, member, order
from ..results import Solution
from ..solvers import AbstractStepper
from ..stops import AbstractStop
from ..tasks import AbstractTask, TaskPerMember
from ._equation import AbstractEquation
from ._execution import check_keywords, Execution, run, Unpack
from ._given import (
    given_record,
    given_scale,
    given_stepping,
    Network,
    NetworksOrSolution,
    THAT_OF_SOLUTION,
)
from ._going_on import goes_on
from ._networks import AbstractNetworks, check_directions
from ._record import Record
from ._simulation import Simulation
from ._stepping import Stepping

_COORDINATES = ("auto", "polar", "block_polar", "cartesian")


class GradientFlow(AbstractEquation):
    """`dw/dt = -∇𝓛(w)`, `w(0) = δ w₀`.

    Arguments:
        coordinates: `"polar"` for homogeneous networks, `"cartesian"` for all, `"auto"` for
            polar where that is possible; `"block_polar"` for a log-norm and a direction of
            every block (hidden neuron of a two-layer network, coordinate of a diagonal one,
            else layer), so that small blocks are as accurate as large ones. Weights that
            are all zero stay there in any coordinates if the order is above one; else
            `"auto"` is Cartesian.

    Raises:
        InputError: for other coordinates.

    Source:
        arXiv:2403.08121, equation (1); polar form as in the documentation.

    Examples:
        >>> import jaxflow as jf
        >>> jf.GradientFlow("polar").kind
        'gradient flow'
    """

    coordinates: str = eqx.field(static=True, default="auto")
    order: int | float | None = eqx.field(static=True, default=None, kw_only=True)
    """The network's order of homogeneity, once it has been measured."""
    kind = "gradient flow"

    def __check_init__(self):
        check_choice("coordinates", self.coordinates, _COORDINATES)
        if self.order is not None:
            check_positive("order", self.order)

    def resolve(self, networks, task):
        degree = self._order(networks, task)
        coordinates = self.coordinates
        # Zero weights of order one leave the origin, in a direction that they do not have.
        leaves_zero = degree is not None and degree <= 1 and networks.has_zero
        if coordinates == "auto" or degree is None:
            plain = degree is None or leaves_zero
            coordinates = "cartesian" if plain else "polar"
        elif coordinates != "cartesian" and leaves_zero:
            why = f'networks of order {degree:g} start from zero in "cartesian" only'
            check_directions(networks, why)
        if coordinates == "block_polar":
            _check_blocks(networks, task)
        return GradientFlow(coordinates, order=degree)

    def flow(self, network: eqx.Module, task: Any) -> AbstractNetworkFlow:
        if self.order is None or self.coordinates == "cartesian":
            return CartesianFlow(network, task, self.order)
        if self.coordinates == "block_polar":
            return block_polar_flow(network, task, self.order, blocks(network, task.inputs))
        return PolarFlow(network, task, self.order)

    def describe(self):
        return {"order": self.order, "flow_coordinates": self.coordinates}

    def _order(self, networks: AbstractNetworks, task: AbstractTask) -> int | float | None:
        """The order of the network; `None` where it has none and Cartesian do."""
        try:
            return order_of(networks, task)
        except InputError as error:
            # Zero or NaN at random weights is no hindrance to a flow from other weights.
            if self.coordinates in ("auto", "cartesian"):
                return None
            if not isinstance(error, NotHomogeneousError):
                raise
            raise NotHomogeneousError(
                "coordinates",
                f'"{self.coordinates}" with {_whose_fault(error)}{error.found}',
                '"auto" or "cartesian"',
                error.discrepancy,
            ) from error


@running
@goes_on(GradientFlow)
def gradient_flow(
    networks: NetworksOrSolution[Network],
    task: AbstractTask | TaskPerMember = THAT_OF_SOLUTION,
    *,
    scale: ArrayLike | Sequence[float] = 1.0,
    stop: AbstractStop | Sequence[AbstractStop] = (),
    solver: diffrax.AbstractSolver | AbstractStepper | str | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    max_steps: int = 10_000,
    coordinates: str = "auto",
    record: Record | Mapping[str, Callable] | None = None,
    record_at: int | ArrayLike | Sequence | None = None,
    record_over: str | None = None,
    stepping: Stepping | None = None,
    ensemble: bool | None = None,
    trainable: Any = None,
    **execution: Unpack[Execution],
) -> Solution[Network]:
    """Gradient flow of the loss from many initializations at once.

    `dw/dt = -∇𝓛(w)`, `w(0) = δ w₀`.

    Arguments:
        networks: one Equinox module, or an ensemble: every array with a leading axis (num,
            …). Its parameters are `w₀`, of unit norm if `sample_ensemble` drew them. Or
            members that come when they are needed: `Initializations`, or an iterator of
            modules. Or a `Solution` of this function, whose members go on as if they had
            never stopped; beside it only `stop`, `max_steps`, and what does not change
            numbers.
        task: the data and the loss; a `jaxflow.TaskPerMember` if each member has its own.
        scale: the initialization scale δ, positive, scalar or (num,).
        stop: stop conditions; a member ends at the first that it meets.
        solver: any diffrax solver of ordinary differential equations; `"auto"` if not
            given, which is Tsit5 while accuracy limits the steps, and stabilized or
            implicit steps where stability does: on plateaus.
        rtol: with `atol` the tolerance of a step. A weight's error (in polar coordinates
            that of an entry of the direction) is measured against `atol + rtol |entry|`,
            the errors of the logarithm of the norm against `atol + rtol`. 1e-6 if not
            given, 1e-5 in float32; with kinks 3e-5 and 1e-4.
        atol: 1e-9 if not given, 1e-7 in float32; with kinks 1e-3 times these `rtol`.
        max_steps: attempted steps after which a member gives up; every 20 gradients of a
            stabilized solver, or of `"auto"`, use up a step at least.
        coordinates: as for `jaxflow.GradientFlow`.
        record: named functions of (network, task), each giving one array, or a
            `jaxflow.Record`.
        record_at: how many points along each member's own path, such as 100; or an
            increasing grid, (points,) or (num, points), of the quantity `record_over`:
            `"rescaled_time"` (the default), `"time"`, `"log_time"` or `"log_norm"`.
        record_over: see `record_at`.
        stepping: a `jaxflow.Stepping`, for what is seldom needed: a step size controller,
            the first step. It goes before `solver`, `rtol`, `atol` and `max_steps`.
        ensemble: says whether `networks` is one, where its shapes leave that open.
        trainable: a filter, as for `equinox.partition`, of what is trained: a function of
            one leaf, or a pytree prefix of booleans. All else is kept as it is, and counts
            in neither norm nor order; each member may have its own. Inexact arrays that a
            gradient reaches if not given. The networks of the solution keep it, as
            `not_trained`.
        store: as for `jaxflow.run`.
        progress: as for `jaxflow.run`.
        schedule: as for `jaxflow.run`.
        attrs: as for `jaxflow.run`.

    Returns:
        A `Solution`.

    Raises:
        InputError: for arguments that do not fit.
        NotHomogeneousError: for polar coordinates with a network that is not homogeneous.
        StoreError: for a store that holds another run or cannot be written.

    Source:
        arXiv:2403.08121, equation (1); polar form as in the documentation.

    Examples:
        >>> import jax, jaxflow as jf
        >>> key = jax.random.key(0)
        >>> network = jf.FeedForward((3, 8, 1), jf.LeakyReLU(0.5, 2), key=key)
        >>> x = jf.data.sphere_points(10, 3, key=key)
        >>> task = jf.data.teacher_student(network, x, target_norm=1.0)
        >>> ensemble = jf.sample_ensemble(network, 4, key=key)
        >>> solution = jf.gradient_flow(
        ...     ensemble, task, scale=1e-20, stop=[jf.LossBelow(0.45)]
        ... )
        >>> bool((solution.loss <= 0.45).all())
        True
        >>> further = jf.gradient_flow(solution, stop=[jf.LossBelow(0.4)])
        >>> bool((further.loss <= 0.4).all())
        True
    """
    check_keywords("gradient_flow", execution)
    simulation = Simulation(
        GradientFlow(coordinates),
        networks,
        task,
        scale=given_scale(scale),
        stop=stop,
        stepping=given_stepping(stepping, solver, rtol, atol, max_steps),
        record=given_record(record, record_at, record_over),
        ensemble=ensemble,
        trainable=trainable,
    )
    return run(simulation, **execution)


def order_of(networks: AbstractNetworks, task: Any) -> int | float:
    """The order of the networks, with errors that name the caller's argument."""
    if task.example.has_penalty:
        found = "a regularizer, beside which the flow has no order"
        raise NotHomogeneousError("task", found, "a loss of outputs alone", float("nan"))
    try:
        degrees = {order(one, task.inputs) for one in _examples(networks)}
    except NotHomogeneousError as error:
        raise NotHomogeneousError(
            "networks", error.found, error.expected, error.discrepancy
        ) from error
    except InputError as error:
        raise InputError("networks", error.found, error.expected) from error
    if len(degrees) > 1:
        found = f"members of orders {' and '.join(f'{d:g}' for d in sorted(degrees))}"
        expected = "members of one order, with what is not trained in each"
        raise NotHomogeneousError("networks", found, expected, float("nan"))
    return degrees.pop()


def _whose_fault(error: InputError) -> str:
    return "" if error.argument == "task" else "a network that is not homogeneous: "


_MOST_EXAMPLES = 8
"""Members whose order is measured where each has arrays of its own. Chosen: some."""


def _examples(networks: AbstractNetworks) -> list[eqx.Module]:
    """A network for all; several where what is not trained differs from one to another."""
    if not networks.own_of(networks.one):
        return [networks.one]
    assert networks.num is not None
    rows = np.unique(np.linspace(0, networks.num - 1, _MOST_EXAMPLES).round().astype(int))
    some = networks.stacked(rows)
    return [member(some, place) for place in range(len(rows))]


def _check_blocks(networks: AbstractNetworks, task: Any) -> None:
    """A layer of zeros has no direction, and may be pulled away from zero."""
    if are_separable(networks.one, task.inputs):
        return
    # Members that are drawn or iterated are random.
    known = networks.num if networks.num is not None else 1
    ensemble = networks.stacked(np.arange(known)) if networks.is_held else networks.one
    axes = 1 if networks.is_held else 0
    arrays = jax.tree_util.tree_leaves_with_path(parameters_of(ensemble))
    filled = np.array(
        [
            np.any(np.asarray(array) != 0, axis=tuple(range(axes, array.ndim)))
            for _, array in arrays
        ]
    )
    stays = ~filled.any(axis=0)  # zero altogether: nothing pulls at any layer
    for (path, _), some in zip(arrays, filled):
        if not np.all(np.logical_or(some, stays)):
            raise InputError(
                "networks",
                f"zeros only at {jax.tree_util.keystr(path)} of some member",
                'other coordinates than "block_polar" for a layer without a direction',
            )
