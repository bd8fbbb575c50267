"""Study files: a simulation or a sweep written down, run, and shown."""

from ._commands import add_to as add_to
from ._results import StudyResult as StudyResult
from ._study import Study as Study
