"""The second-order finish: from near a KKT point to full accuracy.

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

from .._arrays import ratio, select
from ._objective import AbstractObjective

# These were all chosen: none comes from a paper or from a measurement of its own. The tests
# of find_kkt, among them brute force on data in the plane, and the table in docs/theory.md
# (How often rank one) were run with them.

_SHARPNESS = 10.0
"""γ; every positive number has the same solutions."""

_MAX_STEPS = 30
"""Newton's steps from one start."""

_FREE_STEPS = 5
"""The first steps, in which all pairs may change sides at once; see `_switch`."""

_LONGEST_STEP = 0.1
"""On the unit sphere."""

_DAMPING = 0.1
"""Of the least squares, as a share of the size of the residual."""

_LEAST_ROOM = 0.3
"""The least factor by which the change of a slope next to an end of its interval is
scaled; see `_newton_step`."""

_MAX_PRODUCTS = 500
"""Iterations of LSMR for one step."""


class Finish(NamedTuple):
    """Where Newton's method ended from one start."""

    vector: Float[Array, " p"]
    slopes: Float[Array, " k"]
    kinked: Bool[Array, " k"]  # pairs at their kinks
    residual: Float[Array, ""]  # `‖∇N - λv‖ / ‖∇N‖`
    value: Float[Array, ""]  # `N(v)`
    moved: Float[Array, ""]  # `‖v - start‖`


def finish(
    objective: AbstractObjective,
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
        least = objective.least_slope
        heights = objective.heights(vector, slopes)
        kinked = jnp.abs(heights.share) <= tolerance
        allowed = jnp.where(heights.cosine > 0, 1.0, least)
        inside = jnp.clip(slopes, least, 1.0)
        allowed = jnp.where(kinked, inside, allowed).astype(slopes.dtype)
        gradient = objective.gradient(vector, allowed)
        rest = gradient - (vector @ gradient) * vector
        size = jnp.linalg.norm(gradient)
        return Finish(
            vector,
            allowed,
            kinked,
            ratio(jnp.linalg.norm(rest), size),
            jnp.asarray(objective.value(vector, allowed)),
            jnp.linalg.norm(vector - start),
        )

    def again(carry):
        *_, best, count = carry
        return (count < _MAX_STEPS) & ~(best.residual <= 0.1 * tolerance)

    def step(carry):
        vector, slopes, kinked, best, count = carry
        vector, slopes = _newton_step(objective, vector, slopes, kinked)
        found = look(vector, slopes)
        better = found.residual < best.residual
        best = select(better, found, best)
        kinked, slopes = _switch(objective, vector, slopes, kinked, count >= _FREE_STEPS)
        return vector, slopes, kinked, best, count + 1

    slopes, kinked = _first_sides(objective, start)
    carry = (start, slopes, kinked, look(start, slopes), 0)
    return jax.lax.while_loop(again, step, carry)[3]


def _first_sides(objective: AbstractObjective, start):
    """The slopes at the end of a flow, and which pairs seem to be on their kinks."""
    slopes, least = objective.first_slopes(start), objective.least_slope
    # A smoothed slope misses those of its sides by (ε/2)² / (z/m)².
    far = objective.smoothing**0.5
    missed = (1.0 - least) * (objective.smoothing / (2 * far)) ** 2
    near = jnp.minimum(slopes - least, 1.0 - slopes) > missed
    kinked = near & (jnp.asarray(objective.signals(start, slopes)) < 0)  # others repel
    side = jnp.where(slopes > (1.0 + least) / 2, 1.0, least)
    return jnp.where(kinked, slopes, side), kinked


def _switch(objective: AbstractObjective, vector, slopes, kinked, carefully):
    """Which pairs are to be at their kinks next, and the slopes of the others.

    `carefully`, only those change sides that violate the conditions by at least half as
    much as the worst: if all changed at once they might change back in the next step, and
    so on without end.
    """
    least = objective.least_slope
    shifted = slopes + _SHARPNESS * objective.heights(vector, slopes).cosine
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


def _newton_step(objective: AbstractObjective, vector, slopes, kinked):
    gradient, turn = jax.linearize(objective.gradient, vector, slopes)
    shares = lambda v, s: objective.heights(v, s).share
    share, lift = jax.linearize(shares, vector, slopes)
    multiplier = vector @ gradient
    size = jnp.where(multiplier != 0, jnp.abs(multiplier), 1.0)
    tangent = lambda x: x - (vector @ x) * vector

    # Where neurons point the same way, the slope of any of them can make the same change of
    # `N`. Scaled by the room that a slope has inside of its interval, those with little
    # room move less.
    least = objective.least_slope
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
    # LSMR computes partly in JAX's default float, whatever the dtype of its arguments.
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
    along = along * jnp.minimum(1.0, ratio(_LONGEST_STEP, length))
    vector = vector + tangent(along)
    return vector / jnp.linalg.norm(vector), slopes + jnp.where(kinked, room * shift, 0.0)
