"""Saddles of the loss: what has grown there, what is small, and the result."""

from ._growth import (
    AbstractParts as AbstractParts,
    parts_of as parts_of,
)
from ._limiting_path import limiting_path as limiting_path, LimitingPath as LimitingPath
from ._near_saddle import starts_near_saddle as starts_near_saddle
from ._saddle_to_saddle import saddle_to_saddle as saddle_to_saddle
from ._visits import SaddleToSaddle as SaddleToSaddle
