"""Makers of small data sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from .._checks import (
    check_dtype,
    check_items,
    check_key,
    check_number,
    check_positive,
    check_whole,
    shown,
)
from ..errors import InputError
from ._losses import AbstractLoss, as_loss
from ._task import as_inputs, Task


def sphere_points(
    num: int, dim: int, *, key: PRNGKeyArray, dtype=None
) -> Float[Array, "num dim"]:
    """Draw points uniformly on the unit sphere.

    Arguments:
        num: how many points.
        dim: their dimensions.
        key: a PRNG key.
        dtype: JAX's default float if not given.

    Returns:
        `x`, (num, dim), rows of unit norm.

    Raises:
        InputError: if `num` or `dim` is not positive.

    Examples:
        >>> import jax, jaxflow as jf
        >>> jf.data.sphere_points(5, 3, key=jax.random.key(0)).shape
        (5, 3)
    """
    num, dim = check_whole("num", num), check_whole("dim", dim)
    dtype = check_dtype("dtype", dtype)
    gaussian = jax.random.normal(check_key("key", key), (num, dim), dtype)
    return gaussian / jnp.linalg.norm(gaussian, axis=1, keepdims=True)


def nearly_orthogonal_points(
    num: int, dim: int, *, coherence: float = 0.1, key: PRNGKeyArray, dtype=None
) -> Float[Array, "num dim"]:
    """Draw unit vectors whose inner products are small.

    The Gram matrix is drawn at random with `max_{i≠j} |⟨x_i, x_j⟩| = μ`, the `coherence`,
    and the points are its symmetric square root in a random orthonormal frame.

    Arguments:
        num: how many points.
        dim: their dimensions, at least `num`.
        coherence: in [0, 1).
        key: a PRNG key.
        dtype: JAX's default float if not given.

    Returns:
        `x`, (num, dim), rows of unit norm.

    Raises:
        InputError: if `dim < num` or the coherence is out of range.

    Source:
        The data of arXiv:2210.07082 (nearly orthogonal training data).

    Examples:
        >>> import jax, jaxflow as jf, numpy as np
        >>> x = jf.data.nearly_orthogonal_points(
        ...     4, 10, coherence=0.05, key=jax.random.key(0)
        ... )
        >>> gram = np.asarray(x @ x.T)
        >>> round(float(abs(gram - np.eye(4)).max()), 6)
        0.05
    """
    num, dim = check_whole("num", num), check_whole("dim", dim)
    check_key("key", key)
    if dim < num:
        raise InputError("dim", str(dim), f"at least num = {num}")
    within = lambda number: 0 <= number < 1
    coherence = check_number("coherence", coherence, "a number in [0, 1)", within)
    dtype = check_dtype("dtype", dtype)
    gaussian = jax.random.normal(key, (num, dim), dtype)
    # In the frame Q of the points, they are the rows of a symmetric square root of the
    # Gram matrix that we want: unit diagonal, largest off-diagonal entry μ.
    frame = jnp.linalg.qr(gaussian.T)[0].T
    signs = jax.random.uniform(
        jax.random.fold_in(key, 1), (num, num), dtype, minval=-1.0, maxval=1.0
    )
    off = jnp.triu(signs, 1)
    off = off + off.T
    largest = jnp.max(jnp.abs(off)) if num > 1 else jnp.ones((), dtype)
    gram = jnp.eye(num, dtype=dtype) + coherence * off / largest
    values, vectors = jnp.linalg.eigh(gram)
    if float(values[0]) < 0:
        raise InputError(
            "coherence",
            f"{coherence} for {num} points, more than signs drawn at random allow",
            "a smaller coherence",
        )
    root = vectors @ jnp.diag(jnp.sqrt(values)) @ vectors.T
    return root @ frame


def teacher_student(
    teacher: eqx.Module,
    inputs: ArrayLike,
    *,
    loss: str | AbstractLoss = "square",
    target_norm: float | None = None,
) -> Task:
    """A task whose targets are the outputs of a teacher network.

    `y_i = H*(x_i)`, their signs for the logistic and exponential losses, the number of the
    largest output for the cross-entropy: whatever the loss makes of them by
    `targets_from(outputs)`.

    Arguments:
        teacher: a module called on one sample.
        inputs: `x`, (n, *input_shape).
        loss: as for `Task`.
        target_norm: rescale the targets to `‖y‖ = target_norm` (over all samples), for
            losses whose targets are numbers.

    Returns:
        A `Task`.

    Raises:
        InputError: as `Task` does, for a teacher that cannot be called on the inputs, and
            for a `target_norm` with labels.

    Examples:
        >>> import jax, jaxflow as jf
        >>> key = jax.random.key(0)
        >>> teacher = jf.FeedForward((3, 4, 1), jf.LeakyReLU(), key=key)
        >>> task = jf.data.teacher_student(
        ...     teacher, jf.data.sphere_points(5, 3, key=key), target_norm=1.0
        ... )
        >>> task.targets.shape
        (5, 1)
    """
    loss = as_loss(loss)
    if target_norm is not None:
        target_norm = check_positive("target_norm", target_norm)
    samples: Any = as_inputs(inputs)
    outputs = _outputs_of(teacher, samples)
    targets = loss.targets_from(outputs)
    if target_norm is not None:
        if targets is not outputs:
            found = f"{target_norm:g} with labels"
            raise InputError("target_norm", found, "none")
        targets = targets * (target_norm / jnp.linalg.norm(targets))
    return Task(samples, targets, loss)


def digits(
    classes: Sequence[int] = (3, 8),
    num: int | None = None,
    *,
    loss: str | AbstractLoss | None = None,
    seed: int = 0,
) -> Task:
    """scikit-learn's handwritten digits (8 by 8 pixels), restricted to given classes.

    Images become vectors of 64 pixels with unit norm. Two classes are labelled -1 and 1
    in the order given, more classes 0, 1, …

    Arguments:
        classes: two or more different digits.
        num: how many images, as equally divided over the classes as they allow, chosen at
            random; all of them if not given.
        loss: as for `Task`; logistic for two classes and cross-entropy for more if not
            given.
        seed: of the choice and order of images.

    Returns:
        A `Task`; nothing is downloaded.

    Raises:
        InputError: for classes that are not digits or too few images.
        ImportError: without scikit-learn (extra `demo`).

    Source:
        The optical recognition of handwritten digits data set of the UCI repository, as
        `sklearn.datasets.load_digits` ships it.

    Examples:
        >>> import jaxflow as jf
        >>> jf.data.digits((3, 8), 100).inputs.shape
        (100, 64)
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "digits need scikit-learn: pip install 'jaxflow[demo]'"
        ) from error
    expected = "two or more different digits"
    classes = tuple(
        check_whole("classes", digit, least=0, most=9)
        for digit in check_items("classes", classes, expected)
    )
    if len(set(classes)) < 2 or len(set(classes)) < len(classes):
        raise InputError("classes", repr(classes), expected)
    if loss is not None:
        loss = as_loss(loss)
    seed = check_whole("seed", seed, least=0)
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    by_class = [order[labels[order] == digit] for digit in classes]
    available = sum(len(rows) for rows in by_class)
    num = available if num is None else check_whole("num", num)
    if not len(classes) <= num <= available:
        raise InputError("num", str(num), f"from {len(classes)} to {available} images")
    # Taking turns between the classes keeps every prefix balanced.
    turns = [(turn, k) for k, rows in enumerate(by_class) for turn in range(len(rows))]
    chosen = sorted(turns)[:num]
    rows = np.array([by_class[k][turn] for turn, k in chosen])
    label = np.array([k for _, k in chosen])
    inputs = images[rows] / np.linalg.norm(images[rows], axis=1, keepdims=True)
    if len(classes) == 2:
        return Task(inputs, 2.0 * label - 1, loss or "logistic")
    return Task(inputs, label, loss or "cross_entropy")


def _outputs_of(teacher: Any, inputs: Array) -> Float[Array, "n out"]:
    """What a teacher gives for every sample."""
    if not callable(teacher) or isinstance(teacher, type):
        raise InputError("teacher", shown(teacher), "a module called on one sample")
    try:
        outputs = jax.vmap(cast(Callable, teacher))(inputs)
        return outputs.reshape(inputs.shape[0], -1)
    except Exception as error:  # whatever the caller's module raises
        found = f"one that fails on samples of shape {inputs.shape[1:]}: {error}"
        raise InputError("teacher", found, "a module called on one sample") from error
