"""Parametrisations over the registered flows, with small sizes."""

from __future__ import annotations

from typing import Any

import pytest

import flows

SIZES = {"hidden": 8, "depth": 2, "layers": 2}
CONDITIONAL = {"context_dim": 2}


def over(cases: dict[str, dict[str, Any]]) -> Any:
    return pytest.mark.parametrize(("name", "options"), cases.items(), ids=cases)


MEMBERS = {name: flows.members[name].applicable(SIZES) for name in flows.own()}


def _of(package: str) -> dict[str, dict[str, Any]]:
    return {
        n: sizes for n, sizes in MEMBERS.items() if flows.members.module_of(n).startswith(package)
    }


every_member = over(MEMBERS)
every_continuous = over(_of("flows.continuous"))
every_discrete = over(_of("flows.discrete"))
every_conditional = over(
    {
        name: {**sizes, **CONDITIONAL}
        for name, sizes in MEMBERS.items()
        if flows.members[name].applicable(CONDITIONAL)
    }
)
