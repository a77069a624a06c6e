"""A case: everything that can change one measured number, and the key made of it."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt, field_validator, model_validator

Whole = Annotated[StrictInt, Field(gt=0)]
PROTOCOL = "1"  # raised when numbers measured before and after can no longer be compared


# Studies that became parts of another: their keys and versions go on under the names that they had.
FORMER = {  # study and part, by the name of the former study
    "gradients": ("numerics", "gradients"),
    "identities": ("numerics", "identities"),
    "libraries": ("peers", "libraries"),
    "library_likelihoods": ("peers", "likelihoods"),
    "speed": ("peers", "speed"),
}
_FORMER_NAMES = {place: name for name, place in FORMER.items()}


def of_part(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a suite's entry, or a planned case, with the study and the part of a former study."""
    study, part = FORMER.get(str(entry.get("study")), ("", ""))
    return {**entry, "study": study, "part": part} if study else dict(entry)


class Settings(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """A table of a TOML file; the docstring of each attribute describes its key to users."""


class Seeds(BaseModel, frozen=True, extra="ignore"):
    """Separate streams: data and split, initial weights, noise of the flow, order of batches."""

    data: StrictInt = 0
    init: StrictInt = 0
    noise: StrictInt = 0
    batches: StrictInt = 0

    @classmethod
    def of(cls, seed: int) -> Self:
        """The streams of one repetition: everything anew, split or draw of the data too."""
        return cls(data=seed, init=seed, noise=seed, batches=seed)


class Case(BaseModel, frozen=True, extra="ignore"):
    """One cell of a study. Two cases with the same key measure the same thing."""

    model_config = ConfigDict(ignored_types=(cached_property,))

    study: str
    flow: str
    dim: Whole
    options: dict[str, Any] = Field(default_factory=dict)  #: the flow's, complete with defaults
    dataset: str | None = None
    batch: Whole
    updates: StrictInt = 0
    seeds: Seeds = Seeds()
    settings: dict[str, Any] = Field(default_factory=dict)  #: what else the study depends on
    roles: dict[str, Any] = Field(default_factory=dict)  #: in its comparison, for readers alone
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float32"
    threads: Whole = 1
    protocol: str = PROTOCOL
    needs: tuple[str, ...] = ()  #: keys of cases whose records decide what is measured
    resolves: str = ""  #: the key that a case with needs was planned under

    @model_validator(mode="before")
    @classmethod
    def _of_part(cls, fields: Any) -> Any:
        """Read a case of a former study as one of the part that it became."""
        settings = fields.get("settings", {}) if isinstance(fields, Mapping) else None
        if not isinstance(settings, Mapping) or fields.get("study") not in FORMER:
            return fields
        study, part = FORMER[fields["study"]]
        return {**fields, "study": study, "settings": {**settings, "part": part}}

    @field_validator("settings", mode="before")
    @classmethod
    def _renamed(cls, settings: Any) -> Any:
        """Read settings of earlier records: of trainings ``whiten``, or a ``clock`` of 0."""
        training = settings.get("training") if isinstance(settings, Mapping) else None
        if not isinstance(training, Mapping):
            return settings
        values = {name: value for name, value in training.items() if name != "clock" or value}
        if "whiten" in values:
            values = {"preprocessing": "whiten" if values.pop("whiten") else "none", **values}
        return {**settings, "training": values}

    @property
    def former(self) -> str:
        """The name that its study has in keys and versions: that of the study its part once was."""
        return _FORMER_NAMES.get((self.study, str(self.settings.get("part"))), self.study)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What differs from the defaults, as JSON: a new field with a default leaves it as it is.

        An option is compared with the default of the flow, a setting with that of the study's
        option of its name.
        """
        plain = self.model_dump(mode="json", exclude={"roles", "options", "settings", "resolves"})
        plain["study"] = self.former
        settings = canonical(self.settings)
        if self.former != self.study:
            del settings["part"]
        nested = {
            "options": different(*_options(self.flow, self.options)),
            "settings": different(settings, setting_defaults(self.study, self.settings)),
        }
        training = nested["settings"].get("training", {})
        if training.get("preprocessing") == "whiten":  # as in the keys of earlier records
            del training["preprocessing"]
            training["whiten"] = True
        return different(plain, _FIELDS) | {name: part for name, part in nested.items() if part}

    @cached_property
    def key(self) -> str:
        """Sixteen hexadecimal digits that identify the case, or the one that it resolves."""
        return self.resolves or digest(self.identity)[:16]

    @cached_property
    def words(self) -> frozenset[str]:
        """All texts among its values, names of members among them."""
        return frozenset(_texts(self.model_dump(mode="json")))

    def changed(self, **values: Any) -> Self:
        """The case with other values of its fields, and a key of its own."""
        return type(self).model_validate({**self.model_dump(), **values})

    @property
    def label(self) -> str:
        """A short line for progress and plans."""
        trace = self.options.get("trace")
        parts = (
            self.study,
            self.settings.get("part"),
            self.flow,
            self.settings.get("work") or self.settings.get("stage"),
            " ".join(map(str, trace.values())) if isinstance(trace, dict) else trace,
            self.dataset or f"D={self.dim}",
            f"seed {self.seeds.init}" if self.seeds.init else "",
        )
        return " ".join(str(part) for part in parts if part)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(part)


def digest(value: Any) -> str:
    """sha256 of a JSON value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def canonical(value: Any) -> Any:
    """A JSON value of options that may hold descriptions, models, tuples or mappings."""
    if hasattr(value, "plain"):
        return canonical(value.plain())
    if dataclasses.is_dataclass(value):
        return {f.name: canonical(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(k): canonical(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(v) for v in value]
    return value


def different(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are not their defaults; of nested mappings the parts that are not."""
    parts: dict[str, Any] = {}
    for name, value in values.items():
        default = defaults.get(name, dataclasses.MISSING)
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            if part := different(value, default):
                parts[name] = part
        elif default is dataclasses.MISSING or value != default:
            parts[name] = value
    return parts


def filled(value: Any, default: Any) -> Any:
    """A mapping with what it lacks of a default one, at every level; any other value as it is."""
    if not (isinstance(value, Mapping) and isinstance(default, Mapping)):
        return value
    return {**default, **{k: filled(v, default.get(k)) for k, v in value.items()}}


def disagreement(
    case: Mapping[str, Any], identity: Mapping[str, Any], defaults: Mapping[str, Any]
) -> str:
    """The first value of a case, as a record has it, that is not that of its identity; or "".

    What the identity leaves out is a default, where ``defaults`` of options and settings are given.
    What was resolved after the key was made is not compared.
    """
    if former := _FORMER_NAMES.get((case["study"], case.get("settings", {}).get("part"))):
        settings = {name: v for name, v in case["settings"].items() if name != "part"}
        case = {**case, "study": former, "settings": settings}
    chosen = ("options", "settings", "batch", "updates") if case.get("resolves") else ()
    values = {k: v for k, v in case.items() if k not in ("roles", "resolves", *chosen)}
    stated = {k: v for k, v in identity.items() if k not in chosen}
    return _unlike(values, stated, {**_FIELDS, **defaults})


def _unlike(values: Mapping[str, Any], stated: Mapping[str, Any], defaults: Any) -> str:
    defaults = defaults if isinstance(defaults, Mapping) else {}
    for name in {**stated, **values}:
        value, default = values.get(name), defaults.get(name)
        other = stated.get(name, defaults.get(name, value))
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            if part := _unlike(value, stated.get(name, {}), default):
                return f"{name}.{part}"
        elif isinstance(value, Mapping) or isinstance(other, Mapping):
            continue  # a description, of which a text is the short form
        elif value != other and name not in ("whiten", "preprocessing"):  # two names of one option
            return name
    return ""


def defaults_of(case: Case) -> dict[str, dict[str, Any]]:
    """The present defaults of the options of a case's flow and of its study's settings."""
    from flows import members

    options = canonical(members[case.flow].complete({})) if case.flow in members else {}
    return {"options": options, "settings": setting_defaults(case.study, case.settings)}


def setting_defaults(study: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults of settings by name: those of the options of their study, or of its part."""
    from benchmarks.core.study import registry  # here: who reads records needs no registry

    return _defaults(registry[study].part(settings).Options) if study in registry else {}


@cache
def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    return {
        name: canonical(field.get_default(call_default_factory=True))
        for name, field in model.model_fields.items()
        if not field.is_required()
    }


_FIELDS = _defaults(Case)


def _options(flow: str, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options and defaults of a flow, descriptions such as a Solver with all of their fields."""
    from flows import members

    defaults = members[flow].defaults if flow in members else {}
    values = {
        name: type(defaults[name]).of(value) if hasattr(defaults.get(name), "of") else value
        for name, value in options.items()
    }
    return _whole(values), _whole(defaults)


def _whole(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: canonical(dataclasses.asdict(value) if hasattr(value, "of") else value)
        for name, value in values.items()
    }
