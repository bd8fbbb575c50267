"""The benchmarks' smallest settings: their answers, not their times."""

import diffrax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import plateau, work_precision
from benchmarks.problems import PROBLEMS


def test_errors_fall_with_the_tolerance_and_euler_is_of_first_order():
    case = work_precision.prepare(PROBLEMS["softplus-33"](), 2)
    tight = work_precision.adaptive(case, diffrax.Tsit5(), (1e-3, 1e-7))
    errors = [point.error for point in tight]
    assert errors[0] < 1e-2 and errors[1] < 1e-2 * errors[0]
    assert tight[1].evaluations > tight[0].evaluations > 0
    *_, coarse, fine = work_precision.euler(case, 4096)
    assert coarse.evaluations < fine.evaluations <= 4096
    assert 3.5 < coarse.error / fine.error < 4.5
    needed = work_precision.needed_by_euler([coarse, fine])
    assert needed is not None and needed.factor > 1
    assert needed.evaluations == pytest.approx(1e6 * fine.error * fine.evaluations)


@pytest.mark.parametrize("name", PROBLEMS)
def test_problems_start_and_pull_as_they_say(name):
    problem = PROBLEMS[name]()
    starts = problem.starts(3)
    origins = problem.origins(starts)
    assert origins.shape == (3, problem.num_parameters)
    if problem.order is not None:
        np.testing.assert_allclose(np.linalg.norm(origins, axis=1), 1, rtol=1e-12)
    # The field is minus the gradient of the loss, in the units of `u` and `s`.
    at, field = origins[0], np.asarray(problem.field()(jnp.asarray(origins[0])))
    way, h = field / np.linalg.norm(field), 1e-5
    ahead, behind = problem.losses(np.stack([at + h * way, at - h * way]))
    slope = (ahead - behind) / (2 * h)
    unit = 1.0 if problem.order is None else problem.scale**problem.order
    assert slope == pytest.approx(-unit * np.linalg.norm(field), rel=1e-4)


def test_a_run_that_is_accurate_by_chance_does_not_count():
    runs = [
        plateau.Run(np.array([10, 10]), np.zeros(2), "loose"),
        plateau.Run(np.array([20, 20]), np.zeros(2), "middle"),
        plateau.Run(np.array([30, 30]), np.zeros(2), "tight"),
    ]
    errors = np.array([[1e-5, 1.0], [1e-2, 1e-4], [1e-4, np.nan]])
    assert plateau.cheapest(runs, errors) is None
    errors[2, 1] = 1e-4
    found = plateau.cheapest(runs, errors)
    assert found is not None
    assert found.evaluations.tolist() == [30, 20]
    assert found.settings == "middle, tight"


def test_solvers_agree_on_the_end_of_a_plateau():
    case = plateau.linear_case(1)
    auto, tight = plateau.flows(case, 1e-2, "auto", (1e-5, 1e-8))
    (plain,) = plateau.flows(case, 1e-2, diffrax.Tsit5(), (1e-8,))
    (descent,) = plateau.euler(case, 1e-2, (0.25,))
    np.testing.assert_allclose(tight.times, plain.times, rtol=2e-4)
    np.testing.assert_allclose(auto.times, plain.times, rtol=2e-3)
    np.testing.assert_allclose(descent.times, plain.times, rtol=2e-3)
    assert auto.evaluations[0] < plain.evaluations[0] < descent.evaluations[0]
