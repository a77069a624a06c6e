"""Evaluations against the dimension, on made-up records, and the cases that measure it."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from benchmarks.analysis import nfe
from benchmarks.analysis.growth import polynomial
from benchmarks.studies.nfe.tables import tables
from claim_examples import at_equal_fit
from measuring import cases_of


def _cost(batch: int = 4) -> pd.DataFrame:
    """A flow of 10 D³ FLOPs per row, and one that spends 100 and, in 4 evaluations, 50 D each."""
    columns: dict[str, tuple[int, Callable[[int], float]]] = {
        "plain": (0, lambda d: 10 * d**3),
        "ffjord": (4, lambda d: 100 + 200 * d),
    }
    rows = [
        {"key": f"{flow}-{dim}", "status": "done", "flow": flow, "study": "cost", "arrays": None}
        | {"dim": dim, "batch": batch, "seed": 0, "option.hidden": 64}
        | {"log_prob_nfe": nfe, "log_prob_flops": batch * flops(dim)}
        | {"precomputation_flops": 100.0 * batch * (nfe > 0)}
        for flow, (nfe, flops) in columns.items()
        for dim in (2, 4, 8, 16, 32, 48, 64, 128)
    ]
    return pd.DataFrame(rows)


def test_a_name_has_what_varies_within_a_family_of_data() -> None:
    """Not the updates, of which either family has its own, nor what another flow has."""
    one = at_equal_fit(0.0)
    wide = one.assign(**{"option.hidden": 16})
    other = one.assign(dataset=[f"patches{dim}" for dim in one["dim"]], updates=5)
    names = [*nfe.families(pd.concat([one, wide, other], ignore_index=True))][:3]
    assert names == ["cnf hidden=16, mixture", "cnf hidden=64, mixture", "cnf, patches"]


def test_totals_are_those_of_trained_evaluations() -> None:
    """Of 100 + 50 D n FLOPs at n = 38 of the trainings, which fall below 10 D³ at a D of 13.8."""
    frame = at_equal_fit(0, 0, 0).assign(nfe_start=1.0)
    every = pd.concat([frame, _cost()], ignore_index=True)
    (counted, trained), direct = nfe.totals(every)
    assert [counted.evaluations, trained.evaluations] == [(4,) * 3, pytest.approx((38,) * 3)]
    assert trained.flops[1][32] == pytest.approx(100 + 38 * 50 * 32)
    (plain,) = direct
    assert counted.crossings(plain) == pytest.approx([math.sqrt(20)] * 3, rel=0.1)
    assert trained.crossings(plain) == pytest.approx([math.sqrt(190)] * 3, rel=0.1)
    rows = {table.name: table for table in tables(every)}
    assert rows["nfe-totals"].frame["dim.32"][1] == pytest.approx(100 + 38 * 50 * 32)
    assert rows["nfe-totals-crossings"].frame["plain"][1] == trained.crossings(plain)[1]
    assert nfe.totals(frame) == nfe.totals(_cost()) == ([], [])


def test_a_polynomial_of_the_larger_sizes() -> None:
    """Of all sizes where they have one, of five at least."""
    x = [1, 2, 4, 8, 16, 32, 64]
    for first, c in ((1, [0, 0, 1]), (4, [1, 0, 0, 1])):
        counts = [sum(a * d**k for k, a in enumerate(c)) if d >= first else 0 for d in x]
        assert polynomial(x, counts) == c
    assert polynomial(x, [0, 0, 0, *(d**2 for d in x[3:])]) is None


def test_cases_of_widths_and_flows_with_options() -> None:
    """H = c D is in the options of each case, and so are those of a single flow."""
    solver = {"method": "dopri5", "rtol": 1e-3, "atol": 1e-3}
    members = ["cnf", {"flow": "rnode", "options": {"kinetic": 0.5}, "batch": 7}]
    about = {"flows": members, "datasets": ["patches2", "patches3"], "updates": 1}
    cases = cases_of("nfe", about | {"hidden_per_dim": 2.5, "options": {"solver": solver}})
    assert [case.options["hidden"] for case in cases] == [8, 8, 20, 20]
    assert [case.options.get("kinetic") for case in cases] == [None, 0.5, None, 0.5]
    assert [case.batch for case in cases] == [256, 7, 256, 7]
    assert all(case.options["solver"]["rtol"] == 1e-3 for case in cases)


SLOPES = {"0.001": 0.25, "0.0001": -0.5}


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
            expected = 38 * fit.rows["dim"].to_numpy() ** slope
            assert fit.rows[tolerance].to_numpy() == pytest.approx(expected)
            assert fit.growth(tolerance).interval(0.05) == pytest.approx((slope, slope))
        assert fit.growth().value == pytest.approx(-0.125)


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
