"""The table of KKT points and their rank, by depth and power, in docs/theory.md.

Run with `python scripts/rank_one_shares.py`; it takes about ten minutes on two cores.
"""

import argparse
import time

import jax
import numpy as np

import jaxflow as jf

SLOPE, WIDTH, SAMPLES, DIMENSIONS = 0.5, 20, 50, 10


def row(depth: int, power: int, members: int) -> str:
    """One row: how many points, which share of the members ends at rank one, and more."""
    key = jax.random.key(0)
    sizes = (DIMENSIONS, *(WIDTH,) * (depth - 1), 1)
    network = jf.FeedForward(sizes, jf.LeakyReLU(SLOPE, power), key=key)
    inputs = jf.data.sphere_points(SAMPLES, DIMENSIONS, key=key)
    task = jf.data.teacher_student(network, inputs, target_norm=1.0)
    starts = jf.Initializations(network, members, key=jax.random.key(1))
    begun = time.monotonic()
    points = jf.find_kkt(starts, task)
    seconds = time.monotonic() - begun
    low, high = jf.kkt.wilson(int(points.basin[points.rank_one].sum()), members)
    share = points.basin[points.rank_one].sum() / members
    best = points.share[0] if len(points) else 0.0
    print(points, flush=True)
    return (
        f"| {depth} | {power} | {jf.order(network):g} | {members:,} | {len(points)} | "
        f"{share:.1%} ({low:.1%} to {high:.1%}) | {best:.1%} | "
        f"{int(np.sum(points.index > 0))} | {int(np.sum(points.num_kinks > 0))} | "
        f"{points.num_zero_type} | {len(points.not_converged)} | {seconds:.0f} s |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depths", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--powers", type=int, nargs="+", default=[2, 3, 1])
    parser.add_argument("--members", type=int, default=1024)
    parser.add_argument("--members-with-kinks", type=int, default=128)
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    rows = [
        row(depth, power, arguments.members_with_kinks if power == 1 else arguments.members)
        for power in arguments.powers
        for depth in arguments.depths
    ]
    print(
        "| D | p | L | members | points | end at rank one | at the best point | "
        "points with ascent | points on kinks | go to zero | not converged | time |"
    )
    print("| --- " * 12 + "|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
