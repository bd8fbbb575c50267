"""What a run gives back, in memory and on disk. It knows nothing of how it was made."""

from .parts import Records as Records, Stats as Stats
from .solution import load as load, Solution as Solution
from .tables import RECORDED_OVER as RECORDED_OVER, RESERVED as RESERVED
