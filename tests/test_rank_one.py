"""Rank-one KKT points: the reduced problem, the lift, and the conditions, both ways."""

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

import jaxflow as jf
from jaxflow.kkt import lift, rank_one, rank_one_conditions, reduced_kkt

from .closed_form import layer_shares


def _plain_residual(weights, activation, x, z):
    """`‖∇N - L N w‖/‖∇N‖` by backpropagation written out in NumPy, at unit norm."""
    power, slope = int(activation.power), activation.slope
    inner = lambda a: np.where(a > 0, a, slope * a)
    hidden, before = [x], []
    for weight in weights[:-1]:
        before.append(hidden[-1] @ weight.T)
        hidden.append(inner(before[-1]) ** power)
    delta, gradients = z, []
    for l in reversed(range(len(weights))):
        gradients.insert(0, delta.T @ hidden[l])
        if l > 0:
            a = before[l - 1]
            change = power * inner(a) ** (power - 1) * np.where(a > 0, 1.0, slope)
            delta = (delta @ weights[l]) * change
    w = np.concatenate([weight.ravel() for weight in weights])
    gradient = np.concatenate([g.ravel() for g in gradients])
    return np.linalg.norm(gradient - (gradient @ w) * w) / np.linalg.norm(gradient)


def _residual(network, task):
    weights = [np.asarray(weight) for weight in network.weights]
    targets = np.asarray(task.targets).reshape(len(task.targets), -1)
    return _plain_residual(weights, network.activation, np.asarray(task.inputs), targets)


def _plane_task(seed, n):
    rng = np.random.default_rng(seed)
    return jf.Task(rng.standard_normal((n, 2)), rng.standard_normal(n))


# Few different shapes: each is compiled.
@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n=st.sampled_from([1, 2, 5, 12]),
    depth=st.integers(1, 4),
    power=st.integers(1, 3),
    slope=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_lifted_points_are_kkt_points(seed, n, depth, power, slope):
    if power**depth > 30:
        depth = 3
    rng = np.random.default_rng(seed)
    task, activation = _plane_task(seed, n), jf.LeakyReLU(slope, power)
    points = reduced_kkt(task, activation, depth)
    smooth = np.flatnonzero(~points.at_kink)
    if len(smooth) == 0:
        return
    point = rng.choice(smooth)
    widths = rng.choice([1, 4], depth - 1)
    neurons = []
    for width in widths:
        if power == 1 and rng.random() < 0.5:
            neurons.append(rng.random(width) + 0.01)
        else:
            neurons.append(rng.permutation(width)[: rng.integers(1, width + 1)])
    signs = points.signs[point]
    network = lift(points.directions[point], signs, (2, *widths, 1), activation, neurons)
    assert _residual(network, task) < 1e-10
    conditions = rank_one_conditions(network, task)
    assert conditions.hold, str(conditions)
    assert rank_one(network).is_rank_one
    squares = np.asarray(jf.layer_norms(network)) ** 2
    np.testing.assert_allclose(squares, layer_shares(depth, power), rtol=1e-12)
    for u, given_neurons in zip(rank_one(network).left, neurons):
        if given_neurons.dtype.kind == "i":
            assert set(np.flatnonzero(np.abs(u) > 1e-9)) == set(given_neurons)


def _with_vectors(u, v, power, activation):
    """The network of unit norm with `W_l = s_l u_l v_lᵀ`."""
    sizes = (len(v[0]), *(len(part) for part in u))
    network = jf.FeedForward(sizes, activation, key=jax.random.key(0))
    norms = np.sqrt(layer_shares(len(u), power))
    weights = tuple(jnp.asarray(s * np.outer(a, b)) for s, a, b in zip(norms, u, v))
    return eqx.tree_at(lambda n: n.weights, network, weights)


def _member(ensemble, index):
    return jax.tree_util.tree_map(lambda a: a[index], ensemble)


def _unit(vector):
    return vector / np.linalg.norm(vector)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**31), power=st.integers(1, 3), kind=st.integers(0, 3))
def test_the_conditions_decide(seed, power, kind):
    """They hold where the gradient says KKT point, and nowhere else."""
    rng = np.random.default_rng(seed)
    activation = jf.LeakyReLU(0.4, power)
    task = _plane_task(seed, 6)
    points = reduced_kkt(task, activation, 3)
    smooth = np.flatnonzero(~points.at_kink)
    if len(smooth) == 0:
        return
    point = rng.choice(smooth)
    first, signs = points.directions[point], points.signs[point]
    u = [_unit(np.ones(3)), _unit(np.ones(2)), np.ones(1)]
    if kind == 1:  # entries of different size: right for power one alone
        u[0] = _unit(np.array([1.0, 2.0, 3.0]))
    v = [first, signs[0] * _unit(u[0] ** power), signs[1] * _unit(u[1] ** power)]
    if kind == 2:  # another direction in input space
        v[0] = _unit(first + 0.3 * np.array([-first[1], first[0]]))
    if kind == 3:  # a reading vector that is not that of the active neurons
        aside = rng.standard_normal(3)
        v[1] = _unit(v[1] + 0.3 * _unit(aside - (aside @ v[1]) * v[1]))
    network = _with_vectors(u, v, power, activation)
    allowed = kind == 0 or (kind == 1 and power == 1)
    residual = _residual(network, task)
    assert rank_one_conditions(network, task, tolerance=1e-7).hold == (residual < 1e-7)
    assert allowed <= (residual < 1e-10)
    if kind in (1, 3):  # wrong for all data; a wrong direction may be right by chance
        assert allowed or residual > 1e-2


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**31), mirrored=st.booleans())
def test_mixed_signs(seed, mirrored):
    """Neurons of both signs ask of the data that `G⁺` and `G⁻` point along `v`."""
    rng = np.random.default_rng(seed)
    x, z = rng.standard_normal((4, 2)), rng.standard_normal(4)
    if mirrored:
        x, z = np.concatenate([x, -x]), np.concatenate([z, z])
    task, activation = jf.Task(x, z), jf.LeakyReLU(0.3, 1)
    points = reduced_kkt(task, activation, 2)
    smooth = np.flatnonzero(~points.at_kink)
    if len(smooth) == 0:
        return
    u = _unit(np.array([1.0, -2.0, 0.5]))
    read = np.abs(u) if mirrored else u
    network = _with_vectors(
        [u, np.ones(1)], [points.directions[smooth[0]], read], 1, activation
    )
    assert (_residual(network, task) < 1e-8) == mirrored
    assert rank_one_conditions(network, task).hold == mirrored


@pytest.mark.parametrize("power", [2, 3])
def test_mixed_signs_of_higher_power_have_sizes_of_their_own(power):
    """`|u_-|/|u_+| = (|A⁺|/|A⁻|)^(1/(p-1))`, which mirrored data makes one."""
    rng = np.random.default_rng(3)
    x, z = rng.standard_normal((4, 2)), rng.standard_normal(4)
    task = jf.Task(np.concatenate([x, -x]), np.concatenate([z, z]))
    activation = jf.LeakyReLU(0.3, power)
    point = reduced_kkt(task, activation, 2).directions[0]
    for ratio, expected in ((1.0, True), (1.3, False)):
        u = _unit(np.array([1.0, -ratio]))
        v = _unit(np.abs(u) ** power)
        network = _with_vectors([u, np.ones(1)], [point, v], power, activation)
        assert (_residual(network, task) < 1e-8) == expected
        assert rank_one_conditions(network, task).hold == expected


@pytest.mark.parametrize("power, depth", [(1, 2), (2, 2), (3, 2), (1, 3), (2, 3)])
@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(10))
def test_sweep_against_a_scan_of_angles(power, depth, slope, seed):
    task, activation = _plane_task(seed, 7), jf.LeakyReLU(slope, power)
    points = reduced_kkt(task, activation, depth)
    angles = np.arange(100_000) * 2 * np.pi / 100_000 + 1e-6
    v = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    x, z = np.asarray(task.inputs), np.asarray(task.targets)
    inner = lambda a: np.where(a > 0, a, slope * a) ** power
    for signs in {tuple(s) for s in points.signs.tolist()}:
        value = v @ x.T
        for sign in signs:
            value = sign * inner(value)
        value = value @ z
        up = np.diff(np.append(value, value[0])) > 1e-13
        down = np.diff(np.append(value, value[0])) < -1e-13
        extrema = np.flatnonzero((up & np.roll(down, 1)) | (down & np.roll(up, 1)))
        extrema = extrema[np.abs(value[extrema]) > 1e-9]
        mine = points.directions[(points.signs == signs).all(axis=1)]
        assert len(mine) >= len(extrema)
        for index in extrema:  # none is missing
            assert np.min(np.linalg.norm(mine - v[index], axis=1)) < 2e-4
        for one in mine:  # none is invented: the value is level there, or turns at a kink
            near = np.argmin(np.linalg.norm(v - one, axis=1))
            if np.min(np.abs(extrema - near), initial=10**6) > 3:
                across = np.array([-one[1], one[0]])
                values = []
                for e in (-1e-4, 1e-4):
                    chain = (one + e * across) @ x.T
                    for sign in signs:
                        chain = sign * inner(chain)
                    values.append(chain @ z)
                assert abs(values[1] - values[0]) < 1e-6 * max(1, np.abs(value).max())


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_linear_networks(depth):
    task = _plane_task(0, 5)
    points = reduced_kkt(task, jf.LeakyReLU(1.0, 1), depth)
    top = np.asarray(task.inputs).T @ np.asarray(task.targets)
    np.testing.assert_allclose(np.abs(points.values), np.linalg.norm(top), rtol=1e-13)
    network = lift(
        points.directions[0],
        points.signs[0],
        (2,) + (3,) * (depth - 1) + (1,),
        jf.LeakyReLU(1.0, 1),
        [[0, 1]] * (depth - 1),
    )
    value = depth ** (-depth / 2) * np.linalg.norm(top)
    np.testing.assert_allclose(jf.ncf(network, task), value, rtol=1e-13)


def test_higher_dimension_finds_what_the_flow_finds():
    key = jax.random.key(1)
    x = jf.data.sphere_points(30, 5, key=key)
    activation = jf.LeakyReLU(0.5, 2)
    teacher = jf.FeedForward((5, 8, 8, 1), activation, key=key)
    task = jf.data.teacher_student(teacher, x, target_norm=1.0)
    ends = jf.ncf_flow(jf.sample_ensemble(teacher, 64, key=key), task, progress=False)
    best = max(jf.ncf(_member(ends.directions, i), task) for i in range(64))
    points = reduced_kkt(task, activation, 3)
    lifted = [
        lift(v, signs, (5, 8, 8, 1), activation, [[0], [3]])
        for v, signs in zip(points.directions, points.signs)
    ]
    assert max(_residual(network, task) for network in lifted) < 1e-7
    values = np.array([jf.ncf(network, task) for network in lifted])
    np.testing.assert_allclose(values.max(), best, rtol=1e-9)


def test_each_further_neuron_costs_a_factor():
    task, activation = _plane_task(1, 6), jf.LeakyReLU(0.3, 2)
    points = reduced_kkt(task, activation, 2)
    values = [
        float(
            jf.ncf(
                lift(
                    points.directions[0], points.signs[0], (2, 4, 1), activation, [active]
                ),
                task,
            )
        )
        for active in ([0], [0, 1], [0, 1, 2])
    ]
    np.testing.assert_allclose(values[1:] / np.float64(values[0]), [2**-0.5, 3**-0.5])


def test_nothing_to_correlate_with():
    zero = jf.Task(np.ones((3, 2)), np.zeros(3))
    assert len(reduced_kkt(zero, jf.LeakyReLU(0.5, 2), 2)) == 0
    # After an inner minus a ReLU lets nothing pass: those chains are left out.
    one = jf.Task(np.array([[1.0, 0.0]]), np.ones(1))
    assert set(map(tuple, reduced_kkt(one, jf.LeakyReLU(0.0, 1), 3).signs.tolist())) == {
        (1, 1),
        (1, -1),
    }


def _two_outputs(task):
    return jf.Task(task.inputs, np.stack([task.targets, task.targets], axis=1))


@pytest.mark.parametrize(
    "argument, call",
    [
        ("activation", lambda t: reduced_kkt(t, jf.LeakyReLU(0.5, 1, 0.1), 2)),
        ("task", lambda t: reduced_kkt(_two_outputs(t), jf.LeakyReLU(), 2)),
        (
            "task",
            lambda t: rank_one_conditions(
                jf.FeedForward((2, 1), jf.LeakyReLU(), key=jax.random.key(0)),
                _two_outputs(t),
            ),
        ),
        ("depth", lambda t: reduced_kkt(t, jf.LeakyReLU(), 0)),
        ("num_starts", lambda t: reduced_kkt(t, jf.LeakyReLU(), 2, num_starts=0)),
        ("direction", lambda t: lift(np.ones(2), [1], (2, 3, 1), jf.LeakyReLU(), [[0]])),
        ("signs", lambda t: lift(np.eye(2)[0], [2], (2, 3, 1), jf.LeakyReLU(), [[0]])),
        ("neurons", lambda t: lift(np.eye(2)[0], [1], (2, 3, 1), jf.LeakyReLU(), [[3]])),
        ("neurons", lambda t: lift(np.eye(2)[0], [1], (2, 3, 1), jf.LeakyReLU(), [])),
        ("sizes", lambda t: lift(np.eye(2)[0], [1], (2, 3, 2), jf.LeakyReLU(), [[0]])),
        ("network", lambda t: rank_one(jf.DiagonalLinear(2, 2, key=jax.random.key(0)))),
        (
            "task",
            lambda t: rank_one_conditions(
                jf.FeedForward((3, 1), jf.LeakyReLU(), key=jax.random.key(0)), t
            ),
        ),
    ],
)
def test_wrong_input(argument, call):
    with pytest.raises(jf.InputError) as caught:
        call(_plane_task(0, 3))
    assert caught.value.argument == argument


def test_several_outputs():
    """The last layer's `u_D` has to point along `Σ_i τ_{D,i} z_i`."""
    rng = np.random.default_rng(5)
    x, z, side = (
        rng.standard_normal((6, 2)),
        rng.standard_normal(6),
        _unit(np.array([3.0, 4.0])),
    )
    task, activation = jf.Task(x, np.outer(z, side)), jf.LeakyReLU(0.3, 2)
    point = reduced_kkt(jf.Task(x, z), activation, 2)
    hidden = np.array([0.0, 1.0, 0.0])
    for last, expected in ((side, True), (_unit(np.array([1.0, 1.0])), False)):
        v = [point.directions[0], point.signs[0][0] * hidden]
        network = _with_vectors([hidden, last], v, 2, activation)
        assert (_residual(network, task) < 1e-10) == expected
        assert rank_one_conditions(network, task).hold == expected
