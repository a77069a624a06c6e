"""Names that tell configurations apart, and say no more than that takes; numbers of things."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.core.case import Case, studies

UNDECIDED = "(to be chosen)"  # the value of what others choose, which is not named


def counted(number: int, what: str) -> str:
    """ "1 flow", "2 flows"."""
    return f"{number} {what}{'s' * (number != 1)}"


def quoted(name: object) -> str:
    """A name as it stands in a sentence: in quotation marks if it has a comma."""
    return f'"{name}"' if "," in str(name) else str(name)


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
    flat = [(name, _flat(values)) for name, values in rows]
    like: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)  # by name, the distinct values
    for name, values in flat:
        like[name][repr(values)] = values
    differing = {name: _differing(distinct.values()) for name, distinct in like.items()}
    return [
        " ".join(
            [name]
            + [
                f"{key.split('.')[-1]}={in_words(value)}"
                for key, value in values.items()
                if key in differing[name] and value != UNDECIDED
            ]
        )
        for name, values in flat
    ]


def labels(cases: Iterable[Case]) -> dict[str, str]:
    """A short line for each case by its key: its label, and what tells it from its like."""
    listed = list(cases)
    rows, others = [], []  # values that are named, and those that are if nothing else differs
    for case in listed:
        own: dict[str, Any] = {"batch": case.batch, "updates": case.updates, "dtype": case.dtype}
        own |= {"device": case.device, "threads": case.threads}
        options, settings, deciding = _decided(case)
        roles = {name: value for name, value in case.roles.items() if name != "point"}
        rows.append((case.label, {**options, **settings, **roles, **own}))
        others.append({**deciding, "point": case.roles.get("point")})
    names = apart(list(zip(apart(rows), others, strict=True)))
    return dict(zip([case.key for case in listed], names, strict=True))


def _decided(case: Case) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The options of a case, its settings, and those settings that only decide the options."""
    if case.study not in studies:
        return case.options, case.settings, {}
    study = studies[case.study]
    undecided = dict.fromkeys(_flat(case.options), UNDECIDED)
    deciding = {name: case.settings[name] for name in study.deciding & case.settings.keys()}
    settings = {name: v for name, v in case.settings.items() if name not in deciding}
    return undecided if study.undecided(case) else case.options, settings, deciding


def _differing(rows: Collection[Mapping[str, Any]]) -> set[str]:
    """Keys whose values are not the same in all rows; a missing one counts as None."""
    texts: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        for key, value in row.items():
            texts[key].append(repr(value))
    missing = repr(None)
    return {
        key
        for key, values in texts.items()
        if len({*values, *([missing] if len(values) < len(rows) else [])} - {repr(UNDECIDED)}) > 1
    }


def in_words(value: Any) -> str:
    """A value as it stands in a name: "64", "0.003", "tanh"."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values as one level: {"solver": {"method": ...}} -> {"solver.method": ...}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
