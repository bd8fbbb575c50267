"""What a task is: a loss of a network's outputs, and of its weights."""

import abc
from typing import Any, cast, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray, PyTree, Shaped

from .._checks import shown
from ..errors import InputError
from ._losses import AbstractLoss, AbstractMarginLoss

AnyTask = TypeVar("AnyTask", bound="AbstractTask")


class AbstractTask(eqx.Module):
    """What a network is trained on: a loss `𝓛(w)` that is a sum of `ℓ` over samples.

    Beside it, tasks may have a regularizer: a term that is a function of the weights alone.

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

    @property
    def has_penalty(self) -> bool:
        """Whether the loss has a term that is a function of the weights alone."""
        return False

    def penalty(self, network: eqx.Module) -> Float[Array, ""]:
        """`R(w)`, the term of the loss that is a function of the weights alone."""
        return jnp.zeros(())

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
        """`Σ_i ℓ(ŷ_i, y_i)` for the outputs `ŷ`, without what the weights cost."""

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
        """`log(s_i ℓ_i)` of every sample, less the logarithm of the divisor.

        Minus infinity for samples of no weight.
        """
        divided_by = jnp.log(self.divisor)
        weights = self.weights_of_samples
        if weights is None:
            return jax.vmap(self.margin_loss.log_of_margins)(margins) - divided_by
        counts = weights > 0
        finite = jnp.where(counts.reshape(-1, *(1,) * (margins.ndim - 1)), margins, 0.0)
        losses = jax.vmap(self.margin_loss.log_of_margins)(finite)
        log_weights = jnp.log(jnp.where(counts, weights, 1.0))
        return jnp.where(counts, losses + log_weights - divided_by, -jnp.inf)

    @property
    def weights_of_samples(self) -> Float[Array, " n"] | None:
        """`s_i`, where samples have weights."""
        return None

    @property
    def divisor(self) -> Any:
        """What the sum over samples is divided by: one, or `Σ_i s_i` for a mean."""
        return 1.0

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


def check_task(task: Any, argument: str = "task") -> None:
    """Raises `InputError` for what is no task."""
    if not isinstance(task, AbstractTask):
        found = shown(task) if isinstance(task, (str, type)) else type(task).__name__
        expected = "a jaxflow.Task(inputs, targets)"
        if hasattr(task, "num_members"):
            expected += " for all members; task[0] is that of one"
        raise InputError(argument, found, expected)
