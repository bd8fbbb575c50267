"""What a study file may say: one table for each part of a simulation.

The keys of a table are the arguments of the call that makes its part (`_kinds.py`), but for
those that a file cannot hold, which are said in other words here.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import diffrax
import equinox as eqx
import optax
import pydantic
from pydantic import Field, StrictInt, StrictStr

from .. import observables, solvers
from ..early_phase import follow_early_phase, verify_early_convergence
from ..kkt import find_kkt
from ..networks import (
    Balanced,
    BalancedLinear,
    ConvNet,
    DiagonalLinear,
    FeedForward,
    Gaussian,
    GRU,
    LeakyReLU,
    Sphere,
    Uniform,
)
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
from ..tasks import CrossEntropyLoss, data, ExponentialLoss, LogisticLoss, SquareLoss
from ._kinds import Argument, by_kind, first_line as _first_line, Number, Section, section_of
from ._makers import gaussian_points

Seed = Annotated[StrictInt, Field(ge=0)]
SEED = Argument("seed", Seed, 0)
_COMMON: Mapping[str, Argument | None] = {"key": SEED, "dtype": None}

# -- networks --

ACTIVATIONS = ("relu", "tanh", "gelu", "silu", "softplus", "elu", "sigmoid", "identity")
"""Names of functions in `jax.nn`, beside `LeakyReLU`."""

_leaky = section_of("LeakyReLU", LeakyReLU)
Activation = _leaky | Literal[ACTIVATIONS]  # pyright: ignore
_ACTIVATED = {
    **_COMMON,
    "activation": Argument("activation", Activation),
    "final_activation": Argument("final_activation", Activation),
}


class OwnNetwork(Section):
    """A class of your own, from a file beside the study: code, which `--allow-code` runs."""

    kind: StrictStr = Field(
        pattern=r"^.+\.py:\w+$", description="the file and the class, as 'my_nets.py:Net'"
    )
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="arguments of the class, but for key"
    )
    seed: Seed = Field(0, description="of the key that it is given")


class FeedForwardSection(Section):
    """Matrices with an activation between them, and no biases."""

    kind: Literal["FeedForward"]
    activation: Activation = Field(description="between the matrices")
    sizes: list[StrictInt] | None = Field(
        None, description="the widths of all layers, input and output among them"
    )
    width: StrictInt | None = Field(None, ge=1, description="of every hidden layer")
    depth: StrictInt | None = Field(None, ge=1, description="D, the number of matrices")
    in_size: StrictInt | None = Field(
        None, ge=1, description="of the input; that of the data if not given"
    )
    out_size: StrictInt | None = Field(
        None, ge=1, description="of the output; that of the targets if not given"
    )
    seed: Seed = Field(0, description="of the weights, which count for a teacher only")

    @pydantic.model_validator(mode="after")
    def _in_one_form(self):
        others = {"width", "depth", "in_size", "out_size"} & self.model_fields_set
        if self.sizes is not None and others:
            raise ValueError(f"sizes beside {min(others)}; expected one of the two")
        if self.sizes is None and self.depth is None:
            raise ValueError("neither sizes nor depth; expected sizes, or width and depth")
        if self.sizes is None and self.width is None and self.depth != 1:
            raise ValueError(f"no width with depth = {self.depth}; expected a width")
        return self


NETWORKS = {
    "ConvNet": ConvNet,
    "DiagonalLinear": DiagonalLinear,
    "MLP": eqx.nn.MLP,
    "GRU": GRU,
}
_sections = [section_of(kind, make, _ACTIVATED) for kind, make in NETWORKS.items()]
Network = by_kind([FeedForwardSection, *_sections], otherwise=OwnNetwork)

# -- data and losses --

POINTS = {
    "sphere_points": data.sphere_points,
    "nearly_orthogonal_points": data.nearly_orthogonal_points,
    "gaussian_points": gaussian_points,
}
Points = by_kind([section_of(kind, make, _COMMON) for kind, make in POINTS.items()])
_Column = StrictStr | list[StrictStr]


class TableOfData(Section):
    """Arrays or columns of a file of yours: numbers, which are read and never run."""

    kind: Literal["file"]
    path: StrictStr = Field(
        description="a .npz, a .csv with names in its first line, or a Zarr store"
    )
    inputs: _Column = Field(description="the array, or the columns, of the inputs")
    targets: _Column = Field(description="the array, or the columns, of the targets")
    sample_weights: StrictStr | None = Field(None, description="a column of weights")
    held_out: Number = Field(
        0, ge=0, lt=1, description="the share of the samples that is kept for a test"
    )
    seed: Seed = Field(0, description="of the choice of these")


class Values(Section):
    """Data that are written in the file itself."""

    kind: Literal["values"]
    inputs: list = Field(description="one entry, or list of entries, for each sample")
    targets: list = Field(description="one for each sample")


DATA = {"digits": data.digits, "teacher_student": data.teacher_student}
_DATA_ARGUMENTS = {
    "loss": None,
    "seed": SEED,
    "teacher": Argument("teacher", Network),
    "inputs": Argument("inputs", Points),
}
_makers = [section_of(kind, make, _DATA_ARGUMENTS) for kind, make in DATA.items()]
Data = by_kind([*_makers, TableOfData, Values])

LOSSES = {
    "square": SquareLoss,
    "logistic": LogisticLoss,
    "exponential": ExponentialLoss,
    "cross_entropy": CrossEntropyLoss,
}
_weights = Argument("class_weights", list[Number], None)
_losses = [
    section_of(kind, make, {"class_weights": _weights}) for kind, make in LOSSES.items()
]
Loss = Literal[tuple(LOSSES)] | by_kind(_losses)  # pyright: ignore

# -- initializations --

DISTRIBUTIONS = {
    "sphere": Sphere,
    "gaussian": Gaussian,
    "uniform": Uniform,
    "balanced": Balanced,
    "balanced_linear": BalancedLinear,
}
_distributions = [section_of(kind, make) for kind, make in DISTRIBUTIONS.items()]
Distribution = Literal[tuple(DISTRIBUTIONS)] | by_kind(_distributions)  # pyright: ignore


class Initialization(Section):
    """How many members there are, and where they begin."""

    num: StrictInt = Field(1, ge=1, description="how many members")
    scale: Number | None = Field(
        None, gt=0, description="the initialization scale δ; 1 if not given"
    )
    seed: Seed = Field(0, description="from which, and its number, every member is drawn")
    distribution: Distribution | None = Field(
        None, description="of the weights before they are scaled; on the unit sphere if not given"
    )


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
Rate = Number | by_kind([section_of(kind, make) for kind, make in SCHEDULES.items()])
OPTIMIZERS = {
    name: getattr(optax, name)
    for name in (
        *("adabelief", "adadelta", "adagrad", "adam", "adamax", "adamw", "amsgrad"),
        *("lamb", "lars", "lbfgs", "lion", "nadam", "noisy_sgd", "polyak_sgd", "radam"),
        *("rmsprop", "rprop", "sgd", "sign_sgd", "yogi"),
    )
}
_RATES = {"learning_rate": Argument("learning_rate", Rate), "key": SEED}
Optimizer = by_kind(
    [section_of(kind, make, _RATES) for kind, make in OPTIMIZERS.items()]
)

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
    **_COMMON,
    "order": None,  # measured
    "optimizer": Argument("optimizer", Optimizer),
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
_analyses = [
    section_of(kind, make, _ANALYSIS_ARGUMENTS) for kind, make in ANALYSES.items()
]
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


Stop = pydantic.create_model(
    "Stop", __base__=Section, **{name: _stop(make) for name, make in STOPS.items()}
)
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
        *("kkt_residual", "layer_norms", "loss", "margin", "margin_kkt_residual", "norm"),
        *("normalized_margin", "singular_values", "smoothed_normalized_margin"),
        *("stable_rank", "weights"),
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


class Output(Section):
    """Where results go."""

    store: StrictStr | None = Field(None, description="a folder, such as out.zarr")
    figures: list[StrictStr] = Field(
        default_factory=list, description="kinds of pictures, as jaxflow plot draws them"
    )


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
    initialization: Initialization = Field(default_factory=Initialization)
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

    @pydantic.model_validator(mode="after")
    def _one_thing(self):
        if (self.equation is None) == (self.analysis is None):
            both = "both" if self.equation is not None else "neither"
            raise ValueError(f"{both} of equation and analysis; expected one of them")
        if self.analysis is not None:
            for name in ("stop", "stepping", "record"):
                if getattr(self, name) is not None:
                    kind = self.analysis.kind
                    raise ValueError(f"{name} with {kind}, which has its own; expected none")
        return self
