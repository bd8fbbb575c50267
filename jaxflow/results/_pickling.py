"""Functions that a pickle knows by name.

`jax.nn.relu` and most of what `jax.jit` and `jax.custom_jvp` return cannot be pickled:
they hold a function whose name belongs to them. Found by that name, they can.
"""

import dataclasses
import functools
from typing import Any

import jax

from ._structure import import_name, imported, is_compiled


def by_name(value: Any) -> Any:
    """The same value, in which functions are pickled by name, at any depth."""
    if isinstance(value, tuple):
        parts = map(by_name, value)
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if type(value) is list:
        return [by_name(part) for part in value]
    if type(value) is dict:
        return {name: by_name(part) for name, part in value.items()}
    if isinstance(value, functools.partial):
        arguments, keywords = by_name(value.args), by_name(value.keywords)
        return type(value)(by_name(value.func), *arguments, **keywords)
    if isinstance(value, type):
        return value
    if dataclasses.is_dataclass(value):
        copy = object.__new__(type(value))
        for name, part in vars(value).items():
            object.__setattr__(copy, name, by_name(part))
        return copy
    name = import_name(value) if callable(value) else None
    if name is None and is_compiled(value):
        return _Compiled(by_name(value.__wrapped__))
    if name is None or name.startswith("__main__:"):  # which is another one elsewhere
        return value
    return _Named(name)


class _Compiled:
    """Stands for a function under `jax.jit` that has no name of its own."""

    def __init__(self, function: Any):
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return jax.jit, (self._function,)


class _Named:
    """Stands for a function in a pickle."""

    def __init__(self, name: str):
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # `functools.partial` takes only what can be called.
        return imported(self._name)(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return imported, (self._name,)
