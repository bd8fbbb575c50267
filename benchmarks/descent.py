"""How far gradient descent is from gradient flow, and where optimizers go instead.

    python -m benchmarks.descent                     # both parts, some minutes
    python -m benchmarks.descent --part distance     # one part
    python -m benchmarks.descent --quick             # tiny sizes: does it still run?

`distance`: the largest distance of the weights along the way, relative to their norm, for
step sizes up to and beyond the limit of stability `2/λ` of the minimum that the flow finds,
and the sharpness `λ η/2` where gradient descent ends, one at the edge of stability.

`direction`: from small weights, where each optimizer's direction is when the norm has grown
to √δ: `1 - cosine` to the KKT point to which gradient flow from the same start tends.
"""

import dataclasses
from typing import Annotated, Any

import jax
import numpy as np
import optax
import typer

import jaxflow as jf
from jaxflow.networks import flatten, member

from . import early_phase, measuring, reporting
from .measuring import number, spread
from .problems import power_two
from .reporting import Report
from .tasks import largest_rate

_POINTS = 16  # along the way, at which weights are compared
_TRAINED = 4.0  # times as long as it takes to reach the problem's level


@dataclasses.dataclass(frozen=True)
class Settings(measuring.Settings):
    """How large the parts are."""

    num: int = 8


def _weights(network: Any, task: jf.Task) -> jax.Array:
    return flatten(network)


def distance(settings: Settings) -> Report:
    """Gradient descent against the flow, along the way."""
    problem = power_two()
    starts, horizons = problem.members(settings.size(settings.num, 2))
    assert problem.order is not None
    # Physical time, in which a step of gradient descent is η.
    end = _TRAINED * float(np.max(horizons)) * problem.scale ** (2 - problem.order)
    times = np.linspace(0, end, _POINTS + 1)
    flow = jf.gradient_flow(
        starts,
        problem.task,
        scale=problem.scale,
        stop=jf.Time(end),
        coordinates="cartesian",
        rtol=1e-9,
        atol=1e-12,
        max_steps=1_000_000,
        record={"weights": _weights},
        record_at=times * problem.scale ** (problem.order - 2),
        progress=False,
    )
    assert flow.records is not None
    path = np.asarray(flow.records.values["weights"])
    num = len(path)
    rates = np.array(
        [largest_rate(member(flow.networks, i), problem.task) for i in range(num)]
    )
    limit = 2 / rates.max()
    rows, figures = [], {"2/λ": limit, "time": end, "runs": []}
    for share in settings.size((0.03, 0.06, 0.12, 0.25, 0.5, 0.9, 1.5, 2.5), (0.12, 0.25)):
        between = int(np.ceil(times[1] / (share * limit)))  # steps between two points
        step = times[1] / between
        found = jf.gradient_descent(
            starts,
            problem.task,
            scale=problem.scale,
            optimizer=optax.sgd(step),
            num_steps=between * _POINTS,
            record={"weights": _weights},
            record_at=np.arange(_POINTS + 1) * between,
            progress=False,
        )
        assert found.records is not None
        apart = np.linalg.norm(np.asarray(found.records.values["weights"]) - path, axis=2)
        apart = np.max(apart / np.linalg.norm(path, axis=2), axis=1)
        kept = np.isfinite(found.loss) & (found.status == "NumSteps")
        sharpness = [
            largest_rate(member(found.networks, i), problem.task) * step / 2
            for i in np.flatnonzero(kept).tolist()
        ]
        rows.append(
            (
                f"{step / limit:.3g}",
                spread(apart[kept].tolist()) if kept.any() else "–",
                spread(sharpness) if sharpness else "–",
                spread(found.loss[kept].tolist()) if kept.any() else "–",
                f"{num - kept.sum()}",
            )
        )
        figures["runs"].append(
            {
                "η": step,
                "distance": apart,
                "λ η/2": sharpness,
                "loss": found.loss,
                "diverged": num - kept.sum(),
            }
        )
    head = ("η in units of 2/λ", "distance along the way", "λ η/2", "loss", "diverged")
    title = f"Gradient descent and gradient flow: {problem.name}, L = 3, {num} members"
    share, apart = rows[0][:2]
    summary = f"With η = {share} · 2/λ gradient descent stays within {apart} of the flow"
    return Report(title, head, rows, figures, summary)


def optimizers(step: float) -> dict[str, dict[str, Any]]:
    """What `gradient_descent` is told of each."""
    few = {"batch_size": 5, "key": jax.random.key(5)}
    return {
        "gradient descent": {"optimizer": optax.sgd(step)},
        "momentum 0.9": {"optimizer": optax.sgd(0.1 * step, momentum=0.9)},
        "5 of 50 samples": {"optimizer": optax.sgd(0.1 * step), **few},
        "Adam": {"optimizer": optax.adam(1e-6)},
        "sign descent": {"optimizer": optax.sign_sgd(1e-6)},
    }


def direction(settings: Settings) -> Report:
    """Where directions are at the end of the early phase."""
    case = early_phase.prepare(3, settings.size(settings.num, 2))
    # Made once: a new optimizer is a new program.
    contenders = optimizers(1 / case.rate)
    rows, figures, distances = [], {}, {}
    for scale in settings.size((1e-1, 1e-2, 1e-3), (1e-2,)):
        end = jf.NormAbove(scale**0.5)
        flow = jf.gradient_flow(
            case.starts, case.task, scale=scale, stop=end, progress=False
        )
        assert set(flow.status) == {"NormAbove"}, flow
        distances = {"gradient flow": early_phase.distance(case, flow)}
        longest = float(np.exp(flow.log_time.max())) * case.rate
        for name, told in contenders.items():
            found = jf.gradient_descent(
                case.starts,
                case.task,
                scale=scale,
                num_steps=int(30 * longest) + 1_000_000,
                stop=end,
                progress=False,
                **told,
            )
            assert set(found.status) == {"NormAbove"}, found
            distances[name] = early_phase.distance(case, found)
        for name, apart in distances.items():
            rows.append((f"{scale:g}", name, spread(apart.tolist())))
        figures[f"δ = {scale:g}"] = distances
    title = "1 - cosine to the KKT point at norm √δ, linear network, L = 3"
    summary = f"1 - cosine at δ = {scale:g}: " + ", ".join(
        f"{name} {number(float(np.median(apart)))}" for name, apart in distances.items()
    )
    return Report(title, ("δ", "", "1 - cosine"), rows, figures, summary)


PARTS = {"distance": distance, "direction": direction}
Part = reporting.choice(PARTS)
SHORT = Settings(repeats=1, quick=True)


def main(
    part: Annotated[
        list[Part] | None, typer.Option(help="Which part; default: all.")
    ] = None,
    num: Annotated[int, typer.Option(min=1, help="Members.")] = 8,
    quick: reporting.Quick = False,
    output: reporting.Output = None,
) -> None:
    """How far gradient descent is from gradient flow."""
    reporting.run_parts("descent", PARTS, part, Settings(quick=quick, num=num), output)


if __name__ == "__main__":
    typer.run(main)
