"""Saddles of the loss: what has grown there and what is small, and how visits are told."""

from .parts import (
    AbstractParts as AbstractParts,
    is_linear as is_linear,
    parts_of as parts_of,
)
from .visits import SaddleToSaddle as SaddleToSaddle
