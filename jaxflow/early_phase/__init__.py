"""The early phase of small initializations: checked at many scales, followed at one."""

from ._following import EarlyPhase as EarlyPhase, follow_early_phase as follow_early_phase
from ._verifying import (
    EarlyConvergence as EarlyConvergence,
    verify_early_convergence as verify_early_convergence,
)
