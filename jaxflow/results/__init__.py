"""What a run gives back, in memory and on disk. It knows nothing of how it was made."""

from ._collection import (
    Collection as Collection,
    is_collection as is_collection,
    place_of as place_of,
    read_collection as read_collection,
)
from ._columns import (
    Column as Column,
    column as column,
    joined as joined,
    same_bits as same_bits,
)
from ._continuation import Continuation as Continuation
from ._declarations import (
    AbstractDeclaration as AbstractDeclaration,
    AbstractOwner as AbstractOwner,
    AbstractSource as AbstractSource,
    declarations as declarations,
    declared as declared,
    MEMBERS as MEMBERS,
    Sheet as Sheet,
)
from ._indexing import Given as Given, Index as Index
from ._kept_lanes import lanes_reader as lanes_reader
from ._loading import load as load, open_stored as open_stored
from ._members import brief as brief, numbers as numbers
from ._overview import where as where
from ._pickling import by_name as by_name
from ._records import (
    GRID_POINTS as GRID_POINTS,
    recorded_variables as recorded_variables,
    Records as Records,
    Stats as Stats,
)
from ._result import (
    AbstractResult as AbstractResult,
    concat as concat,
    stacked as stacked,
    to_dataset as to_dataset,
)
from ._run_store import RunStore as RunStore
from ._settings import check_attributes as check_attributes, settings_of as settings_of
from ._shortfall import Reason as Reason, shortfall as shortfall, some_of as some_of
from ._solution import (
    Network_co as Network_co,
    RESERVED as RESERVED,
    Solution as Solution,
)
from ._status import (
    decode as decode,
    ended_by as ended_by,
    Ending as Ending,
    endings as endings,
    has_failed as has_failed,
    status_code as status_code,
    status_column as status_column,
    status_table as status_table,
    UNFINISHED as UNFINISHED,
)
from ._store import (
    rebuild_value as rebuild_value,
    SIMULATION as SIMULATION,
    SINGLE as SINGLE,
)
from ._structure import (
    as_trust as as_trust,
    import_name as import_name,
    imported as imported,
)
from ._summary import (
    median as median,
    power_of_ten as power_of_ten,
    Summary as Summary,
    Table as Table,
)
from ._weights import (
    check_storable as check_storable,
    stacked_networks as stacked_networks,
    weights_dataset as weights_dataset,
)
from ._within import within as within
