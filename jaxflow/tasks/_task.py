"""Learning tasks: what a network's outputs are compared with, and by which loss."""

import abc
from collections.abc import Callable, Sequence
from typing import Any, cast, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray, Shaped

from .._arrays import is_known, on_device
from .._checks import check_key, check_rows, check_whole, is_traced, shown
from ..errors import InputError
from ._losses import AbstractLoss, AbstractMarginLoss, as_loss

AnyTask = TypeVar("AnyTask", bound="AbstractTask")


class AbstractTask(eqx.Module):
    """What a network is trained on: a loss `𝓛(w)` that is a sum of `ℓ` over samples.

    `Task` is the one with finite data. A subclass says how many samples there are and what
    the outputs, losses and margins on them are. In all methods `outputs` are those of
    `outputs(network)`.

    >>> import jax.numpy as jnp, jaxflow as jf
    >>> task = jf.Task(jnp.eye(3), jnp.ones(3))
    >>> isinstance(task, jf.AbstractTask), task.subset(jnp.array([0, 2])).num_samples
    (True, 2)
    """

    loss: eqx.AbstractVar[AbstractLoss]
    inputs: eqx.AbstractVar[Float[Array, "n *input_shape"]]
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
    def margins(self, outputs: Float[Array, "n out"]) -> Float[Array, "n margins"]:
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

    def log_loss_of_margins(self, margins: Float[Array, "n margins"]) -> Float[Array, ""]:
        """`log 𝓛` as a function of the margins."""
        return jax.nn.logsumexp(jax.vmap(self.margin_loss.log_of_margins)(margins))

    def relative_residuals(self, outputs: Float[Array, "n out"]) -> Float[Array, "n out"]:
        """`-∂ log 𝓛/∂ŷ_i`, the residuals divided by the loss; for losses with margins."""
        return -jax.grad(self.log_loss)(outputs)


class Task(AbstractTask):
    """Inputs, targets and a loss: `𝓛(w) = Σ_i ℓ(H(x_i; w), y_i)`, a sum over samples.

    **Arguments:**

    - `inputs`: `x`, (n, *input_shape), finite.
    - `targets`: `y`, (n,) or (n, out); ±1 for `"logistic"` and `"exponential"`, whole
      numbers of shape (n,) for `"cross_entropy"`.
    - `loss`: `"square"`, `"logistic"`, `"exponential"`, `"cross_entropy"`, or any
      `AbstractLoss`.

    **Raises:** `InputError` for empty data, NaN or infinite values, numbers of samples
    that differ, and labels that do not fit the loss.

    **Source:** arXiv:2403.08121, section 2.

    >>> import jax.numpy as jnp
    >>> task = Task(jnp.eye(2), jnp.array([1.0, -1.0]), loss="logistic")
    >>> task.num_samples
    2
    """

    inputs: Float[Array, "n *input_shape"]
    targets: Shaped[Array, "n *out"]
    loss: AbstractLoss

    def __init__(
        self,
        inputs: ArrayLike | Sequence,
        targets: ArrayLike | Sequence,
        loss: str | AbstractLoss = "square",
    ):
        self.loss = as_loss(loss)
        x, y = _as_samples(inputs), _as_data("targets", targets)
        if y.ndim not in (1, 2) or y.shape[0] != x.shape[0] or y.size == 0:
            raise InputError(
                "targets",
                f"shape {y.shape}",
                f"({x.shape[0]},) or ({x.shape[0]}, out), one target for each input",
            )
        self.loss.check(y)
        self.inputs = on_device(_as_float(x))
        self.targets = on_device(y if self.loss.labels else _as_float(y))

    @property
    def asks_for(self) -> str:
        return f"outputs like the targets {self.targets.shape} for {self.inputs.shape}"

    def misfit(self, network: eqx.Module) -> str | None:
        sample = jax.ShapeDtypeStruct(self.inputs.shape[1:], self.inputs.dtype)
        try:
            output = eqx.filter_eval_shape(cast(Callable, network), sample)
        except Exception as error:  # whatever the user's module raises
            return f"{type(error).__name__} on one sample: {error}"
        if not isinstance(output, jax.ShapeDtypeStruct) or output.ndim > 1:
            return f"its output for one sample is {output}, not a vector or a scalar"
        if self.loss.labels:
            known = is_known(self.targets)
            largest = int(np.max(np.asarray(self.targets))) if known else 0
            classes = max(largest + 1, 2)
            if output.size < classes:
                return f"{output.size} outputs for {classes} classes"
        else:
            wanted = self.targets.shape[1] if self.targets.ndim == 2 else 1
            if output.size != wanted:
                return f"{output.size} outputs for targets {self.targets.shape}"
        self._check_losses(jax.ShapeDtypeStruct((output.size,), output.dtype))
        return None

    def _check_losses(self, output: jax.ShapeDtypeStruct) -> None:
        num = self.num_samples
        outputs = jax.ShapeDtypeStruct((num, *output.shape), output.dtype)
        losses = eqx.filter_eval_shape(
            lambda task, outputs: jax.vmap(task.loss)(outputs, task.target_rows),
            self,
            outputs,
        )
        if getattr(losses, "shape", None) != (num,):
            found = f"{self.loss} giving {losses} for {num} samples"
            raise InputError("loss", found, "scalars")

    @property
    def num_samples(self) -> int:
        return self.inputs.shape[0]

    def outputs(self, network: eqx.Module) -> Float[Array, "n out"]:
        outputs = jax.vmap(cast(Callable, network))(self.inputs)
        return outputs.reshape(self.num_samples, -1)

    def total_loss(self, outputs: Float[Array, "n out"]) -> Float[Array, ""]:
        return jnp.sum(jax.vmap(self.loss)(outputs, self.target_rows))

    def residuals(self, outputs: Float[Array, "n out"]) -> Float[Array, "n out"]:
        return -jax.vmap(jax.grad(self.loss))(outputs, self.target_rows)

    def margins(self, outputs: Float[Array, "n out"]) -> Float[Array, "n margins"]:
        """`y_i ŷ_i` for labels ±1, `ŷ_y - ŷ_k` for classes (infinite for `k = y`)."""
        return jax.vmap(self.margin_loss.margins)(outputs, self.target_rows)

    def subset(self, rows: Int[ArrayLike, " some"]) -> "Task":
        # Inside of a compiled function nobody can say whether they are there.
        known = not is_traced(rows)
        rows = check_rows("rows", rows, self.num_samples) if known else rows
        rows = jnp.asarray(rows)
        few = (self.inputs[rows], self.targets[rows])
        return eqx.tree_at(lambda task: (task.inputs, task.targets), self, few)

    def sample(self, key: PRNGKeyArray, num: int) -> "Task":
        num = check_whole("num", num, most=self.num_samples)
        order = jax.random.permutation(check_key("key", key), self.num_samples)
        return self.subset(order[:num])

    @property
    def target_rows(self) -> Shaped[Array, "n *out"]:
        """The targets as the loss sees them: whole labels, or rows (n, out)."""
        if self.loss.labels or self.targets.ndim == 2:
            return self.targets
        return self.targets[:, None]


def check_task(task: Any, argument: str = "task") -> None:
    """**Raises:** `InputError` for what is no task."""
    if not isinstance(task, AbstractTask):
        found = shown(task) if isinstance(task, (str, type)) else type(task).__name__
        raise InputError(argument, found, "a jaxflow.Task(inputs, targets)")


def as_inputs(inputs: Any) -> Float[Array, "n *input_shape"]:
    """The samples that a caller gave."""
    return jnp.asarray(_as_float(_as_samples(inputs)))


def _as_samples(inputs: Any) -> np.ndarray:
    x = _as_data("inputs", inputs)
    if x.ndim < 1 or x.size == 0:
        what = "empty data" if x.size == 0 else "a number"
        raise InputError("inputs", f"{what} of shape {x.shape}", "(n, …), n >= 1")
    return x


def _as_data(argument, values) -> np.ndarray:
    if is_traced(values) or np.ma.is_masked(values):
        raise InputError(argument, shown(values), "an array")
    try:
        data = np.asarray(values)
    except Exception as error:
        raise InputError(argument, type(values).__name__, "an array") from error
    # NumPy sees the short floats of ml_dtypes, such as bfloat16, as kind "V".
    real = data.dtype.kind in "biuf" or jnp.issubdtype(data.dtype, jnp.floating)
    if not real:
        raise InputError(argument, f"an array of {data.dtype}", "real numbers")
    bad = int(np.size(data) - np.isfinite(data).sum())
    if bad:
        raise InputError(argument, f"{bad} values that are NaN or infinite", "finite data")
    return data


def _as_float(data: np.ndarray) -> np.ndarray:
    kept = jnp.issubdtype(data.dtype, jnp.floating)
    return data if kept else data.astype(jnp.result_type(float))
