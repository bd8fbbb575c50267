"""Early directional convergence, looked at for many scales and members at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import ArrayLike

from .._checks import check_flag, check_numbers, check_share, shown
from .._compiled import running
from .._signals import ends_on_signals
from .._telling import one_call, tell
from ..engine import Schedule
from ..errors import InputError
from ..kkt._find import begin_search
from ..networks import Initializations
from ..results import ended_by, Reason, shortfall, some_of
from ..tasks import Task
from ._convergence import EarlyConvergence
from ._judging import NO_LIMIT
from ._verification import Verification


def _shortfall(found: EarlyConvergence, max_steps: int) -> str | None:
    """What to tell a caller of members that could not be followed to the end."""
    lost = np.char.startswith(found.verdict.astype(str), NO_LIMIT)
    gave_up = found.flows.failed.reshape(len(found.scales), -1) & ~found.verified
    reasons = []
    if lost.any():
        residual = f" by max_steps={max_steps:,}"
        advice = "Try a larger max_steps=."
        reasons.append(Reason("no limit flow to a KKT point", lost.sum(), residual, advice))
    gone = gave_up.any(axis=0) & ~lost
    if gone.any():
        flows = found.flows[gave_up.ravel()]
        where = f", in flows that ended by {ended_by(flows.status)}"
        advice = "Try a larger max_steps=; look at flows[flows.failed] of the result."
        reasons.append(Reason("flows that gave up", gone.sum(), where, advice))
    who = some_of(int((lost | gone).sum()), found.size)
    return shortfall(f"verify_early_convergence: {who} could not be followed.", reasons)


@running
@ends_on_signals()
@one_call()
def verify_early_convergence(
    networks: eqx.Module | Initializations,
    task: Task,
    scales: ArrayLike | Sequence[float] = (1e-2, 1e-4, 1e-6, 1e-8),
    *,
    closeness: float = 1e-3,
    spectrum: bool = True,
    max_steps: int = 10_000,
    ensemble: bool | None = None,
    schedule: Schedule | None = None,
    progress: bool | None = None,
    trainable: Any = None,
) -> EarlyConvergence:
    """Check the theorem on early directional convergence, member by member.

    For `L > 2` and small δ there is a time `T`, in units of `δ^(2-L)` and independent of δ,
    until which `‖w‖/δ` stays bounded while `w/‖w‖` comes close to a non-negative KKT point
    of the constrained neural correlation function; or the weights go to zero. For `L = 2`
    the times of escape are of order `log(1/δ)`.

    The KKT point is the one that the δ → 0 flow reaches from the same start. The
    early-phase time is that at which this flow has come within `closeness` of it. Every
    scale is then followed to `‖w‖ = √δ`.

    A member converges if

    - `‖w‖/δ` up to the early-phase time is at most twice that of the limit, at every scale
      at which that says something: at which the limit's is at most `δ^(-1/2)`, as later
      the loss slows the weights down, and at times before 99% of the blow-up time;
    - at the smallest scale `1 - cosine` is at most twice the `closeness` there, or at
      `‖w‖ = √δ` where the escape is too near to tell the two apart;
    - `1 - cosine` at `‖w‖ = √δ` never grows as δ falls, beyond errors of the steps.

    A member that misses the second alone is slow, and not refuted, if the limit flow itself
    comes close only for smaller δ (`needed_scale`), and if `1 - cosine` at `‖w‖ = √δ` falls
    from each scale to the next, at the last with half of the mean order or more.

    At a KKT point the direction's distance from it shrinks like `(‖w‖/δ)^(-μ/λ)`, with `λ`
    the multiplier and `-μ` the eigenvalue of the Riemannian Hessian nearest to zero, while
    the loss, no longer that of the limit, moves it by a share `‖w‖^L`. So at `‖w‖ = √δ`

        1 - cosine ~ δ^q,    q = min(μ/λ, L),

    as δ tends to zero, and the measured order stands beside it. Eigenvalues of zero belong
    to continuous families of KKT points, of which the flow chooses one.

    Arguments:
        networks: an ensemble (or one network), or `Initializations`.
        task: the data and the loss.
        scales: two or more different δ below one, (scales,).
        closeness: the `1 - cosine` that ends the early phase of the limit flow.
        spectrum: whether to compute the Riemannian Hessian at every KKT point, and from it
            the order in theory; as for `find_kkt`.
        max_steps: as for `gradient_flow`.
        ensemble: as for `gradient_flow`.
        schedule: as for `gradient_flow`.
        progress: as for `gradient_flow`.
        trainable: as for `gradient_flow`.

    Returns:
        `EarlyConvergence`, with a verdict for every member and its reason.

    Raises:
        InputError: for arguments that do not fit.
        NotHomogeneousError: for a network that is not homogeneous.

    Source:
        arXiv:2403.08121, section 4 (early directional convergence); arXiv:2402.09226 for
        `L = 2`.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.FeedForward((3, 4, 1), jf.LeakyReLU(0.5, 2), key=jax.random.key(0))
        >>> x = jf.data.sphere_points(8, 3, key=jax.random.key(1))
        >>> task = jf.data.teacher_student(network, x, target_norm=1.0)
        >>> ensemble = jf.sample_ensemble(network, 2, key=jax.random.key(2))
        >>> jf.verify_early_convergence(ensemble, task, [1e-2, 1e-6]).verdict.tolist()
        ['converges', 'converges']
    """
    checked = _check_scales(scales)
    closeness = check_share("closeness", closeness)
    spectrum = check_flag("spectrum", spectrum)
    search, starts = begin_search(
        networks, task, None, max_steps, ensemble, schedule, progress, trainable
    )
    if search.order < 2:
        raise InputError("networks", f"networks of order {search.order:g}", "2 or more")
    found = Verification(search, starts, checked, closeness, spectrum).run()
    tell(_shortfall(found, search.max_steps))
    return found


def _check_scales(scales: Any) -> np.ndarray:
    expected = "two or more different numbers between 0 and 1"
    within = lambda values: (values > 0) & (values < 1)
    values = np.unique(check_numbers("scales", scales, expected, within))[::-1]
    if values.size < 2:
        raise InputError("scales", shown(scales), expected)
    return values
