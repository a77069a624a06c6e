"""The claims: each follows made-up records of every outcome, and the committed ones."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import claims as package
from benchmarks.claims import RULES, Claim, Evidence, Outcome, claims, registry
from benchmarks.claims.densities import FAMILY
from benchmarks.core.frame import load
from benchmarks.core.store import is_folder
from benchmarks.core.study import registry as studies
from benchmarks.execution import suite
from benchmarks.report.claims import by_run
from claim_examples import EXAMPLES
from committed import ROOT
from flows.continuous.trace import Trace

Examples = dict[str, list[tuple[Outcome, pd.DataFrame]]]

EVERY = pytest.mark.parametrize("claim", claims(), ids=lambda claim: claim.id)
RUNS = [path for path in sorted(ROOT.iterdir()) if is_folder(path)]
SHARING = [claim for claim in claims() if claim.prepare]
TRAINED = [claim for claim in claims() if claim.suite == "frontier"]


@pytest.fixture(scope="module")
def examples() -> Examples:
    """Made-up records of each claim, by outcome."""
    return {
        name: [(outcome, make()) for outcome, make in listed] for name, listed in EXAMPLES.items()
    }


@pytest.fixture(scope="module")
def exhibits(frames: dict[str, pd.DataFrame]) -> dict[str, set[str]]:
    """The names of the tables and figures of each committed run."""
    names: dict[str, set[str]] = {}
    for run, frame in frames.items():
        for study in [studies[name] for name in frame["study"].unique()]:
            rows = frame[frame["study"].isin([study.name, *study.reads])].reset_index(drop=True)
            members = [*study.tables(rows), *study.figures(rows)]
            names.setdefault(run, set()).update(exhibit.name for exhibit in members)
    return names


# ---- every claim --------------------------------------------------------------------------------


@pytest.mark.slow
@EVERY
def test_a_claim_is_of_what_its_suite_measures(claim: Claim, exhibits: dict[str, set[str]]) -> None:
    """Of studies that the suite has, and of exhibits that its committed run shows."""
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", claim.id)
    measured = {entry["study"] for entry in suite.read(claim.suite).studies}
    assert set(claim.studies) <= measured <= set(studies)
    assert set(claim.also) <= set(studies)
    assert exhibits[claim.suite] & set(claim.exhibits)
    main = {name.replace("_", "-") for name in claim.also}  # of studies that no run here may have
    assert set(claim.exhibits) <= main.union(*exhibits.values())


@EVERY
def test_a_verdict_follows_its_records(claim: Claim, examples: Examples) -> None:
    """As each example would have it; and no two examples give one sentence."""
    verdicts = [(outcome, claim.verdict(frame)) for outcome, frame in examples[claim.id]]
    assert [verdict.outcome for _, verdict in verdicts] == [outcome for outcome, _ in verdicts]
    assert {"confirmed", "refuted"} <= {outcome for outcome, _ in verdicts}
    assert len({verdict.sentence for _, verdict in verdicts}) == len(verdicts)
    assert {verdict.exhibits for _, verdict in verdicts} == {claim.exhibits}


@pytest.mark.parametrize("claim", SHARING, ids=lambda claim: claim.id)
def test_claims_that_share_evidence_are_judged_as_each_alone(
    claim: Claim, examples: Examples
) -> None:
    frame = pd.concat([own for _, own in examples[claim.id][:2]], ignore_index=True)
    evidence = Evidence(frame)
    for other in SHARING:
        assert evidence.verdict(other) == other.verdict(frame)


@EVERY
def test_without_records_it_is_not_measured(claim: Claim, examples: Examples) -> None:
    """And the remedy is named: of no records, of other studies', and of failed ones."""
    every = pd.concat([frame for pairs in examples.values() for _, frame in pairs])
    others = every[~every["study"].isin(claim.reads)]
    _, own = examples[claim.id][0]
    for frame in (pd.DataFrame(), own.iloc[:0], others, own.assign(status="failed")):
        verdict = claim.verdict(frame)
        assert verdict.outcome == "not_measured"
        assert claim.remedy in verdict.sentence
        assert not verdict.records


@EVERY
def test_a_verdict_is_of_its_own_records_alone(claim: Claim, examples: Examples) -> None:
    """In any order, whatever records of other studies there are; it names those behind it."""
    every = pd.concat([pairs[0][1] for pairs in examples.values()], ignore_index=True)
    others = every[~every["study"].isin(claim.reads)]
    for outcome, own in examples[claim.id]:
        frame = pd.concat([own, others]).sample(frac=1, random_state=1)
        verdict = claim.verdict(frame)
        assert verdict.outcome == outcome
        assert 0 < len(verdict.records) == len(set(verdict.records))
        assert set(verdict.records) <= set(own["key"])
        assert set(verdict.records) == set(claim.verdict(own).records)


@pytest.mark.parametrize("folder", RUNS, ids=lambda path: path.name)
def test_any_records_can_be_judged(folder: Path) -> None:
    """Whatever flows and studies a folder has: some claims are judged, and no others fail."""
    evidence = Evidence(load(folder))
    for claim in claims():
        verdict = evidence.verdict(claim)
        assert (verdict.outcome == "not_measured") == (not verdict.records), claim.id


# ---- particular ones ----------------------------------------------------------------------------


@pytest.mark.parametrize("claim", TRAINED, ids=lambda claim: claim.id)
def test_hardly_trained_flows_judge_nothing(claim: Claim, examples: Examples) -> None:
    for _, own in examples[claim.id]:
        updates = own["updates"].where(own["updates"] == 0, 30)
        assert claim.verdict(own.assign(updates=updates)).outcome == "not_measured"


@given(st.lists(st.sampled_from([True, False, None]), max_size=4))
def test_an_outcome_is_what_is_shown(holds: list[bool | None]) -> None:
    """Confirmed and refuted need all cases; conditional two that contradict each other."""
    kinds = set(holds)
    outcome = package.outcome(holds)
    assert (outcome == "confirmed") == (kinds == {True})
    assert (outcome == "refuted") == (kinds == {False})
    assert (outcome == "conditional") == ({True, False} <= kinds)


def test_runs_that_contradict_each_other_are_marked() -> None:
    """What is undecided contradicts nothing, and what no run judges is left out."""
    table = by_run(
        {
            "a": {"x": "confirmed", "y": "conditional", "z": "not_measured"},
            "b": {"x": "confirmed", "y": "undecided", "z": "not_measured"},
            "c": dict.fromkeys("xyz", "not_measured"),
        }
    )
    assert list(table) == ["Claim", "x", "y", "Runs"]
    assert table.set_index("Claim")["Runs"].to_dict() == {"a": "differ", "b": ""}


@pytest.mark.parametrize("claim", TRAINED, ids=lambda claim: claim.id)
def test_one_seed_judges_no_lead(claim: Claim, examples: Examples) -> None:
    for _, own in examples[claim.id]:
        if claim.id in FAMILY:
            assert claim.verdict(own[own["seed"] == 0]).outcome == "undecided"


def test_every_claim_has_a_criterion_that_says_what_refutes_it() -> None:
    """With strength and weakness of such a verdict, and examples; the table has no other."""
    assert {claim.id for claim in claims()} == set(RULES) == set(EXAMPLES)
    for claim in claims():
        assert re.search("Confirmed|confirmed", claim.criterion)
        assert "refuted" in claim.criterion
        assert "{" not in claim.criterion
        assert claim.strength.endswith(".")
        assert claim.weakness.endswith(".")


def test_a_stochastic_trace_is_no_exact_one(frames: dict[str, pd.DataFrame]) -> None:
    """The records of either complexity are of its own traces alone."""
    frame = frames["complexity"].drop_duplicates("key").set_index("key")
    for name, stochastic in (("cost-of-cnf", False), ("cost-of-ffjord", True)):
        rows = frame.loc[list(registry[name].verdict(frames["complexity"]).records)]
        assert {Trace.of(trace).stochastic for trace in rows["option.trace"]} == {stochastic}
