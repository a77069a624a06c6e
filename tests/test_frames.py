"""Frames: metrics, pairs of cases, times that may be quoted."""

from typing import Any

import pandas as pd
import pytest
from pages import quotable

from benchmarks.analysis.contests import trained
from benchmarks.core import metrics
from benchmarks.core import naming as pairs
from benchmarks.core.case import Case, Seeds
from benchmarks.core.exhibit import Column
from benchmarks.core.frame import BUSY, NOISY, cautions, load, of_one_place, place
from benchmarks.core.frame import SCATTERED as SCATTERED_TIMES
from benchmarks.core.metrics import FILE, METRICS, read
from benchmarks.core.study import Result
from committed import ROOT
from records import folder, record

ROW = {"about": "an error", "unit": "s", "better": "lower", "kind": "time"}
UNKNOWN = "_".join(METRICS)  # longer than every name


@pytest.mark.parametrize("change", [{"display": "MiB"}, {"colour": "red"}], ids=str)
def test_a_faulty_row_is_named_with_its_file(change):
    assert read({"fine": ROW})["fine"].unit == "s"
    with pytest.raises(ValueError, match=rf"(?s)odd_metric.*{FILE}"):
        read({"fine": ROW, "odd_metric": ROW | change})


@pytest.mark.parametrize(
    "use", [Column.of, lambda name: Result({name: 1.0})], ids=["table", "case"]
)
def test_a_metric_without_a_row_is_named_with_the_file(use):
    with pytest.raises(ValueError, match=rf"(?s){UNKNOWN}.*{FILE}"):
        use(UNKNOWN)


def test_a_plug_in_adds_a_metric(monkeypatch):
    """Once or more with the same meaning; another meaning needs another name."""
    monkeypatch.setattr(metrics, "METRICS", dict(metrics.METRICS))
    row = {"about": "slope", "unit": "", "better": "lower", "kind": "quality"}
    for _ in range(2):
        metrics.register("largest_slope", **row)
    assert metrics.defined("largest_slope").about == "slope"
    with pytest.raises(ValueError, match="'parameters' is defined already"):
        metrics.register("parameters", **row)


DOUBLE, META, CUDA = {"dtype": "float64"}, {"device": "meta"}, {"device": "cuda"}
TWO, BRIEF, LONG = {"threads": 2}, {"settings": {"seconds": 1.0}}, {"settings": {"seconds": 2.0}}
NEEDS = {"needs": ("a" * 16,), "resolves": "b" * 16}
OTHERS = {"dim": 3}, {"seeds": Seeds.of(1)}, META, {"updates": 1}
SIDES: dict[str, tuple[list[list[dict[str, Any]]], str]] = {
    # fields of the cases of each side, and a word a side, in which equal letters are the same case
    "wherever it is measured": ([[c] for c in ({}, TWO, CUDA, DOUBLE, LONG, NEEDS)], "a " * 6),
    "what is measured": ([[c] for c in ({}, *OTHERS)], "a b c d e"),
    "several threads": ([[{}, TWO], [TWO, {}]], "ab ba"),
    "several precisions": ([[{}, DOUBLE], [DOUBLE, {}]], "ab ba"),
    "several precisions of one side": ([[{}, {"dim": 3, **DOUBLE}], [DOUBLE]], "ab c"),
    "counts beside times": ([[META, {}], [META, CUDA]], "ab ab"),
    "means alone": ([[BRIEF, LONG], [LONG]], "ab b"),
}


@pytest.mark.parametrize(("sides", "words"), SIDES.values(), ids=SIDES)
def test_a_case_is_the_same_wherever_it_is_measured(sides, words):
    """But by what a side has several of it is told apart: a study may compare precisions."""
    about, letters = {"study": "cost", "flow": "realnvp", "dim": 2, "batch": 4}, {}
    cases = [[Case(**{**about, **fields}) for fields in side] for side in sides]
    same = [
        "".join(letters.setdefault(case.key, "abcde"[len(letters)]) for case in side)
        for side in pairs.common(cases)
    ]
    assert same == words.split()


QUIET = {"other_cores": BUSY / 4, "stolen_cores": BUSY / 4}
STEADY = [1.0, 1.0 + NOISY / 4, 1.0 + NOISY / 2]
SCATTERED = [1.0, 1.0 + NOISY, 1.0 + 4 * NOISY]
HERE, THERE = {"cpu": "a", "cores": 2, "system": "Linux"}, {"cpu": "b", "cores": 2}


def _row(key: str, reference: list[float] | None = STEADY, **fields: Any) -> dict[str, Any]:
    about: dict[str, Any] = {"block": None, "shared": QUIET, "machine": HERE, "device": "cpu"}
    about |= {"versions": {"torch": "2.13.1"}, "arrays": None, "array_hashes": {}}
    times = {"log_prob_seconds": 2.0, "log_prob_seconds.values": [2.0]}
    return {"key": key, "reference_seconds.values": reference, **about, **times, **fields}


@pytest.mark.parametrize(
    ("changes", "may"),
    [
        ({}, True),
        ({"shared": None}, False),  # not known
        ({"shared": {"other_cores": BUSY, "stolen_cores": 0.0}}, False),
        ({"shared": {"other_cores": 0.6 * BUSY, "stolen_cores": 0.6 * BUSY}}, False),  # together
        ({"reference": SCATTERED}, False),
        ({"reference": None}, False),
        ({"reference": [1.0]}, False),  # nothing to see scatter by
    ],
)
def test_times_of_a_quiet_machine_may_be_quoted_and_no_others(changes, may):
    frame = pd.DataFrame([_row("a", **changes), _row("b")])
    assert (cautions(frame) == "").tolist() == [may, True]


def test_a_block_is_quotable_as_a_whole_or_not_at_all():
    rows = [_row("a", SCATTERED, block="x"), _row("b", block="x"), _row("c", block="y")]
    assert (cautions(pd.DataFrame(rows)) == "").tolist() == [False, False, True]


def test_of_a_noisy_block_ratios_may_be_quoted_where_all_are_timed_in_the_same_rounds():
    reasons = [SCATTERED_TIMES, "other work ran on the machine"]
    for keys in (["a", "b", "c"], []):
        frame = pd.DataFrame([_row(key) for key in "abc"])
        quoted = quotable(frame, dict(zip("ab", reasons, strict=True)), keys)
        assert quoted["log_prob_seconds"].notna().tolist() == [False, False, True]
        raw = [bool(keys), False, True]
        assert quoted["log_prob_seconds.values"].notna().tolist() == raw
        assert quoted["reference_seconds.values"].notna().tolist() == raw
        assert frame["log_prob_seconds"].notna().all()


def test_a_place_is_a_machine_class_and_a_minor_version_of_torch():
    versions = {"torch": "2.13.1"}
    same = [place({**HERE, "load": 3}, versions), place(HERE, {"torch": "2.13.0+cpu"})]
    assert set(same) == {place(HERE, versions)}
    gpu = {**HERE, "gpu": "g"}
    others = [
        place(THERE, versions), place(HERE, {"torch": "2.14.0"}), place({}, versions),
        place(gpu, versions, "cuda:0"), place({**HERE, "instructions": "AVX512"}, versions),
    ]  # fmt: skip
    assert len({*others, *same}) == 6
    assert place(gpu, versions) == place(HERE, versions)  # of the processor


def test_a_frame_keeps_the_times_of_the_most_frequent_place():
    """Of others it keeps the counts, and the arrays without seconds."""
    kept = {"validation_ll": "1"}
    arrays = {"arrays": "x.npz", "array_hashes": {**kept, "validation_seconds": ""}}
    rows = [_row(key, parameters=n) for key, n in (("a", 1.0), ("b", 2.0))]
    frame = pd.DataFrame([*rows, _row("c", parameters=3.0, machine=THERE, **arrays)])
    quotable, note = of_one_place(frame)
    assert place(HERE, {"torch": "2.13"}) in note
    assert quotable.loc[2, ["log_prob_seconds", "reference_seconds.values"]].isna().all()
    assert quotable["arrays"].fillna("").tolist() == ["", "", "x.npz"]
    assert quotable.loc[2, "array_hashes"] == kept
    assert quotable["parameters"].tolist() == [1.0, 2.0, 3.0]
    pd.testing.assert_frame_equal(quotable[:2], frame[:2], check_dtype=False)
    same, note = of_one_place(frame[:2])
    assert same.equals(frame[:2])
    assert not note


def test_a_training_that_ends_by_seconds_has_the_updates_that_it_did(tmp_path):
    """By which claims admit it: its case plans one."""
    settings = {"training": {"cpu_seconds": 60.0}}
    case = Case(study="search", flow="maf", dim=6, batch=4, updates=1, settings=settings)
    frame = load(folder(tmp_path, record(case, {"train_updates": 700})))
    assert frame["updates"].tolist() == [700]
    assert len(trained(frame)) == 1


def test_runs_of_other_studies_stand_side_by_side():
    """Those of peers have stages that are not a search's."""
    frame = load(ROOT / "complexity", ROOT / "libraries")
    assert len(pairs.series(frame)) == len(frame)
