"""What a network is made of beside its arrays: saved, loaded, pickled."""

import collections
import copy
import enum
import functools
import multiprocessing
import pickle
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxflow as jf

from .comparing import assert_same
from .filled import filled
from .problems import TSIT5
from .test_results import product, solution_of

KEY = jax.random.key(0)


@pytest.mark.parametrize("squash", [lambda z: z, functools.partial(lambda z: z)])
def test_what_has_no_name_is_asked_for_when_it_is_loaded(tmp_path, squash):
    solution = solution_of(product(squash))
    solution.save(tmp_path / "run.zarr")
    with pytest.raises(
        jf.StoreError, match=r"\.squash(\.func)? is <function .*lambda.*no name.*network="
    ):
        jf.load(tmp_path / "run.zarr", trust=["tests"])
    loaded = jf.load(tmp_path / "run.zarr", network=product(squash))
    assert_same(solution, loaded)


class Colour(enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    first: object
    second: object


class Doubling:
    def __call__(self, z):
        return 2 * z


def steep(z):
    return 2 * z


def leaky(z, slope):
    return jnp.where(z > 0, z, slope * z)


class WithShared(eqx.Module):
    shared: eqx.nn.Shared

    def __call__(self, x):
        encode, decode = self.shared()
        return decode(encode(x))


def shared_network():
    linear = lambda key: eqx.nn.Linear(3, 3, use_bias=False, key=key)
    return WithShared(eqx.nn.Shared((linear(KEY), linear(KEY)), second_of, first_of))


def first_of(pair):
    return pair[0].weight


def second_of(pair):
    return pair[1].weight


KNOWN_PARTS = {
    "partial": functools.partial(jax.nn.leaky_relu, negative_slope=0.25),
    "pytree partial": jax.tree_util.Partial(jnp.power, 2.0),
    "equinox partial": eqx.Partial(jnp.maximum, 0.5),
    "jit": jax.jit(jax.nn.elu),
    "jit of a partial": jax.jit(functools.partial(jax.nn.elu, alpha=0.5)),
    "filter_jit": eqx.filter_jit(jax.nn.softplus),
}
PARTS_OF_ONES_OWN = {
    "partial": functools.partial(leaky, slope=0.25),
    "jit": jax.jit(leaky, static_argnames="slope"),
    "no state": Doubling(),
}
CONSTANTS = {
    "enum": Colour.RED,
    "enum of JAX": jax.lax.Precision.HIGHEST,
    "dtype": np.dtype("float32"),
    "dtype of JAX": jnp.dtype("bfloat16"),
    "type of numbers": jnp.float32,
    "type of NumPy": np.float16,
    "type of Python": float,
    "number": np.float32(0.1),
    "complex": 1 + 2j,
    "named tuple": Pair(1, (2.5, None)),
    "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
    "numbered": {2: "b", 1: "a"},
    "infinite": float("inf"),
}


@pytest.mark.parametrize("part", KNOWN_PARTS)
def test_functions_made_of_known_ones_are_saved(tmp_path, part):
    net = jf.FeedForward((3, 4, 1), KNOWN_PARTS[part], key=KEY)
    solution = solution_of(filled(lambda: net))
    solution.save(tmp_path / "run.zarr")
    loaded = jf.load(tmp_path / "run.zarr")
    x = jnp.linspace(-1.0, 1.0, 3)
    np.testing.assert_array_equal(loaded.directions(x), solution.directions(x))
    function = loaded.directions.activation
    np.testing.assert_array_equal(function(x), KNOWN_PARTS[part](x))


@pytest.mark.parametrize("part", PARTS_OF_ONES_OWN)
def test_functions_made_of_ones_own_are_saved(tmp_path, part):
    squash = PARTS_OF_ONES_OWN[part]
    solution_of(product(squash)).save(tmp_path / "run.zarr")
    with pytest.raises(jf.StoreError, match=r"names tests.*trust=.*network="):
        jf.load(tmp_path / "run.zarr")
    loaded = jf.load(tmp_path / "run.zarr", trust=["tests"]).directions.squash
    z, settings = jnp.linspace(-1.0, 1.0, 3), {"slope": 0.25} if part == "jit" else {}
    np.testing.assert_array_equal(loaded(z, **settings), squash(z, **settings))


@pytest.mark.parametrize("constant", CONSTANTS)
def test_constants_are_saved(tmp_path, constant):
    wanted = CONSTANTS[constant]
    net = eqx.tree_at(
        lambda net: net.squash, product(), wanted, is_leaf=lambda node: node is jnp.tanh
    )
    solution_of(net).save(tmp_path / "run.zarr")
    found = jf.load(tmp_path / "run.zarr", trust=["tests"]).directions.squash
    assert found == wanted
    assert type(found) is type(wanted)


def test_shared_weights_are_saved_once(tmp_path):
    solution = solution_of(filled(shared_network))
    solution.save(tmp_path / "run.zarr")
    loaded = jf.load(tmp_path / "run.zarr", trust=["tests"])
    assert len(loaded.tree["directions"].data_vars) == 1
    x = jnp.ones(3)
    np.testing.assert_array_equal(loaded.directions(x), solution.directions(x))


@pytest.mark.parametrize("squash", [jax.nn.relu, jax.jit(steep), KNOWN_PARTS["partial"]])
@pytest.mark.parametrize("way", ["pickle", "deepcopy", "copy"])
def test_solutions_pickle_whatever_function_is_in_them(squash, way):
    """What jax.jit and jax.custom_jvp return cannot be pickled as it is."""
    ways = {
        "pickle": lambda each: pickle.loads(pickle.dumps(each)),
        "deepcopy": copy.deepcopy,
        "copy": copy.copy,
    }
    solution = solution_of(product(squash))
    for _ in range(2):  # before and after its parts were read
        again = ways[way](solution)
        x = jnp.linspace(-1.0, 1.0, 3)
        np.testing.assert_array_equal(
            again.directions.factors["a"], solution.directions.factors["a"]
        )
        assert again.directions(x).tolist() == solution.directions(x).tolist()
        _ = solution.tree, solution.networks, solution.dataset


def mean_output(solution):
    return float(solution.loss), np.mean(solution.networks(jnp.ones(3))).item()


def test_solution_of_a_store_goes_to_another_process(tmp_path):
    """It is read there: a process that is spawned has nothing of this one."""
    net = jf.FeedForward((3, 1), jax.nn.relu, key=KEY)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 3)))
    options = {"stop": jf.Time(0.1), "coordinates": "cartesian", "progress": False}
    path = tmp_path / "run.zarr"
    task = jf.Task(x, x[:, 0])
    stored = jf.gradient_flow(net, task, **options, store=path, **TSIT5)
    loaded = jf.load(path)
    _ = loaded.networks, loaded.tree
    for each in (stored, loaded):
        assert_same(each, pickle.loads(pickle.dumps(each)))
        assert_same(each, copy.deepcopy(each))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.map(mean_output, [stored, loaded])
    assert found == [pytest.approx(mean_output(stored), rel=1e-5)] * 2  # in float32 there
