"""From saddle to saddle: what a caller asks for."""

from __future__ import annotations

import dataclasses
from typing import Any

import diffrax
import equinox as eqx
import numpy as np
from jaxtyping import ArrayLike

from .._arrays import is_single
from .._checks import check_flag, check_not_negative, check_share, check_whole, shown
from .._compiled import running
from .._signals import ends_on_signals
from .._telling import one_call, tell
from ..engine import check_schedule, Schedule
from ..errors import InputError
from ..networks import Initializations
from ..runs import (
    as_networks,
    as_scale,
    check_alike,
    default_stepping,
    order_of,
    Stepping,
)
from ..tasks import Task
from ._growth import AbstractParts, parts_of
from ._journey import Journey
from ._state import first_state, State
from ._views import APART
from ._visits import SaddleToSaddle, shortfall_of_saddles


@running
@ends_on_signals()
@one_call()
def saddle_to_saddle(
    networks: eqx.Module | Initializations,
    task: Task,
    *,
    scale: ArrayLike,
    max_saddles: int = 20,
    loss_below: float | None = None,
    fall: float = 0.01,
    slowing: float = 0.05,
    grown: float = 0.1,
    points: int = 0,
    solver: diffrax.AbstractSolver | str | None = "auto",
    rtol: float | None = None,
    atol: float | None = None,
    max_steps: int = 20_000,
    ensemble: bool | None = None,
    schedule: Schedule | None = None,
    progress: bool | None = None,
    trainable: Any = None,
) -> SaddleToSaddle:
    """Follow members of an ensemble from saddle to saddle of the loss.

    A member *departs* from a saddle when the loss has fallen by a share `fall` of its level
    there, or `‖∇𝓛‖` is as large again as it was at the arrival. It *arrives* at the next
    one when `‖∇𝓛‖` has become smaller than a share `slowing` of its root mean square
    since then. The saddle itself is looked at where `‖∇𝓛‖` is least, or as small as the
    errors of steps let it become. The first visit is the start, called the origin where
    the weights change the residual of zero weights by a share of at most `fall`. A member
    may become slow away from all saddles too: such a visit is named a near miss, as `kind`
    in the result says.

    At each saddle the parts of the network that are still small follow, to leading order,
    the flow of `N_r(u) = Σ_i ⟨r_i, H(x_i; u)⟩`, with the residual `r_i = -ℓ'(H(x_i), y_i)`
    of the parts that have grown. Their direction tends to a KKT point of `N_r`, and the
    time of departure follows: `a^(2-L) T` for small parts of norm `a`, if their flow from
    norm one needs the time `T` to make the loss, which falls like `N_r`, or the gradient
    what it is at a departure. Both are compared with what the member does. Small parts are
    the hidden neurons that have not grown for two layers; the blocks of a module that has
    a method `blocks()`, such as the coordinates of a `DiagonalLinear`; and for linear
    networks what remains of every layer without the singular directions that have grown.
    Layers are those of a `FeedForward`, or of any module that is such a chain of matrices.
    Other networks are followed all the same, without a prediction (NaN).

    Arguments:
        networks: one homogeneous network, an ensemble, or `Initializations`.
        task: the data and the loss.
        scale: the initialization scale δ, positive, scalar or (num,); 1 for networks that
            start near a saddle, such as those of `starts_near_saddle`.
        max_saddles: a member ends at its departure from this many saddles.
        loss_below: a member ends once its loss is at most this; 1e-8 of its loss at the
            start if not given.
        fall: as above, between 0 and 1. Where most of the loss cannot be learned choose a
            smaller `fall`.
        slowing: as above, likewise.
        grown: a neuron, coordinate or singular direction has grown if it is larger than
            this share of the largest. The size of a neuron is the geometric mean of the
            norms of what makes it and what reads it.
        points: of a curve of the loss, for pictures: a second pass through the same flow.
        solver: as for `gradient_flow`; `"auto"` waits at a saddle at little cost.
        atol: 1e-3 `rtol` times the smallest δ if not given, so that small weights keep
            their relative accuracy, or 0.1 `rtol` times the norm of what is small already
            where members start near a saddle.
        rtol: 1e-6 if not given. In linear networks, whose weights are sums of what has
            grown and what is small, 1e-3 of the smallest δ where that is less, though not
            below 1e-10.
        max_steps: attempted steps on each leg of the way: to an arrival, to the least
            gradient, to a departure.
        ensemble: as for `gradient_flow`.
        schedule: as for `gradient_flow`.
        progress: as for `gradient_flow`.
        trainable: as for `gradient_flow`.

    Returns:
        A `SaddleToSaddle`; its arrays have an axis of members for a single network too.

    Raises:
        InputError: for arguments that do not fit and for networks of an order below two.
        NotHomogeneousError: for a network that is not homogeneous.

    Source:
        arXiv:2402.09226 (small weights near saddles); A. Jacot, F. Ged, B. Şimşek, C.
        Hongler and F. Gabriel, arXiv:2106.15933 (saddle to saddle in deep linear networks).

    Examples:
        >>> import equinox as eqx, jax, jax.numpy as jnp, jaxflow as jf
        >>> network = jf.DiagonalLinear(2, 2, key=jax.random.key(0))
        >>> ones = eqx.tree_at(lambda n: n.factors, network, 2 * (jnp.full((1, 2), 0.5),))
        >>> task = jf.Task(jnp.eye(2), jnp.array([2.0, 1.0]))
        >>> found = jf.saddle_to_saddle(ones, task, scale=1e-6, solver=None)
        >>> found.status.tolist(), found.num_saddles.tolist()
        (['LossBelow'], [2])
        >>> [round(level, 4) for level in found.loss[0].tolist()]
        [2.5, 0.5]
    """
    if not isinstance(networks, (eqx.Module, Initializations)):
        expected = "an equinox.Module or a jaxflow.Initializations"
        raise InputError("networks", shown(networks), expected)
    members = as_networks(networks, task, ensemble, trainable)
    if not members.num:
        raise InputError("networks", "no members", "at least one")
    dtype = members.dtype
    check_alike(members)
    task = task.astype(dtype).shaped_for(members.one)
    scales = as_scale(scale, members.num, dtype)
    max_saddles = check_whole("max_saddles", max_saddles)
    shares = {"fall": fall, "slowing": slowing, "grown": grown}
    shares = {name: check_share(name, share) for name, share in shares.items()}
    if loss_below is not None:
        loss_below = check_not_negative("loss_below", loss_below)
    points = check_whole("points", points, least=0)
    schedule = check_schedule(schedule)
    progress = check_flag("progress", progress, optional=True)
    stepping = Stepping(solver, rtol, atol, max_steps=check_whole("max_steps", max_steps))
    order = order_of(members, task)
    if order < 2:
        raise InputError("networks", f"networks of order {order:g}", "2 or more")
    parts = parts_of(members.one, task.inputs)
    state = first_state(members, scales)
    smallest = _smallest(state, parts)
    least = min(float(np.min(scales.values)), 1.0, smallest)
    if rtol is None and not is_single(dtype) and parts.mixes:
        rtol = float(np.clip(1e-3 * least, 1e-10, 1e-6))
    stepping = dataclasses.replace(stepping, rtol=rtol)
    stepping = stepping.settled(default_stepping(dtype), dtype)
    if atol is None:
        share = min(1e-3 * float(np.min(scales.values, initial=1.0)), 0.1 * smallest)
        stepping = dataclasses.replace(stepping, atol=stepping.rtol * share)
    journey = Journey(
        members=members,
        task=task,
        scales=np.broadcast_to(scales.values, members.num),
        order=order,
        max_saddles=max_saddles,
        loss_below=loss_below,
        **shares,
        parts=parts,
        points=points,
        stepping=stepping,
        schedule=schedule,
        progress=progress,
    )
    found = journey.run(state)
    tell(shortfall_of_saddles(found))
    return found


def _smallest(state: State, parts: AbstractParts) -> float:
    """The least norm of what is small already where members start; infinity if none is."""
    small = np.linalg.norm(parts.small(state.rows, APART, state.rows), axis=1)
    sizes = small * np.exp(state.log_norm)
    return float(np.min(sizes, initial=np.inf, where=small > 0))
