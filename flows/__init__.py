"""Normalizing flows behind one interface: discrete, continuous with exact trace, and FFJORD."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from flows.counting import count_nfe as count_nfe
from flows.flow import Bijection as Bijection
from flows.flow import Flow as Flow
from flows.registry import SIZES, Member, Registry

members: Registry[Member] = Registry(
    "flow", ("flows.discrete", "flows.continuous"), group="flowgauge.flows"
)


def register(
    name: str, *, uses: tuple[str, ...]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated factory ``(dim, *, options) -> Bijection | Flow`` under a name.

    ``uses`` are those of hidden, depth, layers and context_dim that the member takes as keyword
    arguments; the others are refused at build. Raises TypeError where the signature lacks one of
    them or an option has no default, and ValueError where the name is taken.
    """

    def decorate(factory: Callable[..., Any]) -> Callable[..., Any]:
        member = Member(name, factory, tuple(uses))
        missing = [size for size in uses if size not in SIZES or size not in member.defaults]
        bare = [k for k, v in member.defaults.items() if v is inspect.Parameter.empty]
        if bare:
            raise TypeError(f"flow {name!r} must give a default to each option: {bare} have none")
        if missing:
            raise TypeError(
                f"flow {name!r} declares to use {missing}, but takes {list(member.defaults)}"
            )
        members.add(name, member, factory.__module__)
        return factory

    return decorate


def build(name: str, dim: int, **options: Any) -> Flow:
    """Build the flow registered under ``name`` for data of ``dim`` columns.

    Raises ValueError for an unknown name or option (with the choices) and for sizes below one.
    """
    member = members[name]
    complete = member.complete(options)
    sizes: dict[str, Any] = {
        "dim": dim,
        **{k: complete[k] for k in ("hidden", "depth", "layers") if k in complete},
    }
    for size, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(
                f"flow {name!r} needs {size} to be a whole number from 1, got {value!r}"
            )
    context_dim = complete.get("context_dim", 0)
    if isinstance(context_dim, bool) or not isinstance(context_dim, int) or context_dim < 0:
        raise ValueError(
            f"flow {name!r} needs context_dim to be a whole number from 0, got {context_dim!r}"
        )
    built = member.factory(dim, **complete)
    return built if isinstance(built, Flow) else Flow(built, dim, context_dim)


def names() -> list[str]:
    """Names of all registered flows."""
    return list(members)
