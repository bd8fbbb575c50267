"""The calls that the project promises, run as they are written."""

import inspect

import jax
import numpy as np
import xarray

import jaxflow as jf

CALLS = """
import jax, optax, diffrax
import jaxflow as jf

act  = jf.LeakyReLU(slope=0.5, power=2)
net  = jf.FeedForward((10, 20, 20, 1), act, key=key)
jf.order(net)
ens  = jf.sample_ensemble(net, 1024, key=key)
task = jf.Task(x, y, loss="square")
sol  = jf.gradient_flow(ens, task, scale=1e-3,
           stop=[jf.LossBelow(1e-3), jf.RescaledTime(50.0)],
           solver=diffrax.Tsit5(), rtol=1e-6, atol=1e-9, max_steps=10_000,
           coordinates="auto",
           record={"norm": jf.norm}, record_at=grid)
sol.networks, sol.directions
sol.log_norm, sol.rescaled_time, sol.log_time
sol.loss, sol.status, sol.stats
sol[3], sol[10:20], jf.concat([sol[:9], sol[9:]])
sol.dataset
jf.ncf(net, task)
lim  = jf.ncf_flow(ens, task, stop=[jf.Stationary(1e-8)])
kkt  = jf.find_kkt(ens, task, tol=1e-10)
gd   = jf.gradient_descent(ens, task, scale=1e-3, optimizer=optax.sgd(1e-2), num_steps=1000)
sim  = jf.Simulation(jf.GradientFlow(), ens, task, scale=1e-3, stop=[jf.LossBelow(1e-3)])
sol2 = jf.run(sim, store="run.zarr")
"""
"""The block of the design, with fewer members where it says 1024."""


def test_the_calls_run_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    key = jax.random.key(0)
    x = np.asarray(jf.data.sphere_points(12, 10, key=key))
    sigma = lambda z: np.maximum(z, z / 2) ** 2
    y = sigma(sigma(x[:, 0]))  # a chain of one neuron each, which can be learned
    names = {"key": key, "x": x, "y": y / np.linalg.norm(y), "grid": [0.0, 1.0, 10.0]}
    exec(CALLS.replace("1024", "24").replace("num_steps=1000", "num_steps=100"), names)
    sol, lim, kkt, gd, sol2 = (names[n] for n in ("sol", "lim", "kkt", "gd", "sol2"))

    assert names["jf"].order(names["net"]) == 7
    assert sol.networks.weights[0].shape == (24, 20, 10)
    norms = [np.asarray(w).reshape(24, -1) for w in sol.directions.weights]
    np.testing.assert_allclose(np.linalg.norm(np.concatenate(norms, 1), axis=1), 1.0)
    for column in ("log_norm", "rescaled_time", "log_time", "loss", "status"):
        assert getattr(sol, column).shape == (24,)
    assert isinstance(sol.dataset, xarray.Dataset)
    assert sol.dataset["norm"].dims == ("init", "rescaled_time")
    assert sol[3].loss == sol.loss[3] and len(sol[10:20]) == 10
    assert lim.blow_up_time.shape == (24,)
    for column in ("networks", "value", "multiplier", "residual", "index", "basin"):
        assert hasattr(kkt, column)
    assert kkt.rank_one.all() and (kkt.residual <= 1e-10).all()
    assert set(gd.status) == {"NumSteps"}
    assert set(sol2.status) == {"LossBelow"} and (tmp_path / "run.zarr").is_dir()


def test_gradient_flow_asks_for_little():
    """The contract's keywords and at most five more."""
    contract = """
        networks task scale stop solver rtol atol max_steps coordinates record record_at
    """.split()
    own = list(inspect.signature(jf.gradient_flow).parameters)
    assert set(contract) <= set(own)
    assert len(own) - len(contract) <= 5
