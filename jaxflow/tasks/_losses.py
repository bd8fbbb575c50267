"""Loss functions of one sample: `ℓ(ŷ, y)`."""

import abc
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Shaped

from .._checks import shown
from ..errors import InputError


class AbstractLoss(eqx.Module):
    """A loss of one sample. Subclass it to train with a loss of your own.

    A subclass implements `__call__(prediction, target)`, differentiable in `prediction`,
    and may implement `check(targets)` to refuse targets that do not fit, and
    `targets_from(outputs)` to say what a teacher's outputs are as targets.

    `labels = True` says that targets are whole numbers and stay so; otherwise they are
    turned into the network's floating type.

    >>> import jax.numpy as jnp, jaxflow as jf
    >>> class Quartic(jf.AbstractLoss):
    ...     def __call__(self, prediction, target):
    ...         return jnp.sum((prediction - target) ** 4)
    >>> jf.Task(jnp.ones((2, 3)), jnp.ones(2), loss=Quartic()).loss
    Quartic()
    """

    labels: ClassVar[bool] = False
    has_margins: ClassVar[bool] = False  # whether this is an `AbstractMarginLoss`

    @abc.abstractmethod
    def __call__(
        self, prediction: Float[Array, " out"], target: Shaped[Array, "..."]
    ) -> Float[Array, ""]:
        """The loss `ℓ(ŷ, y)` of one sample, a scalar."""

    def targets_from(self, outputs: Float[Array, "n out"]) -> Shaped[Array, "n *out"]:
        """The targets that a teacher with these outputs gives.

        The outputs themselves; for a loss with labels the number of the largest.
        """
        return jnp.argmax(outputs, axis=1) if self.labels else outputs

    def check(self, targets: np.ndarray) -> None:
        """Raise `InputError` if the targets, (n, out) or (n,), do not fit this loss."""


class AbstractMarginLoss(AbstractLoss):
    """A loss with an exponential tail: a function of margins that falls like `e^(-q)`.

    Such a loss is zero at infinity only. In polar coordinates it can be followed there,
    by its logarithm. A subclass implements, besides `__call__`,

    - `margins(prediction, target)`: `q`, homogeneous of order one in the prediction, all
      positive where the sample is classified right; infinite where there is none.
    - `log_of_margins(margins)`: `log ℓ`, of full relative accuracy, with derivatives,
      also where `ℓ` itself underflows.
    - `margin_at(log_loss)`: the `q` of a single margin that has this loss.

    **Source:** Lyu and Li (2020), arXiv:1906.05890, appendix A.

    >>> import jax.numpy as jnp, jaxflow as jf
    >>> loss = jf.Task(jnp.eye(1), jnp.ones(1), loss="logistic").loss
    >>> isinstance(loss, jf.AbstractMarginLoss)
    True
    >>> margins = loss.margins(jnp.array([1000.0]), jnp.array([1.0]))
    >>> loss.log_of_margins(margins).item()
    -1000.0
    """

    has_margins: ClassVar[bool] = True

    @abc.abstractmethod
    def margins(
        self, prediction: Float[Array, " out"], target: Shaped[Array, "..."]
    ) -> Float[Array, " margins"]:
        """The margins `q` of one sample."""

    @abc.abstractmethod
    def log_of_margins(self, margins: Float[Array, " margins"]) -> Float[Array, ""]:
        """`log ℓ` of one sample."""

    @abc.abstractmethod
    def margin_at(self, log_loss: Float[Array, ""]) -> Float[Array, ""]:
        """The inverse of `log_of_margins` for a single margin."""


class SquareLoss(AbstractLoss):
    """`ℓ(ŷ, y) = ½ ‖ŷ - y‖²`."""

    def __call__(self, prediction, target):
        return jnp.sum(optax.losses.l2_loss(prediction, target))


class LogisticLoss(AbstractMarginLoss):
    """`ℓ(ŷ, y) = log(1 + exp(-y ŷ))` for labels `y = ±1`, summed over outputs."""

    def __call__(self, prediction, target):
        probability = (target + 1) / 2
        return jnp.sum(optax.losses.sigmoid_binary_cross_entropy(prediction, probability))

    def margins(self, prediction, target):
        return target * prediction

    def log_of_margins(self, margins):
        return jax.nn.logsumexp(_log_softplus(-margins))

    def margin_at(self, log_loss):
        return -_inverse_log_softplus(log_loss)

    def targets_from(self, outputs):
        """Signs."""
        return _signs(outputs)

    def check(self, targets):
        _check_signs(targets)


class ExponentialLoss(AbstractMarginLoss):
    """`ℓ(ŷ, y) = exp(-y ŷ)` for labels `y = ±1`, summed over outputs."""

    def __call__(self, prediction, target):
        return jnp.sum(jnp.exp(-target * prediction))

    def margins(self, prediction, target):
        return target * prediction

    def log_of_margins(self, margins):
        return jax.nn.logsumexp(-margins)

    def margin_at(self, log_loss):
        return -log_loss

    def targets_from(self, outputs):
        """Signs."""
        return _signs(outputs)

    def check(self, targets):
        _check_signs(targets)


class CrossEntropyLoss(AbstractMarginLoss):
    """Softmax cross-entropy, `ℓ(ŷ, y) = log Σ_k exp(ŷ_k) - ŷ_y`, labels `y = 0, 1, …`.

    Its margins are `ŷ_y - ŷ_k` for the other classes `k`.
    """

    labels: ClassVar[bool] = True

    def __call__(self, prediction, target):
        return optax.losses.softmax_cross_entropy_with_integer_labels(prediction, target)

    def margins(self, prediction, target):
        is_target = jnp.arange(prediction.shape[0]) == target
        own = jnp.sum(jnp.where(is_target, prediction, 0.0))
        return jnp.where(is_target, jnp.inf, own - prediction)

    def log_of_margins(self, margins):
        return _log_softplus(jax.nn.logsumexp(-margins))

    def margin_at(self, log_loss):
        return -_inverse_log_softplus(log_loss)

    def check(self, targets):
        if not np.issubdtype(targets.dtype, np.integer) or targets.ndim != 1:
            raise InputError(
                "targets",
                f"{targets.dtype} of shape {targets.shape}",
                "whole-number labels of shape (n,) for the cross-entropy loss",
            )
        if targets.min() < 0:
            raise InputError("targets", f"the label {targets.min()}", "labels >= 0")


NAMED_LOSSES: dict[str, type[AbstractLoss]] = {
    "square": SquareLoss,
    "logistic": LogisticLoss,
    "exponential": ExponentialLoss,
    "cross_entropy": CrossEntropyLoss,
}


def as_loss(loss: "str | AbstractLoss") -> AbstractLoss:
    """A loss from its name, or the loss itself."""
    if isinstance(loss, AbstractLoss):
        return loss
    if isinstance(loss, str) and loss in NAMED_LOSSES:
        return NAMED_LOSSES[loss]()
    names = ", ".join(repr(name) for name in NAMED_LOSSES)
    raise InputError("loss", shown(loss), f"one of {names}, or an AbstractLoss")


def _signs(outputs):
    return jnp.where(outputs >= 0, 1.0, -1.0).astype(outputs.dtype)


def _check_signs(targets):
    others = np.setdiff1d(targets, [-1.0, 1.0])
    if others.size:
        hint = " (from labels 0 and 1: 2 * y - 1)" if set(others) <= {0.0} else ""
        raise InputError("targets", f"labels {others[:3].tolist()}", f"-1 or 1{hint}")


def _log_softplus(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """`log log(1 + eˣ)`, by its series `x - eˣ/2` once `e²ˣ` is below rounding."""
    small = x < _SMALL
    series = x - 0.5 * jnp.exp(jnp.where(small, x, _SMALL))
    return jnp.where(small, series, jnp.log(jax.nn.softplus(jnp.where(small, 0.0, x))))


def _inverse_log_softplus(y: Float[Array, "..."]) -> Float[Array, "..."]:
    """`x` with `log log(1 + eˣ) = y`: `x = log(e^z - 1)` with `z = e^y`."""
    small = y < _SMALL
    series = y + 0.5 * jnp.exp(jnp.where(small, y, _SMALL))
    z = jnp.exp(jnp.where(small, 0.0, y))
    return jnp.where(small, series, z + jnp.log(-jnp.expm1(-z)))


_SMALL = -20.0
