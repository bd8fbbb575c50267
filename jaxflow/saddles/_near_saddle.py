"""Starts near a saddle: part of a network trained to rest, and the rest of it small."""

from __future__ import annotations

from typing import TypeVar

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from .._checks import check_flag, check_key, check_not_negative, check_whole
from .._compiled import running
from .._signals import ends_on_signals
from .._telling import one_call
from ..engine import check_schedule, Schedule
from ..errors import InputError
from ..networks import (
    are_separable,
    as_jax,
    blocks,
    check_one,
    flatten_rows,
    parameter_dtype,
    sample_ensemble,
    unflatten_rows,
)
from ..runs import gradient_flow
from ..stops import Stationary
from ..tasks import check_task, Task

Network = TypeVar("Network", bound=eqx.Module)

_REST = 1e-10
"""The gradient at rest over that of the polar flow at the start: below the square of any
scale that rounding leaves room for. Chosen."""

_START = 0.1
"""The norm from which the grown blocks are trained: so small that they find directions of
their own before they saturate. Chosen."""


@running
@ends_on_signals()
@one_call()
def starts_near_saddle(
    network: Network,
    task: Task,
    num: int,
    *,
    grown: int,
    scale: float,
    key: PRNGKeyArray,
    max_steps: int = 20_000,
    schedule: Schedule | None = None,
    progress: bool | None = None,
) -> Network:
    """Networks of which a few neurons have been trained to rest and the others are small.

    `w = (w̄_n + δ ζ_n, δ ζ_z)`: `w̄_n` is a rest point of the loss for the blocks that have
    grown, the weights of all others are zero there, and `ζ = (ζ_n, ζ_z)` is uniform on the
    unit sphere. So `(w̄_n, 0)` is a saddle of the loss, or its minimum if those blocks can
    fit all there is to fit. Blocks are the hidden neurons of a network of two layers, the
    coordinates of a `DiagonalLinear`, and whatever a module of order two or more calls its
    `blocks()`: a block of zeros stays zero, so that the network that is trained is one of
    `grown` neurons, to which new ones are added. Which blocks these are is drawn for every
    member.

    The result is an ensemble to be followed from where it is: give `scale=1` to
    `gradient_flow` or `saddle_to_saddle`.

    Arguments:
        network: one homogeneous network, of which the output is a sum over blocks.
        task: the data and the loss.
        num: how many members.
        grown: how many blocks are trained, at least one and not all.
        scale: δ, not negative; with zero the members are the saddles themselves.
        key: a PRNG key. The saddles do not depend on the scale.
        max_steps: attempted steps of the training.
        schedule: as for `gradient_flow`.
        progress: as for `gradient_flow`.

    Returns:
        The same module, every array with a leading axis of length `num`.

    Raises:
        InputError: for arguments that do not fit, and a network that has no such blocks.

    Source:
        arXiv:2402.09226, section 5 (near saddle points).

    Examples:
        >>> import jax, jax.numpy as jnp, jaxflow as jf
        >>> network = jf.DiagonalLinear(2, 2, key=jax.random.key(0))
        >>> task = jf.Task(jnp.eye(2), jnp.array([2.0, 1.0]))
        >>> starts = jf.starts_near_saddle(
        ...     network, task, 3, grown=1, scale=0.0, key=jax.random.key(1)
        ... )
        >>> losses = [0.5 * r**2 for r in (1.0, 2.0)]  # the coordinate that has grown fits
        >>> members = [jax.tree_util.tree_map(lambda a: a[k], starts) for k in range(3)]
        >>> all(
        ...     min(abs(jf.loss(one, task).item() - loss) for loss in losses) < 1e-8
        ...     for one in (
        ...         jax.tree_util.tree_map(lambda a: a[k], starts) for k in range(3)
        ...     )
        ... )
        True
    """
    check_one(network)
    parameter_dtype(network)
    check_task(task)
    schedule = check_schedule(schedule)
    num = check_whole("num", num, most=2**31 - 1)
    scale = check_not_negative("scale", scale)
    key = check_key("key", key)
    max_steps = check_whole("max_steps", max_steps)
    progress = check_flag("progress", progress, optional=True)
    if not are_separable(network, task.inputs):
        found = f"a {type(network).__name__}, whose output is no sum over blocks"
        expected = "two layers, a DiagonalLinear, or a module with blocks() of its own"
        raise InputError("network", found, expected)
    of_parameter = blocks(network, task.inputs)
    total = int(of_parameter.max()) + 1
    grown = check_whole("grown", grown)
    if grown >= total:
        raise InputError("grown", f"{grown} of {total} blocks", "fewer than all of them")
    of_start, of_rest, of_choice = jax.random.split(key, 3)
    keys = jax.random.split(of_choice, num)
    kept = np.stack([_chosen(each, total, grown) for each in keys])
    first = flatten_rows(sample_ensemble(network, num, key=of_start))
    first = np.where(kept[:, of_parameter], first, 0).astype(first.dtype)
    first *= _START / np.linalg.norm(first, axis=1, keepdims=True)
    rest = gradient_flow(
        as_jax(unflatten_rows(network, first)),
        task,
        stop=Stationary(0.0, _REST),
        solver="auto",
        rtol=1e-8 if first.dtype == np.float64 else None,
        max_steps=max_steps,
        ensemble=True,
        schedule=schedule,
        progress=progress,
    )
    away = flatten_rows(sample_ensemble(network, num, key=of_rest))
    rows = flatten_rows(rest.networks) + scale * away
    return as_jax(unflatten_rows(network, rows.astype(first.dtype)))


def _chosen(key: PRNGKeyArray, total: int, grown: int) -> np.ndarray:
    """Which blocks have grown in one member, (blocks,)."""
    found = np.zeros(total, bool)
    found[np.asarray(jax.random.permutation(key, total))[:grown]] = True
    return found
