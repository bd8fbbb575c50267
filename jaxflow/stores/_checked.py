"""A Zarr store in a folder, in which every file is what its manifest says, or an error.

Descriptions of groups and arrays are read from the manifest; the files `zarr.json` are
there for other readers. Those of groups have the descriptions of all that is below them too
("consolidated metadata"), without which xarray warns whoever opens them. Chunks are read
from their files and compared. Whatever else lies in the folder is not seen.

Changes are collected and made by `commit`, all together: first the manifest, which then
names the old and the new content of each file, then the files. Whoever is killed in between
leaves a store that is whole, with some files old and some new. A disk that loses power may
keep any of the newest names: `commit` waits for the disk before it writes the last files.
"""

import contextlib
import json
import pathlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

import zarr.abc.store
import zarr.core.buffer

from .. import _files
from ..errors import StoreError
from ._manifest import DESCRIPTION, File, Manifest
from ._zstd import check_decoded_size

GROUP = "jaxflow"
"""The group of jaxflow's own files in a store."""
FILES = f"{GROUP}/files"
"""An array without elements: Zarr's readers take files in a group for damage, and warn."""
MANIFESTS = (f"{FILES}/manifest", f"{FILES}/manifest_copy")
"""Two, so that one that is damaged does not make all others worthless."""
LOCK = f"{FILES}/lock"
NEW = f"{FILES}/new"
"""The file that is being written."""

_BELOW = "consolidated_metadata"
_INLINE = {"kind": "inline", "must_understand": False}

Buffer = zarr.core.buffer.Buffer


class CheckedStore(zarr.abc.store.Store):
    """The store in a folder.

    Arguments:
        path: the folder.
        manifest: what is in it.
        read_only: whether nothing is changed; then a chunk that has gone is an error, and
            no array with its fill value.
        at_once: whether chunks are written when they are set, which does for a folder that
            nobody else sees yet.
    """

    supports_writes = True  # pyright: ignore[reportAssignmentType]
    supports_deletes = True  # pyright: ignore[reportAssignmentType]
    supports_listing = True  # pyright: ignore[reportAssignmentType]
    supports_consolidated_metadata = False  # pyright: ignore[reportAssignmentType]

    def __init__(
        self,
        path: pathlib.Path,
        manifest: Manifest,
        *,
        read_only: bool,
        at_once: bool = False,
    ):
        super().__init__(read_only=read_only)
        self.path = path
        self._name = manifest.store
        self._generation = manifest.generation
        self._descriptions = dict(manifest.descriptions)
        self._files = {place: each[-1] for place, each in manifest.files.items()}
        self._staged: dict[str, bytes] = {}
        self._gone: set[str] = set()  # files that are to be deleted
        self._put_at_once: list[str] = []
        self._begun: dict[str, File] = {}  # what a commit that did not end was to write
        self._at_once = at_once
        self._is_open = True

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, CheckedStore)
            and (self.path, self._name) == (other.path, other._name)
            and self._generation == other._generation
        )

    def __str__(self) -> str:
        return f"jaxflow store {self.path}"

    __repr__ = __str__

    def with_read_only(self, read_only: bool = False) -> "CheckedStore":
        if read_only == self.read_only:
            return self
        return CheckedStore(self.path, self._manifest({}), read_only=read_only)

    # -- what the folder holds --

    def sizes(self) -> dict[str, int]:
        """The bytes of every file but the descriptions, by place."""
        staged = {place: len(content) for place, content in self._staged.items()}
        return {**{place: file.size for place, file in self._files.items()}, **staged}

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Those of the group at the root."""
        return self._descriptions[DESCRIPTION]["attributes"]

    def places(self) -> Iterable[str]:
        """Where everything is."""
        return {**self._descriptions, **self._files, **self._staged}

    def content(self, place: str) -> bytes | None:
        """The content of a file; `None` if the manifest has none of this name.

        Raises:
            StoreError: if it is not what it should be.
        """
        if place in self._staged:
            return self._staged[place]
        if place not in self._files:
            return None
        file = self._files[place]
        try:
            found = _files.read(self.path, place, file.size)
        except FileNotFoundError as error:
            told = f"{self.path} is not a whole result: {place} has gone."
            raise StoreError(told) from error
        except OSError as error:
            told = f"{self.path} cannot be read: {place}: {error.strerror}."
            raise StoreError(told) from error
        if File.of(found) != file:
            raise StoreError(
                f"{self.path} is not a whole result: {place} is damaged, or is not the "
                "file that was written there last."
            )
        return found

    def put(self, place: str, content: bytes) -> None:
        """Let a file have this content after `commit`."""
        self._gone.discard(place)
        if self._at_once and not place.endswith(DESCRIPTION):
            _files.write(self.path, place, content, NEW)
            self._files[place] = File.of(content)
            self._put_at_once.append(place)
        else:
            self._staged[place] = content

    def remove(self, place: str) -> None:
        """Let there be no such file after `commit`."""
        self._staged.pop(place, None)
        self._descriptions.pop(place, None)
        if self._files.pop(place, None) is not None:
            self._gone.add(place)

    def differing(self) -> list[str]:
        """Descriptions whose files do not say what the manifest says."""
        return [place for place in self._descriptions if not self._says(place)]

    def _says(self, place: str, *, consolidated: bool = False) -> bool:
        """Whether a file says what the manifest does of this place.

        Arguments:
            consolidated: whether it has to say what is below a group too. What it says of
                that has to be right in any case, but for groups of other people's.
        """
        wanted = self._document(place)
        try:
            found = self._in_file(place)
            below = found.pop(_BELOW, None)
            if below is None:
                right = not consolidated or _BELOW not in wanted
                return right and _text(found) == _text(self._descriptions[place])
            ours = wanted[_BELOW]["metadata"]
            kept = {name: each for name, each in below["metadata"].items() if name in ours}
            return _text({**found, _BELOW: {**below, "metadata": kept}}) == _text(wanted)
        except (OSError, ValueError, RecursionError, AttributeError, KeyError, TypeError):
            return False

    def _in_file(self, place: str) -> dict[str, Any]:
        size = 2**20 + 4 * len(_text(self._document(place)))
        return json.loads(_files.read(self.path, place, size))

    def _document(self, place: str) -> dict[str, Any]:
        """What is to be in a file: a description, and of a group all those below it."""
        description = self._descriptions[place]
        if description.get("node_type") != "group":
            return description
        start, end = len(place) - len(DESCRIPTION), len(f"/{DESCRIPTION}")
        others = (p for p in self._descriptions if p.startswith(place[:start]))
        below = {p[start:-end]: self._nested(p) for p in others if p != place}
        return {**description, _BELOW: {**_INLINE, "metadata": _in_order(below)}}

    def _with_others(self, place: str) -> dict[str, Any]:
        """The same, and what the file says of groups that are not jaxflow's."""
        document = self._document(place)
        if _BELOW not in document:
            return document
        with contextlib.suppress(
            OSError, ValueError, RecursionError, AttributeError, KeyError, TypeError
        ):
            found = self._in_file(place)[_BELOW]["metadata"]
            start = place.removesuffix(DESCRIPTION)
            known = {p.split("/")[0] for p in document[_BELOW]["metadata"]}
            others = {
                name: each
                for name, each in found.items()
                if name.split("/")[0] not in known and (self.path / start / name).is_dir()
            }
            metadata = {**others, **document[_BELOW]["metadata"]}
            document[_BELOW]["metadata"] = _in_order(metadata)
        return document

    def _nested(self, place: str) -> dict[str, Any]:
        """A description within another, in the form in which Zarr writes it."""
        description = self._descriptions[place]
        if description.get("node_type") != "group":
            return description
        return {**description, _BELOW: {**_INLINE, "metadata": {}}}

    # -- changes --

    def commit(self, last: str | None = None) -> None:
        """Make all changes.

        Arguments:
            last: the beginning of the places of those files that are written after all
                others.

        Raises:
            OSError: as the system does. What was there before is whole then.
        """
        self._settle()
        for place in [p for p in self._staged if p.endswith(DESCRIPTION)]:
            self._descriptions[place] = json.loads(self._staged.pop(place))
        # Those too that an earlier commit could not write.
        described = [
            place
            for place in sorted(self._descriptions, key=len, reverse=True)
            if not self._says(place, consolidated=True)
        ]
        changed = {place: File.of(content) for place, content in self._staged.items()}
        self._generation += 1
        self._begun = changed
        _write_manifest(self.path, self._manifest(changed))
        for place in described:
            text = json.dumps(self._with_others(place), indent=2)
            _files.write(self.path, place, text.encode(), NEW)
        lasts = [p for p in self._staged if last is not None and p.startswith(last)]
        others = [place for place in self._staged if place not in lasts]
        for place in others:
            _files.write(self.path, place, self._staged[place], NEW)
        _files.sync_ways(self.path, [*described, *self._put_at_once, *others])
        for place in lasts:
            _files.write(self.path, place, self._staged[place], NEW)
        for place in self._gone:
            _files.remove(self.path, place)
        _files.sync_ways(self.path, lasts)
        self._files.update(changed)
        self._staged, self._gone, self._put_at_once, self._begun = {}, set(), [], {}

    def _settle(self) -> None:
        """After a commit that did not end: what it wrote is now the old content.

        The next manifest names one old content of each file.
        """
        written = {}
        for place, file in self._begun.items():
            with contextlib.suppress(OSError):
                if File.of(_files.read(self.path, place, file.size)) == file:
                    written[place] = file
        _files.sync_ways(self.path, written)
        self._files.update(written)
        self._begun = {}

    def _manifest(self, changed: dict[str, File]) -> Manifest:
        files: dict[str, tuple[File, ...]]
        files = {place: (file,) for place, file in self._files.items()}
        for place, file in changed.items():
            old = files.get(place, ())
            files[place] = old if old == (file,) else (*old, file)
        return Manifest(self._name, self._generation, dict(self._descriptions), files)

    # -- as Zarr asks --

    async def get(
        self,
        key: str,
        prototype: Any = None,
        byte_range: zarr.abc.store.ByteRequest | None = None,
    ) -> Buffer | None:
        if prototype is None:
            prototype = zarr.core.buffer.default_buffer_prototype()
        if key.endswith(DESCRIPTION):
            content = self._staged.get(key)
            if content is None and key in self._descriptions:
                content = json.dumps(self._descriptions[key]).encode()
        else:
            content = self.content(key)
            if content is not None:
                check_decoded_size(self.path, key, content)
            elif self.read_only and "/c/" in f"/{key}/":
                raise StoreError(f"{self.path} is not a whole result: {key} is missing.")
        if content is None:
            return None
        return prototype.buffer.from_bytes(_part(content, byte_range))

    async def get_partial_values(
        self,
        prototype: Any,
        key_ranges: Iterable[tuple[str, zarr.abc.store.ByteRequest | None]],
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def exists(self, key: str) -> bool:
        return key in self._staged or key in self._descriptions or key in self._files

    async def set(self, key: str, value: Buffer) -> None:
        self._check_writable()
        self.put(key, value.to_bytes())

    async def delete(self, key: str) -> None:
        self._check_writable()
        self.remove(key)

    async def delete_dir(self, prefix: str) -> None:
        self._check_writable()
        for place in self._below(prefix):
            self.remove(place)

    async def list(self) -> AsyncIterator[str]:
        for place in self._below(""):
            yield place

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        for place in self._below(prefix):
            yield place

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        start = len(prefix.rstrip("/")) + 1 if prefix else 0
        for name in dict.fromkeys(p[start:].split("/")[0] for p in self._below(prefix)):
            yield name

    def _below(self, prefix: str) -> Sequence[str]:
        start = f"{prefix.rstrip('/')}/" if prefix else ""
        return [place for place in self.places() if place.startswith(start)]


def _write_manifest(path: pathlib.Path, manifest: Manifest) -> None:
    content = manifest.to_bytes()
    for place in MANIFESTS:
        _files.write(path, place, content, NEW)
    _files.sync_ways(path, MANIFESTS)


def _text(description: Any) -> str:
    return json.dumps(description, sort_keys=True)


def _in_order(metadata: dict[str, Any]) -> dict[str, Any]:
    """In the order in which Zarr writes it, on which its reading depends."""
    return dict(sorted(metadata.items(), key=lambda pair: (pair[0].count("/"), pair[0])))


def _part(content: bytes, part: zarr.abc.store.ByteRequest | None) -> bytes:
    if part is None:
        return content
    if isinstance(part, zarr.abc.store.RangeByteRequest):
        return content[part.start : part.end]
    if isinstance(part, zarr.abc.store.OffsetByteRequest):
        return content[part.offset :]
    return content[max(0, len(content) - part.suffix) :]
