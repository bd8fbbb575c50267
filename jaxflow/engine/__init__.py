"""Any flow for any number of initial states. The engine knows nothing of networks."""

from .lane import Problem as Problem, Start as Start
from .memory import Given as Given, InMemory as InMemory
from .pool import join as join, Members as Members, Outcome as Outcome, take as take
from .progress import progress_bar as progress_bar
from .recording import (
    empty_recordings as empty_recordings,
    Recorder as Recorder,
    Recording as Recording,
)
from .run import Progress as Progress, run as run, Sink as Sink, Source as Source
from .schedule import Schedule as Schedule
from .status import status_names as status_names, StatusNames as StatusNames
