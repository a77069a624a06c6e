"""What studies say of made-up records: who leads by the tests, what lacks; and the terminal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from benchmarks.report.numbered import Exhibits
from benchmarks.report.references import References

from benchmarks.cli import answer
from benchmarks.cli.console import console
from benchmarks.core import exhibit
from benchmarks.core.exhibit import RECORDS, Column, Table
from benchmarks.core.frame import Plan, quotable
from benchmarks.core.study import registry
from benchmarks.report import content
from benchmarks.studies.frontier.overview import overview

SEEDS = 6
NOISE = 0.01 * np.array([1.0, -1.0, 2.0, -2.0, 0.5, -0.5])  # of a seed, nats


def costs(**powers: float) -> pd.DataFrame:
    """Records of flows whose log_prob takes 8 D^k FLOPs and as many nanoseconds a batch of 8."""
    rng = np.random.default_rng(0)
    rows = []
    for flow, power in powers.items():
        for dim in (2, 4, 8, 16, 32):
            cost = 8 * dim**power
            times = (1e-9 * cost * np.exp(0.01 * rng.standard_normal(20))).tolist()
            rows.append(
                {"study": "cost", "flow": flow, "dim": dim, "batch": 8, "updates": 0}
                | {"status": "done", "key": f"{flow}{dim}", "device": "cpu"}
                | {"log_prob_flops": cost, "setting.seconds": 1.0}
                | {"log_prob_seconds": float(np.median(times)), "log_prob_seconds.values": times}
            )
    return pd.DataFrame(rows)


def test_costs_are_said_by_degree_and_by_what_may_be_quoted() -> None:
    frame = costs(realnvp=1, glow=2, dense=3)
    says = registry["cost"].says(frame)
    assert "as D for realnvp; as D² for glow; as D³ for dense" in says[0]
    assert "D = 32" in says[1]
    assert "dense takes 1020 times as many" in says[1]
    follows = costs(cnf=1, ffjord=2).assign(**{"setting.hidden_per_dim": 1.0, "option.hidden": 8})
    (fewest,) = (x for x in registry["cost"].says(pd.concat([frame, follows])) if "Fewest" in x)
    assert "realnvp" in fewest.split("; ")[0]
    assert "cnf" in fewest.split("; ")[1]  # its width follows D: compared with its like
    assert "realnvp is first and ahead of all others" in says[2]
    assert "level with glow" in registry["cost"].says(costs(realnvp=2, glow=2))[2]
    doubted = {key: "noise" for key in frame["key"] if key.startswith("glow")}
    assert "not judged" in registry["cost"].says(quotable(frame, doubted))[2]


@pytest.mark.parametrize("width", [30, 80, 300])
def test_the_main_table_fits_the_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.DataFrame({"flow": [f"flow_{i}" for i in range(30)]})
    frame = frame.assign(**{f"metric {i}": 1.5 * i for i in range(8)})
    section = content.Section("probe", "probe", says=["An answer."])
    section.tables.append(Exhibits().table(exhibit.Table("t", "Main", "", frame), "probe"))
    monkeypatch.setattr(console, "width", width)
    answer.show(content.Report(Plan(name="t"), [], [section], None, [], None, References({})))
    text, *lines = capsys.readouterr().out.splitlines()
    assert text == "An answer."
    assert max(map(len, lines[:-1])) <= width
    assert f"{30 - answer.ROWS} more rows" in lines[-1]
    assert ("columns" in lines[-1]) == (width < 300)


def test_data_sets_stand_joined_at_the_budget_of_the_most_models() -> None:
    """A model that one set alone has keeps its row; rows are in the order of their mean ranks."""

    def table(data: str, **columns: list[float]) -> Table:
        parts = {
            f"{part}.{budget}": values if part == "test_ll" else [None] * len(values)
            for budget, values in columns.items()
            for part in ("test_ll", "half", "mark", "leads")
        }
        headers = {
            f"test_ll.{b}": Column(b, error=f"half.{b}", mark=f"mark.{b}", leads=f"leads.{b}")
            for b in columns
        }
        names = ["maf", "glow", "cnf"][: len(next(iter(columns.values())))]
        frame = pd.DataFrame({"model": names, RECORDS: [(data + n,) for n in names], **parts})
        return Table(f"frontier-{data}", "", "", frame, columns=headers)

    sets = {
        "a": table("a", short=[1.0, 2.0], long=[3.0, float("nan")]),
        "b": table("b", short=[1.0, 3.0, 2.0], long=[5.0, 4.0, 6.0]),
    }
    joined = overview(sets)
    assert list(joined.frame["model"]) == ["cnf", "maf", "glow"]  # mean ranks 1, 2 and 2
    assert {column.label for column in joined.shown.values()} == {"Model", "a, short", "b, long"}
    values = joined.frame.set_index("model")
    assert values.loc["glow", "test_ll.short.a"] == 2.0
    assert pd.isna(values.loc["cnf", "test_ll.short.a"])
    assert values.loc["maf", RECORDS] == ("amaf", "bmaf")
    assert overview(
        {"a": replace(sets["a"], frame=sets["a"].frame[["model", RECORDS]])}
    ).frame.empty
