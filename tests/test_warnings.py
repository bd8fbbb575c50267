"""What a caller is told: one warning for a call, at the caller's own line."""

import inspect
import warnings

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxflow as jf

NETWORK = jf.DiagonalLinear(2, 2, key=jax.random.key(0))
STARTS = jf.sample_ensemble(NETWORK, 6, key=jax.random.key(1))
TASK = jf.Task(jnp.eye(2), jnp.array([2.0, 1.0]))


def told(call):
    """What a call warned of, and what it gave."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = call()
    own = [each for each in caught if issubclass(each.category, jf.RunWarning)]
    return own, found


def the_only(call):
    (warning,), found = told(call)
    assert warning.filename == __file__
    return str(warning.message), found


def first_line_of(function):
    return inspect.getsourcelines(function)[1]


def flow(**options):
    return jf.gradient_flow(STARTS, TASK, progress=False, **options)


def descent(rate, num_steps, **options):
    optimizer = optax.sgd(rate)
    options = {"optimizer": optimizer, "num_steps": num_steps, **options}
    return jf.gradient_descent(STARTS, TASK, progress=False, **options)


def test_members_that_end_as_asked_are_no_reason_to_warn():
    for call in (
        lambda: flow(stop=jf.Time(0.1)),
        lambda: jf.ncf_flow(STARTS, TASK, progress=False),
        lambda: descent(1e-2, 5),
    ):
        assert told(call)[0] == []


def test_members_that_give_up_are_counted_with_where_they_are():
    norms = np.array([1e-9, 1e-9, 1e9, 1e9, 1e9, 1e-9])
    text, found = the_only(
        lambda: jf.gradient_flow(
            STARTS,
            TASK,
            stop=jf.NormAbove(norms),
            solver=diffrax.Tsit5(),
            max_steps=7,
            progress=False,
        )
    )
    assert found.failed.tolist() == [False, False, True, True, True, False]
    assert found.status[found.failed].tolist() == ["max_steps"] * 3
    text = " ".join(text.split())
    assert text.startswith("Gradient flow: 3 of 6 members did not end as asked.")
    middle = np.median(found[found.failed].loss)
    assert f"loss {middle:.4g} (" in text and "after 7 steps" in text
    assert f"time {np.median(found.rescaled_time[found.failed]):.4g} (" in text
    assert "larger max_steps=" in text and 'solver="auto"' in text
    assert "solution[solution.failed]" in text


def test_one_network_is_told_of_without_an_axis():
    one = jax.tree_util.tree_map(lambda a: a[0], STARTS)
    text, found = the_only(
        lambda: jf.gradient_flow(one, TASK, stop=jf.Time(9.0), max_steps=3, progress=False)
    )
    assert "The only member" in text and "solution[" not in text
    assert found.failed.shape == () and found.failed


def test_several_reasons_make_one_warning():
    scale = np.array([1e-9, 1e-9, 1e-9, 1e3, 1.0, 1.0])
    stop = jf.LossBelow(np.array([1e-30] * 4 + [1e9] * 2))
    text, found = the_only(lambda: descent(0.1, 40, scale=scale, stop=stop))
    ended = ["NumSteps"] * 3 + ["non_finite"] + ["LossBelow"] * 2
    assert found.status.tolist() == ended
    assert "4 of 6 members" in text
    assert "NumSteps, never LossBelow: 3 members" in text and "larger num_steps=" in text
    assert "non_finite: 1 member" in text and "smaller learning rate" in text


def test_descent_that_diverges_is_told_before_it_overflows():
    text, found = the_only(lambda: descent(10.0, 3))
    assert set(found.status) == {"NumSteps"} and np.isfinite(found.loss).all()
    rose = np.sum(found.loss > jax.vmap(jf.loss, (0, None))(STARTS, TASK))
    assert rose > 0 and f"larger loss than at the start: {rose} member" in text
    assert told(lambda: descent(1e-3, 3))[0] == []


def test_noise_that_ends_before_a_stop_is_told():
    options = {"temperature": 0.01, "time": 0.2, "step": 0.1, "key": jax.random.key(0)}
    options |= {"stop": jf.LossBelow(1e-12), "progress": False}
    text, _ = the_only(lambda: jf.langevin_flow(STARTS, TASK, **options))
    assert "Time, never LossBelow: 6 members" in text and "larger time=" in text


def test_run_without_a_stop_is_told_so_before_it_begins(monkeypatch):
    text, found = the_only(lambda: flow(max_steps=4))
    assert "no stop condition" in text and "max_steps=4" in text
    assert set(found.status) == {"max_steps"}
    sim = jf.Simulation(jf.GradientFlow(), STARTS, TASK)

    def never(*args, **options):
        raise AssertionError("the run has begun")

    monkeypatch.setattr("jaxflow.runs._execution.run_engine", never)
    with warnings.catch_warnings():
        warnings.simplefilter("error", jf.RunWarning)
        with pytest.raises(jf.RunWarning, match="no stop condition"):
            jf.run(sim, progress=False)


def test_stores_are_told_of_by_calls_and_not_when_loaded(tmp_path):
    sim = jf.Simulation(
        jf.GradientFlow(),
        STARTS,
        TASK,
        stop=jf.Time(9.0),
        stepping=jf.Stepping(max_steps=3),
    )
    path = tmp_path / "run.zarr"
    first, _ = the_only(lambda: jf.run(sim, store=path, progress=False))
    again, _ = the_only(lambda: jf.run(sim, store=path, progress=False))
    assert first == again and "6 of 6" in first
    assert told(lambda: jf.load(path))[0] == []


def test_calls_made_of_runs_warn_once_of_their_own_result():
    network = jf.FeedForward((2, 3, 1), jf.LeakyReLU(1.0), key=jax.random.key(0))
    starts, options = jf.sample_ensemble(network, 4, key=jax.random.key(2)), {}
    options |= {"max_steps": 2, "spectrum": False, "progress": False}
    text, points = the_only(lambda: jf.find_kkt(starts, TASK, **options))
    num = len(points.not_converged)
    assert num > 0 and f"{num} of 4 members" in text and "max_steps=2" in text


def by_a_keyword_call():
    return jf.gradient_flow(STARTS, TASK, max_steps=4, progress=False)


def by_a_value():
    return jf.run(jf.Simulation(jf.GradientFlow(), STARTS, TASK), progress=False)


@pytest.mark.parametrize("call", [by_a_keyword_call, by_a_value])
def test_the_warning_names_the_callers_line(call, monkeypatch):
    # Nobody is run: that the run has no stop condition is told before.
    monkeypatch.setattr("jaxflow.runs._execution.run_engine", lambda *_, **__: None)
    (warning,), _ = told(call)
    assert warning.lineno == first_line_of(call) + 1


def test_the_warning_is_silenced_by_its_class():
    assert issubclass(jf.RunWarning, UserWarning)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=jf.RunWarning)
        flow(max_steps=4)
