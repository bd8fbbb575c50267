# pyright: reportInvalidTypeForm=false
"""Tables of what a simulation is made of: networks, data, losses, starting weights."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import equinox as eqx
import pydantic
from pydantic import Field, StrictBool, StrictInt, StrictStr

from ..networks import (
    Balanced,
    BalancedLinear,
    ConvNet,
    DiagonalLinear,
    Gaussian,
    GRU,
    LeakyReLU,
    Sphere,
    Uniform,
)
from ..tasks import (
    CrossEntropyLoss,
    data,
    ExponentialLoss,
    L2,
    LogisticLoss,
    SquareLoss,
)
from ._kinds import Argument, by_kind, Number, Section, section_of
from ._makers import gaussian_points

Seed = Annotated[StrictInt, Field(ge=0)]
SEED = Argument("seed", Seed, 0)
COMMON: Mapping[str, Argument | None] = {"key": SEED, "dtype": None}

# -- networks --

ACTIVATIONS = ("relu", "tanh", "gelu", "silu", "softplus", "elu", "sigmoid", "identity")
"""Names of functions in `jax.nn`, beside `LeakyReLU`."""

_leaky = section_of("LeakyReLU", LeakyReLU)
Activation = _leaky | Literal[ACTIVATIONS]  # pyright: ignore
_ACTIVATED = {
    **COMMON,
    "activation": Argument("activation", Activation),
    "final_activation": Argument("final_activation", Activation),
}


class OwnNetwork(Section):
    """A class of your own, from a file beside the study: code, run by `--allow-code`."""

    kind: StrictStr = Field(
        pattern=r"^.+\.py:\w+$", description="the file and the class, as 'my_nets.py:Net'"
    )
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="arguments of the class, but for key"
    )
    seed: Seed = Field(0, description="of the key that it is given")


class FeedForwardSection(Section):
    """Matrices with an activation between them, without biases unless asked for."""

    kind: Literal["FeedForward"]
    activation: Activation = Field(description="between the matrices")
    biases: StrictBool | Literal["first"] = Field(
        False, description="of hidden layers; 'first' for those of the first alone"
    )
    output_scale: Number = Field(1.0, description="a factor of the output")
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
Points = by_kind([section_of(kind, make, COMMON) for kind, make in POINTS.items()])
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

REGULARIZERS = {"L2": L2}
Regularizer = by_kind([section_of(kind, make) for kind, make in REGULARIZERS.items()])

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
