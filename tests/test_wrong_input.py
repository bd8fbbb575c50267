"""Arguments that cannot be used: one clear error, before anything is compiled."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxflow as jf

from .compilations import compilations
from .filled import filled
from .refusing import LOOK, PROBE, refused

KEY = jax.random.key(0)
NUM = 4


pytestmark = pytest.mark.usefixtures("as_users_have_it")


def feed_forward(dtype=jnp.float64):
    return jf.FeedForward((3, 4, 1), jf.LeakyReLU(), key=KEY, dtype=dtype)


def ensemble(make=feed_forward, num=NUM):
    def stack(leaf):
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        return jax.ShapeDtypeStruct((num, *leaf.shape), leaf.dtype)

    shapes = jax.tree_util.tree_map(stack, eqx.filter_eval_shape(make))
    is_shape = lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct)
    return filled(
        lambda: jax.tree_util.tree_map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype) if is_shape(leaf) else leaf,
            shapes,
        )
    )


def task(out_size=1, dtype=np.float64):
    random = np.random.default_rng(0)
    x, y = random.standard_normal((5, 3)), random.standard_normal((5, out_size))
    return jf.Task(x.astype(dtype), y.astype(dtype))


def with_first_weights(change, network=None):
    """The ensemble with `change` applied to its first array, in NumPy."""
    network = ensemble() if network is None else network
    first = jnp.asarray(change(np.array(network.weights[0])))
    return eqx.tree_at(lambda n: n.weights[0], network, first)


def as_type(dtype):
    cast = lambda leaf: jnp.asarray(np.asarray(leaf).astype(dtype))
    return jax.tree_util.tree_map(cast, ensemble())


def with_one(value):
    def change(array):
        array[-1, 0, 0] = value
        return array

    return change


FLOWS = {
    "gradient_flow": jf.gradient_flow,
    "ncf_flow": jf.ncf_flow,
    "gradient_descent": lambda networks, task, **options: jf.gradient_descent(
        networks, task, **{"optimizer": optax.sgd(0.1), "num_steps": 3, **options}
    ),
}
every_flow = pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)


def test_compilations_are_counted():
    with compilations() as compiled:
        jax.jit(lambda x: x + 1)(np.ones(3))
    assert len(compiled) == 1


@every_flow
@pytest.mark.parametrize(
    ("match", "networks"),
    [
        ("list", lambda: [1.0]),
        ("NoneType", lambda: None),
        ("function", lambda: lambda x: x),
        ("dict", lambda: {"weights": np.ones((3, 1))}),
        ("without arrays", eqx.nn.Identity),
        ("2 parameters that are NaN", lambda: with_first_weights(lambda w: _two_bad(w))),
        ("NaN or infinite", lambda: with_first_weights(with_one(np.nan))),
        ("NaN or infinite", lambda: with_first_weights(with_one(-np.inf))),
        ("NaN or infinite", lambda: _single_with_nan()),
        ("arrays to train", lambda: as_type(np.int64)),
        ("float16", lambda: as_type(np.float16)),
        ("bfloat16", lambda: as_type(jnp.bfloat16)),
        ("complex128", lambda: as_type(np.complex128)),
        ("float32 and float64", lambda: with_first_weights(np.float32)),
        (r"leading axes.*3.*4", lambda: with_first_weights(lambda w: w[:3])),
        ("empty", lambda: ensemble(num=0)),
        (r"\(5, 3\)", lambda: ensemble(lambda: jf.DiagonalLinear(2, 7, key=KEY))),
        ("2 outputs", lambda: ensemble(lambda: jf.DiagonalLinear(2, 3, 2, key=KEY))),
        ("2 outputs", lambda: filled(lambda: jf.DiagonalLinear(2, 3, 2, key=KEY))),
        ("outputs of shape", lambda: ensemble(Matrix)),
        ("cannot be called on a sample", lambda: ensemble(NotCallable)),
    ],
)
def test_networks_that_cannot_be_trained(flow, match, networks):
    networks = networks()
    data = task()
    with refused("networks", match=match):
        flow(networks, data)


def _two_bad(array):
    array[:2, 0, 0] = np.nan
    return array


def _single_with_nan():
    network = filled(feed_forward)
    return with_first_weights(lambda w: np.full_like(w, np.nan), network)


class Matrix(eqx.Module):
    weight: jax.Array = eqx.field(default_factory=lambda: jnp.ones(3))

    def __call__(self, x):
        return self.weight[:, None] * x[None, :]


class NotCallable(eqx.Module):
    weight: jax.Array = eqx.field(default_factory=lambda: jnp.ones(3))


@every_flow
@pytest.mark.parametrize("data", [None, (np.ones((5, 3)), np.ones(5)), jf.Task])
def test_task_that_is_no_task(flow, data):
    networks = ensemble()
    with refused("task", match="jaxflow.Task"):
        flow(networks, data)


@every_flow
@pytest.mark.parametrize(
    ("match", "y", "loss"),
    [
        ("1 outputs for targets", np.ones((5, 2)), "square"),
        ("1 outputs for targets", np.ones((5, 3)), "logistic"),
        ("1 outputs for 2 classes", np.array([0, 1, 0, 1, 1]), "cross_entropy"),
        ("1 outputs for 2 classes", np.zeros(5, int), "cross_entropy"),
    ],
)
def test_targets_that_do_not_fit_the_outputs(flow, match, y, loss):
    networks, data = ensemble(), jf.Task(task().inputs, y, loss)
    with refused("networks", match=match):
        flow(networks, data)


def test_label_beyond_the_outputs():
    networks = ensemble(lambda: jf.DiagonalLinear(2, 3, 3, key=KEY))
    data = jf.Task(task().inputs, np.array([0, 1, 2, 3, 0]), "cross_entropy")
    with refused("networks", match="3 outputs for 4 classes"):
        jf.gradient_flow(networks, data)


class RowOfLosses(jf.AbstractLoss):
    def __call__(self, prediction, target):
        return prediction - target


@every_flow
def test_loss_that_is_no_scalar(flow):
    networks, data = ensemble(), jf.Task(task().inputs, np.ones(5), RowOfLosses())
    with refused("loss"):
        flow(networks, data)


SCALED = [FLOWS["gradient_flow"], FLOWS["gradient_descent"]]


@pytest.mark.parametrize("flow", SCALED, ids=["gradient_flow", "gradient_descent"])
@pytest.mark.parametrize(
    "scale",
    [
        0.0,
        -1e-3,
        np.nan,
        np.inf,
        np.ones(NUM - 1),
        np.ones((NUM, 1)),
        np.array([1.0, 1.0, 0.0, 1.0]),
        np.array([1.0, np.nan, 1.0, 1.0]),
        "small",
        None,
        1j,
    ],
    ids=str,
)
def test_scale(flow, scale):
    networks, data = ensemble(), task()
    with refused("scale"):
        flow(networks, data, scale=scale)


@pytest.mark.parametrize("scale", [np.ones(2), np.ones((1, 1))], ids=["two", "a matrix"])
def test_scale_of_a_single_network(scale):
    network, data = filled(feed_forward), task()
    with refused("scale"):
        jf.gradient_flow(network, data, scale=scale)


STEPPED = {name: FLOWS[name] for name in ("gradient_flow", "ncf_flow")}


@pytest.mark.parametrize("flow", STEPPED.values(), ids=STEPPED)
@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("rtol", {"rtol": 1e-17}),
        ("rtol", {"rtol": 0.0}),
        ("rtol", {"rtol": -1e-3}),
        ("rtol", {"rtol": np.nan}),
        ("rtol", {"rtol": "tight"}),
        ("atol", {"atol": -1e-9}),
        ("atol", {"atol": np.nan}),
        ("atol", {"atol": np.inf}),
        ("dt0", {"dt0": 0.0}),
        ("dt0", {"dt0": -1.0}),
        ("dt0", {"dt0": np.nan}),
        ("dt0", {"solver": diffrax.Euler()}),
        ("dt0", {"controller": diffrax.ConstantStepSize()}),
        ("max_steps", {"max_steps": 0}),
        ("max_steps", {"max_steps": 2.5}),
        ("max_steps", {"max_steps": np.inf}),
        ("max_steps", {"max_steps": None}),
        ("solver", {"solver": "Tsit5"}),
        ("solver", {"solver": diffrax.Tsit5}),
        ("controller", {"controller": 1e-3}),
        ("controller", {"controller": diffrax.PIDController}),
        (
            "controller",
            {"solver": diffrax.Euler(), "controller": diffrax.PIDController(1e-3, 1e-6)},
        ),
        (
            "controller",
            {
                "controller": diffrax.ClipStepSizeController(
                    diffrax.PIDController(1e-3, 1e-6)
                )
            },
        ),
    ],
)
def test_stepping(flow, argument, options):
    networks, data = ensemble(), task()
    with refused(argument):
        flow(networks, data, **_grouped(options))


def _grouped(options):
    """What is seldom needed is given as a `Stepping`."""
    rare = {name: options[name] for name in ("controller", "dt0") if name in options}
    usual = {name: value for name, value in options.items() if name not in rare}
    return usual | ({"stepping": jf.Stepping(**rare)} if rare else {})


@pytest.mark.parametrize("flow", STEPPED.values(), ids=STEPPED)
def test_tolerance_that_single_precision_cannot_meet(flow):
    networks = ensemble(lambda: feed_forward(jnp.float32))
    data = task(dtype=np.float32)
    with refused("rtol", match="float32"):
        flow(networks, data, rtol=1e-8)


@every_flow
@pytest.mark.parametrize(
    ("argument", "stop"),
    [
        ("stop", lambda: "LossBelow"),
        ("stop", lambda: 1e-3),
        ("stop", lambda: jf.LossBelow),
        ("stop", lambda: [jf.LossBelow(1e-3), 50.0]),
        ("value", lambda: jf.LossBelow(np.nan)),
        ("value", lambda: [jf.LossBelow("small")]),
        ("stop=RescaledTime", lambda: jf.RescaledTime(np.ones(NUM + 1))),
        ("stop=Stationary", lambda: jf.Stationary(1e-8, np.ones(NUM + 1))),
        ("gradient", lambda: jf.Stationary(1e-8, np.ones((NUM, 1)))),
    ],
)
def test_stop(flow, argument, stop):
    networks, data = ensemble(), task()
    with refused(argument):
        flow(networks, data, stop=stop())


def _signs(loss):
    return jf.Task(
        task().inputs, np.where(np.arange(task().num_samples) % 2, 1.0, -1.0), loss
    )


@pytest.mark.parametrize(
    "match, flow, loss, options",
    [
        ("SquareLoss.*no margins", jf.gradient_flow, "square", {}),
        ("CartesianFlow", jf.gradient_flow, "logistic", {"coordinates": "cartesian"}),
        ("CorrelationFlow", jf.ncf_flow, "logistic", {}),
        (
            "DescentFlow",
            jf.gradient_descent,
            "logistic",
            {"optimizer": optax.sgd(0.1), "num_steps": 3},
        ),
    ],
)
def test_margins_where_there_are_none(match, flow, loss, options):
    with refused("stop", match=match, programs=[PROBE, *LOOK]):
        flow(ensemble(), _signs(loss), stop=jf.MarginConverged(0.1), **options)


@every_flow
@pytest.mark.parametrize("width", [0, -1, 2.5, np.inf, "wide"])
def test_width(flow, width):
    networks, data = ensemble(), task()
    with refused("width"):
        flow(networks, data, schedule=jf.Schedule(width=width))


@pytest.mark.parametrize("num_steps", [0, -1, 2.5, np.inf, None, "many"])
def test_num_steps(num_steps):
    networks, data = ensemble(), task()
    with refused("num_steps"):
        FLOWS["gradient_descent"](networks, data, num_steps=num_steps)


@pytest.mark.parametrize("optimizer", ["sgd", 0.1, None, optax.sgd])
def test_optimizer(optimizer):
    networks, data = ensemble(), task()
    with refused("optimizer"):
        FLOWS["gradient_descent"](networks, data, optimizer=optimizer)


@pytest.mark.parametrize("coordinates", ["spherical", "Polar", None, 1])
def test_coordinates(coordinates):
    networks, data = ensemble(), task()
    with refused("coordinates"):
        jf.gradient_flow(networks, data, coordinates=coordinates)


def mlp():
    return eqx.nn.MLP(3, 1, 4, 1, key=KEY)


def test_polar_coordinates_for_a_network_that_is_not_homogeneous():
    networks, data = ensemble(mlp), task()
    # To find that out a probe is compiled.
    with refused("coordinates", jf.NotHomogeneousError, programs=[PROBE, *LOOK]) as caught:
        jf.gradient_flow(networks, data, coordinates="polar")
    assert caught.value.discrepancy > 1e-3


def test_limit_flow_of_a_network_that_is_not_homogeneous():
    networks, data = ensemble(mlp), task()
    with refused("networks", jf.NotHomogeneousError, programs=[PROBE, *LOOK]) as caught:
        jf.ncf_flow(networks, data)
    assert caught.value.discrepancy > 1e-3


class Dead(eqx.Module):
    weight: jax.Array = eqx.field(default_factory=lambda: jnp.ones(3))

    def __call__(self, x):
        return jax.nn.relu(-jnp.abs(self.weight @ x))


def test_network_that_is_zero_everywhere():
    networks, data = ensemble(Dead), task()
    with refused("networks", match="zero", programs=[PROBE, *LOOK]):
        jf.gradient_flow(networks, data, coordinates="polar")
    with refused("networks", match="zero", programs=[PROBE, *LOOK]):
        jf.ncf_flow(networks, data)


def _raises(network, task):
    raise RuntimeError("no such layer")


GRID = np.array([0.0, 0.1, 0.2])


@every_flow
@pytest.mark.parametrize(
    ("argument", "record"),
    [
        ("record['a']", {"a": lambda network, task: "norm"}),
        ("record['a']", {"a": lambda network, task: None}),
        ("record['a']", {"a": lambda network, task: 1j * jf.norm(network)}),
        ("record['a']", {"a": lambda network, task: [jf.norm(network), jnp.ones(2) * 1j]}),
        ("record['a']", {"a": lambda network, task: {"b": "norm"}}),
        ("record['a']", {"a": lambda network: jf.norm(network)}),
        ("record['a']", {"a": lambda network, task: float(jf.norm(network))}),
        ("record['a']", {"a": _raises}),
        ("record['a']", {"a": "norm"}),
        ("record['b']", {"a": jf.norm, "b": 3}),
        ("record", {"two words": jf.norm}),
        ("record", {"": jf.norm}),
        ("record", {"1st": jf.norm}),
        ("record", {3: jf.norm}),
        ("record", {"final_loss": jf.loss}),
        ("record", {"status": jf.norm}),
        ("record", {"init": jf.norm}),
        ("record", {"rescaled_time": jf.norm}),
        ("record", {"log_norm": jf.norm}),
        ("record", {"layer": jf.layer_norms}),
        ("record", {"norms": jf.layer_norms, "layer": jf.norm}),
        ("record", {"a_0": jf.norm, "a": lambda network, task: task.inputs[:, 0]}),
        ("record", [jf.norm]),
        ("record", jf.norm),
    ],
)
def test_recorders(flow, argument, record):
    networks, data = ensemble(), task()
    with refused(argument):
        flow(networks, data, record=record, record_at=GRID)


def test_error_of_a_recorder_is_passed_on():
    networks, data = ensemble(), task()
    with refused("record['a']", match="RuntimeError.*no such layer"):
        jf.gradient_flow(networks, data, record={"a": _raises}, record_at=GRID)


@every_flow
@pytest.mark.parametrize(
    "grid",
    [
        np.array([0.0, 0.2, 0.1]),
        np.array([0.0, 0.1, 0.1]),
        np.array([0.0, np.nan]),
        np.array([]),
        np.array(0.5),
        np.array(["early", "late"]),
        np.array([1j]),
        np.ones((NUM + 1, 1)),
        np.ones((NUM, 1, 1)),
        np.array([[0.0, 1.0]] * (NUM - 1) + [[1.0, 0.0]]),
    ],
    ids=str,
)
def test_grid(flow, grid):
    networks, data = ensemble(), task()
    with refused("record_at"):
        flow(networks, data, record={"norm": jf.norm}, record_at=grid)


@every_flow
@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("record_at", {"record": {"norm": jf.norm}}),
        ("record", {"record_at": GRID}),
        ("record", {"record": {}, "record_at": GRID}),
    ],
    ids=["no grid", "no functions", "empty dict"],
)
def test_record_and_its_grid_go_together(flow, argument, options):
    networks, data = ensemble(), task()
    with refused(argument):
        flow(networks, data, **options)


@pytest.mark.parametrize(
    ("flow", "over", "programs"),
    [
        # Which quantities a flow shows depends on the network's order.
        (FLOWS["gradient_flow"], "t", [PROBE]),
        (FLOWS["gradient_descent"], "rescaled_time", []),
    ],
    ids=["unknown", "time of descent"],
)
def test_quantity_to_record_over(flow, over, programs):
    networks, data = ensemble(), task()
    with refused("record_over", programs=programs):
        flow(networks, data, record={"norm": jf.norm}, record_at=GRID, record_over=over)


@every_flow
@pytest.mark.parametrize("num", [1, NUM - 1, NUM + 1])
def test_recorder_with_another_number_of_members(flow, num):
    networks, data = ensemble(), task()
    recorder = jf.CosineTo(ensemble(num=num), per_member=True)
    with refused("record['cosine']", match=f"{num}.*{NUM}"):
        flow(networks, data, record={"cosine": recorder}, record_at=GRID)


def test_reference_of_another_structure():
    networks, data = ensemble(), task()
    recorder = jf.CosineTo(filled(lambda: jf.DiagonalLinear(1, 3, key=KEY)))
    with refused("record['cosine']"):
        jf.gradient_flow(networks, data, record={"cosine": recorder}, record_at=GRID)


class Either(eqx.Module):
    """`H(x) = Σ w Σ x` for weights of any shape."""

    weight: jax.Array

    def __call__(self, x):
        return jnp.sum(self.weight) * jnp.sum(x)


@every_flow
def test_module_that_may_be_one_network_or_an_ensemble(flow):
    network, data = Either(jnp.asarray(np.ones((NUM, 2)))), task()
    with refused("networks", match="ensemble=True or ensemble=False"):
        flow(network, data)


@pytest.mark.parametrize("is_ensemble", [True, False])
def test_ensemble_says_which(is_ensemble):
    weight = np.arange(1.0, 2 * NUM + 1).reshape(NUM, 2)
    network, data = Either(jnp.asarray(weight)), task()
    with compilations() as compiled:
        solution = FLOWS["gradient_descent"](
            network, data, num_steps=1, ensemble=is_ensemble
        )
    assert len(compiled) > 0
    assert solution.is_ensemble == is_ensemble
    # One step of w ← w - η Σ_i (H_i - y_i) ∂H_i/∂w, for each row or for all at once.
    sums, y = np.asarray(data.inputs).sum(1), np.asarray(data.targets)[:, 0]
    total = weight.sum(axis=1 if is_ensemble else None, keepdims=True)
    expected = weight - 0.1 * ((total * sums - y) @ sums).reshape(-1, 1)
    np.testing.assert_allclose(solution.networks.weight, expected, rtol=1e-12)


@every_flow
@pytest.mark.parametrize(
    ("is_ensemble", "networks"), [(True, feed_forward), (False, ensemble)]
)
def test_ensemble_that_is_none_and_none_that_is_one(flow, is_ensemble, networks):
    networks = filled(networks) if is_ensemble else networks()
    data = task()
    with refused("networks"):
        flow(networks, data, ensemble=is_ensemble)


def test_errors_are_value_errors_with_found_and_expected():
    networks, data = ensemble(), task()
    with refused("scale") as caught:
        jf.gradient_flow(networks, data, scale=-1.0)
    assert isinstance(caught.value, (jf.JaxflowError, ValueError))
    assert str(caught.value) == "scale: found -1; expected positive numbers."
    assert (caught.value.found, caught.value.expected) == ("-1", "positive numbers")


@pytest.mark.parametrize("name", [*FLOWS])
def test_keywords_that_no_call_has(name):
    networks, data = ensemble(), task()
    with pytest.raises(TypeError, match=f"{name}.*unexpected keyword argument 'speed'"):
        FLOWS[name](networks, data, speed=3)
    with pytest.raises(TypeError, match=r"pass stepping=jaxflow\.Stepping\(dt0=…\)"):
        FLOWS[name](networks, data, dt0=0.1)
