"""Options that ODE families share, as groups that a factory takes whole.

A factory writes ``net: Net = Net(), ode: ODE = ODE(trace=Trace("hutchinson"))`` with its own
defaults, and `flat` has the members of each group as keyword-only options of the family.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_type_hints

from flows.continuous.activations import ActivationName
from flows.continuous.solve import Solver
from flows.continuous.time_layers import TimeName
from flows.continuous.trace import Trace


@dataclass(frozen=True)
class Net:
    """The net of a field: arguments of `MLPField` beside the dimension."""

    hidden: int = 64
    depth: int = 2
    context_dim: int = 0
    activation: ActivationName = "tanh"
    time: TimeName = "concat"


@dataclass(frozen=True)
class ODE:
    """The ODE of a flow: ``layers`` pieces of time, each with a field of its own, and how to solve.

    The others are arguments of `CNF`.
    """

    layers: int = 1
    trace: Trace = Trace()
    solver: Solver = Solver()
    train_end_time: bool = False


def flat(factory: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a factory: replace each keyword argument that is a group by the group's members.

    A group is an argument whose default is a dataclass of this module; its members take the
    default's values, and the signature shows them in its place. TypeError for an unknown option.
    """
    signature = inspect.signature(factory, eval_str=True)
    groups = {p.name: p.default for p in signature.parameters.values() if _is_group(p.default)}
    parameters = [
        part
        for parameter in signature.parameters.values()
        for part in (_members(groups[parameter.name]) if parameter.name in groups else [parameter])
    ]

    @functools.wraps(factory)
    def flattened(*args: Any, **options: Any) -> Any:
        for name, group in groups.items():
            members = [field.name for field in dataclasses.fields(group)]
            chosen = {member: options.pop(member) for member in members if member in options}
            options[name] = dataclasses.replace(group, **chosen)
        return factory(*args, **options)

    flattened.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return flattened


def _is_group(default: Any) -> bool:
    return isinstance(default, Net | ODE)


def _members(group: Net | ODE) -> list[inspect.Parameter]:
    """A keyword-only parameter for each member, with the group's value as its default."""
    types = get_type_hints(type(group))
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=getattr(group, field.name),
            annotation=types[field.name],
        )
        for field in dataclasses.fields(group)
    ]
