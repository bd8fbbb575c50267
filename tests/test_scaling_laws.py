"""The sharpest tests of the whole engine: what theory says of the dependence on δ."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxflow as jf

from . import closed_form
from .problems import teacher_task, weights_at


@pytest.mark.parametrize("loss", ["square", "logistic"])
@pytest.mark.parametrize(
    "power, slope, order, scales, coordinates",
    [
        (1, 1.0, 3, [0.1, 0.05, 0.02, 0.01], "polar"),
        (2, 0.5, 7, [0.8, 0.7, 0.6, 0.5, 0.4], "polar"),
        (2, 0.5, 7, [0.8, 0.7, 0.6, 0.5, 0.4], "cartesian"),
    ],
)
def test_distance_to_the_limit_is_of_order_delta_to_the_l(
    power, slope, order, scales, coordinates, loss
):
    network, task = teacher_task(power=power, slope=slope, loss=loss)
    ensemble = jf.sample_ensemble(network, 4, key=jax.random.key(2))
    tight = {"solver": diffrax.Dopri8(), "rtol": 1e-12, "atol": 1e-14}
    end = 0.8 * jf.ncf_flow(ensemble, task, **tight).blow_up_time
    stop = jf.RescaledTime(end)
    limit = weights_at(jf.ncf_flow(ensemble, task, stop=stop, **tight))
    distances = [
        np.linalg.norm(
            weights_at(
                jf.gradient_flow(
                    ensemble, task, scale=scale, stop=stop, coordinates=coordinates, **tight
                )
            )
            - limit,
            axis=1,
        )
        for scale in scales
    ]
    # Smaller distances would be rounding of weights of order one.
    assert np.min(distances) > 1e-10
    slopes = np.polyfit(np.log(scales), np.log(distances), 1)[0]
    np.testing.assert_allclose(slopes, order, atol=0.05)


@pytest.mark.parametrize(
    "dtype, rtol, smallest, most_vjps, most_times",
    [(jnp.float64, 1e-6, 1e-30, 850, 3), (jnp.float32, 1e-5, 1e-30, 600, 3.3)],
)
def test_any_scale_at_nearly_the_same_cost(dtype, rtol, smallest, most_vjps, most_times):
    network, task = teacher_task(sizes=(5, 10, 10, 1), dtype=dtype)
    ensemble = jf.sample_ensemble(network, 16, key=jax.random.key(2))
    runs = {
        scale: jf.gradient_flow(
            ensemble,
            task,
            scale=scale,
            stop=jf.LossBelow(0.49),
            rtol=rtol,
            atol=1e-9 if dtype == jnp.float64 else 1e-7,
            max_steps=2000,
        )
        for scale in (0.1, smallest)
    }
    large, small = runs[0.1], runs[smallest]
    assert small.log_norm.dtype == dtype
    escaped = small.status == "LossBelow"
    assert escaped.sum() >= 12
    np.testing.assert_array_equal(escaped, large.status == "LossBelow")
    # While the norm grows by e^68 with the direction at rest, an explicit solver steps at
    # its stability limit: a number of steps of the order of log(1/δ).
    assert small.stats.num_vjps[escaped].mean() <= most_vjps
    ratio = small.stats.num_vjps[escaped].sum() / large.stats.num_vjps[escaped].sum()
    assert ratio <= most_times
    np.testing.assert_allclose(
        small.rescaled_time[escaped], large.rescaled_time[escaped], rtol=1e-3
    )
    # Physical time δ^(2-L) s, which float32 cannot hold.
    np.testing.assert_allclose(
        small.log_time[escaped],
        np.log(small.rescaled_time[escaped]) - 5 * np.log(smallest),
        rtol=1e-5,
    )


def test_limit_is_what_tiny_scales_do():
    network, task = teacher_task()
    ensemble = jf.sample_ensemble(network, 8, key=jax.random.key(3))
    limit = jf.ncf_flow(ensemble, task)
    assert set(limit.status) == {"Stationary"}
    flow = jf.gradient_flow(ensemble, task, scale=1e-20, stop=jf.NormAbove(1e-8))
    cosines = jax.vmap(jf.cosine)(flow.directions, limit.directions)
    assert np.median(cosines) > 1 - 1e-6
    np.testing.assert_allclose(flow.rescaled_time, limit.blow_up_time, rtol=1e-4)
    np.testing.assert_allclose(flow.log_norm, np.log(1e-8), rtol=1e-12)


@pytest.mark.parametrize(
    "depth, power, dtype", [(4, 2, jnp.float32), (4, 2, jnp.float64), (4, 3, jnp.float64)]
)
def test_slow_starts_of_deep_networks(depth, power, dtype):
    """Orders 15 and 40: tiny gradients at the start, a clock that must not round."""
    sizes = (5,) + (6,) * (depth - 1) + (1,)
    network, task = teacher_task(sizes=sizes, power=power, dtype=dtype)
    ensemble = jf.sample_ensemble(network, 6, key=jax.random.key(2))
    limit = jf.ncf_flow(ensemble, task, max_steps=3000)
    assert set(limit.status) == {"Stationary"}
    assert np.all(limit.log_norm > 1) and np.all(np.isfinite(limit.blow_up_time))
    order = closed_form.order_of(depth, power)
    expected = [power ** (depth - layer) / order for layer in range(1, depth + 1)]
    norms = jax.vmap(jf.layer_norms)(limit.directions) ** 2
    accuracy = 1e-3 if dtype == jnp.float32 else 1e-6
    np.testing.assert_allclose(norms, [expected] * 6, atol=accuracy)


@pytest.mark.parametrize("factor", [1e-8, 1e8])
def test_the_unit_of_time_costs_nothing(factor):
    """Targets `c y` make the same path of the limit flow, `c` times as fast."""
    network, task = teacher_task()
    ensemble = jf.sample_ensemble(network, 8, key=jax.random.key(3))
    scaled = jf.Task(task.inputs, factor * task.targets)
    one, other = (jf.ncf_flow(ensemble, t) for t in (task, scaled))
    np.testing.assert_allclose(other.blow_up_time * factor, one.blow_up_time, rtol=1e-4)
    cosines = jax.vmap(jf.cosine)(one.directions, other.directions)
    np.testing.assert_allclose(cosines, 1, atol=1e-10)
    steps = [solution.stats.num_steps.sum() for solution in (one, other)]
    np.testing.assert_allclose(*steps, rtol=0.15)  # the first step is another
