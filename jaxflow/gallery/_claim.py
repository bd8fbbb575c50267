"""What a claim of the gallery is: words, studies, verdicts, and a figure."""

import abc
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import xarray

from ..studies import Study

Size: TypeAlias = Literal["test", "quick", "full"]
"""How much is computed: what a test can wait for, under a minute on two cores, under a
quarter of an hour."""

HELD, FAILED, OUTSIDE = "held", "did not hold", "outside the theorem's conditions"


@dataclasses.dataclass(frozen=True)
class Paper:
    """Where a claim is from: `authors`, `title`, `arxiv` number, and `where` in it."""

    authors: str
    title: str
    arxiv: str
    where: str = ""

    @property
    def link(self) -> str:
        return f"https://arxiv.org/abs/{self.arxiv}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was seen of one statement of a claim.

    Arguments:
        statement: in words.
        figure: the number that was measured.
        least: the statement holds for figures from this one on,
        most: up to this one.
        reason: why these bounds.
        applies: whether the conditions of the theorem were met.
        note: what else a reader should know, such as which members are exceptions.

    Examples:
        >>> from jaxflow.gallery import Verdict
        >>> seen = Verdict(statement="rank one", figure=0.2, most=1e-6, reason="rounding")
        >>> seen.state, seen.bound
        ('did not hold', '<= 1e-06')
    """

    statement: str
    figure: float | int
    least: float | int = -math.inf
    most: float | int = math.inf
    reason: str
    applies: bool = True
    note: str = ""

    @property
    def state(self) -> str:
        """`"held"`, `"did not hold"`, or `"outside the theorem's conditions"`."""
        if not self.applies:
            return OUTSIDE
        return HELD if self.least <= self.figure <= self.most else FAILED

    @property
    def bound(self) -> str:
        """The bounds in words."""
        if math.isinf(self.least):
            return f"<= {self.most:.4g}"
        if math.isinf(self.most):
            return f">= {self.least:.4g}"
        return f"{self.least:.4g} to {self.most:.4g}"

    @property
    def row(self) -> dict[str, Any]:
        """What tables show and files keep of it, in plain values."""
        figure = float(self.figure)
        return {
            "statement": self.statement,
            "figure": figure if math.isfinite(figure) else None,
            "seen": f"{figure:.4g}",
            "bound": self.bound,
            "reason": self.reason,
            "state": self.state,
            "note": self.note,
        }


class AbstractClaim(abc.ABC):
    """A published claim, with what is run to see whether it holds.

    A claim of its own is a subclass in a file of its own, and its place in the list of
    `_claims.py`.
    """

    name: ClassVar[str]
    """By which the command knows it."""
    title: ClassVar[str]
    paper: ClassVar[Paper]
    says: ClassVar[str]
    """The claim in words, with its exact conditions."""

    @abc.abstractmethod
    def studies(self, size: Size) -> Mapping[str, Study]:
        """What is run, by the names of its parts."""

    @abc.abstractmethod
    def verdicts(self, found: xarray.DataTree) -> Sequence[Verdict]:
        """What was seen of each statement.

        Arguments:
            found: the datasets of the studies, by their names.
        """

    def exceptions(self, found: xarray.DataTree) -> Sequence[str]:
        """Members that are unlike the others, one by one, and why.

        There are none if this is not overridden.
        """
        return ()

    @abc.abstractmethod
    def draw(self, found: xarray.DataTree) -> Any:
        """The figure that would convince a reader, a `matplotlib.figure.Figure`."""
