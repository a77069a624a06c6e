"""Evaluations at equal fit, on made-up trainings whose curves are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.analysis import equal_fit
from benchmarks.analysis.inference import Estimate
from benchmarks.core.study import registry
from benchmarks.studies.nfe.figures import figures
from benchmarks.studies.nfe.tables import tables
from claim_examples import at_equal_fit

SLOPES = {"0.001": 0.25, "0.0001": -0.5}
NONE = pytest.approx(0, abs=1e-9)  # of error


@pytest.fixture
def frame() -> pd.DataFrame:
    """Two flows whose NFE grow with D by these powers where 0.9 of the gap is closed."""
    return at_equal_fit(*SLOPES.values())


def test_a_training_is_read_where_it_has_closed_the_share(frame: pd.DataFrame) -> None:
    """At update 200 of 300, not at the end, where NFE grow with D besides."""
    for fit in equal_fit.fits(frame):
        assert (fit.rows["update"] == 200).all()
        assert fit.rows["share"].to_numpy() == pytest.approx(1)
        for tolerance, slope in SLOPES.items():
            assert fit.rows[tolerance].to_numpy() == pytest.approx(
                38 * fit.rows["dim"].to_numpy() ** slope
            )
            assert fit.growth(tolerance) == Estimate(pytest.approx(slope), NONE, 4)
        assert fit.growth() == Estimate(pytest.approx(-0.125), NONE, 4)


def test_without_a_truth_the_best_of_the_split_stands_for_it(frame: pd.DataFrame) -> None:
    """A flow that ends below nine tenths of the best on its split has no NFE at equal fit."""
    unknown = frame.drop(columns="truth_ll")
    ahead = unknown["flow"].eq("cnf") & unknown["dim"].gt(8)
    unknown.loc[ahead, "val_ll"] += 1.0
    behind = {fit.name: fit.rows for fit in equal_fit.fits(unknown)}["ffjord, mixture"]
    there = np.isfinite(behind["update"])
    assert behind["dim"][there].tolist() == [2, 4, 8]
    assert behind["share"][~there].to_numpy() == pytest.approx(0.5)
    assert behind["0.001"][~there].isna().all()


def test_data_that_leave_no_gap_show_nothing(frame: pd.DataFrame) -> None:
    """Of a Gaussian all is closed before the first update; old records have no likelihood."""
    assert not equal_fit.fits(frame.assign(truth_ll=frame["gaussian_ll"]))
    assert not equal_fit.fits(frame.drop(columns="gaussian_ll"))


def test_tables_and_the_figure_show_every_tolerance(frame: pd.DataFrame) -> None:
    """Slopes with their interval, NFE by dimension, and a panel a tolerance."""
    own = frame.assign(
        nfe_start=14.0, study="nfe", updates=300, parameters=9.0, row_flops=1.0, train_seconds=1.0
    )
    exhibits = {table.name: table.frame for table in tables(own)}
    growth, values = exhibits["nfe-equal-fit-growth"], exhibits["nfe-equal-fit"]
    assert growth["reached"].tolist() == ["6 of 6"] * 2
    assert growth[list(SLOPES)].to_numpy() == pytest.approx(np.array([[*SLOPES.values()]] * 2))
    assert growth["mean"].to_numpy() == pytest.approx(-0.125)
    assert len(values) == 12
    (figure,) = (figure for figure in figures(own) if figure.name == "nfe-equal-fit")
    lines = [panel.get_lines() for panel in figure.draw().axes]
    assert [len(panel) for panel in lines] == [4, 4]


def test_the_growth_is_said_and_who_never_got_there(frame: pd.DataFrame) -> None:
    """The slope over all tolerances, NFE at the largest dimension, series that fell short."""
    grow, largest = registry["nfe"].says(frame)
    assert "fall for cnf, mixture (−0.12 [−0.12, −0.12]) and ffjord" in grow
    dim = frame["dim"].max()
    nfe = 38 * dim ** SLOPES["0.0001"]
    assert f"0.0001, on mixture at D = {dim}: {nfe:.0f} for cnf, ffjord." in largest
    unknown = frame.drop(columns="truth_ll")
    unknown.loc[unknown["flow"].eq("cnf") & unknown["dim"].gt(8), "val_ll"] += 1.0
    *_, short = registry["nfe"].says(unknown)
    assert "ffjord, mixture (3 of 6 trainings)" in short
    assert registry["nfe"].says(frame.drop(columns="gaussian_ll")) == []
