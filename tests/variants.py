"""Options of registered flows that differ from their defaults; parametrisations over the flows."""

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

import flows
from flows.registry import SIZES

READ = "aten._local_scalar_dense.default"  # reads a value, and so waits for a device
SMALL = {"hidden": 8, "depth": 2, "layers": 2}
CONDITIONAL = {"context_dim": 2}


def variants(name: str) -> list[dict[str, Any]]:
    """Options that take, together, every alternative of each option once.

    The first has the first alternative of each option, the second the second of those that have
    more, and so on. A group of options that flows share (`flows.continuous.cnf`) is varied in
    the first of them alone, by name; of another library's flow the context alone.
    """
    if flows.members[name].library is not None:
        return [{"context_dim": 2}] if "context_dim" in flows.members[name].uses else []
    lists = {option[0]: _alternatives(name, *option) for option in options_of(name)}
    most = max(map(len, lists.values()), default=0)
    return [{k: v[index] for k, v in lists.items() if index < len(v)} for index in range(most)]


def _alternatives(name: str, option: str, hint: Any, default: Any) -> list[Any]:
    """Values of an option other than its default: choices, a larger number, other sizes.

    Of activations elu is left out: its slope has a kink, at which no solver is accurate.
    """
    member = flows.members[name]
    if option in SIZES:
        pieces = [2] if "solver" in member.defaults else []
        sizes = {"depth": [1, 3], "context_dim": [2], "layers": pieces}.get(option, [])
        return sizes if option in member.uses else []
    if get_origin(hint) is Literal:
        return [choice for choice in get_args(hint) if choice not in (default, "elu")]
    if isinstance(default, bool):
        return [not default]
    if isinstance(default, int):
        return [default + 1]
    return [2 * default] if isinstance(default, float) else []


def options_of(name: str) -> Iterator[tuple[str, Any, Any]]:
    """Name, type and default of each option; of a group only where no earlier flow has it."""
    earlier = {type(p.default) for n in flows.own() if n < name for p in _parameters(n)}
    for parameter in _parameters(name):
        group = parameter.default
        if not dataclasses.is_dataclass(group) or hasattr(group, "plain"):
            yield parameter.name, parameter.annotation, group
        elif type(group) not in earlier:
            for option, hint in get_type_hints(type(group)).items():
                yield option, hint, getattr(group, option)
        elif "context_dim" in vars(group):  # which each flow treats by itself
            yield "context_dim", int, 0


def _parameters(name: str) -> list[inspect.Parameter]:
    """Keyword-only parameters of the factory as it is written, with groups unexpanded."""
    factory = inspect.unwrap(flows.members[name].factory)
    parameters = inspect.signature(factory, eval_str=True).parameters.values()
    return [p for p in parameters if p.kind is p.KEYWORD_ONLY]


def small(name: str, step_size: float = 0.5, **sizes: int) -> dict[str, Any]:
    """Small sizes that a flow takes, and steps that can be differentiated if it solves an ODE."""
    steps = {"method": "rk4", "step_size": step_size, "gradient": "backprop"}
    solver = {"solver": steps} if "solver" in flows.members[name].defaults else {}
    return flows.members[name].applicable(SMALL | sizes) | solver


def over(cases: dict[str, dict[str, Any]]) -> Any:
    return pytest.mark.parametrize(("name", "options"), cases.items(), ids=cases)


MEMBERS = {name: flows.members[name].applicable(SMALL) for name in flows.own()}
DISCRETE = {n: sizes for n, sizes in MEMBERS.items() if "solver" not in flows.members[n].defaults}
every_member, every_discrete = over(MEMBERS), over(DISCRETE)
every_continuous = over({n: sizes for n, sizes in MEMBERS.items() if n not in DISCRETE})
