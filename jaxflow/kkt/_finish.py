"""The second-order finish: from near a KKT point to its digits.

A KKT point solves, for `v` on the sphere and slopes `s` (of neurons on kinks, if any),

    ∇_v N(v, s) - λ v = 0,    s = Π(s + γ z(v, s)),    λ = ⟨v, ∇_v N⟩,

`Π` the projection onto `[α, 1]`: the second equation says that `s` is 1 where `z > 0`, `α`
where `z < 0`, and anything between where `z = 0`. This is Newton's method for semismooth
equations, the primal-dual active set method (Hintermüller, Ito and Kunisch, SIAM J. Optim.
13, 2002). Without slopes it is Riemannian Newton on the sphere. The linear systems are
solved by LSMR on Hessian-vector products, as least squares damped by the size of the
equations' residual. Damped so, Newton's method keeps its order where KKT points come in
continuous families, along which the Hessian vanishes (Yamashita and Fukushima, Computing
Suppl. 15, 2001).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, ArrayLike, Bool, Float

from ._slopes import AbstractCorrelation

_SHARPNESS = 10.0  # γ
_MAX_STEPS = 30
_HASTY_STEPS = 5  # those in which all pairs may change sides at once
_LONGEST_STEP = 0.1
_DAMPING = 0.1  # of the size of the residual
_LEAST_ROOM = 0.3
_MAX_PRODUCTS = 500  # for one step


class Finish(NamedTuple):
    """Where Newton's method ended from one start."""

    vector: Float[Array, " p"]
    slopes: Float[Array, " k"]
    kinked: Bool[Array, " k"]  # pairs at their kinks
    residual: Float[Array, ""]  # `‖∇N - λv‖ / ‖∇N‖`
    value: Float[Array, ""]  # `N(v)`
    moved: Float[Array, ""]  # `‖v - start‖`


def finish(
    correlation: AbstractCorrelation,
    start: Float[Array, " p"],
    tolerance: ArrayLike,
) -> Finish:
    """Newton's method from a unit vector near a KKT point with `N > 0`.

    It goes on until the residual has fallen below a tenth of the `tolerance`, and gives the
    best that it met. There a pre-activation counts as zero if it is smaller than the
    `tolerance` times the largest that it could be.
    """

    def look(vector, slopes) -> Finish:
        """The residual with slopes that the signs of `z` allow."""
        least = correlation.least_slope
        heights = correlation.heights(vector, slopes)
        kinked = jnp.abs(heights.share) <= tolerance
        allowed = jnp.where(heights.cosine > 0, 1.0, least)
        inside = jnp.clip(slopes, least, 1.0)
        allowed = jnp.where(kinked, inside, allowed).astype(slopes.dtype)
        gradient = correlation.gradient(vector, allowed)
        rest = gradient - (vector @ gradient) * vector
        size = jnp.linalg.norm(gradient)
        return Finish(
            vector,
            allowed,
            kinked,
            jnp.linalg.norm(rest) / jnp.where(size > 0, size, 1.0),
            jnp.asarray(correlation.value(vector, allowed)),
            jnp.linalg.norm(vector - start),
        )

    def again(carry):
        *_, best, count = carry
        return (count < _MAX_STEPS) & ~(best.residual <= 0.1 * tolerance)

    def step(carry):
        vector, slopes, kinked, best, count = carry
        vector, slopes = _newton_step(correlation, vector, slopes, kinked)
        found = look(vector, slopes)
        better = found.residual < best.residual
        best = jax.tree_util.tree_map(lambda a, b: jnp.where(better, a, b), found, best)
        kinked, slopes = _switch(correlation, vector, slopes, kinked, count >= _HASTY_STEPS)
        return vector, slopes, kinked, best, count + 1

    slopes, kinked = _first_sides(correlation, start)
    carry = (start, slopes, kinked, look(start, slopes), 0)
    return jax.lax.while_loop(again, step, carry)[3]


def _first_sides(correlation: AbstractCorrelation, start):
    """The slopes at the end of a flow, and which pairs seem to be on their kinks."""
    slopes, least = correlation.first_slopes(start), correlation.least_slope
    # A smoothed slope misses those of its sides by (ε/2)² / (z/m)².
    far = correlation.smoothing**0.5
    missed = (1.0 - least) * (correlation.smoothing / (2 * far)) ** 2
    near = jnp.minimum(slopes - least, 1.0 - slopes) > missed
    kinked = near & (jnp.asarray(correlation.signals(start, slopes)) < 0)  # others repel
    side = jnp.where(slopes > (1.0 + least) / 2, 1.0, least)
    return jnp.where(kinked, slopes, side), kinked


def _switch(correlation: AbstractCorrelation, vector, slopes, kinked, carefully):
    """Which pairs are to be at their kinks next, and the slopes of the others.

    `carefully`, only those change sides that miss their place by at least half as much as
    the worst: all at once may come and go together for ever.
    """
    least = correlation.least_slope
    shifted = slopes + _SHARPNESS * correlation.heights(vector, slopes).cosine
    inside = (shifted > least) & (shifted < 1.0)
    missed = jnp.where(inside, jnp.minimum(shifted - least, 1.0 - shifted), 0.0)
    missed = jnp.where(inside, missed, jnp.maximum(least - shifted, shifted - 1.0))
    switches = inside != kinked
    missed = jnp.where(switches, missed, 0.0)
    worst = jnp.max(missed, initial=0.0)
    switches = switches & (~carefully | (missed >= 0.5 * worst))
    kinked = kinked ^ switches
    # Those that stay off their kinks keep the slope of their side.
    side = jnp.where(inside, jnp.where(slopes > (1.0 + least) / 2, 1.0, least), shifted)
    return kinked, jnp.where(kinked, slopes, jnp.clip(side, least, 1.0))


def _newton_step(correlation: AbstractCorrelation, vector, slopes, kinked):
    gradient, turn = jax.linearize(correlation.gradient, vector, slopes)
    shares = lambda v, s: correlation.heights(v, s).share
    share, lift = jax.linearize(shares, vector, slopes)
    multiplier = vector @ gradient
    size = jnp.where(multiplier != 0, jnp.abs(multiplier), 1.0)
    tangent = lambda x: x - (vector @ x) * vector

    # Slopes of neurons that point the same way can do each other's work: those with little
    # room inside of their interval are to move less.
    least = correlation.least_slope
    room = 4 * (slopes - least) * (1.0 - slopes) / (1.0 - least) ** 2
    room = jnp.clip(room, _LEAST_ROOM, 1.0)

    def system(change):
        along, shift = change
        slope = jnp.where(kinked, room * shift, 0.0)
        across = tangent(along)
        rest = tangent(turn(across, slope)) - multiplier * along
        lifted = jnp.where(kinked, lift(across, slope), shift)
        return rest / size, lifted, damping * along, damping * shift

    turned, off = -tangent(gradient) / size, jnp.where(kinked, -share, 0.0)
    damping = _DAMPING * jnp.sqrt(jnp.sum(turned**2) + jnp.sum(off**2))
    right = (turned, off, jnp.zeros_like(vector), jnp.zeros_like(slopes))
    # LSMR mixes in JAX's default float.
    wide, own = jnp.result_type(float), vector.dtype
    cast = lambda tree, dtype: jax.tree_util.tree_map(lambda a: a.astype(dtype), tree)
    operator = lx.FunctionLinearOperator(
        lambda change: cast(system(cast(change, own)), wide),
        jax.eval_shape(lambda: cast((vector, slopes), wide)),
    )
    precision = float(jnp.finfo(own).eps) ** 0.6  # a Newton step needs no more
    most = min(2 * vector.size + 50, _MAX_PRODUCTS)
    solver = lx.LSMR(rtol=precision, atol=0.0, max_steps=most)
    solution = lx.linear_solve(operator, cast(right, wide), solver, throw=False)
    along, shift = cast(solution.value, own)
    length = jnp.linalg.norm(along)
    along = along * jnp.minimum(1.0, _LONGEST_STEP / jnp.where(length > 0, length, 1.0))
    vector = vector + tangent(along)
    return vector / jnp.linalg.norm(vector), slopes + jnp.where(kinked, room * shift, 0.0)
