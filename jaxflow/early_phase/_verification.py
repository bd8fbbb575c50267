"""The steps of `verify_early_convergence`: limit flow, flows of all scales, figures."""

import dataclasses
from typing import Any

import equinox as eqx
import numpy as np

from .._arrays import is_single
from ..kkt._measures import layers_of, RANK_ONE, second_over_first
from ..kkt._points import CONVERGED, ZERO_TYPE
from ..kkt._search import Ends, Search
from ..networks import as_jax, flatten_rows, unflatten_rows
from ..observables import CosineTo, norm
from ..results import Solution
from ..runs import gradient_flow, ncf_flow
from ..stops import NormAbove, RescaledTime
from ._convergence import EarlyConvergence
from ._judging import fitted_orders, judge, slope

_GRID_POINTS, _EARLY_POINTS = 120, 60
"""Points of the record of a flow, and those up to the early-phase time. Chosen."""

_LATER = 1e4
"""Times the end of the limit flow, after which a flow is given up. Chosen: members
that escape do so at about that end."""

_BEFORE_END = 0.99
"""The share of the blow-up time up to which norms at equal times are compared. The time is
right to `rtol`, and `‖u‖` within 1% of the blow-up to a hundred times that. Chosen."""


@dataclasses.dataclass(frozen=True)
class Verification:
    """The steps of `verify_early_convergence`; members are rows of parameters."""

    search: Search
    starts: np.ndarray
    scales: np.ndarray
    closeness: float
    spectrum: bool

    def run(self) -> EarlyConvergence:
        ends, expected_order = self._ends()
        known = np.isfinite(ends.finish.vector).all(axis=1)
        points = np.where(known[:, None], ends.finish.vector, ends.rows)
        points = np.where(np.isfinite(points), points, self.starts)
        limit, end = self._limit_flow(points)
        early, compared, limit_growth, needed = self._early_phase(
            limit, ends.kind == ZERO_TYPE
        )
        flows = self._flows(points, early, end)

        shape = (len(self.scales), len(self.starts))
        assert flows.records is not None
        norms = np.asarray(flows.records.values["norm"]).reshape(*shape, -1)
        cosines = np.asarray(flows.records.values["cosine"]).reshape(*shape, -1)
        times = early[:, None] * _early_shares()
        until = np.where(times <= compared[:, None], norms[..., :_EARLY_POINTS], np.nan)
        growth = np.nanmax(until, axis=-1) / self.scales[:, None]
        away = flatten_rows(flows.directions) - np.tile(points, (shape[0], 1))
        escaped = (flows.status == NormAbove.__name__).reshape(shape)
        closest = (np.sum(away**2, axis=1) / 2).reshape(shape)
        log_time = flows.log_time.reshape(shape)
        if self.search.order > 2:
            times = flows.rescaled_time.reshape(shape)
            rate = slope(np.log(self.scales), log_time)
            expected = np.full(shape[1], 2.0 - self.search.order)
        else:
            times = np.exp(log_time) / np.log(1 / self.scales)[:, None]
            rate = slope(np.log(1 / self.scales), np.exp(log_time))
            expected = 1 / (4 * ends.finish.value)
        closest = np.where(escaped, closest, np.nan)
        fitted, largest, smallest = fitted_orders(self.scales, closest, self.search.tol)
        going = ends.kind == CONVERGED
        result = EarlyConvergence(
            scales=self.scales,
            growth=growth,
            cosine=cosines[..., _EARLY_POINTS - 1],
            closest=closest,
            escape_time=np.where(escaped, times, np.nan),
            early_time=early,
            limit_growth=limit_growth,
            needed_scale=np.where(going, needed, np.nan),
            fitted_order=fitted,
            fitted_from=largest,
            fitted_to=smallest,
            expected_order=expected_order,
            kkt_value=np.where(going, ends.finish.value, np.nan),
            rank_one=going & self._are_rank_one(points),
            rate=np.where(escaped.all(axis=0), rate, np.nan),
            expected_rate=expected,
            verdict=np.empty(shape[1], object),
            limit=limit,
            flows=flows,
            settings={"order": self.search.order, "closeness": self.closeness},
        )
        verdict = [judge(result, int(k), m) for m, k in enumerate(ends.kind)]
        return dataclasses.replace(result, verdict=np.array(verdict))

    def _ends(self) -> tuple[Ends, np.ndarray]:
        """The KKT point of every member, and the order in δ that its Hessian gives."""
        search, unknown = self.search, np.full(len(self.starts), np.nan)
        ends = search.ends(self.starts, past_kinks=False)
        if search.has_kinks:
            return search.go_past_kinks(ends), unknown
        if not self.spectrum:
            return ends, unknown
        ends, numbers, found = search.settled(ends)
        gaps = np.array([*(point.gap for point in found), np.nan])
        return ends, np.minimum(gaps[np.maximum(numbers, -1)], search.order)

    def _are_rank_one(self, points: np.ndarray) -> np.ndarray:
        layers = layers_of(self._networks(points))
        return np.all([second_over_first(layer) <= RANK_ONE for layer in layers], axis=0)

    def _networks(self, rows: np.ndarray) -> eqx.Module:
        return as_jax(unflatten_rows(self.search.one, rows))

    def _limit_flow(self, points: np.ndarray) -> tuple[Solution, np.ndarray]:
        """The recorded limit flow, and the rescaled time of its end, `T*` if it has one."""
        networks, task = self._networks(self.starts), self.search.task
        options: dict[str, Any] = self.search.options(self.search.one)
        options["stop"] = self.search.near_rest
        before = ncf_flow(networks, task, **options)
        end = before.rescaled_time
        assert before.blow_up_time is not None
        end = np.where(np.isfinite(before.blow_up_time), before.blow_up_time, end)
        end = np.where(end > 0, end, 1.0)  # any time will do for what never moves
        single = is_single(end.dtype)
        if self.search.order > 2:
            # Everything happens close to T*.
            left = np.geomspace(1.0, 1e-5 if single else 1e-12, _GRID_POINTS)
        else:
            left = np.linspace(1.0, 0.0, _GRID_POINTS)
        grid = end[:, None] * (1 - left)
        record = {"cosine": CosineTo(self._networks(points), per_member=True), "norm": norm}
        limit = ncf_flow(networks, task, record=record, record_at=grid, **options)
        return limit, end

    def _early_phase(self, limit: Solution, zero: np.ndarray):
        """When the limit flow comes close for good, and how large it has become by then.

        Returns:
            The early-phase time, the time up to which norms are compared, the largest norm
            up to that, and the δ from which on the early phase ends before `‖w‖ = √δ`.
        """
        assert limit.records is not None
        cosine = np.asarray(limit.records.values["cosine"])
        norms, grid = np.asarray(limit.records.values["norm"]), limit.records.grid
        far = np.isfinite(cosine) & ~(1 - cosine <= self.closeness)
        points = np.arange(grid.shape[1])
        last_far = np.max(np.where(far, points, -1), axis=1)
        first = np.minimum(last_far + 1, grid.shape[1] - 1)
        # A member that goes to zero is followed half way to the end of the limit flow.
        first = np.where(zero, grid.shape[1] // 2, np.maximum(first, 1))
        early = np.take_along_axis(grid, first[:, None], axis=1)[:, 0]
        end = np.asarray(limit.blow_up_time)
        compared = np.where(np.isfinite(end), np.fmin(early, _BEFORE_END * end), early)
        so_far = np.where(np.isfinite(norms) & (grid <= compared[:, None]), norms, 0.0)
        largest = np.where(np.isfinite(norms) & (points <= first[:, None]), norms, 0.0)
        close = last_far + 1 < grid.shape[1]
        needed = np.where(close, np.max(largest, axis=1) ** -2.0, np.nan)
        return early, compared, np.max(so_far, axis=1), needed

    def _flows(self, points, early, end) -> Solution:
        """All scales at once, recorded up to the early-phase time and on to the escape."""
        times = len(self.scales)
        until = early[:, None] * _early_shares()
        beyond = np.maximum(end - early, 1e-3 * early)
        left = np.geomspace(0.9, 1e-5, _GRID_POINTS - _EARLY_POINTS)
        after = early[:, None] + beyond[:, None] * (1 - left)
        grid = np.concatenate([until, after], axis=1)
        scales = np.repeat(self.scales, len(points))
        last = np.tile(_LATER * end, times)
        tile = lambda rows: np.tile(rows, (times, 1))
        return gradient_flow(
            self._networks(tile(self.starts)),
            self.search.task,
            scale=scales,
            # A member that has not escaped long after the limit flow's end never will.
            stop=[NormAbove(scales**0.5), RescaledTime(last)],  # pyright: ignore
            record={
                "cosine": CosineTo(self._networks(tile(points)), per_member=True),
                "norm": norm,
            },
            record_at=tile(grid),
            **self.search.options(self.search.one),
        )


def _early_shares() -> np.ndarray:
    return np.linspace(0.0, 1.0, _EARLY_POINTS)
