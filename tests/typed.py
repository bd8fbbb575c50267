"""What editors and type checkers know of results: pyright checks this file."""

from collections.abc import Iterator
from typing import assert_type

import equinox as eqx
import optax
from jaxtyping import PRNGKeyArray

import jaxflow as jf


def everyday_calls(net: jf.FeedForward, task: jf.Task, key: PRNGKeyArray) -> None:
    ensemble = jf.sample_ensemble(net, 8, key=key)
    assert_type(ensemble, jf.FeedForward)
    flow = jf.gradient_flow(ensemble, task, stop=[jf.LossBelow(1e-3)])
    assert_type(flow, jf.Solution[jf.FeedForward])
    assert_type(flow.networks, jf.FeedForward)
    assert_type(flow.directions, jf.FeedForward)
    assert_type(flow[3], jf.Solution[jf.FeedForward])
    assert_type(jf.concat([flow[:2], flow[2:]]), jf.Solution[jf.FeedForward])
    assert_type(jf.ncf_flow(net, task), jf.Solution[jf.FeedForward])
    descent = jf.gradient_descent(net, task, optimizer=optax.sgd(0.1), num_steps=3)
    assert_type(descent, jf.Solution[jf.FeedForward])
    noisy = jf.langevin_flow(net, task, temperature=0.1, time=1.0, step=0.1, key=key)
    assert_type(noisy, jf.Solution[jf.FeedForward])
    points = jf.find_kkt(ensemble, task)
    assert_type(points, jf.KKTPoints[jf.FeedForward])
    assert_type(points[0].networks, jf.FeedForward)


def other_networks(net: eqx.nn.MLP, task: jf.Task, key: PRNGKeyArray) -> None:
    drawn = jf.Initializations(net, 8, key=key)
    assert_type(jf.gradient_flow(drawn, task), jf.Solution[eqx.nn.MLP])
    assert_type(jf.find_kkt(drawn, task), jf.KKTPoints[eqx.nn.MLP])


def iterators(nets: Iterator[jf.ConvNet], task: jf.Task) -> None:
    assert_type(jf.gradient_flow(nets, task), jf.Solution[jf.ConvNet])


def any_solution(solution: jf.Solution[jf.FeedForward]) -> jf.Solution[eqx.Module]:
    return solution
