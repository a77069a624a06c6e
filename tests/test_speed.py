"""The study of speed: errors against float64, one process a peer, what fails and what does not."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest

import peer_processes
from benchmarks.core.case import Case
from benchmarks.core.study import Common, Result, registry
from benchmarks.measure.clock import spinning
from benchmarks.measure.foreign import peers
from benchmarks.studies.speed.study import MATMUL_FLOPS
from benchmarks.studies.speed.tables import named, ratios, shares

STUDY = registry["speed"]
DISCRETE = {"hidden": 16, "depth": 2, "layers": 2}
OPTIONS: dict[str, dict[str, Any]] = {
    "cnf": {
        "hidden": 16,
        "solver": {"rtol": 1e-8, "atol": 1e-8, "first_step": 0.1, "gradient": "backprop"},
    }
}
FAMILIES = [(name, flow) for name in peers.names() for flow in peers.peer(name).FAMILIES]
TIMES = ("log_prob_seconds", "gradient_seconds", "sample_seconds", "matmul_seconds")


def cases(
    competitors: Sequence[Any], flow: str, dtype: str = "float32", seed: int = 0, **changes: Any
) -> list[Case]:
    subject = {"flow": flow, "dim": 4, "batch": 12, "options": OPTIONS.get(flow, DISCRETE)}
    values: dict[str, Any] = {"gain": 1.5, "updates": 2, "seconds": 0, **changes}
    options = STUDY.Options(subjects=[subject], competitors=competitors, **values)
    common = Common(dtype=dtype)
    return [case.changed(seeds={"init": seed}) for case in STUDY.cases(options, common)]


def measured(block: list[Case]) -> dict[str, Result]:
    results = dict(STUDY.measure(block))
    return {str(case.settings["by"]): results[case.key] for case in block}


@pytest.mark.parametrize(("name", "flow"), FAMILIES)
def test_every_peer_has_the_density_and_gradients_of_its_flow(name: str, flow: str) -> None:
    """With our weights those of our flow, in float64; with its own, those of its float64."""
    module = peers.peer(name)
    if absent := [package for package in module.PACKAGES if find_spec(package) is None]:
        pytest.skip(f"{absent[0]} is not installed")
    dtype = "float64" if flow == "cnf" else "float32"
    results = measured(cases(["eager", name], flow, dtype))
    assert {result.failure for result in results.values()} == {""}
    ours, theirs = results["eager"].metrics, results[name].metrics
    limit = {"float64": 1e-6, "float32": 1e-4}[dtype]
    errors = [error for error in theirs if error.endswith("_error")]
    assert {"log_prob_error", "gradient_error"} <= set(errors)
    assert all(float(theirs[error]) <= limit for error in errors)
    assert theirs["parameters"] == pytest.approx(ours["parameters"], rel=0.1)
    if results[name].notes["peer"]["same_weights"]:
        assert theirs["parameters"] == ours["parameters"]
    else:
        assert float(theirs["log_prob_error"]) > 0


@pytest.mark.parametrize("flow", ["cnf", "realnvp"])
def test_errors_of_ours_fall_with_tolerance_and_precision(flow: str) -> None:
    """By backpropagation, and by the adjoint where there is one."""
    single, double = (measured(cases(["eager"], flow, t))["eager"] for t in ("float32", "float64"))
    errors = {name for name in double.metrics if name.endswith("_error")}
    assert ("adjoint_error" in errors) == (flow == "cnf")
    for error in errors:
        assert double.metrics[error] < min(1e-6, float(single.metrics[error]))


@pytest.fixture
def gaussian(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a peer that needs no package, in place of all others."""
    name = peer_processes.__name__
    monkeypatch.setattr(peers, "names", lambda: [name])
    monkeypatch.setattr(peers, "peer", lambda _: peer_processes)
    return name


def test_competitors_are_timed_together(gaussian: str) -> None:
    """Each by its own clock, beside the product that measures the peak; compiling is apart."""
    results = measured(cases(["eager", gaussian], "realnvp", seconds=0.01))
    for result in results.values():
        assert not result.failure
        assert all(np.min(result.metrics[name]) > 0 for name in TIMES)
    ours, theirs = results["eager"].metrics, results[gaussian].metrics
    assert ours["reference_seconds"] == theirs["reference_seconds"]
    assert "log_prob_compile_seconds" in theirs
    assert "log_prob_compile_seconds" not in ours
    assert 0 < float(theirs["log_prob_error"]) < 1e-5
    assert results[gaussian].notes["peer"]["versions"] == {"numpy": np.__version__}


@pytest.mark.parametrize("fatal", [0, 13])
def test_a_peer_that_fails_costs_no_other(
    gaussian: str, monkeypatch: pytest.MonkeyPatch, fatal: int
) -> None:
    """One that is not installed, and one that dies once it is timed."""
    if not fatal:
        monkeypatch.setattr(peer_processes, "PACKAGES", ("no_such_package",))
    results = measured(cases(["eager", gaussian], "realnvp", seed=fatal, seconds=0.01))
    assert not results["eager"].failure
    assert np.min(results["eager"].metrics["log_prob_seconds"]) > 0
    assert "\n" not in results[gaussian].failure
    assert ("not installed" if not fatal else "exit status 3") in results[gaussian].failure


def test_a_subject_has_a_case_for_all_who_can(gaussian: str) -> None:
    """Modes of ours and peers with the family, with changes of a competitor's options."""
    entry = {"by": "eager", "label": "loose", "options": {"solver": {"rtol": 1e-2}}}
    loose, eager = cases([entry, "eager", gaussian], "cnf")
    assert (loose.roles, eager.roles) == ({"label": "loose"}, {})
    assert (loose.options["solver"]["rtol"], eager.options["solver"]["rtol"]) == (1e-2, 1e-8)
    assert loose.options["solver"]["atol"] == eager.options["solver"]["atol"]
    assert STUDY.block(loose) == STUDY.block(eager)
    assert len(cases(["eager", gaussian], "realnvp")) == 2
    with pytest.raises(ValueError, match="unknown competitor 'nobody'"):
        cases(["nobody"], "cnf")


def test_busy_processes_are_there_meanwhile_alone() -> None:
    before = set(psutil.Process().children())
    with spinning(2):
        started = set(psutil.Process().children()) - before
    assert len(started) == 2
    assert not any(process.is_running() for process in started)


def _frame(**changes: Any) -> pd.DataFrame:
    """An eager flow that takes 2 s for half a matmul's work, and a peer that takes 1 s."""
    rows = []
    for by, scale in (("eager", 2.0), ("other", 1.0)):
        row: dict[str, Any] = {"setting.by": by, "status": "done"}
        row |= {"flow": "cnf", "dim": 3, "batch": 8, "option.hidden": 4, "block": "b", "key": by}
        row |= {"log_prob_error": 1e-4, "matmul_seconds": 1.0, "log_prob_seconds": scale}
        row |= {"log_prob_seconds.values": [0.9 * scale, scale, 1.1 * scale]}
        row |= {"log_prob_flops": MATMUL_FLOPS / 2} if by == "eager" else changes
        rows.append(row)
    return pd.DataFrame(rows)


def test_tables_have_ratios_and_shares_of_the_peak() -> None:
    """A peer's share is of the same work; a ratio says whether both are as accurate."""
    frame = _frame()
    assert shares(frame, "log_prob").tolist() == pytest.approx([0.25, 0.5])
    (row,) = ratios(named(frame)).to_dict("records")
    assert row["ratio"] == pytest.approx(2.0)
    assert row["accuracy"] == "equal"
    verdicts = [ratios(named(_frame(log_prob_error=e)))["accuracy"].item() for e in (1e-3, 1e-5)]
    assert verdicts == ["ours better", "peer better"]
    assert [table.name for table in STUDY.tables(frame)] == ["speed", "speed-ratios"]
    (figure,) = STUDY.figures(frame)
    assert len(figure.draw().axes) == 1


def test_what_failed_is_shown_and_drawn_by_none() -> None:
    (table,) = STUDY.tables(_frame(status="failed"))
    assert table.frame["log_prob_seconds"].tolist() == [2.0, "failed"]
    assert STUDY.figures(_frame().assign(status="failed")) == []
