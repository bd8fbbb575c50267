"""Loss functions of one sample: `ℓ(ŷ, y)`."""

import abc
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Shaped

from ..errors import InputError


class AbstractLoss(eqx.Module):
    """A loss of one sample. Subclass it to train with a loss of your own.

    A subclass implements `__call__(prediction, target)`, differentiable in `prediction`,
    and may implement `check(targets)` to refuse targets that do not fit.

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

    @abc.abstractmethod
    def __call__(
        self, prediction: Float[Array, " out"], target: Shaped[Array, "..."]
    ) -> Float[Array, ""]:
        """The loss `ℓ(ŷ, y)` of one sample, a scalar."""

    def check(self, targets: np.ndarray) -> None:
        """Raise `InputError` if the targets, (n, out) or (n,), do not fit this loss."""


class SquareLoss(AbstractLoss):
    """`ℓ(ŷ, y) = ½ ‖ŷ - y‖²`."""

    def __call__(self, prediction, target):
        return jnp.sum(optax.losses.l2_loss(prediction, target))


class LogisticLoss(AbstractLoss):
    """`ℓ(ŷ, y) = log(1 + exp(-y ŷ))` for labels `y = ±1`, summed over outputs."""

    def __call__(self, prediction, target):
        probability = (target + 1) / 2
        return jnp.sum(optax.losses.sigmoid_binary_cross_entropy(prediction, probability))

    def check(self, targets):
        _check_signs(targets)


class ExponentialLoss(AbstractLoss):
    """`ℓ(ŷ, y) = exp(-y ŷ)` for labels `y = ±1`, summed over outputs."""

    def __call__(self, prediction, target):
        return jnp.sum(jnp.exp(-target * prediction))

    def check(self, targets):
        _check_signs(targets)


class CrossEntropyLoss(AbstractLoss):
    """Softmax cross-entropy, `ℓ(ŷ, y) = log Σ_k exp(ŷ_k) - ŷ_y`, labels `y = 0, 1, …`."""

    labels: ClassVar[bool] = True

    def __call__(self, prediction, target):
        return optax.losses.softmax_cross_entropy_with_integer_labels(prediction, target)

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
    raise InputError("loss", repr(loss), f"one of {names}, or an AbstractLoss")


def _check_signs(targets):
    others = np.setdiff1d(targets, [-1.0, 1.0])
    if others.size:
        hint = " (from labels 0 and 1: 2 * y - 1)" if set(others) <= {0.0} else ""
        raise InputError("targets", f"labels {others[:3].tolist()}", f"-1 or 1{hint}")
