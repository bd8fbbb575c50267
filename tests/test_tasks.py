"""Losses against their formulas, makers of data, and data that is refused."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

import jaxflow as jf

from .filled import filled

KEY = jax.random.key(0)


def log_sum_exp(predictions):
    return np.log(np.sum(np.exp(predictions), axis=1))


def cross_entropy(predictions, labels):
    return log_sum_exp(predictions) - predictions[np.arange(len(labels)), labels]


FORMULAS = {
    "square": lambda p, y: np.sum((p - y) ** 2, axis=1) / 2,
    "logistic": lambda p, y: np.sum(np.log(1 + np.exp(-y * p)), axis=1),
    "exponential": lambda p, y: np.sum(np.exp(-y * p), axis=1),
    "cross_entropy": cross_entropy,
}
# z_i = -ℓ'(0, y_i), for three outputs.
CORRELATION_WEIGHTS = {
    "square": lambda y: y,
    "logistic": lambda y: y / 2,
    "exponential": lambda y: y,
    "cross_entropy": lambda y: np.eye(3)[y] - 1 / 3,
}


def targets_for(loss):
    random = np.random.default_rng(1)
    if loss == "cross_entropy":
        return random.integers(0, 3, size=4)
    return random.choice([-1.0, 1.0], size=(4, 3))


def predictions(seed=2):
    return np.random.default_rng(seed).standard_normal((4, 3))


def inputs(num=4):
    return np.random.default_rng(3).standard_normal((num, 2))


def total_loss(task, predictions):
    return float(eqx.filter_jit(task.total_loss)(jnp.asarray(predictions)))


@pytest.mark.parametrize("loss", FORMULAS)
def test_loss_is_its_formula_summed_over_samples(loss):
    y, p = targets_for(loss), predictions()
    task = jf.Task(inputs(), y, loss)
    assert task.num_samples == 4
    assert total_loss(task, p) == pytest.approx(FORMULAS[loss](p, y).sum(), rel=1e-13)


@pytest.mark.parametrize("loss", FORMULAS)
def test_residuals_are_finite_differences_of_the_loss(loss):
    y, p, step = targets_for(loss), predictions(), 1e-6
    task = jf.Task(inputs(), y, loss)
    expected = np.zeros_like(p)
    for k in range(3):
        shift = step * np.eye(3)[k]
        difference = FORMULAS[loss](p + shift, y) - FORMULAS[loss](p - shift, y)
        expected[:, k] = -difference / (2 * step)
    found = eqx.filter_jit(task.residuals)(jnp.asarray(p))
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("loss", FORMULAS)
def test_correlation_weights_are_the_residuals_at_zero(loss):
    y = targets_for(loss)
    task = jf.Task(inputs(), y, loss)
    found = eqx.filter_jit(task.correlation_weights)(jnp.asarray(predictions()))
    np.testing.assert_allclose(found, CORRELATION_WEIGHTS[loss](y), rtol=1e-14)


@pytest.mark.parametrize("loss", ["logistic", "cross_entropy"])
def test_loss_of_a_large_prediction_does_not_overflow(loss):
    right = np.array([[0.0, 800.0, 0.0]])
    if loss == "logistic":
        task = jf.Task(np.ones((1, 2)), np.array([[-1.0, 1.0, 1.0]]), loss)
        expected = [2 * np.log(2), 800 + 2 * np.log(2)]
    else:
        task = jf.Task(np.ones((1, 2)), np.array([1]), loss)
        expected = [0.0, 800 + np.log(2)]
    wrong = np.array([[0.0, -800.0, 0.0]])
    found = [total_loss(task, right), total_loss(task, wrong)]
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_targets_without_an_axis_of_outputs_are_one_output():
    y, p = np.array([1.0, -2.0, 0.5, 3.0]), predictions()[:, :1]
    flat, column = jf.Task(inputs(), y), jf.Task(inputs(), y[:, None])
    assert flat.target_rows.shape == column.target_rows.shape == (4, 1)
    assert total_loss(flat, p) == pytest.approx(np.sum((p[:, 0] - y) ** 2) / 2)
    np.testing.assert_array_equal(flat.target_rows, column.target_rows)


def test_outputs_are_those_of_each_sample():
    network = filled(lambda: jf.FeedForward((2, 3), jf.LeakyReLU(), key=KEY))
    task = jf.Task(inputs(), np.zeros((4, 3)))
    expected = inputs() @ np.asarray(network.weights[0]).T
    np.testing.assert_allclose(task.outputs(network), expected, rtol=1e-13)


class Quartic(jf.AbstractLoss):
    """`Σ_k w (ŷ_k - y_k)⁴`, for targets that are not negative."""

    weight: float = 1.0

    def __call__(self, prediction, target):
        return self.weight * jnp.sum((prediction - target) ** 4)

    def check(self, targets):
        if targets.min() < 0:
            raise jf.InputError("targets", "a negative one", "targets >= 0")


def test_loss_of_ones_own():
    y, p = np.abs(predictions(5)), predictions()
    task = jf.Task(inputs(), y, Quartic(0.5))
    assert total_loss(task, p) == pytest.approx(0.5 * np.sum((p - y) ** 4))
    found = eqx.filter_jit(task.residuals)(jnp.asarray(p))
    np.testing.assert_allclose(found, -2 * (p - y) ** 3, rtol=1e-12)


def test_loss_of_ones_own_may_refuse_targets():
    with pytest.raises(jf.InputError, match="negative") as caught:
        jf.Task(inputs(), -np.ones(4), Quartic())
    assert caught.value.argument == "targets"


class Hinge(jf.AbstractLoss):
    """`max_{k≠y} (1 + ŷ_k - ŷ_y)`, for labels."""

    labels = True

    def __call__(self, prediction, target):
        margins = 1 + prediction - prediction[target]
        return jnp.max(jnp.where(jnp.arange(prediction.size) == target, 0.0, margins))


def test_loss_of_ones_own_may_take_labels():
    y, p = np.array([0, 2, 1, 1]), predictions()
    task = jf.Task(inputs(), y, Hinge())
    assert jnp.issubdtype(task.targets.dtype, jnp.integer)
    margins = 1 + p - p[np.arange(4), y][:, None]
    margins[np.arange(4), y] = 0
    assert total_loss(task, p) == pytest.approx(margins.max(axis=1).sum())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_task_keeps_floating_types(dtype):
    task = jf.Task(inputs().astype(dtype), np.ones(4, dtype))
    assert (task.inputs.dtype, task.targets.dtype) == (dtype, dtype)


def test_task_turns_whole_targets_into_floats_but_labels():
    square = jf.Task(np.ones((4, 2), int), np.array([1, 2, 3, 4]))
    assert (square.inputs.dtype, square.targets.dtype) == (np.int64, np.float64)
    labels = jf.Task(np.ones((4, 2), int), np.array([0, 1, 2, 0]), "cross_entropy")
    assert jnp.issubdtype(labels.targets.dtype, jnp.integer)
    single = labels.astype(jnp.float32)
    assert (single.inputs.dtype, single.targets.dtype) == (np.int64, np.int64)
    square = square.astype(jnp.float32)
    assert (square.inputs.dtype, square.targets.dtype) == (np.int64, np.float32)


def test_task_takes_lists(as_users_have_it):
    task = jf.Task([[1.0, 2.0], [3.0, 4.0]], [1, -1], "logistic")
    np.testing.assert_array_equal(task.inputs, [[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_array_equal(task.targets, [1.0, -1.0])


def spoilt(value):
    data = inputs()
    data[1, 1] = value
    return data


GOOD, HALF = inputs(), np.full(4, 0.5)


@pytest.mark.parametrize(
    ("argument", "message", "x", "y", "loss"),
    [
        ("inputs", "empty", np.zeros((0, 2)), np.zeros(0), "square"),
        ("inputs", "empty", np.zeros((4, 0)), HALF, "square"),
        ("inputs", r"shape \(\)", np.float64(1.0), HALF, "square"),
        ("inputs", "1 values that are NaN", spoilt(np.nan), HALF, "square"),
        ("inputs", "infinite", spoilt(-np.inf), HALF, "square"),
        ("inputs", "real", GOOD + 1j, HALF, "square"),
        ("inputs", "real", np.array([["a", "b"]] * 4), HALF, "square"),
        ("inputs", "real", np.array([[None, 1.0]] * 4), HALF, "square"),
        ("targets", "infinite", GOOD, np.array([1.0, 2.0, np.inf, 0.0]), "square"),
        ("targets", "NaN", GOOD, np.array([1.0, -1.0, np.nan, 1.0]), "logistic"),
        ("targets", "real", GOOD, np.array(["cat", "dog"] * 2), "cross_entropy"),
        ("targets", r"\(3,\)", GOOD, np.ones(3), "square"),
        ("targets", r"\(5, 1\)", GOOD, np.ones((5, 1)), "square"),
        ("targets", r"\(4, 0\)", GOOD, np.ones((4, 0)), "square"),
        ("targets", "several arrays", GOOD, {"a": HALF, "b": HALF}, "square"),
        ("targets", "several arrays", GOOD, (HALF, HALF), "logistic"),
        ("targets", r"shape \(\)", GOOD, np.float64(1.0), "square"),
        ("targets", r"2 \* y - 1", GOOD, np.array([0, 1, 1, 0]), "logistic"),
        ("targets", r"2 \* y - 1", GOOD, np.array([0.0, 1, 1, 0]), "exponential"),
        ("targets", r"2 \* y - 1", GOOD, np.array([True, False] * 2), "logistic"),
        ("targets", r"-1 or 1\.$", GOOD, np.array([1, 2, 1, 2]), "logistic"),
        ("targets", "0.5", GOOD, HALF, "exponential"),
        ("targets", "float64", GOOD, np.array([0.0, 1.0, 2.0, 0.0]), "cross_entropy"),
        ("targets", "-1", GOOD, np.array([0, 1, -1, 0]), "cross_entropy"),
        ("targets", "several arrays", GOOD, {"a": np.ones(4, int)}, "cross_entropy"),
        ("loss", "'mse'.*'square'.*'cross_entropy'", GOOD, HALF, "mse"),
        ("loss", "AbstractLoss", GOOD, HALF, jf.SquareLoss),
        ("loss", "AbstractLoss", GOOD, HALF, lambda prediction, target: 0.0),
    ],
)
def test_data_that_cannot_be_used_is_refused(
    as_users_have_it, argument, message, x, y, loss
):
    with pytest.raises(jf.InputError, match=message) as caught:
        jf.Task(x, y, loss)
    assert caught.value.argument == argument


def test_rows_of_different_lengths_are_refused(as_users_have_it):
    with pytest.raises(jf.InputError) as caught:
        jf.Task([[1.0, 2.0], [3.0]], [1.0, 2.0])
    assert caught.value.argument == "inputs"


@pytest.mark.parametrize("dtype", [None, jnp.float32])
def test_sphere_points_have_unit_norm(dtype):
    x = np.asarray(jf.data.sphere_points(6, 3, key=KEY, dtype=dtype))
    assert x.shape == (6, 3)
    assert x.dtype == (dtype or np.float64)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, rtol=8 * np.finfo(x.dtype).eps)


@pytest.mark.parametrize("coherence", [0.0, 0.05, 0.3])
def test_nearly_orthogonal_points_have_their_coherence_exactly(coherence):
    x = np.asarray(jf.data.nearly_orthogonal_points(4, 6, coherence=coherence, key=KEY))
    assert x.shape == (4, 6)
    gram = x @ x.T
    np.testing.assert_allclose(np.diag(gram), 1, rtol=1e-13)
    off = np.abs(gram - np.diag(np.diag(gram)))
    assert off.max() == pytest.approx(coherence, abs=1e-13)


@pytest.mark.parametrize(
    ("argument", "num", "dim", "coherence"),
    [
        ("dim", 4, 3, 0.1),
        ("coherence", 4, 6, 1.0),
        ("coherence", 4, 6, -0.1),
        ("coherence", 4, 6, 0.99),
        ("num", 0, 3, 0.1),
    ],
)
def test_points_that_cannot_be_are_refused(argument, num, dim, coherence):
    with pytest.raises(jf.InputError) as caught:
        jf.data.nearly_orthogonal_points(num, dim, coherence=coherence, key=KEY)
    assert caught.value.argument == argument


def teacher(out_size=1):
    return filled(lambda: jf.FeedForward((2, out_size), jf.LeakyReLU(), key=KEY))


def teacher_outputs(out_size=1):
    return inputs() @ np.asarray(teacher(out_size).weights[0]).T


@pytest.mark.parametrize("target_norm", [None, 0.3])
@pytest.mark.parametrize("loss", ["square", jf.SquareLoss()])
def test_teacher_targets_are_its_outputs(loss, target_norm):
    task = jf.data.teacher_student(teacher(), inputs(), loss=loss, target_norm=target_norm)
    y = teacher_outputs()
    expected = y if target_norm is None else target_norm * y / np.linalg.norm(y)
    np.testing.assert_allclose(task.targets, expected, rtol=1e-12)
    np.testing.assert_array_equal(task.inputs, inputs())


@pytest.mark.parametrize(
    "loss", ["logistic", "exponential", jf.LogisticLoss(), jf.ExponentialLoss()], ids=str
)
def test_teacher_gives_signs_to_margin_losses(loss):
    task = jf.data.teacher_student(teacher(), inputs(), loss=loss)
    np.testing.assert_array_equal(task.targets, np.sign(teacher_outputs()))


@pytest.mark.parametrize("loss", ["cross_entropy", jf.CrossEntropyLoss()], ids=str)
def test_teacher_gives_its_largest_output_to_cross_entropy(loss):
    task = jf.data.teacher_student(teacher(3), inputs(), loss=loss)
    np.testing.assert_array_equal(task.targets, teacher_outputs(3).argmax(axis=1))


@pytest.mark.parametrize(
    ("loss", "target_norm"), [("logistic", 1.0), ("square", 0.0), ("square", -1.0)]
)
def test_target_norm_that_makes_no_sense_is_refused(loss, target_norm):
    with pytest.raises(jf.InputError) as caught:
        jf.data.teacher_student(teacher(), inputs(), loss=loss, target_norm=target_norm)
    assert caught.value.argument == "target_norm"


def images_of(digit):
    """The images of a digit with unit norm, as a set of rows."""
    images, labels = load_digits(return_X_y=True)
    chosen = images[labels == digit]
    rows = chosen / np.linalg.norm(chosen, axis=1, keepdims=True)
    return {tuple(row) for row in rows.round(12)}


@pytest.mark.parametrize(
    ("classes", "labels"),
    [((3, 8), (-1.0, 1.0)), ((8, 3), (-1.0, 1.0)), ((1, 4, 7), range(3))],
)
def test_digits_are_unit_images_with_labels_in_the_order_of_the_classes(classes, labels):
    task = jf.data.digits(classes, 30)
    x, y = np.asarray(task.inputs), np.asarray(task.targets)
    assert x.shape == (30, 64)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, rtol=1e-14)
    for digit, label in zip(classes, labels):
        rows = {tuple(row) for row in x[y == label].round(12)}
        assert len(rows) == 30 // len(classes)
        assert rows <= images_of(digit)


def test_digits_choose_a_loss_that_fits():
    assert isinstance(jf.data.digits((3, 8), 10).loss, jf.LogisticLoss)
    assert isinstance(jf.data.digits((1, 2, 3), 10).loss, jf.CrossEntropyLoss)
    assert isinstance(jf.data.digits((3, 8), 10, loss="square").loss, jf.SquareLoss)


def test_all_digits_are_there_if_no_number_is_given():
    _, labels = load_digits(return_X_y=True)
    assert jf.data.digits((3, 8)).num_samples == np.isin(labels, [3, 8]).sum()


def test_digits_are_fixed_by_their_seed():
    first, again, other = (
        np.asarray(jf.data.digits((3, 8), 20, seed=seed).inputs) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("argument", "classes", "num"),
    [
        ("classes", (3,), None),
        ("classes", (3, 3), None),
        ("classes", (3, 11), None),
        ("num", (3, 8), 1),
        ("num", (3, 8), 10_000),
    ],
)
def test_digits_that_are_not_there_are_refused(argument, classes, num):
    with pytest.raises(jf.InputError) as caught:
        jf.data.digits(classes, num)
    assert caught.value.argument == argument


@pytest.mark.parametrize("loss", FORMULAS)
def test_subsets_and_samples_of_a_task(loss):
    task = jf.Task(inputs(), targets_for(loss), loss)
    assert isinstance(task, jf.AbstractTask)
    some = task.subset(np.array([2, 0]))
    assert some.num_samples == 2 and some.loss == task.loss
    np.testing.assert_array_equal(some.inputs, task.inputs[np.array([2, 0])])
    np.testing.assert_array_equal(some.targets, task.targets[np.array([2, 0])])
    p = jnp.asarray(predictions())
    parts = [task.subset(np.array([k])).total_loss(p[k][None]) for k in range(4)]
    assert float(sum(parts)) == pytest.approx(total_loss(task, p), rel=1e-13)


def test_samples_are_drawn_without_replacement_by_a_permutation():
    task = jf.Task(np.arange(10.0)[:, None], np.arange(10.0))
    key = jax.random.key(3)
    drawn = jax.jit(lambda key: task.sample(key, 4).targets)(key)
    np.testing.assert_array_equal(drawn, jax.random.permutation(key, 10)[:4])
    everything = task.sample(key, 10)
    np.testing.assert_array_equal(np.sort(everything.targets), np.arange(10.0))


def test_losses_say_what_they_are():
    outputs = jnp.array([[0.5, -0.1, 0.2], [-3.0, 0.0, 2.0]])
    signs = [[1.0, -1.0, 1.0], [-1.0, 1.0, 1.0]]
    for loss in (jf.LogisticLoss(), jf.ExponentialLoss()):
        assert loss.has_margins
        np.testing.assert_array_equal(loss.targets_from(outputs), signs)
    assert jf.CrossEntropyLoss().has_margins
    assert jf.CrossEntropyLoss().targets_from(outputs).tolist() == [0, 2]
    assert not jf.SquareLoss().has_margins and not Quartic().has_margins
    assert jf.SquareLoss().targets_from(outputs) is outputs
    assert Hinge().targets_from(outputs).tolist() == [0, 2]


class Halved(jf.AbstractLoss):
    """A loss of one's own whose targets are half of a teacher's outputs."""

    def __call__(self, prediction, target):
        return jnp.sum((prediction - target) ** 2)

    def targets_from(self, outputs):
        return outputs / 2


def test_a_teacher_asks_a_loss_of_ones_own_for_its_targets():
    task = jf.data.teacher_student(teacher(), inputs(), loss=Halved())
    np.testing.assert_allclose(task.targets, teacher_outputs() / 2, rtol=1e-12)


def test_mean_is_the_sum_over_the_weights_of_samples():
    y = targets_for("square")
    p = predictions()
    weights = np.array([1.0, 0.0, 2.0, 0.5])
    losses = np.sum((p - y) ** 2, axis=1) / 2
    plain = jf.Task(inputs(), y, reduction="mean")
    weighted = jf.Task(inputs(), y, sample_weights=weights, reduction="mean")
    assert total_loss(plain, p) == pytest.approx(np.mean(losses))
    assert total_loss(weighted, p) == pytest.approx(np.average(losses, weights=weights))
    pulls = weighted.residuals(jnp.asarray(p))
    np.testing.assert_allclose(pulls, weights[:, None] * (y - p) / 3.5, rtol=1e-13)
    # Of some samples it is the mean of these.
    assert total_loss(plain.subset(np.array([0, 2])), p[[0, 2]]) == pytest.approx(
        np.mean(losses[[0, 2]])
    )


def test_mean_of_margins_runs_the_same_way_at_another_pace():
    """On the clock of polar coordinates too, which is measured by the loss."""
    signs = np.sign(inputs()[:, 0])
    network = jf.FeedForward((2, 3, 1), jf.LeakyReLU(0.5, 2), key=KEY)
    ends = [
        jf.gradient_flow(
            network,
            jf.Task(inputs(), signs, "logistic", reduction=reduction),
            stop=jf.LogTime(log_time),
        )
        for reduction, log_time in (("sum", 25.0), ("mean", 25.0 + np.log(4)))
    ]
    assert float(ends[0].loss) < 1e-6
    np.testing.assert_allclose(ends[1].loss, ends[0].loss / 4, rtol=1e-8)
    np.testing.assert_allclose(ends[1].log_norm, ends[0].log_norm, rtol=1e-10)


class FourthPowers(jf.AbstractRegularizer):
    """A regularizer of a user's own."""

    def __call__(self, network):
        return jnp.sum(jf.networks.flatten(network) ** 4)


@pytest.mark.parametrize("regularizer", [jf.L2(0.3), FourthPowers()])
def test_regularized_flow_and_descent_against_formulas(regularizer):
    """One layer: `w' = -Xᵀ(Xw - y)/n - ∇R(w)`, by small steps of RK4, and by each step."""
    x, y = inputs(), inputs()[:, 1] ** 2
    task = jf.Task(x, y, reduction="mean", regularizer=regularizer)
    network = jf.FeedForward((2, 1), jf.LeakyReLU(), key=KEY)
    slope = (lambda w: 4 * w**3) if regularizer == FourthPowers() else (lambda w: 0.3 * w)
    field = lambda w: -x.T @ (x @ w - y) / 4 - slope(w)
    w = descended = np.asarray(network.weights[0][0])
    for _ in range(500):
        h = 2.0 / 500
        k1 = field(w)
        k2 = field(w + h / 2 * k1)
        k3 = field(w + h / 2 * k2)
        w = w + h / 6 * (k1 + 2 * k2 + 2 * k3 + field(w + h * k3))
    for _ in range(20):
        descended = descended + 0.1 * field(descended)
    flow = jf.gradient_flow(network, task, stop=jf.Time(2.0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(flow.networks.weights[0][0], w, rtol=1e-8)
    np.testing.assert_allclose(flow.loss, jf.loss(flow.networks, task), rtol=1e-12)
    descent = jf.gradient_descent(network, task, optimizer=optax.sgd(0.1), num_steps=20)
    np.testing.assert_allclose(descent.networks.weights[0][0], descended, rtol=1e-12)


def test_batches_of_a_regularized_mean_have_its_gradient_on_average():
    """Each sample is in half of the batches, and the weights cost the same in all."""
    x, y = inputs(), inputs()[:, 1] ** 2
    weights = [1.0, 2.0, 3.0, 4.0]
    given = {"sample_weights": weights, "reduction": "mean", "regularizer": jf.L2(0.3)}
    task = jf.Task(x, y, **given)
    network = jf.FeedForward((2, 1), jf.LeakyReLU(), key=KEY)
    ensemble = jax.tree_util.tree_map(
        lambda leaf: jnp.repeat(leaf[None], 4000, axis=0) if eqx.is_array(leaf) else leaf,
        network,
    )
    how = {"optimizer": optax.sgd(0.02), "num_steps": 1}
    end = jf.gradient_descent(ensemble, task, batch_size=2, key=KEY, **how)
    start = np.asarray(network.weights[0][0])
    steps = np.asarray(end.networks.weights[0][:, 0]) - start
    exact = np.asarray(jf.gradient_descent(network, task, **how).networks.weights[0][0])
    error = np.std(steps, axis=0) / np.sqrt(len(steps))
    assert np.all(np.abs(np.mean(steps, axis=0) - (exact - start)) < 4 * error)
    assert np.all(error < 0.02 * np.abs(exact - start))


def test_members_may_have_regularized_means_of_their_own():
    x, y = inputs(), inputs()[:, 1]
    given = {"reduction": "mean", "regularizer": jf.L2(0.1)}
    tasks = jf.TaskPerMember(np.stack([x, x]), np.stack([y, -2 * y]), **given)
    network = jf.FeedForward((2, 1), jf.LeakyReLU(), key=KEY)
    ensemble = jf.sample_ensemble(network, 2, key=KEY)
    both = jf.gradient_flow(ensemble, tasks, stop=jf.Time(1.0))
    second = jf.gradient_flow(
        jf.networks.member(ensemble, 1), jf.Task(x, -2 * y, **given), stop=jf.Time(1.0)
    )
    np.testing.assert_allclose(both.loss[1], second.loss, rtol=1e-12)


@pytest.mark.parametrize(
    "call",
    [
        lambda network, task: jf.ncf_flow(network, task),
        lambda network, task: jf.find_kkt(jf.sample_ensemble(network, 2, key=KEY), task),
        lambda network, task: jf.gradient_flow(network, task, coordinates="polar"),
    ],
)
def test_regularizers_are_refused_where_the_order_counts(call):
    task = jf.Task(inputs(), inputs()[:, 0], regularizer=jf.L2(0.1))
    network = jf.FeedForward((2, 3, 1), jf.LeakyReLU(), key=KEY)
    with pytest.raises(jf.NotHomogeneousError, match="a regularizer"):
        call(network, task)
