"""Saddles of the loss: what has grown there and what is small, and how visits are told."""

from ._growth import (
    AbstractParts as AbstractParts,
    is_linear as is_linear,
    parts_of as parts_of,
)
from ._journey import saddle_to_saddle as saddle_to_saddle
from ._visits import SaddleToSaddle as SaddleToSaddle
