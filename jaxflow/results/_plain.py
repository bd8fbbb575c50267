"""Values that JSON can hold, and whether those of several results agree."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..errors import InputError


def check_agree(name: str, values: Sequence[Any]) -> None:
    """Raises `InputError` if the values differ."""
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
    """A line for every name under which a store holds something else than a call wants.

    What has parts on one side and none on the other is one line.
    """
    told: list[str] = []
    for name in sorted({**wanted, **found}, key=lambda name: name.count(".")):
        if found.get(name, _MISSING) == wanted.get(name, _MISSING):
            continue
        if any(name.startswith(f"{above}.") for above in told):
            continue
        if name not in found or name not in wanted:
            told.append(name)
        there, here = _said(found, name), _said(wanted, name)
        yield f"{name}: {there} in the store, {here} in this call"


_MISSING = object()


def _said(values: Mapping[str, Any], name: str) -> str:
    if name in values:
        return _brief(values[name])
    parts = [each for each in values if each.startswith(f"{name}.")]
    return _brief(values.get(f"{name}.class", "another")) if parts else "nothing"


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
