"""The part of the claim on leaky ReLU networks that is about gradient descent."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray

from ..plot import _style as style
from ..studies import Study
from ._claim import Size, Verdict
from ._two_layers import largest, start, tables

SLOPE = 0.2
N, DIM, WIDTH = 20, 1000, 64
COHERENCE = 1e-6
"""Inside of `5 γ⁻² C n μ <= 1`, `C = 10 γ⁻² + 10`, which is 0.65."""
SMALL_STEP, USUAL_STEP = 1.5e-6, 1.0
"""`α`, for the mean of the losses: one inside of `5 n C α <= γ²`, and one that learns."""
INSIDE = 1e-10
"""`ω/α` inside of `72 C n √(m d log(4m/0.05)) ω <= α γ²`."""


def descents(size: Size) -> Mapping[str, Study]:
    """Descent from starts of many sizes, on data inside and outside of the condition."""
    ratios = {
        "test": [1e-4, 1.0],
        "quick": [1e-5, 1e-4, 1e-2, 1.0],
        "full": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0],
    }[size]
    num = {"test": 2, "quick": 1, "full": 4}[size]
    steps = [0, 1, 10, 100] if size == "test" else [0, 1, 10, 100, 1000]
    usual = [(ratio, USUAL_STEP) for ratio in ratios]
    points = {"num": N, "dim": DIM, "seed": 1}
    orthogonal = {"kind": "nearly_orthogonal_points", "coherence": COHERENCE, **points}
    found = {"descent": _study(orthogonal, [(INSIDE, SMALL_STEP), *usual], num, steps)}
    if size != "test":
        # Of norm √d, by which a step of 1/d moves outputs as much as before.
        some = ratios if size == "full" else ratios[1:3]
        outside = [(r * math.sqrt(DIM), USUAL_STEP / DIM) for r in some]
        found["gaussian"] = _study(
            {"kind": "gaussian_points", **points}, outside, num, steps
        )
    return found


def _study(
    points: Mapping[str, Any],
    pairs: Sequence[tuple[float, float]],
    num: int,
    steps: Sequence[int],
) -> Study:
    """Given pairs of `ω/α` and `α`."""
    activation = {"kind": "SmoothLeakyReLU", "slope": SLOPE}
    return Study(
        {
            "title": "One step of gradient descent from a small start",
            **tables(width=WIDTH, activation=activation, inputs=points),
            "initialization": start({"kind": "gaussian", "deviation": 1.0}, num=num),
            "equation": {
                "kind": "gradient_descent",
                "num_steps": steps[-1],
                "optimizer": {"kind": "sgd", "learning_rate": 1.0},
            },
            "record": {
                "functions": ["stable_rank", "loss"],
                "at": list(steps),
                "over": "clock",
            },
            # The loss is a sum over samples, the paper's a mean.
            "sweep": [
                {
                    "initialization": {"scale": [ratio * step for ratio, step in pairs]},
                    "equation": {
                        "optimizer": {"learning_rate": [step / N for _, step in pairs]}
                    },
                }
            ],
        }
    )


def ranks_of(descent: xarray.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`ω/α` and `α` of each setting, and stable ranks (setting, init, step)."""
    step = N * descent.learning_rate.values
    ranks = descent.stable_rank.isel(layer=0).transpose("scale", "init", "clock")
    return descent.scale.values / step, step, ranks.values


def after_one_step(ratio: Any, norm: float = 1.0) -> Any:
    """The stable rank that a first step of the mean loss leads to, where it is near one.

    All derivatives of the activation are `(1 + γ)/2` at zero, all those of the loss
    `1/2`. So the step is `α (1 + γ)/4n a (Σ y_i x_i)ᵀ` with `‖a‖ = 1`, beside a start of
    norm `ω √(md)`; for orthogonal data `‖Σ y_i x_i‖ = √n ‖x‖`.

    Arguments:
        ratio: `ω/α`.
        norm: of the samples.
    """
    step = (1 + SLOPE) / (4 * math.sqrt(N)) * norm
    return 1 + WIDTH * DIM * (np.asarray(ratio) / step) ** 2


def verdicts_of_descent(found: xarray.DataTree) -> list[Verdict]:
    descent = found["descent"].dataset
    ratio, step, ranks = ranks_of(descent)
    inside = step < 2 * SMALL_STEP
    small = ~inside & (ratio <= 1e-4)
    expected = after_one_step(ratio)
    near = expected < 2
    error = np.abs(ranks[near, :, 1] - expected[near, None])
    error = error / np.maximum(expected[near, None] - 1, 1e-3)
    bound = "two directions are left in the limit of gradient flow"
    first, last = ranks[..., 1], ranks[..., -1]
    verdicts = [
        Verdict(
            statement="descent, ω/α = 1e-10: stable rank from step 1 on, largest",
            figure=largest(ranks[inside, :, 1:]),
            most=2.0,
            reason=bound,
            note=f"α = {SMALL_STEP:g}; {np.mean(ranks[inside, :, 0]):.3g} at the start",
        ),
        Verdict(
            statement="descent, ω/α <= 1e-4, α = 1: stable rank from step 1 on, largest",
            figure=largest(ranks[small, :, 1:]),
            most=2.0,
            reason=bound,
            applies=False,
            note="step and start are larger than the theorem allows",
        ),
        Verdict(
            statement="descent: stable rank minus one after one step against "
            "md (4√n/(1+γ))² (ω/α)², relative error",
            figure=largest(error),
            most=0.05,
            reason="the step has rank one, the start is random: 1/√(md) is 4e-3",
            note="of those where it is below one, at least 1e-3",
        ),
        Verdict(
            statement="descent, ω/α = 1: stable rank at the end over that at the start",
            figure=float(np.min(last[ratio == 1] / ranks[ratio == 1, :, 0])),
            least=0.5,
            reason="without a small start no collapse: all steps are small beside it",
            note=f"{np.mean(first[ratio == 1]):.3g} after one step",
        ),
    ]
    if "gaussian" in found.children:
        ratio, _, ranks = ranks_of(found["gaussian"].dataset)
        small = ratio <= 1.01e-4 * math.sqrt(DIM)
        verdicts.append(
            Verdict(
                statement="descent, Gaussian data, d = 1000, ω/α <= 1e-4 √d: stable rank "
                "from step 1 on, largest",
                figure=largest(ranks[small, :, 1:]),
                most=2.0,
                reason=bound,
                applies=False,
                note="such data meets the condition from d of order 1e9 on only",
            )
        )
    return verdicts


def draw_ranks(ax: Any, descent: xarray.Dataset) -> None:
    """Stable rank against steps, a line for each start."""
    ratio, step, ranks = ranks_of(descent)
    steps = descent.clock.values
    usual = [place for place, each in enumerate(step) if each > 2 * SMALL_STEP]
    places = [*np.flatnonzero(step < 2 * SMALL_STEP), *usual]
    for number, place in enumerate(places):
        is_inside = place not in usual
        label = f"{ratio[place]:.0e}" + (" (inside)" if is_inside else "")
        middle = np.median(ranks[place], axis=0)
        color = "black" if is_inside else style.colors_of(8)[number]
        line = "--" if is_inside else "-"
        ax.plot(steps + 1, middle, line, marker="o", color=color, label=label)
    ax.set(
        xscale="log", yscale="log", xlabel="step", ylabel="stable rank of the first layer"
    )
    ax.set_xticks(steps + 1, [f"{step:.0f}" for step in steps])
    ax.minorticks_off()
    ax.set_yticks([1, 2, 5, 10, 20, 40], ["1", "2", "5", "10", "20", "40"])
    ax.set_title("Gradient descent, by the size of the start", fontsize="medium")
    style.legend(ax, fontsize="small", title=r"$\omega/\alpha$", bbox_to_anchor=(1, 1))


def draw_first_step(ax: Any, found: xarray.DataTree) -> None:
    """What one step leaves of the stable rank, against `ω/α`."""
    parts = [("descent", 1.0, "nearly orthogonal data")]
    if "gaussian" in found.children:
        parts.append(("gaussian", math.sqrt(DIM), "Gaussian data (outside)"))
    for number, (name, norm, label) in enumerate(parts):
        ratio, step, ranks = ranks_of(found[name].dataset)
        usual = step > 2 * SMALL_STEP
        look = {"color": style.color_of(number), "fillstyle": ("full", "none")[number]}
        middle = np.median(ranks[usual, :, 1], axis=1) - 1
        size = 6 + 5 * number  # one around the other, where both are at one place
        ax.plot(ratio[usual] / norm, middle, "o", markersize=size, label=label, **look)
    grid = np.logspace(-5, 0, 60)
    law = after_one_step(grid) - 1
    shown = law < 3 * WIDTH
    ax.plot(grid[shown], law[shown], "k-", linewidth=1, label="a step of rank one")
    ax.set(xscale="log", yscale="log", xlabel=r"$\omega/(\alpha \|x\|)$")
    ax.set_ylabel("stable rank minus one, after one step")
    ax.set_title("One step, by the size of the start", fontsize="medium")
    style.legend(ax, fontsize="small")
