"""The manifest of a store: what every file in it has to be.

A checksum in a chunk says that its bytes are some chunk's bytes, not that they are those of
this run, this array, this place and this moment. The manifest says that. It holds the
descriptions of all arrays and groups themselves, and for every other file its size and a
digest. Its first line has a digest of the rest.

While files are replaced there are two right contents of each, the old and the new one, and
the manifest lists both: it is written before them.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..errors import StoreError

FORMAT = 3
LARGEST = 2**25
"""Bytes of a manifest, for half a million files. Chosen: parsed it takes ten times that."""
DESCRIPTION = "zarr.json"

_MAGIC = b"jaxflow manifest"


class File(NamedTuple):
    """What a file has to be."""

    digest: str
    size: int

    @classmethod
    def of(cls, content: bytes) -> "File":
        return cls(hashlib.blake2b(content, digest_size=16).hexdigest(), len(content))


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a store is made of.

    Arguments:
        store: a word that no other store has.
        generation: how often the manifest has been written.
        descriptions: of groups and arrays, the content of each `zarr.json`.
        files: all others; two of a kind where one is taking the place of another, the newer
            one last.
    """

    store: str
    generation: int = 0
    descriptions: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    files: Mapping[str, tuple[File, ...]] = dataclasses.field(default_factory=dict)

    def places(self) -> Iterable[str]:
        """Where everything is."""
        return [*self.descriptions, *self.files]

    def to_bytes(self) -> bytes:
        """Raises `StoreError` if there are too many files."""
        text = json.dumps(dataclasses.asdict(self), separators=(",", ":"))
        content = text.encode()
        if len(content) > LARGEST:
            raise StoreError(
                f"the store would have {len(self.files):,} files, more than one manifest "
                "holds: use several stores, such as one for each range of members"
            )
        return _head(content) + content

    @classmethod
    def from_bytes(cls, stored: bytes) -> "Manifest":
        """Raises `ValueError` if the bytes are not what `to_bytes` gave."""
        head, newline, content = stored.partition(b"\n")
        if not head.startswith(_MAGIC + b" "):
            raise ValueError("it is no manifest")
        number = head.split(b" ")[2:3]
        if number != [str(FORMAT).encode()]:
            raise FormatError(f"it has format {number[0].decode() if number else '?'}")
        if head + newline != _head(content):
            raise ValueError("it is not as it was written")
        found = json.loads(content)
        files = {
            _checked(place): tuple(File(str(digest), int(size)) for digest, size in each)
            for place, each in found["files"].items()
        }
        descriptions = found["descriptions"]
        for place, description in descriptions.items():
            _check_description(_checked(place), description)
        return cls(
            str(found["store"]),
            int(found["generation"]),
            descriptions,
            files,
        )


class FormatError(ValueError):
    """A manifest of another version of jaxflow."""


def _head(content: bytes) -> bytes:
    digest = hashlib.sha256(content).hexdigest()
    return b"%s %d %s\n" % (_MAGIC, FORMAT, digest.encode())


def _checked(place: str) -> str:
    """A place that lies in the store."""
    names = place.split("/")
    odd = any(name in ("", ".", "..") or set(name) & set("\\:\0") for name in names)
    if odd:
        raise ValueError(f"{place!r} is no place in a store")
    return place


_CODECS = {"bytes", "vlen-utf8", "zstd", "crc32c"}


def _check_description(place: str, description: Any) -> None:
    """Whether it is one that jaxflow writes: no codec from elsewhere is looked for."""
    if place.rpartition("/")[2] != DESCRIPTION or not isinstance(description, dict):
        raise ValueError(f"{place} describes nothing")
    names = {codec["name"] for codec in description.get("codecs", ())}
    if not names <= _CODECS:
        raise ValueError(f"{place} names codecs that jaxflow does not write")
    if description.get("storage_transformers"):
        raise ValueError(f"{place} names what jaxflow does not write")
