"""Matrix decompositions that never wait for a thread, whoever asks for them.

On CPUs jaxlib up to 0.11.0 hands parts of a large batch of matrices to the threads that
also run the pieces of compiled programs, and waits for them in one of those threads. When
as many batches wait as there are threads (two on two cores), in one program or in several,
none goes on any more. From 0.11.1 on the matrices of a batch are taken one after another.

So programs of jaxflow are lowered by rules that turn a batch into a loop over its matrices:
a single one is decomposed in the thread that asks for it. That holds for everything in a
program: solvers, recorders, and functions that a user wrote.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable
from typing import Any

import jax
from jax.interpreters import mlir

from ._versions import version

_MENDED = (0, 11, 1)
"""The first jaxlib that needs none of this. Modules of JAX that are its own business are
looked at with older ones only, which do not change any more."""

_DIMENSIONS = {
    "cholesky_p": 2,
    "eig_p": 2,
    "eigh_p": 2,
    "geqp3_p": 2,
    "geqrf_p": 2,
    "hessenberg_p": 2,
    "householder_product_p": 2,
    "lu_p": 2,
    "ormqr_p": 2,
    "schur_p": 2,
    "svd_p": 2,
    "triangular_solve_p": 2,
    "tridiagonal_p": 2,
    "tridiagonal_solve_p": 1,
}
"""What jaxlib computes by LAPACK, and how many dimensions of its first operand are not
those of a batch."""


def lower(function: Callable, *arguments: Any, donate: tuple[int, ...] = ()) -> Any:
    """`jax.jit(function).lower(*arguments)`, where no decomposition waits for a thread.

    Arguments:
        donate: which arguments the program may overwrite, by number.
    """

    # JAX keeps traces and programs for as long as their function lives: one of its own.
    @functools.wraps(function)
    def once(*arguments):
        return function(*arguments)

    traced = jax.jit(once, donate_argnums=donate).trace(*arguments)
    if _has_mended_jaxlib():
        return traced.lower()
    return traced.lower(_private_parameters=_parameters())


@functools.cache
def _has_mended_jaxlib() -> bool:
    numbers = re.findall(r"\d+", version("jaxlib"))
    return tuple(map(int, numbers[:3])) >= _MENDED


@functools.cache
def _parameters() -> Any:
    """What tells JAX to lower decompositions by rules of our own."""
    from jax._src.interpreters.mlir import LoweringParameters
    from jax._src.lax import linalg

    primitives = {getattr(linalg, name): num for name, num in _DIMENSIONS.items()}
    rules = tuple((p, _in_turn(p, num)) for p, num in primitives.items())
    return LoweringParameters(override_lowering_rules=rules)  # type: ignore[arg-type]


def _in_turn(primitive: Any, num_dimensions: int) -> Callable:
    """A rule that lowers a batch to a loop on a CPU, and all else as JAX does."""

    def lower(context, *operands, **parameters):
        module = context.module_context
        on_cpu = "cpu" in module.platforms

        def apply(*arrays):
            return primitive.bind(*arrays, **parameters)

        def apply_to_each(*arrays):
            batch = arrays[0].shape[: arrays[0].ndim - num_dimensions]
            size = math.prod(batch)
            if not (batch and size and on_cpu):
                return apply(*arrays)
            rows = [array.reshape(size, *array.shape[len(batch) :]) for array in arrays]
            results = jax.lax.map(lambda row: apply(*row), rows)
            return jax.tree_util.tree_map(
                lambda result: result.reshape(*batch, *result.shape[1:]), results
            )

        # JAX's own rules again inside of this one.
        usual = dataclasses.replace(
            module.lowering_parameters, override_lowering_rules=None
        )
        inside = context.replace(module_context=module.replace(lowering_parameters=usual))
        rule = mlir.lower_fun(apply_to_each, primitive.multiple_results)
        return rule(inside, *operands)

    return lower
