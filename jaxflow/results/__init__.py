"""What a run gives back, in memory and on disk. It knows nothing of how it was made."""

from ._records import Records as Records, Stats as Stats
from ._run_store import RunStore as RunStore, UNFINISHED as UNFINISHED
from ._solution import load as load, open_stored as open_stored, Solution as Solution
from ._store import check_storable as check_storable, SINGLE as SINGLE
from ._tables import (
    RECORDED_OVER as RECORDED_OVER,
    RESERVED as RESERVED,
    to_dataset as to_dataset,
)
