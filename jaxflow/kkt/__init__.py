"""The neural correlation function and its KKT points."""

from .correlation import ncf as ncf, ncf_gradient as ncf_gradient
from .points import KKTPoints as KKTPoints, wilson as wilson
from .rank_one import (
    rank_one as rank_one,
    rank_one_conditions as rank_one_conditions,
    RankOne as RankOne,
    RankOneConditions as RankOneConditions,
)
from .reduced import (
    lift as lift,
    reduced_kkt as reduced_kkt,
    ReducedPoints as ReducedPoints,
)
