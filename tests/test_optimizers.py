"""Every optimizer of optax, against a loop written with optax alone."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import jaxflow as jf
from jaxflow.flows import DescentFlow
from jaxflow.networks import Parameters
from jaxflow.solvers import Updates
from jaxflow.solvers._rates import Optimizer

from .compilations import compilations
from .filled import filled

NET = filled(lambda: jf.FeedForward((3, 4, 2), jf.LeakyReLU(0.5, 2), key=jax.random.key(0)))
X = np.random.default_rng(0).normal(size=(5, 3))
Y = jnp.sin(X[:, :2])
TASK = jf.Task(X, Y)
FLOW = DescentFlow(NET, TASK)
RATE = 1e-2

NEEDS_RATE = (
    "adabelief adadelta adafactor adagrad adam adamax adamaxw adamw adan amsgrad fromage "
    "lamb lars lion nadam nadamw noisy_sgd novograd optimistic_adam_v2 "
    "optimistic_gradient_descent radam rmsprop rprop sgd sign_sgd signum sm3 yogi"
).split()
OF_CONTRIB = (
    "acprop ademamix adopt dadapt_adamw dog dowg galore madgrad momo momo_adam muon "
    "prodigy schedule_free_adamw schedule_free_sgd simplified_ademamix sophia"
).split()
OPTIMIZERS = {
    **{name: functools.partial(getattr(optax, name), RATE) for name in NEEDS_RATE},
    **{
        f"contrib.{name}": functools.partial(getattr(optax.contrib, name), RATE)
        for name in OF_CONTRIB
        if hasattr(optax.contrib, name)
    },
    "lbfgs": optax.lbfgs,
    "lbfgs with a rate": lambda: optax.lbfgs(RATE, linesearch=None),
    "backtracking": lambda: optax.chain(
        optax.sgd(1.0), optax.scale_by_backtracking_linesearch(max_backtracking_steps=5)
    ),
    "polyak_sgd": optax.polyak_sgd,
    "contrib.cocob": optax.contrib.cocob,
    "contrib.reduce_on_plateau": lambda: optax.chain(
        optax.adam(RATE), optax.contrib.reduce_on_plateau(patience=1)
    ),
    "contrib.mechanize": lambda: optax.contrib.mechanize(optax.sgd(RATE)),
    "contrib.sam": lambda: optax.contrib.sam(
        optax.sgd(RATE), optax.sgd(RATE), opaque_mode=True
    ),
    "contrib.schedule_free": lambda: optax.contrib.schedule_free(optax.sgd(RATE), RATE),
    "momentum": lambda: optax.sgd(RATE, momentum=0.9, nesterov=True),
    "schedule": lambda: optax.adam(optax.cosine_decay_schedule(RATE, 10)),
    "inject_hyperparams": lambda: optax.inject_hyperparams(optax.adam)(learning_rate=RATE),
    "clipped": lambda: optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(RATE)),
    "every second step": lambda: optax.MultiSteps(
        optax.adam(RATE), 2
    ).gradient_transformation(),
    "apply_if_finite": lambda: optax.apply_if_finite(optax.sgd(RATE), 3),
    "partition": lambda: optax.partition(
        {"all": optax.sgd(RATE)}, lambda params: jax.tree.map(lambda _: "all", params)
    ),
}
SEARCHES = ("value", "grad", "value_fn")
ASKED_FOR = {
    "lbfgs": SEARCHES,
    "backtracking": SEARCHES,
    "polyak_sgd": ("value",),
    "contrib.reduce_on_plateau": ("value",),
    "contrib.momo": ("value",),
    "contrib.momo_adam": ("value",),
    "contrib.sophia": ("obj_fn",),
    "contrib.sam": ("grad_fn",),
}
NUM_STEPS = 3


def by_optax(name, optimizer, w):
    """The loop of optax' documentation."""
    parameters = Parameters(NET)
    loss = lambda p: jnp.sum((jax.vmap(eqx.combine(p, NET))(TASK.inputs) - Y) ** 2) / 2
    params = parameters(w)
    state = optimizer.init(params)

    def step(params, state):
        value, grad = jax.value_and_grad(loss)(params)
        known = {"value": value, "grad": grad, "value_fn": loss, "obj_fn": loss}
        known["grad_fn"] = lambda p, _: jax.grad(loss)(p)
        asked = {each: known[each] for each in ASKED_FOR.get(name, ())}
        updates, state = optimizer.update(grad, state, params, **asked)
        return optax.apply_updates(params, updates), state

    for _ in range(NUM_STEPS):
        params, state = step(params, state)
    return ravel_pytree(params)[0]


def by_jaxflow(optimizer, w):
    stepper, args = Updates(optimizer, Parameters(NET)), jnp.zeros(())
    terms, one = FLOW.terms(args), jnp.ones(())
    state = stepper.init(terms, 0 * one, one, w, args)

    def attempt(k, w, state):
        step = stepper.attempt(terms, k, k + 1, w, args, state)
        return step.candidate, step.settle(jnp.asarray(True))

    for k in range(NUM_STEPS):
        w, state = attempt(k * one, w, state)
    return w


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_those_of_a_loop_of_optax(name):
    optimizer = OPTIMIZERS[name]()
    w = ravel_pytree(NET.weights)[0]
    with jax.numpy_dtype_promotion("standard"):
        expected = by_optax(name, optimizer, w)
    found = by_jaxflow(optimizer, w)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
    assert np.any(np.asarray(found) != np.asarray(w))


RUN = {name: OPTIMIZERS[name] for name in ("lbfgs", "noisy_sgd")}


@pytest.mark.parametrize("name", RUN)
def test_runs_take_what_asks_for_the_loss_or_has_keys(name):
    """Each member has a line search of its own."""
    ensemble = jax.tree_util.tree_map(lambda leaf: jnp.stack([leaf, 0.5 * leaf]), NET)
    found = jf.gradient_descent(
        ensemble, TASK, optimizer=RUN[name](), num_steps=NUM_STEPS, progress=False
    )
    for member, factor in enumerate((1.0, 0.5)):
        w = factor * ravel_pytree(NET.weights)[0]
        with jax.numpy_dtype_promotion("standard"):
            expected = by_optax(name, RUN[name](), w)
        weights = [np.ravel(leaf[member]) for leaf in found.networks.weights]
        np.testing.assert_allclose(np.concatenate(weights), expected, rtol=1e-9)


RATED = {
    "sgd": optax.sgd,
    "adamw": lambda rate: optax.adamw(rate, weight_decay=1e-3),
    "inject_hyperparams": lambda rate: optax.inject_hyperparams(optax.adam)(rate),
    "clipped": lambda rate: optax.chain(optax.clip(0.1), optax.sgd(rate, momentum=0.9)),
}


@pytest.mark.parametrize("name", RATED)
def test_another_learning_rate_compiles_nothing(name):
    def run(rate):
        return jf.gradient_descent(
            NET, TASK, optimizer=RATED[name](rate), num_steps=NUM_STEPS, progress=False
        )

    run(0.1)
    with compilations() as compiled:
        found = run(RATE)
    assert compiled == []
    with jax.numpy_dtype_promotion("standard"):
        w = ravel_pytree(NET.weights)[0]
        expected = by_optax(name, RATED[name](RATE), w)
    weights = np.concatenate([np.ravel(leaf) for leaf in found.networks.weights])
    np.testing.assert_allclose(weights, expected, rtol=1e-12)


def test_rates_are_rounded_once_in_single_precision():
    """As optax does with a Python number, to the last bit."""
    optimizer, gradient = optax.sgd(0.1), jnp.linspace(-1.0, 1.0, 9, dtype=jnp.float32)
    whole = Optimizer(optimizer).whole(jnp.float32)
    found, _ = whole.update(gradient, whole.init(gradient))
    expected, _ = optimizer.update(gradient, optimizer.init(gradient))
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, expected)


DIFFERENT = {
    "another optimizer": (optax.sgd(0.1), optax.rmsprop(0.1)),
    "another decay": (optax.adam(0.1, b1=0.9), optax.adam(0.1, b1=0.8)),
    "another setting": (optax.sgd(0.1, 0.9, nesterov=True), optax.sgd(0.1, 0.9)),
    "another schedule": (
        optax.sgd(optax.exponential_decay(0.1, 10, 0.9)),
        optax.sgd(optax.exponential_decay(0.2, 10, 0.9)),
    ),
    "another function": (
        optax.stateless(lambda updates, _: updates),
        optax.stateless(lambda updates, _: jax.tree.map(jnp.sign, updates)),
    ),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_is_no_rate_is_a_part_of_the_program(case):
    one, other = map(Optimizer, DIFFERENT[case])
    assert one.form != other.form
    assert Optimizer(DIFFERENT[case][0]).form == one.form


RATES = np.array([0.1, 0.01, 0.001])


def descend(rates, **more):
    tuned = optax.inject_hyperparams(optax.adam)(learning_rate=rates)
    ensemble = jax.tree_util.tree_map(lambda leaf: jnp.stack([leaf] * 3), NET)
    return jf.Simulation(
        jf.GradientDescent(tuned, NUM_STEPS, **more), ensemble, TASK, scale=0.5
    )


def test_each_member_may_have_a_learning_rate_of_its_own():
    whole = descend(RATES)
    found = jf.run(whole, progress=False)
    jf.run(whole[:2], progress=False)  # two members are drawn by another program than three
    with compilations() as compiled:
        part = jf.run(whole[1:], progress=False)
        other = jf.run(descend(2 * RATES), progress=False)
    assert compiled == []
    np.testing.assert_array_equal(part.log_norm, found.log_norm[1:])
    assert np.all(other.log_norm != found.log_norm)
    w = 0.5 * ravel_pytree(NET.weights)[0]
    for member, rate in enumerate(RATES):
        with jax.numpy_dtype_promotion("standard"):
            expected = by_optax("adam", optax.adam(rate), w)
        weights = [np.ravel(leaf[member]) for leaf in found.networks.weights]
        np.testing.assert_allclose(np.concatenate(weights), expected, rtol=1e-11)


def test_rates_that_are_not_one_for_each_member_are_refused():
    with pytest.raises(jf.InputError, match=r"^optimizer: .*\(2,\).*one for each of 3"):
        descend(RATES[:2])
    noisy = descend(RATES, batch_size=2, key=jax.random.key(0))
    assert type(noisy.flow).__name__ == "TunedFlow"
