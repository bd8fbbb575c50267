"""The structure of a network as plain data, so that a file can hold it.

Everything in an Equinox module but its arrays: classes and functions by the names under
which they can be imported, containers and numbers as they are. No code is stored, and
reading a structure runs no constructor.
"""

import dataclasses
import importlib
import sys
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ..errors import StoreError

Json = Any


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
        return {"class": _name_of(type(node), path), "fields": fields}
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
    return {"object": _name_of(node, path)}


def rebuild(description: Json, load_array: Callable[[str], Any]) -> Any:
    """The module that `describe` described.

    **Raises:** `StoreError` if a class or function cannot be imported.
    """
    ((kind, content), *rest) = description.items()
    if kind == "class":
        cls = imported(content)
        if not (isinstance(cls, type) and issubclass(cls, eqx.Module)):
            raise StoreError(f"{content} is not an Equinox module any more.")
        module = object.__new__(cls)
        for name, value in dict(rest)["fields"].items():
            object.__setattr__(module, name, rebuild(value, load_array))
        return module
    if kind == "array":
        return load_array(content)
    if kind in ("tuple", "list"):
        items = [rebuild(item, load_array) for item in content]
        return tuple(items) if kind == "tuple" else items
    if kind == "dict":
        return {key: rebuild(value, load_array) for key, value in content.items()}
    return content if kind == "value" else imported(content)


def _name_of(thing: Any, path: str) -> str:
    name = import_name(thing)
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
