# pyright: reportInvalidTypeForm=false
# The types of tables are made from the calls that they describe.
"""What a study file may say: one table for each part of a simulation.

The keys of a table are the arguments of the call that makes its part (`_kinds.py`), but for
those that a file cannot hold, which are said in other words here.
"""

import json
from typing import Any, Literal

import diffrax
import optax
import pydantic
from pydantic import Field, StrictInt, StrictStr

from .. import observables, solvers
from ..early_phase import follow_early_phase, verify_early_convergence
from ..kkt import find_kkt
from ..runs import (
    CorrelationLimit,
    GradientDescent,
    GradientFlow,
    Langevin,
    Record,
    Stepping,
)
from ..saddles import saddle_to_saddle
from ..stops import (
    LogTime,
    LossBelow,
    MarginConverged,
    NormAbove,
    RescaledTime,
    Stationary,
    Time,
)
from ._kinds import (
    Argument,
    by_kind,
    first_line as _first_line,
    Number,
    Section,
    section_of,
)
from ._parts import COMMON, Data, Distribution, Loss, Network, Regularizer, SEED, Seed


class NearSaddle(Section):
    """Members start near a saddle: `jaxflow.starts_near_saddle`, from which they go on."""

    grown: StrictInt = Field(
        ge=1, description="how many blocks, such as neurons, are trained to rest"
    )


class Initialization(Section):
    """How many members there are, and where they begin."""

    num: StrictInt = Field(1, ge=1, description="how many members")
    scale: Number | None = Field(
        None, gt=0, description="the initialization scale δ; 1 if not given"
    )
    seed: Seed = Field(0, description="from which, and its number, every member is drawn")
    distribution: Distribution | None = Field(
        None,
        description="before they are scaled; the unit sphere if not given",
    )
    near_saddle: NearSaddle | None = Field(
        None, description="start near a saddle, δ away from it, and not at the origin"
    )

    @pydantic.model_validator(mode="after")
    def _in_one_way(self):
        if self.near_saddle is not None and self.distribution is not None:
            raise ValueError(
                "distribution beside near_saddle, which has the sphere; expected one"
            )
        if self.near_saddle is not None and self.scale is None:
            raise ValueError("near_saddle without scale; expected δ, such as 1e-6")
        return self


# -- equations and analyses --

SCHEDULES = {
    name: getattr(optax, name)
    for name in (
        "constant_schedule",
        "cosine_decay_schedule",
        "exponential_decay",
        "linear_schedule",
        "piecewise_constant_schedule",
        "polynomial_schedule",
        "warmup_cosine_decay_schedule",
    )
}
Schedule = by_kind([section_of(kind, make) for kind, make in SCHEDULES.items()])
Rate = Number | Schedule
Temperature = Number | list[list[Number]] | Schedule
OPTIMIZERS = {
    name: getattr(optax, name)
    for name in (
        *("adabelief", "adadelta", "adagrad", "adam", "adamax", "adamw", "amsgrad"),
        *("lamb", "lars", "lbfgs", "lion", "nadam", "noisy_sgd", "polyak_sgd", "radam"),
        *("rmsprop", "rprop", "sgd", "sign_sgd", "yogi"),
    )
}
_RATES = {"learning_rate": Argument("learning_rate", Rate), "key": SEED}
Optimizer = by_kind([section_of(kind, make, _RATES) for kind, make in OPTIMIZERS.items()])

SOLVERS = {
    **{
        name: getattr(diffrax, name)
        for name in (
            *("Bosh3", "Dopri5", "Dopri8", "Euler", "Heun", "ImplicitEuler", "Kvaerno3"),
            *("Kvaerno4", "Kvaerno5", "Midpoint", "Ralston", "Tsit5"),
        )
    },
    **{name: getattr(solvers, name) for name in ("RKC2", "ROCK4", "kvaerno5")},
}
NOISY_SOLVERS = {
    name: getattr(diffrax, name) for name in ("Euler", "EulerHeun", "SEA", "ShARK", "SRA1")
}
Solver = Literal[("auto", "sliding", *SOLVERS)]  # pyright: ignore

EQUATIONS = {
    "gradient_flow": GradientFlow,
    "correlation_limit": CorrelationLimit,
    "gradient_descent": GradientDescent,
    "langevin": Langevin,
}
_EQUATION_ARGUMENTS = {
    **COMMON,
    "order": None,  # measured
    "optimizer": Argument("optimizer", Optimizer),
    "temperature": Argument("temperature", Temperature),
    "solver": Argument("solver", Literal[tuple(NOISY_SOLVERS)], None),  # pyright: ignore
}
_equations = [
    section_of(kind, make, _EQUATION_ARGUMENTS) for kind, make in EQUATIONS.items()
]
Equation = by_kind(_equations)

ANALYSES = {
    "find_kkt": find_kkt,
    "verify_early_convergence": verify_early_convergence,
    "follow_early_phase": follow_early_phase,
    "saddle_to_saddle": saddle_to_saddle,
}
_ANALYSIS_ARGUMENTS = {
    **dict.fromkeys(("networks", "task", "scale", "ensemble", "schedule", "store")),
    **dict.fromkeys(("progress", "trainable")),
    "solver": Argument("solver", Solver, None),
    "scales": Argument("scales", list[Number], None),
}
_analyses = [section_of(kind, make, _ANALYSIS_ARGUMENTS) for kind, make in ANALYSES.items()]
Analysis = by_kind(_analyses)

# -- when members end, and what is kept --

STOPS = {
    "loss_below": LossBelow,
    "norm_above": NormAbove,
    "time": Time,
    "log_time": LogTime,
    "rescaled_time": RescaledTime,
    "margin_converged": MarginConverged,
    "stationary": Stationary,
}


class StationaryTable(Section):
    """The norm of the gradient over that at the start, and a gradient itself."""

    tolerance: Number
    gradient: Number | None = None


def _stop(make: Any) -> tuple[Any, Any]:
    kind = Number | StationaryTable if make is Stationary else Number
    return kind | None, Field(None, description=_first_line(make))


_stops: Any = {name: _stop(make) for name, make in STOPS.items()}
Stop = pydantic.create_model("Stop", __base__=Section, **_stops)
Stop.__doc__ = "A member ends at the first of these that it meets."

CONTROLLERS = {
    "PIDController": diffrax.PIDController,
    "ConstantStepSize": diffrax.ConstantStepSize,
}
Controller = by_kind([section_of(kind, make) for kind, make in CONTROLLERS.items()])
SteppingSection = section_of(
    None,
    Stepping,
    {
        "solver": Argument("solver", Solver, None),
        "controller": Argument("controller", Controller, None),
        "rtol": Argument("rtol", Number, None),
        "atol": Argument("atol", Number, None),
        "dt0": Argument("dt0", Number, None),
        "max_steps": Argument("max_steps", StrictInt, None),
    },
)

FUNCTIONS = {
    name: getattr(observables, name)
    for name in (
        *("block_singular_values", "block_stable_ranks", "kkt_residual", "knots"),
        *("layer_norms", "loss", "margin", "margin_kkt_residual", "margins", "norm"),
        *("normalized_margin", "normalized_margins", "singular_values"),
        *("smoothed_normalized_margin", "stable_rank", "weights"),
    )
}
RecordSection = section_of(
    None,
    Record,
    {
        "functions": Argument("functions", list[Literal[tuple(FUNCTIONS)]]),  # pyright: ignore
        "at": Argument("at", StrictInt | list[Number], None),
    },
)


FIGURES = (
    *("curves", "sweep", "final_losses", "spectra", "neurons", "kkt_points"),
    *("saddle_to_saddle", "early_convergence", "early_phase"),
)
"""Kinds of pictures; a name behind one, as in `curves-loss`, is of a column."""


class Output(Section):
    """Where results go."""

    store: StrictStr | None = Field(None, description="a folder, such as out.zarr")
    figures: list[StrictStr] = Field(
        default_factory=list, description="kinds of pictures, as jaxflow plot draws them"
    )

    @pydantic.field_validator("figures")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            if name.partition("-")[0] not in FIGURES:
                raise ValueError(f"{name!r}; expected one of {', '.join(FIGURES)}")
        return names


class StudyTables(Section):
    """A study: what is simulated, from which initializations, until when."""

    title: StrictStr | None = Field(None, description="a line that says what it is")
    precision: Literal["float64", "float32"] = Field(
        "float64", description="of weights and data"
    )
    network: Network
    data: Data
    test: Data | None = Field(None, description="data of which the final loss is kept too")
    loss: Loss | None = Field(None, description="square if the data do not say")
    reduction: Literal["sum", "mean"] = Field("sum", description="of losses of samples")
    regularizer: Regularizer | None = Field(
        None, description="what the weights cost, beside the loss of samples"
    )
    initialization: Initialization = Initialization()  # pyright: ignore[reportCallIssue]
    equation: Equation | None = Field(None, description="what members follow")
    analysis: Analysis | None = Field(None, description="in place of an equation")
    stop: Stop | None = None
    stepping: SteppingSection | None = None
    record: RecordSection | None = None
    sweep: dict[str, Any] | list[dict[str, Any]] | None = Field(
        None,
        description="keys and lists of their values: a grid; a list of such tables, in "
        "each of which the keys change together",
    )
    output: Output | None = None

    @property
    def has_test(self) -> bool:
        """Whether there are data that are looked at in the end only."""
        return self.test is not None or getattr(self.data, "held_out", 0) > 0

    @pydantic.model_validator(mode="after")
    def _one_thing(self):
        if (self.equation is None) == (self.analysis is None):
            both = "both" if self.equation is not None else "neither"
            raise ValueError(f"{both} of equation and analysis; expected one of them")
        if self.analysis is not None:
            for name in ("stop", "stepping", "record", "test"):
                if getattr(self, name) is not None or (name == "test" and self.has_test):
                    kind = self.analysis.kind
                    raise ValueError(
                        f"{name} with {kind}, which has its own; expected none"
                    )
        return self


def json_schema() -> str:
    """The JSON schema of study files, by which editors complete them."""
    found = StudyTables.model_json_schema()
    about = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    words = {"title": "A study of jaxflow", "description": StudyTables.__doc__}
    return json.dumps({**about, **found, **words}, indent=1, ensure_ascii=False) + "\n"
