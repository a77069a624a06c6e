"""The long frame: all records of results folders, a row a case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.core import store
from benchmarks.core.case import complete_options, filled, setting_defaults
from benchmarks.core.plan import Plan, plan_of
from benchmarks.core.record import Record


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
    frames = [
        long_frame(path, store.read(path), run=run)
        for run, path in zip(labels(paths), paths, strict=True)
    ]
    return pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]


def long_frame(
    folder: Path, records: Mapping[str, Record], plan: Plan | None = None, run: str = ""
) -> pd.DataFrame:
    """Records that were read from a results folder, as `load` shows them."""
    plan = plan or plan_of(folder, records)
    rows = [
        {**_row(folder, records[case.key], case.roles), "run": run or folder.resolve().name}
        for case in plan.cases
        if case.key in records
    ]
    return _with_defaults(pd.DataFrame(rows))


def arrays_by_case(cases: pd.DataFrame, *names: str) -> list[dict[str, np.ndarray]]:
    """Arrays of each row, those of ``names`` that it has, or all; empty dicts without any."""
    return [store.arrays(row, *names) for row in _places(cases)]


def holding(cases: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows whose records have an array of this name."""
    has = [name in store.array_names(row) for row in _places(cases)]
    return cases[np.array(has, dtype=bool)]


def _places(cases: pd.DataFrame) -> list[dict[Any, Any]]:
    """What names the arrays of each row."""
    names = [name for name in ("arrays", "array_hashes") if name in cases]
    rows = cases[names].itertuples(index=False, name=None)
    return [dict(zip(names, values, strict=True)) for values in rows]


def labels(folders: Sequence[Path]) -> list[str]:
    """Folders' names, with as many of their parents as tells them apart.

    Raises ValueError for a folder that is given twice.
    """
    paths = [folder.resolve() for folder in folders]
    if twice := [str(f) for f, path in zip(folders, paths, strict=True) if paths.count(path) > 1]:
        raise ValueError(f"{twice[-1]!r} is given twice: name different results folders")
    return ["/".join(_ending(path, [other for other in paths if other != path])) for path in paths]


def _ending(path: Path, others: Iterable[Path]) -> Sequence[str]:
    """The last parts of a path, as many as no other has."""
    others = list(others)
    for count in range(1, len(path.parts)):
        if all(other.parts[-count:] != path.parts[-count:] for other in others):
            return path.parts[-count:]
    return path.parts


def _row(folder: Path, record: Record, roles: Mapping[str, Any]) -> dict[str, Any]:
    case = record.case
    fields = case.model_dump(mode="json", exclude={"options", "settings", "seeds", "roles"})
    options = complete_options(case.flow, case.options)
    settings = {**filled(case.settings, setting_defaults(case.study, case.settings)), **roles}
    known = {name: settings[name] for name in (*case.settings, *roles)}
    row = fields | {f"option.{name}": value for name, value in options.items()}
    row |= {f"setting.{name}": value for name, value in known.items()}
    row |= {"seed": case.seeds.init, "data_seed": case.seeds.data}
    row |= {"key": record.key, "status": record.status}
    row |= {"reason": record.reason, "fingerprint": record.fingerprint, "commit": record.commit}
    row |= {"started": record.started, "seconds": record.seconds, "block": record.block}
    row |= {"shared": record.shared, "machine": record.machine, "versions": record.versions}
    row |= {"notes": record.notes, "arrays": store.place(folder, record)}
    row["plugin"] = "flow" in record.plugins
    row["array_hashes"] = record.arrays
    for name, values in record.metrics.items():
        row[name] = values.median
        row[f"{name}.values"] = list(values.values)
    return row


def _with_defaults(rows: pd.DataFrame) -> pd.DataFrame:
    """Settings that a record of before does not have, by the default that it was measured with."""
    settings = [str(column) for column in rows if str(column).startswith("setting.")]
    parts = rows.get("setting.part", pd.Series("", rows.index))
    for (study, part), group in rows.groupby(["study", parts], dropna=False):
        defaults = setting_defaults(study, {"part": part})
        for column in settings:
            default = defaults.get(column.removeprefix("setting."))
            if default is not None and not isinstance(default, dict | list):
                rows.loc[group.index[group[column].isna()], column] = default
    return rows
