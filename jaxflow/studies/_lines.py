"""On which line of a TOML file a key is, which the parser does not tell."""

import re
import tomllib
from collections.abc import Iterator

Key = tuple[str | int, ...]
"""The way to a value: names of tables and keys, and numbers in lists."""

_TABLE = re.compile(r"\s*(?P<open>\[\[?)(?P<name>[^\[\]]+)\]\]?\s*(#.*)?$")
_NAME = r"""(?:"[^"]*"|'[^']*'|[\w-]+)"""
_ENTRY = re.compile(rf"\s*(?P<name>{_NAME}(?:\s*\.\s*{_NAME})*)\s*=")


def line_of(text: str, key: Key) -> int:
    """The line, from 1, of a key in the text of a file, or of the table that it is in.

    Given a `text` that is TOML.
    """
    best, line = 0, 1
    for at, number in _entries(text):
        common = 0
        while common < min(len(at), len(key)) and at[common] == key[common]:
            common += 1
        if (common == len(at) and common > best) or common == len(key) > best:
            best, line = common, number
    return line


def _entries(text: str) -> Iterator[tuple[Key, int]]:
    """Every table and entry with its line, in the order of the file."""
    table: Key = ()
    counts: dict[Key, int] = {}
    lines = iter(enumerate(text.splitlines(), start=1))
    for number, line in lines:
        if found := _TABLE.match(line):
            table = _names(found["name"])
            if found["open"] == "[[":
                place = counts.get(table, 0)
                counts[table], table = place + 1, (*table, place)
            yield table, number
        elif found := _ENTRY.match(line):
            yield (*table, *_names(found["name"])), number
            value = line[found.end() :]
            while not _is_whole(value):
                _, more = next(lines)
                value += "\n" + more


def _names(dotted: str) -> Key:
    """The parts of a key, by TOML itself: quotes and spaces may be anywhere."""
    found, names = tomllib.loads(f"{dotted.strip()} = 0"), []
    while isinstance(found, dict):
        ((name, found),) = found.items()
        names.append(name)
    return tuple(names)


def _is_whole(value: str) -> bool:
    try:
        tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        return False
    return True
