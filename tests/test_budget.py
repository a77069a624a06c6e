"""Budgets: every family meets a number of parameters within 5 %, or says why it cannot."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import flows
from benchmarks.studies.contender import Contender
from flows.budget import WITHIN, trainable, width
from flows.registry import Member

WIDE = [name for name in flows.own() if "hidden" in flows.members[name].uses]
NARROW = [name for name in flows.own() if name not in WIDE]
DIM = 3


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("budget", [20_000, 100_000])
def test_every_family_meets_a_budget_with_the_nearest_width(name, budget):
    """Weights, and draws after them, are bitwise those by the width that the search finds."""
    torch.manual_seed(7)
    flow, after = flows.build(name, DIM, parameters=budget), torch.rand(4)
    missed = abs(trainable(flow) - budget)
    assert missed <= WITHIN * budget
    hidden = width(flows.members[name], DIM, budget, {})
    for other in filter(None, (hidden - 1, hidden + 1)):
        assert abs(trainable(flows.build(name, DIM, hidden=other)) - budget) >= missed
    torch.manual_seed(7)
    by_width = flows.build(name, DIM, hidden=hidden).state_dict()
    assert torch.equal(after, torch.rand(4))
    torch.testing.assert_close(flow.state_dict(), by_width, rtol=0, atol=0)


def _linear(slope: int, offset: int, trials: list[int] | None = None) -> Member:
    def line(dim: int, *, hidden: int = 4) -> nn.Module:
        if trials is not None:
            trials.append(hidden)
        return nn.Linear(slope * hidden + offset, 1, bias=False)

    return Member("line", line, ("hidden",))


@given(st.integers(1, 300), st.integers(0, 300), st.integers(1, 20_000))
def test_the_width_is_the_nearest_or_the_refusal_is_right(slope, offset, budget):
    """Against the exact solution for a family whose parameters are linear in the width."""
    trials: list[int] = []
    exact = min(range(1, budget // slope + 3), key=lambda h: abs(slope * h + offset - budget))
    if abs(slope * exact + offset - budget) <= WITHIN * budget:
        assert width(_linear(slope, offset, trials), DIM, budget, {}) == exact
        assert len(trials) <= 2 * (exact + 1).bit_length() + 2
    else:
        with pytest.raises(ValueError, match="'line'") as caught:
            width(_linear(slope, offset), DIM, budget, {})
        assert f"has {slope * exact + offset}" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("slope", "offset", "budget", "options", "reason"),
    [
        (0, 7, 50, {}, " 7 .*hidden=1"),
        (1, 0, 50, {"hidden": 3}, "hidden=3"),
        (1, 0, 0, {}, " 0 parameters"),
        (1, 0, 2.5, {}, r" 2\.5 parameters"),
        (1, 0, True, {}, " True parameters"),
    ],
)
def test_a_budget_that_cannot_be_met_says_why(slope, offset, budget, options, reason):
    """Of no effect, given beside a width, or no number; too small and too coarse are above."""
    with pytest.raises(ValueError, match=reason) as caught:
        width(_linear(slope, offset), DIM, budget, options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "budget", "reason"),
    [*((name, 1000, f"{name!r} .*'hidden'") for name in NARROW), ("maf", 10**12, "100,000,000")],
)
def test_no_width_and_no_end_are_refused_at_once(name, budget, reason):
    """A family without a width; the search builds flows and must not take all memory."""
    with pytest.raises(ValueError, match=reason):
        flows.build(name, DIM, parameters=budget)


@pytest.mark.parametrize("name", ["maf", "cnf"])
def test_a_contender_resolves_its_budget_into_the_width(name):
    options = Contender(flow=name, parameters=20_000).complete({"hidden": 5, "depth": 2}, DIM)
    assert "parameters" not in options
    sizes = flows.members[name].applicable({"depth": 2})
    assert options["hidden"] == width(flows.members[name], DIM, 20_000, sizes)
    with pytest.raises(ValueError, match="hidden"):
        Contender(flow=name, parameters=20_000, options={"hidden": 5}).complete({}, DIM)
