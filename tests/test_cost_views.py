"""What the cost study shows, on made-up records: growth, crossings and figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.analysis import crossings, growth, sizes
from benchmarks.core.case import Case
from benchmarks.core.record import Record, Values
from benchmarks.measure.calls import COUNTED
from benchmarks.plotting import draw, slopes
from benchmarks.report import facts
from benchmarks.studies.cost import breakdown
from benchmarks.studies.cost import tables as cost

BATCH = 4


def _frame(
    calls: tuple[str, ...], flow: str = "realnvp", power: int = 2, factor: int = 1, **more: Any
) -> pd.DataFrame:
    """FLOPs of D to a power, seconds of D, at five dimensions."""
    rows = []
    for dim in (2, 4, 8, 16, 32):
        row: dict[str, Any] = {"flow": flow, "dim": dim, "batch": BATCH, "status": "done"}
        row |= {"key": f"{flow}{dim}", "option.hidden": 10 + dim, "reference_seconds": 1.0, **more}
        for call in calls:
            row[f"{call}_flops"] = float(factor * dim**power)
            row[f"{call}_seconds"], row[f"{call}_seconds.values"] = float(dim), [float(dim)] * 3
        rows.append(row)
    return pd.DataFrame(rows)


def test_growth_has_the_calls_that_were_measured() -> None:
    """Records from before sampling was measured still give their tables and figure."""
    frame = _frame(("log_prob", "step"), **{"option.hidden": 3})
    grown, by_dimension = cost.tables(frame)
    assert not any("sampling" in header.lower() for header in grown.frame)
    assert not any("sampling" in header.lower() for header in by_dimension.frame)
    assert all(figure.draw() for figure in cost.figures(frame))
    grown, _ = cost.tables(_frame(COUNTED, **{"option.hidden": 3}))
    assert grown.frame["sampling: FLOPs"].tolist() == ["2 (2.00)"]
    assert grown.frame["sampling: seconds"].tolist() == ["≥ 1.00 [1.00, 1.00]"]  # of D² FLOPs


def test_counts_alone_have_their_tables_and_figure() -> None:
    """Without a clock there are degrees and counts, and no column of seconds."""
    frame = _frame(COUNTED, **{"option.hidden": 3})
    frame = frame[[column for column in frame if "seconds" not in column]]
    for table in cost.tables(frame):
        assert not any("seconds" in header or "µs" in header for header in table.frame)
    (figure,) = cost.figures(frame)
    assert figure.draw()


def test_a_budget_is_one_series_though_its_width_varies() -> None:
    """Otherwise each dimension would be a series of its own, and none would grow."""
    assert [table.name for table in cost.tables(_frame(COUNTED))] == ["cost-by-dimension"]
    grown, by_dimension = cost.tables(_frame(COUNTED, **{"setting.parameters": 1e4}))
    assert grown.frame["Flow"].tolist() == ["realnvp"]
    assert set(by_dimension.frame["Flow"]) == {"realnvp"}


def test_counts_of_no_polynomial_have_no_degree() -> None:
    """Their local exponent alone is shown."""
    frame = _frame(COUNTED, **{"option.hidden": 3})
    frame["log_prob_flops"] = [4.0, 16.0, 256.0, 65536.0, 2.0**32]
    assert cost.tables(frame)[0].frame["log_prob: FLOPs"].tolist() == ["– (16.00)"]


def test_where_one_becomes_cheaper() -> None:
    """40 D against D³: from D = √40 on; interpolated between sizes, and never where it is not."""
    frames = [_frame(COUNTED, "realnvp", 1, 40), _frame(COUNTED, "dense", 3)]
    frame = pd.concat(frames, ignore_index=True).assign(**{"option.hidden": 3})
    (row,) = cost.tables(frame)[1].frame.to_dict("records")
    assert (row["Cheaper"], row["than"]) == ("realnvp", "dense")
    assert row["log_prob: FLOPs"] == "D ≥ 6"
    assert row["log_prob: seconds"] == "none in range"  # they are equal
    assert crossings.crossing(pd.Series([-1.0, -2.0], index=[2, 4])) == "all"
    assert crossings.crossing(pd.Series([1.0, -1.0], index=[2, 8])) == "D ≥ 4"
    assert crossings.crossing(pd.Series([], dtype=float)) == "–"


def test_who_is_compared_with_whom() -> None:
    """Flows of one degree only where both solve an ODE, and of one rule for the width alone."""
    ode, fixed = {"rate_flops": 1.0, "log_prob_nfe": 4.0}, {"option.hidden": 3}
    frames = [
        _frame(COUNTED, "cnf", 2, **ode, **fixed),
        _frame(COUNTED, "ffjord", 2, 2, **ode, **fixed),
        _frame(COUNTED, "realnvp", 2, **fixed),  # of the degree of cnf
        _frame(COUNTED, "glow", 3, 9, **fixed).assign(step_seconds=99.0),  # dearer everywhere
        _frame(COUNTED, "rnode", 1, **ode, **{"setting.hidden_per_dim": 2.0}),
    ]
    frames = [frame.assign(log_prob_seconds=frame["log_prob_flops"]) for frame in frames]
    (_, table, _) = cost.tables(pd.concat(frames, ignore_index=True))
    told = {(row["Cheaper"], row["than"].split()[0]) for row in table.frame.to_dict("records")}
    assert ("cnf", "ffjord") in told  # the one with fewer FLOPs is first
    assert not any({"realnvp", "cnf"} == set(pair) or "rnode" in pair for pair in told)


def test_what_is_taken_once_for_a_batch_is_shown_apart() -> None:
    """D² a sample and D³ once: degree 2, and 3 apart; a scan that ends before D = 32 says where."""
    frame = _frame(COUNTED, **{"option.hidden": 3})
    frame["precomputation_flops"] = frame["dim"] ** 3.0
    frame["log_prob_flops"] += frame["precomputation_flops"]
    counted = frame.iloc[-1:].assign(dim=64, device="meta", log_prob_flops=64.0**2 + 64.0**3)
    counted["precomputation_flops"] = 64.0**3
    for column in counted.columns[counted.columns.str.contains("seconds|step|sample")]:
        counted[column] = float("nan")
    both = pd.concat([frame.assign(device="cpu"), counted], ignore_index=True)
    (row,) = cost.tables(both)[0].frame.to_dict("records")
    assert (row["D"], row["log_prob: FLOPs"]) == (64, "2 (2.00)")
    assert row["precomputed: FLOPs"] == "3 (3.00)"
    assert row["training step: FLOPs"] == "2 (2.00) at 32"
    assert row["log_prob: seconds"].endswith("at 32")
    assert all(figure.draw() for figure in cost.figures(both))


def test_a_grid_is_no_scan_of_the_dimension() -> None:
    """Points over N at one D neither lengthen the series' name nor are they lines against D."""
    scan = _frame(COUNTED, **{"option.hidden": 3, "setting.seconds": 3.0})
    points = pd.concat([scan.iloc[2:3].assign(batch=n) for n in (1, 16, 64)])
    frame = pd.concat([scan, points.assign(**{"setting.seconds": 1.0})], ignore_index=True)
    kept = sizes.scans(frame)
    assert kept["series"].unique().tolist() == ["realnvp"]
    assert kept["dim"].tolist() == [2, 4, 8, 16, 32]
    assert cost.tables(frame)[-1].frame["Batch"].nunique() == 4


def test_the_linear_layer_alone() -> None:
    """Its growth is a column, and where two are compared they have a figure."""
    kinds = {"naive": 3, "lu": 2}
    frames = [
        _frame(COUNTED, "glow", **{"option.linear": kind, "option.hidden": 3}).assign(
            linear_flops=lambda f, p=p: f["dim"] ** float(p),
            linear_seconds=lambda f: f["dim"] * 1.0,
            **{"linear_seconds.values": lambda f: f["linear_seconds"].map(lambda s: [s] * 3)},
        )
        for kind, p in kinds.items()
    ]
    frame = pd.concat(frames, ignore_index=True)
    grown = cost.tables(frame)[0].frame
    assert grown["linear layer: FLOPs"].tolist() == ["2 (2.00)", "3 (3.00)"]
    (figure,) = (figure for figure in cost.figures(frame) if figure.name == "linear-layer")
    assert figure.draw()


def test_an_asymptote_that_is_not_reached_has_no_slope() -> None:
    """Times of degree 1 beside FLOPs of degree 2 are no asymptote, and alone they are."""
    frame = _frame(COUNTED, **{"option.hidden": 3})
    counted = growth.flops(frame, "log_prob")
    times = growth.seconds(frame, "log_prob", counted)
    assert times is not None
    assert times.told().startswith("≥ 1.00")
    alone = growth.seconds(frame, "log_prob", None)
    assert alone is not None
    assert alone.told(" at 32").startswith("1.00 [1.00, 1.00] at 32")


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_numbers_are_set_apart(wishes: list[float]) -> None:
    """By the gap or as far as there is room, within the panel, in order, and unmoved if apart."""
    places = slopes.apart(wishes, 0.08, 0.05, 0.95)
    gap = min(0.08, 0.9 / max(1, len(wishes) - 1))
    assert (np.diff(np.sort(places)) >= gap - 1e-9).all()
    assert (np.abs(places - 0.5) <= 0.45 + 1e-9).all()
    order = np.argsort(wishes, kind="stable")
    assert (np.diff(places[order]) > 0).all()
    free = np.clip(np.sort(wishes), 0.05, 0.95)
    if (np.diff(free) >= gap).all():
        assert np.sort(places) == pytest.approx(free)


def test_numbers_too_near_are_moved_alike() -> None:
    """Two equal wishes part by half the gap each: the least sum of squares."""
    assert slopes.apart([0.5, 0.5], 0.1, 0, 1).tolist() == pytest.approx([0.45, 0.55])


def test_every_series_has_a_look_of_its_own() -> None:
    """Colour, mark and filling of no two of thirty are the same; eight are as they always were."""
    looks = draw.looks(f"{i:02}" for i in range(30))
    assert len({tuple(sorted(look.items())) for look in looks.values()}) == 30
    pairs = [(look["color"], look["marker"]) for look in looks.values()]
    assert pairs[:8] == list(zip(draw.COLOURS, draw.MARKS, strict=True))
    assert len(set(pairs)) == 30


def test_columns_that_say_nothing_are_said_once() -> None:
    """One value in all rows stands in the note, none at all nowhere; solvers are told in words."""
    solver = [{"method": "rk4", "step_size": 0.5, "first_step": None}] * 5
    frame = _frame(COUNTED, "cnf", **{"option.layers": 2, "setting.hidden_per_dim": 1.0})
    frame = frame.assign(**{"option.solver": solver, "option.trace": ["loop"] * 4 + ["exact"]})
    frame["log_prob_first_seconds"], frame["step_resident_bytes"] = 0.5, float("nan")
    table = cost.tables(frame)[-1]
    assert "In all rows: Layers 2, Batch 4, Solver rk4, step size 0.5, Width 1·D." in table.note
    assert {"H", "Trace"} <= set(table.frame)
    assert not {"Batch", "Resident (MiB)"} & set(table.frame)
    assert set(table.frame["First log_prob (ms)"]) == {500.0}


def test_noise_of_the_machine_is_told() -> None:
    """The spread of the reference workload, once for a block; a case above a tenth is named."""
    quiet, loud = [1.0, 1.01, 1.02, 1.03, 1.04], [1.0, 1.1, 1.2, 1.3, 1.4]
    records = [_record(2, quiet), _record(3, quiet), _record(4, loud)]
    told = {fact.term: fact.lines for fact in facts.provenance(records, 0)}
    first, warning = told["Noise"]
    assert f"median {(0.02 / 1.02 + 0.2 / 1.2) / 2:.1%}" in first
    assert f"largest {0.2 / 1.2:.1%}" in first
    assert warning.endswith("in 1 of 2 blocks, as in cost glow D=4")
    heads = facts.header({}, records)
    assert [fact.lines for fact in heads if fact.term == "Noise"] == [(warning,)]
    assert told["Governor"] == ("powersave",)
    (alone,) = (f for f in facts.provenance(records[:1], 0) if f.term == "Noise")
    assert len(alone.lines) == 1


def _record(dim: int, times: list[float]) -> Record:
    case = Case(study="cost", flow="glow", dim=dim, batch=BATCH)
    metrics = {"reference_seconds": Values.of("reference_seconds", times)}
    machine = {"governor": "powersave"}
    more = {"key": case.key, "fingerprint": "", "status": "done"}
    return Record(case=case, metrics=metrics, machine=machine, **more)


def test_shares_of_a_solve() -> None:
    """Four evaluations in each of two pieces: field, trace and the solver's rest."""
    frame = _frame(COUNTED, "cnf", **{"option.layers": 2, "log_prob_nfe": 8})
    frame["field_seconds"], frame["rate_seconds"] = frame["dim"] * 0.05, frame["dim"] * 0.15
    parts = breakdown.shares(frame)
    assert parts.loc[8].to_dict() == pytest.approx({"field": 0.2, "trace": 0.4, "solver": 0.4})
    names = [figure.name for figure in cost.figures(frame)]
    assert names == ["cost-per-sample", "cost-against-dimension", "solve-breakdown"]
    assert cost.figures(frame)[-1].draw()
