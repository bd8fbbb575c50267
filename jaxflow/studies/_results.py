"""What a study gave."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import xarray

from ..results import AbstractResult, MEMBERS
from ._dataset import combined, names_of
from ._sweep import Axis


@dataclasses.dataclass(frozen=True)
class StudyResult:
    """What a study gave: the results of its settings, and one dataset of all.

    Examples:
        >>> import jaxflow as jf
        >>> study = jf.Study.starter("langevin").replace({"initialization.num": 2})
        >>> result = study.run(progress=False)
        >>> len(result.results), result.swept, result.dataset.final_loss.dims
        (3, ['temperature'], ('temperature', 'init'))
    """

    axes: Sequence[Axis]
    """The dimensions of the sweep."""
    results: Sequence[AbstractResult | None]
    """Of every setting, in the order of `study.settings`; `None` for one that failed."""
    finals: Sequence[Mapping[str, Any] | None]
    """Columns beside those of the results, such as the loss on a test."""
    failures: Mapping[int, str]
    """Why a setting failed, by its place among the settings."""

    @property
    def result(self) -> AbstractResult:
        """The result of a study with one setting."""
        (only,) = self.results
        assert only is not None
        return only

    @functools.cached_property
    def dataset(self) -> xarray.Dataset:
        """The dataset of all settings, with a dimension for every key that is swept."""
        datasets = []
        for result, finals in zip(self.results, self.finals):
            if result is None:
                datasets.append(None)
                continue
            columns = {
                name: (MEMBERS, v, about) for name, (v, about) in (finals or {}).items()
            }
            datasets.append(result.dataset.assign(columns))
        return combined(self.axes, datasets)

    @property
    def swept(self) -> list[str]:
        """The dimensions of the sweep."""
        there = next(each for each in self.results if each is not None)
        return [dim for dim, *_ in names_of(self.axes, there.dataset)]
