"""Suites: TOML files that say what is measured; expanded into cases. Faults are in TOML's words."""

import json
import math
import re
import tomllib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, Field, ValidationError, field_validator
from pydantic_core import from_json

from benchmarks.core.case import Case, Settings, canonical, digest, of_part
from benchmarks.core.formats import brief
from benchmarks.core.study import Common, Study, registry
from benchmarks.datasets import check_seed
from benchmarks.datasets.tables import admit
from flows.plugins import FOREIGN, described
from flows.registry import SIZES, choices

Model = TypeVar("Model", bound=BaseModel)
NAME = re.compile(r"(?!\.{1,2}$)[^/\\\x00-\x1f\x7f]{1,200}")  # that of a folder too
Seed = Annotated[int, Field(ge=0, lt=2**32, strict=True)]  # as NumPy takes it
LONGEST = 2e6  # seconds: 23 days, less than the system can wait for
SHOWN = 60  # characters of a value in a message
MOST = 100_000  # cases of a study
SIZED = {"layers": 10_000, "depth": 10_000, "hidden": 100_000}  # at most
SIZED |= dict.fromkeys(("dim", "context_dim"), 1_000_000)
DEEPEST, LARGEST = 32, 2**63 - 1  # levels of a table, and of its whole numbers, as TOML has them
UNIONS = ("constrained-", "tuple[")  # how pydantic's locations name the kinds that a value may have
KEYS = "the documentation's page Keys of a suite"
TABLE, WHOLE = "a table, { key = value }", "a whole number"
KINDS = {  # by pydantic's names of the faults
    "tuple_type": "a list",
    "string_type": "a text in quotes",
    **dict.fromkeys(("dict_type", "model_type"), TABLE),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), WHOLE),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
}


class Suite(Settings, frozen=True):
    """A suite as read: what it shares, and its studies in order, each a table of options."""

    name: str
    """Name of the suite; that of its file if left out."""
    about: str = ""
    """Sentence on what the suite measures, with which its report opens."""
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1)
    """Seeds of the repetitions: each changes the split or draw of the data, initial weights, noise
    and batches.
    """
    device: str = "cpu"
    """Device of torch on which the flows run, such as `cpu` or `cuda`."""
    dtype: Literal["float32", "float64"] = "float32"
    """Floating-point type of the flows. Likelihoods are scored in float64 whatever it is."""
    threads: int = Field(default=2, ge=1, le=4096, strict=True)
    """Threads of each worker."""
    time_limit: float = Field(default=300.0, gt=0, le=LONGEST)
    """Seconds that one block may take; then its cases count as timed out."""
    memory_share: float = Field(default=0.8, gt=0, le=1)
    """Share of the machine's memory that all workers together may take."""
    operators: bool = False
    """Whether to count the operators that torch dispatches. Each case then runs alone, nothing is
    timed, and each run measures all anew.
    """
    studies: tuple[dict[str, Any], ...]
    """Entries in their order, each a table `[[studies]]` with `study`, the name of a study, and
    keys of that study.
    """

    @field_validator("studies", mode="after")
    @classmethod
    def _of_parts(cls, studies: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        return tuple(map(of_part, studies))

    @field_validator("device")
    @classmethod
    def _of_numbers(cls, device: str) -> str:
        if device.partition(":")[0] == "meta":
            raise ValueError("'meta' holds no numbers: write cpu, cuda or cuda:1")
        return device

    @field_validator("name")
    @classmethod
    def _of_a_folder(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError(f"{brief(name)!r} names no folder: write at most 200 characters, no /")
        return name

    def cases(self) -> list[Case]:
        """All cases in order, each key once; ValueError as for `entries`."""
        first: dict[str, Case] = {}
        for case in self.entries():
            first.setdefault(case.key, case)
        return list(first.values())

    def entries(self) -> list[Case]:
        """All cases in order, one of two points with either role; ValueError for unknown names."""
        common = Common(self.seeds, self.device, self.dtype, self.threads)
        entries: dict[str, Case] = {}
        for entry in self.studies:
            options = dict(entry)
            study = registry[str(options.pop("study", ""))]
            where = f"suite {self.name!r}, study {study.name!r}"
            part = study.part(options)
            model = validated(part.Options, options, where)
            if unknown := set(getattr(model, "sizes", ())) - set(SIZES):
                sizes = ", ".join(SIZES)
                raise ValueError(
                    f"suite {self.name!r} has no size {unknown.pop()!r}; choose from: {sizes}"
                )
            for name in getattr(model, "datasets", ()):
                admit(name)
            check_sizes(getattr(model, "sizes", {}), where)
            check_number(part, model, common, where)
            try:
                cases = list(islice(part.cases(model, common), MOST + 1))
            except ValueError:
                raise
            except FOREIGN as error:  # of a plug-in's study
                raise ValueError(f"{where}: {described(error)}") from error
            if len(cases) > MOST:
                raise ValueError(f"{where}: {MOST:,} cases are the most: ask for fewer")
            for case in cases:  # a flow's defaults too
                check_seed(case.dataset or "", case.seeds.data)
                of_flow = f"{where}: options of {case.flow!r}"
                check_values(case.options, of_flow)
                check_sizes({"dim": case.dim, **case.options}, of_flow)
            entries |= {f"{case.key} {digest(canonical(case.roles))}": case for case in cases}
        return list(entries.values())

    def on(self, datasets: Sequence[str]) -> Self:
        """The suite on these data sets, names or files, instead of its own.

        A set of its own stays with the entries that have it, any other is for all that take data.
        ValueError where none of its studies takes data.
        """
        if not any("datasets" in entry for entry in self.studies):
            raise ValueError(f"suite {self.name!r} has no study that takes data sets")
        sets, studies = [{*entry.get("datasets", ())} for entry in self.studies], []
        for entry, own in zip(self.studies, sets, strict=True):
            chosen = [n for n in datasets if n in own or not any(n in names for names in sets)]
            takes = "datasets" in entry
            if chosen or not takes:
                studies.append(entry | {"datasets": chosen} if takes else entry)
        return self.model_copy(update={"studies": tuple(studies)})

    def only(self, studies: Sequence[str]) -> Self:
        """The entries of these studies or parts alone; ValueError for one that it lacks."""
        for name in studies:
            if name not in (members := studied(self.studies)):
                raise ValueError(
                    f"suite {self.name!r} has no study {name!r}; choose from: {', '.join(members)}"
                )
        entries = tuple(e for e in self.studies if not {*studies}.isdisjoint(_named(e)))
        return self.model_copy(update={"studies": entries})


def studied(entries: Any) -> list[str]:
    """The studies and parts that a suite's entries name, each once; other values are skipped."""
    items = entries if isinstance(entries, Sequence) else ()
    return list(dict.fromkeys(name for entry in items for name in _named(entry)))


def _named(entry: Any) -> list[str]:
    keys = ("study", "part") if isinstance(entry, dict) else ()
    return [str(entry[key]) for key in keys if key in entry]


def names() -> list[str]:
    """Names of the suites that come with the project."""
    files = resources.files("benchmarks.suites").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def read(name: str, overrides: Sequence[str] = ()) -> Suite:
    """A suite with ``key=value`` overrides applied.

    ``name`` is its own, the path of a TOML file, or that of a results folder, whose plan has the
    suite as it was run. ``threads=1`` changes a value of the suite, ``cost.batch=32`` one of every
    entry of a study or of a part, ``studies.0.batch=32`` one of the first. ValueError for what does
    not exist.
    """
    plan = planned(name)
    values = _toml(name) if plan is None else _of_plan(plan / "suite.json")
    for setting in overrides:
        first, dot, _ = setting.partition("=")[0].partition(".")
        keys = [*studied(values.get("studies")), *Suite.model_fields]
        if dot and first not in keys:
            hint = choices(first, keys, KEYS)
            raise ValueError(f"cannot set {setting!r}: suite {name!r} has no {first!r}; {hint}")
        override(values, setting)
    return validated(Suite, values, f"suite {name!r}")


def planned(name: str) -> Path | None:
    """The results folder that a name stands for; None where it is that of a suite or a file."""
    folder = Path(name)
    return folder if name not in names() and (folder / "suite.json").is_file() else None


def _of_plan(path: Path) -> dict[str, Any]:
    try:
        suite = dict(from_json(path.read_bytes())["suite"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{str(path)!r} is not a plan: it has no suite") from error
    if not suite:
        raise ValueError(f"{str(path)!r} joins several suites: name one of them, and --out")
    return suite


def file_of(name: str) -> Path:
    """The TOML file of a suite, by its name or path; ValueError where there is none."""
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise ValueError(f"suite file {name!r} does not exist")
        return path
    if name in names():
        return Path(str(resources.files("benchmarks.suites") / f"{name}.toml"))
    if path.is_dir():
        raise ValueError(f"folder {name!r} has no suite.json: name the suite, and --out {name}")
    hint = choices(name, names(), "flowgauge list suites")
    others = "or give the path of a .toml file, or of a folder of results where one is read"
    raise ValueError(f"unknown suite {name!r}; {hint}, {others}")


def _toml(name: str) -> dict[str, Any]:
    path = file_of(name)
    try:
        return {"name": path.stem, **tomllib.loads(path.read_bytes().decode("utf-8-sig"))}
    except (ValueError, RecursionError) as error:
        raise ValueError(f"suite {name!r} is not valid TOML: {brief(error)}") from error


def override(values: dict[str, Any], setting: str) -> None:
    """Apply one ``key=value`` to nested values, in place; ValueError where it does not fit."""
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise ValueError(f"cannot read {setting!r}: write key=value, as in threads=1")
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        table = {}
    value = table["value"] if len(table) == 1 else text
    first, *rest = key.split(".")
    studies = values.get("studies") if first in studied(values.get("studies")) else ()
    entries = [entry for entry in studies or () if first in _named(entry)]
    for target, steps in [(e, rest) for e in entries] or [(values, [first, *rest])]:
        if not steps:
            raise ValueError(f"cannot set study {first!r} as a whole: name one of its values")
        *way, last = steps
        for step in way:
            place = _place(target, step, key)
            target = target.setdefault(place, {}) if isinstance(target, dict) else target[place]
            if not isinstance(target, dict | list):
                raise ValueError(f"cannot set {key!r}: {step!r} is neither a table nor a list")
        target[_place(target, last, key)] = value
        flows = target.get("flows") if isinstance(target, dict) else None
        items = flows if isinstance(flows, list) else ()
        owners = [f for f in items if isinstance(f, dict) and last in f]
        if owners:
            words = ", ".join(f"{f.get('flow')} ({last} = {f[last]})" for f in owners)
            warnings.warn(f"{setting!r} does not reach flows with their own: {words}", stacklevel=2)


def _place(target: dict[str, Any] | list[Any], step: str, key: str) -> Any:
    """The key or the index that a step names; ValueError where a list has no such place."""
    if isinstance(target, dict):
        return step
    if step.isdecimal() and int(step) < len(target):
        return int(step)
    places = f"0 to {len(target) - 1}" if target else "none, it is empty"
    raise ValueError(f"cannot set {key!r}: no {step!r} in that list; its places: {places}")


def validated(model: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """The model of the values; the first fault as a ValueError of one line."""
    check_values(values, where)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _first_fault(model, error, where) from error


def check_number(study: Study, options: BaseModel, common: Common, where: str) -> None:
    """ValueError for options that ask for far more than `MOST` cases, before there are any.

    They are counted by the lengths of lists: how much two values of one give over one, by itself.
    """
    lists = {n: v for n, v in options if isinstance(v, list | tuple) and len(v) > 1}
    if math.prod(map(len, (common.seeds, *lists.values()))) <= MOST:
        return

    def number(**longer: Any) -> int:
        cut = {name: value[:1] for name, value in lists.items()} | longer
        one = replace(common, seeds=cut.pop("seeds", common.seeds[:1]))
        return len(list(islice(study.cases(options.model_copy(update=cut), one), MOST)))

    base = number()
    lengths = {"seeds": common.seeds, **lists}
    factors = {n: 1 + (len(v) - 1) * (number(**{n: v[:2]}) / base - 1) for n, v in lengths.items()}
    if (total := round(base * math.prod(factors.values()))) > MOST:
        longest = max(factors, key=lambda name: factors[name])
        raise ValueError(
            f"{where}: {total:,} cases, and {MOST:,} are the most: name fewer {longest} "
            f"({len(lengths[longest]):,})"
        )


def check_sizes(sizes: Mapping[str, Any], where: str) -> None:
    """ValueError for sizes that nobody can construct in time, or in memory."""
    for name, most in SIZED.items():
        value = sizes.get(name, 0)
        for size in value if isinstance(value, list | tuple) else (value,):
            if isinstance(size, int) and size > most:
                raise ValueError(f"{where}: {name}: {size:,}, and {most:,} are the most")


def check_values(values: Mapping[str, Any], where: str) -> None:
    """ValueError for values that JSON and 64 bits do not hold, or that are nested without end."""
    stack: list[tuple[tuple[str, ...], Any]] = [((), values)]
    while stack:
        location, value = stack.pop()
        fault = ""
        if isinstance(value, Mapping | list | tuple):
            steps = value.items() if isinstance(value, Mapping) else enumerate(value)
            stack += [((*location, str(step)), inner) for step, inner in steps]
            fault = f"write at most {DEEPEST} levels" if len(location) > DEEPEST else ""
        elif isinstance(value, float) and not math.isfinite(value):
            fault = "write a finite number"
        elif isinstance(value, int) and abs(value) > LARGEST:
            fault = f"write {WHOLE} of 64 bits"
        if fault:
            raise ValueError(f"{where}: {'.'.join(location[:6])}: {fault} (got {_shown(value)})")


def _first_fault(model: type[BaseModel], error: ValidationError, where: str) -> ValueError:
    fault = error.errors()[0]
    location = [str(part) for part in fault["loc"] if not str(part).startswith(UNIONS)]
    key, value = ".".join(location), fault["input"]
    if fault["type"] == "extra_forbidden":
        fields = _within(model, fault["loc"]).model_fields
        return ValueError(f"{where} has no key {key!r}; {choices(location[-1], fields, KEYS)}")
    if fault["type"] == "missing":
        return ValueError(f"{where} needs a value for {key!r}")
    if fault["type"] == "value_error":  # of a validator of ours, which says what it was given
        return ValueError(f"{where}: {key}{': ' * bool(key)}{fault['ctx']['error']}")
    remedy = f"write {KINDS[fault['type']]}" if fault["type"] in KINDS else fault["msg"]
    if fault["type"] == "tuple_type" and isinstance(value, dict) and key == "studies":
        remedy = "write [[studies]], in two pairs of brackets, before each study"
    elif fault["type"] == "tuple_type" and not isinstance(value, dict):
        remedy += f", {location[-1]} = [{_shown(value)}]"
    return ValueError(f"{where}: {key}: {remedy} (got {_shown(value)})")


def _shown(value: Any) -> str:
    """A value as TOML has it, cut where it is long; of a table that it is one."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return "a table" if isinstance(value, dict) else brief(text, SHOWN)


def _within(model: type[BaseModel], location: Sequence[int | str]) -> type[BaseModel]:
    """The model that has, or lacks, the last key of a location in another one."""
    for step in location[:-1]:
        field = model.model_fields.get(str(step))
        for kind in (field.annotation, *get_args(field.annotation)) if field else ():
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
    return model
