"""The early phase of small initializations: checked at many scales, followed at one."""

from ._convergence import EarlyConvergence as EarlyConvergence
from ._following import EarlyPhase as EarlyPhase, follow_early_phase as follow_early_phase
from ._verifying import verify_early_convergence as verify_early_convergence
