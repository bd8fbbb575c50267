"""Tasks with finite data: what outputs are compared with, and by which loss."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray, PyTree, Shaped

from .._arrays import on_device
from .._checks import (
    check_choice,
    check_key,
    check_numbers,
    check_rows,
    check_whole,
    is_traced,
)
from .._samples import as_arrays, is_several, num_samples, output_of, sample_of
from ..errors import InputError
from ._abstract import AbstractTask
from ._losses import AbstractLoss, as_loss, in_form
from ._regularizers import AbstractRegularizer, as_regularizer


class Task(AbstractTask):
    """Inputs, targets and a loss: `𝓛(w) = Σ_i s_i ℓ(H(x_i; w), y_i)`, a sum over samples.

    Or their mean, `Σ_i s_i ℓ_i / Σ_i s_i`, and with a regularizer `R(w)` beside it.

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
        reduction: `"sum"` or `"mean"`, of which the flow is slower by the factor `n`.
        regularizer: `R`, such as `jaxflow.L2(0.1)`, any `AbstractRegularizer`. With it the
            loss has no order of homogeneity: flows are Cartesian, and there is no neural
            correlation function.

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
    regularizer: AbstractRegularizer | None = None
    reduction: str = eqx.field(static=True, default="sum")

    def __init__(
        self,
        inputs: Any,
        targets: Any,
        loss: str | AbstractLoss = "square",
        *,
        sample_weights: ArrayLike | Sequence | None = None,
        reduction: str = "sum",
        regularizer: AbstractRegularizer | None = None,
    ):
        self.loss = as_loss(loss)
        self.reduction = check_choice("reduction", reduction, REDUCTIONS)
        self.regularizer = as_regularizer(regularizer)
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

    @property
    def divisor(self) -> Any:
        if self.reduction == "sum":
            return 1.0
        weights = self.sample_weights
        return float(self.num_samples) if weights is None else jnp.sum(weights)

    @property
    def has_penalty(self) -> bool:
        return self.regularizer is not None

    def penalty(self, network: eqx.Module) -> Float[Array, ""]:
        if self.regularizer is None:
            return super().penalty(network)
        return self.regularizer(network)

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
        total = jnp.sum(losses if weights is None else _times(weights, losses))
        return self._reduced(total)

    def residuals(self, outputs: Float[Array, "n out"]) -> Float[Array, "n out"]:
        found = -jax.vmap(jax.grad(self.loss))(outputs, self.target_rows)
        weights = self.sample_weights
        return self._reduced(found if weights is None else _times(weights[:, None], found))

    def _reduced(self, values: Float[Array, "..."]) -> Float[Array, "..."]:
        return values if self.reduction == "sum" else values / self.divisor

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


REDUCTIONS = ("sum", "mean")


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
