"""Vectors of any size, from 1e-300 to 1e300, split into norm and direction."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arrays import ratio


def safe_norm(vector: Float[Array, " n"]) -> Float[Array, ""]:
    """`‖x‖` without under- or overflow in the squares."""
    size = _largest_entry(vector)
    return size * jnp.linalg.norm(vector / size)


def log_norm_and_direction(
    vector: Float[Array, " n"],
) -> tuple[Float[Array, ""], Float[Array, " n"]]:
    """`log ‖x‖` and `x/‖x‖`; minus infinity and zero for a zero vector."""
    size = _largest_entry(vector)
    scaled = vector / size
    norm = jnp.linalg.norm(scaled)
    return jnp.log(size) + jnp.log(norm), ratio(scaled, norm)


def tangent_part(
    vector: Float[Array, " n"], unit: Float[Array, " n"]
) -> Float[Array, " n"]:
    """`x - ⟨v, x⟩ v` for a unit vector `v`."""
    return vector - jnp.dot(unit, vector) * unit


def _largest_entry(vector):
    size = jnp.max(jnp.abs(vector), initial=0.0)
    usable = (size > 0) & jnp.isfinite(size)
    return jnp.where(usable, size, jnp.ones_like(size))
