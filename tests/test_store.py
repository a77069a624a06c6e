"""Results folders: they outlive writing, packing, joining and merging; damage is named."""

import errno
import json
import zipfile
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import benchmarks
from benchmarks.core import store
from benchmarks.core.case import Case, defaults_of
from benchmarks.core.naming import undigested
from benchmarks.core.record import SCHEMA, Declared, parsed
from benchmarks.execution.merging import SUPERSEDED, merge
from benchmarks.execution.plan import state
from benchmarks.execution.run import CHECKPOINTS, run
from benchmarks.execution.suite import Suite
from benchmarks.execution.versions import dependencies
from records import BATCH, arrays_of, case_of, content, edit, put, record_of, values
from runs import COST, Silent, flowgauge, refused

DTYPES = st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_])
ARRAYS = st.dictionaries(
    st.text("abcdefgh_", min_size=1, max_size=6),
    DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0))),
    max_size=3,
)
METRICS = st.dictionaries(st.text("xyz", min_size=1), st.lists(st.floats(), max_size=4))
SIZES = st.integers(1, 6)


def hashed(arrays: dict[str, np.ndarray]) -> dict[str, str]:
    """What is equal for arrays that agree in names, types, shapes and bits."""
    return {name: store.content_hash(array) for name, array in arrays.items()}


@settings(max_examples=15)
@given(st.dictionaries(SIZES, st.tuples(METRICS, ARRAYS), min_size=1), st.booleans())
def test_records_and_arrays_outlive_writing_packing_and_joining(written, join):
    with TemporaryDirectory() as name:
        folder = Path(name)
        for batch, (metrics, arrays) in written.items():
            put(folder, batch, arrays, **metrics)
            if join:
                store.pack(folder)  # a part a record
        metrics = {b: {n: tuple(v) for n, v in m.items()} for b, (m, _) in written.items()}
        for step in ("write", "pack", "join"):
            if step != "write":
                store.pack(folder, join=step == "join")
            np.testing.assert_equal(values(folder), metrics)
            read = arrays_of(folder)
            assert all(hashed(read[b]) == hashed(arrays) for b, (_, arrays) in written.items())
        assert len(store.tables(folder)) == 1
        assert not store.loose(folder)


@settings(max_examples=30)
@given(st.lists(st.tuples(SIZES, st.sampled_from(["write", "pack", "join"])), max_size=12))
def test_the_newest_record_counts_and_reading_changes_nothing(steps):
    """A loose record over a packed one, a later part over an earlier."""
    with TemporaryDirectory() as name:
        folder, expected = Path(name), {}
        for moment, (batch, step) in enumerate(steps):
            if step == "write":
                put(folder, batch, {"a": np.array([moment])}, x=moment)
                expected[batch] = moment
            else:
                store.pack(folder, join=step == "join")
            before = content(folder)
            assert values(folder) == {b: {"x": (float(m),)} for b, m in expected.items()}
            if expected:
                assert arrays_of(folder) == {b: {"a": np.array([m])} for b, m in expected.items()}
            assert not store.corrupt(folder)
            assert content(folder) == before


def test_a_part_is_never_rewritten_and_equal_arrays_are_kept_once(tmp_path):
    shared, before = np.arange(1000.0), {}
    for batch in (1, 2):
        put(tmp_path, batch, {"a": shared, "b": shared, "own": np.array([batch])})
        store.pack(tmp_path)
        assert before.items() <= content(tmp_path).items()
        before = content(tmp_path)
    assert store.pack(tmp_path) is None
    assert content(tmp_path) == before
    names = []
    for path in sorted(tmp_path.glob("arrays-*.zip")):
        with zipfile.ZipFile(path) as archive:
            names += archive.namelist()
    assert len(names) == len(set(names)) == 3
    expected = {"a": shared, "b": shared, "own": np.array([2])}
    assert hashed(arrays_of(tmp_path)[2]) == hashed(expected)


@pytest.mark.parametrize("packed", [(), (2,), (1, 2)], ids=["loose", "a part", "two parts"])
def test_arrays_that_are_dropped_leave_the_others_and_the_metrics(tmp_path, packed):
    join = bool(packed)
    for batch in (1, 2):
        put(tmp_path, batch, {"a": np.array([batch]), "b": np.arange(batch)}, log_prob_flops=7.0)
        if batch in packed:
            store.pack(tmp_path)
    before = values(tmp_path)
    with pytest.raises(ValueError, match="'c'"):
        store.pack(tmp_path, join=join, without=["a", "c"])
    store.pack(tmp_path, join=join, without=["a"])
    assert values(tmp_path) == before
    read = arrays_of(tmp_path)
    assert all(hashed(read[batch]) == hashed({"b": np.arange(batch)}) for batch in (1, 2))
    assert len(store.archives(tmp_path)) == 2


def test_arrays_of_a_record_that_was_cut_off_do_not_pass_for_those_of_the_packed_one(tmp_path):
    """Arrays are written first: without their record they belong to none."""
    path = put(tmp_path, arrays={"a": np.array([1.0])})
    store.pack(tmp_path)
    put(tmp_path, arrays={"a": np.array([2.0])})
    path.unlink()
    assert arrays_of(tmp_path) == {BATCH: {"a": np.array([1.0])}}


def test_arrays_of_a_later_measurement_are_not_those_of_a_row_that_was_read_before(tmp_path):
    put(tmp_path, arrays={"a": np.array([1.0])})
    ((_, row),) = benchmarks.load(tmp_path).iterrows()
    assert store.arrays(row) == {"a": np.array([1.0])}
    for arrays in ({"a": np.array([2.0])}, {"b": np.array([1.0])}):
        put(tmp_path, arrays=arrays)
        with pytest.raises(store.FolderError, match=store.RECORDS):
            store.arrays(row)


@pytest.mark.slow
def test_a_flipped_bit_of_a_part_is_refused_or_changes_nothing(tmp_path):
    put(tmp_path, 1)
    store.pack(tmp_path)
    (part,), before = store.tables(tmp_path), values(tmp_path)
    packed = part.read_bytes()
    for place in range(len(packed)):
        part.write_bytes(packed[:place] + bytes([packed[place] ^ 1]) + packed[place + 1 :])
        with suppress(store.FolderError):
            assert values(tmp_path) == before


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of a new record in a folder of two."""
    defaults = defaults_of(case_of(1))
    record = record_of(case_of(1).changed(options=defaults["options"]), {"parameters": 7.0})
    store.write(tmp_path, record.model_copy(update={"defaults": defaults}))
    put(tmp_path, 2)
    return tmp_path / store.RECORDS / f"{record.key}.json"


COMMANDS = ("report", "status", "pack", "pack --all", "run", "compare", "merge")
PLAN = {"name": "one", "suite": {"name": "one", "studies": []}, "cases": []}


def refusal(command: str, folder: Path) -> str:
    """Why a command does not take a folder, to which a plan of no cases is added."""
    (folder / "suite.json").write_text(json.dumps(PLAN))
    second = {"compare": [folder], "merge": ["--out", folder / "merged"]}
    return flowgauge(*command.split(), folder, *second.get(command, []), status=2).stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_record_whose_numbers_were_altered_ends_every_command(path: Path, command: str) -> None:
    edit(path, metrics={"parameters": [8.0]})
    assert path.name in refusal(command, path.parent.parent)
    assert path.is_file()


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    """By one bit: of an array, or of what kind of page the records are."""
    content = bytearray(path.read_bytes())
    place = len(content) // 2
    if path.suffix == ".parquet":
        group = pq.ParquetFile(path).metadata.row_group(0)
        place = group.column(group.num_columns - 1).data_page_offset + 1
    content[place] ^= 1
    path.write_bytes(content)


def replaced(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            with archive.open(name, "w") as file:
                np.save(file, np.arange(3))


def parted(folder: Path) -> Path:
    for batch in (1, 2, 3):
        put(folder, batch, {"a": np.arange(1000.0) + batch}, parameters=batch)
        store.pack(folder)
    return folder


DAMAGES = [(suffix, damage) for suffix in (".parquet", ".zip") for damage in (truncated, flipped)]
DAMAGES += [(".zip", replaced), (".zip", Path.unlink)]


@pytest.mark.parametrize(("suffix", "damage"), DAMAGES)
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_takes_a_part_for_sound_that_is_not(command, damage, suffix, tmp_path) -> None:
    (victim,) = parted(tmp_path).glob(f"*-0002{suffix}")
    damage(victim)
    before = content(tmp_path)
    assert str(tmp_path) in refusal(command, tmp_path)
    assert before.items() <= content(tmp_path).items()


def test_a_damaged_table_can_be_removed(tmp_path: Path) -> None:
    victim = parted(tmp_path) / "records-0002.parquet"
    victim.unlink()
    with pytest.warns(UserWarning, match=victim.name):
        assert len(store.read(tmp_path)) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "failed"}, {"declared": {"flow realnvp": [99, 1]}},
        {"files": {"file a.py": "0" * 16}}, {"notes": {"operators": {}}}, {"digest": ""},
    ],
)  # fmt: skip
def test_the_digest_is_of_all_that_decides_what_a_record_is_worth(path: Path, fields) -> None:
    edit(path, **fields)
    with pytest.raises(store.FolderError, match=path.name):
        store.read(path.parent.parent)


def test_a_record_without_a_digest_is_valid(path: Path) -> None:
    edit(path, digest="", defaults={})
    assert "2 records" in undigested(store.read(path.parent.parent).values())
    assert set(benchmarks.load(path.parent.parent)["parameters"].dropna()) == {7.0}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"status": "done"', '"status": "done", "status": "done"'),
        ('"dim": 2', '"dim": "2"'),
        ('cost": [\n   1', 'cost": [\n   "1"'),
        ("7.0", "true"),
        ("7.0", "NaN"),
        ('"depth": 2', '"depth": 3'),
    ],
)
def test_json_is_strict_and_a_case_is_that_of_its_key(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    parsed(text, path.stem)
    with pytest.raises(ValueError, match="it is no"):
        parsed(text.replace(before, after, 1), path.stem)


def test_a_later_record_states_the_defaults_of_an_earlier_one(tmp_path: Path) -> None:
    stated = {"options": {"option": 3}, "settings": {"setting": 5, "nested": {"part": 1}}}
    case = case_of(2).changed(settings={"setting": 6, "nested": {}})
    store.write(tmp_path, record_of(case_of(1)))
    store.write(tmp_path, record_of(case).model_copy(update={"defaults": stated}))
    frame = benchmarks.load(tmp_path).sort_values("batch")
    assert frame["option.option"].tolist() == [3, 3]
    assert frame["setting.setting"].tolist() == [5, 6]
    assert frame["setting.nested"].iloc[1] == {"part": 1}


@pytest.mark.parametrize("fields", [{}, {"status": "of a later release"}, {"case": 3}])
def test_a_loose_record_of_a_newer_schema_is_named_and_kept(tmp_path, fields):
    put(tmp_path, 1)
    victim = put(tmp_path, 2)
    edit(victim, schema=SCHEMA + 1, **fields)
    before = victim.read_bytes()
    with pytest.warns(UserWarning, match=victim.name):
        assert set(values(tmp_path)) == {1}
    assert not store.corrupt(tmp_path)
    assert store.newer(tmp_path).keys() == {victim.stem}
    store.set_aside(tmp_path)
    with pytest.warns(UserWarning, match=victim.name):
        store.pack(tmp_path)
    assert victim.read_bytes() == before
    with pytest.warns(UserWarning, match=victim.name):
        assert set(values(tmp_path)) == {1}


def test_a_run_measures_nothing_over_a_record_of_a_newer_schema(tmp_path):
    suite, progress = Suite(name="one", threads=1, studies=(COST,)), Silent()
    (case,) = suite.cases()
    store.write(tmp_path, record_of(case))
    (path,) = store.loose(tmp_path)
    edit(path, schema=SCHEMA + 1)
    before = path.read_bytes()
    with pytest.warns(UserWarning, match=path.name):
        run(suite, tmp_path, progress)
    assert progress.measured == []
    with pytest.warns(UserWarning, match=path.name):
        now = state(suite, tmp_path)
    assert now.missing == {case.key}
    assert path.read_bytes() == before
    assert str(SCHEMA + 1) in now.reason(case.key)


def test_nothing_is_merged_over_a_record_of_a_newer_schema(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    put(source, 1)
    edit(put(target, 1), schema=SCHEMA + 1)
    before = content(target / store.RECORDS)
    failing = pytest.raises(store.FolderError, match="newer schema")
    with pytest.warns(UserWarning, match="newer"), failing:
        merge([source], target)
    assert content(target / store.RECORDS) == before


def test_what_is_packed_while_a_folder_is_read_is_read(tmp_path, monkeypatch):
    put(tmp_path, 1)

    def packing(folder: Path, whole: bool) -> Any:
        monkeypatch.undo()
        store.pack(folder)
        return store._readable(folder, whole)

    monkeypatch.setattr(store, "_readable", packing)
    assert set(values(tmp_path)) == {1}


def test_a_packed_record_of_a_newer_schema_is_named_and_kept(tmp_path, monkeypatch):
    put(tmp_path, 1)
    monkeypatch.setattr("benchmarks.core.record.SCHEMA", SCHEMA + 1)
    record = record_of(case_of(2)).model_copy(update={"schema_": SCHEMA + 1})
    store.write(tmp_path, record)
    table = store.pack(tmp_path)
    monkeypatch.undo()
    with pytest.warns(UserWarning, match=table.name):
        assert set(values(tmp_path)) == {1}
    assert store.newer(tmp_path).keys() == {record.key}
    put(tmp_path, 3)
    with pytest.warns(UserWarning, match=table.name):
        store.pack(tmp_path)
    put(tmp_path, 4)
    before = content(tmp_path)
    failing = pytest.raises(store.FolderError, match=table.name)
    with pytest.warns(UserWarning, match=table.name), failing:
        store.pack(tmp_path, join=True)
    assert content(tmp_path) == before


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_a_damaged_loose_record_is_set_aside_on_demand_alone(tmp_path, suffix):
    put(tmp_path, 1)
    victim = put(tmp_path, 2, {"a": np.arange(100.0)}).with_suffix(suffix)
    truncated(victim)
    before = content(tmp_path)
    assert [path.stem for path in store.corrupt(tmp_path)] == [victim.stem]
    with pytest.warns(UserWarning, match=victim.stem):
        store.pack(tmp_path)
    assert before[str(victim)] == content(tmp_path)[str(victim)]
    store.set_aside(tmp_path)
    assert not store.corrupt(tmp_path)
    assert (tmp_path / "corrupt" / victim.name).is_file()
    assert set(values(tmp_path)) == {1}


def test_a_record_that_the_disk_refuses_is_named_and_not_set_aside(tmp_path, monkeypatch):
    paths = [put(tmp_path, batch) for batch in (1, 2)]
    before, read_bytes = content(tmp_path), Path.read_bytes

    def refused(path: Path) -> bytes:
        if path == paths[0]:
            raise OSError(errno.EIO, "Input/output error")
        return read_bytes(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refused)
        assert store.corrupt(tmp_path).keys() == {paths[0]}
        assert not store.set_aside(tmp_path)
    assert content(tmp_path) == before


EVERY = ("pack", "pack --all", "report", "status --json -", "run", "run --renew-times", "claims")
EVERY += ("baseline update", "baseline check --target", "compare victim")


def missing(folder: Path) -> None:
    """No folder at all."""


def plan_of_nothing(folder: Path) -> None:
    put(folder)
    store.pack(folder)
    (folder / "suite.json").write_text("[")


def damaged_part(folder: Path) -> None:
    put(parted(folder), 4)
    (folder / "suite.json").write_text(json.dumps(PLAN))
    truncated(next(folder.glob("*.parquet")))


@pytest.mark.parametrize("command", EVERY)
@pytest.mark.parametrize("damage", [missing, Path.touch, Path.mkdir, plan_of_nothing, damaged_part])
def test_commands_refuse_what_is_no_sound_folder(tmp_path, monkeypatch, command, damage):
    monkeypatch.chdir(tmp_path)
    damage(tmp_path / "victim")
    before = content(tmp_path)
    result = flowgauge(*command.split(), "victim", status=None)
    if damage is plan_of_nothing and command.startswith(("pack", "baseline")):
        return  # sound records, whose plan these do not read
    assert result.exit_code == 2, result.output
    assert "victim" in result.stderr
    after = content(tmp_path).items()
    assert before == {p: c for p, c in after if not Path(p).name.startswith(".lock")}


CASES = [Case(study="cost", flow="realnvp", dim=dim, batch=4) for dim in (2, 3)]
OLD, NEW = "2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"


def record(case=CASES[0], started=OLD, stale=False, **fields):
    """A record under the present versions, or under others."""
    declared = dict(dependencies(case).declared)
    if stale:
        declared = {name: Declared(version=d.version + 1) for name, d in declared.items()}
    return record_of(case, {"parameters": 8}, declared=declared, started=started, **fields)


@pytest.mark.parametrize(
    ("first", "second", "winner"),
    [
        ({"started": OLD}, {"started": NEW}, 1),
        ({"started": NEW}, {"started": OLD}, 0),
        ({"started": NEW, "stale": True}, {"started": OLD}, 1),
        ({"started": NEW, "stale": True}, {"started": OLD, "stale": True}, 0),
        ({"started": NEW}, {"started": NEW, "block": "other"}, 0),
    ],
)
def test_the_current_and_newer_one_wins_and_the_other_is_kept(tmp_path, first, second, winner):
    sources, target = [tmp_path / "a", tmp_path / "b"], tmp_path / "c"
    records = [record(**first), record(**second)]
    for source, one in zip(sources, records, strict=True):
        store.write(source, one, {"curve": np.arange(3.0)})
    (conflict,) = merge(sources, target)
    assert conflict.taken in (sources[winner], target)
    assert conflict.label == CASES[0].label
    places = [target, *(target / SUPERSEDED).iterdir()]
    read = [store.read(place)[CASES[0].key] for place in places]
    assert [one.started for one in read] == [records[winner].started, records[1 - winner].started]
    for place, one in zip(places, read, strict=True):
        assert store.arrays_of(place, one)["curve"].tolist() == [0, 1, 2]
    again = flowgauge("merge", *sources, "--out", target).stdout  # the same
    assert again.count(conflict.label) == 1
    assert str(sources[1 - winner]) in again
    assert json.loads((target / "suite.json").read_text())["cases"]
    assert store.read(target)[CASES[0].key] == read[0]


def test_checkpoints_of_what_is_not_done_go_along(tmp_path):
    sources = [tmp_path / "a", tmp_path / "b"]
    store.write(sources[0], record(), {})
    store.write(sources[1], record(CASES[1], status="failed", reason="no"), {})
    names = [f"{case.key}-0123.pt" for case in CASES]
    (sources[1] / CHECKPOINTS).mkdir()
    for name in names:
        (sources[1] / CHECKPOINTS / name).write_text(name)
    assert merge(sources, tmp_path / "c") == []
    assert store.read(tmp_path / "c").keys() == {case.key for case in CASES}
    assert [path.name for path in (tmp_path / "c" / CHECKPOINTS).iterdir()] == names[1:]


@pytest.mark.parametrize(
    ("folders", "out", "expected"),
    [
        (["a", "nosuch"], "c", ["nosuch"]),
        (["a", "a"], "c", ["named twice", "/a"]),
        (["a", "b"], "b", ["named twice", "/b"]),
        (["a", "empty"], "c", ["empty"]),
    ],
)
def test_wrong_folders_are_told_in_one_line(tmp_path, folders, out, expected):
    for name in ("a", "b"):
        store.write(tmp_path / name, record(), {})
    (tmp_path / "empty").mkdir()
    line = refused("merge", *(tmp_path / name for name in folders), "--out", tmp_path / out)
    assert all(text in line for text in expected)
    assert not (tmp_path / "c").exists()
    assert not list(tmp_path.glob(".*"))
