"""From saddle to saddle: legs of one flow, and what is seen at every stop."""

import dataclasses
from typing import Any

import diffrax
import numpy as np

from ..engine import Schedule
from ..flows import PolarFlow, WatchedFlow
from ..runs import AbstractNetworks, Stepping
from ..stops import AbstractStop, LossBelow
from ..tasks import Task
from ._curve import loss_curve
from ._events import Arrival, AtRest, Closest, Departure, Waits
from ._growth import AbstractParts
from ._kinds import came_true, is_still, kinds_of, NONE, START, steadiness_of
from ._legs import RowEnds, RowFlow
from ._state import DONE, FALLING, LEAVING, RESTING, State
from ._views import Outlook, Viewer, Visit
from ._visits import MINIMUM, SaddleToSaddle, STAYS

# These were chosen; the figures in docs/theory.md (From saddle to saddle, Measured) and the
# tests against closed forms were made with them.

_REST = 1e-9
"""Share of its first size below which a polar gradient counts as zero at the origin, the
same as in `Stationary`."""

_ROUNDING = 100
"""Units in the last place that rounding makes up in a gradient."""

_HIDDEN = 30
"""Times `rtol`: the share of its root mean square below which errors of steps hide
`‖∇𝓛‖`."""

_RISEN = 0.7
"""By how much `log ‖∇𝓛‖` must have risen at a departure: it has doubled."""

_LOSS = 1e-8
"""Share of the loss at the origin that ends a member, unless the caller names a loss."""

_ATOL_OF_SMALL = 1e-6
"""The least absolute tolerance over `rtol` where small parts are followed alone: no part of
them that grows is smaller than that for long."""

_LEGS = 4
"""Legs at most for a visit; it takes three."""


@dataclasses.dataclass(frozen=True)
class Journey:
    """The settings of `saddle_to_saddle`, and its steps."""

    members: AbstractNetworks
    task: Task
    scales: np.ndarray
    order: int | float
    max_saddles: int
    loss_below: float | None
    fall: float
    slowing: float
    grown: float
    parts: AbstractParts
    points: int
    stepping: Stepping
    schedule: Schedule
    progress: bool | None

    def run(self, state: State) -> SaddleToSaddle:
        one, task, dtype = self.members.one, self.task, self.members.dtype
        polar = PolarFlow(one, task, self.order)  # pyright: ignore[reportCallIssue]
        watched = WatchedFlow(polar)  # pyright: ignore[reportCallIssue]
        flow = RowFlow(
            watched, self.stepping, dtype, self.schedule, self.progress, "Saddle to saddle"
        )
        self._begin(flow, state)
        end_loss = state.loss * _LOSS if self.loss_below is None else self.loss_below
        end_loss = np.broadcast_to(end_loss, state.loss.shape)
        viewer = Viewer(one, task, self.order, self.parts, self.grown, self.fall)
        self._look(state, viewer)
        for _ in range(_LEGS * self.max_saddles):
            if np.all(state.mode == DONE):
                break
            ends = flow.run(state.rows, state.log_norm, self._stops(state, end_loss))
            self._advance(state, ends)
            self._look(state, viewer)
        state.status[state.mode != DONE] = "max_saddles"
        visits = [visit for visits in state.visits for visit in visits]
        # Explicit steps: these flows have no plateaus, and less has to be compiled.
        # The small parts have norm one there, whatever they have in the network.
        atol = max(self.stepping.atol, _ATOL_OF_SMALL * self.stepping.rtol)
        plain = dataclasses.replace(self.stepping, solver=diffrax.Tsit5(), atol=atol)
        outlook = viewer.look_ahead(
            visits,
            self.fall,
            lambda small: RowFlow(
                small, plain, dtype, self.schedule, self.progress, "Small parts"
            ),
        )
        return self._result(state, visits, outlook)

    # -- legs --

    def _begin(self, flow: RowFlow, state: State) -> None:
        """Look at the starts, in a run in which all members wait."""
        ends = flow.run(state.rows, state.log_norm, self._stops(state, state.loss))
        at = ends.at
        state.loss = np.asarray(at.loss, float)
        with np.errstate(divide="ignore"):
            log_size = np.log(np.asarray(at.gradient_norm, float))
        # A gradient of zero is at rest whatever the floor.
        state.log_floor = np.where(np.isfinite(log_size), log_size + np.log(_REST), np.inf)
        bad = ~np.isfinite(state.loss) | np.isnan(log_size)
        state.status[bad] = "non_finite"
        for member in np.flatnonzero(~bad).tolist():
            self._open(state, ends, member)

    def _stops(self, state: State, end_loss: np.ndarray) -> tuple[AbstractStop, ...]:
        """All stop conditions, each with the members for which it is on."""
        return (
            Waits(on=state.mode == DONE),
            LossBelow(end_loss),
            AtRest(state.log_floor, state.log_shrunk),
            Departure(
                on=state.mode == LEAVING,
                loss=state.loss * (1 - self.fall),
                log_risen=state.log_least + _RISEN,
                log_above=state.log_above,
            ),
            Arrival(
                on=state.mode == FALLING,
                log_share=np.full(len(state.mode), np.log(self.slowing)),
                departure_loss=state.departure_loss,
            ),
            Closest(
                on=state.mode == RESTING,
                log_enough=self._log_hidden(state),
            ),
        )

    def _advance(self, state: State, ends: RowEnds) -> None:
        """What each member's event means for it."""
        at, going = ends.at, state.mode != DONE
        directions = np.asarray(at.direction)
        state.rows = np.where(going[:, None], directions, state.rows)
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

    def _log_hidden(self, state: State) -> np.ndarray:
        """The `log ‖∇𝓛‖` of every member that errors of steps hide."""
        return state.log_usual + np.log(_HIDDEN * self.stepping.rtol)

    def _open(self, state: State, ends: RowEnds, member: int) -> None:
        """The member is as close to a saddle as it comes."""
        log_gradient = float(ends.at.log_gradient[member])
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
            is_hidden=bool(log_gradient <= self._log_hidden(state)[member]),
        )
        state.visits[member].append(visit)
        state.log_least[member] = log_gradient if visit.number else -np.inf
        state.mode[member] = LEAVING

    def _depart(self, state: State, ends: RowEnds, member: int) -> None:
        visit = state.visits[member][-1]
        visit.log_departure = float(state.log_time[member])
        visit.departure_row = state.rows[member].copy()
        visit.departure_loss = float(state.loss[member])
        state.departure_loss[member] = state.loss[member]
        state.mode[member] = FALLING
        state.log_floor[member] = state.log_shrunk[member] = -np.inf
        if visit.number + 1 == self.max_saddles:
            self._end(state, member, "max_saddles")

    def _arrive(self, state: State, ends: RowEnds, member: int) -> None:
        log_gradient = float(ends.at.log_gradient[member])
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
        state.mode[member] = RESTING

    def _rest(self, state: State, ends: RowEnds, member: int) -> None:
        if state.mode[member] != LEAVING:
            self._open(state, ends, member)
        self._end(state, member, STAYS)

    def _look(self, state: State, viewer: Viewer) -> None:
        """View every saddle just reached, and end members that will never leave."""
        last = [visits[-1] for visits in state.visits if visits]
        new = [visit for visit in last if visit.view is None]
        if new:
            viewer.look(new)
        for visit in new:
            member, view = visit.member, visit.view
            assert view is not None
            if view.is_minimum:
                if visit.number:  # the start of a member is kept
                    state.visits[member].pop()
                self._end(state, member, MINIMUM)
            elif not view.can_leave or state.status[member] == STAYS:
                self._end(state, member, STAYS)
                visit.log_departure = np.inf

    def _end(self, state: State, member: int, status: str) -> None:
        state.status[member] = status
        if status == STAYS and state.visits[member]:
            state.visits[member][-1].log_departure = np.inf
        if status == LossBelow.__name__ and state.mode[member] == LEAVING:
            # What was taken for a saddle was the last, slow part of the way down.
            if len(state.visits[member]) > 1:
                state.visits[member].pop()
        state.mode[member] = DONE

    # -- the result --

    def _result(
        self, state: State, visits: list[Visit], outlook: Outlook
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
        about = self._about(state, visits, outlook)
        # Where a member that has grown parts starts and does not wait nothing is predicted.
        known &= about["still"] | (about["kind"] != START)
        rows = np.stack([np.exp(v.log_norm) * v.row for v in visits])
        log_times, losses = self._curve(state) if self.points else (None, None)
        num_vjps = state.num_vjps if np.any(state.num_vjps) else None
        return SaddleToSaddle(
            num_saddles=counts,
            status=state.status.astype(str),
            log_arrival=of_visits("log_arrival"),
            log_closest=of_visits("log_closest"),
            log_departure=of_visits("log_departure"),
            predicted_log_departure=spread(np.where(known, predicted, np.nan)),
            kind=spread(about["kind"], NONE),
            steadiness=spread(about["steadiness"]),
            small_share=spread(about["small_share"]),
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
            loss_curve=losses,
            log_time_curve=log_times,
            scale=self.scales.copy(),
            final_log_time=state.log_time,
            final_loss=state.loss,
            num_steps=state.num_steps,
            num_vjps=num_vjps,
            settings={
                "network": type(self.members.one).__name__,
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

    def _about(
        self, state: State, visits: list[Visit], outlook: Outlook
    ) -> dict[str, np.ndarray]:
        """Whether members wait as at a saddle, and what every visit is."""
        each = lambda name: np.array([float(getattr(v, name)) for v in visits])
        departure, closest = each("log_departure"), each("log_closest")
        # Of a member that was stopped before, the wait so far; of one that stays there is
        # none to measure, and its gradient has vanished.
        left = np.isfinite(departure)
        ends = state.log_time[[v.member for v in visits]]
        ends = np.where(np.isnan(departure), ends, departure)
        waited = _log_difference(ends, closest)
        predicted = np.where(np.isfinite(outlook.log_wait), outlook.log_wait, -np.inf)
        longer = np.maximum(waited, predicted)
        longer = np.where(np.isposinf(departure), -np.inf, longer)
        loss = each("loss")
        fallen = np.where(left, loss - each("departure_loss"), self.fall * loss)
        log_gradient = each("log_gradient")
        is_told = came_true(waited, outlook.log_wait) & left & (each("is_hidden") > 0)
        steadiness = steadiness_of(log_gradient, longer, fallen)
        pull = np.array([getattr(v.view, "log_pull") for v in visits])  # noqa: B009
        small_share = np.exp(np.minimum(2 * (pull - log_gradient), 0.0))
        first = np.array([visit.number == 0 for visit in visits])
        at_origin = np.array([visit.at_origin for visit in visits])
        still = is_still(steadiness, small_share, is_told)
        return {
            "steadiness": steadiness,
            "small_share": small_share,
            "still": still,
            "kind": kinds_of(still, first, at_origin),
        }

    def _curve(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        most = _LEGS * self.max_saddles * self.stepping.max_steps
        return loss_curve(
            self.members,
            self.task,
            self.scales,
            state,
            self.points,
            dataclasses.replace(self.stepping, max_steps=most),
            self.schedule,
            self.progress,
        )


def _log_difference(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    """`log(e^after - e^before)`, minus infinity where that is zero or less."""
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = np.where(np.isneginf(before), -np.inf, before - after)
        return np.where(gap < 0, after + np.log1p(-np.exp(np.minimum(gap, 0))), -np.inf)
