"""The audit of other libraries: broken copies of their flows are faults, healthy ones are not."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import flows
from benchmarks.audit import plan, scripts
from benchmarks.audit.scripts import script, terms
from benchmarks.audit.server import run
from benchmarks.audit.session import allowed, excused, shows
from flows.conformance import ROWS, contexts
from flows.conformance.subject import subject_of
from flows.plugins import described

pytestmark = pytest.mark.filterwarnings("ignore")  # libraries' notices about themselves

LIBRARIES = {library.name: library for library in plan.libraries() if not library.fault}
FAMILIES = [(name, family) for name, library in LIBRARIES.items() for family in library.members]
SIZES = {"hidden": 4, "depth": 1, "layers": 1}
DIM = 3

# of each library a family, and where its passes from data and from noise can be broken
PASSES = {
    "nflows": ("nflows_realnvp", "nflows.transforms:CompositeTransform", "forward", "inverse"),
    "normflows": ("normflows_realnvp", "normflows.flows:AffineCouplingBlock", "inverse", "forward"),
    "torchflows": (
        *("torchflows_realnvp", "torchflows.bijections.base:BijectiveComposition"),
        *("forward", "inverse"),
    ),
    "FrEIA": ("freia_realnvp", "FrEIA.framework:SequenceINN", "forward", "forward"),
    "zuko": ("zuko_maf", "zuko.transforms:ComposedTransform", "call_and_ladj", "call_and_ladj"),
}
FAULTS: dict[str, tuple[Callable[..., Any], str]] = {
    "sign of the log-determinant": (lambda y, ladj: (y, -ladj), "log-determinant"),
    "a missing term": (lambda y, ladj: (y, ladj / 2), "log-determinant"),
    "no gradient": (lambda y, ladj: (y.detach(), ladj.detach()), "parameters without gradient"),
    "a wrong inverse": (lambda y, ladj: (1.001 * y, ladj), "round trip from data"),
    "a stale cache": (lambda y, ladj: (y, ladj), "cache in evaluation"),
}


def broken(real: Callable[..., Any], spoil: Callable[..., Any], label: str) -> Callable[..., Any]:
    """A pass whose results are spoilt; where the label says so, of noise to data alone."""

    def call(self: Any, *inputs: Any, **options: Any) -> Any:
        y, ladj = real(self, *inputs, **options)
        if label == "a wrong inverse" and options.get("rev") is False:
            return y, ladj
        if label == "a stale cache":
            kept = ladj if getattr(self, "training", True) else vars(self).setdefault("kept", ladj)
            return y, kept[:1].expand(len(y))
        return spoil(y, ladj)

    return call


def breaking(library: str, label: str) -> tuple[Any, str, Any]:
    """Class, method and replacement that break a library's flow."""
    _, place, data, noise = PASSES[library]
    module, _, name = place.partition(":")
    kind = getattr(importlib.import_module(module), name)
    method = noise if label == "a wrong inverse" else data
    if library == "zuko" and label == "a stale cache":  # its transforms are made for each call
        linear = importlib.import_module("zuko.nn").MaskedLinear

        def forward(self: Any, x: Tensor) -> Tensor:
            weight = (self.mask * self.weight).detach()
            weight = weight if self.training else vars(self).setdefault("kept", weight)
            return nn.functional.linear(x, weight, self.bias)

        return linear, "forward", forward
    if library == "zuko" and label == "a wrong inverse":
        kind, method = (
            importlib.import_module("zuko.transforms").MonotonicAffineTransform,
            "_inverse",
        )
        return kind, method, lambda self, y: 1.001 * (y - self.shift) / self.scale
    return kind, method, broken(getattr(kind, method), FAULTS[label][0], label)


def judged(library: str, family: str, name: str) -> tuple[dict[str, Any], bool]:
    """A row of the kit, and whether the library's own lines show a failure."""
    options = flows.members[family].applicable(SIZES)
    (row,) = (row for row in ROWS if row.name == name)
    subject = subject_of(family, DIM, None, None, 0, torch.float64, options)
    result: dict[str, Any] = {"library": library, "family": family, "row": name, "bound": None}
    try:
        finding = row.measure(subject)
        result |= {"bound": finding.bound, "passed": finding.value <= finding.bound}
        note = finding.note
    except RuntimeError as error:
        result["passed"], note = False, described(error)
    sizes = {"dim": DIM, "dtype": "float64", "parameters": "moved"}
    complete = flows.members[family].complete(options)
    output, error = run(str(script(library, family, name, **sizes, options=complete)))
    assert not (error and result["passed"]), error
    return result, shows(output, error, result, note)


@pytest.mark.parametrize("label", FAULTS)
@pytest.mark.parametrize("library", [name for name in PASSES if name in LIBRARIES])
def test_a_broken_copy_is_a_fault_and_a_healthy_one_is_not(
    library: str, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the row that should see it, and by the library's own lines."""
    family, row = PASSES[library][0], FAULTS[label][1]
    result, confirmed = judged(library, family, row)
    assert (result["passed"], confirmed) == (True, False)
    monkeypatch.setattr(*breaking(library, label))
    result, confirmed = judged(library, family, row)
    assert (result["passed"], confirmed) == (False, True)


@pytest.mark.parametrize(("library", "family"), FAMILIES)
def test_lines_of_a_family_make_the_member(library: str, family: str) -> None:
    """Parameters of the same shapes; where they are equal, the same density."""
    torch.manual_seed(0)
    flow = flows.build(family, DIM, **plan.options(library, family)).double()
    scope: dict[str, Any] = {}
    sizes = {"dim": DIM, "dtype": "float64", "parameters": "initial"}
    text = script(library, family, "small batches", **sizes, options=plan.complete(library, family))
    exec(str(text).partition("x = 1.5")[0], scope)
    mine, theirs = list(flow.parameters()), list(scope["flow"].parameters())
    assert sorted(p.shape for p in mine) == sorted(p.shape for p in theirs)
    own = terms(library, family)
    same = all(torch.equal(p, q) for p, q in zip(mine, theirs, strict=True))
    if same and not own["estimated"] and not own["tolerance"]:
        x = torch.randn(4, DIM, dtype=torch.float64)
        with torch.no_grad():
            log_prob = scope["log_prob"](scope["flow"], x)
            assert torch.allclose(flow.log_prob(x), log_prob, rtol=0, atol=1e-9)


@pytest.mark.parametrize("library", LIBRARIES)
def test_lines_are_those_of_the_members(library: str) -> None:
    """No family without lines, and none that is not registered."""
    assert set(scripts.families(library)) == set(LIBRARIES[library].members)


def test_every_row_of_the_kit_has_lines() -> None:
    """But for those that no library's own flow has: images alone, a loss of its own, contexts."""
    sizes = {"dim": 2, "dtype": "float32", "parameters": "moved"}
    options = plan.complete("nflows", "nflows_maf")
    conditional = {row.name for row in contexts.rows} | {"gradient for the context"}
    for row in {row.name for row in ROWS} - conditional - {"images alone", "loss"}:
        text = script("nflows", "nflows_maf", row, **sizes, options=options)
        assert text is not None, row
        compile(text, row, "exec")
        assert not re.search(r"^(import|from) (flows|benchmarks)", text, re.M)


def test_an_estimate_and_a_stated_tolerance_are_excused() -> None:
    """Beyond the bound they are no fault; beyond the tolerance they are."""
    row = {"library": "zuko", "family": "zuko_naf", "row": "round trip from data", "bound": 1e-7}
    assert not shows("2e-7", "", row, "")
    assert shows("2e-2", "", row, "")
    assert allowed({**row, "family": "zuko_maf"}) == 1e-7
    estimate = {"library": "torchflows", "family": "torchflows_ffjord", "row": "log-determinant"}
    assert excused(estimate)
    assert not excused({**estimate, "row": "gradient for parameters"})


def test_an_error_is_confirmed_by_the_same_error_alone() -> None:
    row = {"library": "zuko", "family": "zuko_maf", "row": "small batches", "bound": None}
    assert shows("", "RuntimeError: of no rows", row, "RuntimeError: no rows")
    assert not shows("", "NameError: x", row, "RuntimeError: no rows")
    assert not shows("0", "", row, "RuntimeError: no rows")
