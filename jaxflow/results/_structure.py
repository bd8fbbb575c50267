"""The structure of a network as plain data, so that a file can hold it.

Everything in an Equinox module but its arrays: classes and functions by name, containers
and numbers as they are. What has no name, such as a lambda, is marked as missing. No code
is stored, and reading a structure runs none: names are
looked up in a closed list (`_known.py`), or in modules that the caller trusts.
"""

import collections
import dataclasses
import enum
import functools
import importlib
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._arrays import is_key
from .._checks import shown
from .._trained import NOT_TRAINED, partly_trained, whole_class
from ..errors import InputError, StoreError
from ._known import known, known_name

Json = Any
Trust = tuple[str, ...]
"""Names of modules whose code a structure may name."""


def as_trust(trust: Any) -> Trust:
    """The modules that a caller trusts, given by name or themselves.

    Raises:
        InputError: for anything else.
    """
    several = (trust,) if isinstance(trust, (str, types.ModuleType)) else trust
    expected = "a list of modules or of their names, such as ['my_networks']"
    if not isinstance(several, Iterable):
        raise InputError("trust", shown(trust), expected)
    names = [getattr(m, "__name__", m) for m in several]
    if not all(isinstance(name, str) and name for name in names):
        raise InputError("trust", shown(trust), expected)
    return tuple(str(name) for name in names)


def describe(
    node: Any, store_array: Callable[[Any], str | None], path: str = "", *, whole: bool
) -> Json:
    """Plain data for a module; `store_array` keeps an array and gives its name.

    Arguments:
        whole: whether a part without a name, such as a lambda, is refused; else its place
            is marked, and only a network of the same structure fills it.

    Raises:
        StoreError: naming the first part that has no importable name.
    """
    found = _described(
        node,
        store_array,
        lambda part, name: describe(part, store_array, f"{path}{name}", whole=whole),
    )
    if found is not None:
        return found
    what = f"{path or 'as a whole'} is {shown(node)}"
    if whole:
        raise StoreError(
            f"The part {what}, which has no name to import it by: define it at the top "
            "of a module."
        )
    return {"unnamed": what}


def _described(
    node: Any,
    store_array: Callable[[Any], str | None],
    part: Callable[[Any, str], Json],
) -> Json:
    """A node by its parts; `None` if a file has no words for it."""
    if node is None or type(node) in (bool, int, float, str):
        return {"value": node}
    if is_compiled(node):
        # `jax.jit` changes no number, and a network is compiled as a whole.
        return _named("object", node) or part(node.__wrapped__, "")
    if isinstance(node, eqx.Module):
        fields = {
            field.name: part(getattr(node, field.name), f".{field.name}")
            for field in dataclasses.fields(node)
            if hasattr(node, field.name)
        }
        return _named("class", whole_class(node), fields=fields)
    if is_key(node):
        name = store_array(node)
        kind = str(jax.random.key_impl(node))
        return None if name is None else {"key": name, "impl": kind}
    if isinstance(node, (jax.Array, np.ndarray)):
        name = store_array(node)
        return None if name is None else {"array": name}
    if isinstance(node, (tuple, list)):
        items = [part(item, f"[{i}]") for i, item in enumerate(node)]
        if type(node) in (tuple, list):
            return {type(node).__name__: items}
        return _named("named tuple", type(node), items=items) if _has_fields(node) else None
    if type(node) in (dict, collections.OrderedDict):
        if not all(type(key) in (bool, int, float, str) for key in node):
            return None
        kind = "dict" if type(node) is dict else "ordered dict"
        return {kind: [[key, part(value, f"[{key!r}]")] for key, value in node.items()]}
    if type(node) in _PARTIALS:
        return {
            _PARTIALS[type(node)]: part(node.func, ".func"),
            "args": [part(arg, f".args[{i}]") for i, arg in enumerate(node.args)],
            "keywords": {
                name: part(value, f".keywords[{name!r}]")
                for name, value in node.keywords.items()
            },
        }
    return _described_constant(node)


def _described_constant(node: Any) -> Json:
    if isinstance(node, enum.Enum):
        # Several flags at once have no name in their class.
        named = node.name in type(node).__members__
        return _named("enum", type(node), member=node.name) if named else None
    if isinstance(node, np.dtype):
        return {"dtype": node.name} if node.name in _DTYPES else None
    if isinstance(node, np.generic) and node.dtype.name in _DTYPES:
        return {"number": node.dtype.name, "bytes": node.tobytes().hex()}
    if type(node) is complex:
        return {"complex": [node.real, node.imag]}
    if _is_stateless(node):
        return _named("instance", type(node))
    return _named("object", node)


def _named(kind: str, thing: Any, **more: Any) -> Json:
    name = known_name(thing) or import_name(thing)
    return None if name is None else {kind: name, **more}


_COMPILED: tuple[type, ...] = (
    type(jax.jit(lambda: None)),
    type(eqx.filter_jit(lambda: None)),
)
_PARTIALS = {functools.partial: "partial", jax.tree_util.Partial: "pytree partial"}
_DTYPES = (
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 "
    "float16 bfloat16 float32 float64 complex64 complex128"
).split()


def is_compiled(node: Any) -> bool:
    """Whether it is what `jax.jit` or `equinox.filter_jit` made of a function."""
    return isinstance(node, _COMPILED) and callable(getattr(node, "__wrapped__", None))


def _has_fields(node: Any) -> bool:
    return isinstance(node, tuple) and hasattr(type(node), "_fields")


def _is_stateless(node: Any) -> bool:
    """Whether the class is all that there is to an object, such as Equinox's mark for a
    shared node."""
    cls = type(node)
    slots = [slot for base in cls.__mro__ for slot in vars(base).get("__slots__", ())]
    is_plain = cls.__new__ is object.__new__ and not slots
    return is_plain and getattr(node, "__dict__", None) == {}


def rebuild(description: Json, load_array: Callable[[str], Any], trust: Trust) -> Any:
    """The module that `describe` described.

    Raises:
        StoreError: if a class or function is not known and not trusted, if a part had no
            name, or if it is not what `describe` writes.
    """
    kind = next(iter(description), "") if isinstance(description, dict) else ""
    if not isinstance(description, dict) or set(description) != _KEYS.get(kind, {kind}):
        raise StoreError("it does not describe a network")
    content = description[kind]
    part = lambda each: rebuild(each, load_array, trust)
    if kind == "class":
        return _rebuilt_module(content, description["fields"], part, trust)
    if kind == "array":
        return load_array(content)
    if kind == "key":
        return _rebuilt_key(load_array(content), description["impl"])
    if kind in ("tuple", "list") and isinstance(content, list):
        items = [part(item) for item in content]
        return tuple(items) if kind == "tuple" else items
    if kind in ("dict", "ordered dict") and _is_pairs(content):
        pairs = [(key, part(value)) for key, value in content]
        return dict(pairs) if kind == "dict" else collections.OrderedDict(pairs)
    if kind == "dict" and isinstance(content, dict):  # as it was written once
        return {key: part(value) for key, value in content.items()}
    if kind == "value" and (content is None or isinstance(content, (int, float, str))):
        return content
    if kind == "object":
        return _found(content, trust)
    if kind in _PARTIALS.values():
        return _rebuilt_partial(kind, description, part)
    if kind == "unnamed":
        raise StoreError(
            f"its part {_words(content)}, which has no name in a file: pass "
            "load(path, network=…) with a network of the same structure"
        )
    return _rebuilt_constant(kind, description, part, trust)


def described_not_trained(description: Json) -> tuple[str, ...]:
    """The paths of arrays of a described module that are not trained."""
    fields = description.get("fields") if isinstance(description, dict) else None
    paths = fields.get(NOT_TRAINED) if isinstance(fields, dict) else None
    return () if paths is None else rebuild(paths, _no_array, ())


def _no_array(name: str) -> Any:
    raise StoreError("it does not describe a network")


def _rebuilt_key(words: Any, impl: Any) -> Any:
    try:
        return jax.random.wrap_key_data(jnp.asarray(words), impl=impl)
    except (TypeError, ValueError) as error:
        raise StoreError(f"it holds random keys of the kind {impl!r}") from error


_KEYS = {
    "class": {"class", "fields"},
    "key": {"key", "impl"},
    "named tuple": {"named tuple", "items"},
    "partial": {"partial", "args", "keywords"},
    "pytree partial": {"pytree partial", "args", "keywords"},
    "enum": {"enum", "member"},
    "number": {"number", "bytes"},
}


def _words(text: Any) -> str:
    """What a file says, on one line, of bounded length."""
    return "".join(c if c.isprintable() else "?" for c in str(text)[:200])


def _is_pairs(content: Any) -> bool:
    is_pair = lambda pair: isinstance(pair, list) and len(pair) == 2
    return isinstance(content, list) and all(
        is_pair(pair) and isinstance(pair[0], (int, float, str)) for pair in content
    )


def _rebuilt_partial(kind: str, description: Json, part: Callable[[Json], Any]) -> Any:
    function, args = part(description[kind]), description["args"]
    keywords = description["keywords"]
    if not callable(function) or not isinstance(args, list):
        raise StoreError("it describes no function")
    if not isinstance(keywords, dict):
        raise StoreError("it describes no function")
    cls = next(cls for cls, name in _PARTIALS.items() if name == kind)
    named = {name: part(value) for name, value in keywords.items()}
    return cls(function, *(part(arg) for arg in args), **named)


def _rebuilt_constant(
    kind: str, description: Json, part: Callable[[Json], Any], trust: Trust
) -> Any:
    content = description[kind]
    if kind == "dtype" and content in _DTYPES:
        return jnp.dtype(content)
    if kind == "number" and content in _DTYPES:
        number = np.frombuffer(bytes.fromhex(description["bytes"]), jnp.dtype(content))
        if number.shape == (1,):
            return number[0]
    if kind == "complex" and isinstance(content, list) and len(content) == 2:
        return complex(*map(float, content))
    if kind in ("enum", "named tuple", "instance"):
        cls = _found(content, trust)
        if kind == "enum" and isinstance(cls, enum.EnumMeta):
            if description["member"] in cls.__members__:
                return cls.__members__[description["member"]]
        elif kind == "named tuple" and isinstance(description["items"], list):
            items = [part(item) for item in description["items"]]
            fields = getattr(cls, "_fields", None)
            if _is_class(cls, tuple) and fields and len(fields) == len(items):
                return tuple.__new__(cls, items)  # runs nothing of the class
        elif kind == "instance" and not _is_class(cls, eqx.Module):
            if isinstance(cls, type) and cls.__new__ is object.__new__:
                return object.__new__(cls)
        raise StoreError(f"{content} is not what it was any more")
    raise StoreError(f"it describes {_words(kind)!r}, which is no part of a network")


def _is_class(cls: Any, base: type) -> bool:
    return isinstance(cls, type) and issubclass(cls, base)


def _rebuilt_module(name: Any, fields: Any, part: Callable, trust: Trust) -> Any:
    cls = _found(name, trust)
    if not _is_class(cls, eqx.Module):
        raise StoreError(f"{name} is not an Equinox module any more")
    known_fields = {field.name for field in dataclasses.fields(cls)}
    if isinstance(fields, dict) and NOT_TRAINED in set(fields) - known_fields:
        cls, known_fields = partly_trained(cls), known_fields | {NOT_TRAINED}
    if not isinstance(fields, dict) or not set(fields) <= known_fields:
        raise StoreError(f"{name} has no such fields as it names")
    module = object.__new__(cls)
    for field in dataclasses.fields(cls):  # such as were added since, with a value
        if field.default is not dataclasses.MISSING:
            object.__setattr__(module, field.name, field.default)
    for field, value in fields.items():
        object.__setattr__(module, field, part(value))
    return module


def _found(name: Any, trust: Trust) -> Any:
    """What a file names, if it may."""
    if not isinstance(name, str):
        raise StoreError("it names nothing")
    if (found := known(name)) is not None:
        return found
    module_name = name.partition(":")[0]
    if any(module_name == each or module_name.startswith(f"{each}.") for each in trust):
        return imported(name)
    raise StoreError(
        f"it names {name}, which is code of neither jaxflow nor Equinox, and a file cannot "
        "have code run. If you trust that code, add "
        f"trust=[{module_name.partition('.')[0]!r}]; for networks of a result, "
        "network=… with one of the same structure does without"
    )


def import_name(thing: Any) -> str | None:
    """`module:name`, by which a class or function is found; `None` if it is by none."""
    module_name = getattr(thing, "__module__", "")
    names = [getattr(thing, "__qualname__", "")]
    # A lambda at the top of a module, such as Equinox's identity, does not know its name.
    module = sys.modules.get(module_name)
    names += [name for name, value in vars(module or object).items() if value is thing]
    for name in names:
        full_name = f"{module_name}:{name}"
        try:
            if imported(full_name) is thing:
                return full_name
        except StoreError:
            continue
    return None


def imported(name: str) -> Any:
    """The class or function of that name, `module:name`."""
    module_name, _, qualname = name.partition(":")
    try:
        found = importlib.import_module(module_name)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise StoreError(
            f"{name} cannot be imported here. For networks of a saved result, pass "
            "load(path, network=…) one of the same structure."
        ) from error
    return found
