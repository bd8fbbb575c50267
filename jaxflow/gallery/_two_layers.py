"""What two claims on two-layer networks with a fixed second layer have in common."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def tables(
    *, width: int, activation: Mapping[str, Any], inputs: Mapping[str, Any]
) -> dict[str, Any]:
    """A study of a network whose second layer stays at `±1/√m`, on two classes in turn."""
    return {
        "network": {
            "kind": "FeedForward",
            "width": width,
            "depth": 2,
            "activation": dict(activation),
            "frozen": ["weights[1]"],
        },
        "data": {"kind": "values", "inputs": dict(inputs), "targets": "alternating"},
        "loss": "logistic",
    }


def start(first: str | Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """The table of initializations: the first layer as is said, the second by signs."""
    layers = {"weights[0]": first, "weights[1]": "signs"}
    return {**more, "distribution": {"kind": "by_layer", "layers": layers}}


LAST = 100
"""The flow ends at `t = 10^100`."""


def times(num: int) -> list[float]:
    """Points of `log t` up to that of the end: by steps of one at first, then wider."""
    early = np.arange(-6.0, 10.0)
    late = np.linspace(12.0, LAST * math.log(10.0), num)
    return [round(float(each), 6) for each in (*early, *late)]


def relative_spread(margins: np.ndarray) -> np.ndarray:
    """`(max - min)/mean` over the samples, which are the last axis; NaN is no sample."""
    most, least = np.nanmax(margins, axis=-1), np.nanmin(margins, axis=-1)
    return (most - least) / np.nanmean(margins, axis=-1)


def largest(values: Any) -> float:
    """The largest number, whatever the shape; NaN where nothing is left out."""
    return float(np.nanmax(np.asarray(values)))
