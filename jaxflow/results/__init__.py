"""What a run gives back, in memory and on disk. It knows nothing of how it was made."""

from .parts import Records as Records, Stats as Stats
from .run_store import RunStore as RunStore, UNFINISHED as UNFINISHED
from .solution import load as load, open_stored as open_stored, Solution as Solution
from .store import check_storable as check_storable, SINGLE as SINGLE
from .tables import (
    RECORDED_OVER as RECORDED_OVER,
    RESERVED as RESERVED,
    to_dataset as to_dataset,
)
