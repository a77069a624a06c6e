"""Errors in the context alone: a check that is told nothing of contexts finds each."""

from __future__ import annotations

import pytest
import torch

import flows
from broken_contexts import ERRORS, Affine, FirstRow
from flows.conformance import GIVEN


def _registered(family: type[Affine]) -> str:
    @flows.register("conditional_affine", uses=("context_dim",))
    def _affine(dim: int, *, context_dim: int = 0) -> Affine:
        """An affine map of a context."""
        return family(dim, context_dim)

    return "conditional_affine"


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_sound_family_is_judged_with_and_without_a_context(dim: int) -> None:
    """All rows twice, and those on contexts apply the second time."""
    with flows.members.temporary():
        result = flows.check(_registered(Affine), dim=dim)
    assert result.passed, str(result)
    judged = {row.name for row in result.rows if row.status == "pass"}
    assert {"log-determinant", f"log-determinant{GIVEN}", f"contexts in turn{GIVEN}"} <= judged
    assert "contexts in turn" not in judged


@pytest.mark.parametrize("family", ERRORS)
def test_an_error_in_the_context_alone_is_found(family: type[Affine]) -> None:
    """By the rows that should, and by none of those without a context."""
    with flows.members.temporary():
        result = flows.check(_registered(family), dim=2, dtypes=[torch.float64])
    failed = {row.name for row in result.failed}
    assert {name + GIVEN for name in ERRORS[family]} <= failed, str(result)
    assert all(name.endswith(GIVEN) for name in failed), str(result)


def test_a_conditional_instance_gets_contexts_of_its_own() -> None:
    """Drawn where none are given."""
    sound, broken = (flows.Flow(family(2, 3), 2, 3) for family in (Affine, FirstRow))
    assert flows.check(sound).passed
    assert "batch independence" in {row.name for row in flows.check(broken).failed}


def test_a_flow_that_does_not_state_the_width_of_its_context_gets_the_declared_one() -> None:
    with flows.members.temporary():

        @flows.register("unstated", uses=("context_dim",))
        def _unstated(dim: int, *, context_dim: int = 0) -> flows.Flow:
            """A sound flow, whose Flow does not state context_dim."""
            return flows.Flow(Affine(dim, context_dim), dim)

        assert flows.check("unstated", dim=2).passed


def test_a_declared_context_that_cannot_be_built_is_a_failed_row() -> None:
    with flows.members.temporary():

        @flows.register("refuses_context", uses=("context_dim",))
        def _refuses(dim: int, *, context_dim: int = 0) -> Affine:
            """Declares a context and has none."""
            if context_dim:
                raise ValueError("no context here")
            return Affine(dim, 0)

        (row,) = flows.check("refuses_context", dim=2).failed
    assert row.name == f"construction{GIVEN}"
    assert "no context here" in row.note
