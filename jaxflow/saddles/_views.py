"""What is seen at a saddle: curvatures, what is small, where that leads, and when."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._arrays import ratio
from .._rows import map_rows
from ..flows import (
    AbstractNetworkFlow,
    outputs_at,
    PolarFlow,
    pull_back,
    ResidualFlow,
    safe_norm,
    tangent_part,
)
from ..flows._watched import scaled_gradient
from ..tasks import Task
from ._events import Rests, SmallPartsLeave
from ._growth import AbstractParts
from ._legs import RowFlow

# Chosen, like those of the journey.

_MOST_CURVATURES = 2_000
"""Parameters up to which the Hessian is computed: 32 MB a member in double precision."""

_NEGATIVE = 1e-6
"""Share of the largest curvature below which one counts as zero (docs/theory.md, Index)."""

_AT_KKT, _DEAD = 1e-8, 1e-9
"""Where the limit flow of the small parts ends: at this residual, or where the
gradient is this share of its first, which is the share that `Stationary` has."""

APART = 1e-3
"""The share of the largest part below which others are taken for small already where a
member starts: no random start has such parts often. Chosen."""

_FAINT = 1e-9
"""Share of the first residual below which the pull on a small part counts as zero."""


@dataclasses.dataclass
class Visit:
    """One saddle of one member, as the member passed it and as it looked there."""

    member: int
    number: int
    row: np.ndarray  # the direction, where ‖∇𝓛‖ is least
    log_norm: float
    loss: float
    log_gradient: float
    log_arrival: float
    log_closest: float
    log_above: float  # log ‖∇𝓛‖ at the arrival
    view: "View | None" = None
    log_departure: float = np.nan
    departure_row: np.ndarray | None = None
    departure_loss: float = np.nan
    is_hidden: bool = False  # whether errors of steps keep ‖∇𝓛‖ from falling further

    @property
    def at_origin(self) -> bool:
        """Whether it is a start at which nothing has grown."""
        return self.view is not None and self.view.at_origin


class View(NamedTuple):
    """What is seen from one saddle."""

    index: int  # -1: not computed
    lowest_curvature: float
    largest_curvature: float
    active: np.ndarray
    rank: int
    residual: np.ndarray
    small: np.ndarray  # what of the row has not grown; NaN where that cannot be told
    can_leave: bool  # false only where the small parts are zero, but for a start
    is_minimum: bool
    at_origin: bool
    log_pull: float  # log ‖∇N_r‖ on the small parts; NaN where they are not known


class Outlook(NamedTuple):
    """What comes after, arrays with a leading axis of visits."""

    log_small: np.ndarray
    kkt_value: np.ndarray
    kkt_direction: np.ndarray
    small: np.ndarray  # the small parts' direction at the departure
    cosine: np.ndarray
    kkt_residual: np.ndarray
    log_wait: np.ndarray


class Viewer:
    """Looks at saddles.

    Given a network, whose structure alone is read; the task; the network's order; how it
    falls into `parts`, and the `share` of the largest above which one has grown. A start
    is at the origin if its weights change the residual by a share of at most `fall`, as
    little as the loss has fallen at a departure, and no part is far larger than another.
    """

    def __init__(
        self,
        one: eqx.Module,
        task: Task,
        order: int | float,
        parts: AbstractParts,
        share: float,
        fall: float,
    ):
        self._polar = PolarFlow(one, task, order)  # pyright: ignore[reportCallIssue]
        self._parts = parts
        self._share = share
        self._fall = fall
        self._at_zero: np.ndarray | None = None

    def look(self, visits: list[Visit]) -> None:
        """Fill in the view of every visit."""
        rows = np.stack([visit.row for visit in visits])
        log_norm = np.array([visit.log_norm for visit in visits])
        order, parts, share = self._polar.order, self._parts, self._share
        if self._at_zero is None:
            zero = np.zeros_like(rows[:1])
            self._at_zero = self._map(_residual, zero, np.zeros(1))[0]
        assert self._at_zero is not None
        size_at_zero = np.linalg.norm(self._at_zero)
        origin = np.array([visit.number == 0 for visit in visits])
        if origin.any():
            changed = self._map(_residual, rows, log_norm) - self._at_zero
            changed = np.linalg.norm(changed.reshape(len(rows), -1), axis=1)
            origin &= changed <= self._fall * size_at_zero
            if not parts.mixes:  # matrices drawn at random have small singular values
                apart = np.linalg.norm(parts.small(rows, APART, rows), axis=1) > 0
                origin &= ~apart
        # Before anything has grown all of the network is small.
        small = np.where(origin[:, None], rows, parts.small(rows, share, rows))
        grown = rows - np.where(np.isnan(small), 0.0, small)
        residual = self._map(_residual, grown, log_norm)
        curvature = np.full((len(rows), 1), np.nan)
        if rows.shape[1] <= _MOST_CURVATURES:
            found = self._map(_curvature, rows, log_norm, in_turn=True)
            curvature = found.astype(float)
        largest = np.max(np.abs(curvature), axis=1)
        index = np.sum(curvature < -_NEGATIVE * largest[:, None], axis=1)
        index = np.where(np.isnan(largest), -1, index)
        factor = np.exp((order - 2) * log_norm)
        lowest, highest = factor * np.min(curvature, 1), factor * np.max(curvature, 1)
        size = np.linalg.norm(small, axis=1)
        active = parts.active(rows, share) & ~origin[:, None]
        rank = np.where(origin, 0, parts.rank(rows, share))
        log_pull = np.full(len(rows), np.nan)
        if parts.separates:
            pull = self._map(_pull, _directions(small), residual)
            faint = pull[:, 0] <= _FAINT * size_at_zero
            minimum = (index == 0) & (faint | parts.full(rows, share))
            with np.errstate(divide="ignore"):
                log_size = np.log(size) + log_norm
                log_pull = np.log(pull[:, 0]) + (order - 1) * log_size
        else:
            # Of an order above two, a saddle may have no negative curvature either.
            minimum = (index == 0) & (order == 2)
        for i, visit in enumerate(visits):
            visit.view = View(
                index=int(index[i]),
                lowest_curvature=float(lowest[i]),
                largest_curvature=float(highest[i]),
                active=active[i],
                rank=int(rank[i]),
                residual=residual[i],
                small=small[i],
                # What has grown need not be at rest where a member starts.
                can_leave=bool(size[i] != 0 or (visit.number == 0 and not origin[i])),
                is_minimum=bool(minimum[i] & ~origin[i]),
                at_origin=bool(origin[i]),
                log_pull=float(log_pull[i]),
            )

    def look_ahead(
        self,
        visits: list[Visit],
        fall: float,
        make_flow: Callable[[AbstractNetworkFlow], RowFlow],
    ) -> Outlook:
        """Where the small parts' limit flow leads, and when they leave."""
        views = [visit.view for visit in visits if visit.view is not None]
        small = np.stack([view.small for view in views])
        residual = np.stack([view.residual for view in views])
        rows = np.stack([visit.row for visit in visits])
        origin = np.array([visit.at_origin for visit in visits])
        left = np.array([visit.departure_row is not None for visit in visits])
        later = np.stack(
            [v.row if v.departure_row is None else v.departure_row for v in visits]
        )
        at_departure = self._parts.small(later, self._share, rows)
        at_departure = np.where(origin[:, None], later, at_departure)
        size = np.linalg.norm(small, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            log_small = np.log(size) + np.array([visit.log_norm for visit in visits])
        loss = np.array([visit.loss for visit in visits])
        polar = self._polar
        limit = ResidualFlow(polar.network, polar.task, polar.order)  # pyright: ignore
        ahead = _look_ahead(
            make_flow(limit),
            _directions(small),
            residual,
            usable=size > 0,
            log_small=log_small,
            log_fall=np.log(fall * np.where(loss > 0, loss, 1.0)),
            log_above=np.array([visit.log_above for visit in visits]),
            order=polar.order,
        )
        direction = _directions(at_departure)
        known = left & (size > 0) & (np.linalg.norm(at_departure, axis=1) > 0)
        off = self._map(_pull, direction, residual)[:, 1]
        where = lambda values: np.where(known, values, np.nan)
        return Outlook(
            log_small=log_small,
            kkt_value=np.where(size > 0, ahead.value, np.nan),
            kkt_direction=np.where((size > 0)[:, None], ahead.point, np.nan),
            small=np.where(known[:, None], direction, np.nan),
            cosine=where(np.sum(direction * ahead.point, axis=1)),
            kkt_residual=where(off),
            log_wait=np.where(np.isnan(size), np.nan, ahead.log_wait),
        )

    def _map(
        self,
        function: Callable,
        rows: np.ndarray,
        others: np.ndarray,
        in_turn: bool = False,
    ) -> np.ndarray:
        """`function(polar flow, row, other)` of every row and what belongs to it."""
        of_pair = eqx.Partial(_of_pair, function, self._polar)
        return map_rows(of_pair, (rows, others.astype(rows.dtype)), in_turn=in_turn)


class _Ahead(NamedTuple):
    point: np.ndarray  # a KKT point of `N_r`, rows
    value: np.ndarray  # `N_r` there
    log_wait: np.ndarray


def _look_ahead(
    flow: RowFlow,
    directions: np.ndarray,
    residual: np.ndarray,
    *,
    usable: np.ndarray,
    log_small: np.ndarray,
    log_fall: np.ndarray,
    log_above: np.ndarray,
    order: int | float,
) -> _Ahead:
    """Where the flow of `N_r` takes the small parts, and when they make the loss fall."""
    num = len(directions)
    fill = lambda value: np.full(num, value)

    def go(until_rest, gradient, log_fall, log_above, at_once):
        rests = Rests(fill(until_rest), fill(_AT_KKT), gradient)
        leave = SmallPartsLeave(log_fall, log_above, fill(float(order)), at_once)
        return flow.run(directions, residual, (rests, leave))

    never = fill(np.inf)
    start = go(False, fill(0.0), never, never, fill(True))
    size = np.asarray(start.at.gradient_norm, float)
    # Members without small parts stay where they are.
    limit = go(True, _DEAD * size, never, never, ~usable)
    value = np.asarray(limit.at.growth_rate, float) / order
    rises = usable & (value > 0)
    log_small = np.where(usable, log_small, 0.0)
    # What has fallen is counted from here on: N_r(u) - N_r(û) times a^L.
    already = np.maximum(-np.asarray(start.at.loss, float), 1e-300)
    log_goal = np.logaddexp(log_fall - order * log_small, np.log(already))
    end = go(
        False,
        fill(0.0),
        log_goal,
        log_above - (order - 1) * log_small,
        ~rises,
    )
    log_wait = np.asarray(end.at.log_time, float) + (2 - order) * log_small
    arrived = end.status == SmallPartsLeave.__name__
    log_wait = np.where(rises, np.where(arrived, log_wait, np.nan), np.inf)
    return _Ahead(np.asarray(limit.at.direction), value, log_wait)


def _directions(rows: np.ndarray) -> np.ndarray:
    """Rows of unit norm; any direction where there is none."""
    sizes = np.linalg.norm(rows, axis=1, keepdims=True)
    some = np.random.default_rng(0).standard_normal(rows.shape[1])
    some = (some / np.linalg.norm(some)).astype(rows.dtype)
    usable = sizes > 0
    return np.where(usable, rows / np.where(usable, sizes, 1), some)


def _of_pair(function, polar: PolarFlow, pair):
    return function(polar, *pair)


def _residual(polar: PolarFlow, row, log_norm):
    """`r_i = -ℓ'(H(x_i; e^ρ v), y_i)` for a row `v`, which need not have norm one."""
    outputs = outputs_at(polar.network, polar.task, row)
    return polar.task.residuals(jnp.exp(polar.order * log_norm) * outputs)


def _curvature(polar: PolarFlow, row, log_norm):
    """Eigenvalues of the Hessian of the loss over `e^((L-2)ρ)`."""
    hessian = -jax.jacfwd(scaled_gradient(polar, log_norm))(row)
    return jnp.linalg.eigvalsh((hessian + hessian.T) / 2)


def _pull(polar: PolarFlow, row, residual):
    """`‖∇N_r‖` and `‖∇N_r - λv‖ / ‖∇N_r‖` at a unit row `v`, (2,)."""
    gradient = pull_back(polar.network, polar.task, row, lambda outputs: residual)
    size = safe_norm(gradient)
    return jnp.stack([size, ratio(safe_norm(tangent_part(gradient, row)), size)])
