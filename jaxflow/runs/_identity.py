"""What makes a value what it is, so that two runs can be told apart.

A walk through all fields: numbers and strings as they are, arrays by a digest, classes by
name, functions by their code and what they close over. Nothing is left out because nobody
thought of it: what cannot be told apart is refused.
"""

import dataclasses
import enum
import functools
import hashlib
import importlib
import inspect
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..errors import InputError

_DEEPEST = 60  # nested values: optimizers of a dozen parts have about twenty


def identify(value: Any) -> dict[str, str]:
    """All that makes a value what it is: text by the path of the field that it is in.

    The same in every process on the same versions of Python and of the packages.

    Raises:
        InputError: for a part that cannot be told from another.
    """
    return dict(_walk(value, "", (), {}))


def _walk(
    value: Any, path: str, above: tuple[int, ...], seen: dict[int, tuple[str, Any]]
) -> Iterator[tuple[str, str]]:
    if id(value) in above:  # a function that calls itself
        yield path, f"what is {len(above) - above.index(id(value))} levels above"
        return
    if len(above) > _DEEPEST:
        raise _cannot_tell(path, value)
    simple = _simple(value)
    if simple is not None:
        yield path, simple
        return
    if isinstance(value, (types.FunctionType, type)):
        first, _ = seen.setdefault(id(value), (path, value))
        if first != path:  # read by several others, and told once
            yield path, f"as {first}"
            return
    for name, part in _parts(value, path):
        deeper = f"{path}.{name}".lstrip(".")
        yield from _walk(part, deeper, (*above, id(value)), seen)


def _simple(value: Any) -> str | None:
    """The text of a value without parts."""
    if value is None or isinstance(value, (bool, int, str, bytes)):
        return repr(value) if isinstance(value, (bytes, bool)) else str(value)
    if isinstance(value, (float, complex)):
        return repr(value)
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return _array(value)
    if isinstance(value, enum.Enum):
        return f"{_name(type(value))}.{value.name}"
    if isinstance(value, (np.dtype, types.ModuleType)):
        return str(getattr(value, "__name__", value))
    return _name(value) if _is_installed(value) else None


def _array(array: Any) -> str:
    if isinstance(array, jax.Array) and jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    array = np.asarray(array)
    if array.ndim == 0 and array.dtype.kind in "biuf":
        number = array.item()
        shown = f"{number:.17g}" if isinstance(number, float) else str(number)
        usual = array.dtype in (np.float64, np.float32, np.int64, np.int32, np.bool_)
        return shown if usual else f"{shown} of {array.dtype}"
    if array.dtype == object:
        raise _cannot_tell("", array)
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
    return f"{array.dtype} of shape {array.shape}, sha256 {digest}"


def _parts(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """What a value is made of, by name."""
    own = getattr(value, "known_by", None)
    if isinstance(value, eqx.Module) and callable(own):
        yield "class", _name(type(value))
        known: Any = own()
        yield from known.items()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield "class", type(value)
        for field in dataclasses.fields(value):
            if hasattr(value, field.name):
                yield field.name, getattr(value, field.name)
    elif isinstance(value, (tuple, list)):
        if type(value) not in (tuple, list):
            yield "class", _name(type(value))
        names = getattr(value, "_fields", range(len(value)))
        yield "length", len(value)
        yield from ((str(name), part) for name, part in zip(names, value))
    elif isinstance(value, Mapping):
        yield "length", len(value)
        # In no order of their own: JAX sorts the keys of dicts.
        yield from sorted((str(key), part) for key, part in value.items())
    elif isinstance(value, (set, frozenset)):
        yield "items", sorted(map(repr, value))
    else:
        yield from _callable_parts(value, path)


def _callable_parts(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, functools.partial):
        yield from (("function", value.func), ("args", value.args))
        yield "keywords", value.keywords
    elif isinstance(value, types.MethodType):
        yield from (("function", value.__func__), ("self", value.__self__))
    elif isinstance(value, types.FunctionType):
        yield from _function(value)
    elif isinstance(value, types.CodeType):
        yield from _code(value, None)
    elif isinstance(value, types.CellType):
        yield "cell", value.cell_contents if _is_filled(value) else "empty"
    elif isinstance(getattr(value, "__wrapped__", None), types.FunctionType):
        yield from (("wrapper", _name(type(value))), ("function", value.__wrapped__))
    elif isinstance(value, type):
        yield from _class(value)
    elif isinstance(value, (staticmethod, classmethod)):
        yield "function", value.__func__
    elif isinstance(value, property):
        yield "function", value.fget
    elif isinstance(value, types.ModuleType):
        yield "name", value.__name__
    elif type(value).__repr__ is not object.__repr__ and " at 0x" not in repr(value):
        yield "class", _name(type(value))
        yield "shown", repr(value)
    elif vars_of(value):
        yield "class", _name(type(value))
        yield from vars_of(value).items()
    else:
        raise _cannot_tell(path, value)


def _class(cls: type) -> Iterator[tuple[str, Any]]:
    """A class that is no package's: its methods and those that it inherits."""
    yield "name", _name(cls)
    for base in cls.__bases__:
        yield f"base {base.__name__}", base
    for name, part in sorted(vars(cls).items()):
        # Equinox wraps methods, and keeps what it wraps.
        part = getattr(part, "method", part)
        if isinstance(part, (types.FunctionType, staticmethod, classmethod, property)):
            if not _is_made(name):
                yield f"method {name}", part
        elif isinstance(part, (bool, int, float, str, tuple)) and not _is_made(name):
            yield f"constant {name}", part


def _is_made(name: str) -> bool:
    """Whether Python or `dataclasses` has made an attribute of a class."""
    kept = ("__call__", "__init__", "__check_init__", "__post_init__")
    return name.startswith("__") and name.endswith("__") and name not in kept


def _function(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    yield "name", f"{function.__module__}.{function.__qualname__}"
    yield from _code(function.__code__, function.__doc__)
    yield "defaults", (function.__defaults__, function.__kwdefaults__)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        yield f"closed over {name}", cell
    yield from _globals(function)


def _globals(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """What the function reads from around it: numbers, functions, classes of its module."""
    known, names = function.__globals__, sorted(_names_in(function.__code__))
    for name in names:
        if name not in known:
            continue
        if not isinstance(known[name], types.ModuleType):
            yield f"global {name}", known[name]
        elif not _is_package(known[name].__name__.partition(".")[0]):
            for attribute in names:  # of a module of one's own, such as `tools.f`
                if hasattr(known[name], attribute):
                    yield f"global {name}.{attribute}", getattr(known[name], attribute)


def _names_in(code: types.CodeType) -> set[str]:
    inner = (part for part in code.co_consts if isinstance(part, types.CodeType))
    return set(code.co_names).union(*map(_names_in, inner))


def _code(code: types.CodeType, doc: str | None) -> Iterator[tuple[str, Any]]:
    """A function's instructions, without where they were written and what it says."""
    yield "instructions", hashlib.sha256(code.co_code).hexdigest()[:16]
    yield "names", (code.co_names, code.co_varnames, code.co_freevars)
    first, *others = code.co_consts or (None,)
    yield "constants", others if doc is not None and first == doc else [first, *others]


def vars_of(value: Any) -> dict[str, Any]:
    """The attributes of an object, in slots or not."""
    slots = [s for cls in type(value).__mro__ for s in getattr(cls, "__slots__", ())]
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return {**found, **getattr(value, "__dict__", {})}


def _is_filled(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


def _is_installed(thing: Any) -> bool:
    """Whether it is found by its name in an installed package, and so known by that."""
    module_name = getattr(thing, "__module__", None)
    name = getattr(thing, "__qualname__", None)
    if not isinstance(module_name, str) or not isinstance(name, str) or "<" in name:
        return False
    if not _is_package(module_name.partition(".")[0]):
        return False
    found: Any = sys.modules.get(module_name)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is thing


@functools.cache
def _is_package(name: str) -> bool:
    """Whether a module is Python's own, jaxflow's, or installed beside it."""
    if name in sys.stdlib_module_names and name != "__main__":
        return True
    if name == __name__.partition(".")[0]:
        return True
    try:
        file = inspect.getfile(importlib.import_module(name))
    except (ImportError, TypeError):
        return False
    paths = sysconfig.get_paths()
    return file.startswith((paths["purelib"], paths["platlib"], paths["stdlib"]))


def _cannot_tell(path: str, value: Any) -> InputError:
    return InputError(
        path.partition(".")[0] or "simulation",
        f"a {type(value).__qualname__} at {path or 'the top'}, which cannot be told from "
        "another of its kind",
        "numbers, arrays, functions, and modules or dataclasses made of them",
    )
