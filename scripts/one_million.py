"""One million initializations of a tiny network in one call, drawn when they are needed.

    python scripts/one_million.py                    # results in memory
    python scripts/one_million.py --store run.zarr   # on disk, as members are done

Prints the time and the peak memory. A run with `--store` may be killed and started again.
"""

import pathlib
import resource
import time
from typing import Annotated

import jax
import typer

import jaxflow as jf


def main(
    members: int = 1_000_000,
    store: Annotated[pathlib.Path | None, typer.Option()] = None,
) -> None:
    """Gradient flow of two-layer networks with three neurons to a loss of 0.1."""
    jax.config.update("jax_enable_x64", True)
    activation = jf.LeakyReLU(0.5, power=2)
    network = jf.FeedForward((2, 3, 1), activation, key=jax.random.key(0))
    inputs = jf.data.sphere_points(5, 2, key=jax.random.key(1))
    task = jf.data.teacher_student(network, inputs, target_norm=1.0)
    simulation = jf.Simulation(
        jf.GradientFlow(),
        jf.Initializations(network, members, key=jax.random.key(2)),
        task,
        scale=0.1,
        stop=jf.LossBelow(0.1),
        stepping=jf.Stepping(max_steps=100),
    )

    begun = time.perf_counter()
    solution = jf.run(simulation, store=store)
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(solution)
    print(f"{seconds:.0f} s, {members / seconds:,.0f} members/s, peak {peak:.2f} GiB")


if __name__ == "__main__":
    typer.run(main)
