"""Reference of the keys of a suite, in Markdown: from the models of suites and of every study."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic.json_schema import models_json_schema

from benchmarks.core.formats import NOTHING, markdown, markdown_table
from benchmarks.core.study import registry
from benchmarks.execution.suite import Suite

HEADERS = ("Key", "Type", "Default", "Meaning")
BOUNDS = {"exclusiveMinimum": ">", "minimum": "≥", "maximum": "≤", "multipleOf": "a multiple of"}
SHARED = 3  # keys of a table from which on another is described as that and its own

Schema = Mapping[str, Any]


def suite_keys() -> str:
    """Each key with its type, default and meaning: of a suite, its studies, and tables in these."""
    models = {title: m for name in registry for title, m in registry[name].models.items()}
    refs, schema = models_json_schema([(m, "validation") for m in (Suite, *models.values())])
    reference = _Reference(schema["$defs"])
    tops = {name: _target(refs[model, "validation"]) for name, model in models.items()}
    blocks = ["## A suite", reference.table(Suite.__name__)]
    for name, model in tops.items():
        about = _prose(reference.schemas[model].get("description", "").partition("\n\n")[2])
        question = registry[name.split("`")[1]].question
        blocks += [f"## The study {name}", _prose(question), about]
        blocks.append(reference.table(model))
    blocks.append("## Tables within these tables")
    nested = reference.within([Suite.__name__, *tops.values()])
    for place, name in enumerate(nested):
        blocks += [f"### {name}", _about(reference.schemas[name])]
        blocks += reference.beside(name, nested[:place])
    return "\n\n".join(filter(None, blocks))


class _Reference:
    """The definitions of a JSON schema as Markdown."""

    def __init__(self, schemas: Mapping[str, Schema]) -> None:
        self.schemas = schemas

    def table(self, name: str, without: Schema | None = None) -> str:
        """The keys of a model, but for those that are the same ``without``."""
        rows = [
            [
                f"`{key}`",
                self.kind(schema),
                self.default(schema),
                _prose(schema.get("description", "")),
            ]
            for key, schema in self.schemas[name]["properties"].items()
            if (without or {}).get(key) != schema
        ]
        return markdown_table(HEADERS, rows, ()) if rows else ""

    def beside(self, name: str, others: Iterable[str]) -> Iterator[str]:
        """The keys of a model: where one of the others has as many, by reference to that."""
        keys = self.schemas[name]["properties"]
        parts = {other: self.schemas[other]["properties"] for other in others}
        bases = [n for n, part in parts.items() if len(part) >= SHARED and part.keys() <= {*keys}]
        base = max(bases, key=lambda other: len(parts[other]), default="")
        own = self.table(name, parts.get(base))
        if base:
            yield f"The keys of {_link(base)}{', of which these are its own:' if own else '.'}"
        yield own

    def within(self, names: Iterable[str]) -> list[str]:
        """The models that keys of models refer to, at any depth, those of fewer keys first."""
        tops, every = list(names), list(names)
        for name in every:  # which grows
            refs = re.findall(r'"\$ref": "[^"]*/(\w+)"', json.dumps(self.schemas[name]))
            new = [ref for ref in dict.fromkeys(refs) if "properties" in self.schemas[ref]]
            every += [ref for ref in new if ref not in every]
        return sorted(every[len(tops) :], key=lambda name: len(self.schemas[name]["properties"]))

    def kind(self, schema: Schema, plural: str = "") -> str:
        """A type in TOML's terms; ``plural`` is "s" for that of items."""
        if (target := _target(schema)) and "properties" in self.schemas[target]:
            return _link(target)
        if target:
            return self.kind(self.schemas[target], plural)
        if "anyOf" in schema:
            choices = [self.kind(part, plural) for part in schema["anyOf"] if not _is_null(part)]
            return " or ".join(dict.fromkeys(choices))
        if "enum" in schema:
            return " or ".join(f"`{_toml(value)}`" for value in schema["enum"])
        word = {"object": "table", "array": "list"}.get(kind := schema.get("type", "value"), kind)
        if "prefixItems" in schema:
            return f"{word}{plural} of {', '.join(map(self.kind, schema['prefixItems']))}"
        inner = schema.get("items") or schema.get("additionalProperties")
        of = f" of {self.kind(inner, 's')}" if isinstance(inner, Mapping) else ""
        bounds = (f"{words} {_toml(schema[key])}" for key, words in BOUNDS.items() if key in schema)
        return f"{word}{plural}{of} {', '.join(bounds)}".rstrip()

    def default(self, schema: Schema) -> str:
        """A default as TOML; of a table the values that differ from those of its model."""
        if (value := schema.get("default")) is None:
            return NOTHING
        brief = self._brief(value, schema)
        if _target(schema) and brief == {}:
            return "its own"
        return f"`{_toml(brief)}`".replace("|", r"\|")

    def _brief(self, value: Any, schema: Schema) -> Any:
        """A value of which tables lack what their model says by itself."""
        if isinstance(value, list) and isinstance(items := schema.get("items"), Mapping):
            return [self._brief(item, items) for item in value]
        target = _target(schema)
        keys = self.schemas[target].get("properties", {}) if target else {}
        if isinstance(value, Mapping):
            return {k: v for k, v in value.items() if v != keys.get(k, {}).get("default")}
        return value


def _target(schema: Schema) -> str:
    """The name of the definition that a schema refers to; empty for none."""
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _is_null(schema: Schema) -> bool:
    return schema.get("type") == "null"


def _link(name: str) -> str:
    return f"[{name}](#{name.lower()})"


def _about(schema: Schema) -> str:
    return _prose(schema.get("description", ""))


def _toml(value: Any) -> str:
    """A JSON value as TOML writes it in one line; a key without a value is left out."""
    if isinstance(value, Mapping):
        pairs = (f"{k} = {_toml(v)}" for k, v in value.items() if v is not None)
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False).removesuffix(".0")


def _prose(text: str) -> str:
    """A docstring as Markdown in one line; what stands in backticks is code."""
    parts = re.split(r"`+([^`]+)`+", " ".join(text.split()))
    return "".join(f"`{p}`" if i % 2 else markdown(p) for i, p in enumerate(parts))
