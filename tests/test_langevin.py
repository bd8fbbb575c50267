"""Gradient flow with noise: against the Ornstein–Uhlenbeck process and its own store."""

import tomllib

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxflow as jf

from .compilations import compilations
from .problems import self_taught

_RATES, _GOALS, _TEMPERATURE = np.array([1.0, 4.0]), np.array([1.0, -0.5]), 0.05


def _task():
    """`𝓛(w) = Σ_k λ_k (w_k - c_k)²/2`, so that each weight is a process of its own."""
    roots = np.sqrt(_RATES)
    return jf.Task(np.diag(roots), roots * _GOALS)


def _network():
    return jf.FeedForward((2, 1), jf.LeakyReLU(), key=jax.random.key(0))


def _same_starts(num):
    network = _network()
    start = jnp.broadcast_to(jnp.array([[0.6, 0.8]]), (num, 1, 2))
    return eqx.tree_at(lambda n: n.weights, network, (start,))


def _run(ensemble, **settings):
    settings = {
        "temperature": _TEMPERATURE,
        "time": 0.5,
        "step": 0.02,
        "key": jax.random.key(3),
        "progress": False,
        **settings,
    }
    return jf.langevin_flow(ensemble, _task(), **settings)


def _moments(time):
    decay = np.exp(-_RATES * time)
    mean = _GOALS + decay * (np.array([0.6, 0.8]) - _GOALS)
    return mean, _TEMPERATURE / _RATES * (1 - decay**2)


@pytest.mark.parametrize("time", [0.5, 6.0])
def test_moments_are_those_of_ornstein_and_uhlenbeck(time):
    num = 8192
    end = _run(_same_starts(num), time=time)
    weights = np.asarray(end.networks.weights[0])[:, 0]
    mean, variance = _moments(time)
    assert set(end.status) == {"Time"}
    np.testing.assert_allclose(end.rescaled_time, time, rtol=1e-12)
    assert np.all(np.abs(weights.mean(0) - mean) < 4.5 * np.sqrt(variance / num))
    spread = weights.var(0, ddof=1) / variance
    assert np.all(np.abs(spread - 1) < 4.5 * np.sqrt(2 / num)), spread
    correlation = np.corrcoef(weights.T)[0, 1]
    assert abs(correlation) < 4.5 / np.sqrt(num)


def test_unadjusted_langevin_has_its_known_bias():
    """With step η, Euler's stationary variance is `T/(λ (1 - λη/2))`."""
    num, step = 8192, 0.25
    end = _run(_same_starts(num), time=10.0, step=step, solver=diffrax.Euler())
    variance = np.asarray(end.networks.weights[0])[:, 0].var(0, ddof=1)
    expected = _TEMPERATURE / (_RATES * (1 - _RATES * step / 2))
    assert np.all(np.abs(variance / expected - 1) < 4.5 * np.sqrt(2 / num))
    assert end.stats.num_vjps.tolist() == [40] * num


def test_without_noise_it_is_gradient_flow():
    network, task = self_taught((3, 6, 1), jf.LeakyReLU(0.5, 2), 10)
    ensemble = jf.sample_ensemble(network, 3, key=jax.random.key(2))
    grid = np.array([0.5, 1.0, 2.0])
    settings = {"scale": 1.2, "record": {"loss": jf.loss}, "record_at": grid}
    flow = jf.gradient_flow(
        ensemble, task, stop=jf.Time(2.0), rtol=1e-9, coordinates="cartesian", **settings
    )
    noisy = jf.langevin_flow(
        ensemble,
        task,
        temperature=1e-16,
        time=2.0,
        step=2e-3,
        key=jax.random.key(0),
        **settings,
    )
    np.testing.assert_allclose(noisy.loss, flow.loss, rtol=1e-5)
    assert noisy.stats.num_vjps.tolist() == [2000] * 3  # two in each step
    assert noisy.records.values["loss"].shape == (3, 3)
    np.testing.assert_allclose(noisy.records.values["loss"][:, -1], flow.loss, rtol=1e-5)


def test_noise_belongs_to_the_member_and_not_to_the_schedule(tmp_path):
    ensemble = _same_starts(24)
    wide = _run(ensemble, schedule=jf.Schedule(width=24))
    narrow = _run(ensemble, schedule=jf.Schedule(width=5))
    stored = _run(ensemble, store=tmp_path / "run.zarr")
    weights = np.asarray(wide.networks.weights[0])
    np.testing.assert_allclose(narrow.networks.weights[0], weights, rtol=1e-12)
    np.testing.assert_allclose(stored.networks.weights[0], weights, rtol=1e-12)
    assert len(np.unique(weights.round(12))) == weights.size
    other = _run(ensemble, key=jax.random.key(4))
    assert not np.any(np.isclose(other.networks.weights[0], weights, rtol=1e-6))
    with pytest.raises(jf.StoreError):  # another key is another run
        _run(ensemble, key=jax.random.key(4), store=tmp_path / "run.zarr")


def test_stops_and_single_precision():
    network = _network()
    single = jax.tree_util.tree_map(lambda w: w.astype(jnp.float32), _same_starts(4))
    end = _run(single, time=30.0, stop=jf.LossBelow(0.05))
    assert set(end.status) == {"LossBelow"}
    assert end.networks.weights[0].dtype == jnp.float32
    alone = _run(eqx.tree_at(lambda n: n.weights, network, (jnp.ones((1, 2)),)))
    assert np.shape(alone.loss) == ()


@pytest.mark.parametrize(
    "argument, settings",
    [
        ("temperature", {"temperature": -1.0}),
        ("temperature", {"temperature": "hot"}),
        ("time", {"time": np.inf}),
        ("step", {"step": 1.0}),
        ("step", {"step": 0.0}),
        ("key", {"key": 3}),
        ("key", {"key": jnp.zeros(2, jnp.uint32)}),
        ("key", {"key": jax.random.key(0, impl="rbg")}),
        ("stop", {"stop": jf.NormAbove(2.0)}),
        ("solver", {"solver": diffrax.Tsit5()}),
        ("solver", {"solver": diffrax.QUICSORT(0.1)}),
        ("record_at", {"record": {"loss": jf.loss}, "record_at": [1.0, 0.5]}),
    ],
)
def test_wrong_input(argument, settings, as_users_have_it):
    with pytest.raises(jf.InputError) as caught:
        _run(_same_starts(2), **settings)
    assert caught.value.argument == argument


def _variance(stages, time):
    """Of a process that began at one point: `dv/dt = 2 T(t) - 2 λ v`, stage by stage."""
    variance = np.zeros(2)
    ends = [*(begin for begin, _ in stages[1:]), np.inf]
    for (begin, temperature), end in zip(stages, ends):
        decay = np.exp(-2 * _RATES * max(min(end, time) - begin, 0.0))
        variance = decay * variance + temperature / _RATES * (1 - decay)
    return variance


def test_variances_under_stages_are_known():
    """To the last digit of a sample, since the steps end where the stages do."""
    num, grid = 8192, [0.4, 0.6, 1.0, 1.5]
    stages = [(0.0, 0.05), (0.4, 0.2), (1.0, 0.0)]
    end = _run(
        _same_starts(num),
        temperature=stages,
        time=1.5,
        record={"weights": jf.weights},
        record_at=grid,
    )
    weights = np.asarray(end.records.values["weights"].weights[0])[:, :, 0]
    expected = np.stack([_variance(stages, time) for time in grid])
    spread = weights.var(0, ddof=1) / expected
    assert np.all(np.abs(spread - 1) < 4.5 * np.sqrt(2 / num)), spread


def test_variance_under_a_function_of_time_is_known():
    """`T e^(-t)`: `v = 2 T (e^(-t) - e^(-2 λ t)) / (2 λ - 1)`."""
    num, time = 8192, 1.0
    schedule = lambda rate: optax.exponential_decay(0.1, 1.0, rate)
    end = _run(_same_starts(num), temperature=schedule(np.exp(-1.0)), time=time)
    variance = np.asarray(end.networks.weights[0])[:, 0].var(0, ddof=1)
    expected = 0.2 * (np.exp(-time) - np.exp(-2 * _RATES * time)) / (2 * _RATES - 1)
    spread = variance / expected
    assert np.all(np.abs(spread - 1) < 4.5 * np.sqrt(2 / num)), spread
    with compilations() as programs:
        again = _run(_same_starts(num), temperature=schedule(np.exp(-1.0)), time=time)
    assert "jit(advance)" not in programs
    np.testing.assert_array_equal(again.networks.weights[0], end.networks.weights[0])


def test_other_stages_are_another_run_of_the_same_program(tmp_path):
    ensemble, path = _same_starts(8), tmp_path / "run.zarr"
    first = _run(ensemble, temperature=[(0.0, 0.1), (0.2, 0.05)], store=path)
    assert first.settings["temperature"] == "0.1 from 0, 0.05 from 0.2"
    with compilations() as programs:
        other = _run(ensemble, temperature=[(0.0, 0.1), (0.3, 0.05)])
    assert "jit(advance)" not in programs
    assert not np.any(first.networks.weights[0] == other.networks.weights[0])
    with pytest.raises(jf.StoreError):
        _run(ensemble, temperature=[(0.0, 0.1), (0.3, 0.05)], store=path)
    whole = _run(ensemble, temperature=[(0.0, 0.1), (0.6, 0.05)], time=1.0)
    half = _run(ensemble, temperature=[(0.0, 0.1), (0.6, 0.05)], time=0.5)
    on = jf.langevin_flow(half, time=1.0, progress=False)
    np.testing.assert_array_equal(on.networks.weights[0], whole.networks.weights[0])
    loaded = jf.load(path)
    np.testing.assert_array_equal(loaded.networks.weights[0], first.networks.weights[0])
    on = _run(ensemble, temperature=[(0.0, 0.1), (0.2, 0.05)], time=0.6, store=path)
    assert on.stats.num_steps.tolist() == [30] * 8


@pytest.mark.parametrize(
    ("told", "given"),
    [
        ([[0, 0.1], [0.3, 0.05]], [(0, 0.1), (0.3, 0.05)]),
        (
            {"kind": "linear_schedule", "init_value": 0.1, "end_value": 0}
            | {"transition_steps": 1},
            optax.linear_schedule(0.1, 0.0, 1),
        ),
    ],
    ids=["stages", "schedule"],
)
def test_schedules_of_studies(told, given):
    study = jf.Study(
        {
            "network": {"kind": "DiagonalLinear", "depth": 1, "in_size": 1},
            "data": {"kind": "values", "inputs": [[1.0]], "targets": [0.5]},
            "initialization": {"num": 3},
            "equation": {"kind": "langevin", "temperature": told, "time": 1.0, "step": 0.1},
        }
    )
    again = jf.Study(tomllib.loads(study.to_toml()))
    found = again.run(progress=False).dataset.final_loss
    network = jf.DiagonalLinear(1, 1, key=jax.random.key(0))
    expected = jf.langevin_flow(
        jf.Initializations(network, 3, key=jax.random.key(0)),
        jf.Task(np.array([[1.0]]), np.array([0.5])),
        temperature=given,
        time=1.0,
        step=0.1,
        key=jax.random.key(0),
        progress=False,
    )
    np.testing.assert_allclose(found, expected.loss, rtol=1e-12)
