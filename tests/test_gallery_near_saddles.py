"""The claim about two-homogeneous networks, at a small size, with its figures."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from jaxflow import gallery


@pytest.fixture(scope="module")
def shown():
    return gallery.show(gallery.claim("near-saddles"), "test", progress=False)


def test_statements_hold_with_their_figures(shown):
    assert [v.statement for v in shown.verdicts if v.state != "held"] == []
    figures = {v.statement: v.figure for v in shown.verdicts}
    name = "time to leave the {} over log(1/δ), times 2N"
    assert figures["diagonal: " + name.format("origin")] == pytest.approx(1, abs=5e-3)
    assert figures["near: " + name.format("saddle")] == pytest.approx(1, abs=5e-3)
    name = "largest error of a predicted time to leave the {}"
    assert 0 < figures["diagonal: " + name.format("origin")] < 2e-3
    assert 0 < figures["near: " + name.format("saddle")] < 2e-3


def test_members_near_a_saddle_see_the_residual(shown):
    """N_r of one coordinate is half of the residual's pull on it, by hand."""
    study, ds = shown.studies["near"], shown.found["near"].dataset
    (setting, *_) = study.settings
    workshop = study.workshop(study.groups[0])
    task = workshop.task(setting.tables.data, ("data",), None)
    x, y = np.asarray(task.inputs), np.asarray(task.targets).ravel()
    for member in range(ds.sizes["init"]):
        grown = int(np.flatnonzero(ds["active"].values[-1, member, 0])[0])
        fitted = x[:, grown] @ y / (x[:, grown] @ x[:, grown])
        residual = y - fitted * x[:, grown]
        pulls = np.abs(x.T @ residual) / 2
        assert ds["kkt_value"].values[-1, member, 0] == pytest.approx(pulls.max(), rel=1e-4)
        assert ds["loss"].values[-1, member, 0] == pytest.approx(
            0.5 * residual @ residual, rel=1e-6
        )


def test_members_that_miss_a_saddle_are_named(shown):
    claim = gallery.claim("near-saddles")
    told = claim.exceptions(shown.found)
    missed = sum(
        int(np.sum(shown.found[part].dataset["kind"].values == 4)) for part in shown.found
    )
    assert missed == sum("(near miss)" in text for text in told) > 0


def test_figure_has_a_ladder_and_three_panels(shown):
    figure = gallery.claim("near-saddles").draw(shown.found)
    axes = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title() for ax in axes] == [
        "diagonal",
        "distance to the KKT point",
        "predicted departures, all saddles",
        "started near a saddle",
    ]
    assert all(ax.lines for ax in axes)
    plt.close(figure)
