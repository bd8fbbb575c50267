"""Any flow for any number of initial states. The engine knows nothing of networks."""

from .lane import Problem as Problem, Start as Start
from .progress import progress_bar as progress_bar
from .recording import (
    empty_recording as empty_recording,
    Recorder as Recorder,
    Recording as Recording,
)
from .run import Outcome as Outcome, Progress as Progress, run as run
from .status import status_names as status_names, StatusNames as StatusNames
