"""Evaluations against the dimension, on made-up records, and the cases that measure it."""

from __future__ import annotations

import pandas as pd
import pytest

from benchmarks import stats
from benchmarks.studies import Common, registry
from benchmarks.views import nfe_growth


def _frame(power: float) -> pd.DataFrame:
    rows = [
        {"key": f"{dim}-{seed}", "status": "done", "flow": "cnf", "dataset": f"patches{dim}"}
        | {"dim": dim, "seed": seed, "option.hidden": 8, "nfe_start": 14.0}
        | {"nfe_end": 20.0 * dim**power * (1 + 0.02 * (seed - 1))}
        for dim in (3, 8, 15, 63)
        for seed in (0, 1, 2)
    ]
    return pd.DataFrame(rows)


def test_the_slope_is_that_of_the_logarithms() -> None:
    """NFE of D^0.3 has slope 0.3, one that does not change 0; both in table and figure."""
    (table,) = nfe_growth.tables(_frame(0.3))
    (row,) = table.frame.to_dict("records")
    assert row["After training"] == "0.30 [0.30, 0.30]"
    assert row["Before training"] == "0.00 [0.00, 0.00]"
    assert (row["D"], row["Dimensions"], row["Seeds"]) == ("3 to 63", 4, 3)
    assert nfe_growth.figures(_frame(0.3))[0].draw()


def test_too_few_dimensions_show_nothing() -> None:
    """Two of them make no slope; neither do failed cases."""
    frame = _frame(0.3)
    assert not nfe_growth.tables(frame[frame["dim"] < 10])
    assert not nfe_growth.figures(frame.assign(status="failed"))


def test_a_width_that_follows_the_dimension_is_one_series() -> None:
    """H = 4 D beside H = 8: two series, though each dimension has a width of its own."""
    scaled = _frame(0.1).assign(**{"setting.hidden_per_dim": 4.0})
    scaled["option.hidden"] = 4 * scaled["dim"]
    (table,) = nfe_growth.tables(pd.concat([_frame(0.3), scaled], ignore_index=True))
    names = sorted(table.frame["Flow, data"])
    assert names == ["cnf hidden=4·D, patches", "cnf hidden=8, patches"]


def test_cases_of_widths_and_flows_with_options() -> None:
    """H = c D is in the options of each case, and so are those of a single flow."""
    study = registry["nfe"]
    solver = {"method": "dopri5", "rtol": 1e-3, "atol": 1e-3}
    options = study.Options(
        flows=["cnf", {"flow": "rnode", "options": {"kinetic": 0.5}, "batch": 7}],
        datasets=["patches2", "patches3"],
        hidden_per_dim=2.5,
        options={"solver": solver},
        updates=1,
    )
    cases = list(study.cases(options, Common()))
    assert [case.options["hidden"] for case in cases] == [8, 8, 20, 20]
    assert [case.options.get("kinetic") for case in cases] == [None, 0.5, None, 0.5]
    assert [case.batch for case in cases] == [256, 7, 256, 7]
    assert all(case.options["solver"]["rtol"] == 1e-3 for case in cases)


def test_a_slope_needs_three_points() -> None:
    """And values of x that differ."""
    with pytest.raises(ValueError, match="three points that differ in x, got 2"):
        stats.slope([1, 2], [1, 2])
    with pytest.raises(ValueError, match="differ in x"):
        stats.slope([1, 1, 1], [1, 2, 3])
    assert stats.slope([0, 1, 2, 3], [1, 3, 5, 7]) == pytest.approx((2, 2, 2))
