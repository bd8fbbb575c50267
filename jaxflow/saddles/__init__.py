"""Saddles of the loss: what has grown there, what is small, and the result."""

from ._growth import (
    AbstractParts as AbstractParts,
    parts_of as parts_of,
)
from ._saddle_to_saddle import saddle_to_saddle as saddle_to_saddle
from ._visits import SaddleToSaddle as SaddleToSaddle
