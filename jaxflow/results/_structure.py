"""The structure of a network as plain data, so that a file can hold it.

Everything in an Equinox module but its arrays: classes and functions by name, containers
and numbers as they are. No code is stored, and reading a structure runs none: names are
looked up in a closed list (`_known.py`), or in modules that the caller trusts.
"""

import dataclasses
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

    **Raises:** `InputError` for anything else.
    """
    several = (trust,) if isinstance(trust, (str, types.ModuleType)) else trust
    expected = "a list of modules or of their names, such as ['my_networks']"
    if not isinstance(several, Iterable):
        raise InputError("trust", shown(trust), expected)
    names = [getattr(m, "__name__", m) for m in several]
    if not all(isinstance(name, str) and name for name in names):
        raise InputError("trust", shown(trust), expected)
    return tuple(str(name) for name in names)


def describe(node: Any, store_array: Callable[[Any], str], path: str = "") -> Json:
    """Plain data for a module; `store_array` keeps an array and gives its name.

    **Raises:** `StoreError` naming the first part that has no importable name.
    """
    if isinstance(node, eqx.Module):
        fields = {
            field.name: describe(
                getattr(node, field.name), store_array, f"{path}.{field.name}"
            )
            for field in dataclasses.fields(node)
            if hasattr(node, field.name)
        }
        return {"class": _name_of(whole_class(node), path), "fields": fields}
    if is_key(node):
        return {"key": store_array(node), "impl": str(jax.random.key_impl(node))}
    if isinstance(node, (jax.Array, np.ndarray)):
        return {"array": store_array(node)}
    if isinstance(node, (tuple, list)):
        items = [describe(x, store_array, f"{path}[{i}]") for i, x in enumerate(node)]
        return {"tuple" if isinstance(node, tuple) else "list": items}
    if isinstance(node, dict) and all(isinstance(key, str) for key in node):
        return {
            "dict": {
                key: describe(value, store_array, f"{path}[{key!r}]")
                for key, value in node.items()
            }
        }
    if node is None or isinstance(node, (bool, int, float, str)):
        return {"value": node}
    if (name := known_name(type(node))) is not None and not vars(node):
        return {"instance": name}  # such as what equinox.nn.Shared leaves in a place
    return {"object": _name_of(node, path)}


def rebuild(description: Json, load_array: Callable[[str], Any], trust: Trust) -> Any:
    """The module that `describe` described.

    **Raises:** `StoreError` if a class or function is not known and not trusted, or if it
    is not what `describe` writes.
    """
    kinds = {"class": {"class", "fields"}, "key": {"key", "impl"}}
    kind = next(iter(description)) if isinstance(description, dict) else ""
    if not isinstance(description, dict) or set(description) != kinds.get(kind, {kind}):
        raise StoreError("it does not describe a network")
    content = description[kind]
    if kind == "class":
        return _rebuilt_module(content, description["fields"], load_array, trust)
    if kind == "array":
        return load_array(content)
    if kind == "key":
        return _rebuilt_key(load_array(content), description["impl"])
    if kind in ("tuple", "list") and isinstance(content, list):
        items = [rebuild(item, load_array, trust) for item in content]
        return tuple(items) if kind == "tuple" else items
    if kind == "dict" and isinstance(content, dict):
        return {key: rebuild(each, load_array, trust) for key, each in content.items()}
    if kind == "value" and (content is None or isinstance(content, (int, float, str))):
        return content
    if kind == "instance" and isinstance(cls := known(str(content)), type):
        return object.__new__(cls)
    if kind == "object":
        return _found(content, trust)
    raise StoreError(f"it describes {kind!r}, which is no part of a network")


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


def _rebuilt_module(name: Any, fields: Any, load_array: Callable, trust: Trust) -> Any:
    cls = _found(name, trust)
    if not (isinstance(cls, type) and issubclass(cls, eqx.Module)):
        raise StoreError(f"{name} is not an Equinox module any more")
    known_fields = {field.name for field in dataclasses.fields(cls)}
    if isinstance(fields, dict) and NOT_TRAINED in set(fields) - known_fields:
        cls, known_fields = partly_trained(cls), known_fields | {NOT_TRAINED}
    if not isinstance(fields, dict) or not set(fields) <= known_fields:
        raise StoreError(f"{name} has no such fields as it names")
    module = object.__new__(cls)
    for field, value in fields.items():
        object.__setattr__(module, field, rebuild(value, load_array, trust))
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


def _name_of(thing: Any, path: str) -> str:
    name = known_name(thing) or import_name(thing)
    if name is None:
        raise StoreError(
            f"The network's part {path or 'as a whole'} is {thing!r}, which has no name "
            "to import it by: define it at the top of a module."
        )
    return name


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
