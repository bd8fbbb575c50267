"""An equation of your own: gradient flow with momentum, beside plain gradient flow.

    python scripts/momentum_flow.py --output momentum_flow.png

Momentum gradient flow is a heavy ball that rolls on the loss through something viscous,

    ẅ + γ ẇ = -∇𝓛(w),   w(0) = δ w₀,   ẇ(0) = 0,

with a friction γ. jaxflow does not know it, and needs two small classes for it: a flow,
which says what is integrated and what is seen of it, and an equation, which names it. Stop
conditions, records, stores, several devices and results then come by themselves.
"""

import pathlib
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import typer
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

import jaxflow as jf
from jaxflow import flows, networks

BLUE, ORANGE = "#0072B2", "#D55E00"  # told apart by everybody (Okabe and Ito)


class MomentumFlow(flows.AbstractPlainFlow):
    """Weights and their velocity, as one long vector each."""

    network: eqx.Module
    task: jf.Task
    friction: float
    shows = ("time", "log_time", "log_norm", "loss", "speed")

    def enter(self, network, args):
        """The state of a member at its start; `args` is the logarithm of its scale."""
        weights = jnp.exp(args) * networks.flatten(network)
        return weights, jnp.zeros_like(weights)

    @staticmethod
    def weights(state):
        return state[0]

    def vector_field(self, clock, state, args):
        weights, velocity = state
        pull = flows.pull_back(self.network, self.task, weights, self.task.residuals)
        return velocity, pull - self.friction * velocity

    def snapshot(self, clock, state, velocity, args):
        """What stop conditions, records and results see: `jaxflow.quantities`, or more."""
        weights, speed = state
        log_norm, direction = flows.log_norm_and_direction(weights)
        return flows.snapshot(
            direction,
            log_time=jnp.log(clock),
            log_norm=log_norm,
            loss=self.task.total_loss(flows.outputs_at(self.network, self.task, weights)),
            speed=jnp.linalg.norm(speed),
        )

    def clock_at(self, quantity, value, args):
        """Where on its own clock the flow has to step to hit a time exactly."""
        return {"time": value, "log_time": jnp.exp(value)}.get(quantity)


class Momentum(jf.AbstractEquation):
    """The equation, as `jaxflow.Simulation` takes it."""

    friction: float
    kind = "momentum gradient flow"

    def flow(self, network, task):
        return MomentumFlow(network, task, self.friction)

    def describe(self):
        return {"friction": self.friction}


def draw(times: np.ndarray, curves: dict[str, np.ndarray]) -> Figure:
    """Loss against time: a thin line for each member, a thick one for their median."""
    figure, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for (name, losses), color, style in zip(
        curves.items(), (BLUE, ORANGE), ("-", "--"), strict=True
    ):
        ax.plot(times, losses.T, color=color, alpha=0.25, linewidth=0.6)
        middle = np.median(losses, axis=0)
        ax.plot(times, middle, style, color=color, linewidth=2.4, label=name)
    num = len(next(iter(curves.values())))
    ax.set(
        xscale="log",
        yscale="log",
        xlim=(times[0], times[-1]),
        xlabel="time",
        ylabel="loss",
        title=f"{num} networks from the same initializations, and their median",
    )
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.grid(alpha=0.25)
    ax.legend(frameon=False)
    return figure


def main(
    output: Annotated[pathlib.Path, typer.Option(help="The picture.")],
    members: Annotated[int, typer.Option(min=1)] = 24,
    friction: Annotated[float, typer.Option(min=0.0, help="γ.")] = 0.5,
    end: Annotated[float, typer.Option(min=10.0, help="The last time.")] = 300.0,
) -> None:
    """Gradient flow with and without momentum, of two-layer networks."""
    jax.config.update("jax_enable_x64", True)
    activation = jf.LeakyReLU(0.5, power=2)
    network = jf.FeedForward((3, 8, 1), activation, key=jax.random.key(0))
    inputs = jf.data.sphere_points(20, 3, key=jax.random.key(1))
    task = jf.data.teacher_student(network, inputs, target_norm=1.0)
    times = np.geomspace(5.0, end, 400)
    curves = {}
    equations = {
        "gradient flow": jf.GradientFlow(),
        f"with momentum, friction {friction:g}": Momentum(friction),
    }
    for name, equation in equations.items():
        simulation = jf.Simulation(
            equation,
            jf.Initializations(network, members, key=jax.random.key(2)),
            task,
            scale=0.1,
            stop=jf.Time(end),
            record=jf.Record({"loss": jf.loss}, np.log(times), over="log_time"),
        )
        solution = jf.run(simulation)
        print(solution, end="\n\n")
        curves[name] = np.asarray(solution.records.values["loss"])
    draw(times, curves).savefig(output, dpi=150)


if __name__ == "__main__":
    typer.run(main)
