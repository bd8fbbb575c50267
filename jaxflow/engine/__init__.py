"""Any flow for any number of initial states. The engine knows nothing of networks."""

from ._driver import (
    PassedError as PassedError,
    Progress as Progress,
    run as run,
    Sink as Sink,
    Source as Source,
)
from ._kept import from_rows as from_rows, with_rows as with_rows
from ._landing import is_searched as is_searched
from ._lane import Problem as Problem, Start as Start
from ._memory import Given as Given, InMemory as InMemory
from ._observer import AbstractObserver as AbstractObserver
from ._passed import find_passed as find_passed, in_flight_rows as in_flight_rows
from ._path import (
    path_recordings as path_recordings,
    PathObserver as PathObserver,
    PathRecording as PathRecording,
)
from ._pool import (
    join as join,
    Members as Members,
    Outcome as Outcome,
    Pool as Pool,
    take as take,
)
from ._programs import forget_programs as forget_programs
from ._progress import part_of as part_of, progress_bar as progress_bar
from ._progress_measures import (
    AbstractMeasure as AbstractMeasure,
    Along as Along,
    AlongLogTime as AlongLogTime,
    Change as Change,
    Steps as Steps,
)
from ._recording import (
    grid_recordings as grid_recordings,
    GridObserver as GridObserver,
    GridRecording as GridRecording,
)
from ._schedule import (
    check_schedule as check_schedule,
    devices_of as devices_of,
    LANE_UNIT as LANE_UNIT,
    Schedule as Schedule,
)
from ._shapes import nobody as nobody, shapes_of_pool as shapes_of_pool
from ._status import (
    distinct_names as distinct_names,
    RESTS_AT_KINK as RESTS_AT_KINK,
    status_names as status_names,
    StatusNames as StatusNames,
    with_loss as with_loss,
)
