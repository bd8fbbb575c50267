"""Runs whose programs decompose batches of matrices.

    python -m tests.decomposing 3,1,2,4 svd     # three rounds with 1, 2 and 4 workers

Where jaxlib leaves a batch to the threads that also run programs, they wait for ever.
`test_no_hang.py` runs them in processes of their own, with a deadline.
"""

import os
import sys
import tempfile

# Widths that an earlier run measured would spare this one the measurement.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp()

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

import jaxflow as jf
from jaxflow.solvers import kvaerno5

jax.config.update("jax_enable_x64", True)

SIZE, SAMPLES, MEMBERS = 24, 6, 32

HEIGHTS = {
    "svd": lambda m: jnp.sum(jnp.linalg.svd(m, compute_uv=False)),
    "eigh": lambda m: jnp.linalg.eigh(m + m.T)[0][-1],
    "qr": lambda m: jnp.sum(jnp.abs(jnp.diag(jnp.linalg.qr(m)[1]))),
    "cholesky": lambda m: jnp.sum(jnp.diag(jnp.linalg.cholesky(m @ m.T))),
    "solve": lambda m: jnp.sum(m**2) * jnp.mean(jnp.linalg.solve(m, jnp.ones(len(m)))),
}
"""Functions of a matrix that are homogeneous of degree one."""


class Decomposing(eqx.Module):
    """Twice homogeneous: a number times what a decomposition of `W diag(x)` gives."""

    number: jax.Array
    matrix: jax.Array
    names: tuple[str, ...] = eqx.field(static=True)

    def __init__(self, *names, size=SIZE):
        noise = jax.random.normal(jax.random.key(0), (size, size)) / size
        self.number, self.matrix, self.names = jnp.ones(1), jnp.eye(size) + noise, names

    def __call__(self, x):
        heights = [HEIGHTS[name](self.matrix * x) for name in self.names]
        return self.number * sum(heights) / len(x)


def task(size):
    inputs = 1 + jax.random.uniform(jax.random.key(1), (SAMPLES, size))
    return jf.Task(inputs, jnp.linspace(-1, 1, SAMPLES))


def ensemble(network, num=MEMBERS):
    noise = lambda leaf: (
        leaf + 0.1 * jax.random.normal(jax.random.key(2), (num, *leaf.shape))
    )
    return jax.tree_util.tree_map(noise, network)


def flow(network, size, workers, **options):
    options = {"stop": jf.RescaledTime(1e-3), "rtol": 1e-3, "atol": 1e-5} | options
    schedule = jf.Schedule(width=options.pop("width", 8), pools_per_device=workers)
    jf.gradient_flow(
        ensemble(network, options.pop("num", MEMBERS)),
        task(size),
        ensemble=True,
        coordinates="cartesian",
        schedule=schedule,
        progress=False,
        **options,
    )


def linear():
    return jf.FeedForward((8, 10, 1), jf.LeakyReLU(1.0), key=jax.random.key(0))


def values(network, task):
    """Recorded: batches of every decomposition of matrices of the network."""
    first, _ = network.weights
    sizes = jnp.arange(1.0, 33.0)[:, None, None]
    matrices = first @ first.T / sizes + jnp.eye(len(first))
    return jnp.stack([jnp.sum(jax.vmap(each)(matrices)) for each in HEIGHTS.values()])


def recorded(workers):
    points = jnp.linspace(0, 1e-3, 3)
    flow(linear(), 8, workers, record={"all": values}, record_at=points)


def in_field(*names):
    return lambda workers: flow(Decomposing(*names), SIZE, workers)


def measured(workers):
    """With a width that is measured: pools are timed while all of them are busy."""
    options = {"width": None, "num": 160 * workers}
    flow(Decomposing("solve", "cholesky"), SIZE, workers, **options)


def searched(workers):
    """KKT points: programs that the caller's thread and others run."""
    jf.find_kkt(
        ensemble(Decomposing("solve", size=6), 32),
        task(6),
        max_steps=20,
        spectrum=False,
        ensemble=True,
        schedule=jf.Schedule(pools_per_device=workers),
        progress=False,
    )


KINDS = {
    "LU in a solver": lambda workers: flow(linear(), 8, workers, solver=diffrax.Kvaerno5()),
    "Cholesky in a solver": lambda workers: flow(linear(), 8, workers, solver=kvaerno5()),
    "recorded": recorded,
    **{name: in_field(name) for name in HEIGHTS},
    "all at once": in_field(*HEIGHTS),
    "measured": measured,
    "searched": searched,
}


if __name__ == "__main__":
    rounds, *workers = map(int, sys.argv[1].split(","))
    for name in sys.argv[2:] or KINDS:
        for number in workers:
            for turn in range(rounds):
                print(f"{name}, workers {number}, round {turn}", flush=True)
                KINDS[name](number)
    print("done", flush=True)
