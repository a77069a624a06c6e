"""Parametrisations over the registered flows, with small sizes; operators that read values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

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


class Reads(TorchDispatchMode):
    """Names of operators that read a value, and so wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._overloadpacket is torch.ops.aten._local_scalar_dense:
            self.names.append(func.name())
        return func(*args, **(kwargs or {}))
