"""nflows' own families as a user of nflows gets them, registered for an audit alone.

This project's discrete flows are nflows' transforms with their faults mended. Here they are as they
come: each is made by the lines of ``libraries/nflows.toml``.
"""

from __future__ import annotations

from typing import Any

import flows
from benchmarks.audit.scripts import construction, families
from flows import Flow


def _factory(family: str) -> Any:
    def factory(dim: int, *, hidden: int = 16, layers: int = 2) -> Flow:
        scope: dict[str, Any] = {}
        text = construction("nflows", family, {"dim": dim, "hidden": hidden, "layers": layers})
        exec(text, scope)
        return Flow(scope["flow"]._transform, dim, 0)

    factory.__doc__ = f"nflows' own {family.removeprefix('nflows_')}."
    return factory


for name in families("nflows"):
    flows.register(name, uses=("hidden", "layers"), requires="nflows")(_factory(name))
