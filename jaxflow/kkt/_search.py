"""The search for KKT points, step by step: flows, Newton's method, merging of points."""

import dataclasses
import functools
import os
from typing import Any, cast, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._checks import check_flag, check_number, check_whole, shown
from .._rows import map_rows
from ..engine import check_schedule, Progress, progress_bar, Schedule
from ..errors import InputError
from ..flows import sides_of_outputs
from ..networks import (
    as_jax,
    flatten_rows,
    Initializations,
    member,
    smoothed,
    unflatten_rows,
)
from ..runs import as_networks, check_alike, check_directions, ncf_flow, order_of
from ..stops import Stationary
from ..tasks import Task
from ._measures import (
    finished,
    layers_of,
    measured,
    outputs_of,
    RANK_ONE,
    second_over_first,
)
from ._objective import AbstractObjective, KinkedObjective, objective_of
from ._points import CONVERGED, KKTPoints, NOT_CONVERGED, same_points, ZERO_TYPE
from ._rank_one import missed_by
from ._second_order import padded, second_order, SecondOrder

# What these do is described in docs/theory.md (Finding KKT points). They were chosen; the
# table there (How often rank one) and the tests of find_kkt were run with them.

_SMOOTHINGS = (1e-3, 1e-2, 1e-1)
"""Of kinks, one after the other: the next is for members that do not come to rest."""

_STEPS_EACH = 2_000
"""Attempted steps with one smoothing before the next is tried."""

_NEAR_KINKS = 1e-3
"""The relative residual at which Newton's method takes over where there are kinks."""

_DEAD = 1e-4
"""Share of its first size below which a gradient with smoothing may be zero without."""

_FAINT = 1e-2
"""Share of the first gradient below which a negative `λ` is taken to be dying out."""

_MAX_ROUNDS = 12
"""How often members are taken past slow saddles."""

_FARTHEST, _LARGEST_DROP = 0.02, 1e-4
"""How far Newton's method may go on the unit sphere, and what share of `N` it may lose, for
its end to count as the point that the flow was near."""

_FARTHEST_ON_KINKS, _LARGEST_DROP_ON_KINKS = 0.7, 0.02
"""The same on kinks, where it also undoes the smoothing and moves along continuous
families of KKT points."""

_SAME = 1e-5
"""The relative distance of invariants up to which two points are one."""


def begin_search(
    networks: Any,
    task: Task,
    tol: Any,
    max_steps: Any,
    ensemble: bool | None,
    schedule: Schedule | None,
    progress: bool | None,
    trainable: Any,
) -> tuple["Search", np.ndarray]:
    """A search with checked arguments, and its members as rows of parameters."""
    if not isinstance(networks, (eqx.Module, Initializations)):
        expected = "an equinox.Module or a jaxflow.Initializations"
        raise InputError("networks", shown(networks), expected)
    members = as_networks(networks, task, ensemble, trainable)
    assert members.num is not None
    check_directions(members, "KKT points are directions")
    check_alike(members)
    task = task.astype(members.dtype).shaped_for(members.one)
    search = Search(
        one=members.one,
        task=task,
        tol=_check_tolerance(tol, float(jnp.finfo(members.dtype).eps)),
        order=order_of(members, task),
        max_steps=check_whole("max_steps", max_steps),
        schedule=check_schedule(schedule),
        progress=check_flag("progress", progress, optional=True),
    )
    return search, flatten_rows(members.stacked(np.arange(members.num)))


def _check_tolerance(tol: Any, eps: float) -> float:
    """A residual that this precision can reach; the default where `None` is given."""
    if tol is None:
        return 1e-10 if eps < 1e-10 else 1e-4
    expected = f"a number from {64 * eps:.1e} to 1e-2"
    return check_number("tol", tol, expected, lambda tol: 64 * eps <= tol <= 1e-2)


class Ends(NamedTuple):
    """Where every member ended."""

    kind: np.ndarray  # CONVERGED, ZERO_TYPE or NOT_CONVERGED, (members,)
    rows: np.ndarray  # at the end of the flow, (members, parameters)
    finish: Any  # a Finish from there, in NumPy, with a leading axis of members


@dataclasses.dataclass(frozen=True)
class Search:
    """The steps of `find_kkt`. Members are vectors of parameters, rows of NumPy arrays."""

    one: eqx.Module
    task: Task
    tol: float
    order: int | float
    max_steps: int
    schedule: Schedule | None
    progress: bool | None

    @functools.cached_property
    def objectives(self) -> list[AbstractObjective]:
        """`N`, with slopes where the network has kinks, for each smoothing."""
        first = objective_of(self.one, self.task, _SMOOTHINGS[0])
        if not first.has_kinks:
            return [first] * len(_SMOOTHINGS)
        return [dataclasses.replace(first, smoothing=each) for each in _SMOOTHINGS]

    @property
    def has_kinks(self) -> bool:
        return self.objectives[0].has_kinks

    def options(self, one: eqx.Module) -> dict[str, Any]:
        """What all flows of networks like this one share."""
        has_kinks = sides_of_outputs(one, self.task) is not None
        return {
            # No flow is stiff before its end; where there are kinks it has the default.
            "solver": None if has_kinks else diffrax.Tsit5(),
            "max_steps": self.max_steps,
            "ensemble": True,
            "schedule": self.schedule,
            "progress": self.progress,
        }

    @property
    def near_rest(self) -> Stationary:
        """Where Newton's method takes over."""
        return Stationary(_NEAR_KINKS if self.has_kinks else self.tol**0.5 / 10)

    def ends(
        self,
        starts: np.ndarray,
        store: str | os.PathLike | None = None,
        *,
        past_kinks: bool = True,
    ) -> Ends:
        """Flow until near a KKT point, with smoothed kinks if `past_kinks`, and finish."""
        if self.has_kinks and past_kinks:
            rows, at_rest, level = self._flow_past_kinks(starts, store)
        else:
            rows, at_rest = self._flow(starts, self.near_rest, store=store)
            level = np.zeros(len(rows), int)
        zero = self._goes_to_zero(starts, rows, at_rest)
        usable = ~zero & np.all(np.isfinite(rows), axis=1)
        found, done = self._finish(rows, usable, level)
        kind = np.where(done, CONVERGED, np.where(zero, ZERO_TYPE, NOT_CONVERGED))
        ends = Ends(kind, rows, found)
        # Where Newton's method went too far, the flow goes on to a smaller residual.
        return ends if self.has_kinks else self._flow_on(ends, usable & ~done)

    def go_past_kinks(self, ends: Ends) -> Ends:
        """Members that came to no point flow on from their ends, with smoothed kinks."""
        lost = (ends.kind == NOT_CONVERGED) & np.isfinite(ends.rows).all(axis=1)
        if not lost.any():
            return ends
        again = self.ends(ends.rows[lost])
        later = jax.tree_util.tree_map(np.copy, ends)
        for whole, part in zip(*map(jax.tree_util.tree_leaves, (later, again))):
            whole[lost] = part
        return later

    def settled(self, ends: Ends) -> tuple[Ends, np.ndarray, list[SecondOrder]]:
        """The ends, the number of each member's point, and the Hessians at these.

        Members at a point with ascent directions flow on from where they were, where there
        are no kinks: Newton's method may have caught them as they passed a saddle.
        """
        numbers = self.distinct(ends)
        found = self.second_order(ends, numbers)
        index = np.array([point.index for point in found])
        if self.has_kinks or not (index > 0).any():
            return ends, numbers, found
        ends = self._flow_on(ends, (numbers >= 0) & (index[numbers] > 0))
        return ends, (numbers := self.distinct(ends)), self.second_order(ends, numbers)

    def distinct(self, ends: Ends) -> np.ndarray:
        """The number of the point of every member, best first; ZERO_TYPE, NOT_CONVERGED."""
        numbers, converged = ends.kind.copy(), np.flatnonzero(ends.kind == CONVERGED)
        vectors = ends.finish.vector[converged]
        value = ends.finish.value[converged]
        outputs = map_rows(eqx.Partial(outputs_of, self.one, self.task), vectors)
        layers = layers_of(unflatten_rows(self.one, vectors))
        singular = [np.linalg.svd(layer, compute_uv=False) for layer in layers]
        same = same_points([outputs, value[:, None], *singular], max(_SAME, 10 * self.tol))
        best = [-value[same == k].max() for k in range(same.max(initial=-1) + 1)]
        numbers[converged] = np.argsort(np.argsort(best))[same] if len(best) else same
        return numbers

    def second_order(self, ends: Ends, numbers: np.ndarray) -> list[SecondOrder]:
        """The Hessian at every point."""
        rows = best_members(ends, numbers)
        point = lambda row: jax.tree_util.tree_map(lambda leaf: leaf[row], ends.finish)
        return [second_order(self.objectives[0], point(row)) for row in rows]

    def points(
        self, ends: Ends, numbers: np.ndarray, found: list[SecondOrder]
    ) -> KKTPoints:
        """The result, from the member with the smallest residual at every point."""
        rows = best_members(ends, numbers)
        vectors, value = ends.finish.vector[rows], ends.finish.value[rows]
        networks = unflatten_rows(self.one, vectors)
        ratios = [second_over_first(layer) for layer in layers_of(networks)]
        unknown = np.full(len(rows), -1)
        kinks = np.array([p.num_kinks for p in found], int) if found else unknown
        missed = missed_by([member(networks, k) for k in range(len(rows))], self.task)
        return KKTPoints(
            networks=as_jax(networks),
            value=value,
            multiplier=self.order * value,
            residual=ends.finish.residual[rows],
            index=np.array([p.index for p in found], int) if found else unknown,
            spectrum=padded(found),
            num_kinks=kinks,
            basin=np.array([np.sum(numbers == k) for k in range(len(rows))], int),
            rank_one=np.all([ratio <= RANK_ONE for ratio in ratios], axis=0),
            rank_one_missed=np.where(kinks > 0, np.nan, missed),
            ends=numbers,
            member_residual=np.where(numbers == ZERO_TYPE, np.nan, ends.finish.residual),
            settings={
                "network": type(self.one).__name__,
                "num_parameters": vectors.shape[1],
                "order": self.order,
                "tol": self.tol,
            },
        )

    def _flow(
        self,
        rows: np.ndarray,
        stop: Stationary,
        *,
        smoothing: float | None = None,
        store: str | os.PathLike | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Directions at the end of the limit flow, and which of them have come to rest."""
        if not len(rows):
            return rows, np.zeros(0, bool)
        one = self.one
        if smoothing is not None:
            one = smoothed(self.objectives[0].network, smoothing)
        options = self.options(one)
        if smoothing is not None:
            options["max_steps"] = min(self.max_steps, _STEPS_EACH)
        networks = as_jax(unflatten_rows(one, rows))
        solution = ncf_flow(networks, self.task, stop=stop, store=store, **options)
        return flatten_rows(solution.directions), solution.status == Stationary.__name__

    def _flow_past_kinks(self, rows, store) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Flow with smoothed kinks, until nothing is left for small neurons to do.

        Returns:
            Directions, which of them have come to rest, and the number of the smoothing
            with which they did.
        """
        measure = eqx.Partial(measured, self.one, self.task)
        _, size, _ = map_rows(measure, rows)
        rows, alive, at_rest = rows.copy(), np.flatnonzero(size > 0), size == 0
        # With smoothing, neurons that have died still give a small gradient.
        rows[alive], at_rest[alive] = self._flow(
            rows[alive],
            Stationary(_NEAR_KINKS, _DEAD * size[alive]),
            smoothing=_SMOOTHINGS[0],
            store=store,
        )
        _, left, _ = map_rows(measure, rows)
        dead = left <= float(jnp.finfo(rows.dtype).eps) * size
        at_rest = dead | (at_rest & (left > _DEAD * size))
        level = np.zeros(len(rows), int)
        for number in range(len(_SMOOTHINGS)):
            moving = np.flatnonzero(~at_rest & np.all(np.isfinite(rows), axis=1))
            if len(moving):
                rows[moving], at_rest[moving] = self._flow(
                    rows[moving], self.near_rest, smoothing=_SMOOTHINGS[number]
                )
                level[moving] = number
            settling = np.flatnonzero(at_rest & ~dead & (level == number))
            self._settle(rows, settling, number)
        return rows, at_rest, level

    def _settle(self, rows: np.ndarray, waiting: np.ndarray, level: int) -> None:
        """Take members past slow saddles, in place."""
        objective = cast(KinkedObjective, self.objectives[level])
        for _ in range(_MAX_ROUNDS):
            later, settled = map_rows(objective.forwarded, rows[waiting])
            waiting, later = waiting[~settled], later[~settled]
            if not len(waiting):
                break
            rows[waiting], _ = self._flow(
                later, self.near_rest, smoothing=_SMOOTHINGS[level]
            )

    def _flow_on(self, ends: Ends, chosen: np.ndarray) -> Ends:
        """Some members follow the flow to a smaller residual, and finish again."""
        if not chosen.any():
            return ends
        rows, kind = ends.rows.copy(), ends.kind.copy()
        rows[chosen], _ = self._flow(rows[chosen], Stationary(self.tol / 2))
        usable = chosen & np.all(np.isfinite(rows), axis=1)
        again, done = self._finish(rows, usable, np.zeros(len(rows), int))
        kind[chosen] = np.where(done, CONVERGED, NOT_CONVERGED)[chosen]
        swap = lambda old, new: np.where(_like(chosen, new), new, old)
        return Ends(kind, rows, jax.tree_util.tree_map(swap, ends.finish, again))

    def _finish(
        self, rows: np.ndarray, usable: np.ndarray, level: np.ndarray
    ) -> tuple[Any, np.ndarray]:
        """Newton's method from usable rows, and whether it found a KKT point near by."""
        total, tolerance = int(usable.sum()), np.asarray(self.tol, rows.dtype)
        before, begun = np.full(len(rows), np.nan), 0
        shapes = jax.eval_shape(
            eqx.Partial(finished, self.objectives[0], tolerance), rows[0]
        )
        found = jax.tree_util.tree_map(
            lambda leaf: np.full(
                (len(rows), *leaf.shape),
                np.nan if leaf.dtype.kind == "f" else 0,
                leaf.dtype,
            ),
            shapes[0],
        )
        with progress_bar("Newton's method", self.progress, None) as on_progress:
            for number, objective in enumerate(self.objectives):
                chosen = np.flatnonzero(usable & (level == number))
                if not len(chosen):
                    continue
                show = lambda done, begun=begun: on_progress(
                    Progress(begun + done, total, 0, 0, 0)
                )
                on_progress(Progress(begun, total, 0, 0, 0, "compiling"))
                newton = eqx.Partial(finished, objective, tolerance)
                ends, before[chosen] = map_rows(newton, rows[chosen], show)
                for whole, part in zip(found, ends):
                    whole[chosen] = part
                begun += len(chosen)
        farthest = _FARTHEST_ON_KINKS if self.has_kinks else _FARTHEST
        drop = _LARGEST_DROP_ON_KINKS if self.has_kinks else _LARGEST_DROP
        near = (found.moved <= farthest) & (found.value >= (1 - drop) * before)
        return found, usable & near & (found.residual <= self.tol)

    def _goes_to_zero(
        self, starts: np.ndarray, rows: np.ndarray, at_rest: np.ndarray
    ) -> np.ndarray:
        """Whether `N` is not positive, beyond rounding, or tends to zero.

        Where `N` is negative and rises to zero the flow need not come to rest: it may
        change sides about the zero weights of a neuron, or follow rounding errors.
        """
        measure = eqx.Partial(measured, self.one, self.task)
        multiplier, _, terms = map_rows(measure, rows)
        _, first, _ = map_rows(measure, starts)
        eps = float(jnp.finfo(rows.dtype).eps)
        rounding = 1e3 * eps * terms
        resting = at_rest & (multiplier <= np.maximum(rounding, eps**0.5 * first))
        return resting | (multiplier <= rounding) & (
            -multiplier <= _FAINT * first + rounding
        )


def best_members(ends: Ends, numbers: np.ndarray) -> np.ndarray:
    """The member with the smallest residual at every point."""
    rows = [np.flatnonzero(numbers == k) for k in range(numbers.max(initial=-1) + 1)]
    return np.array([row[np.argmin(ends.finish.residual[row])] for row in rows], int)


def _like(chosen: np.ndarray, array: np.ndarray) -> np.ndarray:
    return chosen.reshape(len(chosen), *(1,) * (array.ndim - 1))
