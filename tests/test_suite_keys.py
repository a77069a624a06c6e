"""The reference of suites: every key has a meaning, and a default that reads as the model's."""

from __future__ import annotations

import re
import tomllib

import pytest
from benchmarks.report.suite_keys import suite_keys
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from benchmarks.core.study import registry
from benchmarks.execution.suite import Suite

MODELS = {"A suite": Suite, **{f"The study `{name}`": registry[name].Options for name in registry}}
PAGE = suite_keys()
SCHEMAS = models_json_schema([(model, "validation") for model in MODELS.values()])[1]["$defs"]


@pytest.mark.parametrize("name", [name for name in SCHEMAS if "properties" in SCHEMAS[name]])
def test_every_key_has_a_meaning(name: str) -> None:
    """A docstring under the attribute."""
    keys = SCHEMAS[name]["properties"]
    assert [key for key, schema in keys.items() if not schema.get("description")] == []
    assert f"\n### {name}\n" in PAGE or name in {m.__name__ for m in MODELS.values()}


@pytest.mark.parametrize(("title", "model"), MODELS.items())
def test_defaults_as_written_are_those_of_the_model(title: str, model: type[BaseModel]) -> None:
    section = re.split(r"^## ", PAGE, flags=re.M)
    (text,) = [part for part in section if part.startswith(f"{title}\n")]
    rows = re.findall(r"^\| `(\w+)` \| .*? \| (–|its own|`.*?`) \|", text, re.M)
    assert [key for key, _ in rows] == list(model.model_fields)
    for key, written in rows:
        field = model.model_fields[key]
        if written == "–":
            assert field.is_required() or field.default is None
            continue
        toml = "{}" if written == "its own" else written.strip("`")
        value = tomllib.loads(f"value = {toml}")["value"]
        default = field.default
        if isinstance(default, dict):
            default = {name: part for name, part in default.items() if part is not None}
        assert TypeAdapter(field.annotation).validate_python(value) == default, key
