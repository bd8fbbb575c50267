"""From saddle to saddle: legs of one flow, and what is seen at every stop."""

import dataclasses
from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from ..engine import Schedule
from ..errors import InputError
from ..flows import PolarFlow, WatchedFlow
from ..networks import as_jax, flatten_rows, Initializations, unflatten_rows
from ..observables import loss as observe_loss
from ..runs._checks import (
    check_networks,
    check_scale,
    check_schedule,
    check_stepping,
    check_whole,
    Ensemble,
    Scale,
    Stepping,
)
from ..runs._functions import gradient_flow, order_of
from ..stopping import AbstractStop, LogTime, LossBelow
from ..tasks import Task
from ._events import Arrival, AtRest, Closest, Departure, OFF
from ._growth import is_linear
from ._legs import RowEnds, RowFlow
from ._views import Outlook, Viewer, Visit
from ._visits import MINIMUM, SaddleToSaddle, STAYS

_REST = (
    1e-9  # share of its first size below which the polar gradient is gone, at the origin
)
_SHRUNK = 7.0  # log of how much smaller weights must become to be on their way to zero
_ROUNDING = 100
_HIDDEN = 30  # times rtol: the share of ‖∇𝓛‖ that the errors of steps make up
_RISEN = 0.7  # by how much log ‖∇𝓛‖ must have risen at a departure
_LOSS = 1e-8  # share of the loss at the origin that ends a member
_LEGS = 4  # for a visit; it takes three


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
) -> SaddleToSaddle:
    """Follow members of an ensemble from saddle to saddle of the loss.

    A member *departs* from a saddle when the loss has fallen by a share `fall` of its level
    there, or `‖∇𝓛‖` is as large again as it was at the arrival. It *arrives* at the next
    one when `‖∇𝓛‖` has become smaller than a share `slowing` of its root mean square
    since then. The saddle itself is looked at where `‖∇𝓛‖` is least, or as small as the
    errors of steps let it become. Saddle 0 is the origin.

    At each saddle the parts of the network that are still small follow, to leading order,
    the flow of `N_r(u) = Σ_i ⟨r_i, H(x_i; u)⟩`, with the residual `r_i = -ℓ'(H(x_i), y_i)`
    of the parts that have grown. Their direction tends to a KKT point of `N_r`, and the
    time of departure follows: `a^(2-L) T` for small parts of norm `a`, if their flow from
    norm one needs the time `T` to make the loss, which falls like `N_r`, or the gradient
    what it is at a departure. Both are compared with what the member does. Small parts are
    the hidden neurons that have not grown for two layers, the coordinates of a
    `DiagonalLinear`, and for linear `FeedForward` networks what remains of every layer
    without the singular directions that have grown. Other networks are followed all the
    same, without a prediction (NaN).

    **Arguments:**

    - `networks`: one homogeneous network, an ensemble, or `Initializations`.
    - `task`: the data and the loss.
    - `scale`: the initialization scale δ, positive, scalar or (num,).
    - `max_saddles`: a member ends at its departure from this many saddles.
    - `loss_below`: a member ends once its loss is at most this; 1e-8 of its loss at
      the start if not given.
    - `fall`, `slowing`: as above, between 0 and 1. Where most of the loss cannot be
      learned choose a smaller `fall`.
    - `grown`: a neuron, coordinate or singular direction has grown if it is larger than
      this share of the largest. The size of a neuron is the geometric mean of the norms of
      what makes it and what reads it.
    - `points`: of a curve of the loss, for pictures: a second pass through the same flow.
    - `solver`, `atol`: as for `gradient_flow`; `"auto"` waits at a saddle at little cost.
      `atol` is 1e-3 `rtol` times the smallest δ if not given, so that small weights keep
      their relative accuracy.
    - `rtol`: 1e-6 if not given. In linear networks, whose weights are sums of what has
      grown and what is small, 1e-3 of the smallest δ where that is less, though not below
      1e-10.
    - `max_steps`: attempted steps on each leg of the way: to an arrival, to the least
      gradient, to a departure.
    - `ensemble`, `schedule`, `progress`: as for `gradient_flow`.

    **Returns:** a `SaddleToSaddle`; its arrays have an axis of members for a single network
    too.

    **Raises:** `InputError` for arguments that do not fit and for networks of an order
    below two, `NotHomogeneousError` for a network that is not homogeneous.

    **Source:** arXiv:2402.09226 (small weights near saddles); A. Jacot, F. Ged, B. Şimşek,
    C. Hongler and F. Gabriel, arXiv:2106.15933 (saddle to saddle in deep linear networks).

    >>> import jax, jaxflow as jf
    >>> network = jf.DiagonalLinear(2, 2, key=jax.random.key(0))
    >>> ones = eqx.tree_at(lambda n: n.factors, network, 2 * (jnp.full((1, 2), 0.5),))
    >>> task = jf.Task(jnp.eye(2), jnp.array([2.0, 1.0]))
    >>> found = saddle_to_saddle(ones, task, scale=1e-6, solver=None)
    >>> found.status.tolist(), found.num_saddles.tolist()
    (['LossBelow'], [2])
    >>> [round(level, 4) for level in found.loss[0].tolist()]
    [2.5, 0.5]
    """
    if not isinstance(networks, (eqx.Module, Initializations)):
        expected = "an equinox.Module or a jaxflow.Initializations"
        raise InputError("networks", type(networks).__name__, expected)
    checked = check_networks(networks, task, ensemble)
    if not checked.num:
        raise InputError("networks", "no members", "at least one")
    task = task.astype(checked.dtype)
    scales = check_scale(scale, checked)
    max_saddles = check_whole("max_saddles", max_saddles)
    for name, share in (("fall", fall), ("slowing", slowing), ("grown", grown)):
        _check_share(name, share)
    if loss_below is not None and not (
        isinstance(loss_below, (int, float)) and 0 <= loss_below < np.inf
    ):
        raise InputError("loss_below", repr(loss_below), "a number >= 0")
    if points:
        points = check_whole("points", points)
    least = min(float(np.min(scales.values)), 1.0)
    if rtol is None and jnp.dtype(checked.dtype).itemsize == 8 and is_linear(checked.one):
        rtol = float(np.clip(1e-3 * least, 1e-10, 1e-6))
    dtype = checked.dtype
    stepping = check_stepping(solver, None, rtol, atol, None, max_steps, dtype)
    if atol is None:
        stepping = stepping._replace(atol=1e-3 * stepping.rtol * least)
    schedule = check_schedule(schedule)
    order = order_of(checked, task)
    if order < 2:
        raise InputError("networks", f"networks of order {order:g}", "2 or more")
    journey = _Journey(
        checked=checked,
        task=task,
        scales=np.broadcast_to(scales.values, checked.num),
        order=order,
        max_saddles=max_saddles,
        loss_below=loss_below,
        fall=float(fall),
        slowing=float(slowing),
        grown=float(grown),
        points=points,
        stepping=stepping,
        schedule=schedule,
        progress=progress,
    )
    return journey.run(_first_state(checked, scales))


def _check_share(name: str, share: Any) -> None:
    if not (isinstance(share, (int, float)) and 0 < share < 1):
        raise InputError(name, repr(share), "a number between 0 and 1")


_LEAVING, _FALLING, _RESTING, _DONE = range(4)


@dataclasses.dataclass
class _State:
    """All members between two legs, arrays with a leading axis of members."""

    mode: np.ndarray
    rows: np.ndarray  # directions
    log_norm: np.ndarray
    log_time: np.ndarray
    loss: np.ndarray
    status: np.ndarray
    num_steps: np.ndarray
    num_vjps: np.ndarray
    log_floor: np.ndarray  # of the polar gradient
    log_shrunk: np.ndarray  # the log-norm of weights on their way to zero
    departure_loss: np.ndarray
    arrival: np.ndarray  # log t of the visit that has begun
    log_above: np.ndarray  # log ‖∇𝓛‖ at that arrival
    log_usual: np.ndarray  # the root mean square before it
    log_least: np.ndarray  # and where it is least
    visits: "list[list[Visit]]"

    @property
    def num_visits(self) -> np.ndarray:
        return np.array([len(visits) for visits in self.visits])


def _first_state(checked: Ensemble, scales: Scale) -> _State:
    num = checked.num
    assert num is not None
    rows = flatten_rows(checked.networks.stacked(np.arange(num)))
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    if not np.all(norms > 0):
        raise InputError("networks", "a member whose weights are all zero", "a direction")
    log_norm = np.broadcast_to(np.log(scales.values), num) + np.log(norms)
    return _State(
        mode=np.full(num, _DONE),
        rows=rows / norms[:, None].astype(rows.dtype),
        log_norm=log_norm,
        log_time=np.full(num, -np.inf),
        loss=np.zeros(num),
        status=np.full(num, "", dtype=object),
        num_steps=np.zeros(num, np.int64),
        num_vjps=np.zeros(num, np.int64),
        log_floor=np.full(num, -OFF),
        log_shrunk=log_norm - _SHRUNK,
        departure_loss=np.zeros(num),
        arrival=np.full(num, -np.inf),
        log_above=np.full(num, OFF),
        log_usual=np.zeros(num),
        log_least=np.full(num, -OFF),
        visits=[[] for _ in range(num)],
    )


@dataclasses.dataclass(frozen=True)
class _Journey:
    """The settings of `saddle_to_saddle`, and its steps."""

    checked: Ensemble
    task: Task
    scales: np.ndarray
    order: int | float
    max_saddles: int
    loss_below: float | None
    fall: float
    slowing: float
    grown: float
    points: int
    stepping: Stepping
    schedule: Schedule
    progress: bool | None

    def run(self, state: _State) -> SaddleToSaddle:
        one, task, dtype = self.checked.one, self.task, self.checked.dtype
        watched = WatchedFlow(one, PolarFlow(one, task, self.order))
        flow = RowFlow(
            watched, self.stepping, dtype, self.schedule, self.progress, "Saddle to saddle"
        )
        self._begin(flow, state)
        end_loss = state.loss * _LOSS if self.loss_below is None else self.loss_below
        end_loss = np.broadcast_to(end_loss, state.loss.shape)
        viewer = Viewer(one, task, self.order, self.grown)
        self._look(state, viewer)
        for _ in range(_LEGS * self.max_saddles):
            if np.all(state.mode == _DONE):
                break
            ends = flow.run(state.rows, state.log_norm, self._stops(state, end_loss))
            self._advance(state, ends)
            self._look(state, viewer)
        state.status[state.mode != _DONE] = "max_saddles"
        visits = [visit for visits in state.visits for visit in visits]
        # Explicit steps: nothing waits here, and less has to be compiled.
        plain = self.stepping._replace(solver=diffrax.Tsit5())
        outlook = viewer.look_ahead(
            visits,
            self.fall,
            lambda small: RowFlow(
                small, plain, dtype, self.schedule, self.progress, "Small parts"
            ),
        )
        return self._result(state, visits, outlook)

    # -- legs --

    def _begin(self, flow: RowFlow, state: _State) -> None:
        """Look at the starts: everybody is done, so that nobody moves."""
        ends = flow.run(state.rows, state.log_norm, self._stops(state, state.loss))
        at = ends.at
        state.loss = np.asarray(at.loss, float)
        with np.errstate(divide="ignore"):
            log_size = np.log(np.asarray(at.gradient_norm, float))
        # A gradient of zero is at rest whatever the floor.
        state.log_floor = np.where(np.isfinite(log_size), log_size + np.log(_REST), OFF)
        bad = ~np.isfinite(state.loss) | np.isnan(log_size)
        state.status[bad] = "non_finite"
        for member in np.flatnonzero(~bad).tolist():
            self._open(state, ends, member)

    def _stops(self, state: _State, end_loss: np.ndarray) -> tuple[AbstractStop, ...]:
        """All stop conditions; thresholds say whose turn it is."""
        turn = lambda mode: np.where(state.mode == mode, 1.0, 0.0)
        return (
            LossBelow(np.where(state.mode == _DONE, OFF, end_loss)),
            AtRest(state.log_floor, state.log_shrunk),
            Departure(
                loss=state.loss * (1 - self.fall),
                log_risen=state.log_least + _RISEN,
                log_above=state.log_above,
                on=turn(_LEAVING),
            ),
            Arrival(
                log_share=np.full(len(state.mode), np.log(self.slowing)),
                departure_loss=state.departure_loss,
                on=turn(_FALLING),
            ),
            Closest(
                log_enough=state.log_usual + np.log(_HIDDEN * self.stepping.rtol),
                on=turn(_RESTING),
            ),
        )

    def _advance(self, state: _State, ends: RowEnds) -> None:
        """What each member's event means for it."""
        at, going = ends.at, state.mode != _DONE
        state.rows = np.where(going[:, None], at.direction, state.rows)
        for name, values in (
            ("log_norm", at.log_norm),
            ("log_time", np.logaddexp(state.log_time, at.log_time)),
            ("loss", at.loss),
        ):
            setattr(state, name, np.where(going, values, getattr(state, name)))
        state.num_steps += np.where(going, ends.num_steps, 0)
        if ends.num_vjps is not None:
            state.num_vjps += np.where(going, ends.num_vjps, 0)
        handlers = {
            Departure.__name__: self._depart,
            Arrival.__name__: self._arrive,
            Closest.__name__: self._open,
            AtRest.__name__: self._rest,
        }
        for member in np.flatnonzero(going).tolist():
            status = str(ends.status[member])
            if status in handlers:
                handlers[status](state, ends, member)
            else:
                self._end(state, member, status)

    def _open(self, state: _State, ends: RowEnds, member: int) -> None:
        """The member is as close to a saddle as it comes."""
        log_gradient = float(ends.log_gradient[member])
        visit = Visit(
            member=member,
            number=len(state.visits[member]),
            row=state.rows[member].copy(),
            log_norm=float(state.log_norm[member]),
            loss=float(state.loss[member]),
            log_gradient=log_gradient,
            log_arrival=float(state.arrival[member]),
            log_closest=float(state.log_time[member]),
            log_above=float(state.log_above[member]),
        )
        state.visits[member].append(visit)
        state.log_least[member] = log_gradient if visit.number else -OFF
        state.mode[member] = _LEAVING

    def _depart(self, state: _State, ends: RowEnds, member: int) -> None:
        visit = state.visits[member][-1]
        visit.log_departure = float(state.log_time[member])
        visit.departure_row = state.rows[member].copy()
        state.departure_loss[member] = state.loss[member]
        state.mode[member] = _FALLING
        state.log_floor[member] = state.log_shrunk[member] = -OFF
        if visit.number + 1 == self.max_saddles:
            self._end(state, member, "max_saddles")

    def _arrive(self, state: _State, ends: RowEnds, member: int) -> None:
        log_gradient = float(ends.log_gradient[member])
        state.arrival[member] = state.log_time[member]
        state.log_above[member] = log_gradient
        # Rounding errors of a gradient of the size that it had on the way.
        rounding = _ROUNDING * float(np.finfo(ends.at.loss.dtype).eps)
        state.log_usual[member] = log_gradient - np.log(self.slowing)
        state.log_floor[member] = (
            np.log(rounding)
            + state.log_usual[member]
            - (self.order - 1) * state.log_norm[member]
        )
        state.mode[member] = _RESTING

    def _rest(self, state: _State, ends: RowEnds, member: int) -> None:
        if state.mode[member] != _LEAVING:
            self._open(state, ends, member)
        self._end(state, member, STAYS)

    def _look(self, state: _State, viewer: Viewer) -> None:
        """Look from every saddle just reached, and end members that will never leave."""
        last = [visits[-1] for visits in state.visits if visits]
        new = [visit for visit in last if visit.view is None]
        if new:
            viewer.look(new)
        for visit in new:
            member, view = visit.member, visit.view
            assert view is not None
            if view.is_minimum:
                state.visits[member].pop()
                self._end(state, member, MINIMUM)
            elif not view.can_leave or state.status[member] == STAYS:
                self._end(state, member, STAYS)
                visit.log_departure = np.inf

    def _end(self, state: _State, member: int, status: str) -> None:
        state.status[member] = status
        if status == STAYS and state.visits[member]:
            state.visits[member][-1].log_departure = np.inf
        if status == LossBelow.__name__ and state.mode[member] == _LEAVING:
            # It had come to no saddle, but slowly down to the end.
            if len(state.visits[member]) > 1:
                state.visits[member].pop()
        state.mode[member] = _DONE

    # -- the result --

    def _result(
        self, state: _State, visits: list[Visit], outlook: Outlook
    ) -> SaddleToSaddle:
        places = np.array([v.member for v in visits]), np.array([v.number for v in visits])
        counts = state.num_visits
        shape = (len(counts), int(np.max(counts, initial=0)))

        def spread(values, missing: Any = np.nan) -> np.ndarray:
            values = np.asarray(values)
            table = np.full((*shape, *values.shape[1:]), missing, values.dtype)
            table[places] = values
            return table

        of_visits = lambda name: spread([float(getattr(v, name)) for v in visits])
        of_views = lambda name, missing=np.nan: spread(
            [getattr(v.view, name) for v in visits], missing
        )
        closest = np.array([v.log_closest for v in visits])
        known = ~np.isnan(outlook.log_wait)
        predicted = np.logaddexp(closest, np.where(known, outlook.log_wait, -np.inf))
        rows = np.stack([np.exp(v.log_norm) * v.row for v in visits])
        log_time_curve, loss_curve = self._curve(state)
        num_vjps = state.num_vjps if np.any(state.num_vjps) else None
        return SaddleToSaddle(
            num_saddles=counts,
            status=state.status,
            log_arrival=of_visits("log_arrival"),
            log_closest=of_visits("log_closest"),
            log_departure=of_visits("log_departure"),
            predicted_log_departure=spread(np.where(known, predicted, np.nan)),
            loss=of_visits("loss"),
            log_gradient=of_visits("log_gradient"),
            index=of_views("index", -1),
            lowest_curvature=of_views("lowest_curvature"),
            largest_curvature=of_views("largest_curvature"),
            active=of_views("active", False),
            rank=of_views("rank", -1),
            log_small=spread(outlook.log_small),
            kkt_value=spread(outlook.kkt_value),
            cosine=spread(outlook.cosine),
            kkt_residual=spread(outlook.kkt_residual),
            weights=spread(rows),
            small=spread(outlook.small),
            kkt_direction=spread(outlook.kkt_direction),
            loss_curve=loss_curve,
            log_time_curve=log_time_curve,
            scale=self.scales.copy(),
            final_log_time=state.log_time,
            final_loss=state.loss,
            num_steps=state.num_steps,
            num_vjps=num_vjps,
            attrs={
                "network": type(self.checked.one).__name__,
                "num_parameters": state.rows.shape[1],
                "order": self.order,
                "fall": self.fall,
                "slowing": self.slowing,
                "grown": self.grown,
                "solver": type(self.stepping.solver).__name__,
                "rtol": self.stepping.rtol,
                "atol": self.stepping.atol,
                "max_steps": self.stepping.max_steps,
            },
        )

    def _curve(self, state: _State) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The loss along the way, dense where it falls."""
        if not self.points:
            return None, None
        grid = np.stack([self._grid(state, m) for m in range(len(state.mode))])
        networks = as_jax(
            unflatten_rows(self.checked.one, self._starts().astype(self.checked.dtype))
        )
        solution = gradient_flow(
            networks,
            self.task,
            scale=self.scales,
            stop=LogTime(grid[:, -1]),
            solver=self.stepping.solver,
            rtol=self.stepping.rtol,
            atol=self.stepping.atol,
            max_steps=_LEGS * self.max_saddles * self.stepping.max_steps,
            coordinates="polar",
            record={"loss": observe_loss},
            record_at=grid,
            record_over="log_time",
            ensemble=True,
            schedule=self.schedule,
            progress=self.progress,
        )
        assert solution.records is not None
        return grid, np.asarray(solution.records.values["loss"])

    def _starts(self) -> np.ndarray:
        num = self.checked.num
        assert num is not None
        return flatten_rows(self.checked.networks.stacked(np.arange(num)))

    def _grid(self, state: _State, member: int) -> np.ndarray:
        """Increasing times, half of them while the member falls from saddle to saddle."""
        end = state.log_time[member]
        end = end if np.isfinite(end) else 0.0
        falls = []
        mine = state.visits[member]
        for visit, following in zip(mine, [*mine[1:], None]):
            if not np.isfinite(visit.log_departure):
                continue
            until = end if following is None else following.log_arrival
            falls.append((visit.log_departure, min(until, end)))
        ahead = np.exp(np.array(falls).reshape(-1, 2) - end)
        times = [np.linspace(0, 1, self.points + 1)[1:]]
        for first, last in ahead:
            width = max(last - first, 1e-6)
            times.append(np.linspace(first - width, last + width, self.points))
        times = np.sort(np.concatenate(times))
        times = times[(times > 0) & (times <= 1)]
        # As many for every member, and no two the same.
        chosen = np.interp(
            np.linspace(0, 1, self.points), np.linspace(0, 1, len(times)), times
        )
        return np.log(chosen) + end
