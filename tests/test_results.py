"""Solutions: as datasets, as text, and on disk and back."""

import json
import re
import shutil
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

import jaxflow as jf
from jaxflow.results import Given, Records, Stats

from .comparing import assert_bits_equal, assert_same
from .filled import filled
from .forging import forge_text
from .problems import TSIT5

KEY = jax.random.key(0)
LINEAR = jf.LeakyReLU(slope=1)


class Product(eqx.Module):
    """`H(x) = (A x) (B x)`, with settings of several kinds beside its weights."""

    factors: dict[str, jax.Array]
    squash: object
    settings: tuple = eqx.field(static=True)

    def __call__(self, x):
        return self.squash((self.factors["a"] @ x) * (self.factors["b"] @ x))


def product(squash=jnp.tanh):
    factors = {name: jnp.asarray(np.ones((2, 3))) for name in ("b", "a")}
    return Product(factors, squash, (1, [2.5, None], {"on": True, "name": "δ"}))


NETWORKS = {
    "FeedForward": lambda: jf.FeedForward((3, 4, 1), jf.LeakyReLU(0.5, 2, 0.1), key=KEY),
    "ConvNet": lambda: jf.ConvNet((1, 4), (2,), 2, jf.LeakyReLU(), stride=2, key=KEY),
    "DiagonalLinear": lambda: jf.DiagonalLinear(3, 3, 2, key=KEY),
    "MLP": lambda: eqx.nn.MLP(3, 2, 4, 2, activation=jax.nn.relu, key=KEY),
    "single precision": lambda: jf.FeedForward((3, 1), LINEAR, key=KEY, dtype=jnp.float32),
    "user's own": product,
}


def network(kind="FeedForward", num=None):
    """A network, or `num` of them stacked."""
    if num is None:
        return filled(NETWORKS[kind])
    one = eqx.filter_eval_shape(NETWORKS[kind])

    def stack(leaf):
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        return jax.ShapeDtypeStruct((num, *leaf.shape), leaf.dtype)

    stacked = jax.tree_util.tree_map(stack, one)
    return filled(lambda: jax.tree_util.tree_map(_zeros, stacked))


def _zeros(leaf):
    is_array = isinstance(leaf, jax.ShapeDtypeStruct)
    return jnp.zeros(leaf.shape, leaf.dtype) if is_array else leaf


def solution_of(directions, num=None, records=None, **changes):
    """A solution nobody computed, with every kind of number in it."""

    def numbers(*values, dtype=np.float64):
        return np.resize(np.array(values, dtype), () if num is None else num)

    fields = {
        "kind": "gradient flow",
        "read_directions": Given(directions),
        "log_norm": numbers(-1.5, 0.0, 80.0),
        "scale": numbers(1e-30, 0.5, 1.0),
        "rescaled_time": numbers(0.0, 1 / 3, np.inf),
        "log_time": numbers(700.0, np.nan, -np.inf),
        "loss": numbers(0.1, np.nan, 1e300),
        "status": np.resize(["LossBelow", "max_steps", "non_finite"], numbers().shape),
        "stats": Stats(
            num_steps=numbers(10, 0, 7, dtype=np.int32),
            num_accepted=numbers(8, 0, 7, dtype=np.int32),
            num_rejected=numbers(2, 0, 0, dtype=np.int32),
            num_vjps=numbers(61, 1, 43, dtype=np.int32),
        ),
        "records": records,
        "blow_up_time": None,
        "settings": {"solver": "Tsit5", "order": 3, "rtol": 1e-6},
    }
    return jf.Solution(**{**fields, **changes})


def shared_records(num=3):
    shape = () if num is None else (num,)
    random = np.random.default_rng(4)
    values = {
        "norm": random.standard_normal((*shape, 4)),
        "rank": random.standard_normal((*shape, 4, 2)),
    }
    values["norm"][..., 2:] = np.nan
    dims = {"norm": (), "rank": ("layer",)}
    return Records("rescaled_time", np.array([0.0, 0.1, 1.0, 3.0]), values, dims)


def own_records(num=3):
    records = shared_records(num)
    grid = np.arange(4.0) + np.arange(num)[:, None]
    return Records("log_norm", grid, records.values, records.dims)


@pytest.fixture(scope="module")
def run():
    """A tiny run of gradient flow: three members, recorded on the way."""
    x = np.random.default_rng(0).standard_normal((5, 3))
    return jf.gradient_flow(
        network("FeedForward", 3),
        jf.Task(x, x @ np.array([1.0, -0.5, 0.2])),
        scale=0.1,
        stop=[jf.RescaledTime(np.array([0.2, 0.3, 0.4]))],
        rtol=1e-3,
        record={"norm": jf.norm, "layers": jf.layer_norms},
        record_at=np.array([0.0, 0.1, 0.35]),
        attrs={"seed": np.int64(3), "note": None},
        **TSIT5,
    )


def test_run_gives_a_dataset_with_dimensions(run):
    sizes = {"init": 3, "rescaled_time": 3, "layer": 2}
    assert dict(run.dataset.sizes) == sizes
    assert run.dataset["norm"].dims == ("init", "rescaled_time")
    assert run.dataset["layers"].dims == ("init", "rescaled_time", "layer")
    reached = np.isfinite(run.dataset["norm"].values)
    np.testing.assert_array_equal(reached, [[1, 1, 0], [1, 1, 0], [1, 1, 1]])
    layers = run.dataset["layers"].values[reached]
    np.testing.assert_allclose(
        np.linalg.norm(layers, axis=-1), run.dataset["norm"].values[reached], rtol=1e-12
    )


def test_final_values_of_a_run_fit_together(run):
    weights = [np.asarray(w).reshape(3, -1) for w in run.networks.weights]
    norms = np.linalg.norm(np.concatenate(weights, 1), axis=1)
    np.testing.assert_allclose(np.log(norms), run.log_norm, rtol=1e-12)
    np.testing.assert_allclose(run.rescaled_time, [0.2, 0.3, 0.4], rtol=1e-9)
    # s = δ^(L-2) t with L = 3.
    np.testing.assert_allclose(
        run.log_time, np.log(run.rescaled_time) - np.log(0.1), rtol=1e-9
    )


def test_run_is_summarized(run):
    text = repr(run)
    assert text.splitlines()[0] == (
        "Gradient flow: 3 initializations of FeedForward (16 parameters, order 3), δ = 0.1"
    )
    steps, vjps = run.stats.num_steps, run.stats.num_vjps.sum()
    assert re.search(r"ended by RescaledTime 3\n", text)
    assert re.search(r"\n  all members +median +least +most\n", text)
    assert re.search(rf"\n  loss +{np.median(run.loss):.4g} ", text)
    assert re.search(r"\n  rescaled time +0\.3 +0\.2 +0\.4\n", text)
    assert re.search(r"\n  time +3 +2 +4\n", text)
    assert re.search(rf"\n  steps .* {steps.max():.4g} .*% rejected.*\n", text)
    assert re.search(rf"\n  VJPs .* {vjps:,} in all\n", text)
    assert re.search(r"\n  recorded norm, layers at 3 points in rescaled_time", text)
    assert max(map(len, text.splitlines()[1:])) <= 80


def test_summary_leads_with_what_failed():
    """Of most members first, then what ended as it was asked to; with their medians."""
    loss = np.array([1.0, 2.0, np.nan, 4.0, 8.0, 6.0])
    status = np.array(["LossBelow"] * 2 + ["non_finite"] + ["max_steps"] * 2 + ["Time"])
    solution = solution_of(network("FeedForward", 6), 6, loss=loss, status=status)
    _, header, *rows = repr(solution).splitlines()
    assert header.split()[:4] == ["ended", "by", "members", "medians:"]
    assert [re.split("  +", row.strip())[:3] for row in rows[:4]] == [
        ["max_steps (failed)", "2", "6"],
        ["non_finite (failed)", "1", "–"],
        ["LossBelow", "2", "1.5"],
        ["Time", "1", "6"],
    ]
    assert "unknown for 1" in repr(solution)
    assert re.search("ended by max_steps \\(failed\\)\n", repr(solution[3]))


def test_summary_of_a_limit_tells_the_blow_up_time():
    solution = solution_of(
        network("FeedForward", 3), 3, blow_up_time=np.array([2.5, np.inf, np.nan])
    )
    text = repr(solution)
    assert "δ =" not in text
    assert re.search(r"blow-up time +2\.5 +infinite for 1, unknown for 1", text)


@pytest.mark.parametrize(
    ("norm", "text"),
    [
        *((9.999e14, "1.00e+15"), (9.99e14, "9.99e+14"), (1e-15, "1.00e-15")),
        (9.995e15, "1.00e+16"),  # digits that carry
    ],
)
def test_summary_writes_large_numbers_with_one_digit_before_the_point(norm, text):
    log_norm = np.array(np.log(norm))
    solution = solution_of(network(), scale=np.array(1.0), log_norm=log_norm)
    assert re.search(rf"δ +{re.escape(text)}\n", repr(solution))


def test_summary_shows_no_range_of_what_looks_the_same():
    loss = np.array([1.0, 1.0 + 1e-9, 1.0 - 1e-9])
    text = repr(solution_of(network("FeedForward", 3), 3, loss=loss))
    assert re.search(r"\n  loss +1\n", text)


def test_summary_of_one_network_counts_no_members():
    first, *_ = repr(solution_of(network())).splitlines()
    assert first == "Gradient flow: FeedForward (16 parameters, order 3), δ = 1e-30"


def test_dataset_of_an_ensemble():
    dataset = solution_of(network("FeedForward", 3), 3).dataset
    assert dict(dataset.sizes) == {"init": 3}
    assert set(dataset.data_vars) == {
        "final_log_norm",
        "final_rescaled_time",
        "final_log_time",
        "final_loss",
        "scale",
        "num_steps",
        "num_accepted",
        "num_rejected",
        "num_vjps",
        "status",
    }
    assert all(variable.dims == ("init",) for variable in dataset.data_vars.values())
    np.testing.assert_array_equal(dataset["init"], [0, 1, 2])


def test_dataset_of_one_network_has_no_axis_of_members():
    solution = solution_of(network(), records=shared_records(None))
    assert not solution.is_ensemble
    assert dict(solution.dataset.sizes) == {"rescaled_time": 4, "layer": 2}
    assert solution.dataset["final_loss"].item() == 0.1
    assert solution.dataset["rank"].dims == ("rescaled_time", "layer")


def test_dataset_with_a_grid_for_each_member():
    records = own_records()
    dataset = solution_of(network("FeedForward", 3), 3, records).dataset
    assert dataset["norm"].dims == ("init", "grid_point")
    assert dataset["log_norm"].dims == ("init", "grid_point")
    np.testing.assert_array_equal(dataset["log_norm"], records.grid)


def test_every_variable_has_units_and_a_long_name():
    solution = solution_of(
        network("FeedForward", 3), 3, shared_records(), blow_up_time=np.ones(3)
    )
    units = {
        name: variable.attrs["units"]
        for name, variable in solution.dataset.variables.items()
        if name not in ("status", "init")
    }
    assert units["final_rescaled_time"] == units["rescaled_time"] == "rescaled time"
    assert units["blow_up_time"] == "rescaled time"
    assert units["num_vjps"] == "evaluations"
    assert units["final_loss"] == units["norm"] == "1"
    assert all(
        variable.attrs["long_name"]
        for name, variable in solution.dataset.variables.items()
        if name != "init"
    )


def test_statuses_can_be_read_without_jaxflow():
    solution = solution_of(network("FeedForward", 5), 5)
    status = solution.dataset["status"]
    assert status.dtype == np.int8
    meanings = status.attrs["flag_meanings"].split(" ")
    by_value = dict(zip(status.attrs["flag_values"], meanings, strict=True))
    found = [by_value[code] for code in status.values.tolist()]
    assert found == solution.status.tolist()


def test_attributes_are_plain():
    odd = {
        "seed": np.int64(3),
        "rate": jnp.asarray(0.5),
        "sizes": (1, np.float32(2.0)),
        "none": None,
        "path": shutil,
        "nested": {"a": 1},
        7: "seven",
    }
    attrs = solution_of(network(), attrs=odd).dataset.attrs
    json.dumps(attrs, allow_nan=False)
    assert attrs["seed"] == 3
    assert attrs["rate"] == 0.5
    assert attrs["sizes"] == [1, 2.0]
    assert attrs["7"] == "seven"
    assert attrs["jaxflow"]["kind"] == "gradient flow"
    assert attrs["jaxflow"]["settings"]["order"] == 3


@pytest.mark.parametrize("num", [None, 3])
@pytest.mark.parametrize("kind", NETWORKS)
def test_saved_solution_is_loaded_to_the_last_bit(tmp_path, kind, num):
    solution = solution_of(network(kind, num), num)
    solution.save(tmp_path / "run.zarr")
    again = jf.load(tmp_path / "run.zarr", trust=[__name__])
    assert_same(solution, again)
    assert again.attrs == solution.attrs
    assert again.settings == solution.settings


@pytest.mark.parametrize("kind", NETWORKS)
def test_loaded_network_can_be_called(tmp_path, kind):
    solution = solution_of(network(kind))
    solution.save(tmp_path / "run.zarr")
    again = jf.load(str(tmp_path / "run.zarr"), trust=[sys.modules[__name__]])
    dtype = jax.tree_util.tree_leaves(solution.directions)[0].dtype
    x = jnp.asarray(np.full((1, 4) if kind == "ConvNet" else 3, 0.7), dtype)
    call = eqx.filter_jit(lambda network, x: network(x))
    assert_bits_equal(call(solution.directions, x), call(again.directions, x))


def test_run_survives_the_disk(tmp_path, run):
    run.save(tmp_path / "run.zarr")
    again = jf.load(tmp_path / "run.zarr")
    assert_same(run, again)
    assert again.settings["order"] == 3
    assert again.attrs == {"seed": 3, "note": None}
    assert repr(again) == repr(run)
    assert bool(eqx.tree_equal(run.networks, again.networks))


@pytest.mark.parametrize(
    ("num", "changes"),
    [
        (3, {"records": shared_records()}),
        (3, {"records": own_records()}),
        (None, {"records": shared_records(None)}),
        (3, {"blow_up_time": np.array([2.5, np.inf, np.nan])}),
        (None, {"blow_up_time": np.asarray(np.inf), "scale": np.asarray(0.0)}),
        (1, {}),
    ],
    ids=["shared grid", "own grids", "one", "blow-up", "one limit", "one member"],
)
def test_parts_of_a_solution_survive_the_disk(tmp_path, num, changes):
    solution = solution_of(network("FeedForward", num), num, **changes)
    solution.save(tmp_path / "run.zarr")
    assert_same(solution, jf.load(tmp_path / "run.zarr"))


def test_unknown_number_of_evaluations_survives_the_disk(tmp_path):
    solution = solution_of(network())
    stats = Stats(**{**vars(solution.stats), "num_vjps": None})
    solution = solution_of(network(), stats=stats)
    solution.save(tmp_path / "run.zarr")
    assert_same(solution, jf.load(tmp_path / "run.zarr"))


def test_store_opens_in_xarray_alone(tmp_path):
    solution = solution_of(network("FeedForward", 3), 3, shared_records())
    solution.save(tmp_path / "run.zarr")
    with xarray.open_zarr(tmp_path / "run.zarr", consolidated=False) as opened:
        found = opened.load()
    expected = solution.dataset
    assert set(expected.attrs) <= set(found.attrs)
    assert {found.attrs[name] == value for name, value in expected.attrs.items()} == {True}
    xarray.testing.assert_identical(
        found.assign_attrs(expected.attrs).drop_attrs(deep=False),
        expected.drop_attrs(deep=False),
    )


def test_weights_on_disk_can_be_read_in_xarray_alone(tmp_path):
    solution = solution_of(network())
    solution.save(tmp_path / "run.zarr")
    with xarray.open_zarr(
        tmp_path / "run.zarr", group="directions", consolidated=False
    ) as opened:
        by_path = {array.attrs["path"]: array.values for array in opened.values()}
    np.testing.assert_array_equal(by_path[".weights[0]"], solution.directions.weights[0])
    np.testing.assert_array_equal(by_path[".weights[1]"], solution.directions.weights[1])


def test_failed_writing_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "run.zarr"
    old = solution_of(network())
    old.save(path)
    new = solution_of(network("FeedForward", 3), 3)
    _ = new.dataset

    def disk_full(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(xarray.Dataset, "to_zarr", disk_full)
    with pytest.raises(OSError, match="No space left"):
        new.save(path, overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.zarr"]
    assert_same(old, jf.load(path))


def test_existing_path_is_replaced_only_if_asked(tmp_path):
    path = tmp_path / "run.zarr"
    old, new = solution_of(network()), solution_of(network("MLP", 3), 3, own_records())
    old.save(path)
    with pytest.raises(jf.StoreError, match="overwrite=True"):
        new.save(path)
    assert_same(old, jf.load(path))
    new.save(path, overwrite=True)
    assert_same(new, jf.load(path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.zarr"]


def test_folders_above_the_store_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "run.zarr"
    solution_of(network()).save(path)
    assert jf.load(path).kind == "gradient flow"


def _set_attrs(path, **changes):
    document = json.loads((path / "zarr.json").read_text())
    document["attributes"].update(changes)
    (path / "zarr.json").write_text(json.dumps(document))


def _remove(*parts):
    return lambda path: shutil.rmtree(path.joinpath(*parts))


@pytest.mark.parametrize(
    "damage",
    [
        _remove(),
        lambda path: [_remove()(path), path.mkdir()],
        lambda path: [_remove()(path), path.write_text("a file")],
        lambda path: _set_attrs(path, jaxflow_format=99),
        lambda path: _set_attrs(path, jaxflow_format=None),
        _remove("directions"),
        _remove("directions", "weights_1"),
        _remove("final_loss"),
        _remove("status"),
        lambda path: (path / "zarr.json").unlink(),
        lambda path: _set_attrs(path / "directions", jaxflow_structure="{"),
    ],
    ids=[
        "missing",
        "empty folder",
        "file",
        "other format",
        "no format",
        "no directions",
        "a parameter missing",
        "no loss",
        "no status",
        "no metadata",
        "broken structure",
    ],
)
def test_what_is_no_whole_solution_is_refused(tmp_path, damage):
    path = tmp_path / "run.zarr"
    solution_of(network()).save(path)
    damage(path)
    with pytest.raises(jf.StoreError, match=r"run\.zarr"):
        jf.load(path)


def test_store_of_another_program_is_refused(tmp_path):
    path = tmp_path / "other.zarr"
    xarray.Dataset({"a": ("x", np.ones(2))}).to_zarr(path, consolidated=False)
    with pytest.raises(jf.StoreError, match=r"other\.zarr"):
        jf.load(path)


def test_network_may_be_given_where_its_class_has_gone(tmp_path):
    path, solution = tmp_path / "run.zarr", solution_of(product())
    solution.save(path)
    forge_text(path, f"{__name__}:Product", f"{__name__}:Gone", group="directions")
    with pytest.raises(jf.StoreError, match="network="):
        jf.load(path, trust=[__name__])
    assert_same(solution, jf.load(path, network=product()))


def test_code_of_ones_own_is_named_by_files_and_run_for_those_who_trust_it(tmp_path):
    path, solution = tmp_path / "run.zarr", solution_of(product())
    solution.save(path)
    with pytest.raises(jf.StoreError, match=rf"names {__name__}:Product.*trust=.*network="):
        jf.load(path)
    with pytest.raises(jf.StoreError, match="trust="):
        jf.load(path, trust=["numpy", "test"])
    assert_same(solution, jf.load(path, trust=__name__.split(".")[0]))
    assert_same(solution, jf.load(path, network=product()))


@pytest.mark.parametrize("other", ["DiagonalLinear", "MLP"])
def test_given_network_of_another_structure_is_refused(tmp_path, other):
    solution_of(network()).save(tmp_path / "run.zarr")
    with pytest.raises(jf.StoreError, match="the given network"):
        jf.load(tmp_path / "run.zarr", network=network(other))


def test_structure_can_name_nothing_but_modules(tmp_path):
    path = tmp_path / "run.zarr"
    solution_of(product()).save(path)
    forge_text(path, f"{__name__}:Product", "subprocess:Popen", group="directions")
    with pytest.raises(jf.StoreError, match="names subprocess:Popen"):
        jf.load(path)
    with pytest.raises(jf.StoreError, match="not an Equinox module"):
        jf.load(path, trust=["subprocess"])
