"""The versions that a result was made with."""

import functools
import importlib.metadata


def versions() -> dict[str, str]:
    """Of jaxflow and the libraries that do its numerics, by name."""
    names = ("jaxflow", "jax", "diffrax", "equinox", "optax")
    return {f"{name}_version": version(name) for name in names}


@functools.cache
def version(name: str) -> str:
    """Of an installed package; "unknown" if there is none of that name."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # run from a folder, not installed
        return "unknown"
