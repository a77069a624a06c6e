"""Protocols: their rules for every flow and set, their order, and cases made by them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

import flows
from benchmarks import protocols
from benchmarks.core.study import Common, registry
from benchmarks.datasets.maf import PUBLISHED
from benchmarks.studies.density.study import DensityOptions
from benchmarks.studies.trainees import Trainee
from benchmarks.training.settings import Training
from flows.continuous.ffjord import TABLE_4

DENSITY = registry["density"]


@pytest.mark.parametrize("name", protocols.names())
def test_every_rule_of_a_protocol_can_be_trained(name: str) -> None:
    """Its flows take their options, and its settings are a training's, on every set it names."""
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
    """Those of the library, of as many parameters; and the five published sets, no other."""
    options = protocols.read("ffjord").of("ffjord", name.lower()).options
    table = {key: value for key, value in TABLE_4[name].items() if key != "dim"}
    assert {key: options[key] for key in table} == table
    dim = PUBLISHED[name.lower()].dim
    flow, known = flows.build("ffjord", dim, **options), flows.build("ffjord", **TABLE_4[name])
    assert [p.shape for p in flow.parameters()] == [p.shape for p in known.parameters()]


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
    study, training = resolved(
        {"flow": "realnvp"}, protocol="quick", updates=7, training={"clip": 2.0}
    )
    assert study.updates == 7
    assert training == Training(**rule.training, clip=2.0)
    flow = {"flow": "realnvp", "updates": 9, "training": {"clip": 3.0}, "options": {"layers": 2}}
    own, training = resolved(
        flow, protocol="quick", updates=7, training={"clip": 2.0}, sizes={"hidden": 5}
    )
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
        list(DENSITY.cases(DensityOptions.model_validate(about), Common()))
    about["training"] = {"patience": 3}
    (case,) = DENSITY.cases(DensityOptions.model_validate(about), Common())
    assert case.settings["training"]["schedule"] == "plateau"


def test_a_case_holds_the_rules_of_its_protocol() -> None:
    """So that its key changes with it, and is that of one where all is written out."""
    rule = protocols.read("quick").of("ffjord", "8gaussians")
    common, about = Common(), {"datasets": ["8gaussians"], "baselines": []}
    short = {"flows": [{"flow": "ffjord", "protocol": "quick"}], **about}
    written = {"options": rule.options, "training": rule.training, "updates": rule.updates}
    long = {"flows": [{"flow": "ffjord", "batch": rule.batch, **written}], **about}
    one, other = (
        list(DENSITY.cases(DensityOptions.model_validate(o), common)) for o in (short, long)
    )
    assert [case.key for case in one] == [case.key for case in other]
