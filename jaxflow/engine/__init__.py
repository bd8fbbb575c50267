"""Any flow for any number of initial states. The engine knows nothing of networks."""

from ._driver import Progress as Progress, run as run, Sink as Sink, Source as Source
from ._lane import Problem as Problem, Start as Start
from ._memory import Given as Given, InMemory as InMemory
from ._pool import join as join, Members as Members, Outcome as Outcome, take as take
from ._progress import progress_bar as progress_bar
from ._recording import (
    empty_recordings as empty_recordings,
    Recorder as Recorder,
    Recording as Recording,
)
from ._schedule import Schedule as Schedule
from ._status import status_names as status_names, StatusNames as StatusNames
