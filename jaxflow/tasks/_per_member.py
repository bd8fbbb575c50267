"""Data of each member's own."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import ArrayLike, PyTree

from .._arrays import on_device, repeated
from .._checks import check_numbers, check_rows
from .._samples import as_arrays, num_samples
from ..errors import InputError
from ._losses import AbstractLoss
from ._regularizers import AbstractRegularizer
from ._task import Task


class TaskPerMember(eqx.Module):
    """A `Task` for every member of an ensemble: every array has a leading axis of members.

    `tasks[3]` is the task of one member, `tasks[2:5]` are those of some, `len(tasks)` is
    how many there are. `tasks.each` is a `Task` all of whose arrays have the leading axis,
    as `equinox.filter_vmap` wants it.

    Arguments:
        inputs: `x`, (num, n, *input_shape), or a pytree of such arrays.
        targets: `y`, (num, n), (num, n, …), or a pytree of such arrays.
        loss: as for `Task`, the same for all.
        sample_weights: (num, n), or (n,) for all.
        reduction: as for `Task`.
        regularizer: as for `Task`, the same for all.

    Raises:
        InputError: as `Task` does, and for numbers of members that differ.

    Examples:
        >>> import equinox as eqx, jax, jax.numpy as jnp, jaxflow as jf
        >>> network = jf.FeedForward((2, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> ensemble = jf.sample_ensemble(network, 3, key=jax.random.key(1))
        >>> tasks = jf.TaskPerMember(jnp.ones((3, 4, 2)), jnp.arange(12.0).reshape(3, 4))
        >>> solution = jf.gradient_flow(ensemble, tasks, stop=jf.RescaledTime(0.1))
        >>> eqx.filter_vmap(jf.loss)(solution.networks, tasks.each).shape
        (3,)
    """

    each: Task

    def __init__(
        self,
        inputs: PyTree,
        targets: PyTree,
        loss: str | AbstractLoss = "square",
        *,
        sample_weights: ArrayLike | None = None,
        reduction: str = "sum",
        regularizer: AbstractRegularizer | None = None,
    ):
        x, y = as_arrays("inputs", inputs), as_arrays("targets", targets)
        shape = _leading("inputs", x)
        if _leading("targets", y) != shape:
            found = f"leading axes {_leading('targets', y)}"
            raise InputError("targets", found, f"{shape}, as the inputs have")
        weights = None
        if sample_weights is not None:
            weights = check_numbers("sample_weights", sample_weights)
            if weights.shape not in (shape, shape[1:]):
                expected = f"{shape} or {shape[1:]}"
                raise InputError("sample_weights", f"shape {weights.shape}", expected)
            weights = np.broadcast_to(weights, shape)
            if not np.all(np.any(weights > 0, axis=1)):
                found = "no positive one for some member"
                raise InputError("sample_weights", found, "one or more for each")
        # Checked as samples of one task.
        one_axis = lambda a: a.reshape(-1, *a.shape[2:])
        rows = jax.tree_util.tree_map(one_axis, (x, y, weights))
        flat = Task(
            *(rows[0], rows[1], loss),
            sample_weights=rows[2],
            reduction=reduction,
            regularizer=regularizer,
        )
        two_axes = lambda a: a.reshape(*shape, *a.shape[1:])
        parts = (flat.inputs, flat.targets, flat.sample_weights)
        self.each = flat.with_samples(*jax.tree_util.tree_map(two_axes, parts))
        of_all = lambda task: (task.loss, task.regularizer)
        own = jax.tree_util.tree_map(
            lambda a: on_device(repeated(a, shape[0])) if eqx.is_array(a) else a,
            of_all(flat),
        )
        none = lambda node: node is None
        self.each = eqx.tree_at(of_all, self.each, own, is_leaf=none)

    @property
    def num_members(self) -> int:
        """How many tasks there are."""
        return jax.tree_util.tree_leaves(self.each.inputs)[0].shape[0]

    def __len__(self) -> int:
        return self.num_members

    def __getitem__(self, member: Any) -> Any:
        if isinstance(member, slice):
            return self.of_rows(np.arange(self.num_members)[member])
        place = check_rows("member", [member], self.num_members)[0]
        return self.of_rows(place).each

    @property
    def example(self) -> Task:
        """The task of one member."""
        return self[0]

    def of_rows(self, rows: Any) -> "TaskPerMember":
        """The tasks of these members."""
        # Through NumPy: JAX would compile a program for every shape.
        return jax.tree_util.tree_map(
            lambda a: on_device(np.asarray(a)[rows]) if eqx.is_array(a) else a, self
        )

    def astype(self, dtype: Any) -> "TaskPerMember":
        """The same tasks with floating data of another type."""
        return eqx.tree_at(lambda tasks: tasks.each, self, self.each.astype(dtype))

    def own(self, rows: np.ndarray) -> tuple[Any, ...]:
        """The arrays of these members, in the order of the leaves of a member's task."""
        each = eqx.filter(self.of_rows(rows).each, eqx.is_array)
        return tuple(jax.tree_util.tree_leaves(each))


def _leading(argument: str, arrays: PyTree) -> tuple[int, int]:
    """The numbers of members and of samples."""
    leaves = jax.tree_util.tree_leaves(arrays)
    num_samples(argument, arrays)
    found = {leaf.shape[:2] for leaf in leaves}
    if len(found) != 1 or any(len(shape) < 2 for shape in found):
        shapes = ", ".join(str(leaf.shape) for leaf in leaves)
        raise InputError(argument, f"shape {shapes}", "(num, n, …), members and samples")
    return found.pop()
