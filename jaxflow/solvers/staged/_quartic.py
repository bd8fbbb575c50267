"""Dense output of degree four from both ends of a step and one more vector."""

from typing import Any

import diffrax
import jax
import jax.numpy as jnp


class QuarticInterpolation(diffrax.AbstractLocalInterpolation):
    """Cubic Hermite interpolation, and a term that is zero at both ends, the bulge.

    With `θ` the share of the step, `y(θ) = hermite(θ) + θ² (1 - θ)² bulge`. Every quartic
    that has the right values and slopes at both ends is of this form, such as the dense
    output of Tsit5. Stabilized methods have no bulge.

    Given the ends of the step, the values and the rises `h f` there, the bulge.
    """

    t0: Any
    t1: Any
    y0: Any
    y1: Any
    rise0: Any
    rise1: Any
    bulge: Any

    def evaluate(self, t0, t1=None, left=True):
        del left
        if t1 is not None:
            before, after = self.evaluate(t0), self.evaluate(t1)
            return jax.tree_util.tree_map(jnp.subtract, after, before)
        length = self.t1 - self.t0
        share = (t0 - self.t0) / jnp.where(length == 0, 1.0, length)
        rest = 1 - share

        def leaf(y0, y1, rise0, rise1, bulge):
            return (
                rest**2 * (1 + 2 * share) * y0
                + share**2 * (1 + 2 * rest) * y1
                + share * rest * (rest * rise0 - share * rise1)
                + (share * rest) ** 2 * bulge
            )

        parts = self.y0, self.y1, self.rise0, self.rise1, self.bulge
        return jax.tree_util.tree_map(leaf, *parts)

    def derivative(self, t0, left=True):
        length = self.t1 - self.t0
        share = (t0 - self.t0) / jnp.where(length == 0, 1.0, length)
        rest = 1 - share
        per_clock = 1 / jnp.where(length == 0, 1.0, length)

        def leaf(y0, y1, rise0, rise1, bulge):
            return per_clock * (
                6 * share * rest * (y1 - y0)
                + rest * (1 - 3 * share) * rise0
                + share * (1 - 3 * rest) * rise1
                + 2 * share * rest * (rest - share) * bulge
            )

        parts = self.y0, self.y1, self.rise0, self.rise1, self.bulge
        return jax.tree_util.tree_map(leaf, *parts)
