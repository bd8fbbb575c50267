"""What follows from the declared columns: indexing, joining, printing, disk, status."""

import dataclasses
import html
import itertools
import math
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

import jaxflow as jf
from jaxflow.engine import distinct_names
from jaxflow.errors import NoAxisError
from jaxflow.results import (
    decode,
    Given,
    RunStore,
    Stats,
    status_code,
    status_table,
    to_dataset,
)

from .comparing import assert_results_same
from .forging import forge_text
from .problems import TSIT5
from .test_results import network, own_records, shared_records, solution_of

NUM = 5


# -- results nobody computed --


def solution(num=NUM, **changes):
    given = {"records": shared_records(num), "attrs": {"seed": 3, "note": None}} | changes
    return solution_of(network("FeedForward", num), num, **given)


def kkt_points():
    num, random = 4, np.random.default_rng(1)
    spectrum = random.standard_normal((num, 6))
    spectrum[1, 4:] = np.nan
    return jf.KKTPoints(
        networks=network("FeedForward", num),
        value=np.array([4.0, 3.0, 2.0, 1.0]),
        multiplier=np.array([12.0, 9.0, 6.0, 3.0]),
        residual=np.full(num, 1e-12),
        index=np.array([0, 1, 0, 2]),
        spectrum=spectrum,
        num_kinks=np.arange(num),
        basin=np.array([2, 1, 1, 2]),
        rank_one=np.array([True, False, True, True]),
        rank_one_missed=np.array([1e-12, 0.5, np.nan, 0.0]),
        ends=np.array([0, 3, -1, 1, 2, 0, -2, 3]),
        member_residual=np.array([1e-12, 2e-12, np.nan, 0, 0, 0, 0.5, 0]),
        settings={"network": "FeedForward", "num_parameters": 16, "order": 3, "tol": 1e-9},
    )


def early_convergence():
    scales, shape = np.array([1e-2, 1e-4]), (2, NUM)
    random = np.random.default_rng(2)
    numbers = lambda *shape: random.standard_normal(shape)
    verdicts = ["converges", "goes to zero", "no: <1 - cosine> grows at δ = 1e-04"]
    return jf.EarlyConvergence(
        scales=scales,
        growth=numbers(*shape),
        cosine=numbers(*shape),
        closest=np.where(numbers(*shape) > 0, np.nan, 0.5),
        escape_time=numbers(*shape),
        early_time=numbers(NUM),
        limit_growth=numbers(NUM),
        needed_scale=numbers(NUM),
        fitted_order=numbers(NUM),
        fitted_from=numbers(NUM),
        fitted_to=numbers(NUM),
        expected_order=numbers(NUM),
        kkt_value=numbers(NUM),
        rank_one=numbers(NUM) > 0,
        rate=numbers(NUM),
        expected_rate=numbers(NUM),
        verdict=np.resize(verdicts, NUM),
        limit=solution(records=own_records(NUM), blow_up_time=np.arange(5.0)),
        flows=solution(2 * NUM, records=own_records(2 * NUM), scale=scales.repeat(NUM)),
        settings={"order": 3, "closeness": 1e-3},
    )


def saddle_to_saddle():
    saddles, random = 3, np.random.default_rng(3)
    numbers = lambda *shape: random.standard_normal((NUM, *shape))
    both = (
        "log_arrival log_closest log_departure predicted_log_departure loss log_gradient "
        "lowest_curvature largest_curvature log_small kkt_value cosine kkt_residual "
        "steadiness small_share"
    ).split()
    return jf.SaddleToSaddle(
        **{name: numbers(saddles) for name in both},
        **{name: numbers(saddles, 7) for name in ("weights", "small", "kkt_direction")},
        num_saddles=np.array([1, 3, 2, 3, 1]),
        status=np.array(["LossBelow", "stays", "minimum", "stays", "max_steps"]),
        index=np.arange(NUM * saddles).reshape(NUM, saddles) - 1,
        kind=np.resize(["origin", "saddle", "near_miss", ""], (NUM, saddles)),
        active=numbers(saddles, 2) > 0,
        rank=np.arange(NUM * saddles).reshape(NUM, saddles),
        loss_curve=numbers(6),
        log_time_curve=numbers(6),
        scale=np.full(NUM, 1e-3),
        final_log_time=numbers(),
        final_loss=numbers(),
        num_steps=np.arange(NUM),
        num_vjps=np.arange(NUM) * 7,
        settings={"network": "DiagonalLinear", "num_parameters": 7, "order": 2},
    )


RESULTS = {
    "solution": solution,
    "own grids": lambda: solution(records=own_records(NUM)),
    "no records": lambda: solution(records=None, blow_up_time=np.arange(5.0)),
    "KKT points": kkt_points,
    "early convergence": early_convergence,
    "saddle to saddle": saddle_to_saddle,
}
INDICES = {
    "int": 2,
    "negative": -1,
    "NumPy int": np.int32(1),
    "slice": slice(1, 3),
    "backwards": slice(None, None, -2),
    "nothing": slice(0, 0),
    "array": np.array([2, 0, -1]),
    "list": [3, 1],
    "JAX": jnp.array([1, 2]),
    "empty list": [],
    "mask": "mask",
}


@pytest.fixture(params=RESULTS)
def result(request):
    return RESULTS[request.param]()


def index_of(name, length):
    if name == "mask":
        return np.arange(length) % 2 == 0
    return INDICES[name]


# -- indexing --


@pytest.mark.parametrize("name", INDICES)
def test_indexing_is_that_of_numpy_in_every_variable_and_weight(result, name):
    index, main = index_of(name, len(result)), result.dimension
    numpy_index = np.asarray(index, int) if isinstance(index, list) else index
    if isinstance(index, jax.Array):
        numpy_index = np.asarray(index)
    found = result[index]
    parts = dict(_variables(found.tree))
    for path, whole in _variables(result.tree):
        name, part = path.split("/")[-1], parts[path]
        if path.startswith("/flows/") and "flow" in whole.dims:
            np.testing.assert_array_equal(part, _of_flows(whole, numpy_index), path)
        elif main not in whole.dims:
            if name not in ("end", "init"):
                np.testing.assert_array_equal(part, whole, path)
        else:
            axis = whole.dims.index(main)
            wanted = whole.values[(slice(None),) * axis + (numpy_index,)]
            np.testing.assert_array_equal(part.values, wanted, path)
            assert part.dtype.kind == "U" or part.dtype == whole.dtype
            is_one = isinstance(index, (int, np.integer))
            assert (main in part.dims) != is_one


def _of_flows(whole, index):
    values = whole.values.reshape(2, NUM, *whole.shape[1:])[:, index]
    return values.reshape(-1, *whole.shape[1:])


def _variables(tree):
    """All variables of a tree by path; a coordinate that one member may lack left out."""
    for node in tree.subtree:
        dataset = node.to_dataset(inherit=False)
        for name in sorted(map(str, dataset.variables)):
            yield f"{node.path.rstrip('/')}/{name}", dataset[name].variable


def test_length_and_iteration(result):
    members = list(result)
    assert len(members) == len(result) == result.dataset.sizes[result.dimension]
    for number, member in enumerate(members):
        assert_results_same(member, result[number])


def test_numbers_of_members_stay_with_them():
    found = solution(20)[10:20]
    assert found.dataset["init"].values.tolist() == list(range(10, 20))
    assert found[3].dataset["init"].item() == 13
    assert found[[1, 0]].dataset["init"].values.tolist() == [11, 10]
    assert jf.concat([found[5:], found[3]]).members.tolist() == [15, 16, 17, 18, 19, 13]
    assert solution(20)[:10].members is None  # 0, 1, …


def test_ends_are_numbered_anew_where_points_are_left_out():
    points = kkt_points()
    assert points[[3, 0]].ends.tolist() == [1, 0, -1, -3, -3, 1, -2, 0]
    assert points[1].ends.tolist() == [-3, -3, -1, 0, -3, -3, -2, -3]
    assert points[1].share == points.share[1]
    assert "at points left out: 2" in repr(points[[3, 0]])


def test_single_result_has_no_members(result):
    for one in (result[0], solution_of(network())):
        for ask in (len, list, lambda one: one[0]):
            with pytest.raises(NoAxisError, match=r"without an axis; expected .*\.$"):
                ask(one)
        with pytest.raises(TypeError):
            len(one)


@pytest.mark.parametrize(
    ("index", "found"),
    [
        (99, "99"),
        (-99, "-99"),
        ([0, 99], "99"),
        (1.0, "1.0"),
        ("loss", "'loss'"),
        (None, "None"),
        (..., "Ellipsis"),
        (True, "True"),
        ((0, 1), r"\(0, 1\)"),
        (np.array([True]), "a mask of 1"),
        (np.array([0.5]), "array"),
        (np.zeros((1, 1), int), "array"),
        (slice("a", None), "slice"),
        (slice(None, None, 0), "slice"),
        ([[0], [0, 1]], "list"),
    ],
)
def test_wrong_index_is_explained(result, index, found):
    with pytest.raises(jf.InputError, match=rf"^index: found {found}.*; expected .*\.$"):
        result[index]


# -- joining --


@pytest.mark.parametrize("cuts", [(2,), (0, 1, 3), (1, 1)])
def test_pieces_joined_are_the_whole_to_the_last_bit(result, cuts):
    ends = [0, *cuts, len(result)]
    pieces = [result[a:b] for a, b in itertools.pairwise(ends)]
    assert_results_same(result, jf.concat(pieces))


def test_members_joined_are_the_whole_to_the_last_bit(result):
    assert_results_same(result, jf.concat(result))
    again = jf.concat([result[0], result[1:3], *result[3:]])
    assert_results_same(result, again)


def test_points_of_two_ensembles_are_counted_on():
    points = kkt_points()
    other = dataclasses.replace(points, member_residual=points.member_residual + 1)
    both = jf.concat([points, other])
    assert len(both) == 8 and both.num_members == 16 and both.num_zero_type == 2
    assert both.ends[8:].tolist() == [4, 7, -1, 5, 6, 4, -2, 7]
    assert both.share[0] == points.share[0] / 2


def test_shorter_rows_are_filled_up():
    points, saddles = kkt_points(), saddle_to_saddle()
    short = dataclasses.replace(points[:2], spectrum=points.spectrum[:2, :3])
    spectrum = jf.concat([short, points[2:]]).spectrum
    assert spectrum.shape == (4, 6) and np.isnan(spectrum[:2, 3:]).all()
    cut = {
        name: getattr(saddles, name)[:, :2]
        for name, value in vars(saddles).items()
        if isinstance(value, np.ndarray) and value.shape[1:2] == (3,)
    }
    both = jf.concat([dataclasses.replace(saddles, **cut), saddles])
    assert both.index[:NUM, 2].tolist() == [-1] * NUM
    assert not both.active[:NUM, 2].any() and np.isnan(both.weights[:NUM, 2]).all()


def test_settings_are_kept_where_they_agree():
    one = solution(settings={"rtol": 1e-6, "solver": "Tsit5"}, attrs={"seed": 1, "a": 2})
    other = solution(settings={"rtol": 1e-6, "solver": "Dopri5"}, attrs={"seed": 2, "a": 2})
    both = jf.concat([one, other])
    assert both.settings == {"rtol": 1e-6} and both.attrs == {"a": 2}


def _other_stats():
    stats = Stats(**{**vars(solution().stats), "num_vjps": None})
    return solution(stats=stats)


def _single_precision():
    return solution_of(network("single precision", NUM), NUM, shared_records(NUM))


@pytest.mark.parametrize(
    ("results", "found"),
    [
        (lambda: [], "none"),
        (lambda: [solution(), kkt_points()], "Solution and KKTPoints"),
        (lambda: [1, 2], "int"),
        (lambda: [solution(), solution(kind="Langevin flow")], 'kind "gradient flow" and'),
        (lambda: [solution(), solution(records=None)], "some with records"),
        (lambda: [solution(), solution(records=own_records(NUM))], "record_over"),
        (lambda: [solution(), solution(blow_up_time=np.ones(NUM))], "blow_up_time in some"),
        (lambda: [solution(), _other_stats()], "num_vjps in some"),
        (lambda: [solution(), _single_precision()], "networks of different"),
        (
            lambda: [solution(), solution(loss=np.ones(NUM, np.float32))],
            "loss of types float32, float64",
        ),
        (
            lambda: [
                solution(),
                solution(
                    records=dataclasses.replace(shared_records(NUM), grid=np.arange(4.0))
                ),
            ],
            "different grids",
        ),
        (
            lambda: [
                kkt_points(),
                dataclasses.replace(
                    kkt_points(), settings={**kkt_points().settings, "order": 4}
                ),
            ],
            "order 3 and 4",
        ),
        (
            lambda: [
                early_convergence(),
                dataclasses.replace(early_convergence(), scales=np.array([0.1, 0.01])),
            ],
            "different scales",
        ),
    ],
)
@pytest.mark.usefixtures("as_users_have_it")
def test_results_that_do_not_fit_together_are_refused(results, found):
    with pytest.raises(jf.InputError, match=rf"^results: found {found}.*; expected .*\.$"):
        jf.concat(results())


# -- on disk --


@pytest.mark.parametrize("part", [slice(None), slice(1, 3), 1])
def test_every_result_survives_the_disk(tmp_path, result, part):
    result[part].save(tmp_path / "run.zarr")
    again = jf.load(tmp_path / "run.zarr")
    assert_results_same(result[part], again)
    assert repr(again) == repr(result[part])
    again.save(tmp_path / "run.zarr", overwrite=True)
    assert_results_same(result[part], jf.load(tmp_path / "run.zarr"))


@pytest.mark.filterwarnings("error")
def test_every_store_opens_in_xarray_alone(tmp_path, result):
    result.save(tmp_path / "run.zarr")
    opened = xarray.open_datatree(
        tmp_path / "run.zarr", engine="zarr", consolidated=False, chunks=None
    )
    found = dict(_variables(opened))
    for path, variable in _variables(result.tree):
        assert found[path].dims == variable.dims
        assert found[path].values.tolist() == variable.values.tolist() or np.array_equal(
            found[path].values, variable.values, equal_nan=True
        )
        assert {"long_name", "units"} <= set(found[path].attrs)


@pytest.mark.filterwarnings("error")
def test_every_group_opens_alone_without_a_warning(tmp_path, result):
    result.save(tmp_path / "run.zarr")
    for node in result.tree.subtree:
        for opened in (
            xarray.open_zarr(tmp_path / "run.zarr", group=node.path),
            xarray.open_zarr(tmp_path / "run.zarr" / node.path.strip("/")),
        ):
            assert set(opened.variables) >= set(node.to_dataset(inherit=False).variables)
            for name in set(node.coords) & set(opened.dims):
                assert opened[name].values.tolist() == node[name].values.tolist()
    assert set(xarray.open_datatree(tmp_path / "run.zarr", engine="zarr").groups) == {
        *(node.path for node in result.tree.subtree),
        "/jaxflow",
    }


def test_weights_are_in_the_tree_with_their_names():
    tree = solution().tree
    first, last = solution().directions.weights
    weights = tree["directions"]
    np.testing.assert_array_equal(weights["weights_0"], first)
    assert weights["weights_1"].dims[0] == "init"
    assert weights["weights_1"].attrs["path"] == ".weights[1]"
    assert weights["init"].values.tolist() == [0, 1, 2, 3, 4]
    assert weights["weights_1"].shape == last.shape
    assert "init" not in solution_of(network()).tree["directions"].dims
    assert kkt_points().tree["networks/weights_0"].dims[0] == "point"
    early = early_convergence().tree
    assert early["limit/directions/weights_0"].dims[0] == "init"
    assert early["flows/directions/weights_0"].dims[0] == "flow"
    rows = ("init", "saddle", "parameter")
    assert saddle_to_saddle().tree["weights/weights"].dims == rows


def test_names_of_weights_are_distinct():
    class Odd(jf.networks.DiagonalLinear):
        pass

    tree = {"init": jnp.ones(2), "a": [jnp.ones(1)], "a_0": jnp.ones(3)}
    odd = solution_of(tree).tree["directions"]
    paths = {name: odd[name].attrs["path"] for name in odd.data_vars}
    assert paths == {"a_0": "['a'][0]", "a_0_": "['a_0']", "init_": "['init']"}


@pytest.mark.parametrize("kind", ["AbstractResult", "os", "Stats"])
def test_only_jaxflows_own_results_are_loaded(tmp_path, kind):
    path = tmp_path / "run.zarr"
    kkt_points().save(path)
    forge_text(path, '"KKTPoints"', f'"{kind}"')
    with pytest.raises(jf.StoreError, match=f"holds a result of the kind '{kind}'"):
        jf.load(path)


def test_results_can_be_pickled(result):
    _ = result.dataset
    assert_results_same(result, pickle.loads(pickle.dumps(result)))


def test_names_of_jaxflow_are_reserved():
    with pytest.raises(jf.InputError, match=r"^attrs: found the name 'jaxflow_format'"):
        solution(attrs={"jaxflow_format": 3})
    attrs = solution(attrs={"kind": "mine", "order": "mine"}).dataset.attrs
    assert attrs["kind"] == attrs["order"] == "mine"
    assert attrs["jaxflow"]["settings"]["order"] == 3


class Counting:
    """Reads networks, and counts how often."""

    def __init__(self, networks):
        self.networks, self.num = networks, 0

    def __call__(self):
        self.num += 1
        return self.networks


def test_weights_are_read_once_and_only_when_they_are_used():
    read = Counting(network("FeedForward", NUM))
    settings = {"network": "FeedForward", "num_parameters": 16}
    whole = solution(read_directions=read, settings=settings)
    part = whole[1:3]
    _ = part.dataset, repr(part), len(part)
    assert read.num == 0
    assert part.directions.weights[0].shape[0] == 2
    assert part.directions is part.directions and read.num == 1


@pytest.mark.filterwarnings("error")
def test_store_of_some_members_of_many(tmp_path):
    whole = solution(8)
    path = tmp_path / "run.zarr"
    store = RunStore(path, {"kind": "gradient flow"}, 4, first=4)
    part = whole[4:]
    store.write(np.arange(4), to_dataset(part), part.directions)
    store.finish(4)
    store.close()
    assert_results_same(part, jf.load(path))
    tree = xarray.open_datatree(path, engine="zarr", consolidated=False, chunks=None)
    assert tree["init"].values.tolist() == [4, 5, 6, 7]
    assert tree["directions/weights_0"].dims[0] == "init"


# -- text and HTML --


def test_html_has_the_cells_of_the_text(result):
    text, page = repr(result), result._repr_html_()
    cells = re.findall(r"<(td|th|div|strong)\b[^>]*>([^<]*)</\1>", page)
    shown = " ".join(html.unescape(cell) for _, cell in cells)
    assert shown.split() == text.split()


def test_html_is_escaped():
    page = early_convergence()._repr_html_()
    assert "&lt;1 - cosine&gt; grows" in page and "<1 - cosine>" not in page


def test_single_results_are_printed(result):
    first, *_ = repr(result[1]).splitlines()
    assert first.split(":")[0] == repr(result).split(":")[0]
    assert "<table>" in result[1]._repr_html_()


# -- statuses --


def test_codes_are_the_same_in_all_runs():
    values, meanings = status_table(["LossBelow_2", "MyStop"])
    table = dict(zip(meanings, values))
    assert table["unfinished"] == 0 and table["max_steps"] == -1 and table["NumSteps"] == 8
    assert table["LossBelow"] == 1 and table["LossBelow_2"] == 129
    assert 2**20 <= table["MyStop"] == status_code("MyStop") < 2**31
    assert status_code("MyStop_2") != status_code("MyStop")
    assert status_code("max_steps_2") >= 2**20  # a name of somebody's own
    assert set(status_table().meanings) < set(meanings)
    assert list(values) == sorted(set(values))


def _with_status(*names):
    return solution(len(names), records=None, status=np.array(names)).dataset


def test_runs_of_different_stops_are_joined_by_xarray():
    one = _with_status("LossBelow", "max_steps")
    other = _with_status("NormAbove", "Time", "stays")
    assert one["status"].dtype == other["status"].dtype == np.int8
    both = xarray.concat([one, other], "init")
    names = ["LossBelow", "max_steps", "NormAbove", "Time", "stays"]
    assert decode(both["status"]).tolist() == names


def test_two_hundred_stops_of_one_run_are_told_apart(tmp_path):
    names = distinct_names(["LossBelow"] * 200)
    assert names[:3] == ("LossBelow", "LossBelow_2", "LossBelow_3")
    found = solution(200, records=None, status=np.array(names))
    assert found.dataset["status"].dtype == np.int32
    assert len(np.unique(found.dataset["status"])) == 200
    found.save(tmp_path / "run.zarr")
    assert jf.load(tmp_path / "run.zarr").status.tolist() == list(names)


def test_codes_have_room_for_all_names_that_can_occur():
    found = solution(2, records=None, status=np.array(["LossBelow", "Time"]))
    assert to_dataset(found, ["LossBelow", "Time"])["status"].dtype == np.int8
    wide = to_dataset(found, ["MyStop"])["status"]
    assert wide.dtype == np.int32 and "MyStop" in wide.attrs["flag_meanings"].split()


def test_names_with_the_same_code_are_refused(monkeypatch):
    monkeypatch.setattr("jaxflow.results._status.status_code", lambda name: 2**21)
    with pytest.raises(jf.InputError, match="One and Two, whose names give the same code"):
        status_table(["One", "Two"])


def test_repeated_names_avoid_those_that_are_taken():
    names = distinct_names(["A", "A_2", "A", "A"])
    assert names == ("A", "A_2", "A_3", "A_4")


# -- small runs --


@pytest.fixture(scope="module")
def small():
    net = jf.FeedForward((3, 4, 1), jf.LeakyReLU(0.5, 2), key=jax.random.key(0))
    x = jf.data.sphere_points(8, 3, key=jax.random.key(1))
    task = jf.data.teacher_student(net, x, target_norm=1.0)
    return jf.sample_ensemble(net, 4, key=jax.random.key(2)), task


def _cut_joined_and_stored(found, path):
    assert_results_same(found, jf.concat([found[:1], *found[1:]]))
    found.save(path)
    assert_results_same(found, jf.load(path))
    assert found._repr_html_()


def test_a_run_with_two_stops_of_one_kind(small, tmp_path):
    ensemble, task = small
    first = jf.LossBelow(np.array([0.49, 0.0, 0.0, 0.49]))
    second = jf.LossBelow(np.array([0.0, 0.48, 0.48, 0.0]))
    options = {"stop": [first, second], "scale": 0.1, "progress": False, **TSIT5}
    found = jf.gradient_flow(ensemble, task, **options)
    names = ["LossBelow", "LossBelow_2", "LossBelow_2", "LossBelow"]
    assert found.status.tolist() == names
    stored = jf.gradient_flow(ensemble, task, **options, store=tmp_path / "stored.zarr")
    assert_results_same(found, stored)
    assert_results_same(found[1:3], stored[1:3])
    assert_results_same(found[2], pickle.loads(pickle.dumps(stored))[2])
    assert stored[1:3].dataset["init"].values.tolist() == [1, 2]
    _cut_joined_and_stored(found, tmp_path / "run.zarr")


def test_a_search_for_kkt_points(small, tmp_path):
    found = jf.find_kkt(*small, progress=False)
    _cut_joined_and_stored(found, tmp_path / "run.zarr")


def test_a_verification(small, tmp_path):
    found = jf.verify_early_convergence(*small, [1e-1, 1e-2], progress=False)
    _cut_joined_and_stored(found, tmp_path / "run.zarr")


def test_a_way_from_saddle_to_saddle(tmp_path):
    net = jf.DiagonalLinear(2, 2, key=jax.random.key(0))
    task = jf.Task(jnp.eye(2), jnp.array([2.0, 1.0]))
    ensemble = jf.sample_ensemble(net, 2, key=jax.random.key(1))
    found = jf.saddle_to_saddle(ensemble, task, scale=1e-4, loss_below=1e-3, progress=False)
    assert math.isfinite(found.final_loss[0])
    _cut_joined_and_stored(found, tmp_path / "run.zarr")


def test_given_networks_are_what_they_are():
    nets = network("FeedForward", 3)
    assert Given(nets)() is nets
