"""From an ensemble to the KKT points that it flows to."""

from __future__ import annotations

import os
from typing import Any, TypeVar

import equinox as eqx

from .._checks import check_flag
from .._compiled import running
from .._signals import ends_on_signals
from .._telling import one_call, tell
from ..engine import Schedule
from ..networks import Initializations
from ..tasks import Task
from ._points import KKTPoints, shortfall_of_points
from ._search import begin_search as begin_search, Search as Search

Network = TypeVar("Network", bound=eqx.Module)


@running
@ends_on_signals()
@one_call()
def find_kkt(
    networks: Initializations[Network] | Network,
    task: Task,
    tol: float | None = None,
    *,
    max_steps: int = 10_000,
    spectrum: bool = True,
    ensemble: bool | None = None,
    schedule: Schedule | None = None,
    store: str | os.PathLike | None = None,
    progress: bool | None = None,
    trainable: Any = None,
) -> KKTPoints[Network]:
    """Distinct KKT points of the constrained neural correlation function.

    Unit vectors with `∇N(w) = λ w`, `λ = L N(w) > 0`, to which the δ → 0 flow leads from
    the members of an ensemble. Each member follows Riemannian gradient ascent of `N` on the
    sphere until it is near a KKT point, and Newton's method on Hessian-vector products
    takes it there; points that are the same up to the symmetries of the network are then
    merged. Members at a point with ascent directions flow on first, where there are no
    kinks.

    Two points are the same if `N`, the outputs on all samples and the singular values of
    every layer are, to a relative 1e-5. That leaves out permutations of hidden neurons, and
    for linear networks and power one the continuous families, in which neurons share
    their part of a layer in any proportion.

    A network without biases that is a chain of matrices and (leaky) ReLUs of power one (a
    `FeedForward`, an `equinox.nn.MLP`, a module of one's own) has kinks, and KKT points on
    them: there `λ w` lies in the subdifferential, where each neuron on its kink has for
    each such sample some slope between those of its two sides. Members flow with slightly
    smoothed kinks and Newton's method, as an active set method in weights and slopes
    together, lands on the kinks themselves.

    Arguments:
        networks: an ensemble (or one network), or `Initializations`.
        task: the data and the loss.
        tol: the residual `‖∇N - λw‖ / ‖∇N‖` that a member has to reach; 1e-10 if not given,
            1e-4 in float32.
        max_steps: attempted steps of a flow after which a member gives up.
        spectrum: whether to compute the Hessian at every point, which takes one
            Hessian-vector product for each parameter; without it `index` is -1.
        ensemble: as for `gradient_flow`.
        schedule: as for `gradient_flow`.
        store: as for `jaxflow.run`. It is that of the first flow, which a call that was
            interrupted need not repeat.
        progress: as for `gradient_flow`.
        trainable: as for `gradient_flow`.

    Returns:
        `KKTPoints`, best first, with the number of members that ended at each, those that
        go to zero apart, and those that did not converge listed.

    Raises:
        InputError: for arguments that do not fit.
        NotHomogeneousError: for a network that is not homogeneous.

    Source:
        arXiv:2403.08121, section 3 (KKT points of the constrained problem).

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.FeedForward((3, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> task = jf.Task(jax.numpy.eye(3), jax.numpy.array([3.0, 0.0, 4.0]))
        >>> points = jf.find_kkt(
        ...     jf.sample_ensemble(network, 8, key=jax.random.key(1)), task
        ... )
        >>> [round(float(value), 6) for value in points.value], points.basin.tolist()
        ([5.0], [8])
    """
    spectrum = check_flag("spectrum", spectrum)
    search, starts = begin_search(
        networks, task, tol, max_steps, ensemble, schedule, progress, trainable
    )
    ends = search.ends(starts, store)
    if spectrum:
        ends, numbers, found = search.settled(ends)
    else:
        numbers, found = search.distinct(ends), []
    points = search.points(ends, numbers, found)
    tell(shortfall_of_points(points, search.max_steps))
    return points
