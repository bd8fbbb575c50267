"""Two-layer (leaky) ReLU networks: equal margins, and blocks of neurons of low rank."""

import math
from typing import Any

import numpy as np
import xarray

from ..plot import _style as style
from ..studies import Study
from ._claim import AbstractClaim, Paper, Verdict
from ._two_layers import largest, LAST, relative_spread, start, tables, times

SLOPE, WIDTH, SCALE = 0.2, 40, 1e-2
RATE, NUM_STEPS = 0.5, 20_000
NONE, COARSE = 0.0, 1e-5
"""Coherences. Inner products, added up over a hundred decades of time, come to `n μ log t`:
with the coarse one that is as much as the start gives a neuron on a sample, and ReLU
neurons then switch on samples that they did not see. Between orthogonal samples nothing
can switch."""
CASES = ((SLOPE, COARSE), (0.0, NONE), (0.0, COARSE))
CASE_NAMES = ("leaky ReLU", "ReLU, orthogonal data", "ReLU")


class MarginsDescent(AbstractClaim):
    """Kou, Chen and Gu on gradient descent for two-layer networks."""

    name = "margins-descent"
    title = "Gradient descent makes all margins equal, and each block of low rank"
    paper = Paper(
        "Y. Kou, Z. Chen, Q. Gu",
        "Implicit Bias of Gradient Descent for Two-layer ReLU and Leaky ReLU Networks on "
        "Nearly-orthogonal Data",
        "2310.18935",
    )
    says = (
        "Two layers, of which the first is trained and the second fixed with both signs; "
        "logistic loss; nearly orthogonal data, a small start and a small step. Gradient "
        "descent: all normalized margins become equal, their differences falling like "
        "1/log t. For leaky ReLU the stable rank of the neurons of each sign tends to one; "
        "for ReLU it stays bounded by a constant. (Gradient flow, to t = 1e100, is ours.)"
    )

    def studies(self, size):
        test = size == "test"
        nums = {"test": [10], "quick": [10, 20], "full": [10, 20, 40, 80]}[size]
        members = {"test": 2, "quick": 3, "full": 8}[size]
        functions = ["margins", "block_stable_ranks", "stable_rank", "loss"]
        flow_cases = CASES[:2] if test else CASES
        common = {"initialization": start("sphere", num=members, scale=SCALE)}
        flow = {
            "title": "Margins and blocks to the end of time",
            **_tables(nums, 20 if test else 80),
            **common,
            "equation": {"kind": "gradient_flow"},
            "stop": {"log_time": LAST * math.log(10.0)},
            # As for the other claim on such networks: kinks limit the steps, and late
            # differences of margins do not remember early errors.
            "stepping": {
                "solver": "sliding",
                "rtol": 1e-3,
                "atol": 1e-6,
                "max_steps": 40_000,
            },
            "record": {
                "functions": functions,
                "at": times(40 if size == "full" else 16),
                "over": "log_time",
            },
            "sweep": _sweep(nums, flow_cases),
        }
        steps = 2_000 if test else NUM_STEPS
        descent = {
            "title": "Margins and blocks along gradient descent",
            **_tables(nums, 20 if test else 80),
            **common,
            "equation": {
                "kind": "gradient_descent",
                "num_steps": steps,
                "optimizer": {"kind": "sgd", "learning_rate": RATE},
            },
            "record": {
                "functions": functions,
                "at": sorted({int(each) for each in np.geomspace(1, steps, 25)} | {0}),
                "over": "clock",
            },
            "sweep": _sweep(nums, CASES[:2]),
        }
        return {"flow": Study(flow), "descent": Study(descent)}

    def verdicts(self, found):
        flow, descent = (found[name].dataset for name in ("flow", "descent"))
        verdicts = []
        half = flow.log_time.values >= 0.5 * LAST * math.log(10.0)
        law = spread_by_time(flow)[..., half]
        limit = 1 + ((1 - SLOPE) / (1 + SLOPE)) ** 2
        flat = "a difference that stands still, over margins that grow like log t"
        names = CASE_NAMES[:2]
        for case, name in enumerate(names):
            verdicts.append(
                Verdict(
                    statement=f"flow, {name}: spread of margins × log t, its change from "
                    "t = 1e50 to 1e100",
                    figure=_change(law[:, case]),
                    most=0.05,
                    reason=flat,
                )
            )
        if flow.sizes["slope"] > 2:
            verdicts += [
                Verdict(
                    statement="flow, ReLU: the same change",
                    figure=_change(law[:, 2]),
                    most=0.05,
                    reason=f"{flat}, once no neuron switches on a sample any more",
                    note="which neurons still do at t = 1e50, see the figure",
                ),
                Verdict(
                    statement="flow, ReLU: spread of margins × log t, largest",
                    figure=largest(law[:, 2]),
                    most=1.1 * math.log(WIDTH / 2),
                    reason="the logarithm of how many neurons a sample has switched on, "
                    "from one to m/2, and a tenth for log t over the mean margin",
                ),
            ]
        first = flow.block_stable_ranks.transpose("num", "slope", "init", "log_time", ...)
        leaky = first.values[:, 0] - 1
        mid, end = int(np.argmax(half)), -1
        logs = flow.log_time.values
        power = np.log(leaky[:, :, end] / leaky[:, :, mid]) / np.log(logs[end] / logs[mid])
        whole = flow.stable_rank.isel(layer=0).transpose("num", "slope", "init", ...).values
        verdicts += [
            Verdict(
                statement="flow, leaky ReLU: stable rank of a block minus one at t = 1e100",
                figure=largest(leaky[:, :, end]),
                most=1e-6,
                reason=f"(start {SCALE:g} over σ₁ of order 1e3)² = 1e-10, and 1e4 for what "
                "happened before signs settled",
            ),
            Verdict(
                statement="flow, leaky ReLU: power of log t by which it falls, furthest "
                "from -2",
                figure=float(power.ravel()[np.argmax(np.abs(power + 2))]),
                least=-2.1,
                most=-1.9,
                reason="what the start left, squared, over log² t",
            ),
            Verdict(
                statement="flow, leaky ReLU: stable rank of the whole layer at t = 1e100 "
                "against 1 + ((1-γ)/(1+γ))²",
                figure=largest(np.abs(whole[:, 0, :, end] - limit)),
                most=1e-2,
                reason="exact for orthogonal data with classes of one size; n times the "
                "coherence is 8e-4 at most",
            ),
        ]
        bounds = _most_of_relu(flow.num.values)
        ranks = first.values[:, 1:, :, end].max(axis=(1, 2, 3))
        verdicts.append(_of_relu("flow, ReLU", "t = 1e100", ranks, bounds, flow))
        clock = descent.clock.values
        late = clock >= clock[-1] / 10
        law = spread_by_time(descent)[..., late]
        blocks = descent.block_stable_ranks.transpose("num", "slope", "init", "clock", ...)
        notes = (
            f"differences fall like 1/t towards a limit of order n times {COARSE:g}",
            "log t over the mean margin still falls, see the next line",
        )
        for case, name in enumerate(names):
            law_of_case = law[:, case]
            verdicts += [
                Verdict(
                    statement=f"descent, {name}: spread of margins × log t at the end over "
                    "that at a tenth of the steps, largest",
                    figure=largest(law_of_case[..., -1] / law_of_case[..., 0]),
                    most=1.05,
                    reason="bounded: margins differ by O(1/log t)",
                ),
                Verdict(
                    statement=f"descent, {name}: the change of spread × log t in between",
                    figure=_change(law_of_case),
                    most=0.05,
                    reason=f"{flat}, once 1/t is below what stands still",
                    note=notes[case],
                ),
            ]
        margins = descent.margins.transpose(
            "num", "slope", "init", "clock", "sample"
        ).values
        gap = (np.nanmax(margins, axis=-1) - np.nanmin(margins, axis=-1))[:, 1, :, late]
        verdicts.append(
            Verdict(
                statement=f"descent, {names[1]}: the change of max - min of the margins "
                "in between",
                figure=_change(np.moveaxis(gap, 0, -1)),
                most=0.05,
                reason="samples with more neurons are ahead by a constant",
            )
        )
        leaky = blocks.values[:, 0, :, late] - 1
        verdicts.append(
            Verdict(
                statement=f"descent, leaky ReLU: stable rank of a block minus one at step "
                f"{clock[-1]:,.0f}",
                figure=largest(leaky[-1]),
                most=1e-2,
                reason="as for the flow, with σ₁ of order 10",
            )
        )
        ranks = blocks.values[:, 1, :, -1].max(axis=(1, 2))
        step = f"step {clock[-1]:,.0f}"
        verdicts.append(_of_relu("descent, ReLU", step, ranks, bounds, descent))
        return verdicts

    def draw(self, found):
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(2, 2, figsize=(10, 7.5), layout="constrained")
        for row, (name, unit) in enumerate((("flow", 1.0), ("descent", RATE))):
            dataset = found[name].dataset
            _draw_spread(axes[row, 0], dataset, name, unit)
            _draw_blocks(axes[row, 1], dataset, name)
        return figure


def _tables(nums: list[int], dim: int) -> dict[str, Any]:
    points = {"kind": "nearly_orthogonal_points", "num": nums[0], "dim": dim, "seed": 1}
    points["coherence"] = COARSE
    return tables(
        width=WIDTH, activation={"kind": "LeakyReLU", "slope": SLOPE}, inputs=points
    )


def _sweep(nums: list[int], cases: Any) -> list[dict[str, Any]]:
    together = {
        "network": {"activation": {"slope": [slope for slope, _ in cases]}},
        "data": {"inputs": {"coherence": [coherence for _, coherence in cases]}},
    }
    return [{"data": {"inputs": {"num": nums}}}, together]


def log_times(dataset: xarray.Dataset) -> np.ndarray:
    """`log t` of the points of a record; minus infinity at step 0."""
    if "log_time" in dataset.dims:
        return dataset.log_time.values
    with np.errstate(divide="ignore"):
        return np.log(RATE * dataset.clock.values)


def spread_by_time(dataset: xarray.Dataset) -> np.ndarray:
    """`(max - min)/mean` of the margins times `log t`: (num, slope, init, points)."""
    along = "log_time" if "log_time" in dataset.dims else "clock"
    margins = dataset.margins.transpose("num", "slope", "init", along, "sample").values
    logs = log_times(dataset)
    return relative_spread(margins) * np.where(np.isfinite(logs), logs, np.nan)


def _change(law: np.ndarray) -> float:
    """How far a curve is from flat: its largest over its least value, minus one."""
    return largest(law.max(axis=-1) / law.min(axis=-1) - 1)


def _most_of_relu(nums: np.ndarray) -> np.ndarray:
    """A bound of the stable rank of a block of ReLU neurons, for each number of samples.

    Rows are sums of the samples of one class that a neuron has switched on. A matrix of
    zeros and ones of which a share `s` are ones has `‖W‖_F² = s m n` and `σ₁² >= s² m n`:
    its stable rank is at most `1/s`, and `s` is one half, less three deviations of a mean
    over all pairs of a neuron and a sample.
    """
    pairs = (WIDTH / 2) * (nums / 2)
    return 1 / (0.5 - 1.5 / np.sqrt(pairs))


def _of_relu(where: str, when: str, ranks: Any, bounds: Any, dataset: Any) -> Verdict:
    worst = int(np.argmax(ranks / bounds))
    each = [f"{rank:.3g} for n = {num}" for rank, num in zip(ranks, dataset.num.values)]
    return Verdict(
        statement=f"{where}: stable rank of a block at {when}, that nearest to its bound",
        figure=float(ranks[worst]),
        most=float(bounds[worst]),
        reason="1/s, s the share of pairs of neuron and sample that are switched on: one "
        "half, less three deviations",
        note="; ".join(each),
    )


def _draw_spread(ax: Any, dataset: xarray.Dataset, name: str, unit: float) -> None:
    """Spread × log t against time."""
    law, logs = spread_by_time(dataset), log_times(dataset)
    decades = logs / math.log(10.0)
    shown = logs > 1
    nums = dataset.num.values
    for case in range(dataset.sizes["slope"]):
        for number in range(nums.size):
            middle = np.median(law[number, case], axis=0)
            label = CASE_NAMES[case] if number == 0 else None
            style_ = style.style_of(number)
            color = style.color_of(case)
            ax.plot(decades[shown], middle[shown], style_, color=color, label=label)
    for number, num in enumerate(nums):
        ax.plot([], [], style.style_of(number), color="0.4", label=f"n = {num}")
    ax.set(yscale="log", xlabel=r"$\log_{10} t$")
    ax.set_ylabel(r"spread of margins $\times\ \log t$")
    ax.set_title(f"Gradient {name}: margins", fontsize="medium")
    style.legend(ax, fontsize="small", ncols=2)


def _draw_blocks(ax: Any, dataset: xarray.Dataset, name: str) -> None:
    """Stable rank of the blocks minus one, in log-log."""
    along = "log_time" if "log_time" in dataset.dims else "clock"
    blocks = dataset.block_stable_ranks.transpose("num", "slope", "init", along, "block")
    whole = dataset.stable_rank.isel(layer=0).transpose("num", "slope", "init", along)
    logs = log_times(dataset)
    shown = logs > 1
    for case in range(min(dataset.sizes["slope"], 2)):
        color = style.color_of(case)
        for number in range(dataset.sizes["num"]):
            middle = np.median(blocks.values[number, case], axis=(0, 2)) - 1
            label = f"a block, {CASE_NAMES[case]}" if number == 0 else None
            line = style.style_of(number)
            ax.plot(logs[shown], middle[shown], line, color=color, label=label)
    middle = np.median(whole.values[:, 0], axis=(0, 1)) - 1
    color = style.color_of(3)
    ax.plot(logs[shown], middle[shown], color=color, label="the whole layer, leaky ReLU")
    early = blocks.values[0, 0, ..., shown, :].max() - 1
    law = early * (logs[shown][0] / logs[shown]) ** 2
    ax.plot(logs[shown], law, "k:", linewidth=1, label=r"$1/\log^2 t$")
    ax.set(xscale="log", yscale="log", xlabel=r"$\log t$", ylabel="stable rank minus one")
    ticks = [tick for tick in (1, 2, 3, 5, 9, 20, 50, 100, 200) if tick < logs[-1]]
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
    ax.set_title(f"Gradient {name}: ranks", fontsize="medium")
    style.legend(ax, fontsize="small")
