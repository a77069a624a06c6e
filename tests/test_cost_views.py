"""What the cost study shows, on made-up records: growth, crossings, figures, and its command."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from benchmarks.calls import COUNTED
from benchmarks.cli import app
from benchmarks.costing import dimensions
from benchmarks.views import cost, cost_pictures, growth

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
    crossings = cost.tables(frame)[1]
    (row,) = crossings.frame.to_dict("records")
    assert (row["Cheaper"], row["than"]) == ("realnvp", "dense")
    assert row["log_prob: FLOPs"] == "D ≥ 6"
    assert row["log_prob: seconds"] == "none in range"  # they are equal
    cheap, dear = (_frame(("log_prob",), power=p, factor=f) for p, f in ((1, 1), (2, 1)))
    assert growth.crossing(cheap, dear, "log_prob_flops") == "all"
    assert growth.crossing(cheap.assign(dim=99), dear, "log_prob_flops") == "–"


def test_shares_of_a_solve() -> None:
    """Four evaluations in each of two pieces: field, trace and the solver's rest."""
    frame = _frame(COUNTED, "cnf", **{"option.layers": 2, "log_prob_nfe": 8})
    frame["field_seconds"], frame["rate_seconds"] = frame["dim"] * 0.05, frame["dim"] * 0.15
    parts = cost_pictures.shares(frame)
    assert parts.loc[8].to_dict() == pytest.approx({"field": 0.2, "trace": 0.4, "solver": 0.4})
    names = [figure.name for figure in cost.figures(frame)]
    assert names == ["cost-per-sample", "cost-against-dimension", "solve-breakdown"]
    assert cost.figures(frame)[-1].draw()


def test_dimensions_of_the_command() -> None:
    """A span doubles and always has its end; a list is itself; all else is refused by name."""
    assert dimensions("2..16") == [2, 4, 8, 16]
    assert dimensions("3..20") == [3, 6, 12, 20]
    assert dimensions("3,10,63") == [3, 10, 63]
    for wrong in ("2..2", "0..4", "", "2...4", "2,,3", "0,1", "a"):
        with pytest.raises(ValueError, match="cannot read dimensions"):
            dimensions(wrong)


def test_the_command_names_what_is_wrong() -> None:
    """An unknown flow, and dimensions that are none: one line, exit status 2."""
    for arguments, said in (
        (["ffjrd", "--dim", "2..4"], "unknown flow"),
        (["glow", "--dim", "2-4"], "dim"),
    ):
        result = CliRunner().invoke(app, ["cost", *arguments])
        assert result.exit_code == 2
        assert said in result.output
