"""Leaky ReLU networks on nearly orthogonal data: a rank of two, and a linear boundary."""

import math
from typing import Any

import numpy as np
import xarray

from ..plot import _style as style
from ..studies import Study
from ._claim import AbstractClaim, Paper, Verdict
from ._implicit_bias_descent import (
    descents,
    draw_first_step,
    draw_ranks,
    SLOPE,
    verdicts_of_descent,
)
from ._two_layers import largest, LAST, relative_spread, start, tables, times

COHERENCE = 1e-5
"""Inside of `3 γ⁻³ n μ <= 1` for the three slopes and n = 20: it is 0.6 at most."""
SCALE = 1e-2
NEW_POINTS = 1_000


class ImplicitBiasFlow(AbstractClaim):
    """Frei, Vardi, Bartlett, Srebro and Hu on leaky ReLU networks."""

    name = "implicit-bias-flow"
    title = "Leaky ReLU networks on nearly orthogonal data end at rank two"
    paper = Paper(
        "S. Frei, G. Vardi, P. L. Bartlett, N. Srebro, W. Hu",
        "Implicit Bias in Leaky ReLU Networks Trained on High-Dimensional Data",
        "2210.07082",
    )
    says = (
        "Two layers, leaky ReLU of slope γ, of which the first is trained and the second "
        "fixed at ±1/√m; logistic loss; data that is nearly orthogonal, "
        "min ‖x_i‖² >= 3 γ⁻³ R² n max |⟨x_i, x_j⟩| with R = max ‖x_i‖/min ‖x_i‖. Gradient "
        "flow: the limit has rank at most two, is a solution of the max-margin problem "
        "with all margins equal, and its decision boundary is linear. Gradient descent "
        "with a smooth leaky ReLU, a small step α and a standard deviation ω of the start "
        "far below it: one step makes the stable rank small, and it stays so."
    )

    def studies(self, size):
        test, full = size == "test", size == "full"
        n, dim, width = (10, 16, 16) if test else (20, 40, 40)
        points = {
            "kind": "nearly_orthogonal_points",
            "num": n,
            "dim": dim,
            "coherence": COHERENCE,
            "seed": 1,
        }
        flow = {
            "title": "Singular values of a leaky ReLU network to the end of time",
            **tables(
                width=width,
                activation={"kind": "LeakyReLU", "slope": SLOPE},
                inputs=points,
            ),
            "initialization": start(
                "sphere", num={"test": 3, "quick": 8, "full": 64}[size], scale=SCALE
            ),
            "equation": {"kind": "gradient_flow"},
            "stop": {"log_time": LAST * math.log(10.0)},
            # The margins' differences are attracted to their limit: accuracy early on does
            # not matter, and kinks are what limits the steps.
            "stepping": {"solver": "sliding", "rtol": 1e-3, "atol": 1e-6},
            "record": {
                "functions": [
                    *("loss", "singular_values", "margins", "normalized_margin"),
                    *("margin_kkt_residual", "weights"),
                ],
                "at": times(40 if full else 12),
                "over": "log_time",
            },
            "sweep": {
                "network": {"activation": {"slope": [SLOPE] if test else [0.1, 0.2, 0.5]}}
            },
        }
        return {"flow": Study(flow), **descents(size)}

    def verdicts(self, found):
        flow = found["flow"].dataset
        n = flow.sizes["sample"]
        slopes = flow.slope.values
        applies = all(_inside(slope, n) for slope in slopes)
        values = flow.singular_values.isel(layer=0).transpose(..., "singular_value").values
        last = values[:, :, -1]
        ratio = last[..., 1] / last[..., 0]
        limit = (1 - slopes) / (1 + slopes)
        settled = np.argmin(np.abs(flow.log_time.values - 10 * math.log(10.0)))
        remains = last[..., 2] / values[:, :, settled, 2]
        best = np.sqrt((1 + slopes**2) / (2 * n))
        margin = flow.normalized_margin.transpose("slope", "init", "log_time").values
        spread = relative_spread(flow.margins.transpose(..., "sample").values)
        loss = flow.loss.transpose("slope", "init", "log_time").values
        missed = boundary(flow)
        late = flow.log_time.values[-1]
        almost = f"data of coherence {COHERENCE:g} instead of 0 change this by n times that"
        of_flow = [
            Verdict(
                statement="flow: members whose loss separates the data, of all",
                figure=float(np.mean(loss[:, :, -1] < math.log(2) / n)),
                least=1.0,
                reason="a loss below log(2)/n classifies all samples",
                applies=applies,
            ),
            Verdict(
                statement="flow: σ₂/σ₁ at t = 1e100 against (1-γ)/(1+γ), worst member",
                figure=largest(np.abs(ratio - limit[:, None])),
                most=1e-3,
                reason=f"exact for orthogonal data with classes of one size; {almost}",
                applies=applies,
            ),
            Verdict(
                statement="flow: σ₃/σ₁ at t = 1e100, largest",
                figure=largest(last[..., 2] / last[..., 0]),
                most=1e-3,
                reason=f"what is left of a start of size {SCALE:g}, beside σ₁ of order 1e3",
                applies=applies,
            ),
            Verdict(
                statement="flow: σ₃ at t = 1e100 over σ₃ at t = 1e10, furthest from one",
                figure=float(remains.ravel()[np.argmax(np.abs(remains - 1))]),
                least=0.99,
                most=1.01,
                reason="once signs are settled two directions grow, and the rest stands "
                "still, so that σ₃/σ₁ falls like 1/log t",
                applies=applies,
            ),
            Verdict(
                statement="flow: (max - min)/mean of the margins at t = 1e100, largest",
                figure=largest(spread[:, :, -1]),
                most=n * COHERENCE,
                reason="all margins are equal in the limit; " + almost,
                applies=applies,
            ),
            Verdict(
                statement="flow: normalized margin over the largest there is, least",
                figure=float(np.min(margin[:, :, -1] / best[:, None])),
                least=1 - 1e-3,
                reason="no weights have more than √((1+γ²)/2n) on orthogonal data; "
                + almost,
                applies=applies,
            ),
            Verdict(
                statement="flow: KKT residual of the margin problem at t = 1e100, largest",
                figure=largest(flow.margin_kkt_residual.isel(log_time=-1)),
                most=2 / late,
                reason="it falls like 1/log t, which is 1/230",
                applies=applies,
            ),
            Verdict(
                statement="flow: share of new points on another side of the linear part",
                figure=largest(missed[:, :, -1]),
                most=1e-3,
                reason=f"the limit is linear; one of {NEW_POINTS:,} points is 1e-3",
                applies=applies,
                note=f"{np.mean(missed[:, :, 0]):.2g} at t = 0.0025, on the average",
            ),
        ]
        return [*of_flow, *verdicts_of_descent(found)]

    def draw(self, found):
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(2, 2, figsize=(10, 7.5), layout="constrained")
        flow = found["flow"].dataset
        _draw_spectrum(axes[0, 0], flow)
        _draw_margins(axes[0, 1], flow)
        draw_ranks(axes[1, 0], found["descent"].dataset)
        draw_first_step(axes[1, 1], found)
        return figure


# -- the flow --


def _inside(slope: float, n: int) -> bool:
    """Whether unit vectors of this coherence meet the condition for gradient flow."""
    return bool(3 * slope**-3 * n * COHERENCE <= 1)


def boundary(flow: xarray.Dataset) -> np.ndarray:
    """The share of new points, standard normal ones, to which a network and its linear part
    give different signs: (slope, init, log_time).

    The linear part `½ (1 + γ) ⟨Σ_j a_j w_j, x⟩` is `½ (H(x) - H(-x))`.
    """
    first = flow["weights_weights_0"].transpose("slope", "init", "log_time", ...).values
    outer = flow["weights_weights_1"].transpose("slope", "init", "log_time", ...).values
    points = np.random.default_rng(0).standard_normal((NEW_POINTS, first.shape[-1]))
    found = np.empty(first.shape[:3])
    for at in np.ndindex(*found.shape):
        hidden, weights = points @ first[at].T, outer[at].reshape(-1)
        outputs = np.where(hidden > 0, hidden, flow.slope.values[at[0]] * hidden) @ weights
        found[at] = np.mean((outputs > 0) != (hidden @ weights > 0))
    return found


def _draw_spectrum(ax: Any, flow: xarray.Dataset) -> None:
    """Singular values over the largest, against the decades of time."""
    values = flow.singular_values.isel(layer=0).transpose("slope", "init", "log_time", ...)
    ratios = values.values / values.values[..., :1]
    decades = flow.log_time.values / math.log(10.0)
    for number, slope in enumerate(flow.slope.values):
        color = style.color_of(number)
        for place, line in ((1, "-"), (2, "--")):
            each = ratios[number, ..., place]
            ax.fill_between(
                decades, each.min(axis=0), each.max(axis=0), color=color, alpha=0.2
            )
            label = f"γ = {slope:g}" if place == 1 else None
            ax.plot(decades, np.median(each, axis=0), line, color=color, label=label)
        limit = (1 - slope) / (1 + slope)
        ax.axhline(limit, color=color, linestyle=":", linewidth=1)
    ax.plot([], [], "k-", label=r"$\sigma_2/\sigma_1$")
    ax.plot([], [], "k--", label=r"$\sigma_3/\sigma_1$")
    ax.plot([], [], "k:", label=r"$(1-\gamma)/(1+\gamma)$")
    ax.set(yscale="log", xlabel=r"$\log_{10} t$", ylabel="singular values over the largest")
    ax.set_title("Gradient flow: rank two", fontsize="medium")
    style.legend(ax, fontsize="small", loc="center right", ncols=2)


def _draw_margins(ax: Any, flow: xarray.Dataset) -> None:
    """What is not linear of the boundary, and the spread of the margins."""
    decades = flow.log_time.values / math.log(10.0)
    spread = relative_spread(flow.margins.transpose("slope", "init", ..., "sample").values)
    missed = boundary(flow)
    for number, slope in enumerate(flow.slope.values):
        color = style.color_of(number)
        ax.plot(
            decades, np.median(spread[number], axis=0), color=color, label=f"γ = {slope:g}"
        )
        # A share of none of the points is drawn where one of them would be halved.
        share = np.maximum(missed[number].mean(axis=0), 0.5 / NEW_POINTS)
        ax.plot(decades, share, "--", color=color)
    ax.plot([], [], "k-", label="(max - min)/mean of the margins")
    ax.plot([], [], "k--", label="share of new points off the linear part's side")
    ax.axhline(0.5 / NEW_POINTS, color="0.6", linewidth=1)
    ax.annotate(
        "none of the points", (1, 0.5 / NEW_POINTS), xycoords=("axes fraction", "data"),
        ha="right", va="bottom", fontsize="small", color="0.4",
    )  # fmt: skip
    ax.set(yscale="log", xlabel=r"$\log_{10} t$")
    ax.set_title("Margins become equal, the boundary linear", fontsize="medium")
    style.legend(ax, fontsize="small", loc="best")
