"""The table of fourth-order Chebyshev methods, tested as plain Runge-Kutta methods.

Nothing here is shared with the script that writes it. Order conditions are those of the
full Butcher tableau; stability is seen by evaluation; orders are observed.
"""

import pathlib

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import jaxflow

TABLE = pathlib.Path(jaxflow.__file__).parent / "solvers" / "staged" / "rock4.npz"
LAST_UNDIVIDED = 16


@pytest.fixture(scope="module")
def table():
    with np.load(TABLE) as file:
        return dict(file)


def member(table, k):
    n, first = table["stages"][k] - 4, table["first"][k]
    ragged = (table[name][first : first + n] for name in ("mut", "mu"))
    return *ragged, *(table[name][k] for name in ("a", "b", "error", "middle"))


def position(table, stages):
    return int(np.flatnonzero(table["stages"] == stages)[0])


def step(f, y, h, method):
    """One step as a solver takes it: the new value and the estimate of its error."""
    mut, mu, a, b, error, middle = method
    g = [y]
    for j in range(len(mut)):
        g.append(mut[j] * h * f(g[j]) + mu[j] * g[j] + (1 - mu[j]) * g[max(j - 1, 0)])
    k = np.zeros((4, *np.shape(y)))
    for i in range(4):
        k[i] = h * f(g[-1] + np.tensordot(a[i], k, 1))
    new = g[-1] + np.tensordot(b, k, 1)
    estimate = np.tensordot(error[:4], k, 1)
    return new, estimate + error[4] * (g[-1] - y) + error[5] * (g[middle] - y)


def tableau(method):
    """The Butcher tableau, and the weights of the estimate, from the stages themselves."""
    mut, mu, a, b, error, middle = method
    n = len(mut)
    one = np.eye(n + 4)
    g = np.zeros((n + 1, n + 4))
    for j in range(n):
        g[j + 1] = mut[j] * one[j] + mu[j] * g[j] + (1 - mu[j]) * g[max(j - 1, 0)]
    A = np.concatenate([g[:n], g[n] + a @ one[n:]])
    weights = error[:4] @ one[n:] + error[4] * g[n] + error[5] * g[middle]
    return A, g[n] + b @ one[n:], weights


def elementary(A, b):
    """Σ b_i Φ_i(τ) γ(τ) for the eight trees with up to four vertices."""
    c = A.sum(1)
    d = A @ c
    phi = [c**0, c, c**2, d, c**3, c * d, A @ c**2, A @ d]
    return np.array([b @ p for p in phi]) * [1, 2, 3, 6, 4, 8, 12, 24]


def linear(method, z):
    """The stability polynomial and that of the estimate."""
    return step(lambda y: z * y, np.ones_like(z), 1.0, method)


def inside(length, stages):
    """A dozen points to each ripple of the interval of stability, both ends included."""
    return -length * np.sin(np.linspace(0, np.pi / 2, 12 * int(stages))) ** 2


def test_layout(table):
    members = len(table["stages"])
    sizes = table["stages"] - 4
    assert members > 60 and table["stages"][0] == 5 and table["stages"][-1] > 1000
    assert np.all(np.diff(table["stages"]) > 0) and np.all(np.diff(table["length"]) > 0)
    assert np.array_equal(table["first"], np.concatenate([[0], np.cumsum(sizes)[:-1]]))
    assert table["mut"].shape == table["mu"].shape == (sizes.sum(),)
    assert table["a"].shape == (members, 4, 4) and not np.triu(table["a"]).any()
    assert table["b"].shape == (members, 4) and table["error"].shape == (members, 6)
    assert np.all(table["mu"][table["first"]] == 1)  # the first stage has no g_{-1}
    assert np.all(table["middle"] <= sizes)
    assert all(np.isfinite(x).all() for x in table.values())


def test_lengths(table):
    """Against the 0.35 s² of the paper: two evaluations are spent where w is divided."""
    stages, length = table["stages"], table["length"]
    spent = np.where(stages > LAST_UNDIVIDED, 2, 0)
    share = length / (stages - spent) ** 2
    assert share.max() < 0.354 and np.all(share[stages >= 12] > 0.33)
    assert np.all(share[stages >= 40] > 0.351) and share[0] > 0.239
    assert np.all(length[stages > 74] / stages[stages > 74] ** 2 > 0.33)


def test_order_conditions(table):
    """Order four, and three for the estimate, with four weights of a moderate size."""
    for k in [*range(0, len(table["stages"]), 6), len(table["stages"]) - 1]:
        stages = table["stages"][k]
        A, b, weights = tableau(member(table, k))
        # The residual is the rounding of the coefficients themselves and of this sum.
        tolerance = 1e-14 if stages <= 50 else 1e-12
        np.testing.assert_allclose(elementary(A, b), 1, rtol=0, atol=tolerance)
        estimate = elementary(A, weights)
        np.testing.assert_allclose(estimate[:4], 0, atol=10 * tolerance)
        assert np.all((0.01 < np.abs(estimate[4:])) & (np.abs(estimate[4:]) < 0.5))


def test_stability(table):
    """|R| ≤ 1 on the whole interval, 0.95 away from zero, and a bounded estimate."""
    for k, (stages, length) in enumerate(zip(table["stages"], table["length"])):
        z = inside(length, stages)
        growth, estimate = linear(member(table, k), z)
        assert np.abs(growth).max() <= 1 + 1e-12
        assert np.abs(growth[z < -3]).max() < 0.9501
        assert np.abs(estimate).max() < (1.3 if stages <= LAST_UNDIVIDED else 10.6)
        # It is the whole interval: R leaves [-1, 1] just behind it.
        assert np.abs(linear(member(table, k), np.array([-1.05 * length]))[0][0]) > 1


def nonlinear(y):
    """A smooth system without any structure that could hide an order condition."""
    u, v, w, x = y
    return np.array(
        [
            -u * v + np.sin(w) * x,
            u * u - v * w - 0.3 * v**3,
            np.cos(u) - w * x,
            v * np.exp(-w * w) - 0.5 * x,
        ]
    )


@pytest.mark.parametrize("stages", [5, 8, 16, 19, 30, 103, 1011])
def test_observed_orders(table, stages):
    """Errors fall like h⁴, estimates like h⁴ per step, and are larger than the error."""
    method = member(table, position(table, stages))
    start = np.array([1.0, 0.5, -0.3, 0.8])

    def exact(t):
        flow = lambda t, y: nonlinear(y)
        return solve_ivp(flow, (0, t), start, method="DOP853", rtol=1e-13, atol=1e-15).y[
            :, -1
        ]

    end, errors, estimates = exact(2.0), [], []
    for steps in (16, 32):
        y, h = start, 2 / steps
        for _ in range(steps):
            y = step(nonlinear, y, h, method)[0]
        errors.append(np.linalg.norm(y - end))
        once, estimate = step(nonlinear, start, h, method)
        estimates.append(np.linalg.norm(estimate))
        assert estimates[-1] > np.linalg.norm(once - exact(h))
    assert abs(np.log2(errors[0] / errors[1]) - 4) < 0.15
    assert abs(np.log2(estimates[0] / estimates[1]) - 4) < 0.15


@pytest.mark.parametrize("stages", [5, 12, 16, 19, 50, 103, 301])
def test_rounding_errors_grow_no_faster_than_stated(table, stages):
    """A stiff linear problem in rotated coordinates, against its eigenvalues one by one."""
    k = position(table, stages)
    method, rng = member(table, k), np.random.default_rng(0)
    z = -np.concatenate([[0.01, 0.1, 1], table["length"][k] * rng.uniform(0, 1, 9)])
    basis = np.linalg.qr(rng.normal(size=(12, 12)))[0]
    mixed = basis @ np.diag(z) @ basis.T
    start = np.concatenate([rng.normal(size=3), np.zeros(9)])
    y = step(lambda y: mixed @ y, basis @ start, 1.0, method)[0]
    wrong = np.linalg.norm(basis.T @ y - linear(method, z)[0] * start)
    assert wrong < np.finfo(float).eps * table["growth"][k] * np.linalg.norm(start)
