"""Homogeneous Equinox modules, their order, and ensembles of them."""

from ._activations import (
    has_kink as has_kink,
    is_linear as is_linear,
    LeakyReLU as LeakyReLU,
    smoothed as smoothed,
    SmoothLeakyReLU as SmoothLeakyReLU,
)
from ._blocks import (
    are_separable as are_separable,
    blocks as blocks,
    own_blocks as own_blocks,
)
from ._by_layer import ByLayer as ByLayer, Signs as Signs, Symmetric as Symmetric
from ._chains import as_feed_forward as as_feed_forward
from ._convolutional import ConvNet as ConvNet
from ._diagonal import DiagonalLinear as DiagonalLinear
from ._distributions import (
    AbstractDistribution as AbstractDistribution,
    Balanced as Balanced,
    BalancedLinear as BalancedLinear,
    Gaussian as Gaussian,
    SPHERE as SPHERE,
    Sphere as Sphere,
    Uniform as Uniform,
)
from ._ensembles import (
    draw_members as draw_members,
    Initializations as Initializations,
    member as member,
    member_key as member_key,
    member_numbers as member_numbers,
    MemberNumber as MemberNumber,
    members as members,
    num_members as num_members,
    sample_ensemble as sample_ensemble,
    slice_ensemble as slice_ensemble,
)
from ._feed_forward import FeedForward as FeedForward
from ._homogeneity import order as order
from ._kinks import choices as choices, kinks as kinks, marked as marked
from ._layers import layer_matrices as layer_matrices
from ._named import all_but as all_but
from ._parameters import (
    as_jax as as_jax,
    flatten as flatten,
    flatten_rows as flatten_rows,
    parameter_dtype as parameter_dtype,
    Parameters as Parameters,
    unflatten_rows as unflatten_rows,
    unflattener as unflattener,
)
from ._protocol import own_method as own_method
from ._recurrent import GRU as GRU
from ._single import check_one as check_one
from ._switches import switches as switches
