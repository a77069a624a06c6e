"""Normalizing flows behind one interface: discrete, continuous with exact trace, and FFJORD."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flows.registry import SIZES, Member, Registry, flat

if TYPE_CHECKING:
    from flows.bijection import Bijection as Bijection
    from flows.conformance import Conformance as Conformance
    from flows.conformance import check as check
    from flows.counting import count_nfe as count_nfe
    from flows.families import Capabilities as Capabilities
    from flows.families import capabilities as capabilities
    from flows.fitting import Fit as Fit
    from flows.fitting import fit as fit
    from flows.flow import Flow as Flow
    from flows.saved import load as load
    from flows.saved import save as save

version = 1
pace = 1

members: Registry[Member] = Registry(
    "flow", ("flows.discrete", "flows.continuous", "flows.adapters"), group="flowgauge.flows"
)


def register(
    name: str,
    *,
    uses: tuple[str, ...],
    requires: str | None = None,
    version: int = 1,
    pace: int = 1,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated factory ``(dim, *, options) -> Bijection | Flow`` under a name.

    ``uses`` are those of hidden, depth, layers and context_dim that the member takes as keyword
    arguments, or in a `flows.registry.Sizes`; the others are refused at build. A member that
    ``requires`` a package is listed where that can be found, and should import it in the factory
    alone; it is a flow of that library if its name begins with the package's, "zuko_maf". Raise
    ``version`` when a change moves what the member computes, ``pace`` when it moves only how fast:
    earlier records are then stale. Raises TypeError where the signature lacks one of ``uses`` or an
    option has no default, and ValueError where the name is taken.
    """

    def decorate(factory: Callable[..., Any]) -> Callable[..., Any]:
        factory = flat(factory, uses)
        prefixed = requires is not None and name.startswith(f"{requires.lower()}_")
        member = Member(name, factory, tuple(uses), requires if prefixed else None)
        if unknown := [size for size in uses if size not in SIZES]:
            raise TypeError(
                f"flow {name!r} declares to use {unknown}, but sizes are {', '.join(SIZES)}"
            )
        missing = [size for size in uses if size not in member.defaults]
        bare = [k for k, v in member.defaults.items() if v is inspect.Parameter.empty]
        if bare:
            raise TypeError(f"flow {name!r} must give a default to each option: {bare} have none")
        if missing:
            raise TypeError(
                f"flow {name!r} declares to use {missing}, but takes {list(member.defaults)}"
            )
        members.add(name, member, factory.__module__, requires, version=version, pace=pace)
        return factory

    return decorate


def build(name: str, dim: int, *, parameters: int | None = None, **options: Any) -> Flow:
    """Build the flow registered under ``name`` for data of ``dim`` columns.

    ``parameters`` replaces ``hidden`` by the width with that many trainable parameters, within 5 %;
    the weights are those of a build of that width. Raises ValueError for an unknown name or
    option (with the choices), for sizes below one, and where no width meets the budget.
    """
    from flows.budget import width
    from flows.flow import Flow
    from flows.saved import Recipe

    member = members[name]
    if parameters is not None:
        options["hidden"] = width(member, dim, parameters, options)
    model = member.construct(dim, options)
    context_dim = member.complete(options).get("context_dim", 0)
    flow = model if isinstance(model, Flow) else Flow(model, dim, context_dim)
    flow.recipe = Recipe(name, dim, member.complete(options), members.declared(name).version)
    return flow


def names() -> list[str]:
    """Names of all registered flows whose packages are installed."""
    return list(members)


def own() -> list[str]:
    """Names of the flows of this package and of plug-ins, without those of other libraries."""
    return [name for name in names() if members[name].library is None]


LATER = {  # names that are imported when first used, since torch takes seconds
    **{"Bijection": "flows.bijection", "Flow": "flows.flow", "count_nfe": "flows.counting"},
    **dict.fromkeys(("load", "save"), "flows.saved"),
    **dict.fromkeys(("capabilities", "Capabilities"), "flows.families"),
    **dict.fromkeys(("check", "Conformance"), "flows.conformance"),
    **dict.fromkeys(("fit", "Fit"), "flows.fitting"),
}


def __getattr__(name: str) -> Any:
    """Import a module of this package when one of its names is first asked for."""
    if name in LATER:
        return getattr(importlib.import_module(LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
