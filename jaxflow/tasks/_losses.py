"""Loss functions of one sample: `ℓ(ŷ, y)`."""

import abc
import math
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree, Shaped

from .._arrays import is_known, on_device
from .._checks import check_numbers, shown
from .._samples import sample_of
from ..errors import InputError


class AbstractLoss(eqx.Module):
    """A loss of one sample. Subclass it to train with a loss of your own.

    A subclass implements `__call__(prediction, target)`, differentiable in `prediction`,
    which decides what fits by being called: the prediction is a vector (out,) where the
    network gives a vector or a scalar, else what it gives; the target is a row of the
    task's. It may implement `check(targets)` to refuse values that do not fit, and
    `targets_from(outputs)` to say what a teacher's outputs are as targets.

    `labels = True` says that targets are whole numbers and stay so; otherwise they are
    turned into the network's floating type.

    Examples:
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
        self, prediction: PyTree[Float[Array, "..."]], target: PyTree[Shaped[Array, "..."]]
    ) -> Float[Array, ""]:
        """The loss `ℓ(ŷ, y)` of one sample, a scalar."""

    def targets_from(self, outputs: Float[Array, "n out"]) -> Shaped[Array, "n *out"]:
        """The targets that a teacher with these outputs gives.

        The outputs themselves; for a loss with labels the number of the largest.
        """
        return jnp.argmax(outputs, axis=1) if self.labels else outputs

    def check(self, targets: Any) -> None:
        """Raise `InputError` if the targets, (n, …), do not fit this loss."""

    def misfit(self, output: PyTree, targets: PyTree) -> str | None:
        """Why an output does not fit the rows of `targets`, found out by calling it.

        Raises:
            InputError: for a loss that is no scalar.
        """
        target = sample_of(targets)
        try:
            found = eqx.filter_eval_shape(
                lambda loss, *given: loss(*given), self, output, target
            )
        except Exception as error:  # whatever the caller's loss raises
            of = f"outputs {_shapes(output)} and targets {_shapes(target)} of a sample"
            return f"{type(self).__name__} of {of} raises {type(error).__name__}: {error}"
        if getattr(found, "shape", None) != ():
            raise InputError("loss", f"{self} giving {found} for a sample", "scalars")
        return None


class AbstractMarginLoss(AbstractLoss):
    """A loss with an exponential tail: a function of margins that falls like `e^(-q)`.

    Such a loss is zero at infinity only. In polar coordinates it can be followed there,
    by its logarithm. A subclass implements, besides `__call__`,

    - `margins(prediction, target)`: `q`, homogeneous of order one in the prediction, all
      positive where the sample is classified right; infinite where there is none.
    - `log_of_margins(margins)`: `log ℓ`, of full relative accuracy, with derivatives,
      also where `ℓ` itself underflows.
    - `margin_at(log_loss)`: the `q` of a single margin that has this loss.

    Source:
        Lyu and Li (2020), arXiv:1906.05890, appendix A.

    Examples:
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
        self, prediction: Float[Array, "..."], target: Shaped[Array, "..."]
    ) -> Float[Array, " *margins"]:
        """The margins `q` of one sample."""

    @abc.abstractmethod
    def log_of_margins(self, margins: Float[Array, " *margins"]) -> Float[Array, ""]:
        """`log ℓ` of one sample."""

    @abc.abstractmethod
    def margin_at(self, log_loss: Float[Array, ""]) -> Float[Array, ""]:
        """The inverse of `log_of_margins` for a single margin."""


class SquareLoss(AbstractLoss):
    """`ℓ(ŷ, y) = ½ ‖ŷ - y‖²`."""

    def __call__(self, prediction, target):
        return jnp.sum(optax.losses.l2_loss(prediction, target))

    def check(self, targets):
        _check_one_array(targets)

    def misfit(self, output, targets):
        return _misfit_of_equals(output, targets)


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

    def misfit(self, output, targets):
        return _misfit_of_equals(output, targets)


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

    def misfit(self, output, targets):
        return _misfit_of_equals(output, targets)


class CrossEntropyLoss(AbstractMarginLoss):
    """Softmax cross-entropy, `ℓ(ŷ, y) = log Σ_k exp(ŷ_k) - ŷ_y`, labels `y = 0, 1, …`.

    Its margins are `ŷ_y - ŷ_k` for the other classes `k`. For predictions (…, classes) with
    labels (…), as of sequences, it is the sum over all of them.

    Arguments:
        class_weights: (classes,), not negative: `ℓ` times `c_y`. Ones if not given.

    Raises:
        InputError: for weights that are none.

    Examples:
        >>> import jax.numpy as jnp, jaxflow as jf
        >>> loss = jf.CrossEntropyLoss(class_weights=[1.0, 10.0])
        >>> round(loss(jnp.zeros(2), jnp.asarray(1)).item(), 4)
        6.9315
    """

    labels: ClassVar[bool] = True
    class_weights: Float[Array, "..."] | None = None

    def __init__(self, class_weights: Any = None):
        if class_weights is not None:
            expected = "(classes,) numbers >= 0, not all zero"
            fits = lambda w: np.isfinite(w) & (np.asarray(w) >= 0)
            weights = check_numbers("class_weights", class_weights, expected, fits)
            if weights.ndim != 1 or not np.any(weights > 0):
                found = f"{shown(class_weights)}"
                raise InputError("class_weights", found, expected)
            class_weights = on_device(weights.astype(jnp.result_type(float)))
        self.class_weights = class_weights

    def __repr__(self) -> str:
        given = "" if self.class_weights is None else "class_weights=…"
        return f"CrossEntropyLoss({given})"

    def __call__(self, prediction, target):
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(prediction, target)
        if self.class_weights is not None:
            losses = self.class_weights[target] * losses
        return jnp.sum(losses)

    def margins(self, prediction, target):
        is_target = jax.nn.one_hot(target, prediction.shape[-1], dtype=bool)
        own = jnp.sum(jnp.where(is_target, prediction, 0.0), axis=-1, keepdims=True)
        return jnp.where(is_target, jnp.inf, own - prediction)

    def log_of_margins(self, margins):
        losses = _log_softplus(jax.nn.logsumexp(-margins, axis=-1))
        if self.class_weights is not None:
            # The margin to the label itself is infinite.
            is_target = jnp.isinf(margins)
            of_classes = jnp.broadcast_to(self.class_weights, margins.shape)
            weights = jnp.sum(jnp.where(is_target, of_classes, 0.0), axis=-1)
            log_weights = jnp.log(jnp.where(weights > 0, weights, 1.0))
            losses = jnp.where(weights > 0, losses + log_weights, -jnp.inf)
        return losses if losses.ndim == 0 else _log_sum(losses.reshape(-1))

    def margin_at(self, log_loss):
        return -_inverse_log_softplus(log_loss)

    def check(self, targets):
        whole = isinstance(targets, np.ndarray) and np.issubdtype(targets.dtype, np.integer)
        if not whole:
            found = "several arrays"
            if isinstance(targets, np.ndarray):
                found = f"{targets.dtype} of shape {targets.shape}"
            expected = "whole-number labels of shape (n,) for the cross-entropy loss"
            raise InputError("targets", found, expected)
        if targets.min() < 0:
            raise InputError("targets", f"the label {targets.min()}", "labels >= 0")

    def misfit(self, output, targets):
        if not isinstance(output, jax.ShapeDtypeStruct) or not output.ndim:
            return f"outputs {_shapes(output)} where there are scores of classes"
        if output.shape[:-1] != targets.shape[1:]:
            return f"outputs {_shapes(output)} for labels {targets.shape}"
        num = output.shape[-1]
        largest = int(np.max(np.asarray(targets))) if is_known(targets) else 0
        if num < (classes := max(largest + 1, 2)):
            return f"{num} outputs for {classes} classes"
        weights = self.class_weights
        if weights is not None and weights.shape != (num,):
            return f"{num} outputs for {weights.size} class_weights"
        return None


class _InForm(AbstractLoss):
    """A loss of outputs of any form, as a function of them in one vector."""

    loss: AbstractLoss
    structure: Any = eqx.field(static=True)
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)

    @property
    def labels(self) -> bool:  # pyright: ignore
        return self.loss.labels

    def __call__(self, prediction, target):
        return self.loss(_formed(self, prediction), target)


class _MarginsInForm(AbstractMarginLoss):
    """The same for a loss of margins."""

    loss: AbstractMarginLoss
    structure: Any = eqx.field(static=True)
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)

    @property
    def labels(self) -> bool:  # pyright: ignore
        return self.loss.labels

    def __call__(self, prediction, target):
        return self.loss(_formed(self, prediction), target)

    def margins(self, prediction, target):
        return self.loss.margins(_formed(self, prediction), target)

    def log_of_margins(self, margins):
        return self.loss.log_of_margins(margins)

    def margin_at(self, log_loss):
        return self.loss.margin_at(log_loss)


def in_form(loss: AbstractLoss, output: PyTree) -> AbstractLoss:
    """The loss as a function of vectors that hold outputs of this form."""
    leaves, structure = jax.tree_util.tree_flatten(output)
    cls: Any = _MarginsInForm if loss.has_margins else _InForm
    return cls(loss, structure, tuple(leaf.shape for leaf in leaves))


def _formed(form: Any, vector: Float[Array, " out"]) -> PyTree:
    ends = np.cumsum([math.prod(shape) for shape in form.shapes])[:-1]
    parts = [p.reshape(s) for p, s in zip(jnp.split(vector, ends), form.shapes)]
    return form.structure.unflatten(parts)


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


def _shapes(arrays: PyTree) -> str:
    return " and ".join(str(leaf.shape) for leaf in jax.tree_util.tree_leaves(arrays))


def _check_one_array(targets: Any) -> None:
    if not isinstance(targets, np.ndarray):
        found, expected = "several arrays", "one array, or a loss of your own"
        raise InputError("targets", found, expected)


def _misfit_of_equals(output: PyTree, targets: Any) -> str | None:
    """Why outputs are not of the shape of targets, (n, …)."""
    if isinstance(output, jax.ShapeDtypeStruct) and output.ndim == 1 == targets.ndim - 1:
        if output.size == targets.shape[1]:
            return None
        return f"{output.size} outputs for targets {targets.shape}"
    if isinstance(output, jax.ShapeDtypeStruct) and output.shape == targets.shape[1:]:
        return None
    return f"outputs of shape {_shapes(output)} for targets {targets.shape}"


def _log_sum(logarithms: Float[Array, " n"]) -> Float[Array, ""]:
    """`log Σ exp`, whose derivative is zero where all are minus infinity."""
    some = jnp.any(logarithms > -jnp.inf)
    safe = jnp.where(some, logarithms, 0.0)
    return jnp.where(some, jax.nn.logsumexp(safe), -jnp.inf)


def _signs(outputs):
    return jnp.where(outputs >= 0, 1.0, -1.0).astype(outputs.dtype)


def _check_signs(targets):
    _check_one_array(targets)
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
