"""The networks and losses of the benchmarks in PyTorch, of one member or of many.

Parameters are a list of arrays as `torch_parts` makes it; with a leading axis of members
outputs have one, too.
"""

import functools
import math
from collections.abc import Callable

import equinox as eqx
import jax
import numpy as np
import torch

import jaxflow as jf

Outputs = Callable[[list[torch.Tensor]], torch.Tensor]


def outputs(network: eqx.Module, task: jf.Task) -> Outputs:
    """Parameters to outputs `(…, n, out)` for the task's inputs."""
    inputs = torch.from_numpy(np.array(task.inputs))
    forward = {
        jf.FeedForward: _feed_forward,
        jf.ConvNet: _convolutional,
        eqx.nn.MLP: _perceptron,
    }[type(network)]
    activation = functools.partial(_activate, getattr(network, "activation", None))
    return lambda parts: forward(activation, inputs, parts)


def _activate(activation: jf.LeakyReLU, weight, h):
    """One layer of `jf.FeedForward`."""
    z = h @ weight.mT
    if activation.smoothing:
        row = weight.square().sum(-1)[..., None, :]
        radius = row * h.square().sum(-1, keepdim=True) / h.shape[-1]
        root = (z.square() + activation.smoothing**2 * radius).sqrt()
        z = activation.slope * z + (1 - activation.slope) * (z + root) / 2
    elif activation.slope != 1:
        z = torch.nn.functional.leaky_relu(z, activation.slope)
    return z.square() if activation.power == 2 else z**activation.power


def _feed_forward(activate, inputs, parts):
    *hidden, last = parts
    h = inputs
    for weight in hidden:
        h = activate(weight, h)
    return h @ last.mT


def _convolutional(activate, inputs, parts):
    """One convolution, 3 x 3, stride one and of the same size, and the read-out."""
    kernel, readout = parts
    windows = torch.nn.functional.unfold(inputs, 3, padding=1).mT  # (n, places, 9)
    flat = kernel.flatten(-3)[..., None, :, :]
    features = activate(flat, windows).mT.flatten(-2)  # (…, n, channels × places)
    return features @ readout.mT


def _perceptron(activate, inputs, parts):
    del activate
    weight, bias, readout, constant = parts
    h = inputs @ weight.mT + bias[..., None, :]
    h = torch.nn.functional.softplus(h, threshold=40)
    return h @ readout.mT + constant[..., None, :]


def torch_parts(network: eqx.Module, flat: torch.Tensor) -> list[torch.Tensor]:
    """Flat parameters `(…, p)` as the arrays of this network."""
    arrays = eqx.filter(network, eqx.is_inexact_array)
    shapes = [leaf.shape for leaf in jax.tree_util.tree_leaves(arrays)]
    sizes = [math.prod(shape) for shape in shapes]
    return [part.unflatten(-1, shape) for part, shape in zip(flat.split(sizes, -1), shapes)]


def residuals(task: jf.Task) -> Callable[[torch.Tensor], torch.Tensor]:
    """Outputs to minus the derivative of the loss in them."""
    targets = torch.from_numpy(np.array(task.target_rows))
    return {
        jf.SquareLoss: lambda found: targets - found,
        jf.LogisticLoss: lambda found: targets * torch.sigmoid(-targets * found),
    }[type(task.loss)]


def loss(task: jf.Task) -> Callable[[torch.Tensor], torch.Tensor]:
    """Outputs to the loss, that of all members together."""
    targets = torch.from_numpy(np.array(task.target_rows))
    softplus = functools.partial(torch.nn.functional.softplus, threshold=40)
    return {
        jf.SquareLoss: lambda found: 0.5 * (found - targets).square().sum(),
        jf.LogisticLoss: lambda found: softplus(-targets * found).sum(),
    }[type(task.loss)]


def velocity(
    network: eqx.Module, task: jf.Task, factor: float
) -> Callable[[torch.Tensor], torch.Tensor]:
    """`u ↦ Σ_i J_i(u)ᵀ c_i`, the residuals `c` those of the outputs times `factor`."""
    forward, pull = outputs(network, task), residuals(task)

    def field(flat: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            flat = flat.detach().requires_grad_()
            found = forward(torch_parts(network, flat))
            return torch.autograd.grad(found, flat, pull(factor * found.detach()))[0]

    return field
