"""How a module is asked about itself: by methods that a user's module can have too.

- `as_feed_forward()`: the same function as a `FeedForward` with the same parameters.
- `blocks()`: the number of each parameter's block, of which the output is a sum.
- `switches(x)`: on which side of its kink every neuron is, for one sample.
- `layer_matrices`: the layers as matrices, a property or a method.

The first two may give `None` where they do not know. A module that has none of them works
too: what can be measured is measured.
"""

from collections.abc import Callable
from typing import Any


def own_method(module: Any, name: str) -> Callable[..., Any] | None:
    """The method of this name, where the module has one."""
    found = getattr(module, name, None)
    return found if callable(found) else None
