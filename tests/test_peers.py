"""Peers: equal architectures and errors, trainings by our batches, competitors, and tables."""

import importlib.util
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import flows
import peer_processes
from benchmarks import datasets
from benchmarks.core import store
from benchmarks.core.case import FORMER, Case, digest
from benchmarks.core.study import Result, registry, study_of
from benchmarks.execution import suite
from benchmarks.execution.plan import tasks
from benchmarks.execution.versions import standing
from benchmarks.measure import foreign
from benchmarks.measure.clock import interleave
from benchmarks.studies.peers import tables
from benchmarks.studies.peers.study import Contest, ForeignTraining, Group, copy_weights
from benchmarks.training.state import initial_state, prepared
from committed import ROOT
from measuring import cases_of, frame_of, results_of
from records import record_result

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own notices, and absent peers

STUDY = registry["peers"]
SOLVERS = [
    {"flow": "cnf", "label": f"{tol:g}", "options": {"solver": {"rtol": tol, "atol": tol}}}
    for tol in (1e-3, 1e-6)
]
GROUPS = [
    {"name": "couplings", "members": ["realnvp", "glow"]},
    {"name": "solvers", "members": SOLVERS},
]
FAMILIES = [  # each by a process of its own, two of them in the fast set
    pytest.param(name, flow, marks=[] if flow in ("cnf", "realnvp") else [pytest.mark.slow])
    for name in foreign.names()
    for flow in foreign.peer(name).FAMILIES
]
MEMBERS = [(name, member) for name, rows in tables.ARCHITECTURES.items() for member in rows]


def grouped(dtype: str = "float32", **changes: Any) -> list[Case]:
    """Cases of the part of libraries, small, of groups that need no other library."""
    options = {"part": "libraries", "groups": GROUPS, "dims": [3], "batch": 8}
    options |= {"sizes": {"depth": 1, "layers": 2}, "parameters": 4000, "seconds": 0.01}
    return cases_of("peers", {**options, **changes}, dtype=dtype)


def trained(seeds: tuple[int, ...] = (0,), **changes: Any) -> list[Case]:
    training = {"preprocessing": "standardize", "validations": 1, "validation_rows": 20}
    options = {"part": "likelihoods", "datasets": ["8gaussians"], "batch": 16, "updates": 2}
    options |= {"groups": [{"name": "discrete", "members": ["realnvp", "maf"]}], "seconds": 1}
    options |= {"sizes": {"depth": 2, "layers": 2}, "parameters": 4000, "rate_seconds": 1e-6}
    options |= {"rows": 20, "tolerance": 1e-3, "training": training}
    return cases_of("peers", {**options, **changes}, seeds=seeds)


def raced(by: Sequence[Any], flow: str, dtype="float32", seed=0, **changes: Any) -> list[Case]:
    options: dict[str, Any] = {"hidden": 16, "depth": 2, "layers": 2}
    if flow == "cnf":
        solver = {"rtol": 1e-8, "atol": 1e-8, "first_step": 0.1, "gradient": "backprop"}
        options = {"hidden": 16, "solver": solver}
    subject = {"flow": flow, "dim": 4, "batch": 12, "options": options}
    values: dict[str, Any] = {"part": "speed", "gain": 1.5, "updates": 2, "seconds": 0, **changes}
    values |= {"subjects": [subject], "competitors": by}
    return [case.changed(seeds={"init": seed}) for case in cases_of("peers", values, dtype=dtype)]


def measured(block: list[Case]) -> dict[str, Result]:
    results = results_of(block)
    return {str(case.settings["by"]): results[case.key] for case in block}


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["libraries", "speed"])
def test_figures_of_the_former_studies_are_current(folder):
    """Of each record by its key, which has the name that its study had; a case of the suite."""
    for library in ("normflows", "flowjax"):  # without which the suite has fewer cases
        pytest.importorskip(library)
    records = store.read(ROOT / folder)
    for key, record in records.items():
        assert (record.case.study, record.case.former in FORMER) == ("peers", True)
        assert digest(record.identity)[:16] == key
        assert record.case.resolves or record.case.key == key
        assert not standing(record).counts
    assert records.keys() <= {case.key for case in suite.read(folder).cases()}


def test_a_suite_of_the_former_studies_has_the_same_cases(tmp_path):
    text = suite.file_of("speed").read_text()
    former = text.replace('study = "peers"\npart = "speed"', 'study = "speed"')
    assert former != text
    (tmp_path / "former.toml").write_text(former)
    pairs = [suite.read(name).cases() for name in ("speed", str(tmp_path / "former.toml"))]
    assert [case.key for case in pairs[0]] == [case.key for case in pairs[1]]
    with pytest.raises(ValueError, match="no part 'spead'; choose from: libraries, "):
        STUDY.part({"part": "spead"})


def test_a_group_is_measured_together():
    blocks = [task.cases for task in tasks(grouped(dims=[3, 5]))]
    assert len(blocks) == 4
    for block in blocks:
        assert [case.roles["place"] for case in block] == [0, 1]
        assert len({(case.batch, case.dim, case.updates) for case in block}) == 1


def test_a_group_names_what_is_wrong_with_it():
    with pytest.raises(ValueError, match=r"unknown architecture 'cnn'; .*realnvp"):
        Group.model_validate("cnn")
    with pytest.raises(ValueError, match="two members 'maf': give each a label"):
        Group.model_validate({"name": "g", "members": ["maf", "maf"]})


@pytest.mark.parametrize("name", tables.ARCHITECTURES)
def test_every_library_computes_the_density_of_its_weights_and_trains(name):
    """In float32 within what rounding and solvers leave; all of a group have equal sizes."""
    sizes = {"depth": 2, "layers": 2}
    few = {"groups": [name], "dims": [2], "sizes": sizes, "tolerance": 1e-5, "accuracy": 1e-2}
    results = results_of(block := grouped(seconds=0, **few))
    assert {result.failure for result in results.values()} == {""}
    for case in block:
        metrics = results[case.key].metrics
        limit = 1e-2 if "solver_rtol" in metrics else 1e-4
        assert float(metrics["log_prob_error"]) <= limit, case.label
        assert metrics["parameters"] == pytest.approx(case.settings["parameters"], rel=0.05)
    block = [case for case in trained(groups=[name]) if case.settings["stage"] == "updates"]
    assert block[0].flow in flows.own()
    for case in block:
        metrics = STUDY.part(case.settings).result(case).metrics
        assert np.isfinite([metrics["test_ll"], metrics["val_ll"]]).all()
        assert metrics["train_updates"] == 2


@pytest.mark.parametrize(("name", "member"), MEMBERS)
def test_what_is_written_of_a_member_is_so(name, member):
    """Its name; and its normalisation, linear layers and activations by the modules that it has."""
    normalisation, mixing, _, network = tables.ARCHITECTURES[name][member]
    (entry,) = [entry for entry in Group(name=name).members if entry.name == member]
    if entry.by or not entry.usable():
        return
    flow = flows.build(entry.flow, 4, **entry.complete({"hidden": 8, "depth": 2, "layers": 2}, 4))
    kinds = {type(module).__name__ for module in flow.modules()}
    assert ("ActNorm" in kinds) == normalisation.startswith("ActNorm")
    assert bool({"LULinear", "_LULinear"} & kinds) == mixing.endswith("LU")
    assert any(isinstance(m, nn.Tanh) for m in flow.modules()) == (network == "tanh")


def test_accurate_solvers_are_as_accurate_as_asked_and_no_tighter_than_needed():
    """In float64: the error holds, and more accuracy takes at least as many evaluations."""
    previous = [0.0, 0.0]
    for accuracy in (1e-1, 1e-3, 1e-5):
        results = results_of(block := grouped("float64", accuracy=accuracy)[2:])
        metrics = [results[case.key].metrics for case in block]
        assert all(m["log_prob_error"] <= accuracy for m in metrics)
        evaluations = [m["log_prob_nfe"] for m in metrics]
        assert all(new >= old for new, old in zip(evaluations, previous, strict=True))
        assert len({m["solver_rtol"] for m in metrics}) == 1  # one flow: what it came with is gone
        previous = evaluations


def test_same_weights_need_equal_shapes():
    group = {"name": "unequal", "members": ["cnf", "realnvp"], "same_weights": True}
    failures = [bool(result.failure) for result in results_of(grouped(groups=[group])).values()]
    assert sorted(failures) == [False, True]


def test_zuko_solves_the_field_of_ours():
    """With its weights, without time: equal densities, each solver as accurate as asked."""
    pytest.importorskip("zuko", reason="the suite compares with zuko")
    theirs = {"flow": "zuko_cnf", "options": {"frequencies": 0, "activation": "tanh"}}
    members = [{"flow": "cnf", "options": {"time": "ignore"}}, theirs]
    group = {"name": "cnf", "members": members, "same_weights": True}
    changes = {"groups": [group], "sizes": {"depth": 2}, "accuracy": 1e-4, "seconds": 0}
    results = results_of(block := grouped("float64", **changes))
    metrics = [results[case.key].metrics for case in block]
    assert metrics[0]["parameters"] == metrics[1]["parameters"]
    assert all(m["log_prob_error"] <= 1e-4 for m in metrics)
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    flow, other = (flows.build(c.flow, 3, **c.options).double() for c in block)
    copy_weights(flow, other)
    views = [f.using(solver={"rtol": 1e-10, "atol": 1e-10}).log_prob(x) for f in (flow, other)]
    torch.testing.assert_close(*views, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("default")
def test_without_the_other_library_its_flows_are_left_out_in_one_line(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "zuko" else find(n))
    with pytest.warns(UserWarning, match=r"^flows of zuko .*'flowgauge\[zuko\]'$") as caught:
        listed = suite.read("libraries").cases()
    assert len({str(w.message) for w in caught if "zuko" in str(w.message)}) == 1
    assert not any(case.flow.startswith("zuko_") for case in listed)


@pytest.fixture
def gauss(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a peer that needs no package, in place of all others."""
    monkeypatch.setattr(foreign, "names", lambda: ["gauss"])
    monkeypatch.setattr(foreign, "peer", lambda _: peer_processes)
    return "gauss"


def test_works_with_a_clock_of_their_own_are_timed_by_it():
    """Unrecorded calls at the beginning of a turn are in no sample."""

    class Counted:
        calls = 0

        def seconds(self, calls: int) -> list[float]:
            values = [float(place) for place in range(calls)]
            self.calls += calls
            return values

    work = Counted()
    timed = interleave({"own": work, "here": lambda: None}, seconds=1e-9, warm=2)
    assert min(timed["own"]) == 2.0
    assert len(timed["own"]) < work.calls
    assert min(timed["here"]) > 0


@given(st.integers(1, 5000), st.integers(1, 40), st.integers(0, 100))
def test_the_width_of_a_peer_is_the_nearest(parameters, rate, offset):
    """Against a search through all widths, of a count that rises with the square."""

    def count(size: int) -> int:
        return size * size + rate * size + offset

    errors = [abs(count(size) - parameters) for size in range(1, 100)]
    assert abs(count(foreign.width(count, parameters)) - parameters) == min(errors)


@pytest.mark.parametrize("absent", [False, True])
def test_a_peer_is_a_member_in_a_process_of_its_own(gauss, monkeypatch, absent):
    """Fitted as ours, compiled apart, not counted; left out in a line where it is absent."""
    groups = [{"name": "realnvp", "members": ["realnvp", {"flow": "realnvp", "by": gauss}]}]
    if absent:
        monkeypatch.setattr(peer_processes, "PACKAGES", ("no_such_package",))
        with pytest.warns(UserWarning, match=r"^flows of gauss .*'flowgauge\[peers\]'$"):
            assert [case.settings["member"] for case in grouped(groups=groups)] == ["realnvp"]
        return
    results = results_of(block := grouped(groups=groups))
    assert not any(result.failure for result in results.values())
    theirs = results[block[1].key].metrics
    assert 0 < float(theirs["log_prob_error"]) < 1e-5
    assert {f"{call}_compile_seconds" for call in ("log_prob", "step", "sample")} <= set(theirs)
    _, row = tables.costs(frame_of(block, results)).to_dict("records")
    assert (row["member"], row["log_prob_flops"]) == ("gauss_realnvp", "not counted")
    assert all(row[f"{call}.ratio"] > 0 for call in tables.CALLS)


def test_seconds_become_updates_by_the_rate_of_a_member():
    """That is measured alone, once for all seeds; without it there is nothing to train."""
    rate, *trainings = trained(seeds=(0, 1))[:5]
    assert [case.settings["stage"] for case in trainings] == 2 * list(tables.STAGES)
    assert [study_of(case).alone(case) for case in (rate, *trainings)] == [True, *4 * [False]]
    timed = trainings[1].changed(settings={**trainings[1].settings, "seconds": 2.5})
    record = record_result(rate, Result({"update_rate": 7.9}))
    assert study_of(timed).resolved(timed, [record], dict).updates == 19
    with pytest.raises(ValueError, match="rate of updates is not known: failed"):
        study_of(timed).resolved(timed, [record.model_copy(update={"status": "failed"})], dict)


@pytest.fixture
def peer(gauss: str) -> Case:
    """A training of a Gaussian in a process of its own."""
    members = ["realnvp", {"flow": "realnvp", "by": gauss}]
    listed = trained(groups=[{"name": "peer", "members": members}], updates=40)
    (case,) = [c for c in listed if c.settings.get("by") and c.settings["stage"] == "updates"]
    return case


def test_a_peer_is_trained_by_our_batches_and_scored_in_the_space_of_the_data(peer):
    """Its loss at a rate that changes nothing is that of our batches; its best is the Gaussian."""
    data = datasets.load("8gaussians", seed=0)
    still = {**peer.settings["training"], "learning_rate": 1e-12}
    frozen = peer.changed(settings={**peer.settings, "training": still})
    flow, settings = prepared(frozen, data)
    state = initial_state(flow, frozen, settings)
    with ExitStack() as stack:
        training = ForeignTraining(stack, frozen, data)
        expected = []
        for _ in range(3):
            rows = training.x[state.picks(len(data.train), frozen.batch).numpy()]
            expected.append(-training.flow.log_prob(rows).mean())
        assert training.train()["train_updates"] == frozen.updates
        np.testing.assert_allclose(training.losses[:3], expected, rtol=1e-5)
        quick = {**peer.settings["training"], "learning_rate": 0.5}
        fast = peer.changed(settings={**peer.settings, "training": quick})
        training = ForeignTraining(stack, fast, data)
        metrics = training.train()
        scale = data.train.std(0, correction=0)
        truth = torch.distributions.Normal(data.train.mean(0), scale)
        log_prob = truth.log_prob(data.test).sum(1).numpy()
        assert metrics["val_ll"] == pytest.approx(log_prob.mean(), abs=0.1)
        assert training.log_prob(data.test).mean() == pytest.approx(log_prob.mean(), abs=0.02)


def test_a_peer_has_a_rate_and_refuses_what_it_does_not_follow(peer):
    study = STUDY.part(peer.settings)
    rate = peer.changed(settings={**peer.settings, "stage": "rate", "seconds": 2})
    assert study.result(rate).metrics == {"update_rate": 1.0, "step_compile_seconds": 2.0}
    patient = {**peer.settings["training"], "patience": 3}
    refused = peer.changed(settings={**peer.settings, "training": patient})
    with pytest.raises(ValueError, match="patience = 3"):
        study.result(refused)


@pytest.mark.parametrize(("name", "flow"), FAMILIES)
def test_every_peer_has_the_density_and_gradients_of_its_flow(name, flow):
    """With our weights those of our flow, in float64; with its own, those of its float64."""
    if fault := foreign.lacking(foreign.peer(name)):
        pytest.skip(fault)
    dtype = "float64" if flow == "cnf" else "float32"
    results = measured(raced(["eager", name], flow, dtype))
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
def test_errors_of_ours_fall_with_tolerance_and_precision(flow):
    single, double = (measured(raced(["eager"], flow, t))["eager"] for t in ("float32", "float64"))
    errors = {name for name in double.metrics if name.endswith("_error")}
    assert ("adjoint_error" in errors) == (flow == "cnf")
    for error in errors:
        assert double.metrics[error] < min(1e-6, float(single.metrics[error]))


def test_competitors_are_timed_together(gauss):
    """Each by its own clock; compiling is apart."""
    results = measured(raced(["eager", gauss, "products"], "realnvp", seconds=0.01))
    for result in results.values():
        assert not result.failure
        for name in ("log_prob", "gradient", "sample"):
            assert np.min(result.metrics[f"{name}_seconds"]) > 0
    ours, theirs = results["eager"].metrics, results[gauss].metrics
    assert ours["reference_seconds"] == theirs["reference_seconds"]
    assert "log_prob_compile_seconds" in theirs
    assert "log_prob_compile_seconds" not in ours
    assert 0 < float(theirs["log_prob_error"]) < 1e-5
    assert results[gauss].notes["peer"]["versions"] == {"numpy": np.__version__}


@pytest.mark.parametrize("flow", ["realnvp", "cnf"])
def test_products_are_all_that_a_call_has(flow):
    cases = raced(["eager", "products"], flow, calls=["log_prob", "gradient"])
    totals: list[list[int]] = []
    for works in (Contest().enter(case).timed for case in cases):
        totals.append([])
        for work in works.values():
            with FlopCounterMode(display=False) as counter:
                work()
            totals[-1].append(counter.get_total_flops())
    assert totals[0] == totals[1]
    assert min(totals[0]) > 0


def test_bytes_are_those_of_processes_of_their_own(gauss):
    """Beside times of the calls that are asked for; ours over the peer's in the ratios."""
    block = raced(["eager", gauss], "realnvp", memory=True, calls=["log_prob"], seconds=0.01)
    results = results_of(block)
    for result in results.values():
        assert {"log_prob_resident_bytes", "log_prob_seconds"} <= set(result.metrics)
        assert not {"gradient_resident_bytes", "gradient_seconds"} & set(result.metrics)
    frame = frame_of(block, results).assign(log_prob_resident_bytes=[3e6, 2e6])
    assert STUDY.tables(frame)[1].frame["log_prob_resident_bytes"].tolist() == [1.5]


@pytest.mark.parametrize("fatal", [0, 13])
def test_a_peer_that_fails_costs_no_other(gauss, monkeypatch, fatal):
    if not fatal:
        monkeypatch.setattr(peer_processes, "PACKAGES", ("no_such_package",))
    results = measured(raced(["eager", gauss], "realnvp", seed=fatal, seconds=0.01))
    assert not results["eager"].failure
    assert np.min(results["eager"].metrics["log_prob_seconds"]) > 0
    assert "\n" not in results[gauss].failure
    assert ("not installed" if not fatal else "exit status 3") in results[gauss].failure


def test_a_subject_has_a_case_for_all_who_can(gauss):
    """Modes of ours and peers with the family, with changes of a competitor's options."""
    entry = {"by": "eager", "label": "loose", "options": {"solver": {"rtol": 1e-2}}}
    loose, eager = raced([entry, "eager", gauss], "cnf")
    assert (loose.roles, eager.roles) == ({"label": "loose"}, {})
    assert (loose.options["solver"]["rtol"], eager.options["solver"]["rtol"]) == (1e-2, 1e-8)
    assert loose.options["solver"]["atol"] == eager.options["solver"]["atol"]
    assert study_of(loose).block(loose) == study_of(eager).block(eager)
    assert len(raced(["eager", gauss], "realnvp")) == 2
    with pytest.raises(ValueError, match="unknown competitor 'nobody'"):
        raced(["nobody"], "cnf")


def _costs() -> pd.DataFrame:
    """Records of one group: the second takes twice the first's time, on a machine half as fast."""
    rows = []
    for place, (key, scale) in enumerate((("a", 1.0), ("b", 4.0))):
        row: dict[str, Any] = {"key": key, "setting.group": "g", "setting.member": key, "dim": 3}
        row |= {"setting.part": "libraries", "setting.place": place, "status": "done"}
        row |= {"parameters": 10.0, "log_prob_flops": 7.0, "log_prob_error": 1e-5}
        beside = {"reference_seconds.values": scale**0.5, "step_compile_seconds.values": 50 * scale}
        row |= {name: [seconds] for name, seconds in beside.items()}
        for name in (f"{call}_seconds" for call in tables.CALLS):
            row |= {name: scale, f"{name}.values": [scale * s for s in (0.9, 1.0, 1.1)]}
        rows.append(row)
    return pd.DataFrame(rows)


def test_the_table_of_libraries_has_a_row_a_member_and_its_ratios():
    """Relative to the reference workload, so that two runs would compare as one."""
    first, second = tables.costs(_costs()).to_dict("records")
    for call in tables.CALLS:
        assert (first[call], second[call]) == pytest.approx((1.0, 4.0))
        assert second[f"{call}.interval"] == pytest.approx((3.8, 4.2))
        assert second[f"{call}.ratio"] == pytest.approx(2.0)
        assert np.isnan(first[f"{call}.ratio"])
    assert second["step.compiling"] == pytest.approx(50.0)
    assert STUDY.tables(_costs())[0].columns["step"].scale == 1000
    (figure,) = STUDY.figures(_costs())
    assert len(figure.draw().axes) == len(tables.CALLS)


def test_differences_are_paired_with_the_first_of_a_group():
    """Of scores whose difference is known: the second is 0.5 ahead, give or take 0.01."""
    listed = trained(seeds=(0, 1, 2))
    noise = np.random.default_rng(0).normal(0, 0.01, len(listed))
    scores = {
        case.key: 3.0 * case.seeds.init + 0.5 * case.roles["place"] + error
        for case, error in zip(listed, noise, strict=True)
    }
    drawn = {"data": {"split": "drawn"}}
    results = {key: Result({"test_ll": score}, notes=drawn) for key, score in scores.items()}
    frame = frame_of(listed, results)
    first, other = tables.scores(frame).to_dict("records")
    for stage in tables.STAGES:
        assert pd.isna(first[f"{stage}.difference"])
        assert other[f"{stage}.difference"] == pytest.approx(0.5, abs=0.05)
        low, high = other[f"{stage}.difference.interval"]
        assert 0.4 < low < 0.5 < high < 0.6
        assert other[f"{stage}.stands"] == "ahead"
    table, *others = STUDY.tables(frame)
    assert not others  # the group is none of the architectures
    assert set(sum(table.rows_from, ())) == set(frame["key"])
    (figure,) = STUDY.figures(frame)
    assert len(figure.draw().axes) == len(tables.STAGES)
    frame.loc[frame["setting.member"] == "maf", "status"] = "failed"
    assert tables.scores(frame)["updates.test_ll"].tolist()[1] == "failed"


def _times(**changes: Any) -> pd.DataFrame:
    """An eager flow that takes 2 s, and a peer that takes 1 s."""
    rows = []
    for by, scale in (("eager", 2.0), ("other", 1.0)):
        row: dict[str, Any] = {"setting.part": "speed", "setting.by": by, "setting.busy": 0}
        row |= {"status": "done", "notes": {}}
        row |= {"flow": "cnf", "dim": 3, "batch": 8, "option.hidden": 4, "block": "b", "key": by}
        row |= {"log_prob_error": 1e-4, "log_prob_seconds": scale}
        row |= {"log_prob_seconds.values": [0.9 * scale, scale, 1.1 * scale]}
        rows.append(row | (changes if by == "other" else {}))
    return pd.DataFrame(rows)


def test_the_table_of_speed_has_ratios():
    """A ratio says whether both are as accurate."""
    frame = _times()
    (row,) = tables.ratios(tables.named(frame)).to_dict("records")
    assert row["log_prob_seconds"] == pytest.approx(2.0)
    assert row["accuracy"] == "equal"
    judged = [tables.ratios(tables.named(_times(log_prob_error=e))) for e in (1e-3, 1e-5)]
    better = [f"log_prob: {whose} better" for whose in ("ours", "peer")]
    assert [rows["accuracy"].item() for rows in judged] == better
    assert [table.name for table in STUDY.tables(frame)] == ["speed", "speed-ratios"]
    (figure,) = STUDY.figures(frame)
    assert len(figure.draw().axes) == 1
    frame = _times().assign(gradient_seconds=[2.0, 1.5], gradient_compile_seconds=[np.nan, 10.0])
    frame["setting.by"] = ["eager", "compiled"]
    assert "pays" not in next(tables.speed(frame)).frame  # there may have been a cache
    noted = frame.assign(notes=[{}, {"compiled_without_cache": True}])
    updates = next(tables.speed(noted)).frame["pays"].tolist()
    assert updates == pytest.approx([np.nan, 20.0], nan_ok=True)  # 10 s at half a second each
    (table,) = STUDY.tables(_times(status="failed"))
    assert table.frame["log_prob_seconds"].tolist() == [2.0, "failed"]
    assert STUDY.figures(_times().assign(status="failed")) == []
