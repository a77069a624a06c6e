"""Names: of cases, of series and of the same case in several folders; numbers of things."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import isnan
from typing import TYPE_CHECKING, Any

import pandas as pd

from benchmarks.core.case import Case

if TYPE_CHECKING:
    from benchmarks.core.record import Record
    from benchmarks.core.study import Study
    from flows.registry import Registry

UNDECIDED = "(to be chosen)"  # the value of what others choose, which is not named
# settings that decide the width in place of a number: column, and how it is written
RULES = {"setting.parameters": "{:,.0f} parameters", "setting.hidden_per_dim": "{:g}·D"}
# settings of the measurement, which do not make another series
HOW = tuple(
    f"setting.{n}" for n in ("seconds", "resident", "point", "checks", "tolerances", "expected")
)
STAGE, LABEL, BUDGET = (f"setting.{n}" for n in ("stage", "label", "seconds"))  # of a search
STAR = "★"  # before the names of flows of plug-ins
WHERE: Mapping[str, Any] = {"device": "cpu", "dtype": "float32", "threads": 1}
COUNTED = "meta"  # the device of what is counted from shapes, which is none
MEANS = ({"seconds"}, {name.partition(".")[2] for name in HOW})  # settings: how, and not what


def counted(number: int, what: str) -> str:
    """ "1 flow", "2 flows"."""
    return f"{number} {what}{'s' * (number != 1)}"


def undigested(records: Iterable[Record]) -> str:
    """How many records are of before there were digests; empty where none is."""
    number = sum(not record.digest for record in records)
    older = f"{counted(number, 'record')} of an earlier release {'has' if number == 1 else 'have'}"
    return f"{older} no digest: what was changed in them cannot be seen" if number else ""


def ahead_of_flows(baselines: Mapping[str, str]) -> str:
    """A sentence on the baselines, by data set, that no flow is ahead of; empty without any."""
    places: dict[str, list[str]] = defaultdict(list)
    for data, model in baselines.items():
        places[model].append(data)
    names = "; ".join(f"{model} on {', '.join(sets)}" for model, sets in places.items())
    return f"Baselines that come before every flow: {names}." if names else ""


def duration(seconds: float) -> str:
    """ "0.25 s", "12 s", "3.4 min", "1.6 h"."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.2g} s"


def apart(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """A name for each (name, values): the name, and those values that differ among its like.

    Values may be nested: {"solver": {"method": "rk4"}} is named as method=rk4.
    """
    flat = [(name, flattened(values)) for name, values in rows]
    texts: dict[tuple[str, str], list[str]] = defaultdict(list)  # by name and key
    for name, values in flat:
        for key, value in values.items():
            texts[name, key].append(repr(value))
    count = Counter(name for name, _ in flat)
    differing = set()
    for (name, key), values_of in texts.items():
        missing = {repr(None)} if len(values_of) < count[name] else set()
        if len({*values_of, *missing} - {repr(UNDECIDED)}) > 1:
            differing.add((name, key))
    names = []
    for name, values in flat:
        parts = {k: v for k, v in values.items() if (name, k) in differing and v != UNDECIDED}
        words = [f"{key.rpartition('.')[2]}={in_words(value)}" for key, value in parts.items()]
        names.append(" ".join([name, *words]))
    return names


def labels(cases: Iterable[Case]) -> dict[str, str]:
    """A short line for each case by its key: its label, and what tells it from its like."""
    from benchmarks.core.study import registry  # here: who reads records needs no registry

    items = list(cases)
    return dict(zip([case.key for case in items], lines(items, registry), strict=True))


def lines(cases: Iterable[Case], studies: Registry[Study] | None = None) -> list[str]:
    """The labels of cases; ``studies`` tell which options of planned cases are to be chosen."""
    rows, others = [], []  # values that are named, and those that are if nothing else differs
    for case in cases:
        study = studies[case.study] if studies is not None and case.study in studies else None
        options, deciding = case.options, study.deciding if study else frozenset[str]()
        if study and study.undecided(case):
            options = dict.fromkeys(flattened(options), UNDECIDED)
        settings = {name: v for name, v in case.settings.items() if name not in deciding}
        roles = {name: value for name, value in case.roles.items() if name != "point"}
        fields: dict[str, Any] = {"batch": case.batch, "updates": case.updates}
        fields |= {name: getattr(case, name) for name in ("dtype", "device", "threads")}
        rows.append((case.label, {**options, **settings, **roles, **fields}))
        others.append({n: v for n, v in case.settings.items() if n in deciding})
        others[-1]["point"] = case.roles.get("point")
    return apart(list(zip(apart(rows), others, strict=True)))


def in_words(value: Any) -> str:
    """A value as it stands in a name: "64", "0.003", "tanh"."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values as one level: {"solver": {"method": ...}} -> {"solver.method": ...}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def starred(names: Iterable[str], frame: pd.DataFrame) -> list[str]:
    """Names of the rows of a frame, with the `STAR` before those of flows of plug-ins."""
    foreign = frame["plugin"].eq(True) if "plugin" in frame else [False] * len(frame)
    pairs = zip(names, foreign, strict=True)
    return [f"{STAR} {name}" if plugin else name for name, plugin in pairs]


def flow_of(name: str) -> str:
    """The flow that the name of a series begins with, starred as it is; empty for no name."""
    first = next(iter(name.removeprefix(STAR).replace(",", " ").split()), "")
    return f"{STAR}{first}" if name.startswith(STAR) else first


def of_plugins(flows: Sequence[str]) -> str:
    """The rank of each flow of a plug-in among flows, best first, to follow a table's note."""
    of = f"of {counted(len(flows), 'flow')}"
    ranks = [f"{f} is {n} {of}" for n, f in enumerate(flows, 1) if f.startswith(STAR)]
    return f" {STAR}: of a plug-in; {', '.join(ranks)}." if ranks else ""


def series(frame: Any) -> list[str]:
    """Name of each row's series: the flow, and the options in which its configurations differ.

    Rows of one name differ in dimension, data set or seed alone. Where a rule decides the width,
    the name has the rule in place of the width, which differs from D to D within one series.
    The run is named where the frame has rows of several. What a search has trained bears the label
    of its entrant and its budget; the name leaves out what the search chose.
    """
    columns = {"batch", "updates", "flow", "plugin", "run"}
    frame = frame[[c for c in frame if c in columns or str(c).startswith(("option.", "setting."))]]
    for rule, words in RULES.items():
        if rule in frame:
            width, by_rule = frame["option.hidden"].astype(object), frame[rule]
            width = width.where(by_rule.isna(), by_rule.map(words.format))
            frame = frame.drop(columns=rule).assign(**{"option.hidden": width})
    options = frame.drop(columns=[*HOW, "flow", "plugin", "run"], errors="ignore")
    rows = [
        {
            str(column).partition(".")[2] or column: value
            for column, value in row.items()
            if not (isinstance(value, float) and isnan(value))
        }
        for row in options.to_dict("records")
    ]
    pairs = list(zip(frame["flow"], rows, strict=True))
    if {STAGE, LABEL}.issubset(frame):  # stages of others bear no label
        trials = frame[[STAGE, LABEL]].notna().all(axis=1)
        searched = zip(frame[LABEL], frame[BUDGET], trials, strict=True)
        pairs = [
            (label, {"seconds": budget}) if trial else pair
            for pair, (label, budget, trial) in zip(pairs, searched, strict=True)
        ]
    names = starred(apart(pairs), frame)
    if not several_runs(frame):
        return names
    return [f"{name} ({run})" for name, run in zip(names, frame["run"], strict=True)]


def width_rules(frame: pd.DataFrame) -> pd.Series:
    """What decides the width of each row in place of a number; empty where nothing does."""
    rules = pd.Series("", frame.index)
    for rule, words in RULES.items():
        if rule in frame:
            rules += frame[rule].map(words.format).astype(str).where(frame[rule].notna(), "")
    return rules


def named(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame, pd.Series(series(frame), frame.index, name="series")], axis=1)


def name_runs(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The frame with the run added to texts of these columns, where it has rows of several."""
    if not several_runs(frame):
        return frame
    changes = {}
    for column in (name for name in columns if name in frame):
        pairs = zip(frame[column], frame["run"], strict=True)
        texts = [f"{text} ({run})" if isinstance(text, str) else text for text, run in pairs]
        changes[column] = pd.Series(texts, frame.index, dtype=object)
    return frame.assign(**changes)


def several_runs(frame: pd.DataFrame) -> bool:
    """Whether the frame has rows of several runs, or is a part of one that has."""
    if "run" not in frame:
        return False
    if isinstance(frame["run"].dtype, pd.CategoricalDtype):
        return len(frame["run"].dtype.categories) > 1
    return frame["run"].nunique() > 1


def is_baseline(frame: pd.DataFrame) -> pd.Series:
    """Whether each row is of a baseline, which is fitted without updates."""
    return frame["updates"] == 0


def common(sides: Sequence[Iterable[Case]]) -> list[list[Case]]:
    """For each case of each side what equals that of the same case of the other sides.

    That is the case without the means by which it was measured (`HOW`), and without device,
    precision and threads where each side has one of them throughout. Cases of a side that differ in
    nothing else keep all means but the seconds of timing, and all of them where that is too few.
    """
    lists = [list(cases) for cases in sides]
    timed = [[case for case in cases if case.device != COUNTED] for cases in lists]
    uniform = [n for n in WHERE if all(len({getattr(c, n) for c in cases}) < 2 for cases in timed)]
    same = lists
    for means in MEANS:
        plain = [[_plain(case, uniform, means) for case in cases] for cases in lists]
        counts = [Counter(case.key for case in cases) for cases in plain]
        several = {key for count in counts for key, number in count.items() if number > 1}
        same = [
            [full if part.key in several else part for part, full in zip(*parts, strict=True)]
            for parts in zip(plain, same, strict=True)
        ]
    return same


def _plain(case: Case, uniform: Iterable[str], means: Collection[str]) -> Case:
    """The case with the default of what is uniform, and without these settings."""
    where = {name: WHERE[name] for name in uniform}
    where |= {"device": COUNTED} if case.device == COUNTED else {}
    settings = {name: value for name, value in case.settings.items() if name not in means}
    return case.changed(**where, settings=settings, needs=(), resolves="")
