"""Orders in δ, and what becomes of a member by them."""

import numpy as np

from ..kkt._points import NOT_CONVERGED, ZERO_TYPE
from ._convergence import CONVERGES, EarlyConvergence, GOES_TO_ZERO, NO, SLOW

_BOUND = 2.0
"""By what factor `‖w‖/δ` and `1 - cosine` may be larger than in the limit. Chosen;
`verify_early_convergence` says so."""

_SLACK = 1e-9
"""By how much `1 - cosine` may rise from rounding and errors of steps. Chosen."""

_NEAR = 1e-2
"""The `1 - cosine` below which the distance from a KKT point shrinks by its Hessian: terms
of second order in it are then a seventh of those of first order or less."""

_HIDDEN = 10.0
"""How many times the error of the KKT point the distance from it has to be for an order to
be seen: it is then right to a fifth. Chosen."""

_STEADY = 0.5
"""The share of its mean order with which `1 - cosine` still falls at the last scale of a
member that is slow. One that tends to another point levels off. Chosen."""

NO_LIMIT = f"{NO}: the limit flow did not converge"


def slope(x: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The least-squares slope of every column over `x`."""
    x = x - x.mean()
    return x @ (columns - columns.mean(axis=0)) / (x @ x)


def fitted_orders(
    scales: np.ndarray, closest: np.ndarray, error: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The order of every member's `1 - cosine` in δ, and the scales it is measured over.

    Arguments:
        scales: δ, (scales,), falling.
        closest: `1 - cosine`, (scales, members).
        error: of the KKT points, on the unit sphere.

    Returns:
        The orders, the largest and the smallest scale of each, (members,).
    """
    floor = (_HIDDEN * error) ** 2 / 2
    # Up to the first that is hidden, not those that come out of hiding by chance.
    seen = np.logical_and.accumulate(closest > floor, axis=0)
    far = seen & ~(closest < _NEAR)
    places = np.arange(len(scales))[:, None]
    last_far = np.max(np.where(far, places, -1), axis=0)
    near = seen & (places > last_far)
    used = np.where(near.sum(axis=0) >= 2, near, seen)
    num = used.sum(axis=0)
    x = np.log(scales)[:, None]
    y = np.log(np.where(used, closest, 1.0))
    mean = lambda values: np.sum(np.where(used, values, 0.0), axis=0) / np.maximum(num, 1)
    away = np.where(used, x - mean(x), 0.0)
    spread = np.sum(away**2, axis=0)
    enough = num >= 2
    order = np.sum(away * y, axis=0) / np.where(enough, spread, 1.0)
    given = lambda values: np.where(enough, values, np.nan)
    largest = np.max(np.where(used, scales[:, None], -np.inf), axis=0)
    smallest = np.min(np.where(used, scales[:, None], np.inf), axis=0)
    return given(order), given(largest), given(smallest)


def judge(found: EarlyConvergence, kind: int, m: int) -> str:
    """The verdict on a member, whose limit flow ended as `kind` says."""
    if kind == NOT_CONVERGED:
        return NO_LIMIT
    scales, closest = found.scales, found.closest[:, m]
    escaped = np.isfinite(closest)
    limit = found.limit_growth[m]
    large = found.growth[:, m] > _BOUND * limit
    if kind == ZERO_TYPE:
        if escaped.any() or large.any():
            return f"{NO}: it grows, though the limit flow goes to zero"
        return GOES_TO_ZERO
    if not escaped.all():
        return f"{NO}: ‖w‖ does not reach √δ at δ = {scales[~escaped][0]:.0e}"
    # Weights that have left the origin are slower than the limit, which knows no bound.
    large &= limit <= scales**-0.5
    if large.any():
        return f"{NO}: ‖w‖/δ depends on δ, at δ = {scales[large][0]:.0e}"
    growing = closest[1:] > closest[:-1] + _SLACK
    nearest = np.fmin(1 - found.cosine[-1, m], closest[-1])
    if nearest > _BOUND * found.settings["closeness"]:
        still = f"1 - cosine is still {nearest:.1g} at δ = {scales[-1]:.0e}"
        if not found.needed_scale[m] >= scales[-1] and _falls(scales, closest):
            return f"{SLOW}: {still}, but falls"
        return f"{NO}: {still}"
    if growing.any():
        return f"{NO}: 1 - cosine grows at δ = {scales[1:][growing][0]:.0e}"
    return CONVERGES


def _falls(scales: np.ndarray, closest: np.ndarray) -> bool:
    """Whether it falls from each scale to the next, and does not level off."""
    if not np.all(closest[1:] < closest[:-1]):
        return False
    x, y = np.log(scales), np.log(closest)
    at_last, mean = (y[-1] - y[-2]) / (x[-1] - x[-2]), (y[-1] - y[0]) / (x[-1] - x[0])
    return bool(at_last >= _STEADY * mean)
