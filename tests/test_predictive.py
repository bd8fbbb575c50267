"""The predictive step-size controller: its law, its answers, and what it spares."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import jaxflow as jf
from jaxflow.networks import members
from jaxflow.solvers import PredictiveController

from .problems import self_taught

ORDER = 5  # of the error in the steps below


def _controller(rtol=1e-6, atol=1e-9):
    return PredictiveController(rtol, atol, optx.rms_norm)


def _adapt(errors, step=1.0):
    """Steps tried after errors (in units of the tolerance) of one component."""
    controller = PredictiveController(0.0, 1.0, optx.rms_norm)
    start, state = (
        0.0,
        controller.init(None, 0.0, jnp.inf, jnp.zeros(1), step, None, None, ORDER)[1],
    )
    start, end = jnp.asarray(0.0), jnp.asarray(step)
    steps = [step]
    for error in errors:
        y = jnp.zeros(1)
        kept, start, end, _, state, _ = controller.adapt_step_size(
            start, end, y, y, None, jnp.full(1, float(error)), ORDER, state
        )
        assert bool(kept) == (error < 1)
        steps.append(float(end - start))
    return np.array(steps)


def _standard(error):
    return 0.9 * error ** (-1 / ORDER)


def test_first_step_and_rejection_follow_the_standard_law():
    np.testing.assert_allclose(_adapt([0.1]), [1, _standard(0.1)])
    np.testing.assert_allclose(_adapt([40.0]), [1, _standard(40.0)])
    np.testing.assert_allclose(_adapt([1e-20, np.inf])[1:], [10, 2])  # limits of the factor


def test_later_steps_follow_the_predictive_law():
    first, second = 0.2, 0.5
    one = _standard(first)
    change, rate = one / 1.0, (first / second) ** (0.7 / ORDER)
    two = one * change * _standard(second) ** 0.4 * rate
    np.testing.assert_allclose(_adapt([first, second]), [1, one, two])


def test_steps_shrink_without_being_rejected():
    steps = _adapt([0.5, 0.9, 0.9])
    assert steps[2] < steps[1] and steps[3] < steps[2]


def test_two_rejections_in_a_row_end_the_prediction():
    steps = _adapt([0.2, 0.5, 50.0, 30.0, 0.3])
    np.testing.assert_allclose(steps[5], steps[4] * _standard(0.3))
    once = _adapt([0.2, 0.5, 50.0, 0.3])
    assert once[4] < once[3] * _standard(0.3)


def _blow_up(controller, last=1 - 1e-6, dtype=jnp.float64):
    """`y' = y²`, `y(0) = 1`: `y = 1/(1 - t)`."""
    return diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: y**2),
        diffrax.Tsit5(),
        jnp.zeros((), dtype),
        jnp.asarray(last, dtype),
        None,
        jnp.ones(1, dtype),
        stepsize_controller=controller,
        max_steps=4000,
    )


def test_a_blow_up_is_approached_with_few_rejections():
    ours = _blow_up(_controller())
    pid = _blow_up(diffrax.PIDController(rtol=1e-6, atol=1e-9))
    share = lambda s: float(s.stats["num_rejected_steps"] / s.stats["num_steps"])
    assert share(pid) > 0.4 and share(ours) < 0.1
    assert int(ours.stats["num_steps"]) < 0.7 * int(pid.stats["num_steps"])
    # 1/y = 1 - t: what it is wrong by is the error of the blow-up time.
    for solution in (ours, pid):
        np.testing.assert_allclose(1 / solution.ys[-1, 0], 1e-6, atol=4e-6)


@pytest.mark.parametrize("rtol", [1e-4, 1e-6, 1e-8])
def test_answers_are_as_accurate_as_asked(rtol):
    # A circle, y(2π) = y(0), and a blow-up until y = 100.
    circle = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: jnp.stack([y[1], -y[0]])),
        diffrax.Dopri5(),
        0.0,
        2 * jnp.pi,
        None,
        jnp.array([1.0, 0.0]),
        stepsize_controller=_controller(rtol, rtol),
    )
    assert circle.ys is not None
    np.testing.assert_allclose(circle.ys[-1], [1, 0], atol=30 * rtol)
    blow_up = _blow_up(_controller(rtol, rtol * 1e-3), last=0.99)
    np.testing.assert_allclose(blow_up.ys[-1, 0], 100, rtol=3000 * rtol)


def test_single_precision():
    solution = _blow_up(_controller(1e-4, 1e-6), last=0.9, dtype=jnp.float32)
    assert solution.ys.dtype == jnp.float32
    np.testing.assert_allclose(solution.ys[-1, 0], 10, rtol=1e-2)


def test_a_step_out_of_the_domain_is_rejected():
    # The square root's derivative is no number below zero.
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: -jnp.sqrt(y)),
        diffrax.Tsit5(),
        0.0,
        1.9,
        1.95,  # the first step's stages leave the domain
        jnp.ones(1),
        stepsize_controller=_controller(),
    )
    np.testing.assert_allclose(solution.ys[-1, 0], 0.05**2, rtol=1e-3)


@pytest.mark.parametrize(
    "end, error", [(np.inf, np.inf), (np.inf, 0.0), (np.nan, np.nan), (1.0, np.nan)]
)
def test_a_step_without_an_end_is_tried_again_with_the_shortest_step(end, error):
    controller = _controller()
    time = jnp.asarray(0.0), jnp.asarray(2.0)
    _, known = controller.init(None, *time, jnp.zeros(1), 1.0, None, None, ORDER)
    kept, start, following, *_ = controller.adapt_step_size(
        *time,
        jnp.ones(2),
        jnp.array([end, 1.0]),
        None,
        jnp.array([error, 1.0]),
        ORDER,
        known,
    )
    assert not kept
    assert float(start) == 0.0 and float(following) == pytest.approx(0.4)


def test_a_blow_up_that_a_step_runs_into_is_not_the_end_of_a_member():
    """Order seven: a step too long past the escape ends at infinite times."""
    network, task = self_taught((10, 20, 20, 1), jf.LeakyReLU(0.5, 2), 50)
    found = jf.gradient_flow(
        members(jf.sample_ensemble(network, 16, key=jax.random.key(2)), np.array([14])),
        task,
        scale=1e-3,
        stop=jf.NormAbove(2e-3),
        solver=diffrax.Tsit5(),
        rtol=1e-3,
        atol=1e-5,
        progress=False,
    )
    assert found.status.tolist() == ["NormAbove"]


def test_needs_an_error_estimate():
    with pytest.raises(ValueError, match="estimates errors"):
        diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: y),
            diffrax.Euler(),
            0.0,
            1.0,
            0.1,
            jnp.ones(1),
            stepsize_controller=_controller(),
        )
