"""Published claims about gradient flow, each run and judged: one file for each."""

from ._claim import (
    AbstractClaim as AbstractClaim,
    Paper as Paper,
    Size as Size,
    Verdict as Verdict,
)
from ._claims import claim as claim, CLAIMS as CLAIMS
from ._commands import add_to as add_to
from ._seen import seen as seen
from ._showing import show as show, Shown as Shown
from ._tables import page_of_claims as page_of_claims, page_of_verdicts as page_of_verdicts
