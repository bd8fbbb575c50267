"""Pictures of results. Every function draws into `ax` (or `axes`) and returns it."""

from ._early_phase import (
    early_convergence as early_convergence,
    early_phase as early_phase,
    four_panels as four_panels,
)
from ._kkt import kkt_points as kkt_points, stable_sets as stable_sets
from ._layers import layers as layers
from ._recorded import recorded as recorded
from ._saddles import saddle_to_saddle as saddle_to_saddle
