"""Functions that are compiled when they are called, by programs that can be given up.

`equinox.filter_jit` keeps what it compiled for as long as the function lives, which for a
function of a module is always. Here the programs last used are kept, of all functions
together, and decompositions in them are lowered as `_decompositions.py` says.
"""

import collections
import contextlib
import functools
import inspect
import os
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

import equinox as eqx
import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import PyTree

from ._checks import NOT_TRACED, shown
from ._decompositions import lower
from .errors import InputError, JaxflowError

Kept = TypeVar("Kept")
Function = TypeVar("Function", bound=Callable)

_SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_device",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_numpy_dtype_promotion",
    "jax_numpy_rank_promotion",
    "jax_debug_nans",
)
"""The settings of JAX that change what a program computes, or whether it is one."""


class LastUsed(Generic[Kept]):
    """What was used last, up to a number, for any number of threads."""

    def __init__(self, most: int):
        self._most = most
        self._kept: collections.OrderedDict[Hashable, Kept] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable, make: Callable[[], Kept]) -> Kept:
        """What is kept under a key, made if it is not there."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return made

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()


_programs: LastUsed[Callable] = LastUsed(64)
"""Chosen: a call of the library compiles fewer than ten."""


_process: int | None = None
"""The process in which JAX was first used for jaxflow."""


def check_process() -> None:
    """Raises `JaxflowError` in a process forked from one that has used JAX: its
    threads are not there, and a program that waits for one waits for ever."""
    global _process
    if _process is None:
        _process = os.getpid()
    if _process != os.getpid():
        raise JaxflowError(
            "This process was forked from one that had used JAX, whose threads are not "
            'in it. Start processes by multiprocessing\'s "spawn" or "forkserver" '
            'instead, as in multiprocessing.get_context("spawn").'
        )


_OF_DEBUG_NANS = "InternalFloatingPointError"
"""What a compiled program raises then; JAX has no public name for it."""


def running(function: Function) -> Function:
    """The function, a public one that computes: refused inside of traces, and with what
    callers may let JAX look for in their own code.

    jaxflow moves data on purpose, and infinity has a meaning in it (the logarithm of zero,
    a time that never comes), so that neither `jax.transfer_guard` nor `jax_debug_infs`
    says anything of it.
    """
    signature = inspect.signature(function)
    name = function.__qualname__.partition(".")[0]

    @functools.wraps(function)
    def call(*args, **kwargs):
        check_process()
        for argument, value in (*zip(signature.parameters, args), *kwargs.items()):
            if argument != "self":
                _check_not_traced(argument, value)
        with own_guards():
            if isinstance(jax.device_put(np.int32(0)), Tracer):
                raise InputError(name, "a call inside of jax.jit", NOT_TRACED)
            try:
                return function(*args, **kwargs)
            except Exception as error:
                if type(error).__name__ != _OF_DEBUG_NANS:
                    raise
                raise FloatingPointError(
                    f"{name} came to a number that is NaN, for which jax_debug_nans lets "
                    'JAX look. Without it such a member ends as "non_finite", and the '
                    "others go on."
                ) from error

    return call  # type: ignore[return-value]


def _check_not_traced(argument: str, value: PyTree) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(value):
        if isinstance(leaf, Tracer):
            raise InputError(argument + jax.tree_util.keystr(path), shown(leaf), NOT_TRACED)


@contextlib.contextmanager
def own_guards() -> Iterator[None]:
    """JAX guards no transfer, and does not look for infinities, in this thread."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.transfer_guard("allow"))
        if getattr(jax.config, "jax_debug_infs"):  # noqa: B009
            stack.enter_context(jax.debug_infs(False))
        yield


def as_here() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """For other threads: JAX as it is set in this one now, with our own guards.

    A setting that was made by a context, as by `with jax.enable_x64(True)`, holds in the
    thread of that context alone.
    """
    here = settings()

    @contextlib.contextmanager
    def there():
        with contextlib.ExitStack() as stack:
            for name, value in zip(_SETTINGS, here):
                if getattr(jax.config, name) != value:
                    set_to = getattr(jax, name.removeprefix("jax_"))
                    stack.enter_context(set_to(value))
            stack.enter_context(own_guards())
            yield

    return there


def compiled(function: Function) -> Function:
    """The function, compiled for its arguments as `equinox.filter_jit` does.

    Arrays may differ from call to call; everything else is a part of the program.
    """

    @functools.wraps(function)
    def call(*arguments):
        arrays, rest = eqx.partition(arguments, eqx.is_array)
        leaves, structure = jax.tree_util.tree_flatten(arrays)
        if any(isinstance(leaf, Tracer) for leaf in leaves):
            return function(*arguments)
        check_process()

        def make():
            return _compile(function, leaves, structure, rest)

        return _programs.get((function, describe(arguments)), make)(leaves)

    return call  # type: ignore[return-value]


def describe(tree: PyTree) -> Hashable:
    """Equal for arguments that one program serves, under the settings of this thread."""

    def of_leaf(leaf):
        if not eqx.is_array(leaf):
            # The type as well: 1, 1.0 and True are equal, and compute different things.
            return type(leaf), leaf
        place = leaf.sharding if getattr(leaf, "committed", False) else None
        return jax.typeof(leaf), place

    leaves, structure = jax.tree_util.tree_flatten(tree)
    return structure, tuple(map(of_leaf, leaves)), settings()


def settings() -> tuple[Hashable, ...]:
    """What JAX is set to, as far as it changes programs."""
    # Read as attributes of the configuration, settings are those of this thread.
    return tuple(getattr(jax.config, name) for name in _SETTINGS)


def _compile(function, leaves, structure, rest) -> Callable:
    constant: list[PyTree] = []  # what of the result is not an array

    def of_arrays(leaves):
        arguments = eqx.combine(structure.unflatten(leaves), rest)
        arrays, other = eqx.partition(function(*arguments), eqx.is_array)
        constant.append(other)
        return arrays

    of_arrays.__name__ = function.__name__  # what JAX calls the program
    program = lower(of_arrays, leaves).compile()
    (other,) = constant
    return lambda leaves: eqx.combine(program(leaves), other)


def forget_programs() -> None:
    """Forget the programs of all compiled functions."""
    _programs.clear()
