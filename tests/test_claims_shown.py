"""The claims in a report and at the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from benchmarks import report
from benchmarks.claims import Claim, Evidence, Verdict, claims, register, registry
from benchmarks.cli.app import app
from benchmarks.core import store
from benchmarks.core.frame import load, of_one_place
from benchmarks.report.claims import judge
from benchmarks.report.content import collect, noted
from benchmarks.report.runs import read
from committed import FOLDERS, ROOT
from page import Page


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


def test_claims_follow_the_studies(drawn: Path) -> None:
    """A row for each that its records judge, whose links lead somewhere."""
    folder, frame = drawn / "report", of_one_place(load(drawn))[0]
    text, page = (folder / "report.md").read_text(), (folder / "index.html").read_text()
    parts = Page(page)
    targets = [str(anchor["href"]) for anchor in parts.all("a") if "href" in anchor]
    assert {target[1:] for target in targets if target.startswith("#")} <= set(parts.ids)
    assert text.index("\n## identities") < text.index("## Claims")
    for claim in claims():
        verdict = claim.verdict(frame)
        is_judged = verdict.outcome != "not_measured"
        assert (f"claim-{claim.id}" in parts.ids) == is_judged
        if is_judged:
            assert f"| {verdict.outcome} |" in text
            row = page[page.index(f'id="claim-{claim.id}"') :].partition("</tr>")[0]
            assert row.count('<a href="#') == sum(
                (folder / place / f"{exhibit}.{kind}").is_file()
                for exhibit in claim.exhibits
                for place, kind in (("figures", "png"), ("tables", "csv"))
            )


def test_a_claim_of_no_slide_has_a_row(tmp_path: Path) -> None:
    """As another distribution's has none."""
    folder = _part(tmp_path / "part", "numerics")
    with registry.temporary():

        @register(
            "of-no-slide",
            statement="There are records.",
            criterion="Confirmed if there are.",
            studies=("numerics",),
            suite="quick",
            exhibits=(),
        )
        def _judge(frame: pd.DataFrame) -> Verdict:
            return Verdict("confirmed", f"{len(frame)} of them.", tuple(frame["key"]))

        report.write(folder)
    page = (folder / "report" / "index.html").read_text()
    row = page[page.index('id="claim-of-no-slide"') :].partition("</tr>")[0]
    assert '<td class="slide">–</td>' in row


def test_claims_of_several_runs_have_a_verdict_each(tmp_path: Path) -> None:
    """And a claim that only one of them judges has one; anchors differ."""
    folders = _part(tmp_path / "a", "numerics"), _part(tmp_path / "b", "numerics", "trace")
    judged = collect(folders).claims
    assert judged is not None
    runs: dict[str, list[str]] = {}
    for judgement in judged.judged.judgements:
        runs.setdefault(judgement.claim.id, []).append(judgement.run)
    assert runs["residual-network"] == ["a", "b"]
    assert runs["trace-and-determinant"] == ["b"]
    assert len(judged.table.grid.rows) == len(judged.judged.judgements)
    assert judged.by_run is not None
    assert [cell.text for row in judged.by_run.grid.rows for cell in row].count("–") == 1


def test_a_claim_that_cannot_be_judged_costs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a note of the report."""

    def fails(evidence: Evidence, claim: Claim) -> Verdict:
        if claim.id == "hutchinson":
            raise KeyError("on purpose")
        return Verdict("confirmed", "So it is.")

    monkeypatch.setattr(Evidence, "verdict", fails)
    runs = read([FOLDERS["quick"]])
    with pytest.warns(UserWarning, match="hutchinson"):
        judged = judge(runs, noted)
    assert len(judged.judgements) == len(list(registry)) - 1
    assert "on purpose" in judged.notes[0]


def test_a_folder_that_judges_none_has_no_claims(tmp_path: Path) -> None:
    record = next(iter(store.read(FOLDERS["quick"]).values()))
    store.write(tmp_path, record.model_copy(update={"status": "failed", "arrays": {}}))
    assert collect([tmp_path]).claims is None
    assert 'id="claims"' not in report.write(tmp_path).read_text()


def said(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["claims", *arguments])


def test_the_command_takes_each_claim_from_the_first_folder_that_has_it(drawn: Path) -> None:
    """With the files that a report of it has, and the command that measures it again."""
    folders = [str(folder) for folder in {**FOLDERS, "quick": drawn}.values()]
    result = said(*folders, "--json")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    assert [row["id"] for row in rows] == [claim.id for claim in claims()]
    for row in rows:
        if row["verdict"] == "not_measured":  # by any of these folders
            assert row["folder"] is None
            continue
        assert row["folder"] == next(f for f in folders if row["runs"][f] != "not_measured")
        assert row["command"].startswith("flowgauge run ")
        assert all(Path(path).is_file() for path in row["exhibits"])
        assert row["exhibits"] or row["folder"] != str(drawn)
        assert row["runs"][row["folder"]] == row["verdict"]


def test_what_measures_a_claim_again_is_accepted_and_leaves_out_the_other_studies() -> None:
    """Of hutchinson's suite, one of five."""
    _, *arguments = registry["hutchinson"].command.split()
    planned = CliRunner().invoke(app, [*arguments, "--dry-run"])
    assert planned.exit_code == 0
    assert planned.stdout.splitlines()[-1].startswith("67 cases")


def test_the_command_says_what_is_missing() -> None:
    """Exit status 0: that nothing is known is an answer."""
    result = said(str(FOLDERS["quick"]), "--only", "adjoint*")
    assert result.exit_code == 0
    assert "not measured" in result.stdout
    assert "flowgauge run complexity" in " ".join(result.stdout.split())
    assert "hutchinson" not in result.stdout
    judged = said(str(FOLDERS["complexity"]), "--only", "hutchinson")
    command = f"  again: {registry['hutchinson'].command}"
    assert command in judged.stdout.splitlines()


def test_without_folders_all_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those under results/, and there have to be some."""
    monkeypatch.chdir(tmp_path)
    result = said()
    assert result.exit_code == 2
    assert "flowgauge run quick" in result.stderr
    monkeypatch.chdir(ROOT.parent)
    rows = json.loads(said("--json", "--only", "hutchinson").stdout)
    assert [row["folder"] for row in rows] == [str(Path("results") / "complexity")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--only", "nothing*"), "no claim is named 'nothing*'"),
        ((str(ROOT.parent / "docs"),), "is not a results folder"),
    ],
)
def test_unusable_input_is_refused(arguments: tuple[str, ...], message: str) -> None:
    result = said(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_the_command_loses_no_verdict_to_the_fault_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said why that one could not be judged."""

    def judged(evidence: Evidence, claim: Claim) -> Verdict:
        if claim.id == "hutchinson":
            raise KeyError("column")
        return Verdict("confirmed", "It is so.", ("a",))

    monkeypatch.setattr(Evidence, "verdict", judged)
    result = said(str(FOLDERS["quick"]))
    assert result.exit_code == 0
    assert "It could not be judged: KeyError: 'column'" in " ".join(result.output.split())
