"""Networks whose weights NumPy draws: JAX would compile a program for every shape."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np


def filled(make, *, seed=0):
    """The module that `make()` builds, with weights drawn anew, normal over √fan-in.

    `make` is only traced, so whatever it draws itself is never computed.
    """
    random = np.random.default_rng(seed)

    def draw(leaf):
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        fan_in = np.prod(leaf.shape[1:], initial=1)
        return jnp.asarray(random.standard_normal(leaf.shape) / fan_in**0.5, leaf.dtype)

    return jax.tree_util.tree_map(draw, eqx.filter_eval_shape(make))
