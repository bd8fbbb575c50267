"""The benchmarks' smallest settings: their answers, not their times."""

import json
import types

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import (
    descent,
    early_phase,
    engine,
    escape,
    peers,
    plateau,
    reporting,
    scaling,
    short,
    tables,
    work_precision,
)
from benchmarks.problems import PROBLEMS
from jaxflow.cli import app


def test_errors_fall_with_the_tolerance_and_euler_is_of_first_order():
    group = work_precision.prepare(PROBLEMS["two-layer"](), 2)
    tight = work_precision.adaptive(group, diffrax.Tsit5(), (1e-3, 1e-7))
    errors = [point.error for point in tight]
    assert errors[0] < 1e-2 and errors[1] < 1e-2 * errors[0]
    assert tight[1].evaluations > tight[0].evaluations > 0
    *_, coarse, fine = work_precision.euler(group, 4096)
    assert coarse.evaluations < fine.evaluations <= 4096
    assert 3.5 < coarse.error / fine.error < 4.5
    needed = work_precision.needed_by_euler([coarse, fine], 1e-6)
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
    expected = -problem.unit_of_outputs * np.linalg.norm(field)
    assert slope == pytest.approx(expected, rel=1e-4)


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


def test_gradient_descent_leaves_the_flow_in_proportion_to_the_step():
    figures = descent.distance(descent.SHORT).figures
    first, second = (np.array(run["distance"]) for run in figures["runs"])
    ratio = figures["runs"][1]["η"] / figures["runs"][0]["η"]
    np.testing.assert_allclose(second / first, ratio, rtol=0.2)
    assert 1e-4 < first.max() < 0.3
    for run in figures["runs"]:
        assert run["diverged"] == 0
        share = run["η"] / figures["2/λ"]
        assert max(run["λ η/2"]) == pytest.approx(share, rel=0.05)


def test_directions_of_gradient_descent_are_those_of_the_flow_and_not_of_adam():
    (found,) = descent.direction(descent.SHORT).figures.values()
    flow = np.array(found["gradient flow"])
    assert flow.max() < 0.02
    np.testing.assert_allclose(found["gradient descent"], flow, rtol=0.1)
    assert min(found["Adam"]) > 0.1 and min(found["sign descent"]) > 0.1


def test_gradient_descent_needs_the_steps_that_the_time_of_the_flow_takes():
    found = early_phase.compare(3, early_phase.SHORT).figures["δ = 0.001"]
    steps, evaluations = found["gradient descent"], found["evaluations"]
    assert found["gradient descent is"] == "measured"
    assert np.all(np.array(steps) > 10 * np.array(evaluations))
    assert np.all(np.array(found["following the flow"]) > np.array(steps))


def test_tables_in_the_readme_are_those_of_the_results():
    text = tables.README.read_text()
    assert tables.fill(text) == text
    for name in ("early_phase", "work_precision", "peers", "scaling"):
        assert f"<!-- results of {name} -->\n\n**" in text


def test_packages_end_where_members_really_end():
    figures = peers.compare("linear", peers.SHORT).figures
    errors = figures["largest error"]
    assert {"jaxflow Tsit5, rtol 1e-06", "vmap(diffeqsolve)", "SciPy RK45"} <= set(errors)
    for name, error in errors.items():
        assert error < (1e-2 if "steps" in name or "1%" in name else 1e-3), name
    assert set(figures["time over jaxflow's"]) == set(errors)  # nobody is left out


@pytest.mark.parametrize("name", PROBLEMS)
def test_networks_in_pytorch_are_the_same(name):
    torch = pytest.importorskip("torch")
    from benchmarks import torch_networks

    problem = PROBLEMS[name]()
    network, task = problem.network, problem.task
    origins = problem.origins(problem.starts(3))
    unit = problem.unit_of_outputs
    field = torch_networks.velocity(network, task, unit)
    expected = jax.vmap(problem.field())(jnp.asarray(origins))
    np.testing.assert_allclose(field(torch.from_numpy(origins)), expected, rtol=1e-9)
    parts = torch_networks.torch_parts(network, torch.from_numpy(origins[0]))
    found = torch_networks.loss(task)(unit * torch_networks.outputs(network, task)(parts))
    assert float(found) == pytest.approx(problem.losses(origins[:1])[0], rel=1e-9)


def test_members_leave_the_origin_in_other_packages_as_in_jaxflow():
    figures = escape.escape(escape.SHORT).figures
    assert figures["scipy RK45"]["largest differences"]["time of the crossing"] < 1e-3


def test_the_engine_runs_as_many_vjps_as_it_says():
    found = engine.overhead(engine.SHORT).figures["float64"]
    assert found["vjps"] > 16 * 100
    assert found["bare loop"]["threads: 1"]["run / (vjps x s for a vjp)"] > 0
    engine.stragglers(engine.SHORT)  # checks its own answers


def test_shares_of_the_peak_are_of_the_same_operations():
    (found,) = scaling.width(scaling.SHORT).figures.values()
    assert 0 < found["share of peak"] and 0 < found["share of bare products"]
    assert found["flop for a vjp"] == 2 * 50 * (3 * (80 + 64 + 8) - 80)


def test_a_file_of_figures_keeps_other_parts_and_has_a_picture(tmp_path):
    output = tmp_path / "scaling.json"
    part = lambda size: reporting.Report("", ("",), [], _shares(size), "")
    parts = {
        "width": lambda settings: part("width 8"),
        "depth": lambda settings: part("D = 2"),
    }
    for chosen in parts:
        reporting.run_parts("scaling", parts, [chosen], scaling.SHORT, output)
    written = json.loads(output.read_text())
    assert set(written) == {"width", "depth"}
    assert written["depth"]["figures"]["D = 2"]["share of peak"] is None
    assert output.with_suffix(".png").stat().st_size > 1000


def _shares(name):
    return {name: {"share of bare products": np.float64(0.5), "share of peak": np.nan}}


def test_bench_shows_one_table_and_names_what_failed(monkeypatch):
    def fails(settings):
        raise ValueError("no such thing")

    works = lambda settings: reporting.Report("", ("",), [], {}, "so and so")
    module = types.SimpleNamespace(PARTS={"one": works, "two": fails}, SHORT=None)
    monkeypatch.setattr(short, "BENCHMARKS", {"some": module})
    found = CliRunner().invoke(app, ["bench", "some"])
    assert found.exit_code == 1
    assert "so and so" in found.output and "ValueError: no such thing" in found.output
    found = CliRunner().invoke(app, ["bench", "other"])
    assert found.exit_code == 1 and "there are some" in found.output
