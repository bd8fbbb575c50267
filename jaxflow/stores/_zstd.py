"""How large a compressed chunk says that it becomes, before anything is made of it."""

import pathlib

from ..errors import StoreError

_MAGIC = b"\x28\xb5\x2f\xfd"
_ROOM, _DENSEST = 2**26, 1000
"""A chunk may become as large as the first, or so many times its own size. Chosen: what is
larger than that holds next to nothing, and jaxflow writes chunks of some megabytes."""


def check_decoded_size(path: pathlib.Path, place: str, content: bytes) -> None:
    """Raises `StoreError` for a small file that would become a huge array."""
    if content[:4] != _MAGIC:
        return
    size = decoded_size(content)
    if size is None or size > max(_ROOM, _DENSEST * len(content)):
        told = "nobody knows how many" if size is None else f"{size:,}"
        raise StoreError(
            f"{path} cannot be read: {place} has {len(content):,} bytes and would become "
            f"{told}."
        )


def decoded_size(content: bytes) -> int | None:
    """The bytes that a frame of Zstandard becomes (RFC 8878, 3.1.1.1), if it says so.

    Examples:
        >>> from jaxflow.stores._zstd import decoded_size
        >>> import zarr.storage, numpy as np, jax
        >>> store = {}
        >>> array = zarr.create_array(store, shape=(1000,), chunks=(1000,), dtype="float64")
        >>> array[:] = 1.0
        >>> decoded_size(store["c/0"].to_bytes())
        8000
    """
    if content[:4] != _MAGIC or len(content) < 6:
        return None
    descriptor = content[4]
    is_single_segment = bool(descriptor & 32)
    width = (1 if is_single_segment else 0, 2, 4, 8)[descriptor >> 6]
    start = 5 + (not is_single_segment) + (0, 1, 2, 4)[descriptor & 3]
    if not width:
        return None
    size = int.from_bytes(content[start : start + width], "little")
    return size + 256 if width == 2 else size
