"""Nothing is compiled again when only numbers change."""

import jax
import numpy as np
import optax

import jaxflow as jf

from .compilations import compilations
from .problems import teacher_task


def _data(seed):
    network, task = teacher_task(seed=seed)
    return jf.sample_ensemble(network, 4, key=jax.random.key(seed)), task


def test_flows_do_not_compile_again():
    def flow(seed, scale, rtol, end, max_steps):
        ensemble, task = inputs[seed]
        jf.gradient_flow(
            ensemble,
            task,
            scale=scale,
            stop=[jf.RescaledTime(end), jf.LossBelow(1e-3 * end)],
            rtol=rtol,
            atol=rtol / 100,
            max_steps=max_steps,
            record={"norm": jf.norm},
            record_at=np.linspace(0, end, 4),
        )
        jf.ncf_flow(ensemble, task, stop=jf.RescaledTime(end), rtol=rtol)

    inputs = {seed: _data(seed) for seed in (0, 1)}
    flow(0, 1e-2, 1e-6, 1.0, 1000)
    with compilations() as compiled:
        flow(1, 1e-20, 1e-7, 2.0, 900)
        flow(0, np.array([0.1, 0.2, 0.3, 0.4]), 1e-5, 0.5, 800)
    assert compiled == []


def test_descent_does_not_compile_again():
    inputs = {seed: _data(seed) for seed in (0, 1)}
    optimizer = optax.sgd(0.1)

    def descend(seed, scale, num_steps):
        jf.gradient_descent(
            *inputs[seed], scale=scale, optimizer=optimizer, num_steps=num_steps
        )

    descend(0, 1.0, 10)
    with compilations() as compiled:
        descend(1, 0.5, 20)
    assert compiled == []
