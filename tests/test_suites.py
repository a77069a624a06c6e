"""Suites, plans and protocols: cases, keys, overrides, folders that stand for them, rules."""

import json
import shutil
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import flows
from benchmarks import protocols
from benchmarks.core import store
from benchmarks.core.case import Case
from benchmarks.core.frame import load
from benchmarks.core.naming import labels
from benchmarks.datasets.maf import PUBLISHED
from benchmarks.execution import suite
from benchmarks.execution.plan import Shard, budget, dealt, tasks, wall_seconds
from benchmarks.studies.contender import Trainee
from benchmarks.studies.density.study import DensityOptions
from benchmarks.training.settings import Training
from committed import ROOT
from flows.continuous.ffjord import TABLE_4
from measuring import cases_of
from runs import COST, flowgauge, toml


def test_studies_of_a_suite_have_its_cases():
    full = suite.read("complexity")
    every = [(case.key, {case.study, case.former}) for case in full.cases()]
    for names in (["identities"], ["trace", "nfe"]):
        cases = [key for key, own in every if own & {*names}]
        assert [case.key for case in full.only(names).cases()] == cases


def test_a_results_folder_stands_for_the_suite_that_was_run_there(tmp_path):
    """Its plan is asked, and the folder itself for its records."""
    folder = tmp_path / "mine"
    shutil.copytree(ROOT / "truth", folder, ignore=shutil.ignore_patterns("report"))
    plan = json.loads((folder / "suite.json").read_text())
    plan["suite"]["seeds"] = [0, 7]
    (folder / "suite.json").write_text(json.dumps(plan))
    chosen, known = suite.read(str(folder)), set(load(folder)["key"])
    assert chosen.seeds == (0, 7)
    cases = chosen.cases()
    new = [case.key for case in cases if case.key not in known]
    assert all(case.key in new for case in cases if case.seeds.init == 7)
    groups = json.loads(flowgauge("status", folder, "--json", "-", status=1).stdout)
    assert [entry["key"] for entry in groups["missing"]] == new != []
    assert len(groups["done"]) + len(groups["stale"]) == len(cases) - len(new)
    (folder / "suite.json").write_text(json.dumps(plan | {"suite": {}}))  # as of a merge
    assert "several suites" in flowgauge("status", folder, status=2).stderr
    (folder / "suite.json").write_text("[]")
    assert "is not a plan" in flowgauge("status", folder, status=2).stderr


@pytest.mark.parametrize("name", suite.names())
def test_every_suite_expands_to_distinct_cases(name):
    """And a person can tell them apart, by labels that say no more than that takes."""
    cases = suite.read(name).cases()
    assert len({case.key for case in cases}) == len(cases) > 0
    names = labels(cases)
    assert len(set(names.values())) == len(cases)
    for case in cases:
        assert names[case.key].startswith(case.label)


def test_overrides_reach_every_part_of_a_suite():
    overrides = ["threads=1", "seeds=[3, 4]", "cost.batch=7", "density.training.clip=2.0"]
    chosen = suite.read("smoke", overrides)
    assert (chosen.threads, chosen.seeds) == (1, (3, 4))
    cases = chosen.cases()
    assert {case.batch for case in cases if case.study == "cost"} == {7}
    trained = [case for case in cases if case.study == "density" and case.updates]
    assert {case.settings["training"]["clip"] for case in trained} == {2.0}


@pytest.mark.parametrize(
    "change",
    [
        {"dim": 3}, {"flow": "glow"}, {"batch": 9}, {"updates": 1}, {"threads": 2},
        {"options": {"hidden": 8}}, {"settings": {"x": 1}}, {"dtype": "float64"},
        {"device": "cuda"}, {"dataset": "magic"}, {"protocol": "0"}, {"seeds": {"noise": 1}},
    ],
)  # fmt: skip
def test_whatever_can_change_a_number_changes_the_key(change):
    case = {"study": "cost", "flow": "realnvp", "dim": 2, "batch": 4, "options": {"hidden": 4}}
    assert Case(**case).key != Case(**{**case, **change}).key
    assert Case(**case).key == Case(**dict(reversed(case.items()))).key


def cost(*dims: int) -> str:
    """The text of a suite with a flow that can be constructed, and one that cannot."""
    broken = {"flow": "cnf", "options": {"hidden": -5}}
    return toml(COST | {"dims": dims, "seconds": 0, "flows": ["realnvp", broken]})


REASON = "hidden"  # the option at fault


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_dry_run_and_status_name_what_cannot_be_constructed(empty):
    (empty / "one.toml").write_text(cost(2, 4))
    assert REASON in flowgauge("run", "one.toml", "--dry-run", status=2).stderr
    status = flowgauge("status", "one.toml", "--json", "-", status=1)
    missing = json.loads(status.stdout)["missing"]
    assert sum(REASON in case["reason"] for case in missing) == 1
    assert REASON in flowgauge("status", "one.toml", status=1).stdout


@pytest.mark.slow
def test_failures_that_are_kept_are_told_with_the_remedy(empty):
    (empty / "one.toml").write_text(cost(2))
    for kept in (False, True):
        result = flowgauge("run", "one.toml", status=1)
        assert (REASON in result.stdout) != kept
        assert ("--retry" in result.stdout) == kept
    assert {r.status for r in store.read(empty / "results" / "one").values()} == {"done", "failed"}


def test_report_takes_the_name_of_a_suite_that_was_run(empty):
    flowgauge("report", "quick", status=2)
    assert not list(empty.iterdir())
    (empty / "results" / "quick" / "records").mkdir(parents=True)
    flowgauge("report", "quick")
    assert (empty / "results" / "quick" / "report").is_dir()


@pytest.mark.parametrize(("key", "flows"), [("updates", ["realnvp"]), ("batch", [])])
def test_an_override_names_the_flows_that_it_does_not_reach(key, flows):
    trained = [{"flow": "realnvp", "updates": 7}, {"flow": "maf"}]
    values = {"studies": [{"study": "density", "datasets": ["8gaussians"], "flows": trained}]}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        suite.override(values, f"density.{key}=5")
    assert values["studies"][0][key] == 5
    assert values["studies"][0]["flows"][0]["updates"] == 7
    for flow in ("realnvp", "maf"):
        assert any(flow in str(w.message) for w in caught) == (flow in flows)


def test_a_machine_without_data_or_gpu_plans_what_others_measure(empty, monkeypatch):
    monkeypatch.setenv("FLOWGAUGE_DATA", str(empty))
    chosen = ["quick", "--study", "density", "--data", "gas", "--device", "cuda"]
    flowgauge("run", *chosen, "--dry-run")
    assert not (empty / "results").exists()
    status = flowgauge("status", *chosen, "--json", "-", status=1)
    assert len(json.loads(status.stdout)["missing"]) > 0
    assert "cuda" in flowgauge("run", *chosen, status=2).stderr
    chosen = [part for part in chosen if part not in ("--device", "cuda")]
    assert "data fetch gas" in flowgauge("run", *chosen, status=2).stderr


def test_a_set_of_a_suite_stays_with_its_studies_and_any_other_goes_to_all():
    quick = suite.read("quick")
    own = {case.key for case in quick.on(["magic"]).cases() if case.dataset}
    assert own == {case.key for case in quick.cases() if case.dataset == "magic"}
    takes = [entry | {"datasets": ["rings"]} for entry in quick.studies if "datasets" in entry]
    assert takes == [entry for entry in quick.on(["rings"]).studies if "datasets" in entry]


budgets = st.lists(st.floats(0.01, 1000), min_size=1, max_size=60)


@pytest.fixture(scope="module")
def cases():
    return suite.read("smoke").cases()


@given(budgets, st.integers(1, 12))
def test_dealing_loses_nothing_and_is_near_the_lower_bound(given_budgets, count):
    hands = dealt(given_budgets, count)
    assert sorted(index for hand in hands for index in hand) == list(range(len(given_budgets)))
    longest = max(sum(given_budgets[i] for i in hand) for hand in hands)
    bound = max(sum(given_budgets) / count, *given_budgets)
    assert longest <= (4 / 3) * bound * (1 + 1e-9) + max(given_budgets) / 3


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_are_a_partition_that_keeps_blocks_whole(cases, count):
    parts = [Shard(number, count).part(cases) for number in range(1, count + 1)]
    assert sorted(c.key for part in parts for c in part) == sorted(c.key for c in cases)
    place = {case.key: number for number, part in enumerate(parts) for case in part}
    for task in tasks(cases):
        assert len({place[case.key] for case in task.cases}) == 1
    assert any(case.needs for case in cases)
    assert all(place[key] == place[case.key] for case in cases for key in case.needs)
    assert [c.key for c in parts[0]] == [c.key for c in cases if place[c.key] == 0]


def test_a_key_stands_for_the_part_that_has_its_case(cases):
    for task in tasks(cases)[:3]:
        part = {case.key for case in Shard.of(task.key).part(cases)}
        assert {case.key for case in task.cases} <= part
        assert all(key in part for case in cases if case.key in part for key in case.needs)
    with pytest.raises(ValueError, match="0000"):
        Shard.of("0" * 16).part(cases)


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "a/b", "1/2/3", "-1/2", "1.5/2"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(ValueError, match="K/N"):
        Shard.of(text)


def test_more_jobs_shorten_what_runs_side_by_side_alone(cases):
    total = sum(budget(case) for case in cases)
    walls = [wall_seconds(cases, jobs) for jobs in (1, 2, 4, 1000)]
    assert walls[0] == pytest.approx(total)
    assert walls == sorted(walls, reverse=True)
    alone = sum(task.budget for task in tasks(cases) if task.alone)
    assert walls[-1] > alone > 0


@pytest.mark.parametrize("name", protocols.names())
def test_every_rule_of_a_protocol_can_be_trained(name: str) -> None:
    read = protocols.read(name)
    assert read.version >= 1
    for flow in {flow for rule in read.rules for flow in rule.flows} - {"*"}:
        for dataset in {dataset for rule in read.rules for dataset in rule.datasets}:
            try:
                rule = read.of(flow, dataset)
            except ValueError:
                continue
            flows.members[flow].complete(rule.options)
            training = Training.model_validate(rule.training)
            assert rule.batch
            assert rule.updates
            assert not training.patience or training.keep == "best"
            stated = {"batch", "updates", *rule.training, *rule.options}
            assert set(rule.ours) <= stated


@pytest.mark.parametrize("name", TABLE_4)
def test_ffjord_has_the_nets_of_its_table_4(name: str) -> None:
    options = protocols.read("ffjord").of("ffjord", name.lower()).options
    table = {key: value for key, value in TABLE_4[name].items() if key != "dim"}
    assert {key: options[key] for key in table} == table
    assert PUBLISHED[name.lower()].dim == TABLE_4[name]["dim"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seeds": range(200_000)}, "200,000 cases, and 100,000 are the most.* seeds"),
        ({"seeds": range(400), "flows": 400 * ["realnvp"]}, "160,000 cases"),
        ({"sizes": {"layers": 10**8}}, "layers: 100,000,000, and 10,000 are the most"),
        ({"flows": [{"flow": "realnvp", "options": {"hidden": 10**9}}]}, "hidden: 1,000,000,000"),
        ({"device": "meta"}, "'meta' holds no numbers"),
    ],
)
def test_what_nobody_can_measure_is_refused_with_its_number_and_the_limit(changes, words) -> None:
    study = {"study": "density", "flows": ["realnvp"], "baselines": [], "datasets": ["8gaussians"]}
    study |= {k: v for k, v in changes.items() if k in ("sizes", "flows", "datasets")}
    values = {k: v for k, v in changes.items() if k in ("seeds", "device")}
    with pytest.raises(ValueError, match=words):
        suite.Suite(name="x", studies=(study,), **values).cases()


def test_faults_name_the_choices() -> None:
    with pytest.raises(ValueError, match=r"nosuch.*ffjord, nsf, quick"):
        protocols.read("nosuch")
    with pytest.raises(ValueError, match=r"'ffjord' on 'magic'.*bsds300, gas"):
        protocols.read("ffjord").of("ffjord", "magic")
    with pytest.raises(ValueError, match=r"flow 'glow'.*nsf_ar, nsf_coupling"):
        protocols.read("nsf").of("glow", "power")
    with pytest.raises(ValueError, match=r"'mine'.*rules\.0\.batch"):
        protocols.parsed("mine", 'about = ""\n[[rules]]\nbatch = 0')


def test_nearer_options_override() -> None:
    """A flow before its study, the study before the protocol, a later rule before an earlier."""
    rule = protocols.read("quick").of("realnvp", "magic")
    assert rule.training["preprocessing"] == "whiten"
    assert protocols.read("quick").of("realnvp", "moons").training["preprocessing"] == "none"

    def resolved(flow: dict[str, object], **study: object) -> tuple[Trainee, Training]:
        options = DensityOptions.model_validate({"flows": [flow], "datasets": ["magic"], **study})
        return options.resolve(options.flows[0], "magic")

    named, training = resolved({"flow": "realnvp", "protocol": "quick"})
    assert (named.batch, named.updates) == (rule.batch, rule.updates)
    assert training == Training(**rule.training)
    of_study = resolved({"flow": "realnvp"}, protocol="quick")
    assert of_study == (named.model_copy(update={"protocol": None}), training)
    nearer = {"protocol": "quick", "updates": 7, "training": {"clip": 2.0}}
    study, training = resolved({"flow": "realnvp"}, **nearer)
    assert study.updates == 7
    assert training == Training(**rule.training, clip=2.0)
    flow = {"flow": "realnvp", "updates": 9, "training": {"clip": 3.0}, "options": {"layers": 2}}
    own, training = resolved(flow, **nearer, sizes={"hidden": 5})
    assert own.updates == 9
    assert training.clip == 3.0
    assert own.options == {**rule.options, "hidden": 5, "layers": 2}
    wide, _ = resolved({"flow": "realnvp", "parameters": 999}, protocol="quick")
    assert "hidden" not in wide.options
    assert resolved({"flow": "realnvp"})[0].options == {}


def test_training_options_of_a_flow_are_checked_when_they_are_read() -> None:
    """Each by itself; together once those of the study and of the protocol are known."""
    for training in ({"shedule": "cosine"}, {"clip": -1.0}, {"schedule": "linear"}):
        with pytest.raises(ValidationError):
            Trainee(flow="realnvp", training=training)
    plateau = {"flow": "realnvp", "training": {"schedule": "plateau"}}
    about = {"flows": [plateau], "datasets": ["8gaussians"], "baselines": []}
    with pytest.raises(ValueError, match=r"^training of flow 'realnvp': .*patience.*$"):
        cases_of("density", about)
    (case,) = cases_of("density", about | {"training": {"patience": 3}})
    assert case.settings["training"]["schedule"] == "plateau"


def test_a_case_holds_the_rules_of_its_protocol() -> None:
    """So that its key changes with it, and is that of one where all is written out."""
    rule = protocols.read("quick").of("ffjord", "8gaussians")
    written = {"options": rule.options, "training": rule.training, "updates": rule.updates}
    entries = {"protocol": "quick"}, {"batch": rule.batch, **written}
    about = {"datasets": ["8gaussians"], "baselines": []}
    one, other = (
        cases_of("density", about | {"flows": [{"flow": "ffjord", **entry}]}) for entry in entries
    )
    assert [case.key for case in one] == [case.key for case in other]
