"""Homogeneous Equinox modules, their order, and ensembles of them."""

from .activations import LeakyReLU as LeakyReLU
from .blocks import are_separable as are_separable, blocks as blocks
from .convolutional import ConvNet as ConvNet
from .diagonal import DiagonalLinear as DiagonalLinear
from .ensembles import (
    Initializations as Initializations,
    member as member,
    members as members,
    num_members as num_members,
    sample_ensemble as sample_ensemble,
    slice_ensemble as slice_ensemble,
)
from .feed_forward import FeedForward as FeedForward
from .homogeneity import order as order
from .parameters import (
    as_jax as as_jax,
    flatten as flatten,
    flatten_rows as flatten_rows,
    parameter_dtype as parameter_dtype,
    unflatten_rows as unflatten_rows,
    unflattener as unflattener,
)
from .switches import switches as switches
