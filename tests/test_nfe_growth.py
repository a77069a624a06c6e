"""Evaluations against the dimension, on made-up records, and the cases that measure it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from benchmarks.analysis import nfe
from benchmarks.analysis.growth import ALWAYS, NEVER, crossing, tail_polynomial
from benchmarks.analysis.inference import Estimate
from benchmarks.core.exhibit import Table
from benchmarks.core.study import Common, registry
from benchmarks.studies.nfe.tables import tables
from claim_examples import at_equal_fit


def _frame(power: float) -> pd.DataFrame:
    rows = [
        {"key": f"{dim}-{seed}", "status": "done", "flow": "cnf", "dataset": f"patches{dim}"}
        | {
            "study": "nfe",
            "updates": 9,
            "arrays": None,
            "batch": 256,
            "dim": dim,
            "seed": seed,
            "option.hidden": 8,
            "nfe_start": 14.0,
        }
        | {"nfe_end": 20.0 * dim**power * (1 + 0.02 * (seed - 1))}
        for dim in (3, 8, 15, 63)
        for seed in (0, 1, 2)
    ]
    return pd.DataFrame(rows)


def _solved(evaluation: float = 1000.0) -> pd.DataFrame:
    """With the FLOPs of a solve: those of an evaluation, which grow as D, times NFE."""
    frame = _frame(0.0)
    solved = {"solve_nfe": frame["nfe_end"], "solve_flops": frame["nfe_end"] * evaluation}
    solved["solve_flops"] *= frame["dim"]
    return frame.assign(**solved)


def _cost(batch: int = 4) -> pd.DataFrame:
    """A flow of 10 D³ + 500 FLOPs per row from D = 8 on, an ODE, and one of no polynomial."""
    columns: dict[str, tuple[int, Callable[[int], float]]] = {
        "plain": (0, lambda d: 10 * d**3 + 500),
        "ode": (4, lambda d: 7 * d),
        "odd": (0, lambda d: 2.0**d),
    }
    rows = [
        {"key": f"{flow}-{dim}", "status": "done", "flow": flow, "study": "cost", "arrays": None}
        | {"dim": dim, "batch": batch, "seed": 0, "option.hidden": 8, "option.layers": 2}
        | {"log_prob_nfe": nfe, "log_prob_flops": batch * (flops(dim) if dim >= 8 else 1000.0)}
        for flow, (nfe, flops) in columns.items()
        for dim in (2, 4, 8, 16, 32, 48, 64, 128)
    ]
    return pd.DataFrame(rows)


def _both(**changes: float) -> pd.DataFrame:
    return pd.concat([_solved(**changes), _cost()], ignore_index=True)


def _tables(frame: pd.DataFrame) -> dict[str, Table]:
    return {table.name: table for table in tables(frame)}


def test_the_slope_is_that_of_the_logarithms() -> None:
    """NFE of D^0.3 has slope 0.3, one that does not change 0; both in table and figure."""
    (row,) = _tables(_frame(0.3))["nfe-growth"].frame.to_dict("records")
    assert row["nfe_end"] == pytest.approx(0.3)
    assert row["nfe_end.interval"] == pytest.approx((0.3, 0.3))
    assert row["nfe_start"] == 0
    assert [row[name] for name in ("from", "to", "dims", "seeds")] == [3, 63, 4, 3]


def test_a_name_has_what_varies_within_a_family_of_data() -> None:
    """Not the updates, of which either family has its own, nor what another flow has."""
    wide = _frame(0.3).assign(**{"option.hidden": 16, "key": "wide"})
    other = _frame(0.3).assign(dataset="mixture_4", updates=5, key="other")
    every = pd.concat([_frame(0.3), wide, other], ignore_index=True)
    assert [*nfe.families(every)] == [
        "cnf hidden=16, patches",
        "cnf hidden=8, patches",
        "cnf, mixture",
    ]


def test_flops_have_a_slope_where_they_were_counted() -> None:
    """Those of D evaluations' FLOPs and a NFE that does not change are 1; old records have none."""
    exact = Estimate(pytest.approx(1), pytest.approx(0, abs=1e-9), 2)
    assert nfe.growth(_solved(), "solve_flops") == exact
    few = _solved()
    few.loc[few["dim"] > 8, "solve_flops"] = float("nan")
    assert nfe.growth(few, "solve_flops") is None
    assert math.isnan(_tables(few)["nfe-growth"].frame["solve_flops"].item())
    assert nfe.growth(_frame(0.3), "solve_flops") is None
    assert "solve_flops" not in _tables(_frame(0.3))["nfe-growth"].frame


def test_totals_are_evaluations_times_their_flops() -> None:
    """Beside the polynomial of exact counts, interpolated below the sizes that it is of."""
    solved, direct = nfe.totals(_both())
    costs = {total.name: total.costs for total in (*solved, *direct)}
    assert set(costs) == {"cnf, patches", "plain", "odd"}
    for dim in (3, 63):  # 20 evaluations of 1,000 D
        assert costs["cnf, patches"].loc[dim].tolist() == pytest.approx([20_000 * dim, 20])
    assert costs["plain"]["flops"][15] == pytest.approx(10 * 15**3 + 500)
    assert costs["plain"]["flops"][3] == pytest.approx(1000)
    assert costs["odd"]["flops"][3] == pytest.approx(1000)
    assert costs["odd"]["flops"][8] == pytest.approx(2**8)  # of no polynomial, but counted
    rows = _tables(_both())["nfe-totals"].frame.set_index("flow")
    assert rows["dim.3"].to_dict() == {name: own["flops"][3] for name, own in costs.items()}
    assert len(_tables(_both())["nfe-training"].frame) == len(_solved())
    assert not tables(_cost())


@pytest.mark.parametrize(("evaluation", "dim"), [(1000.0, 44.7), (1e9, NEVER), (1e-3, ALWAYS)])
def test_the_crossing_of_totals_is_found(evaluation: float, dim: float) -> None:
    """20,000 D falls below 10 D³ + 500 at D = 44.7."""
    (solved,), direct = nfe.totals(_both(evaluation=evaluation))
    (plain,) = (total for total in direct if total.name == "plain")
    assert crossing(nfe.gap(solved, plain)) == pytest.approx(dim, abs=0.5)


def test_a_polynomial_of_the_larger_sizes() -> None:
    """Says from which size on; of all sizes where they have one, of five at least."""
    x = [1, 2, 4, 8, 16, 32, 64]
    for first, c in ((1, [0, 0, 1]), (4, [1, 0, 0, 1])):
        counts = [sum(a * d**k for k, a in enumerate(c)) if d >= first else 0 for d in x]
        start, coefficients = tail_polynomial(x, counts)
        assert (start, list(map(int, coefficients))) == (first, c)
    with pytest.raises(ValueError, match="no polynomial gives the counts at the 5 largest sizes"):
        tail_polynomial(x, [0, 0, 0, *(d**2 for d in x[3:])])


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


# ---- at equal fit -------------------------------------------------------------------------------

SLOPES = {"0.001": 0.25, "0.0001": -0.5}
NONE = pytest.approx(0, abs=1e-9)  # of error


@pytest.fixture
def frame() -> pd.DataFrame:
    """Two flows whose NFE grow with D by these powers where 0.9 of the gap is closed."""
    return at_equal_fit(*SLOPES.values())


def test_a_training_is_read_where_it_has_closed_the_share(frame: pd.DataFrame) -> None:
    """At update 200 of 300, not at the end, where NFE grow with D besides."""
    for fit in nfe.fits(frame):
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
    behind = {fit.name: fit.rows for fit in nfe.fits(unknown)}["ffjord, mixture"]
    there = np.isfinite(behind["update"])
    assert behind["dim"][there].tolist() == [2, 4, 8]
    assert behind["share"][~there].to_numpy() == pytest.approx(0.5)
    assert behind["0.001"][~there].isna().all()


def test_data_that_leave_no_gap_show_nothing(frame: pd.DataFrame) -> None:
    """Of a Gaussian all is closed before the first update; old records have no likelihood."""
    assert not nfe.fits(frame.assign(truth_ll=frame["gaussian_ll"]))
    assert not nfe.fits(frame.drop(columns="gaussian_ll"))
