"""The public surface: its names, its settings, and which way imports run."""

import importlib.metadata
import inspect
import subprocess
import sys

import jax
import pytest

import jaxflow as jf

CONTRACT = """
    LeakyReLU FeedForward order NotHomogeneousError sample_ensemble Task AbstractLoss
    gradient_flow LossBelow RescaledTime norm ncf ncf_flow Stationary gradient_descent
    find_kkt KKTPoints verify_early_convergence slice_ensemble
    ConvNet DiagonalLinear Time LogTime NormAbove load Solution MarginConverged margin
    normalized_margin smoothed_normalized_margin margin_kkt_residual AbstractMarginLoss
    saddle_to_saddle SaddleToSaddle EarlyConvergence concat
    limiting_path LimitingPath starts_near_saddle
    Simulation run Stepping Record AbstractEquation GradientFlow CorrelationLimit
    GradientDescent Langevin AbstractStop AbstractLevel AbstractCrossing AbstractCondition
    AbstractTask AbstractDistribution plot __version__
""".split()


PICTURES = """
    angles early_convergence early_phase final_losses four_panels kkt_points layers
    limiting_path neurons neurons_animation neurons_over_time recorded saddle_to_saddle
    spectra stable_sets sweep weights work_precision
""".split()


def test_names_of_the_contract():
    missing = [name for name in CONTRACT if not hasattr(jf, name)]
    assert missing == []


def test_pictures_and_version_are_there_when_asked_for():
    own = lambda value: getattr(value, "__module__", "").startswith("jaxflow.plot")
    found = {name for name, value in vars(jf.plot).items() if own(value)}
    assert found == set(PICTURES)
    assert jf.__version__ == importlib.metadata.version("jaxflow")
    with pytest.raises(AttributeError, match="nothing"):
        _ = jf.nothing


@pytest.mark.parametrize(
    "name",
    "gradient_flow ncf_flow gradient_descent langevin_flow run find_kkt load "
    "saddle_to_saddle verify_early_convergence loss margin kkt_residual norm order "
    "sample_ensemble slice_ensemble".split(),
)
def test_signatures_are_as_they_were_written(name):
    """No unions that unfold, and no modules that are nobody's business."""
    shown = str(inspect.signature(getattr(jf, name)))
    assert "jaxlib" not in shown and "Union[" not in shown and "._" not in shown


def test_import_changes_no_setting_and_float32_works_without_x64():
    script = """
import sys
import jax, jaxflow as jf
assert not jax.config.jax_enable_x64
assert not {"matplotlib", "scipy"} & set(sys.modules)
network = jf.FeedForward((3, 4, 1), jf.LeakyReLU(0.5, 2), key=jax.random.key(0))
x = jf.data.sphere_points(5, 3, key=jax.random.key(1))
task = jf.data.teacher_student(network, x, target_norm=1.0)
starts = jf.sample_ensemble(network, 3, key=jax.random.key(2))
limit = jf.ncf_flow(starts, task)
flow = jf.gradient_flow(starts, task, scale=1e-30, stop=jf.NormAbove(1e-20))
assert flow.log_norm.dtype == "float32" and set(flow.status) == {"NormAbove"}
assert flow.stats.num_vjps.max() < 2000
print(limit.status, flow)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_members_do_not_depend_on_their_batch():
    """The same numbers in any batch, up to rounding."""
    network = jf.FeedForward((3, 4, 1), jf.LeakyReLU(0.5, 2), key=jax.random.key(0))
    x = jf.data.sphere_points(5, 3, key=jax.random.key(1))
    task = jf.data.teacher_student(network, x, target_norm=1.0)
    starts = jf.sample_ensemble(network, 5, key=jax.random.key(2))
    runs = [
        jf.gradient_flow(
            starts, task, stop=jf.RescaledTime(3.0), schedule=jf.Schedule(width=width)
        )
        for width in (1, 2, 5)
    ]
    for run in runs[1:]:
        assert abs(run.log_norm - runs[0].log_norm).max() < 1e-12
        assert (run.stats.num_steps == runs[0].stats.num_steps).all()
