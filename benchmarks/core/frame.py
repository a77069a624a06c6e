"""The long frame: all records of results folders, a row a case; plans; which times count."""

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ValidationError, model_validator

from benchmarks.core import naming, store
from benchmarks.core.case import filled, of_part
from benchmarks.core.formats import brief, plain, readable
from benchmarks.core.metrics import METRICS
from benchmarks.core.record import Record, strict_json

NOISY = 0.1  # spread of the reference workload's times above which none of its block is trusted
BUSY = 0.1  # busy cores of other processes from which on the machine was shared
REFERENCE = "reference_seconds"
UNKNOWN = "unknown machine"
FACTS = "key status reason fingerprint commit started seconds block shared machine versions notes"
SCATTERED = "the reference workload's times scattered"
TIMES = tuple(name for name, metric in METRICS.items() if metric.kind == "time")
COMPARED = tuple(name for name in TIMES if METRICS[name].better != "neither")
TAKEN = ("train_cpu_seconds", "train_seconds", "train_process_seconds")  # the first that is known
EARLIER: dict[str, dict[str, Any]] = json.loads(  # defaults of before records stated them
    files(__package__).joinpath("earlier.json").read_text("utf-8")
)


class Planned(BaseModel):
    """One case of a plan; ``roles`` say what it stands for in its comparison."""

    key: str
    study: str
    label: str = ""
    roles: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _of_part(cls, fields: Any) -> Any:
        return of_part(fields) if isinstance(fields, Mapping) else fields


class Plan(BaseModel):
    """What ``suite.json`` says: the suite's name and purpose, the suite as read, its cases."""

    name: str
    about: str = ""
    suite: dict[str, Any] = {}
    cases: list[Planned] = []  #: one that stands for two points of a comparison is there twice


def plan_of(folder: Path, records: Mapping[str, Record]) -> Plan:
    """The plan of a results folder, or its records; ValueError for a wrong ``suite.json``."""
    path = folder / "suite.json"
    if not path.is_file():
        lines = naming.lines(record.case for record in records.values())
        cases = [
            Planned(key=key, study=record.case.study, label=label, roles=record.case.roles)
            for (key, record), label in zip(records.items(), lines, strict=True)
        ]
        cases.sort(key=lambda case: (case.study, case.label, case.key))
        return Plan(name=folder.resolve().name, cases=cases)
    try:
        return Plan.model_validate(readable(strict_json(path.read_bytes())))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise ValueError(f"{str(path)!r} is not a plan: {where}: {first['msg']}") from error
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is not a plan: {brief(error)}") from error


def load(*folders: str | Path) -> pd.DataFrame:
    """The records of results folders as one frame, a row a case of a folder's plan.

    Records outside of the plan are left out; in a folder without one each record counts. The
    case's fields are columns, its options ``option.*``, its settings and its roles in the
    comparison ``setting.*``; ``run`` names the folder. Each metric is a column with the median of
    its values, and ``<metric>.values`` holds them raw. A case that stands for two points of a
    comparison has two rows with one key. `arrays_by_case` reads the arrays of its rows.
    Raises ValueError for a folder without records and for one that is given twice.
    """
    paths = [store.existing(Path(folder)) for folder in folders]
    pairs = zip(paths, labels(paths), strict=True)
    frames = [long_frame(path, store.read(path), run=run) for path, run in pairs]
    return pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]


def long_frame(
    folder: Path, records: Mapping[str, Record], plan: Plan | None = None, run: str = ""
) -> pd.DataFrame:
    """Records that were read from a results folder, as `load` shows them."""
    plan = plan or plan_of(folder, records)
    cases = [(records[case.key], case.roles) for case in plan.cases if case.key in records]
    defaults = _defaults(record for record, _ in cases)
    name = run or folder.resolve().name
    rows = pd.DataFrame(
        [{**_row(folder, record, roles, defaults), "run": name} for record, roles in cases]
    )
    for column in [str(c) for c in rows if str(c).startswith("setting.")]:
        for row in rows.index[rows[column].isna()]:  # measured before there was the setting
            default = defaults.get(_study(cases[row][0]), {}).get(column.removeprefix("setting."))
            if default is not None and not isinstance(default, dict | list):
                rows.loc[row, column] = default
    return rows.astype(dict.fromkeys(rows.select_dtypes("str"), object)).copy()  # in few blocks


def arrays_by_case(cases: pd.DataFrame, *names: str) -> list[dict[str, np.ndarray]]:
    """Arrays of each row, those of ``names`` that it has, or all; empty dicts without any."""
    return [store.arrays(row, *names) for row in _places(cases)]


def holds(cases: pd.DataFrame, name: str) -> np.ndarray:
    """Whether the record of each row has an array of this name, (cases,)."""
    return np.array([name in store.hashes_of(row) for row in _places(cases)], dtype=bool)


def _places(cases: pd.DataFrame) -> list[dict[str, Any]]:
    columns = (cases.get(name, [None] * len(cases)) for name in ("arrays", "array_hashes"))
    return [{"arrays": file, "array_hashes": known} for file, known in zip(*columns, strict=True)]


def labels(folders: Sequence[Path]) -> list[str]:
    """Folders' names with as many parents as tell them apart; ValueError for one given twice."""
    paths = [folder.resolve() for folder in folders]
    if twice := [str(f) for f, path in zip(folders, paths, strict=True) if paths.count(path) > 1]:
        raise ValueError(f"{twice[-1]!r} is given twice: name different results folders")
    names = []
    for path in paths:
        endings = (path.parts[-count:] for count in range(1, len(path.parts) + 1))
        others = [other for other in paths if other != path]
        unlike = (e for e in endings if all(other.parts[-len(e) :] != e for other in others))
        names.append("/".join(next(unlike, path.parts)))
    return names


def _defaults(records: Iterable[Record]) -> dict[str, dict[str, Any]]:
    """Defaults by studies and flows: the latest that records state; of earlier ones `EARLIER`."""
    defaults = dict(EARLIER)
    for record in sorted((r for r in records if r.defaults), key=lambda record: record.started):
        flow = f"flow {record.case.flow}"
        for name, part in ((_study(record), "settings"), (flow, "options")):
            defaults[name] = defaults.get(name, {}) | record.defaults.get(part, {})
    return defaults


def _study(record: Record) -> str:
    """The name of a record's study among defaults: the one that it had when it was measured."""
    return f"study {record.identity.get('study', record.case.study)}"


def _row(
    folder: Path,
    record: Record,
    roles: Mapping[str, Any],
    defaults: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    case = record.case
    fields = case.model_dump(mode="json", exclude={"options", "settings", "seeds", "roles"})
    options = filled(case.options, defaults.get(f"flow {case.flow}", {}))
    settings = filled(case.settings, defaults.get(_study(record), {}))
    of_case = {name: settings[name] for name in case.settings} | dict(roles)
    taken = [record.metrics[name].median for name in TAKEN if name in record.metrics]
    searched = of_case.keys() >= {"stage", "label", "seconds", "training"}
    in_seconds = searched and of_case["training"].get("cpu_seconds") != 0  # else in updates
    if settings.get("training", {}).get("cpu_seconds") and "train_updates" in record.metrics:
        fields["updates"] = record.metrics["train_updates"].median  # the case plans one
    return {
        **fields,
        **{f"option.{name}": value for name, value in options.items()},
        **{f"setting.{name}": value for name, value in of_case.items()},
        "seed": case.seeds.init,
        "data_seed": case.seeds.data,
        **{name: getattr(record, name) for name in FACTS.split()},
        "arrays": store.place(folder, record),
        **({"budget_spent": taken[0] / of_case["seconds"]} if taken and in_seconds else {}),
        "plugin": "flow" in record.plugins,
        "array_hashes": record.arrays,
        **{name: values.median for name, values in record.metrics.items()},
        **{f"{name}.values": list(values.values) for name, values in record.metrics.items()},
    }


def cautions(frame: pd.DataFrame) -> pd.Series:
    """Why the times of each row are not to be quoted, by `_caution`; "" where they are."""
    missing = pd.Series(None, frame.index, dtype=object)
    samples = frame.get(f"{REFERENCE}.values", missing)
    scatter = samples.map(
        lambda s: spread(s) if isinstance(s, list | tuple) and len(s) > 1 else np.nan
    )
    block = frame.get("block", missing).fillna(frame["key"])
    scatter = scatter.astype(float).groupby(block).transform("max")
    pairs = zip(frame.get("shared", missing), scatter, strict=True)
    return pd.Series([_caution(shared, spread) for shared, spread in pairs], frame.index, dtype=str)


def _caution(shared: Any, scatter: float) -> str:
    if not isinstance(shared, Mapping):
        return "what else ran on the machine is not known"
    if not sum(shared.values()) < BUSY:
        return "other work ran on the machine"
    if np.isnan(scatter):
        return "no reference workload was timed beside it"
    return SCATTERED if scatter > NOISY else ""


def spread(samples: Sequence[float]) -> float:
    """The interquartile range of samples over their median."""
    low, middle, high = np.quantile(samples, [0.25, 0.5, 0.75])
    return float((high - low) / middle)


def place(machine: Mapping[str, Any], versions: Mapping[str, str], device: str = "cpu") -> str:
    """What two comparable times have in common: processor, cores, system, and minor torch."""
    parts = [processor(machine), machine.get("cores"), machine.get("system")]
    parts += [machine.get("gpu")] if device.startswith("cuda") else []
    name = "/".join(str(part) for part in parts if part) if processor(machine) else UNKNOWN
    return f"{name}, torch {minor(versions)}"


def processor(machine: Mapping[str, Any]) -> str:
    """ "AMD EPYC (AVX2)": the processor and the instructions that torch uses; "" if not known."""
    cpu, instructions = (plain(machine.get(name) or "") for name in ("cpu", "instructions"))
    return f"{cpu} ({instructions})" if cpu and instructions else cpu


def minor(versions: Mapping[str, str]) -> str:
    """The minor version of torch among a record's versions, as "2.13"."""
    return ".".join(versions.get("torch", "unknown").split(".")[:2])


def places(frame: pd.DataFrame) -> pd.Series:
    """The `place` of each row that was timed; None of the others."""
    timed = frame[[name for name in COMPARED if name in frame]].notna().any(axis=1)
    rows = zip(frame["machine"], frame["versions"], frame["device"], strict=True)
    names = pd.Series([place(*row) for row in rows], frame.index, dtype=object)
    return names.where(timed, None)


def time_columns(frame: pd.DataFrame) -> list[str]:
    return [n for metric in TIMES for n in (metric, f"{metric}.values") if n in frame]


def of_one_place(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The frame with the times of one place alone, and what to note of it; "" where all are.

    It is the place of most records. Times of others become missing, and so do the seconds of their
    learning curves.
    """
    if frame.empty:
        return frame, ""
    where = places(frame)
    counts = where.value_counts()
    if len(counts) < 2:
        return frame, ""
    others = where.notna() & (where != counts.index[0])
    frame = frame.copy()
    for name in time_columns(frame):
        frame[name] = frame[name].mask(others)
    if "array_hashes" in frame:
        untimed = frame["array_hashes"].map(
            lambda hashes: {n: v for n, v in hashes.items() if not n.endswith("seconds")}
        )
        frame["array_hashes"] = frame["array_hashes"].mask(others, untimed)
        frame["arrays"] = frame["arrays"].mask(others & ~frame["array_hashes"].map(bool), None)
    names = "; ".join(f"{count} of {name}" for name, count in counts.iloc[1:].items())
    return frame, f"times are those measured on {counts.index[0]}; others are left out: {names}"
