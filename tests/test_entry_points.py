"""Data sets, studies and claims of another distribution, by its entry points."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MEMBERS = '''
"""A data set, a study of it, and a claim of the study."""

from functools import partial

from pydantic import BaseModel

from benchmarks.claims import Verdict, done, keys, outcome
from benchmarks.claims import register as claim
from benchmarks.claims.examples import made_up
from benchmarks.core.study import Result, Study
from benchmarks.core.study import register as study
from benchmarks.datasets import register
from benchmarks.datasets.drawn import drawn
from benchmarks.datasets.known import gaussian_sample


@register("their_gaussian")
def load(root, seed):
    """Forty rows."""
    rows = dict.fromkeys(("train", "val", "test"), 40)
    return drawn("their_gaussian", seed, partial(gaussian_sample, 2), "A Gaussian", rows=rows)


class Options(BaseModel):
    """No options."""


@study
class Theirs(Study):
    """The mean of a data set."""

    name = "theirs"
    question = "Where is the middle?"
    Options = Options

    def cases(self, options, common):
        yield common.case(
            study=self.name, flow="gaussian", dim=2, dataset="their_gaussian", batch=1
        )

    def alone(self, case):
        return False

    def result(self, case):
        from benchmarks import datasets

        return Result({"test_ll": float(datasets.load(case.dataset).train.mean())})


def example(value):
    return made_up("theirs", {"test_ll": value})


@claim(
    "their-claim",
    statement="The mean is positive.",
    criterion="Confirmed if it is.",
    studies=("theirs",),
    suite="quick",
    exhibits=(),
    examples=[("confirmed", partial(example, 1.0)), ("refuted", partial(example, -1.0))],
)
def judge(frame):
    rows = done(frame, "theirs", "test_ll")
    return Verdict(outcome([rows["test_ll"].mean() > 0]), "By one record.", keys(rows))
'''
POINTS = "".join(
    f"[flowgauge.{group}]\nbroken = no_such_module_of_theirs\ngood = their_members\n"
    for group in ("datasets", "studies", "claims")
)
CODE = """
import json, warnings
from pathlib import Path

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from benchmarks import datasets
    from benchmarks.claims import claims
    from benchmarks.core.study import registry as studies
    from benchmarks.core.study import Common
    from benchmarks.execution.versions import dependencies, plugins_of

    listed = {
        "data": "their_gaussian" in datasets.names(),
        "study": "theirs" in studies,
        "claims": [claim.id for claim in claims() if claim.id == "their-claim"],
    }
from flows.plugins import load_plugin
from flows.registry import needed

study = studies["theirs"]
(case,) = study.cases(study.Options(), Common())
print(json.dumps({
    **listed,
    "messages": [str(w.message) for w in caught if "no_such_module" in str(w.message)],
    "plugins": plugins_of(case),
    "files": list(dependencies(case).files),
    "needed": needed(case.words),
    "of_others": needed({"maf"}),
    "shape": list(datasets.load("their_gaussian").train.shape),
    "again": load_plugin(Path("their_members.py")).__name__,
    "status": [result.failure for _, result in study.measure([case])],
}))
"""


@pytest.fixture
def distribution(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that finds the distribution."""
    (tmp_path / "their_members.py").write_text(MEMBERS)
    info = tmp_path / "theirs-1.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text(POINTS)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    root = Path(__file__).parents[1]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (root, tmp_path)))}


def test_entry_points_add_data_sets_studies_and_claims(
    distribution: dict[str, str], tmp_path: Path
) -> None:
    """Each is listed, its records name the module and its file, a broken one is a line.

    Its file as a plug-in is the same module.
    """
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=tmp_path,
        env=distribution,
        capture_output=True,
        text=True,
        check=True,
    )
    facts = json.loads(done.stdout)
    assert (facts["data"], facts["study"], facts["claims"]) == (True, True, ["their-claim"])
    assert len(facts["messages"]) == 3
    assert all("\n" not in text and "left out" in text for text in facts["messages"])
    assert {kind: fact["file"] for kind, fact in facts["plugins"].items()} == {
        "data": "their_members.py",
        "study": "their_members.py",
    }
    assert facts["files"] == ["file their_members.py"]
    assert facts["needed"] == ["their_members"]
    assert facts["of_others"] == []
    assert facts["again"] == "their_members"
    assert (facts["shape"], facts["status"]) == ([40, 2], [""])


def test_the_claims_of_a_file_are_asked_for_by_name(tmp_path: Path) -> None:
    file = tmp_path / "their_members.py"
    file.write_text(MEMBERS)
    root = Path(__file__).parents[1]
    command = ["claims", "results/slide", "--plugin", str(file), "--only", "their-claim"]
    judged = subprocess.run(
        [sys.executable, "-m", "benchmarks", *command, "--json"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    (row,) = json.loads(judged.stdout)
    assert (row["id"], row["verdict"]) == ("their-claim", "not_measured")
