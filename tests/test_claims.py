"""Claims: each follows made-up records of every outcome; in a report, and at the command line."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import report
from benchmarks.claims import Claim, Evidence, Outcome, Verdict, claims, registry
from benchmarks.claims.trained import LEADS
from benchmarks.core import store
from benchmarks.core.exhibit import showing
from benchmarks.core.frame import load, of_one_place
from benchmarks.core.study import registry as studies
from benchmarks.execution import suite
from benchmarks.report.claims import by_run
from benchmarks.report.content import collect, judge
from benchmarks.report.runs import read
from claim_examples import EXAMPLES
from committed import FOLDERS, ROOT
from page import Page
from runs import flowgauge

EVERY = pytest.mark.parametrize("claim", claims(), ids=lambda claim: claim.id)
SHARING = [claim for claim in claims() if claim.prepare]
TRAINED = [claim for claim in claims() if "search" in claim.studies]


@pytest.fixture(scope="module")
def examples() -> dict[str, list[tuple[Outcome, pd.DataFrame]]]:
    """Made-up records of each claim, by outcome."""
    return {name: [(o, make()) for o, make in listed] for name, listed in EXAMPLES.items()}


@pytest.fixture(scope="module")
def every(examples) -> pd.DataFrame:
    """The first made-up records of each claim, in one frame."""
    return pd.concat([pairs[0][1] for pairs in examples.values()], ignore_index=True)


@pytest.fixture(scope="module")
def exhibits(frames: dict[str, pd.DataFrame]) -> dict[str, set[str]]:
    """The names of the tables and figures of each committed run."""
    names: dict[str, set[str]] = {}
    for run, frame in frames.items():
        for study, name in [(showing(name), name) for name in frame["study"].unique()]:
            rows = frame[frame["study"].isin([name, *study.reads])].reset_index(drop=True)
            members = [*study.tables(rows), *study.figures(rows)]
            names.setdefault(run, set()).update(exhibit.name for exhibit in members)
    return names


@pytest.mark.slow
@EVERY
def test_a_claim_is_of_what_its_suite_measures(claim, exhibits):
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", claim.id)
    measured = {entry["study"] for entry in suite.read(claim.suite).studies}
    assert set(claim.studies) <= measured <= set(studies)
    assert all(showing(name) for name in claim.also)
    assert exhibits[claim.suite] & set(claim.exhibits)
    main = {name.replace("_", "-") for name in claim.also}  # of studies that no run here may have
    assert set(claim.exhibits) <= main.union(*exhibits.values())


@EVERY
def test_a_verdict_follows_its_records(claim, examples):
    verdicts = [(outcome, claim.verdict(frame)) for outcome, frame in examples[claim.id]]
    assert [verdict.outcome for _, verdict in verdicts] == [outcome for outcome, _ in verdicts]
    assert {"confirmed", "refuted"} <= {outcome for outcome, _ in verdicts}
    assert len({verdict.sentence for _, verdict in verdicts}) == len(verdicts)


@pytest.mark.parametrize("claim", SHARING, ids=lambda claim: claim.id)
def test_claims_that_share_evidence_are_judged_as_each_alone(claim, examples):
    frame = pd.concat([own for _, own in examples[claim.id][:2]], ignore_index=True)
    evidence = Evidence(frame)
    for other in SHARING:
        assert evidence.verdict(other) == other.verdict(frame)


@EVERY
def test_without_records_it_is_not_measured(claim, examples, every):
    others = every[~every["study"].isin(claim.reads)]
    _, own = examples[claim.id][0]
    for frame in (pd.DataFrame(), own.iloc[:0], others, own.assign(status="failed")):
        verdict = claim.verdict(frame)
        assert verdict.outcome == "not_measured"
        assert claim.remedy in verdict.sentence
        assert not verdict.records


@pytest.mark.parametrize("flow", ["ffjord", "glow"])
def test_claims_of_costs_are_judged_by_records_of_one_flow(flow, frames):
    frame = frames["complexity"].query("flow == @flow").dropna(axis=1, how="all")
    for claim in (claim for claim in claims() if "cost" in claim.reads):
        assert claim.verdict(frame.reset_index(drop=True)).sentence


@EVERY
def test_a_verdict_is_of_its_own_records_alone(claim, examples, every):
    others = every[~every["study"].isin(claim.reads)]
    for outcome, own in examples[claim.id][:2]:
        verdict = claim.verdict(pd.concat([own, others]).sample(frac=1, random_state=1))
        assert verdict.outcome == outcome
        assert 0 < len(verdict.records) == len(set(verdict.records))
        assert set(verdict.records) <= set(own["key"])
        assert set(verdict.records) == set(claim.verdict(own).records)


@pytest.mark.parametrize("claim", TRAINED, ids=lambda claim: claim.id)
def test_hardly_trained_flows_and_one_seed_judge_nothing(claim, examples):
    for _, own in examples[claim.id]:
        updates = own["updates"].where(own["updates"] == 0, 30)
        assert claim.verdict(own.assign(updates=updates)).outcome == "not_measured"
        if claim.id in LEADS:
            assert claim.verdict(own[own["seed"] == 0]).outcome == "undecided"


def test_what_one_side_lacks_is_not_compared(examples):
    """A tolerance of one gradient alone, and formed Jacobians at different dimensions."""
    (outcome, own), claim = examples["adjoint-gradient"][0], registry["adjoint-gradient"]
    solver = {**own["option.solver"].iloc[0], "rtol": 1e-9}
    more = own[:1].assign(**{"key": "more", "option.solver": [solver]})
    assert claim.verdict(pd.concat([own, more], ignore_index=True)).outcome == outcome
    (outcome, own), claim = examples["trace-and-determinant"][0], registry["trace-and-determinant"]
    works = {"key": ["a", "b"], "setting.work": ["trace_of_formed", "determinant_of_formed"]}
    more = own[own["setting.work"] == "determinant"].assign(**works)
    assert claim.verdict(pd.concat([own, more], ignore_index=True)).outcome == outcome


def test_runs_that_contradict_each_other_are_marked():
    """What is undecided contradicts nothing, and what no run judges is left out."""
    outcomes = {
        "a": {"x": "confirmed", "y": "conditional", "z": "not_measured"},
        "b": {"x": "confirmed", "y": "undecided", "z": "not_measured"},
        "c": dict.fromkeys("xyz", "not_measured"),
    }
    table = by_run(outcomes)
    assert list(table) == ["Claim", "x", "y", "Runs"]
    assert table.set_index("Claim")["Runs"].to_dict() == {"a": "differ", "b": ""}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the committed run of the suite quick has of two studies, with its report."""
    folder = _part(tmp_path_factory.mktemp("drawn") / "part", "numerics", "trace")
    report.write(folder)
    return folder


def _part(folder: Path, *studies: str) -> Path:
    """The records that the committed run of the suite quick has of some studies."""
    for record in store.read(FOLDERS["quick"]).values():
        if record.case.study in studies:
            store.write(folder, record.model_copy(update={"arrays": {}}))
    return folder


def test_claims_follow_the_studies(drawn):
    folder, frame = drawn / "report", of_one_place(load(drawn))[0]
    text, page = (folder / "report.md").read_text(), (folder / "index.html").read_text()
    parts = Page(page)
    targets = [str(anchor["href"]) for anchor in parts.all("a") if "href" in anchor]
    assert {target[1:] for target in targets if target.startswith("#")} <= set(parts.ids)
    assert text.index("\n## numerics") < text.index("## Claims")
    for claim in claims():
        verdict = claim.verdict(frame)
        is_judged = verdict.outcome != "not_measured"
        assert (f"claim-{claim.id}" in parts.ids) == is_judged
        if is_judged:
            assert f"| {verdict.outcome} |" in text
            row = page[page.index(f'id="claim-{claim.id}"') :].partition("</tr>")[0]
            names = [(f"figures/{part}.png", f"tables/{part}.csv") for part in claim.exhibits]
            exhibits = [name for pair in names for name in pair if (folder / name).is_file()]
            assert row.count('<a href="#') == len(exhibits)


def test_claims_of_several_runs_have_a_verdict_each(tmp_path):
    folders = _part(tmp_path / "a", "numerics"), _part(tmp_path / "b", "numerics", "trace")
    content = collect(folders)
    runs = [(judgement.claim.id, judgement.run) for judgement in content.judged.judgements]
    assert [run for name, run in runs if name == "residual-network"] == ["a", "b"]
    assert [run for name, run in runs if name == "trace-and-determinant"] == ["b"]
    table, by_run = content.verdicts
    assert len(table.grid.rows) == len(content.judged.judgements)
    assert [cell.text for row in by_run.grid.rows for cell in row].count("–") == 1


def test_a_claim_that_cannot_be_judged_costs_no_other(monkeypatch):
    def fails(evidence: Evidence, claim: Claim) -> Verdict:
        if claim.id == "hutchinson":
            raise KeyError("on purpose")
        return Verdict("confirmed", "So it is.", ("a",))

    monkeypatch.setattr(Evidence, "verdict", fails)
    runs = read([FOLDERS["quick"]])
    with pytest.warns(UserWarning, match="hutchinson"):
        judged = judge(runs)
    assert len(judged.judgements) == len(list(registry)) - 1
    assert "on purpose" in judged.notes[0]
    lines = " ".join(flowgauge("claims", FOLDERS["quick"]).output.split())
    assert "It could not be judged: KeyError: 'on purpose'" in lines


def test_a_folder_that_judges_none_has_no_claims(tmp_path):
    record = next(iter(store.read(FOLDERS["quick"]).values()))
    store.write(tmp_path, record.model_copy(update={"status": "failed", "arrays": {}}))
    assert collect([tmp_path]).verdicts == ()
    assert 'id="claims"' not in report.write(tmp_path).read_text()


@pytest.mark.slow
def test_the_command_takes_each_claim_from_the_first_folder_that_has_it(drawn):
    folders = [str(folder) for folder in {**FOLDERS, "quick": drawn}.values()]
    rows = json.loads(flowgauge("claims", *folders, "--json").stdout)
    assert [row["id"] for row in rows] == [claim.id for claim in claims()]
    for row in rows:
        verdicts = (f for f in folders if row["runs"][f] != "not_measured")
        assert row["folder"] == next(verdicts, None)
        assert all(Path(path).is_file() for path in row["exhibits"])
        assert row["exhibits"] or row["folder"] != str(drawn)
    plain = flowgauge("claims", *folders)
    for row in rows:
        assert row["id"] in plain.stdout
        assert " ".join(row["sentence"].split()) in " ".join(plain.stdout.split())
        again = f"  again: {row['command']}"
        assert (again in plain.stdout.splitlines()) == (row["folder"] is not None)


def test_what_measures_a_claim_again_is_accepted_and_leaves_out_the_other_studies():
    """Of hutchinson's suite, one of five."""
    _, *arguments = registry["hutchinson"].command.split()
    planned = flowgauge(*arguments, "--dry-run")
    settings = [case.settings for case in suite.read("complexity").cases()]
    number = sum(values.get("part") == "identities" for values in settings)
    assert planned.stdout.splitlines()[-1].startswith(f"{number} cases")


@pytest.mark.slow
def test_without_folders_all_are_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "flowgauge run quick" in flowgauge("claims", status=2).stderr
    monkeypatch.chdir(ROOT.parent)
    rows = json.loads(flowgauge("claims", "--json", "--only", "hutchinson").stdout)
    assert [row["folder"] for row in rows] == [str(Path("results") / "complexity")]
