"""Learning tasks: what a network's outputs are compared with, and by which loss."""

import abc
from collections.abc import Callable, Sequence
from typing import Any, cast, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray, PyTree, Shaped

from .._arrays import on_device
from .._checks import check_key, check_numbers, check_rows, check_whole, is_traced, shown
from .._samples import as_arrays, is_several, num_samples, output_of, sample_of
from ..errors import InputError
from ._losses import AbstractLoss, AbstractMarginLoss, as_loss, in_form

AnyTask = TypeVar("AnyTask", bound="AbstractTask")


class AbstractTask(eqx.Module):
    """What a network is trained on: a loss `𝓛(w)` that is a sum of `ℓ` over samples.

    `Task` is the one with finite data. A subclass says how many samples there are and what
    the outputs, losses and margins on them are. In all methods `outputs` are those of
    `outputs(network)`.

    Examples:
        >>> import jax.numpy as jnp, jaxflow as jf
        >>> task = jf.Task(jnp.eye(3), jnp.ones(3))
        >>> isinstance(task, jf.AbstractTask), task.subset(jnp.array([0, 2])).num_samples
        (True, 2)
    """

    loss: eqx.AbstractVar[AbstractLoss]
    inputs: eqx.AbstractVar[PyTree[Shaped[Array, "n ..."]]]
    """Samples `x` that a network can be called on one by one."""

    def misfit(self, network: eqx.Module) -> str | None:
        """Why a network cannot be trained on the task; `None` if it can."""
        try:
            outputs = eqx.filter_eval_shape(self.outputs, network)
            eqx.filter_eval_shape(self.residuals, outputs)
        except Exception as error:  # whatever the user's module or task raises
            return f"{type(error).__name__}: {error}"
        return None

    @property
    def asks_for(self) -> str:
        """Which networks can be trained on the task, for the message of an error."""
        return f"a network that {type(self).__name__} can be evaluated with"

    @property
    @abc.abstractmethod
    def num_samples(self) -> int:
        """`n`, the number of samples."""

    @abc.abstractmethod
    def outputs(self, network: eqx.Module) -> Float[Array, "n out"]:
        """`H(x_i; w)` for every sample; a scalar output counts as one output."""

    @abc.abstractmethod
    def total_loss(self, outputs: Float[Array, "n out"]) -> Float[Array, ""]:
        """`Σ_i ℓ(ŷ_i, y_i)` for the outputs `ŷ`."""

    @abc.abstractmethod
    def residuals(self, outputs: Float[Array, "n out"]) -> Float[Array, "n out"]:
        """`-ℓ'(ŷ_i, y_i)`, what each sample pulls its output towards."""

    @abc.abstractmethod
    def margins(self, outputs: Float[Array, "n out"]) -> Float[Array, "n *margins"]:
        """`q_i`, for each sample one or several; all positive once the data is separated.

        An `InputError` where the loss has none.
        """

    @abc.abstractmethod
    def subset(self, rows: Int[ArrayLike, " some"]) -> "AbstractTask":
        """The task with these samples only."""

    @abc.abstractmethod
    def sample(self, key: PRNGKeyArray, num: int) -> "AbstractTask":
        """The task with `num` samples drawn at random, without replacement."""

    def astype(self: AnyTask, dtype: Any) -> AnyTask:
        """The same task with floating data of another type."""
        return jax.tree_util.tree_map(
            lambda a: a.astype(dtype) if eqx.is_inexact_array(a) else a, self
        )

    def correlation_weights(self, outputs: Float[Array, "n out"]) -> Float[Array, "n out"]:
        """`z_i = -ℓ'(0, y_i)`; only the shape of `outputs` is read."""
        return self.residuals(jnp.zeros_like(outputs))

    @property
    def has_margins(self) -> bool:
        """Whether the loss is a function of margins with an exponential tail."""
        return self.loss.has_margins

    @property
    def margin_loss(self) -> AbstractMarginLoss:
        """The loss, where it is one of margins; an `InputError` where it is not."""
        if not self.has_margins:
            raise InputError(
                "task",
                f"the loss {self.loss}, which has no margins",
                'a loss with an exponential tail: "logistic", "exponential", '
                '"cross_entropy" or an AbstractMarginLoss',
            )
        return cast(AbstractMarginLoss, self.loss)

    def log_loss(self, outputs: Float[Array, "n out"]) -> Float[Array, ""]:
        """`log 𝓛`, finite where `𝓛` itself underflows; for losses with margins."""
        return self.log_loss_of_margins(self.margins(outputs))

    def log_loss_of_margins(self, margins: Float[Array, "n *margins"]) -> Float[Array, ""]:
        """`log 𝓛` as a function of the margins."""
        return jax.nn.logsumexp(self.log_losses_of_margins(margins))

    def log_losses_of_margins(
        self, margins: Float[Array, "n *margins"]
    ) -> Float[Array, " n"]:
        """`log(s_i ℓ_i)` of every sample; minus infinity for samples of no weight."""
        weights = self.weights_of_samples
        if weights is None:
            return jax.vmap(self.margin_loss.log_of_margins)(margins)
        counts = weights > 0
        finite = jnp.where(counts.reshape(-1, *(1,) * (margins.ndim - 1)), margins, 0.0)
        losses = jax.vmap(self.margin_loss.log_of_margins)(finite)
        log_weights = jnp.log(jnp.where(counts, weights, 1.0))
        return jnp.where(counts, losses + log_weights, -jnp.inf)

    @property
    def weights_of_samples(self) -> Float[Array, " n"] | None:
        """`s_i`, where samples have weights."""
        return None

    def shaped_for(self: AnyTask, network: eqx.Module) -> AnyTask:
        """The same task for the outputs of a network like this one, as rows (n, out)."""
        return self

    @property
    def example(self: AnyTask) -> AnyTask:
        """The task of one member: this one is that of all."""
        return self

    @property
    def num_members(self) -> int | None:
        """How many members have tasks of their own; `None` if this one is that of all."""
        return None

    def own(self, rows: np.ndarray) -> tuple[Any, ...]:
        """Arrays that differ from member to member: there are none."""
        return ()

    def of_rows(self: AnyTask, rows: np.ndarray) -> AnyTask:
        """The task of these members."""
        return self

    def relative_residuals(self, outputs: Float[Array, "n out"]) -> Float[Array, "n out"]:
        """`-∂ log 𝓛/∂ŷ_i`, the residuals divided by the loss; for losses with margins."""
        return -jax.grad(self.log_loss)(outputs)


class Task(AbstractTask):
    """Inputs, targets and a loss: `𝓛(w) = Σ_i s_i ℓ(H(x_i; w), y_i)`, a sum over samples.

    Inputs, targets and what a network gives may be pytrees of arrays (tuples, dicts) of any
    rank, such as sequences. A tuple or a dict of inputs is one argument of the network.

    Arguments:
        inputs: `x`, (n, *input_shape), finite; whole numbers, such as tokens, stay such. Or
            a pytree of such arrays.
        targets: `y`, (n,) or of the shape of the outputs, (n, …); ±1 for `"logistic"` and
            `"exponential"`, whole numbers (n, …) for `"cross_entropy"`, one for each vector
            of scores. A loss of your own is given whatever you give, a scalar as a vector
            of one.
        loss: `"square"`, `"logistic"`, `"exponential"`, `"cross_entropy"`, or any
            `AbstractLoss`.
        sample_weights: `s`, (n,), not negative; ones if not given.

    Raises:
        InputError: for empty data, NaN or infinite values, numbers of samples that differ,
            and labels that do not fit the loss.

    Source:
        arXiv:2403.08121, section 2.

    Examples:
        >>> import jax.numpy as jnp, jaxflow as jf
        >>> task = jf.Task(jnp.eye(2), jnp.array([1.0, -1.0]), loss="logistic")
        >>> task.num_samples
        2
    """

    inputs: PyTree[Shaped[Array, "..."]]
    targets: PyTree[Shaped[Array, "..."]]
    loss: AbstractLoss
    sample_weights: Float[Array, "..."] | None = None

    def __init__(
        self,
        inputs: Any,
        targets: Any,
        loss: str | AbstractLoss = "square",
        *,
        sample_weights: ArrayLike | Sequence | None = None,
    ):
        self.loss = as_loss(loss)
        x, y = as_arrays("inputs", inputs), as_arrays("targets", targets)
        num = num_samples("inputs", x)
        leaves = jax.tree_util.tree_leaves(y)
        if any(not leaf.ndim or leaf.shape[0] != num or not leaf.size for leaf in leaves):
            shapes = " and ".join(f"shape {leaf.shape}" for leaf in leaves)
            expected = f"({num},) or ({num}, …), one target for each input"
            raise InputError("targets", shapes, expected)
        self.loss.check(y)
        self.inputs = jax.tree_util.tree_map(on_device, x)
        if not is_several(targets) and not self.loss.labels:
            y = _as_float(y)
        self.targets = jax.tree_util.tree_map(on_device, y)
        self.sample_weights = _as_weights(sample_weights, num)

    @property
    def asks_for(self) -> str:
        inputs = shapes_of(self.inputs)
        return f"outputs like the targets {shapes_of(self.targets)} for {inputs}"

    def misfit(self, network: eqx.Module) -> str | None:
        output, reason = output_of(network, sample_of(self.inputs))
        if reason is not None:
            return reason
        seen = as_vector(output) if _is_flat(output) else output
        targets = self.targets
        if self._are_numbers(targets):  # as rows, of which the shape will do
            targets = jax.ShapeDtypeStruct((*targets.shape, 1), targets.dtype)
        return self.loss.misfit(seen, targets)

    def shaped_for(self, network: eqx.Module) -> "Task":
        output, reason = output_of(network, sample_of(self.inputs))
        if reason is not None or _is_flat(output):
            return self
        return eqx.tree_at(lambda task: task.loss, self, in_form(self.loss, output))

    @property
    def num_samples(self) -> int:
        return jax.tree_util.tree_leaves(self.inputs)[0].shape[0]

    @property
    def weights_of_samples(self) -> Float[Array, " n"] | None:
        return self.sample_weights

    def outputs(self, network: eqx.Module) -> Float[Array, "n out"]:
        outputs = jax.vmap(cast(Callable, network))(self.inputs)
        rows = [
            leaf.reshape(self.num_samples, -1)
            for leaf in jax.tree_util.tree_leaves(outputs)
        ]
        return rows[0] if len(rows) == 1 else jnp.concatenate(rows, axis=1)

    def total_loss(self, outputs: Float[Array, "n out"]) -> Float[Array, ""]:
        losses = jax.vmap(self.loss)(outputs, self.target_rows)
        weights = self.sample_weights
        # A sample that does not count may have any loss.
        return jnp.sum(losses if weights is None else _times(weights, losses))

    def residuals(self, outputs: Float[Array, "n out"]) -> Float[Array, "n out"]:
        found = -jax.vmap(jax.grad(self.loss))(outputs, self.target_rows)
        weights = self.sample_weights
        return found if weights is None else _times(weights[:, None], found)

    def margins(self, outputs: Float[Array, "n out"]) -> Float[Array, "n *margins"]:
        """`y_i ŷ_i` for labels ±1, `ŷ_y - ŷ_k` for classes (infinite for `k = y`).

        Infinite for samples of no weight.
        """
        found = jax.vmap(self.margin_loss.margins)(outputs, self.target_rows)
        if self.sample_weights is None:
            return found
        counts = self.sample_weights.reshape(-1, *(1,) * (found.ndim - 1)) > 0
        return jnp.where(counts, found, jnp.inf)

    def subset(self, rows: Int[ArrayLike, " some"]) -> "Task":
        # Inside of a compiled function nobody can say whether they are there.
        known = not is_traced(rows)
        rows = check_rows("rows", rows, self.num_samples) if known else rows
        rows = jnp.asarray(rows)
        parts = (self.inputs, self.targets, self.sample_weights)
        return self.with_samples(*jax.tree_util.tree_map(lambda a: a[rows], parts))

    def with_samples(self, inputs: PyTree, targets: PyTree, weights: Any) -> "Task":
        """The same task with other data, which is not looked at."""
        where = lambda task: (task.inputs, task.targets, task.sample_weights)
        return eqx.tree_at(
            where, self, (inputs, targets, weights), is_leaf=lambda node: node is None
        )

    def sample(self, key: PRNGKeyArray, num: int) -> "Task":
        num = check_whole("num", num, most=self.num_samples)
        order = jax.random.permutation(check_key("key", key), self.num_samples)
        return self.subset(order[:num])

    @property
    def target_rows(self) -> PyTree[Shaped[Array, "n ..."]]:
        """The targets as the loss sees them: whole labels, or rows (n, out)."""
        return self.targets[:, None] if self._are_numbers(self.targets) else self.targets

    def _are_numbers(self, targets: Any) -> bool:
        """Whether each target is one number, which losses see as a vector."""
        return eqx.is_array(targets) and targets.ndim == 1 and not self.loss.labels


def check_task(task: Any, argument: str = "task") -> None:
    """Raises `InputError` for what is no task."""
    if not isinstance(task, AbstractTask):
        found = shown(task) if isinstance(task, (str, type)) else type(task).__name__
        expected = "a jaxflow.Task(inputs, targets)"
        if hasattr(task, "num_members"):
            expected += " for all members; task[0] is that of one"
        raise InputError(argument, found, expected)


def as_inputs(inputs: Any) -> PyTree[Shaped[Array, "n ..."]]:
    """The samples that a caller gave."""
    arrays = as_arrays("inputs", inputs)
    num_samples("inputs", arrays)
    return jax.tree_util.tree_map(jnp.asarray, arrays)


def shapes_of(arrays: PyTree) -> str:
    """The shapes of arrays, for a message."""
    return " and ".join(str(leaf.shape) for leaf in jax.tree_util.tree_leaves(arrays))


def _is_flat(output: PyTree) -> bool:
    """Whether an output is a vector or a scalar, which losses see as a vector."""
    return isinstance(output, jax.ShapeDtypeStruct) and output.ndim <= 1


def as_vector(output: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((output.size,), output.dtype)


def _times(weights: Float[Array, "..."], values: Float[Array, "..."]):
    return jnp.where(weights > 0, weights * values, 0.0)


def _as_weights(weights: Any, num: int) -> Float[Array, " n"] | None:
    if weights is None:
        return None
    expected = f"({num},) numbers >= 0, not all zero"
    not_negative = lambda w: np.isfinite(w) & (np.asarray(w) >= 0)
    array = check_numbers("sample_weights", weights, expected, not_negative)
    if array.shape != (num,):
        raise InputError("sample_weights", f"shape {array.shape}", expected)
    if not np.any(array > 0):
        raise InputError("sample_weights", "zeros only", expected)
    return on_device(array.astype(jnp.result_type(float)))


def _as_float(data: np.ndarray) -> np.ndarray:
    kept = jnp.issubdtype(data.dtype, jnp.floating)
    return data if kept else data.astype(jnp.result_type(float))
