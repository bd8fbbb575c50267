"""Values that JSON can hold, and whether those of several results agree."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..errors import InputError


def check_agree(name: str, values: Sequence[Any]) -> None:
    """**Raises:** `InputError` if the values differ."""
    different = list(dict.fromkeys(_text(value) for value in values))
    if len(different) > 1:
        found = f"{name} {' and '.join(different[:2])}"
        raise InputError("results", found, f"results with the same {name}")


def agreeing(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The entries that are the same in all mappings."""
    first, *rest = values
    return {
        name: value
        for name, value in first.items()
        if all(name in other and _text(other[name]) == _text(value) for other in rest)
    }


def _text(value: Any) -> str:
    """A value as text, so that NaN is equal to itself."""
    return json.dumps(plain(value), sort_keys=True, ensure_ascii=False)


def plain(value: Any) -> Any:
    """A value made of numbers, strings, `None`, lists and dicts, which JSON can hold."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if hasattr(value, "tolist"):  # of NumPy or JAX
        return plain(value.tolist())
    return str(value)


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    """A line for every name under which a store holds something else than a call wants."""
    for name in [*wanted, *(name for name in found if name not in wanted)]:
        missing = object()
        old, new = found.get(name, missing), wanted.get(name, missing)
        if old != new:
            there = "nothing" if old is missing else _brief(old)
            here = "nothing" if new is missing else _brief(new)
            yield f"{name}: {there} in the store, {here} in this call"


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
