"""The neural correlation function and its KKT points."""

from ._find import find_kkt as find_kkt
from ._points import KKTPoints as KKTPoints, wilson as wilson
from ._rank_one import (
    rank_one as rank_one,
    rank_one_conditions as rank_one_conditions,
    RankOne as RankOne,
    RankOneConditions as RankOneConditions,
)
from ._reduced import (
    lift as lift,
    reduced_kkt as reduced_kkt,
    ReducedPoints as ReducedPoints,
)
