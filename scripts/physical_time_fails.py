"""Why gradient flow from a tiny scale is not integrated in physical time.

Order L = 7, δ = 1e-1 … 1e-30: plain diffrax on `dw/dt = -∇𝓛(w)` in float64, beside
jaxflow's polar flow of the same members. The network leaves the origin at t ≈ T* δ^(2-L)
and then moves within times of order one, which a clock at 1e24 cannot tell apart.

    python scripts/physical_time_fails.py
"""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

import jaxflow as jf
from jaxflow.flows import CartesianFlow

MEMBERS, MAX_STEPS, LEVEL = 8, 4000, 0.49


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    activation = jf.LeakyReLU(0.5, power=2)
    network = jf.FeedForward((10, 20, 20, 1), activation, key=jax.random.key(0))
    inputs = jf.data.sphere_points(50, 10, key=jax.random.key(1))
    task = jf.data.teacher_student(network, inputs, target_norm=1.0)
    ensemble = jf.sample_ensemble(network, MEMBERS, key=jax.random.key(2))
    plain = CartesianFlow(network, task, order=None)
    starts = jnp.concatenate([w.reshape(MEMBERS, -1) for w in ensemble.weights], axis=1)

    def escaped(t, y, args, **kwargs):
        return plain.snapshot(t, y, y, args).loss < LEVEL

    @jax.jit
    @jax.vmap
    def in_physical_time(start):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(plain.vector_field),
            diffrax.Tsit5(),
            0.0,
            1e300,
            None,
            start,
            jnp.zeros(()),
            stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-9),
            event=diffrax.Event(escaped),
            max_steps=MAX_STEPS,
            throw=False,
        )
        done = solution.result == diffrax.RESULTS.event_occurred
        return done, solution.stats["num_steps"], solution.ts[-1]

    print(f"{'δ':>6}  {'physical time':>32}  {'polar (jaxflow)':>28}")
    for scale in (1e-1, 1e-2, 1e-3, 1e-4, 1e-10, 1e-30):
        done, steps, _ = map(np.asarray, in_physical_time(scale * starts))
        polar = jf.gradient_flow(
            ensemble, task, scale=scale, stop=jf.LossBelow(LEVEL), max_steps=MAX_STEPS
        )
        ours = polar.status == "LossBelow"
        plain_steps, polar_steps = np.median(steps), np.median(polar.stats.num_steps)
        exponent = np.median(polar.log_time) / np.log(10)
        print(
            f"{scale:6.0e}  {done.sum()} of {MEMBERS} escape, {plain_steps:5.0f} steps"
            f"   {ours.sum()} of {MEMBERS}, {polar_steps:4.0f} steps, t = 10^{exponent:.0f}"
        )


if __name__ == "__main__":
    main()
