"""From an ensemble to the KKT points that it flows to."""

import dataclasses
import functools
import os
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._rows import map_rows
from ..engine import Progress, progress_bar, Schedule
from ..errors import InputError
from ..flows import ncf_gradient
from ..networks import as_jax, flatten_rows, Initializations, unflatten_rows, unflattener
from ..observables import layer_matrices
from ..runs._checks import check_networks, check_whole
from ..runs._functions import ncf_flow, order_of
from ..stopping import Stationary
from ..tasks import Task
from ._finish import finish
from ._points import CONVERGED, KKTPoints, NOT_CONVERGED, same_points, ZERO_TYPE
from ._second_order import second_order, SecondOrder
from ._slopes import (
    AbstractCorrelation,
    correlation_of,
    KinkedCorrelation,
    rounded,
)

_SMOOTHINGS = (1e-3, 1e-2, 1e-1)  # of kinks; the next for members that one keeps too long
_STEPS_EACH = 2_000
_NEAR_KINKS = 1e-3  # relative residual at which Newton's method takes over on kinks
_DEAD = 1e-4  # share of its first size below which a gradient with smoothing may be zero
_FAINT = 1e-2  # share of the first gradient below which a negative λ is dying out
_MAX_ROUNDS = 12
# How far Newton's method may go, and what share of N it may lose; on kinks it also makes
# up for the smoothing, and moves along continuous families.
_FARTHEST, _LARGEST_DROP = 0.02, 1e-4
_FARTHEST_ON_KINKS, _LARGEST_DROP_ON_KINKS = 0.7, 0.02
_SAME = 1e-5
_RANK_ONE = 1e-6


def find_kkt(
    networks: eqx.Module | Initializations,
    task: Task,
    tol: float | None = None,
    *,
    max_steps: int = 10_000,
    spectrum: bool = True,
    ensemble: bool | None = None,
    schedule: Schedule | None = None,
    store: str | os.PathLike | None = None,
    progress: bool | None = None,
) -> KKTPoints:
    """Distinct KKT points of the constrained neural correlation function.

    Unit vectors with `∇N(w) = λ w`, `λ = L N(w) > 0`, to which the δ → 0 flow leads from
    the members of an ensemble. Each member follows Riemannian gradient ascent of `N` on the
    sphere until it is near a KKT point, and Newton's method on Hessian-vector products
    takes it there; points that are the same up to the symmetries of the network are then
    merged. Members at a point with ascent directions flow on first, where there are no
    kinks.

    Two points are the same if `N`, the outputs on all samples and the singular values of
    every layer are, to a relative 1e-5. That leaves out permutations of hidden neurons, and
    for linear networks and power one the continuous families, in which neurons share
    their part of a layer in any proportion.

    A feed-forward network with a (leaky) ReLU of power one has kinks, and KKT points on
    them: there `λ w` lies in the subdifferential, where each neuron on its kink has for
    each such sample some slope between those of its two sides. Members flow with slightly
    smoothed kinks and Newton's method, as an active set method in weights and slopes
    together, lands on the kinks themselves.

    **Arguments:**

    - `networks`: an ensemble (or one network), or `Initializations`.
    - `task`: the data and the loss.
    - `tol`: the residual `‖∇N - λw‖ / ‖∇N‖` that a member has to reach; 1e-10 if not
      given, 1e-4 in float32.
    - `max_steps`: attempted steps of a flow after which a member gives up.
    - `spectrum`: whether to compute the Hessian at every point, which takes one
      Hessian-vector product for each parameter; without it `index` is -1.
    - `ensemble`, `schedule`, `store`, `progress`: as for `ncf_flow`; the store is that of
      the first flow, which a call that was interrupted need not repeat.

    **Returns:** `KKTPoints`, best first, with the number of members that ended at each,
    those that go to zero apart, and those that did not converge listed.

    **Raises:** `InputError` for arguments that do not fit, `NotHomogeneousError` for a
    network that is not homogeneous.

    **Source:** arXiv:2403.08121, section 3 (KKT points of the constrained problem).

    >>> import jax, jaxflow as jf
    >>> network = jf.FeedForward((3, 1), jf.LeakyReLU(), key=jax.random.key(0))
    >>> task = jf.Task(jax.numpy.eye(3), jax.numpy.array([3.0, 0.0, 4.0]))
    >>> points = find_kkt(jf.sample_ensemble(network, 8, key=jax.random.key(1)), task)
    >>> [round(float(value), 6) for value in points.value], points.basin.tolist()
    ([5.0], [8])
    """
    search, starts = begin_search(
        networks, task, tol, max_steps, ensemble, schedule, progress
    )
    ends = search.ends(starts, store)
    numbers = search.distinct(ends)
    found = search.second_order(ends, numbers) if spectrum else []
    if not search.has_kinks and any(point.index > 0 for point in found):
        # Newton's method may have caught members that were passing a saddle.
        ends = search.away_from_saddles(ends, numbers, found)
        numbers = search.distinct(ends)
        found = search.second_order(ends, numbers)
    return search.points(ends, numbers, found)


def begin_search(
    networks: Any,
    task: Task,
    tol: Any,
    max_steps: Any,
    ensemble: bool | None,
    schedule: Schedule | None,
    progress: bool | None,
) -> tuple["Search", np.ndarray]:
    """A search with checked arguments, and its members as rows of parameters."""
    if not isinstance(networks, (eqx.Module, Initializations)):
        expected = "an equinox.Module or a jaxflow.Initializations"
        raise InputError("networks", type(networks).__name__, expected)
    checked = check_networks(networks, task, ensemble)
    assert checked.num is not None
    task = task.astype(checked.dtype)
    search = Search(
        one=checked.one,
        task=task,
        tol=_check_tolerance(tol, float(jnp.finfo(checked.dtype).eps)),
        order=order_of(checked, task),
        max_steps=check_whole("max_steps", max_steps),
        schedule=schedule,
        progress=progress,
    )
    return search, flatten_rows(checked.networks.stacked(np.arange(checked.num)))


def _check_tolerance(tol: Any, eps: float) -> float:
    """A residual that this precision can reach; the default where `None` is given."""
    if tol is None:
        return 1e-10 if eps < 1e-10 else 1e-4
    try:
        tol = float(tol)
    except (TypeError, ValueError) as error:
        raise InputError("tol", repr(tol), "a positive number") from error
    if not 64 * eps <= tol <= 1e-2:
        raise InputError("tol", f"{tol:g}", f"a number from {64 * eps:.1e} to 1e-2")
    return tol


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
    def correlations(self) -> list[AbstractCorrelation]:
        """`N`, with slopes where the network has kinks, for each smoothing."""
        return [correlation_of(self.one, self.task, each) for each in _SMOOTHINGS]

    @property
    def has_kinks(self) -> bool:
        return isinstance(self.correlations[0], KinkedCorrelation)

    @property
    def options(self) -> dict[str, Any]:
        """What all flows share."""
        return {
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
        # What Newton's method does not reach without leaving its surroundings, a flow may.
        return ends if self.has_kinks else self._flow_on(ends, usable & ~done)

    def away_from_saddles(
        self, ends: Ends, numbers: np.ndarray, found: list[SecondOrder]
    ) -> Ends:
        """Members at a point with ascent directions flow on from where they were."""
        index = np.array([point.index for point in found])
        return self._flow_on(ends, (numbers >= 0) & (index[numbers] > 0))

    def distinct(self, ends: Ends) -> np.ndarray:
        """The number of the point of every member, best first; ZERO_TYPE, NOT_CONVERGED."""
        numbers, converged = ends.kind.copy(), np.flatnonzero(ends.kind == CONVERGED)
        vectors = ends.finish.vector[converged]
        value = ends.finish.value[converged]
        outputs = map_rows(eqx.Partial(_outputs, self.one, self.task), vectors)
        layers = _layers(unflatten_rows(self.one, vectors))
        singular = [np.linalg.svd(layer, compute_uv=False) for layer in layers]
        same = same_points([outputs, value[:, None], *singular], max(_SAME, 10 * self.tol))
        best = [-value[same == k].max() for k in range(same.max(initial=-1) + 1)]
        numbers[converged] = np.argsort(np.argsort(best))[same] if len(best) else same
        return numbers

    def second_order(self, ends: Ends, numbers: np.ndarray) -> list[SecondOrder]:
        """The Hessian at every point."""
        rows = best_members(ends, numbers)
        point = lambda row: jax.tree_util.tree_map(lambda leaf: leaf[row], ends.finish)
        return [second_order(self.correlations[0], point(row)) for row in rows]

    def points(
        self, ends: Ends, numbers: np.ndarray, found: list[SecondOrder]
    ) -> KKTPoints:
        """The result, from the member with the smallest residual at every point."""
        rows = best_members(ends, numbers)
        vectors, value = ends.finish.vector[rows], ends.finish.value[rows]
        networks = unflatten_rows(self.one, vectors)
        ratios = [_second_over_first(layer) for layer in _layers(networks)]
        most = max((len(point.spectrum) for point in found), default=0)
        spectra = [
            np.pad(p.spectrum, (0, most - len(p.spectrum)), constant_values=np.nan)
            for p in found
        ]
        unknown = np.full(len(rows), -1)
        return KKTPoints(
            networks=as_jax(networks),
            value=value,
            multiplier=self.order * value,
            residual=ends.finish.residual[rows],
            index=np.array([p.index for p in found], int) if found else unknown,
            spectrum=np.array(spectra) if found else None,
            num_kinks=np.array([p.num_kinks for p in found], int) if found else unknown,
            basin=np.array([np.sum(numbers == k) for k in range(len(rows))], int),
            rank_one=np.all([ratio <= _RANK_ONE for ratio in ratios], axis=0),
            ends=numbers,
            member_residual=np.where(numbers == ZERO_TYPE, np.nan, ends.finish.residual),
            attrs={
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
        networks = as_jax(unflatten_rows(self.one, rows))
        options = self.options
        if smoothing is not None:
            networks = rounded(networks, smoothing)
            options["max_steps"] = min(self.max_steps, _STEPS_EACH)
        solution = ncf_flow(networks, self.task, stop=stop, store=store, **options)
        return flatten_rows(solution.directions), solution.status == Stationary.__name__

    def _flow_past_kinks(self, rows, store) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Flow with smoothed kinks, until nothing is left for small neurons to do.

        **Returns:** directions, which of them have come to rest, and the number of the
        smoothing with which they did.
        """
        measure = eqx.Partial(_measure, self.one, self.task)
        _, size, _ = map_rows(measure, rows)
        rows, alive, at_rest = rows.copy(), np.flatnonzero(size > 0), size == 0
        # Neurons that have died give a rounded network a small gradient all the same.
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
        correlation = self.correlations[level]
        assert isinstance(correlation, KinkedCorrelation)
        for _ in range(_MAX_ROUNDS):
            later, settled = map_rows(correlation.forwarded, rows[waiting])
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
            eqx.Partial(_finished, self.correlations[0], tolerance), rows[0]
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
            for number, correlation in enumerate(self.correlations):
                chosen = np.flatnonzero(usable & (level == number))
                if not len(chosen):
                    continue
                show = lambda done, begun=begun: on_progress(
                    Progress(begun + done, total, 0, 0, 0)
                )
                newton = eqx.Partial(_finished, correlation, tolerance)
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
        """Whether `N` is not positive, beyond rounding, or has died out.

        Where `N`, which never falls, dies out from below the flow need not come to rest: it
        may shake about a neuron's zero weights, or follow rounding errors.
        """
        measure = eqx.Partial(_measure, self.one, self.task)
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


def _layers(networks: eqx.Module) -> list[np.ndarray]:
    """The layers of stacked networks as matrices, (members, rows, columns) each."""
    layers = eqx.filter_vmap(layer_matrices)(networks)
    return [np.asarray(layer, np.float64) for layer in layers]


def _second_over_first(matrices: np.ndarray) -> np.ndarray:
    values = np.linalg.svd(matrices, compute_uv=False)
    return values[:, 1] / values[:, 0] if values.shape[1] > 1 else np.zeros(len(values))


def _like(chosen: np.ndarray, array: np.ndarray) -> np.ndarray:
    return chosen.reshape(len(chosen), *(1,) * (array.ndim - 1))


def _finished(correlation, tolerance, row):
    before = correlation.value(row, correlation.first_slopes(row))
    return finish(correlation, row, tolerance), before


def _outputs(one, task, row):
    return task.outputs(unflattener(one)(row)).ravel()


def _measure(one, task, row):
    """`λ = ⟨v, ∇N⟩`, `‖∇N‖`, and the sum of the sizes that `λ` is made of."""
    network = unflattener(one)(row)
    gradient = ncf_gradient(network, task)
    outputs = task.outputs(network)
    terms = jnp.sum(jnp.abs(task.correlation_weights(outputs) * outputs))
    return jnp.dot(row, gradient), jnp.linalg.norm(gradient), terms
