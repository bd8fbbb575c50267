"""Pictures of results. Every function draws into `ax` (or `axes`) and returns it."""

from ._angles import angles as angles
from ._early_phase import (
    early_convergence as early_convergence,
    early_phase as early_phase,
    four_panels as four_panels,
)
from ._final_losses import final_losses as final_losses
from ._kkt import kkt_points as kkt_points, stable_sets as stable_sets
from ._layers import layers as layers
from ._limiting_path import limiting_path as limiting_path
from ._neurons import neurons as neurons
from ._neurons_animation import neurons_animation as neurons_animation
from ._neurons_over_time import neurons_over_time as neurons_over_time
from ._recorded import recorded as recorded
from ._saddles import saddle_to_saddle as saddle_to_saddle
from ._spectra import spectra as spectra
from ._sweep import sweep as sweep
from ._weights import weights as weights
from ._work_precision import work_precision as work_precision
