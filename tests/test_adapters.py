"""Flows of other libraries behind our interface: their densities, names and refusals."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor

import flows

DIM, ROWS = 2, 4
SMALL = {"hidden": 4, "depth": 1, "layers": 2}
NAMES = [name for name in flows.names() if name not in flows.own()]
Normal = Callable[..., Tensor]
pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own notices


def _normflows(transform: Any, x: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    log_prob: Tensor = transform.model.log_prob(x, **given)
    return log_prob


def _torchflows(transform: Any, x: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    log_prob: Any = transform.flow.log_prob(x, **given)
    return log_prob[0] if isinstance(log_prob, tuple) else log_prob  # type: ignore[no-any-return]


def _freia(transform: Any, x: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    """As the readme has it: FrEIA has no distributions."""
    z, ladj = transform.network(x, c=[*given.values()])
    log_prob: Tensor = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1) + ladj
    return log_prob


def _zuko(transform: Any, x: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    log_prob: Tensor = transform.flow(*given.values()).log_prob(x)
    return log_prob


THEIRS = {"FrEIA": _freia, "normflows": _normflows, "torchflows": _torchflows, "zuko": _zuko}
CASES = [
    (name, context_dim)
    for name in NAMES
    for context_dim in (0, 2)[: 1 + ("context_dim" in flows.members[name].uses)]
]


@pytest.mark.parametrize(("name", "context_dim"), CASES)
def test_log_prob_is_the_librarys_own(name: str, context_dim: int, normal: Normal) -> None:
    """In float64, of rows, with a context where there is one, and with the same noise."""
    member = flows.members[name]
    torch.manual_seed(0)
    flow = flows.build(name, DIM, **member.applicable({**SMALL, "context_dim": context_dim}))
    flow = flow.double().eval()
    x, context = normal(ROWS, DIM), normal(ROWS, 2, seed=3)
    given = {"context": context} if context_dim else {}
    flow.initialize(x, **given)
    view: Any = flow.using(noise=3)
    seeded = getattr(view.transform, "seeded", None)
    assert member.library is not None
    theirs = THEIRS[member.library]
    if seeded is None:
        expected = theirs(view.transform, x, given)
    else:
        with seeded(x):
            expected = theirs(view.transform, x, given)
    assert torch.allclose(view.log_prob(x, **given), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("library", flows.members.libraries(), ids=lambda library: library.name)
def test_a_librarys_members_say_what_they_are(library: Any) -> None:
    """By their names, the first line of their docstrings, and the extra that installs them."""
    assert library.remedy == f"pip install 'flowgauge[{library.name}]'"
    if library.fault:
        pytest.skip(f"{library.name} {library.fault}")
    for name in library.members:
        member = flows.members[name]
        assert name.startswith(f"{library.name.lower()}_")
        assert member.library == library.name
        assert inspect.getdoc(member.factory)
        assert member.description.endswith(".")
    adapter = import_module(f"flows.adapters.{library.name.lower()}")
    with pytest.raises(TypeError, match="Linear"):
        getattr(adapter, f"from_{library.name.lower()}")(torch.nn.Linear(2, 2), 2)


@pytest.mark.parametrize("name", [n for n in NAMES if n in ("freia_glow", "torchflows_ffjord")])
def test_a_view_is_of_the_same_density_or_says_that_it_has_no_other_trace(
    name: str, normal: Normal
) -> None:
    """As that of every flow without an ODE; a random estimate has no exact trace."""
    flow, x = flows.build(name, DIM, hidden=4).double().eval(), normal(ROWS, DIM)
    if getattr(flow.transform, "estimated", False):
        with pytest.raises(ValueError, match=r"random estimate.*'exact'"):
            flow.using(trace="exact")
        assert not torch.equal(flow.log_prob(x), flow.log_prob(x))
    else:
        assert torch.equal(flow.using(trace="exact").log_prob(x), flow.log_prob(x))
