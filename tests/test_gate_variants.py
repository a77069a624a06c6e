"""A hundred variants of sound records, each with the exit status that the gate owes it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cli.app import app
from benchmarks.core.record import SCHEMA, Record
from benchmarks.gate.comparison import compare
from records import HERE, cli, cost, density, record

PASSED, FAILED, REFUSED = 0, 1, 2
Fields = dict[str, Any]
Change = Callable[[Fields], object]
Variant = tuple[str, Change, int]  # which record, what is done to its JSON, and the exit status

TIMES = {name: [0.2] * 9 for name in ("log_prob_seconds", "reference_seconds")}
MEASURED: dict[str, Record] = {
    "cost": record(cost().case, {"log_prob_flops": 100.0, "sample_rate": [5.0] * 9, **TIMES}),
    "other": cost(3),
    "failed": cost(4, status="failed", reason="diverged"),
    "single": record(
        density(0, 0, flow="nsf").case,
        {"test_ll": -5.0, "test_ll_se": 0.01, "sliced_wasserstein": 0.1},
    ),
    **{f"seed {seed}": density(seed, -5.0 + 0.01 * seed) for seed in range(4)},
}
SOUND: dict[str, Fields] = {
    name: json.loads(r.model_dump_json(by_alias=True)) for name, r in MEASURED.items()
}


def to(metric: str, *values: float | str) -> Change:
    """Give a metric other values."""
    return lambda fields: fields["metrics"].update({metric: list(values)})


def without(metric: str) -> Change:
    """Take a metric away."""
    return lambda fields: fields["metrics"].pop(metric)


def having(**changes: object) -> Change:
    """Change fields of the record."""
    return lambda fields: fields.update(changes)


def scaled(factor: float, *metrics: str) -> Change:
    """Multiply the values of metrics."""

    def change(fields: Fields) -> None:
        for metric in metrics:
            fields["metrics"][metric] = [factor * value for value in fields["metrics"][metric]]

    return change


METRICS = {
    "cost": ("log_prob_flops", "log_prob_seconds", "sample_rate", "reference_seconds"),
    "single": ("test_ll", "test_ll_se", "sliced_wasserstein"),
    "seed 2": ("test_ll",),
}
SPOILT: dict[str, Callable[[str], Change]] = {
    "nan": lambda metric: to(metric, "nan"),
    "inf": lambda metric: to(metric, "inf"),
    "-inf": lambda metric: to(metric, "-inf"),
    "partly nan": lambda metric: to(metric, *[0.1] * 8, "nan"),
    "empty": to,
    "missing": without,
}
VARIANTS: dict[str, Variant] = {
    **{
        f"{name}: {metric} {kind}": (name, spoil(metric), FAILED)
        for name, metrics in METRICS.items()
        for metric in metrics
        for kind, spoil in SPOILT.items()
    },
    **{
        f"values of {values!r}": ("cost", having(metrics={"parameters": values}), REFUSED)
        for values in (["many"], [None], [[1]], None, {})
    },
    **{
        f"{metric} of {value}": ("cost", to(metric, *[value] * 9), FAILED)
        for metric in METRICS["cost"][1:]
        for value in (0.0, -0.2)
    },
    **{
        f"a count of {value}": ("cost", to("log_prob_flops", *value), FAILED)
        for value in ([101], [99], [100 + 1e-9], [100, 100], [1e5], [0.1], [-100], [0])
    },
    "the same": ("cost", having(), PASSED),
    "one more field": ("cost", having(later=[1]), PASSED),
    "an unknown metric": ("cost", to("mine", 3.0), PASSED),
    "no times beside others": ("other", having(pending=True), PASSED),
    "a version raised": ("cost", having(declared={"flow realnvp": [2, 1]}), PASSED),
    "worse": ("single", to("test_ll", -5.1), FAILED),
    "within its error": ("single", to("test_ll", -5.01), PASSED),
    "better": ("single", to("test_ll", -4.9), PASSED),
    "rounded": ("single", to("test_ll", -5.0 - 1e-9), PASSED),
    "worse, and no error": ("single", to("sliced_wasserstein", 0.101), FAILED),
    "better, and no error": ("single", to("sliced_wasserstein", 0.09), PASSED),
    "rounded, and no error": ("single", to("sliced_wasserstein", 0.1 + 1e-10), PASSED),
    "one seed of several": ("seed 3", to("test_ll", -4.98), PASSED),
    "slower": ("cost", scaled(1.3, "log_prob_seconds"), FAILED),
    "a lower rate": ("cost", scaled(0.7, "sample_rate"), FAILED),
    "slightly slower": ("cost", scaled(1.05, "log_prob_seconds"), PASSED),
    "faster": ("cost", scaled(0.7, "log_prob_seconds"), PASSED),
    "a slow machine": ("cost", scaled(1.3, *TIMES), PASSED),
    "one sample": ("cost", to("log_prob_seconds", 0.9), PASSED),
    "another machine": ("cost", having(machine={**HERE, "cpu": "another"}), PASSED),
    "an unknown machine": ("cost", having(machine={}), PASSED),
    # cases
    **{
        f"now {status}": ("other", having(status=status, reason="x"), FAILED)
        for status in ("failed", "timeout", "skipped")
    },
    "failed otherwise": ("failed", having(status="timeout"), PASSED),
    "done now": ("failed", having(status="done"), PASSED),
    "no such status": ("other", having(status="perhaps"), REFUSED),
    "another key": ("other", having(key="0" * 16), REFUSED),
    "another identity": ("other", having(identity={}), REFUSED),
    "another protocol": (
        "other", lambda f: f.update(case={**f["case"], "protocol": "0"}), REFUSED,
    ),
    "a newer schema": ("other", having(schema=SCHEMA + 1), REFUSED),
    "metrics in a list": ("other", having(metrics=[100]), REFUSED),
    "another torch": ("other", having(versions={"torch": "2.14.0"}), REFUSED),
    "no versions": ("other", having(versions={}), REFUSED),
}  # fmt: skip


def write(folder: Path, records: dict[str, Fields]) -> Path:
    """A results folder of records' JSON."""
    (folder / "records").mkdir(parents=True, exist_ok=True)
    for name, fields in records.items():
        key = SOUND[name]["key"]
        (folder / "records" / f"{key}.json").write_text(json.dumps(fields))
    return folder


def changed(*changes: tuple[str, Change]) -> dict[str, Fields]:
    """The sound records after changes."""
    records: dict[str, Fields] = json.loads(json.dumps(SOUND))
    for name, change in changes:
        change(records[name])
    return records


@pytest.fixture
def status(tmp_path: Path) -> Callable[..., int]:
    """The exit status of the gate for records against others, by default the sound ones."""

    numbers = itertools.count()

    def judge(new: dict[str, Fields], base: dict[str, Fields] = SOUND, *allow: str) -> int:
        sides = [write(tmp_path / str(next(numbers)), records) for records in (base, new)]
        try:
            verdict = compare(*sides, allow=allow)
        except ValueError:
            return REFUSED
        return verdict.status

    return judge


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_has_its_exit_status(status: Callable[..., int], name: str) -> None:
    victim, change, expected = VARIANTS[name]
    beside = {n for n in SOUND if n in (victim, "cost") or n[:4] == victim[:4]}  # to save time
    base, new = ({n: side[n] for n in beside} for side in (SOUND, changed((victim, change))))
    assert status(new, base) == expected


@pytest.mark.parametrize("name", SOUND)
def test_a_case_that_is_lost_fails_and_one_more_passes(
    status: Callable[..., int], name: str
) -> None:
    fewer = {n: fields for n, fields in SOUND.items() if n != name}
    assert status(fewer) == FAILED
    assert status(SOUND, fewer) == (FAILED if name == "failed" else PASSED)


@pytest.mark.parametrize("content", ["", "{", "null", '{"schema": 1}'])
@pytest.mark.parametrize("side", ["base", "new"])
def test_a_side_that_is_not_whole_is_refused(tmp_path: Path, content: str, side: str) -> None:
    folders = {name: write(tmp_path / name, SOUND) for name in ("base", "new")}
    (folders[side] / "records" / f"{SOUND['other']['key']}.json").write_text(content)
    result = cli.invoke(app, ["compare", *map(str, folders.values())])
    assert result.exit_code == REFUSED, result.output
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_baseline_with_a_newer_record_is_refused(status: Callable[..., int]) -> None:
    """Whose case would else seem to be new."""
    assert status(SOUND, changed(("other", having(schema=SCHEMA + 1)))) == REFUSED


def test_what_was_no_number_before_may_become_one_and_not_another(
    status: Callable[..., int],
) -> None:
    base = changed(("single", to("test_ll", "inf")))
    assert status(SOUND, base) == PASSED
    assert status(base, base) == PASSED
    assert status(changed(("single", to("test_ll", "-inf"))), base) == FAILED
    undefined = changed(("single", to("test_ll", "nan")))
    assert status(undefined, undefined) == PASSED
    assert status(base, undefined) == FAILED


def test_a_metric_that_the_first_seed_lacks_is_judged(status: Callable[..., int]) -> None:
    base = changed(*((f"seed {seed}", to("gap", 0.1 + 0.001 * seed)) for seed in (1, 2, 3)))
    worse = [(f"seed {seed}", to("gap", 0.3 + 0.002 * seed)) for seed in (1, 2, 3)]
    assert status(changed(*worse), base) == FAILED


def test_what_is_worse_and_cannot_be_judged_fails_unless_its_case_is_allowed(
    status: Callable[..., int],
) -> None:
    """One seed whose error is zero or none, and counts that all move by one step."""
    for change in (to("test_ll_se", 0.0), to("test_ll_se", "nan")):
        base, new = (changed(("single", change)) for _ in range(2))
        to("test_ll", -100.0)(new["single"])
        assert status(new, base) == FAILED
        assert status(new, base, "density nsf*") == PASSED
    fewer = {name: fields for name, fields in SOUND.items() if name != "other"}
    for pattern in ("cost realnvp D=3", "*D=3"):
        assert status(fewer, SOUND, pattern) == PASSED
    steps = [
        changed(*((f"seed {seed}", to("sample_nfe", nfe)) for seed in range(4))) for nfe in (14, 20)
    ]
    assert status(steps[1], steps[0]) == FAILED
    assert status(steps[0], steps[1]) == PASSED


def test_a_seed_more_is_no_reason_to_fail(status: Callable[..., int]) -> None:
    one = {name: SOUND[name] for name in ("cost", "seed 0")}
    two = one | {"seed 1": changed(("seed 1", to("test_ll", -5.5)))["seed 1"]}
    assert status(two, one) == PASSED
    assert status(one, two) == FAILED


def test_a_verdict_on_nothing_is_no_pass(status: Callable[..., int], tmp_path: Path) -> None:
    times = changed(("cost", without("log_prob_flops")))["cost"]
    elsewhere = {**times, "machine": {**HERE, "cpu": "another"}}
    assert status({"cost": elsewhere}, {"cost": times}) == REFUSED
    assert status({"failed": SOUND["failed"]}, {"failed": SOUND["failed"]}) == REFUSED
    sides = [str(write(tmp_path / name, {"failed": SOUND["failed"]})) for name in ("a", "b")]
    assert cli.invoke(app, ["compare", *sides]).exit_code == REFUSED
