"""What integrates gradient flow of leaky ReLU networks: gradients against accuracy.

Leaky ReLU of slope 0.5, D = 3, width 20, 50 samples of unit norm in 10 dimensions, targets
of unit norm from a network of the same shape, δ = 0.1, until the loss is under 1e-4. The
error of a loss curve is its largest distance from the reference, relative to the loss at
the start; the reference takes constant steps of 0.01 with Kutta's method of fourth order.

    python scripts/kinks.py --tasks 5 0 11
"""

import argparse

import diffrax
import equinox as eqx
import jax
import numpy as np

import jaxflow as jf

SCALE, END = 0.1, 1e-4
TIMES = np.arange(1, 1401) * 0.5


def problem(seed, smoothing=0.0, members=8):
    sizes = (10, 20, 20, 1)
    teacher = jf.FeedForward(sizes, jf.LeakyReLU(0.5), key=jax.random.key(seed))
    inputs = jf.data.sphere_points(50, 10, key=jax.random.key(seed + 1))
    task = jf.data.teacher_student(teacher, inputs, target_norm=1.0)
    activation = jf.LeakyReLU(0.5, 1, smoothing)
    network = jf.FeedForward(sizes, activation, key=jax.random.key(0))
    return network, jf.sample_ensemble(network, members, key=jax.random.key(seed + 2)), task


def reference(ensemble, task, step=0.01):
    """Loss curves at `TIMES` by constant steps, with nothing of the engine."""
    add = lambda n, k, size: jax.tree_util.tree_map(lambda w, g: w - size * g, n, k)
    gradient = jax.vmap(jax.grad(lambda n: jf.loss(n, task)))

    def one(_, n):
        first = gradient(n)
        second = gradient(add(n, first, step / 2))
        third = gradient(add(n, second, step / 2))
        fourth = gradient(add(n, third, step))
        for slope, share in ((first, 1), (second, 2), (third, 2), (fourth, 1)):
            n = add(n, slope, share * step / 6)
        return n

    def several(n, _):
        n = jax.lax.fori_loop(0, round(TIMES[0] / step), one, n)
        return n, jax.vmap(lambda n: jf.loss(n, task))(n)

    start = jax.tree_util.tree_map(lambda w: SCALE * w, ensemble)
    run = jax.jit(lambda n: jax.lax.scan(several, n, None, length=len(TIMES))[1])
    return np.asarray(run(start)).T


def kinked_loss(network, task):
    """The loss without smoothing."""
    return jf.loss(eqx.tree_at(lambda n: n.activation, network, jf.LeakyReLU(0.5)), task)


def row(name, seeds, references, settings, smoothing=0.0):
    gradients, errors, logs = [], [], []
    for seed in seeds:
        network, ensemble, task = problem(seed, smoothing)
        curves = references[seed]
        solution = jf.gradient_flow(
            ensemble,
            task,
            scale=SCALE,
            stop=[jf.LossBelow(END), jf.Time(float(TIMES[-1]))],
            record={"loss": kinked_loss},
            progress=False,
            record_at=np.log(TIMES),
            record_over="log_time",
            max_steps=200_000,
            **settings(network, task),
        )
        gradients += list(solution.stats.num_vjps)
        for mine, exact in zip(np.asarray(solution.records.values["loss"]), curves):
            seen = np.isfinite(mine) & (exact >= END)
            errors.append(np.abs(mine - exact)[seen].max() / 0.5)
            logs.append(np.abs(np.log(mine / exact))[seen].max())
    errors = np.array(errors)
    print(
        f"| {name} | {np.median(gradients):,.0f} | {np.median(errors):.1e} | "
        f"{np.quantile(errors, 0.9):.1e} | {np.mean(errors <= 1e-3):.0%} | "
        f"{np.median(logs):.1e} |",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, nargs="+", default=[5, 0, 11])
    parser.add_argument("--slow", action="store_true", help="Euler with 200,000 steps too")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    seeds = arguments.tasks
    references = {seed: reference(*problem(seed)[1:]) for seed in seeds}
    print("| | gradients | error | 90 % | within 1e-3 | in log 𝓛 |")
    print("| --- | --- | --- | --- | --- | --- |")

    def constant(solver, step):
        settings = {
            "coordinates": "cartesian",
            "stepping": jf.Stepping(
                solver,
                controller=diffrax.ConstantStepSize(),
                dt0=step * SCALE,  # in the rescaled time δ t
            ),
        }
        return lambda network, task: settings

    def adaptive(solver, rtol):
        return lambda network, task: {"solver": solver, "rtol": rtol, "atol": 1e-3 * rtol}

    def sliding(rtol, factor):
        return lambda network, task: {
            "solver": jf.sliding_solver(diffrax.Bosh3(), network, task, factor=factor),
            "rtol": rtol,
            "atol": 1e-3 * rtol,
        }

    bosh3, tsit5 = diffrax.Bosh3(), diffrax.Tsit5()
    for step in (0.1, 0.01, *([0.0025] if arguments.slow else [])):
        row(f"Euler, steps of {step}", seeds, references, constant(diffrax.Euler(), step))
    for step in (0.1666, 0.125, 0.1, 0.05):
        row(f"Bosh3, steps of {step}", seeds, references, constant(bosh3, step))
    for rtol in (1e-3, 1e-4):
        row(f"Tsit5, rtol {rtol:g}", seeds, references, adaptive(tsit5, rtol))
        row(f"Bosh3, rtol {rtol:g}", seeds, references, adaptive(bosh3, rtol))
    for rtol, factor in ((1e-4, 10.0), (3e-5, 30.0), (3e-5, 10.0), (1e-5, 30.0)):
        name = f"sliding Bosh3, rtol {rtol:g}, factor {factor:g}"
        row(name, seeds, references, sliding(rtol, factor))
    for smoothing in (0.1, 0.03, 0.01, 0.003):
        name = f"smoothing {smoothing}, Tsit5, rtol 1e-5"
        row(name, seeds, references, adaptive(tsit5, 1e-5), smoothing)


if __name__ == "__main__":
    main()
