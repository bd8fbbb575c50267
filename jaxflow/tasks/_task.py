"""A learning task: inputs, targets and a loss."""

from collections.abc import Callable, Sequence
from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Shaped

from ..errors import InputError
from ._losses import AbstractLoss, AbstractMarginLoss, as_loss


class Task(eqx.Module):
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
        x, y = _as_data("inputs", inputs), _as_data("targets", targets)
        if x.ndim < 1 or x.size == 0:
            what = "empty data" if x.size == 0 else "a number"
            raise InputError("inputs", f"{what} of shape {x.shape}", "(n, …), n >= 1")
        if y.ndim not in (1, 2) or y.shape[0] != x.shape[0] or y.size == 0:
            raise InputError(
                "targets",
                f"shape {y.shape}",
                f"({x.shape[0]},) or ({x.shape[0]}, out), one target for each input",
            )
        self.loss.check(y)
        self.inputs = jnp.asarray(_as_float(x))
        self.targets = jnp.asarray(y if self.loss.labels else _as_float(y))

    @property
    def num_samples(self) -> int:
        """`n`, the number of samples."""
        return self.inputs.shape[0]

    def astype(self, dtype) -> "Task":
        """The same task with floating data of another type."""
        return jax.tree_util.tree_map(
            lambda a: a.astype(dtype) if eqx.is_inexact_array(a) else a, self
        )

    def outputs(self, network: eqx.Module) -> Float[Array, "n out"]:
        """`H(x_i; w)` for every sample; a scalar output counts as one output."""
        outputs = jax.vmap(cast(Callable, network))(self.inputs)
        return outputs.reshape(self.num_samples, -1)

    def total_loss(self, outputs: Float[Array, "n out"]) -> Float[Array, ""]:
        """`Σ_i ℓ(ŷ_i, y_i)` for the outputs `ŷ`."""
        return jnp.sum(jax.vmap(self.loss)(outputs, self.target_rows))

    def residuals(self, outputs: Float[Array, "n out"]) -> Float[Array, "n out"]:
        """`-ℓ'(ŷ_i, y_i)`, what each sample pulls its output towards."""
        return -jax.vmap(jax.grad(self.loss))(outputs, self.target_rows)

    def correlation_weights(self, outputs: Float[Array, "n out"]) -> Float[Array, "n out"]:
        """`z_i = -ℓ'(0, y_i)`; only the shape of `outputs` is read."""
        return self.residuals(jnp.zeros_like(outputs))

    @property
    def has_margins(self) -> bool:
        """Whether the loss is a function of margins with an exponential tail."""
        return isinstance(self.loss, AbstractMarginLoss)

    @property
    def margin_loss(self) -> AbstractMarginLoss:
        """The loss, where it is one of margins; an `InputError` where it is not."""
        if not isinstance(self.loss, AbstractMarginLoss):
            raise InputError(
                "task",
                f"the loss {self.loss}, which has no margins",
                'a loss with an exponential tail: "logistic", "exponential", '
                '"cross_entropy" or an AbstractMarginLoss',
            )
        return self.loss

    def margins(self, outputs: Float[Array, "n out"]) -> Float[Array, "n margins"]:
        """`q_i`, for each sample one or several; all positive once the data is separated.

        `y_i ŷ_i` for labels ±1, `ŷ_y - ŷ_k` for classes (infinite for `k = y`).
        """
        return jax.vmap(self.margin_loss.margins)(outputs, self.target_rows)

    def log_loss(self, outputs: Float[Array, "n out"]) -> Float[Array, ""]:
        """`log 𝓛`, finite where `𝓛` itself underflows; for losses with margins."""
        return self.log_loss_of_margins(self.margins(outputs))

    def log_loss_of_margins(self, margins: Float[Array, "n margins"]) -> Float[Array, ""]:
        """`log 𝓛` as a function of the margins."""
        return jax.nn.logsumexp(jax.vmap(self.margin_loss.log_of_margins)(margins))

    def relative_residuals(self, outputs: Float[Array, "n out"]) -> Float[Array, "n out"]:
        """`-∂ log 𝓛/∂ŷ_i`, the residuals divided by the loss; for losses with margins."""
        return -jax.grad(self.log_loss)(outputs)

    @property
    def target_rows(self) -> Shaped[Array, "n *out"]:
        """The targets as the loss sees them: whole labels, or rows (n, out)."""
        if self.loss.labels or self.targets.ndim == 2:
            return self.targets
        return self.targets[:, None]


def _as_data(argument, values) -> np.ndarray:
    try:
        data = np.asarray(values)
    except Exception as error:
        raise InputError(argument, type(values).__name__, "an array") from error
    # kind "V" is how NumPy sees the short floats of ml_dtypes, such as bfloat16.
    if data.dtype.kind not in "biufV":
        raise InputError(argument, f"an array of {data.dtype}", "real numbers")
    bad = int(np.size(data) - np.isfinite(data).sum())
    if bad:
        raise InputError(argument, f"{bad} values that are NaN or infinite", "finite data")
    return data


def _as_float(data: np.ndarray) -> np.ndarray:
    kept = jnp.issubdtype(data.dtype, jnp.floating)
    return data if kept else data.astype(jnp.result_type(float))
