"""The claims: each says what it needs, and follows its records."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks import claims as package
from benchmarks.claims import Claim, Verdict, claims, registry
from benchmarks.core import store
from benchmarks.core.frame import load
from benchmarks.core.study import registry as studies
from benchmarks.execution import suite
from claim_changes import CHANGES, every, put
from committed import FOLDERS, ROOT
from flows.continuous.trace import Trace

EVERY = pytest.mark.parametrize("claim", claims(), ids=lambda claim: claim.id)


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays that follow the column "raise" of a row, where it has one."""
    own = store.arrays

    def changed(row: Any) -> dict[str, np.ndarray]:
        found = own(row)
        if "test_log_prob" in found and not pd.isna(row.get("raise", np.nan)):
            found["test_log_prob"] = found["test_log_prob"].astype(float) + row["raise"]
        return found

    monkeypatch.setattr("benchmarks.analysis.paired.arrays", changed)


def judged(claim: Claim, frame: pd.DataFrame) -> Verdict:
    return claim.verdict(frame)


# ---- every claim --------------------------------------------------------------------------------


def test_every_file_is_a_claim_and_every_claim_is_put_to_the_test() -> None:
    files = {path.stem for path in Path(package.__path__[0]).glob("[a-z]*.py")}
    assert {registry.module_of(name).rpartition(".")[2] for name in registry} == files
    assert len(list(registry)) == len(files)
    assert set(CHANGES) == set(registry)


@pytest.fixture(scope="module")
def exhibits(frames: dict[str, pd.DataFrame]) -> dict[str, set[str]]:
    """The names of the tables and figures of each committed run."""
    names: dict[str, set[str]] = {}
    for run, frame in frames.items():
        for study in [studies[name] for name in frame["study"].unique()]:
            rows = frame[frame["study"].isin([study.name, *study.reads])].reset_index(drop=True)
            shown = [*study.tables(rows), *study.figures(rows)]
            names.setdefault(run, set()).update(exhibit.name for exhibit in shown)
    return names


@EVERY
def test_a_claim_is_of_what_its_suite_measures(claim: Claim, exhibits: dict[str, set[str]]) -> None:
    """Of studies that the suite has, and of exhibits that its committed run shows."""
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", claim.id)
    measured = {entry["study"] for entry in suite.read(claim.suite).studies}
    assert set(claim.studies) <= measured <= set(studies)
    assert claim.exhibits
    assert set(claim.exhibits) <= exhibits[claim.suite]


@EVERY
def test_without_records_it_is_not_measured(claim: Claim, frames: dict[str, pd.DataFrame]) -> None:
    """And the remedy is named: of no records, of other studies', and of failed ones."""
    frame = frames[claim.suite]
    others = frame[~frame["study"].isin(claim.studies)]
    failed = frame.assign(status="failed")
    for given in (pd.DataFrame(), frame.iloc[:0], others, failed):
        verdict = claim.verdict(given)
        assert verdict.outcome == "not_measured"
        assert f"flowgauge run {claim.suite}" in verdict.sentence
        assert claim.studies[0] in verdict.sentence or "against D" in verdict.sentence
        assert not verdict.records


@EVERY
def test_a_verdict_follows_its_records(
    claim: Claim, frames: dict[str, pd.DataFrame], change: None
) -> None:
    """One change confirms it, another refutes it, and the sentence is another."""
    found = [judged(claim, alter(frames[claim.suite])) for alter in CHANGES[claim.id]]
    assert [verdict.outcome for verdict in found] == ["confirmed", "refuted"]
    assert found[0].sentence != found[1].sentence
    for verdict in found:
        assert re.search(r"\d", verdict.sentence)
        assert verdict.sentence.endswith(".")
        assert verdict.exhibits == claim.exhibits


@EVERY
def test_a_verdict_is_of_its_own_records_alone(
    claim: Claim, frames: dict[str, pd.DataFrame]
) -> None:
    """In any order, whatever other records there are; those behind it are said."""
    frame = frames[claim.suite]
    verdict = claim.verdict(frame)
    assert verdict.outcome != "not_measured"
    own = frame[frame["study"].isin(claim.studies)]
    assert 0 < len(verdict.records) == len(set(verdict.records))
    assert set(verdict.records) <= set(own["key"])
    again = claim.verdict(own.sample(frac=1, random_state=1))
    assert (again.outcome, set(again.records)) == (verdict.outcome, set(verdict.records))


# ---- particular ones ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "claim", [c for c in claims() if c.suite in ("quick", "densities")], ids=lambda c: c.id
)
def test_hardly_trained_flows_judge_nothing(claim: Claim, frames: dict[str, pd.DataFrame]) -> None:
    """As those of the smoke suite."""
    verdict = claim.verdict(put("updates > 0", updates=30)(frames[claim.suite]))
    assert verdict.outcome == "not_measured"


@pytest.mark.parametrize("name", ["useful-instrument", "continuous-powerful", "data-glow-ffjord"])
@pytest.mark.parametrize(
    ("lead", "error", "outcome"),
    [
        (0.3, 0.141, "confirmed"),
        (-0.3, 0.141, "refuted"),
        (0.185, 0.141, "conditional"),
        (-0.185, 0.141, "conditional"),
        (-9.0, np.nan, "conditional"),  # of two seeds there is no error
    ],
)
def test_a_tie_refutes_nothing(
    name: str,
    lead: float,
    error: float,
    outcome: str,
    frames: dict[str, pd.DataFrame],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("benchmarks.analysis.contests.lead", lambda one, other: (lead, error))
    assert registry[name].verdict(frames["densities"]).outcome == outcome


@pytest.mark.parametrize(
    ("leads", "outcome"),
    [
        ([(3, 1), (4, 1)], "confirmed"),
        ([(-3, 1), (-4, 1)], "refuted"),
        ([(3, 1), (0, 1)], "conditional"),
        ([(-3, 1), (0, 1)], "conditional"),
        ([(3, 1), (-3, 1)], "conditional"),
    ],
)
def test_all_leads_have_to_be_of_one_sign(leads: list[tuple[float, float]], outcome: str) -> None:
    assert package.of_leads(leads, 2) == outcome


def test_spreads_that_are_level_refute_nothing(frames: dict[str, pd.DataFrame]) -> None:
    level = put(trace_rmse=1.0, trace_rmse_se=0.1)(frames["complexity"])
    assert registry["bottleneck-variance"].verdict(level).outcome == "conditional"


def test_other_ways_to_refute(frames: dict[str, pd.DataFrame]) -> None:
    """An order that is not Euler's, a mass that is not one, a spread that is not theory's."""
    frame = frames["complexity"]
    for name, alter in (
        ("residual-network", every(convergence_order__values=[2.0])),
        ("change-of-variables", put("flow == 'glow' and dim == 2", mass_error=0.5)),
        ("hutchinson", put(trace_rmse=lambda f: 2 * f["trace_rmse"])),
        ("cost-of-ffjord", put(rate_flops=lambda f: 50 * f["rate_flops"])),
    ):
        assert registry[name].verdict(alter(frame)).outcome == "refuted", name


@pytest.mark.parametrize(
    "folder", sorted(ROOT.glob("*/records")), ids=lambda path: path.parent.name
)
def test_any_records_can_be_judged(folder: Path) -> None:
    """Whatever flows and studies a folder has: some claims, and what the others lack."""
    frame = load(folder.parent)
    for claim in claims():
        verdict = claim.verdict(frame)
        assert (verdict.outcome == "not_measured") == (not verdict.records), claim.id


@pytest.mark.parametrize("suite", FOLDERS)
def test_the_records_of_one_flow_alone_are_no_fault(
    suite: str, frames: dict[str, pd.DataFrame]
) -> None:
    """Each claim is judged by them or not measured."""
    for _, frame in frames[suite].groupby("flow"):
        for claim in claims():
            assert claim.verdict(frame.dropna(axis="columns", how="all")).sentence


def test_a_wide_interval_is_no_evidence(frames: dict[str, pd.DataFrame]) -> None:
    """Three dimensions of a family whose evaluations grow leave open whether they do."""
    frame = frames["complexity"]
    few = frame[frame["dim"].isin([3, 48, 63]) & (frame["setting.hidden_per_dim"] == 4)]
    verdict = registry["cost-in-total"].verdict(few)
    assert verdict.outcome == "conditional"
    assert "may or may not grow for cnf" in verdict.sentence


def test_a_stochastic_trace_is_no_exact_one(frames: dict[str, pd.DataFrame]) -> None:
    """The records of either complexity are of its own traces alone."""
    frame = frames["complexity"].set_index("key")
    for name, stochastic in (("cost-of-cnf", False), ("cost-of-ffjord", True)):
        rows = frame.loc[list(registry[name].verdict(frames["complexity"]).records)]
        assert {Trace.of(trace).stochastic for trace in rows["option.trace"]} == {stochastic}
