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
    ByLayer,
    ConvNet,
    DiagonalLinear,
    Gaussian,
    GRU,
    LeakyReLU,
    Signs,
    SmoothLeakyReLU,
    Sphere,
    Symmetric,
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
"""Names of functions in `jax.nn`, beside the leaky ones."""

LEAKY = {"LeakyReLU": LeakyReLU, "SmoothLeakyReLU": SmoothLeakyReLU}
Activation = (
    by_kind([section_of(kind, make) for kind, make in LEAKY.items()]) | Literal[ACTIVATIONS]
)  # pyright: ignore
_ACTIVATED = {
    **COMMON,
    "activation": Argument("activation", Activation),
    "final_activation": Argument("final_activation", Activation),
}


_NAMES = "of arrays that are not trained, such as 'weights[1]'"
Frozen = Annotated[list[StrictStr] | None, Field(description=_NAMES)]


class OwnNetwork(Section):
    """A class of your own, from a file beside the study: code, run by `--allow-code`."""

    kind: StrictStr = Field(
        pattern=r"^.+\.py:\w+$", description="the file and the class, as 'my_nets.py:Net'"
    )
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="arguments of the class, but for key"
    )
    seed: Seed = Field(0, description="of the key that it is given")
    frozen: Frozen = None


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
    frozen: Frozen = None

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
_sections = [
    section_of(kind, make, _ACTIVATED, frozen=(Frozen, None))
    for kind, make in NETWORKS.items()
]
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
    inputs: list | Points = Field(
        description="one entry, or list of entries, for each sample; or points to be drawn"
    )
    targets: list | Literal["alternating"] = Field(
        description="one for each sample; alternating: 1 and -1 in turn"
    )


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

_OF_LAYERS = {"sphere": Sphere, "gaussian": Gaussian, "uniform": Uniform, "signs": Signs}
_SIZES = {name: Argument(name, Number, None) for name in ("bound", "deviation", "size")}


def _drawn_by(makers: Mapping[str, Any], *more: Any) -> Any:
    sections = [section_of(kind, make, _SIZES) for kind, make in makers.items()]
    return Literal[tuple(makers)] | by_kind([*sections, *more])  # pyright: ignore


OfLayer = _drawn_by(_OF_LAYERS)


class ByLayerSection(Section):
    """Each array of the network is drawn as is said for it."""

    kind: Literal["by_layer"]
    layers: dict[str, OfLayer] = Field(
        description="for names of arrays, such as 'weights[0]', how each is drawn"
    )
    otherwise: OfLayer | None = Field(
        None, description="how arrays are drawn that are not named; gaussian if not given"
    )


OF_NETWORKS = {
    "sphere": Sphere,
    "gaussian": Gaussian,
    "uniform": Uniform,
    "balanced": Balanced,
    "balanced_linear": BalancedLinear,
}
_OfNetwork = _drawn_by(OF_NETWORKS, ByLayerSection)


class SymmetricSection(Section):
    """Neurons in pairs of opposite outer weight: the output is zero at the start."""

    kind: Literal["symmetric"]
    of: _OfNetwork | None = Field(
        None, description="how the first of each pair is drawn; gaussian if not given"
    )


DISTRIBUTIONS = {**OF_NETWORKS, **_OF_LAYERS, "by_layer": ByLayer, "symmetric": Symmetric}
Distribution = (
    Literal["symmetric"]
    | Literal[tuple(OF_NETWORKS)]
    | by_kind(
        [
            *(section_of(kind, make, _SIZES) for kind, make in OF_NETWORKS.items()),
            *(ByLayerSection, SymmetricSection),
        ]
    )
)
