"""Every public callable with a call that works, and what each of its arguments is.

A kind of argument has values that are wrong for it, whatever the function. So a function
that is added here with a word for each of its arguments is tested with all of them.
"""

import dataclasses
import functools
import inspect
import itertools
import pathlib
import re
import tempfile
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import optax

import jaxflow as jf
from jaxflow import kkt, networks, solvers, stops
from jaxflow.runs._execution import Execution

matplotlib.use("Agg")
NUM = 4

# -- what the calls are made of, each made once --


@functools.cache
def key():
    return jax.random.key(0)


@functools.cache
def network():
    return jf.FeedForward((2, 3, 1), jf.LeakyReLU(0.5), key=key())


@functools.cache
def one_variable():
    return jf.FeedForward((1, 3, 1), jf.LeakyReLU(0.5), biases=True, key=key())


@functools.cache
def ensemble():
    return jf.sample_ensemble(network(), NUM, key=key())


@functools.cache
def inputs():
    return np.random.default_rng(0).standard_normal((5, 2))


@functools.cache
def task():
    return jf.Task(inputs(), np.sin(inputs()[:, 0]))


@functools.cache
def signs():
    return jf.Task(inputs(), np.where(inputs()[:, 0] > 0, 1.0, -1.0), "logistic")


@functools.cache
def optimizer():
    return optax.sgd(0.1)


@functools.cache
def simulation():
    return jf.Simulation(jf.GradientFlow(), ensemble(), task(), stop=jf.RescaledTime(0.1))


@functools.cache
def solution():
    record = jf.Record({"norm": jf.norm}, [0.0, 0.1])
    flow = jf.GradientFlow()
    stop = jf.RescaledTime(0.1)
    return jf.run(jf.Simulation(flow, ensemble(), task(), stop=stop, record=record))


@functools.cache
def with_weights():
    functions = {"weights": jf.weights, "singular_values": jf.singular_values}
    record = jf.Record(functions, [0.0, 0.1])
    flow, stop = jf.GradientFlow(), jf.RescaledTime(0.1)
    return jf.run(jf.Simulation(flow, ensemble(), task(), stop=stop, record=record))


@functools.cache
def swept():
    import xarray

    dims = ("depth", "scale", "init")
    data = {
        "final_loss": (dims, np.ones((2, 2, NUM))),
        "status": (dims, np.full((2, 2, NUM), "minimum")),
    }
    return xarray.Dataset(data, {"depth": [2, 3], "scale": [0.1, 0.01]})


@functools.wraps(jf.plot.neurons_animation)
def _animated(*args, **kwargs):
    """Drawn once: matplotlib warns of animations that nobody looks at."""
    animation = jf.plot.neurons_animation(*args, **kwargs)
    plt.gcf().canvas.draw()
    return animation


def linear():
    return jf.FeedForward((2, 1), jf.LeakyReLU(), key=key())


@functools.cache
def points():
    return jf.find_kkt(jf.sample_ensemble(linear(), NUM, key=key()), task())


@functools.cache
def journey():
    net = jf.DiagonalLinear(2, 2, key=key())
    return jf.saddle_to_saddle(net, task(), scale=1e-2, solver=None, max_saddles=1)


def on_axis():
    """A KKT point of `of_axes`: the first coordinate alone."""
    network = jf.DiagonalLinear(2, 2, key=key())
    first = (jnp.array([[1.0, 0.0]]),) * 2
    return eqx.tree_at(lambda n: n.factors, network, first)


def of_axes():
    return jf.Task(np.eye(2), np.array([2.0, 1.0]))


@functools.cache
def way():
    return jf.limiting_path(on_axis(), of_axes(), points=20, solver=diffrax.Tsit5())


@functools.cache
def early():
    return jf.verify_early_convergence(**of_early_phase(), scales=[1e-2, 1e-3])


def of_early_phase():
    drawn = jf.sample_ensemble(jf.DiagonalLinear(3, 2, key=key()), 1, key=key())
    return {"networks": drawn, "task": jf.Task(np.eye(2), np.array([1.0, 0.5]))}


@functools.cache
def of_demo():
    """A dataset with all that `jaxflow.plot.early_phase` reads."""
    import xarray

    some = np.linspace(0.1, 0.9, NUM * 3).reshape(NUM, 3)
    two = ("init", "rescaled_time")
    return xarray.Dataset(
        {
            **dict.fromkeys(("norm", "cosine", "loss"), (two, some)),
            "stable_rank": ((*two, "layer"), np.stack([some, some], -1)),
            "blow_up_time": ("init", np.ones(NUM)),
            "kkt_value": ("init", np.ones(NUM)),
            "scale": ("init", np.full(NUM, 0.1)),
        },
        {"rescaled_time": (two, some)},
        {"jaxflow": {"settings": {"order": 3}}},
    )


class Refuses:
    """Neither an array nor a number, and not even to be written down."""

    def __repr__(self):
        raise ValueError("no")

    def __array__(self, *args, **kwargs):
        raise ValueError("no array")


# -- kinds of arguments --


class Kind(NamedTuple):
    """Values that are wrong for an argument, and others that are right, all by name."""

    wrong: Mapping[str, Any]
    right: Mapping[str, Any] = types.MappingProxyType({})


def but(kind: Kind, **right: Any) -> Kind:
    """A kind for which these values are right too, and no longer wrong."""
    wrong = {name: value for name, value in kind.wrong.items() if name not in right}
    return Kind(wrong, {**kind.right, **right})


def optional(kind: Kind) -> Kind:
    return but(kind, none=None)


def more(kind: Kind, **wrong: Any) -> Kind:
    return Kind({**kind.wrong, **wrong}, kind.right)


_THINGS = {
    "none": None,
    "a_word": "x",
    "bytes": b"x",
    "a_dict": {"a": 1.0},
    "a_set": {1.0},
    "a_class": jf.LeakyReLU,
    "a_function": lambda *args: 1.0,
    "an_object": object(),
    "no_repr": Refuses(),
    "a_list": ["a", None],
    "a_generator": lambda: (word for word in "abc"),
}
_NO_NUMBERS = {
    **_THINGS,
    "a_number_in_words": "0.5",
    "true": True,
    "numpy_true": np.True_,
    "nan": float("nan"),
    "nan_of_jax": jnp.asarray(np.nan),
    "huge": 10**400,
    "beyond_words": 10**5000,
    "complex": 0.5 + 0j,
    "complex_0d": np.array(0.5 + 0j),
    "masked": np.ma.masked_array(0.5, mask=True),
    "a_date": np.datetime64("2026-01-01"),
    "a_duration": np.timedelta64(1, "s"),
    "ragged": [[0.5], [0.5, 0.5]],
}
_NO_NUMBER = {**_NO_NUMBERS, "two": np.array([0.5, 0.5]), "list": [0.5], "empty": []}
knots_of_neurons = Kind(
    {k: v for k, v in _NO_NUMBERS.items() if k not in ("nan", "nan_of_jax")},
    {"with_nan": [0.5, np.nan, 1.0], "infinite": np.array([np.inf, 1.0, 2.0])},
)
_INFINITE = {"infinity": float("inf"), "minus_infinity": -np.inf}
_NEGATIVE = {
    "negative": -0.5,
    "negative_0d": np.array(-0.5),
    "negative_of_jax": -jnp.ones(()),
}

real = Kind(
    {**_NO_NUMBER, **_INFINITE},
    {
        "half": 0.5,
        "0d": np.array(0.5),
        "of_jax": jnp.asarray(0.5),
        "float32": np.float32(0.5),
    },
)
not_negative = more(real, **_NEGATIVE)
positive = more(not_negative, zero=0.0)
share = more(positive, one=1.0, two_=2.0)
a_temperature = more(
    but(positive, a_function=lambda time: 1.0, stages=[(0, 0.1), (2.0, 0.0)]),
    of_two=lambda time: jnp.ones(2),
    below_zero=lambda time: -1.0,
    later=[(1.0, 0.1)],
    back=[(0.0, 0.1), (0.0, 0.2)],
    one_below=[(0.0, 0.1), (1.0, -0.2)],
    triples=[(0.0, 0.1, 0.2)],
)
at_least_one = more(
    Kind(positive.wrong, {"two_": 2, "0d_two": np.array(2.0)}), half=0.5, zero=0
)
slope = more(not_negative, above=1.5)
_NO_WHOLE = {**_NO_NUMBER, **_INFINITE, "half": 0.5, "half_0d": np.array(0.5)}
natural = Kind(
    {**_NO_WHOLE, "negative": -1, "most": 2**64, "three_in_words": "3"},
    {"int64": np.int64(2), "0d": np.array(2), "of_jax": jnp.asarray(2), "float": 2.0},
)
count = more(natural, zero=0)

_EACH = {**_NO_NUMBERS, **_INFINITE, "matrix": np.ones((NUM, 1))}
_BAD_MEMBERS = {
    "one_nan": np.array([0.5, np.nan, 0.5, 0.5]),
    "one_masked": np.ma.masked_array(np.full(NUM, 0.5), mask=[0, 1, 0, 0]),
    "one_true": [0.5, True, 0.5, 0.5],
    "one_word": [0.5, "0.5", 0.5, 0.5],
    "one_huge": [0.5, 10**400, 0.5, 0.5],
    "one_none": [0.5, None, 0.5, 0.5],
    "words": np.array(["0.5"] * NUM),
    "objects": np.array([0.5] * NUM, object),
    "truth": np.ones(NUM, bool),
}
threshold = Kind(
    {**_EACH, **_BAD_MEMBERS},
    {**real.right, "each": np.full(NUM, 0.5), "list": [0.5] * NUM},
)
not_negative_each = more(threshold, **_NEGATIVE, one_negative=[0.5, -1.0, 0.5, 0.5])
positive_each = more(not_negative_each, zero=0.0)
scale = more(positive_each, too_many=np.ones(NUM + 1), matrix=np.ones((NUM, 1)))
scale_of_one = Kind({**scale.wrong, "each": np.full(NUM, 0.5)}, real.right)

flag = Kind(
    {**_THINGS, "one": 1, "zero": 0, "yes": "yes"}, {"true": True, "numpy": np.False_}
)
# What an ensemble is, its shapes say: only the answer that fits them is right.
is_ensemble = Kind({k: v for k, v in flag.wrong.items() if k != "none"}, {"none": None})
_KEYS = {
    **_THINGS,
    "zero": 0,
    "seed": 3,
    "true": True,
    "batch": jax.random.split(jax.random.key(0), 3),
    "floats": np.ones(2),
    "of_jax": jnp.ones(2),
    "long": np.ones(5, np.uint32),
    "masked": np.ma.masked_array(np.ones(2, np.uint32), mask=True),
}
random_key = Kind(_KEYS, {"other": jax.random.key(1), "raw": jax.random.PRNGKey(1)})
typed_key = Kind({**_KEYS, "raw": jax.random.PRNGKey(1)}, {"other": jax.random.key(1)})
dtype = Kind(
    {
        **{name: value for name, value in _THINGS.items() if name != "none"},
        "int": int,
        "int32": "int32",
        "complex": jnp.complex64,
        "bool": np.bool_,
        "true": True,
        "zero": 0,
        "an_array": np.ones(3),
    },
    {"none": None, "float32": jnp.float32, "name": "float32"},
)
sizes = Kind(
    {
        **_NO_WHOLE,
        "an_int": 3,
        "0d": np.array(3),
        "empty": [],
        "zero": (0, 3),
        "negative": (3, -1),
        "fractions": (2.5, 3),
        "infinite": (np.inf, 3),
        "truth": (True, True),
        "digits": "33",
        "huge": (10**400, 3),
        "nested": ((3,), (3,)),
    }
)
_NO_NETWORK = {
    **_THINGS,
    "a_number": 1.0,
    "weights": [np.ones((3, 2))],
    "an_array": np.ones((3, 2)),
    "a_task": task,
    "no_arrays": eqx.nn.Identity(),
}
a_module = Kind({k: v for k, v in _NO_NETWORK.items() if k not in ("a_task", "no_arrays")})
one_network = Kind({**_NO_NETWORK, "ensemble": ensemble})
trainable = Kind(
    {
        **{name: value for name, value in _THINGS.items() if name != "none"},
        "a_number": 1.0,
        "zero": 0,
        "nothing": False,
        "another_structure": lambda: {"weights": True},
        "floats": lambda: jax.tree_util.tree_map(lambda _: 1.0, network()),
    },
    {"none": None, "all": True, "arrays": lambda: eqx.is_inexact_array},
)
distribution = Kind(
    {**_THINGS, "a_number": 1.0, "the_class": jf.AbstractDistribution},
    {name: name for name in ("sphere", "gaussian", "uniform")},
)
of_layer = Kind(
    {name: value for name, value in distribution.wrong.items() if name != "a_function"},
    {**distribution.right, "signs": "signs", "of_jax": lambda: jax.nn.initializers.ones},
)
layers = Kind(
    {**_THINGS, "a_number": 1.0, "a_numbered": {0: "gaussian"}},
    {
        "empty": {},
        "own": {"weights[0]": jf.Signs(), "weights[1]": jax.nn.initializers.ones},
    },
)
# Iterables are taken for iterators of networks, and looked into.
some_networks = Kind(
    {**_NO_NETWORK, "of_another_size": lambda: jf.DiagonalLinear(2, 7, key=key())},
    {"drawn": lambda: jf.Initializations(network(), NUM, key=key())},
)
a_task = Kind(
    {**_THINGS, "a_network": network, "a_pair": lambda: (inputs(), inputs()[:, 0])}
)
data = Kind(
    {
        **_NO_NUMBERS,
        "a_number": 1.0,
        "0d": np.array(1.0),
        "empty": [],
        "infinite": np.array([1.0, np.inf]),
        "one_masked": np.ma.masked_array(np.ones(5), mask=[1, 0, 0, 0, 0]),
        "objects": np.array([1.0, None]),
        "records": np.zeros(5, [("a", float)]),
        "dates": np.zeros(5, "datetime64[s]"),
        "keys": jax.random.split(jax.random.key(0), 5),
        "another_length": np.ones(7),
    }
)
weights = Kind(
    {
        **{name: value for name, value in _NO_NUMBERS.items() if name != "none"},
        **{"a_number": 1.0, "zeros": np.zeros(5), "too_many": np.ones(6)},
        **{"negative": -np.ones(5), "infinite": np.array([1.0, np.inf, 1.0, 1.0, 1.0])},
    },
    {"none": None, "ones": np.ones(5)},
)
# JAX arrays are taken for those of a task, which are checked.
samples = Kind(
    {k: v for k, v in _NO_NUMBERS.items() if k not in ("none", "nan_of_jax")},
    {"none": None},
)
loss = Kind({**_THINGS, "a_number": 1.0, "the_class": jf.SquareLoss, "typo": "squared"})
regularizer = Kind(
    {
        **{name: value for name, value in _THINGS.items() if name != "none"},
        **{"a_number": 0.1, "the_class": jf.L2, "a_loss": jf.SquareLoss()},
    }
)
activation = Kind(
    {
        **{name: value for name, value in _THINGS.items() if name != "a_function"},
        "a_number": 1.0,
        "no_parentheses": jf.LeakyReLU,
        "of_two": jnp.matmul,
        "sums": jnp.sum,
        "returns_none": lambda x: None,
        "raises": lambda x: 1 / 0,
    },
    {"of_jax": jax.nn.relu},
)
leaky = Kind({**_THINGS, "a_number": 1.0, "of_jax": jax.nn.relu})
a_word = Kind({**_THINGS, "a_number": 1.0, "zero": 0, "an_array": np.array(["a", "b"])})
stop = Kind(
    {
        **{k: v for k, v in _THINGS.items() if k not in ("none",)},
        "a_number": 1.0,
        "the_class": jf.LossBelow,
        "nested": lambda: [[jf.LossBelow(0.1)]],
        "with_a_number": lambda: [jf.LossBelow(0.1), 3],
        "with_none": [None],
        "zero": 0,
        "false": False,
        "an_array": np.ones(2),
        "too_many": lambda: jf.LossBelow(np.ones(NUM + 1)),
    },
    {"none_at_all": (), "one": lambda: jf.LossBelow(0.1)},
)
solver = Kind(
    {
        **{name: value for name, value in _THINGS.items() if name != "none"},
        "a_number": 1.0,
        "zero": 0,
        "false": False,
        "the_class": diffrax.Tsit5,
        "name": "Tsit5",
        "an_array": np.array(["auto", "auto"]),
        "a_controller": diffrax.ConstantStepSize(),
    },
    {"none": None, "other": diffrax.Bosh3(), "auto": "auto"},
)
of_noise = Kind(
    {**solver.wrong, "auto": "auto", "of_odes": diffrax.Tsit5()},
    {"none": None, "euler": diffrax.Euler()},
)
controller = Kind(
    {
        **{name: value for name, value in _THINGS.items() if name != "none"},
        "a_number": 1.0,
        "the_class": diffrax.PIDController,
        "an_array": np.ones(2),
    },
    {"none": None},
)
an_optimizer = Kind({**_THINGS, "a_number": 0.1, "the_function": optax.sgd})
stepping = Kind(
    {
        **{name: value for name, value in _THINGS.items() if name != "none"},
        "a_solver": diffrax.Tsit5(),
        "zero": 0,
        "false": False,
        "the_class": jf.Stepping,
    },
    {"none": None, "given": lambda: jf.Stepping(dt0=0.1)},
)
functions = Kind(
    {
        **{name: value for name, value in _THINGS.items() if name != "none"},
        "zero": 0,
        "false": False,
        "a_list_of_them": [jf.norm],
        "no_function": {"a": 3},
        "two_words": {"two words": jf.norm},
        "no_word": {3: jf.norm},
        "a_name_of_ours": {"status": jf.norm},
    }
)
recorded = more(
    functions,
    raises={"a": lambda network, task: 1 / 0},
    of_one={"a": lambda network: 1.0},
    gives_none={"a": lambda network, task: None},
    gives_a_word={"a": lambda network, task: "norm"},
    the_class={"a": jf.LeakyReLU},
)
a_record = Kind(
    {
        **{name: value for name, value in _THINGS.items() if name != "none"},
        "zero": 0,
        "false": False,
        "functions": {"a": jf.norm},
        "the_class": jf.Record,
    },
    {"none": None},
)
grid = Kind(
    {
        **_NO_NUMBERS,
        "a_number": 0.5,
        "0d": np.array(0.5),
        "one_point": 1,
        "fewer": -3,
        "empty": [],
        "falling": [0.2, 0.1],
        "twice": [0.1, 0.1],
        "infinite": [0.0, np.inf],
        "with_nan": [0.0, np.nan],
        "masked": np.ma.masked_array([0.1, 0.2], mask=[0, 1]),
        "in_words": ["0.1", "0.2"],
        "truth": [False, True],
        "cube": np.ones((NUM, 1, 1)),
        "a_huge_one": [0, 10**400],
    }
)
schedule = Kind(
    {
        **{name: value for name, value in _THINGS.items() if name != "none"},
        "a_number": 8,
        "zero": 0,
        "the_class": jf.Schedule,
    },
    {"none": None, "given": lambda: jf.Schedule(width=8)},
)
devices = Kind(
    {
        **{k: v for k, v in _THINGS.items() if k not in ("none",)},
        "empty": [],
        "one": lambda: jax.devices()[0],
        "numbers": [0],
        "an_array": np.arange(2),
    },
    {"none": None, "all": jax.devices},
)
attrs = Kind(
    {
        **{k: v for k, v in _THINGS.items() if k not in ("none", "a_dict")},
        "zero": 0,
        "false": False,
        "a_list_of_names": ["seed"],
        "no_word": {3: 1.0},
    },
    {"none": None, "some": {"seed": 0}},
)
a_result = Kind({**_THINGS, "a_number": 1.0, "a_task": task, "an_array": np.ones(3)})
ax = Kind(
    {
        **{name: value for name, value in _THINGS.items() if name != "none"},
        "a_number": 1.0,
        "many": lambda: [plt.figure().subplots()],
    },
    {"none": None},
)
axes = Kind(
    {
        **{name: value for name, value in _THINGS.items() if name != "none"},
        "a_number": 1.0,
        "one": lambda: plt.figure().subplots(),
        "too_few": [],
        "no_axes": [1, 2, 3, 4],
    },
    {"none": None},
)
rows = Kind(
    {
        **{k: v for k, v in _NO_WHOLE.items() if k != "empty"},
        "a_number": 1,
        "0d": np.array(1),
        "negative": [-1],
        "beyond": [99],
        "fractions": [0.5],
        "truth": [True, False, True, False, True],
        "matrix": [[0]],
    }
)
choices = a_word
against = Kind(
    {k: v for k, v in _NO_NUMBERS.items() if k not in ("none",)}
    | {"long": np.ones(9), "matrix": np.ones((2, 9))},
    {"none": None},
)
member_number = optional(
    Kind(
        {**_NO_WHOLE, "negative": -1, "beyond": NUM, "most": 2**64},
        {"zero": 0, "int64": np.int64(2), "0d": np.array(2)},
    )
)
plane = Kind(
    {
        **{name: value for name, value in _NO_NUMBERS.items() if name != "none"},
        **{"a_number": 1.0, "one_direction": [[1.0, 0.0]], "three_inputs": np.eye(2, 3)},
        **{"zero": np.zeros((2, 2)), "the_same_twice": [[1.0, 2.0], [2.0, 4.0]]},
        **{"infinite": [[1.0, np.inf], [0.0, 1.0]]},
    },
    {"none": None, "turned": [[1.0, 1.0], [0.0, 1.0]]},
)
path = Kind(
    {
        **{"a_number": 3, "true": True, "a_list": ["a"], "a_dict": {}},
        **{"an_object": object(), "bytes": b"run.zarr", "huge": 10**400},
        **{"empty": "", "zero_byte": "run\0.zarr", "url": "s3://bucket/run.zarr"},
        "nobodys_home": "~no_such_user/run.zarr",
    }
)
trusted = Kind(
    {
        **{"a_number": 3, "true": True, "none": None, "numbers": [1], "empty": [""]},
        **{"a_class": jf.FeedForward, "an_object": object(), "nested": [["numpy"]]},
    },
    {"a_word": "numpy", "a_module": np, "several": [np, "jax"]},
)

# -- the table --


class Row(NamedTuple):
    """A public callable, arguments that it works with, and the kind of each of all."""

    call: Callable
    valid: Callable[[], dict[str, Any]]
    kinds: dict[str, Kind]
    open: tuple[str, ...] = ()  # arguments that are looked at elsewhere


_EXECUTION = {
    "schedule": schedule,
    "progress": optional(flag),
    "attrs": attrs,
    "store": path,
}
_FLOW = {
    "networks": some_networks,
    "task": a_task,
    "stop": stop,
    "record": recorded,
    "record_at": grid,
    "record_over": optional(a_word),
    "ensemble": is_ensemble,
    "trainable": trainable,
    **_EXECUTION,
}
_STEPPED = {
    "solver": solver,
    "rtol": optional(positive),
    "atol": optional(not_negative),
    "max_steps": count,
    "stepping": stepping,
}
_MADE = {"key": random_key, "dtype": dtype}
_DRAWN = {"progress": False, "schedule": None}


def _flow(**others: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {
        "networks": ensemble(),
        "task": task(),
        "record": {"norm": jf.norm},
        "record_at": [0.0, 0.05],
        "progress": False,
        **{name: v() if callable(v) else v for name, v in others.items()},
    }


def _observable(task_of: Callable = task) -> Callable[[], dict[str, Any]]:
    return lambda: {"network": network(), "task": task_of()}


_OF_WEIGHTS = {"network": one_network, "task": optional(a_task)}
_OF_BOTH = {"network": one_network, "task": a_task}
_fixed = lambda **values: lambda: values

ROWS: dict[str, Row] = {
    # networks
    "LeakyReLU": Row(
        jf.LeakyReLU,
        _fixed(slope=0.5, power=2, smoothing=0.1),
        {"slope": slope, "power": count, "smoothing": not_negative},
    ),
    "SmoothLeakyReLU": Row(
        jf.SmoothLeakyReLU,
        _fixed(slope=0.5, sharpness=2.0),
        {"slope": slope, "sharpness": positive},
    ),
    "FeedForward": Row(
        jf.FeedForward,
        lambda: {"sizes": (2, 3, 1), "activation": jf.LeakyReLU(), "key": key()},
        {
            "sizes": more(sizes, one=(3,)),
            "activation": activation,
            "biases": but(flag, numpy=False, first="first"),
            "output_scale": positive,
            **_MADE,
        },
    ),
    "ConvNet": Row(
        jf.ConvNet,
        lambda: {
            "input_shape": (1, 4),
            "channels": (2,),
            "out_size": 1,
            "activation": jf.LeakyReLU(),
            "kernel_size": 2,
            "key": key(),
        },
        {
            "input_shape": more(sizes, one=(3,)),
            "channels": sizes,
            "out_size": count,
            "activation": activation,
            "kernel_size": count,
            "stride": count,
            "padding": choices,
            **_MADE,
        },
    ),
    "DiagonalLinear": Row(
        jf.DiagonalLinear,
        lambda: {"depth": 2, "in_size": 3, "key": key()},
        {"depth": count, "in_size": count, "out_size": count, **_MADE},
    ),
    "GRU": Row(
        jf.GRU,
        lambda: {"in_size": 1, "hidden_size": 2, "key": key()},
        {
            **dict.fromkeys(("in_size", "hidden_size", "out_size"), count),
            "use_bias": flag,
            **_MADE,
        },
    ),
    "all_but": Row(
        jf.all_but, lambda: {"network": network()}, {"network": a_module}, open=("names",)
    ),
    "Gaussian": Row(
        jf.Gaussian, dict, {"deviation": optional(positive), "biases": not_negative}
    ),
    "Uniform": Row(jf.Uniform, dict, {"bound": optional(positive), "biases": not_negative}),
    "Signs": Row(jf.Signs, dict, {"size": optional(positive)}),
    "ByLayer": Row(
        jf.ByLayer,
        _fixed(layers={"weights[0]": "gaussian"}),
        {"layers": layers, "otherwise": of_layer},
    ),
    "Symmetric": Row(jf.Symmetric, dict, {"of": more(distribution, signs="signs")}),
    "order": Row(
        jf.order,
        lambda: {"network": network(), "inputs": inputs()},
        {
            "network": one_network,
            "inputs": but(data, none=None),
            "seed": natural,
            "trainable": trainable,
        },
    ),
    "sample_ensemble": Row(
        jf.sample_ensemble,
        lambda: {"network": network(), "num": 2, "key": key()},
        {
            "network": one_network,
            "num": more(count, many=2**31),
            "key": random_key,
            "trainable": trainable,
            "distribution": distribution,
        },
    ),
    "slice_ensemble": Row(
        jf.slice_ensemble,
        lambda: {
            "center": network(),
            "first": jf.FeedForward((2, 3, 1), jf.LeakyReLU(0.5), key=jax.random.key(1)),
            "second": jf.FeedForward((2, 3, 1), jf.LeakyReLU(0.5), key=jax.random.key(2)),
            "extent": 1.0,
            "resolution": 2,
        },
        {
            "center": one_network,
            "first": one_network,
            "second": one_network,
            "extent": positive,
            "resolution": more(count, one=1),
        },
    ),
    "Initializations": Row(
        jf.Initializations,
        lambda: {"network": network(), "num": 2**33, "key": key()},
        {
            "network": one_network,
            "num": more(natural, beyond=2**63),
            "key": random_key,
            "start": more(natural, beyond=2**63),
            "trainable": trainable,
            "distribution": distribution,
        },
    ),
    "Initializations.members": Row(
        lambda rows: jf.Initializations(network(), NUM, key=key()).members(rows),
        _fixed(rows=np.array([0, 3])),
        {"rows": rows},
    ),
    "networks.as_feed_forward": Row(
        networks.as_feed_forward,
        lambda: {"network": network(), "inputs": inputs()},
        {
            "network": a_module,
            "inputs": samples,
        },
    ),
    "networks.blocks": Row(
        networks.blocks,
        lambda: {"network": network(), "inputs": inputs()},
        {
            "network": a_module,
            "inputs": samples,
        },
    ),
    "networks.layer_matrices": Row(
        networks.layer_matrices, lambda: {"network": network()}, {"network": a_module}
    ),
    "networks.switches": Row(
        networks.switches,
        lambda: {"network": network(), "inputs": inputs()},
        {
            "network": one_network,
            "inputs": Kind({**_NO_NUMBERS, "a_number": 1.0, "long": np.ones((5, 7))}),
        },
    ),
    "networks.flatten": Row(
        networks.flatten, lambda: {"network": network()}, {"network": a_module}
    ),
    "networks.unflattener": Row(
        networks.unflattener, lambda: {"network": network()}, {"network": a_module}
    ),
    "networks.parameter_dtype": Row(
        networks.parameter_dtype,
        lambda: {"network": network()},
        {"network": a_module},
        open=("argument",),  # a word for its message
    ),
    # tasks
    "Task": Row(
        jf.Task,
        lambda: {"inputs": inputs(), "targets": inputs()[:, 0], "loss": "square"},
        {
            "inputs": but(data, another_length=inputs),
            "targets": data,
            "loss": loss,
            "sample_weights": weights,
            "reduction": choices,
            "regularizer": regularizer,
        },
    ),
    "L2": Row(jf.L2, _fixed(strength=0.1), {"strength": not_negative}),
    "TaskPerMember": Row(
        jf.TaskPerMember,
        lambda: {"inputs": np.stack([inputs()] * 2), "targets": np.ones((2, 5))},
        {
            "inputs": more(data, flat=np.ones(5)),
            "targets": more(data, of_one=np.ones(5), of_three=np.ones((3, 5))),
            "loss": loss,
            "sample_weights": more(weights, none_for_one=[[1.0] * 5, [0.0] * 5]),
            "reduction": choices,
            "regularizer": regularizer,
        },
    ),
    "CrossEntropyLoss": Row(
        jf.CrossEntropyLoss,
        dict,
        {"class_weights": but(weights, too_many=np.ones(6))},
    ),
    "Task.subset": Row(
        lambda rows: task().subset(rows), _fixed(rows=np.array([0, 3])), {"rows": rows}
    ),
    "Task.sample": Row(
        lambda key, num: task().sample(key, num),
        lambda: {"key": key(), "num": 2},
        {"key": random_key, "num": more(count, too_many=6)},
    ),
    "data.sphere_points": Row(
        jf.data.sphere_points,
        lambda: {"num": 3, "dim": 2, "key": key()},
        {"num": count, "dim": count, **_MADE},
    ),
    "data.nearly_orthogonal_points": Row(
        jf.data.nearly_orthogonal_points,
        lambda: {"num": 2, "dim": 3, "coherence": 0.05, "key": key()},
        {
            "num": count,
            "dim": more(count, too_few=1),
            "coherence": more(not_negative, one=1.0),
            **_MADE,
        },
    ),
    "data.teacher_student": Row(
        jf.data.teacher_student,
        lambda: {"teacher": network(), "inputs": inputs(), "target_norm": 1.0},
        {
            "teacher": but(one_network, a_function=jnp.sum, no_arrays=eqx.nn.Identity()),
            "inputs": but(data, another_length=inputs),
            "loss": loss,
            "target_norm": optional(positive),
        },
    ),
    "data.digits": Row(
        jf.data.digits,
        _fixed(classes=(3, 8), num=10, seed=1),
        {
            "classes": Kind(
                {
                    **_NO_WHOLE,
                    "one": (3,),
                    "twice": (3, 3),
                    "eleven": (3, 11),
                    "an_int": 3,
                    "0d": np.array(3),
                    "words": ("3", "8"),
                    "truth": (True, False),
                }
            ),
            "num": optional(more(count, too_many=10**6, one=1)),
            "loss": optional(loss),
            "seed": natural,
        },
    ),
    # flows
    "gradient_flow": Row(
        jf.gradient_flow,
        _flow(stop=lambda: jf.RescaledTime(0.1)),
        {**_FLOW, **_STEPPED, "scale": scale, "coordinates": choices},
    ),
    "ncf_flow": Row(
        jf.ncf_flow,
        _flow(stop=lambda: jf.RescaledTime(0.1)),
        {**_FLOW, **_STEPPED},
    ),
    "gradient_descent": Row(
        jf.gradient_descent,
        _flow(optimizer=lambda: optimizer(), num_steps=3, batch_size=2, key=key),
        {
            **_FLOW,
            "scale": scale,
            "optimizer": an_optimizer,
            "num_steps": count,
            "batch_size": more(count, too_many=6),
            "key": typed_key,
        },
    ),
    "langevin_flow": Row(
        jf.langevin_flow,
        _flow(temperature=0.1, time=3.0, step=0.1, key=key),
        {
            **_FLOW,
            "scale": scale,
            "temperature": a_temperature,
            "time": positive,
            "step": more(positive, more_than_the_time=9.0, tiny=1e-30),
            "key": typed_key,
            "solver": of_noise,
        },
    ),
    "GradientFlow": Row(
        jf.GradientFlow,
        _fixed(coordinates="polar"),
        {"coordinates": choices, "order": optional(positive)},
    ),
    "CorrelationLimit": Row(jf.CorrelationLimit, _fixed(), {"order": optional(positive)}),
    "GradientDescent": Row(
        jf.GradientDescent,
        lambda: {
            "optimizer": optimizer(),
            "num_steps": 3,
            "batch_size": 2,
            "key": key(),
        },
        {
            "optimizer": an_optimizer,
            "num_steps": count,
            "batch_size": count,
            "key": typed_key,
        },
    ),
    "Langevin": Row(
        jf.Langevin,
        lambda: {"temperature": 0.1, "time": 3.0, "step": 0.1, "key": key()},
        {
            "temperature": a_temperature,
            "time": positive,
            "step": more(positive, more_than_the_time=9.0, tiny=1e-30),
            "key": typed_key,
            "solver": of_noise,
        },
    ),
    "Stepping": Row(
        jf.Stepping,
        lambda: {"solver": diffrax.Bosh3(), "rtol": 1e-3},
        {
            "solver": solver,
            "rtol": optional(not_negative),
            "atol": optional(not_negative),
            "controller": controller,
            "dt0": optional(positive),
            "max_steps": optional(count),
        },
    ),
    "Record": Row(
        jf.Record,
        lambda: {"functions": {"norm": jf.norm}, "at": [0.0, 1.0], "over": "time"},
        {
            "functions": more(functions, none=None),
            "at": grid,
            "over": optional(but(a_word, a_word="time")),
            "every": optional(count),
        },
    ),
    "Schedule": Row(
        jf.Schedule,
        _fixed(width=8),
        {
            "width": optional(count),
            "steps_per_call": optional(count),
            "pools_per_device": optional(count),
            "devices": devices,
            "checkpoint_seconds": positive,
        },
    ),
    "Simulation": Row(
        jf.Simulation,
        lambda: {"equation": jf.GradientFlow(), "networks": ensemble(), "task": task()},
        {
            "equation": Kind({**_THINGS, "the_class": jf.GradientFlow, "zero": 0}),
            "networks": some_networks,
            "task": a_task,
            "scale": optional(scale),
            "stop": stop,
            "stepping": stepping,
            "record": a_record,
            "ensemble": is_ensemble,
            "trainable": trainable,
        },
    ),
    "Simulation.__getitem__": Row(
        lambda members: simulation()[members],
        _fixed(members=slice(1, 3)),
        {
            "members": Kind(
                {
                    **_NO_WHOLE,
                    "an_int": 1,
                    "steps": slice(0, 4, 2),
                    "words": slice("a", "b"),
                    "fractions": slice(0.5, 2.5),
                }
            )
        },
    ),
    "Simulation.load": Row(
        jf.Simulation.load,
        lambda: {"path": _stored()},
        {"path": path, "trust": trusted},
    ),
    "run": Row(
        jf.run,
        lambda: {"simulation": simulation(), "progress": False},
        {
            "simulation": Kind({**_THINGS, "a_solution": solution, "a_network": network}),
            **_EXECUTION,
        },
    ),
    "sliding_solver": Row(
        jf.sliding_solver,
        lambda: {"solver": diffrax.Bosh3(), "network": network(), "task": task()},
        {
            "solver": Kind(
                {
                    **_THINGS,
                    "auto": "auto",
                    "the_class": diffrax.Bosh3,
                    "implicit": diffrax.Kvaerno5(),
                    "a_number": 1.0,
                }
            ),
            "network": one_network,
            "task": a_task,
            "factor": at_least_one,
            "trainable": trainable,
        },
    ),
    "solvers.Automatic": Row(
        solvers.Automatic,
        _fixed(),
        {
            name: Kind({"a_number": 1.0, "a_word": "x", "an_array": np.ones(2)})
            for name in ("drives", "sides")
        },
    ),
    "solvers.RKC2": Row(
        solvers.RKC2,
        _fixed(),
        {"drives": Kind({"a_number": 1.0, "a_word": "x", "an_array": np.ones(2)})},
    ),
    "solvers.ROCK4": Row(
        solvers.ROCK4,
        _fixed(),
        {"drives": Kind({"a_number": 1.0, "a_word": "x", "an_array": np.ones(2)})},
    ),
    "solvers.kvaerno5": Row(solvers.kvaerno5, _fixed(), {}),
    # stop conditions
    "LossBelow": Row(jf.LossBelow, _fixed(value=0.1), {"value": not_negative_each}),
    "NormAbove": Row(jf.NormAbove, _fixed(value=0.1), {"value": positive_each}),
    "RescaledTime": Row(jf.RescaledTime, _fixed(value=0.1), {"value": positive_each}),
    "Time": Row(jf.Time, _fixed(value=0.1), {"value": positive_each}),
    "LogTime": Row(jf.LogTime, _fixed(value=-0.1), {"value": threshold}),
    "MarginConverged": Row(
        jf.MarginConverged, _fixed(tolerance=0.1), {"tolerance": positive_each}
    ),
    "Stationary": Row(
        jf.Stationary,
        _fixed(tolerance=0.1, gradient=0.1),
        {"tolerance": not_negative_each, "gradient": optional(not_negative_each)},
    ),
    "stops.NumSteps": Row(
        stops.NumSteps,
        _fixed(value=3),
        {"value": Kind({**positive_each.wrong, "half": 0.5}, {"two_": 2})},
    ),
    # observables
    "ncf": Row(jf.ncf, _observable(), _OF_BOTH),
    "loss": Row(jf.loss, _observable(), _OF_BOTH),
    "kkt_residual": Row(jf.kkt_residual, _observable(), {**_OF_BOTH, "relative": flag}),
    **{
        name: Row(getattr(jf, name), _observable(signs), {**_OF_BOTH, "task": a_task_})
        for a_task_ in [more(a_task, without_margins=task)]
        for name in (
            *("margin", "normalized_margin", "margins", "normalized_margins"),
            *("smoothed_normalized_margin", "margin_kkt_residual"),
        )
    },
    **{
        name: Row(getattr(jf, name), _observable(), _OF_WEIGHTS)
        for name in (
            *("norm", "layer_norms", "singular_values", "stable_rank", "weights"),
            *("block_stable_ranks", "block_singular_values"),
        )
    },
    "knots": Row(
        jf.knots,
        lambda: {"network": one_variable(), "task": task()},
        {"network": more(one_network, two_inputs=network), "task": optional(a_task)},
    ),
    "distinct_knots": Row(
        jf.distinct_knots,
        _fixed(position=[0.0, 1.0, 1.1], mass=[1.0, 0.5, 0.5], within=0.2, share=0.1),
        {
            "position": knots_of_neurons,
            "mass": more(knots_of_neurons, long=np.ones(9), matrix=np.ones((3, 3))),
            "within": positive,
            "share": share,
        },
    ),
    "cosine": Row(
        jf.cosine,
        lambda: {"network": network(), "reference": network()},
        {
            "network": one_network,
            "reference": more(one_network, of_another_size=linear),
        },
    ),
    "CosineTo": Row(
        jf.CosineTo,
        lambda: {"reference": network(), "per_member": False},
        {"reference": one_network, "per_member": flag},
    ),
    # what is asked of runs
    "find_kkt": Row(
        jf.find_kkt,
        lambda: {
            "networks": jf.sample_ensemble(linear(), NUM, key=key()),
            "task": task(),
            "progress": False,
        },
        {
            "networks": some_networks,
            "task": a_task,
            "tol": optional(Kind({**positive.wrong, "half": 0.5}, {"small": 1e-8})),
            "max_steps": count,
            "spectrum": flag,
            "ensemble": is_ensemble,
            "trainable": trainable,
            "schedule": schedule,
            "progress": optional(flag),
            "store": path,
        },
    ),
    "follow_early_phase": Row(
        jf.follow_early_phase,
        lambda: {
            "networks": jf.sample_ensemble(
                jf.DiagonalLinear(3, 2, key=key()), 2, key=key()
            ),
            "task": jf.Task(np.eye(2), np.array([1.0, 0.5])),
            "scale": 1e-2,
            "progress": False,
        },
        {
            "networks": some_networks,
            "task": a_task,
            "scale": share,
            "schedule": schedule,
            "progress": optional(flag),
        },
    ),
    "verify_early_convergence": Row(
        jf.verify_early_convergence,
        lambda: {
            "networks": jf.sample_ensemble(
                jf.DiagonalLinear(3, 2, key=key()), 1, key=key()
            ),
            "task": jf.Task(np.eye(2), np.array([1.0, 0.5])),
            "scales": [1e-2, 1e-3],
            "progress": False,
        },
        {
            "networks": some_networks,
            "task": a_task,
            "scales": Kind(
                {
                    **_NO_NUMBERS,
                    **_BAD_MEMBERS,
                    "one": [0.1],
                    "a_number": 0.1,
                    "0d": np.array(0.1),
                    "twice": [0.1, 0.1],
                    "above": [0.1, 1.0],
                    "zero": [0.0, 0.1],
                }
            ),
            "closeness": share,
            "spectrum": flag,
            "max_steps": count,
            "ensemble": is_ensemble,
            "trainable": trainable,
            "schedule": schedule,
            "progress": optional(flag),
        },
    ),
    "limiting_path": Row(
        jf.limiting_path,
        lambda: {
            "point": on_axis(),
            "task": of_axes(),
            "points": 20,
            "solver": diffrax.Tsit5(),
            "progress": False,
        },
        {
            "point": Kind(some_networks.wrong),
            "task": a_task,
            "level": optional(scale_of_one),
            "times": Kind({"one": [0.0], "falling": [1.0, 0.0], "before": [-1.0, 1.0]}),
            "points": more(count, one=1),
            "solver": solver,
            "rtol": optional(positive),
            "max_steps": count,
            "ensemble": is_ensemble,
            "schedule": schedule,
            "progress": optional(flag),
        },
    ),
    "starts_near_saddle": Row(
        jf.starts_near_saddle,
        lambda: {
            "network": jf.DiagonalLinear(2, 2, key=key()),
            "task": of_axes(),
            "num": 2,
            "grown": 1,
            "scale": 1e-3,
            "key": key(),
            "progress": False,
        },
        {
            "network": one_network,
            "task": a_task,
            "num": more(count, many=2**31),
            "grown": more(count, two=2),
            "scale": not_negative,
            "key": random_key,
            "max_steps": count,
            "schedule": schedule,
            "progress": optional(flag),
        },
    ),
    "saddle_to_saddle": Row(
        jf.saddle_to_saddle,
        lambda: {
            "networks": jf.DiagonalLinear(2, 2, key=key()),
            "task": task(),
            "scale": 1e-2,
            "solver": None,
            "max_saddles": 1,
            "progress": False,
        },
        {
            "networks": some_networks,
            "task": a_task,
            "scale": scale_of_one,
            "max_saddles": count,
            "loss_below": optional(not_negative),
            "fall": share,
            "slowing": share,
            "grown": share,
            "points": natural,
            "solver": solver,
            "rtol": optional(positive),
            "atol": optional(not_negative),
            "max_steps": count,
            "ensemble": is_ensemble,
            "trainable": trainable,
            "schedule": schedule,
            "progress": optional(flag),
        },
    ),
    "kkt.rank_one": Row(
        kkt.rank_one,
        lambda: {"network": network(), "threshold": 0.1},
        {"network": one_network, "threshold": share},
    ),
    "kkt.rank_one_conditions": Row(
        kkt.rank_one_conditions,
        lambda: {"network": network(), "task": task(), "tolerance": 0.1},
        {"network": one_network, "task": a_task, "tolerance": positive},
    ),
    "kkt.reduced_kkt": Row(
        kkt.reduced_kkt,
        lambda: {"task": task(), "activation": jf.LeakyReLU(), "depth": 2, "key": key()},
        {
            "task": a_task,
            "activation": leaky,
            "depth": more(count, too_deep=10**6),
            "num_starts": count,
            "key": optional(random_key),
        },
    ),
    "kkt.lift": Row(
        kkt.lift,
        lambda: {
            "direction": np.array([0.6, 0.8]),
            "signs": [1],
            "sizes": (2, 3, 1),
            "activation": jf.LeakyReLU(0.5),
            "neurons": [[0, 2]],
        },
        {
            "direction": Kind(
                {**_NO_NUMBERS, "long": np.ones(2), "three": np.eye(3)[0], "a_number": 1.0}
            ),
            "signs": Kind(
                {**_NO_NUMBERS, "two": [2], "many": [1, 1], "a_number": 1, "words": ["1"]}
            ),
            "sizes": more(sizes, one=(3,), two_outputs=(2, 3, 2)),
            "activation": leaky,
            "neurons": Kind(
                {
                    **_NO_NUMBERS,
                    "a_number": 1,
                    "many": [[0], [0]],
                    "beyond": [[3]],
                    "negative": [[-1]],
                    "twice": [[0, 0]],
                    "words": [["0"]],
                    "none_of_them": [[]],
                    "nothing": [None],
                }
            ),
            "dtype": dtype,
        },
    ),
    # results
    "concat": Row(
        jf.concat,
        lambda: {"results": [solution()]},
        {
            "results": Kind(
                {
                    **{
                        "a_number": 3,
                        "none": None,
                        "true": True,
                        "empty": [],
                        "a_dict": {},
                    },
                    **{"numbers": [1, 2], "mixed": lambda: [solution(), 3]},
                    **{"kinds": lambda: [solution(), points()], "a_network": network},
                }
            )
        },
    ),
    "load": Row(
        jf.load,
        lambda: {"path": _stored()},
        {
            "path": path,
            "network": Kind(
                {name: value for name, value in _THINGS.items() if name != "none"},
                {"none": None, "of_that_form": network},
            ),
            "trust": trusted,
        },
    ),
    "Solution.save": Row(
        lambda path, overwrite=False: solution().save(path, overwrite=overwrite),
        lambda: {"path": pathlib.Path(_stored()).with_name(f"{next(_numbers)}.zarr")},
        {"path": path, "overwrite": flag},
    ),
    # pictures
    "plot.recorded": Row(
        jf.plot.recorded,
        lambda: {"results": solution(), "name": "norm"},
        {
            "results": a_result,
            "name": more(a_word, coordinate="init", no_record="final_loss"),
            "against": against,
            "members": Kind(
                {
                    **{k: v for k, v in _NO_WHOLE.items() if k not in ("none", "empty")},
                    **{"one": 1, "beyond": [99], "negative": [-1], "truth": [True]},
                    "a_set": {0.5},
                },
                {"none": None, "some": [3, 0], "nobody": []},
            ),
            "ax": ax,
        },
    ),
    "plot.early_phase": Row(
        jf.plot.early_phase,
        lambda: {"results": of_demo()},
        {"results": Kind({**a_result.wrong, "a_solution": solution}), "axes": axes},
    ),
    "plot.early_convergence": Row(
        jf.plot.early_convergence,
        lambda: {"found": early()},
        {"found": Kind({**a_result.wrong, "a_solution": solution}), "axes": axes},
    ),
    "plot.four_panels": Row(jf.plot.four_panels, _fixed(), {}),
    "plot.kkt_points": Row(
        jf.plot.kkt_points,
        lambda: {"points": points()},
        {"points": Kind({**a_result.wrong, "a_solution": solution}), "ax": ax},
    ),
    "plot.stable_sets": Row(
        jf.plot.stable_sets,
        lambda: {"points": points(), "extent": 1.0},
        {
            "points": Kind({**a_result.wrong, "a_solution": solution}),
            "extent": positive,
            "ax": ax,
        },
    ),
    "plot.final_losses": Row(
        jf.plot.final_losses,
        lambda: {"results": solution()},
        {"results": a_result, "ax": ax},
    ),
    "plot.spectra": Row(
        jf.plot.spectra,
        lambda: {"results": with_weights()},
        {
            "results": Kind({**a_result.wrong, "points": points}),
            "name": optional(
                more(a_word, coordinate="init", no_matrix="weights_weights_0")
            ),
            "against": against,
            "axes": axes,
        },
    ),
    **{
        f"plot.{name}": Row(
            getattr(jf.plot, name),
            lambda: {"results": with_weights()},
            {
                "results": Kind({**a_result.wrong, "points": points}),
                "name": optional(more(a_word, no_networks="singular_values")),
                **({"layer": more(count, beyond=9)} if name == "weights" else {}),
                "member": member_number,
                **({} if name == "weights" else {"plane": plane}),
                "ax": ax,
            },
        )
        for name in ("neurons", "angles", "weights")
    },
    "plot.neurons_over_time": Row(
        jf.plot.neurons_over_time,
        lambda: {"results": with_weights()},
        {
            "results": Kind({**a_result.wrong, "points": points}),
            "name": optional(more(a_word, no_networks="singular_values")),
            "member": member_number,
            "plane": plane,
            "axes": axes,
        },
    ),
    "plot.neurons_animation": Row(
        _animated,
        lambda: {"results": with_weights()},
        {
            "results": Kind({**a_result.wrong, "points": points}),
            "name": optional(more(a_word, no_networks="singular_values")),
            "member": member_number,
            "plane": plane,
            "ax": ax,
        },
    ),
    "plot.sweep": Row(
        jf.plot.sweep,
        lambda: {"dataset": swept(), "name": "final_loss"},
        {
            "dataset": Kind(
                {**a_result.wrong, "of_a_solution": lambda: solution().dataset}
            ),
            "name": more(a_word, coordinate="depth", words="status"),
            "ax": ax,
        },
    ),
    "plot.work_precision": Row(
        jf.plot.work_precision,
        lambda: {"curves": {"Tsit5": ([10, 20], [1e-3, 1e-6])}},
        {
            "curves": Kind(
                {
                    **_THINGS,
                    "a_number": 1.0,
                    "empty": {},
                    "no_word": {3: ([1.0], [1.0])},
                    "one_array": {"a": [[1.0, 2.0]]},
                    "other_lengths": {"a": ([1.0, 2.0], [1.0])},
                    "matrices": {"a": (np.ones((2, 2)), np.ones((2, 2)))},
                    "zero": {"a": ([1.0, 2.0], [1.0, 0.0])},
                    "with_nan": {"a": ([1.0, np.nan], [1.0, 0.1])},
                    "words": {"a": (["1"], ["1"])},
                    "masked": {"a": (np.ma.masked_array([1.0], mask=[1]), [1.0])},
                }
            ),
            "ax": ax,
        },
    ),
    "plot.layers": Row(
        jf.plot.layers,
        lambda: {"network": network()},
        {"network": one_network, "axes": axes},
    ),
    "plot.limiting_path": Row(
        jf.plot.limiting_path,
        lambda: {"found": way()},
        {"found": Kind({**a_result.wrong, "a_solution": solution}), "ax": ax},
    ),
    "plot.saddle_to_saddle": Row(
        jf.plot.saddle_to_saddle,
        lambda: {"found": journey()},
        {
            "found": Kind({**a_result.wrong, "a_solution": solution}),
            "over": choices,
            "ax": ax,
        },
    ),
}


_numbers = itertools.count()


@functools.cache
def _stored() -> str:
    path = pathlib.Path(tempfile.mkdtemp()) / "run.zarr"
    jf.run(simulation(), store=path, progress=False)
    return str(path)


_MADE_HERE = "made by jaxflow, not by callers"
_FOR_EXTENSION = "for those who extend jaxflow: takes parts that are checked already"
_ABSTRACT = "abstract"
_SAYS_NOTHING = "has no arguments"
NOT_IN_THE_TABLE = {
    **dict.fromkeys(
        [
            *("AbstractEquation", "AbstractStop", "AbstractLevel", "AbstractCrossing"),
            *("AbstractCondition", "AbstractLoss", "AbstractMarginLoss", "AbstractTask"),
            *("AbstractDistribution", "AbstractRegularizer"),
            *("solvers.AbstractStepper", "solvers.AbstractStagedSolver"),
            *("flows.AbstractFlow", "flows.AbstractNetworkFlow"),
            *("flows.AbstractPlainFlow", "results.AbstractResult"),
        ],
        _ABSTRACT,
    ),
    **dict.fromkeys(
        ["SquareLoss", "LogisticLoss", "ExponentialLoss", "CrossEntropyLoss"], _SAYS_NOTHING
    ),
    **dict.fromkeys(
        [
            *("Solution", "KKTPoints", "EarlyConvergence", "SaddleToSaddle", "EarlyPhase"),
            "LimitingPath",
            *("results.Summary", "results.Table", "results.Records", "results.Stats"),
            "kkt.RankOne",
            *("kkt.RankOneConditions", "kkt.ReducedPoints"),
            *(
                "JaxflowError",
                "InputError",
                "NotHomogeneousError",
                "StoreError",
                "StudyError",
                "RunError",
                "RunWarning",
            ),
        ],
        _MADE_HERE,
    ),
    **dict.fromkeys(
        [
            *("flows.Snapshot", "flows.snapshot", "flows.pull_back", "flows.outputs_at"),
            *("flows.log_norm_and_direction", "flows.PolarFlow", "flows.BlockPolarFlow"),
            *("flows.CartesianFlow", "flows.CorrelationFlow", "flows.DescentFlow"),
            *("flows.StochasticDescentFlow", "flows.LangevinFlow", "solvers.Step"),
            *(
                "solvers.Work",
                "solvers.WholeSteps",
                "solvers.Updates",
                "solvers.StagedSteps",
            ),
            *("results.column", "results.settings_of", "results.status_column"),
            *("results.stacked_networks", "results.within", "runs.Defaults"),
        ],
        _FOR_EXTENSION,
    ),
}
"""What is public and has no row, and why."""


def public_callables() -> set[str]:
    """Names of all that a user can call: in `jaxflow`, `data`, `plot` and docs/api.md."""
    found = {
        name
        for name, value in vars(jf).items()
        if callable(value)
        and not name.startswith("_")
        and value.__module__.startswith("jaxflow")
    }
    for folder in ("data", "plot"):
        module = getattr(jf, folder)
        own = lambda value, module=module: value.__module__.startswith(module.__name__)
        found |= {
            f"{folder}.{name}"
            for name, value in vars(module).items()
            if callable(value) and not name.startswith("_") and own(value)
        }
    documented = pathlib.Path(__file__).parents[1] / "docs" / "api.md"
    for name in re.findall(r"^::: jaxflow\.(\S+)$", documented.read_text(), re.M):
        value = functools.reduce(getattr, name.split("."), jf)
        if callable(value):
            found.add(name)
    return {_usual(name) for name in found}


def _usual(name: str) -> str:
    """`networks.order` is `order`, where both are the same."""
    last = name.rpartition(".")[2]
    both = hasattr(jf, last) and "." in name and not name.startswith(("data.", "plot."))
    return last if both else name


def parameters(row: Row) -> set[str]:
    """The names of all arguments of a callable; `**execution` stands for those of a run."""
    known = inspect.signature(row.call).parameters.values()
    named = {p.name for p in known if p.kind is not p.VAR_KEYWORD}
    has_more = any(p.kind is p.VAR_KEYWORD for p in known)
    return named | (set(Execution.__annotations__) if has_more else set())


def value_of(given: Any) -> Any:
    """A value of a kind: what one of the functions above makes, or the value itself."""
    made_here = isinstance(given, (types.FunctionType, functools._lru_cache_wrapper))
    if (
        made_here
        and given.__module__ == __name__
        and not inspect.signature(given).parameters
    ):
        return given()
    return given


@dataclasses.dataclass(frozen=True)
class Refusal:
    """What came of a call with wrong values."""

    outcome: str  # "refused", "raw", "accepted" or "misnamed"
    text: str


def outcome(row: Row, arguments: Mapping[str, Any], wrong: set[str]) -> Refusal:
    """What a call gives that is wrong in these arguments."""
    try:
        found = row.call(**arguments)
    except jf.InputError as error:
        named = any(error.argument.startswith((w, f"stop={w}")) for w in wrong)
        shares = any(w in error.argument.split(", ") for w in wrong)
        text = f"{error.argument}: {error.found}"
        return Refusal("refused" if named or shares else "misnamed", text)
    except Exception as error:
        return Refusal("raw", f"{type(error).__name__}: {str(error)[:200]}")
    return Refusal("accepted", f"gave {type(found).__name__}")
