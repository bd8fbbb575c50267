"""Studies that are run: sweeps as one dataset, killed ones go on, failures are told."""

import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import diffrax
import jax
import numpy as np
import pandas
import pytest
import xarray

import jaxflow as jf
from jaxflow.studies._dataset import combined
from jaxflow.studies._export import export_csv
from jaxflow.studies._outcome import as_json, read_outcome
from jaxflow.studies._sweep import Axis

from .comparing import assert_results_same, assert_same
from .compilations import compilations
from .studies import study, tables

ROOT = pathlib.Path(__file__).parents[1]


def network():
    return jf.DiagonalLinear(3, 2, key=jax.random.key(0))


TASK = jf.Task(np.eye(2), np.array([1.0, 0.5]))


def run(asked, **how):
    return asked.run(progress=False, **how)


def test_a_study_is_the_call_that_it_writes_down(tmp_path):
    asked = study(test={"kind": "values", "inputs": [[1, 1]], "targets": [1.0]})
    found = run(asked, store=tmp_path / "a.zarr")
    expected = jf.gradient_flow(
        jf.Initializations(network(), 4, key=jax.random.key(0)),
        TASK,
        scale=0.1,
        stop=jf.RescaledTime(0.5),
        solver=diffrax.Tsit5(),
        record={"loss": jf.loss, "norm": jf.norm},
        record_at=4,
        progress=False,
    )
    assert_same(expected, found.result)
    losses = [
        float(jf.loss(one, jf.Task(np.ones((1, 2)), np.ones(1))))
        for one in (jf.networks.member(found.result.networks, k) for k in range(4))
    ]
    np.testing.assert_allclose(found.dataset["test_loss"], losses, rtol=1e-12)
    again = read_outcome(tmp_path / "a.zarr")
    np.testing.assert_array_equal(again.dataset["test_loss"], found.dataset["test_loss"])
    assert jf.Study.from_text(again.study) == asked


def test_settings_may_find_different_numbers_of_points():
    points = lambda num: xarray.Dataset(
        {"value": ("point", np.arange(num) + 1.0), "rank_one": ("point", [True] * num)},
        {"init": np.arange(3)},
    )
    axis = Axis((("network", "depth"),), ((1, 2, 3),))
    found = combined([axis], [points(2), None, points(4)])
    rows = [[1, 2, np.nan, np.nan], [np.nan] * 4, [1, 2, 3, 4]]
    np.testing.assert_array_equal(found["value"], rows)
    np.testing.assert_array_equal(found["rank_one"].sum("point"), [2, 0, 4])
    assert "point" not in found.coords and found["depth"].values.tolist() == [1, 2, 3]


def test_a_single_run_has_the_store_of_a_run(tmp_path):
    asked = study()
    found = run(asked, store=tmp_path / "a.zarr")
    loaded = jf.load(tmp_path / "a.zarr")
    assert_same(found.result, loaded)
    assert jf.Study.from_text(loaded.attrs["study"]) == asked
    with xarray.open_zarr(tmp_path / "a.zarr") as opened:
        assert {"time", "log_time", "rescaled_time"} <= set(opened.coords)
        assert set(opened.coords) == set(found.dataset.coords)


def test_a_sweep_is_one_dataset_and_compiles_once(tmp_path):
    asked = study(
        sweep={
            "initialization": {"scale": [0.1, 1e-4]},
            "stepping": {"rtol": [1e-6, 1e-5, 1e-4]},
            "data": {"targets": [[1.0, 0.5], [0.5, 1.0]]},
        }
    )
    # One run of the engine for the two scales, and its programs serve all others.
    assert len(asked.settings) == 12 and len(asked.groups) == 6
    run(study(sweep={"initialization": {"scale": [0.2, 0.3]}}))
    with compilations() as compiled:
        found = run(asked, store=tmp_path / "a.zarr")
    assert compiled == []
    dataset = xarray.open_zarr(tmp_path / "a.zarr")
    xarray.testing.assert_identical(
        dataset.drop_attrs(), found.dataset.drop_attrs()
    )  # opened without jaxflow
    assert dict(dataset["final_loss"].sizes) == {
        "scale": 2, "rtol": 3, "targets": 2, "init": 4,
    }  # fmt: skip
    assert dataset["targets"].values.tolist() == ["1.0-0.5", "0.5-1.0"]
    assert dataset["time"].dims == ("scale", "rtol", "targets", "init", "record")
    assert dataset["init"].values.tolist() == [0, 1, 2, 3]
    for setting, result in zip(asked.settings, found.results):
        alone = jf.gradient_flow(
            jf.Initializations(network(), 4, key=jax.random.key(0)),
            jf.Task(np.eye(2), np.array(setting.tables.data.targets)),
            scale=setting.tables.initialization.scale,
            stop=jf.RescaledTime(0.5),
            solver=diffrax.Tsit5(),
            rtol=setting.tables.stepping.rtol,
            record={"loss": jf.loss, "norm": jf.norm},
            record_at=4,
            progress=False,
        )
        place = dict(zip(("scale", "rtol", "targets"), setting.place))
        one = dataset.isel(place)
        np.testing.assert_array_equal(one["final_loss"], alone.loss)
        np.testing.assert_array_equal(one["loss"], alone.records.values["loss"])
        np.testing.assert_array_equal(result.log_time, alone.log_time)
    nearest = dataset["final_loss"].sel(scale=1e-4, method="nearest").median("init")
    assert nearest.dims == ("rtol", "targets")


def test_keys_that_change_together_share_a_dimension():
    found = run(
        study(
            sweep=[
                {
                    "initialization.scale": [0.1, 0.01, 1e-3],
                    "stop.rescaled_time": [1, 2, 3],
                },
                {"initialization.num": [2, 4]},
            ]
        )
    )
    dataset = found.dataset
    assert dict(dataset["final_loss"].sizes) == {"scale": 3, "num": 2, "init": 4}
    # A column of that name is there already.
    assert dataset["stop_rescaled_time"].dims == ("scale",)
    assert dataset["rescaled_time"].dims == ("scale", "num", "init", "record")
    times = dataset["final_rescaled_time"]
    np.testing.assert_allclose(times.isel(num=1), np.outer([1, 2, 3], np.ones(4)))
    assert np.isnan(times.isel(num=0, init=[2, 3])).all()  # there are two members only
    assert (dataset["status"].isel(num=0, init=[2, 3]) == 0).all()


def test_a_setting_that_fails_is_told_and_the_others_are_run(tmp_path):
    asked = study(sweep={"network": {"in_size": [2, 3]}})  # the data have two entries
    with pytest.warns(jf.RunWarning, match="1 of 2 settings failed:\n  in_size = 3: "):
        found = run(asked, store=tmp_path / "a.zarr")
    assert list(found.failures) == [1] and "does not fit" in found.failures[1]
    losses = found.dataset["final_loss"]
    assert (
        np.isfinite(losses.sel(in_size=2)).all() and np.isnan(losses.sel(in_size=3)).all()
    )
    outcome = read_outcome(tmp_path / "a.zarr")
    assert list(outcome.failures) == ["in_size = 3"]
    assert [each["ended"] for each in as_json(outcome)["settings"]] == [
        {"RescaledTime": 4}, {},
    ]  # fmt: skip
    with pytest.raises(jf.StudyError, match="does not fit"):  # nothing is left
        run(asked.replace({"sweep.network.in_size": [3, 4]}))


def test_what_is_done_is_not_run_again(tmp_path, added):
    asked = study(sweep={"network": {"depth": [3, 4]}})
    first = run(asked, store=tmp_path / "a.zarr")
    assert len(added) == 8
    again = run(asked, store=tmp_path / "a.zarr")
    assert len(added) == 8
    for one, other in zip(first.results, again.results):
        assert_same(one, other)
    with pytest.raises(jf.StoreError, match="another run"):
        run(asked.replace({"initialization.num": 5}), store=tmp_path / "a.zarr")
    renamed = asked.replace({"title": "of another title"})
    run(renamed, store=tmp_path / "a.zarr")
    assert read_outcome(tmp_path / "a.zarr").title == "of another title"


@pytest.mark.parametrize("kind", ["find_kkt", "saddle_to_saddle"])
def test_analyses(tmp_path, kind):
    without = dict.fromkeys(("equation", "stop", "stepping", "record"))
    start = {"num": 4} if kind == "find_kkt" else {"num": 4, "scale": 1e-3}
    asked = study(**without, initialization=start, analysis={"kind": kind})
    found = run(asked, store=tmp_path / "a.zarr")
    members = jf.Initializations(network(), 4, key=jax.random.key(0))
    if kind == "find_kkt":
        expected = jf.find_kkt(members, TASK, progress=False)
    else:
        expected = jf.saddle_to_saddle(members, TASK, scale=1e-3, progress=False)
    assert_results_same(expected, found.result)
    outcome = read_outcome(tmp_path / "a.zarr")
    assert_results_same(expected, outcome.result)
    export_csv(outcome, tmp_path / "a.csv", False)
    table = pandas.read_csv(tmp_path / "a.csv", float_precision="round_trip")
    assert len(table) == len(expected)
    column = expected.counted
    np.testing.assert_array_equal(table[column], getattr(expected, column))
    assert_results_same(expected, run(asked, store=tmp_path / "a.zarr").result)


def test_data_of_ones_own(tmp_path):
    rows = np.random.default_rng(0).normal(size=(6, 3))
    np.savez(tmp_path / "a.npz", x=rows[:, :2], y=rows[:, 2])
    lines = ["one, two, three", *(",".join(map(repr, map(float, row))) for row in rows)]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    own = xarray.Dataset({"x": (("n", "d"), rows[:, :2]), "y": ("n", rows[:, 2])})
    own.to_zarr(tmp_path / "a.zarr", consolidated=False)
    found = []
    for path, inputs, targets in (
        ("a.npz", "x", "y"), ("a.csv", ["one", "two"], "three"), ("a.zarr", "x", "y"),
    ):  # fmt: skip
        data = {"kind": "file", "path": path, "inputs": inputs, "targets": targets}
        (one,) = jf.Study(tables(data=data), folder=tmp_path).prepared()
        found.append(one.task)
    for task in found:
        np.testing.assert_array_equal(task.inputs, rows[:, :2])
        np.testing.assert_array_equal(task.targets, rows[:, 2])
    data = {"kind": "file", "path": "a.npz", "inputs": "x", "targets": "y"}
    held_out = {**data, "held_out": 0.34, "seed": 3}
    (one,) = jf.Study(tables(data=held_out), folder=tmp_path).prepared()
    assert one.test is not None and one.test.num_samples == 2
    both = np.concatenate([one.task.inputs, one.test.inputs])
    np.testing.assert_array_equal(np.sort(both, axis=0), np.sort(rows[:, :2], axis=0))
    data = {"kind": "file", "path": "a.npz", "inputs": "x", "targets": "z"}
    with pytest.raises(
        jf.StudyError, match=r"data\.targets: found 'z', which .* of 'x', 'y'"
    ):
        jf.Study(tables(data=data), folder=tmp_path).prepared()


def test_code_of_ones_own_is_run_when_it_is_allowed(tmp_path):
    (tmp_path / "nets.py").write_text(
        textwrap.dedent("""
        import pathlib
        import equinox as eqx, jax

        pathlib.Path(__file__).with_name("ran").touch()

        class Net(eqx.Module):
            weight: jax.Array

            def __init__(self, size, *, key):
                self.weight = jax.random.normal(key, (size,))

            def __call__(self, x):
                return (self.weight @ x) ** 3
        """)
    )
    data = {"kind": "values", "inputs": [[1.0, 0.0], [0.0, 1.0]], "targets": [1.0, 0.5]}
    own = {"kind": "nets.py:Net", "arguments": {"size": 2}}
    plain = tables(network=own, data=data)
    asked = jf.Study(plain, folder=tmp_path)
    with pytest.raises(jf.StudyError, match=r"network.kind: .*code.*--allow-code"):
        asked.prepared()
    assert not (tmp_path / "ran").exists()
    (prepared,) = jf.Study(plain, folder=tmp_path, allow_code=True).prepared()
    assert (tmp_path / "ran").exists()
    assert type(prepared.network).__name__ == "Net"


def test_a_sweep_killed_at_random_goes_on_to_the_same_numbers(tmp_path):
    targets = [[1.0, 0.5], [0.5, 1.0], [2.0, 1.0]]
    asked = study(
        initialization={"num": 200, "scale": 0.1},
        stop={"rescaled_time": 40.0},
        sweep={"data": {"targets": targets}, "stepping": {"rtol": [1e-6, 1e-7, 1e-8]}},
    )
    (tmp_path / "study.toml").write_text(asked.to_toml(), encoding="utf-8")
    expected = run(asked).dataset
    random = np.random.default_rng(3)
    command = [sys.executable, "-m", "jaxflow", "run", "study.toml", "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for _ in range(2):
        child = subprocess.Popen(command, cwd=tmp_path, env=environment)
        begun = time.monotonic()
        while not (tmp_path / "study.zarr").exists():
            assert child.poll() is None and time.monotonic() - begun < 120
            time.sleep(0.05)
        time.sleep(random.uniform(0, 2.0))
        child.send_signal(signal.SIGKILL)
        child.wait()
    found = run(asked, store=tmp_path / "study.zarr").dataset
    xarray.testing.assert_identical(found.drop_attrs(), expected.drop_attrs())
    assert read_outcome(tmp_path / "study.zarr").swept == ("targets", "rtol")


def test_settings_may_differ_in_the_number_of_samples():
    """Dimensions without coordinates are filled up as those with one are."""
    axis = Axis((("data", "inputs", "num"),), ((3, 2),))
    datasets = [
        xarray.Dataset({"margins": (("init", "sample"), np.full((2, num), float(num)))})
        for num in (3, 2)
    ]
    found = combined([axis], datasets)
    assert found.margins.dims == ("num", "init", "sample") and "sample" not in found.coords
    expected = [[[3, 3, 3]] * 2, [[2, 2, np.nan]] * 2]
    np.testing.assert_array_equal(found.margins, np.array(expected, float))


def test_members_may_start_near_a_saddle():
    """Those of `starts_near_saddle`, followed from where they are."""
    near = {"near_saddle": {"grown": 1}, "scale": 1e-3}
    one = study(initialization={"num": 2, "seed": 5, **near}, stop={"time": 0.1})
    (prepared,) = one.prepared()
    starts = prepared.simulation.networks.stacked(np.arange(2))
    first = jf.starts_near_saddle(
        jf.DiagonalLinear(3, 2, key=jax.random.key(0)),
        jf.Task(np.eye(2), np.array([1.0, 0.5])),
        *(2,),
        **{"grown": 1, "scale": 1e-3, "key": jax.random.key(5), "progress": False},
    )
    for found, wanted in zip(starts.factors, first.factors):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-15)
    sizes = np.sort(np.abs(np.asarray(starts.factors[0])), axis=-1)
    assert np.all(sizes[..., 0] < 1e-3) and np.all(sizes[..., 1] > 0.5)
    for wrong, match in (({"grown": 2}, "2 of 2"), ({"grown": 0}, "grown")):
        with pytest.raises(jf.StudyError, match=match):
            one.replace({"initialization.near_saddle": wrong}).prepared()
