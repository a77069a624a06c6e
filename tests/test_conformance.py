"""The conformance kit on every registered flow, and on flows that are broken on purpose."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from nflows.transforms import BatchNorm, CompositeTransform, IdentityTransform, LULinear
from torch import Tensor, nn
from torch.distributions import Independent, Laplace

import flows
from flows import Flow
from flows.adapters.distributions import DistributionBase
from flows.bijection import StandardNormal
from flows.conformance import ROWS
from flows.continuous import CNF, MLPField
from flows.continuous import trace as traces
from flows.discrete.linear import LINEAR

SIZES = {"hidden": 8, "depth": 2, "layers": 2}
FURTHER = (  # of one layer: an ODE each takes its time
    {"depth": 1, "layers": 1},
    {"depth": 3, "layers": 1},
    {"context_dim": 2, "layers": 1},
)
OWN = {  # options beside the sizes
    "glow": [{"linear": name} for name in LINEAR],
    "nsf_coupling": [{"linear": "permutation"}, {"bins": 3, "tail_bound": 2.0}],
    "nsf_ar": [{"bins": 3, "tail_bound": 2.0}],
    "cnf": [{"trace": "loop"}],
}


def _cases() -> Iterator[Any]:
    """Every member at four dimensions, and once with each further size or option that it takes."""
    for name in flows.names():
        member = flows.members[name]
        plain = member.applicable(SIZES)
        for dim in (1, 2, 3, 10):
            yield pytest.param(name, dim, plain, id=f"{name}-{dim}")
        theirs = flows.members.module_of(name).startswith("flows.adapters")
        sizes = FURTHER[-1:] if theirs else FURTHER
        for change in (*map(member.applicable, sizes), *OWN.get(name, ())):
            if change.keys() != {"layers"}:
                label = "-".join(f"{key}={value}" for key, value in change.items())
                yield pytest.param(name, 3, {**plain, **change}, id=f"{name}-3-{label}")


@pytest.mark.parametrize(("name", "dim", "options"), list(_cases()))
def test_every_member_conforms(name: str, dim: int, options: dict[str, Any]) -> None:
    """Every row passes, or says why it does not apply."""
    found = flows.check(name, dim=dim, **options)
    assert found.passed, str(found)
    assert all(row.note for row in found.rows if row.status == "not applicable")
    if dim > 1 and not options.get("context_dim"):
        judged = {row.name for row in found.rows if row.status == "pass"}
        assert {"log-determinant", "round trip from data", "batch independence"} <= judged


# ---- broken flows -----------------------------------------------------------------------------


class Broken(nn.Module):
    """A sound linear Bijection z = A x + b whose results ``spoil`` changes."""

    def __init__(self, spoil: Callable[..., Any], *, forward: bool = True, inverse: bool = True):
        super().__init__()
        torch.manual_seed(0)
        self.inner = LULinear(3, identity_init=False)
        self.spoil, self.spoiled = spoil, (forward, inverse)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, ladj = self.inner.forward_no_cache(x)
        return self.spoil(y, ladj) if self.spoiled[0] else (y, ladj)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        inverse = torch.linalg.inv(self.inner.weight())
        y = (z - self.inner.bias) @ inverse.T
        ladj = -self.inner.logabsdet() * y.new_ones(len(y))
        return self.spoil(y, ladj) if self.spoiled[1] else (y, ladj)


class Unused(Broken):
    """One parameter that nothing depends on."""

    def __init__(self) -> None:
        super().__init__(lambda y, ladj: (y, ladj))
        self.idle = nn.Parameter(torch.ones(2))


class WrongBase(StandardNormal):
    """Draws what is not its density; or, ``heavy``, a density of mass two."""

    def __init__(self, scale: float, heavy: bool = False) -> None:
        super().__init__()
        self.scale, self.heavy = scale, heavy

    def log_prob(self, z: Tensor) -> Tensor:
        return super().log_prob(z) + (torch.log(torch.tensor(2.0)) if self.heavy else 0)

    def rsample(self, like: Tensor) -> Tensor:
        return self.scale * super().rsample(like)


class Wide(DistributionBase):
    """A Laplace density that is drawn from twice as widely."""

    def __init__(self) -> None:
        super().__init__(Independent(Laplace(torch.zeros(3), torch.ones(3)), 1))

    def rsample(self, like: Tensor) -> Tensor:
        return 2 * super().rsample(like)


class Modes(Broken):
    """Scales only in evaluation mode."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, ladj = super().forward(x)
        return (y, ladj) if self.training else (1.1 * y, ladj + 3 * math.log(1.1))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, ladj = super().inverse(z if self.training else z / 1.1)
        return x, ladj if self.training else ladj - 3 * math.log(1.1)


class Beside(Broken):
    """Keeps a tensor that is not in its state."""

    def __init__(self) -> None:
        super().__init__(lambda y, ladj: (y, ladj))
        self.order = torch.randperm(3)


class Conditional(Broken):
    """Shifts by its context, by as much as ``seen`` makes of it."""

    def __init__(self, seen: Callable[[Tensor], Tensor], there: bool = True) -> None:
        super().__init__(lambda y, ladj: (y, ladj))
        self.seen, self.there = seen, there

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, ladj = super().forward(x)
        return y + (self.seen(context) if self.there else context), ladj

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super().inverse(z - (context if self.there else self.seen(context)))


class InPlace(Broken):
    """Shifts its input where it stands."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if not x.requires_grad:
            x += 1
            return super().forward(x - 1)
        return super().forward(x)


class WrongGradient(torch.autograd.Function):
    """The identity, whose gradient is one per cent too large."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 1.01 * gradient


class Shared(Broken):
    """Copies share its parameters."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Shared:
        return self


BROKEN: dict[str, tuple[Callable[[], Flow], str]] = {
    "log-determinant off by a constant": (
        lambda: Flow(Broken(lambda y, ladj: (y, ladj + 0.01), inverse=False), 3),
        "log-determinant",
    ),
    "log-determinant off by a sign": (
        lambda: Flow(Broken(lambda y, ladj: (y, -ladj)), 3),
        "log-determinant",
    ),
    "log-determinant of the inverse": (
        lambda: Flow(Broken(lambda y, ladj: (y, ladj + 0.01), forward=False), 3),
        "inverse log-determinant",
    ),
    "log_prob of samples": (
        lambda: Flow(Broken(lambda y, ladj: (y, ladj + 0.01), forward=False), 3),
        "log_prob of samples",
    ),
    "log-determinant in another shape": (
        lambda: Flow(Broken(lambda y, ladj: (y, ladj.sum())), 3),
        "interface",
    ),
    "zero gradient": (
        lambda: Flow(Broken(lambda y, ladj: (y.detach(), ladj.detach())), 3),
        "parameters without gradient",
    ),
    "gradient of the log-determinant cut": (
        lambda: Flow(Broken(lambda y, ladj: (y, ladj.detach())), 3),
        "gradient for parameters",
    ),
    "gradient of samples cut": (
        lambda: Flow(Broken(lambda y, ladj: (y.detach() + 0 * y, ladj), forward=False), 3),
        "gradient of samples",
    ),
    "one parameter unused": (lambda: Flow(Unused(), 3), "parameters without gradient"),
    "inverse off by 1e-3": (
        lambda: Flow(Broken(lambda y, ladj: (y + 1e-3, ladj), forward=False), 3),
        "round trip from data",
    ),
    "a density that depends on the batch": (
        lambda: Flow(CompositeTransform([LULinear(3, identity_init=False), BatchNorm(3)]), 3),
        "batch independence",
    ),
    "a float32 log-determinant": (
        lambda: Flow(Broken(lambda y, ladj: (y, ladj.float())), 3),
        "dtype and device",
    ),
    "samples of another density": (
        lambda: Flow(IdentityTransform(), 3, base=WrongBase(1.3)),
        "samples and density",
    ),
    "mass two": (
        lambda: Flow(IdentityTransform(), 2, base=WrongBase(1.0, heavy=True)),
        "total mass",
    ),
    "copies that are not apart": (lambda: Flow(Shared(lambda y, ladj: (y, ladj)), 3), "deepcopy"),
    "no empty batch": (
        lambda: Flow(Broken(lambda y, ladj: (y, ladj + 0 * y.max())), 3),
        "small batches",
    ),
    "no tuple": (lambda: Flow(Broken(lambda y, ladj: y), 3), "interface"),
    "a log-determinant off in the tails alone": (
        lambda: Flow(Broken(lambda y, ladj: (y, ladj + (y.abs().amax(1) > 9).to(ladj))), 3),
        "log-determinant",
    ),
    "noise to data off where data to noise is not": (
        lambda: Flow(Broken(lambda y, ladj: (y * 1.001, ladj), forward=False), 3),
        "round trip from noise",
    ),
    "an inverse that is right near zero alone": (
        lambda: Flow(Broken(lambda y, ladj: (y.clamp(-9, 9), ladj), forward=False), 3),
        "round trip in the tails",
    ),
    "a gradient that is one per cent too large": (
        lambda: Flow(Broken(lambda y, ladj: (WrongGradient.apply(y), ladj)), 3),
        "gradient for x",
    ),
    "a context that is cut off": (
        lambda: Flow(Conditional(lambda context: context.detach()), 3, 3),
        "gradient for the context",
    ),
    "samples of the first row's context": (
        lambda: Flow(Conditional(lambda context: context[:1], there=False), 3, 3),
        "log_prob of samples",
    ),
    "NaN made a number": (
        lambda: Flow(Broken(lambda y, ladj: (y.nan_to_num(), ladj)), 3),
        "NaN and infinity",
    ),
    "NaN spread to the other rows": (
        lambda: Flow(Broken(lambda y, ladj: (y + 0 * y.sum(), ladj)), 3),
        "NaN and infinity",
    ),
    "another density in evaluation": (
        lambda: Flow(Modes(lambda y, ladj: (y, ladj)), 3),
        "train and eval",
    ),
    "a tensor beside the state": (lambda: Flow(Beside(), 3), "state through safetensors"),
    "an input changed in place": (
        lambda: Flow(InPlace(lambda y, ladj: (y, ladj)), 3),
        "inputs changed in place",
    ),
    "draws that are not those of the base density": (
        lambda: Flow(IdentityTransform(), 3, base=Wide()),
        "samples and density",
    ),
}


def test_every_row_has_a_flow_that_it_catches() -> None:
    """But for the estimates', whose test is below."""
    rows = {row.name for row in ROWS} | {"interface"}
    assert {row for _, row in BROKEN.values()} == rows - {"estimated log-determinant"}


@pytest.mark.filterwarnings("ignore:.*triangular_solve is deprecated")
@pytest.mark.parametrize("label", BROKEN)
def test_a_broken_flow_is_caught(label: str) -> None:
    """By the row that should, which is not among the failures of the sound flow."""
    make, row = BROKEN[label]
    flow = make()
    found = flows.check(flow, context=torch.randn(40, 3) if flow.context_dim else None)
    assert row in {failed.name for failed in found.failed}, str(found)
    assert not found.passed


def test_a_sound_flow_passes_and_is_left_alone() -> None:
    """An instance is judged as it is, in copies: nothing of it changes."""
    flow = Flow(Broken(lambda y, ladj: (y, ladj)), 3)
    before = copy.deepcopy(flow.state_dict())
    found = flows.check(flow)
    assert found.passed, str(found)
    assert (found.flow, found.dim) == ("Broken", 3)
    for name, tensor in flow.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert tensor.dtype == torch.float32
    assert all(parameter.grad is None for parameter in flow.parameters())


def test_the_note_names_the_parameter() -> None:
    """A parameter without gradient, and one whose gradient is wrong."""
    rows = {row.name: row for row in flows.check(Flow(Unused(), 3)).failed}
    assert rows["parameters without gradient"].note == "transform.idle"
    assert rows["parameters without gradient"].value == 1
    cut = flows.check(Flow(Broken(lambda y, ladj: (y, ladj.detach())), 3))
    rows = {row.name: row for row in cut.failed}
    note = rows["gradient for parameters"].note
    assert "unconstrained_upper_diag" in note
    assert "bias" not in note


def test_a_biased_estimate_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hutchinson's estimate times 1.05 does not pass for an estimate of the log-determinant."""
    sound = traces.TRACES["hutchinson"]

    def biased(*args: Any) -> tuple[Tensor, Tensor]:
        dx, trace = sound(*args)
        return dx, 1.05 * trace + 0.05

    torch.manual_seed(0)
    flow = Flow(CNF(MLPField(3, hidden=8), trace="hutchinson"), 3)
    assert flows.check(flow).passed
    monkeypatch.setitem(traces.TRACES, "hutchinson", biased)
    assert {row.name for row in flows.check(flow).failed} == {"estimated log-determinant"}


def test_state_that_is_not_saved_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random permutation kept outside the state: another build of the name has another."""
    flows.names()
    monkeypatch.setattr(flows.members, "_members", dict(flows.members._members))

    class Shuffled(nn.Module):
        def __init__(self, dim: int) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.arange(dim) / 10)
            self.order = torch.randperm(dim)

        def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return (x * self.scale.exp())[:, self.order], self.scale.sum().expand(len(x))

        def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
            x = z[:, self.order.argsort()] / self.scale.exp()
            return x, -self.scale.sum().expand(len(z))

    @flows.register("shuffled", uses=())
    def _shuffled(dim: int) -> nn.Module:
        """Scales and forgets how it permuted."""
        return CompositeTransform([Shuffled(dim), Shuffled(dim)])

    found = flows.check("shuffled", dim=10)
    assert {row.name for row in found.failed} == {"state through safetensors"}, str(found)


def test_own_tolerance_shows_in_batch_independence() -> None:
    """An adaptive solver couples the rows: a figure, bounded by its tolerance, but not by any."""
    torch.manual_seed(0)
    solvers = ({"rtol": 1e-3, "atol": 1e-3}, {"method": "rk4", "step_size": 0.25})
    rows = []
    for solver in solvers:
        flow = Flow(CNF(MLPField(2, hidden=8), solver=solver), 2)
        found = flows.check(flow)
        assert found.passed, str(found)
        rows += [r for r in found.rows if (r.name, r.dtype) == ("batch independence", "float64")]
    assert rows[0].value > 1e-8
    assert rows[0].bound == pytest.approx(0.01)  # and not a hundred times 1e-3
    assert rows[1].value < 1e-12


def test_the_random_stream_is_left_alone() -> None:
    """A check in the middle of a training changes nothing of it."""
    before = torch.get_rng_state()
    flows.check("planar", dim=2, layers=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_factory_that_fails_is_a_failed_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not an exception: what is registered is under test."""
    flows.names()
    monkeypatch.setattr(flows.members, "_members", dict(flows.members._members))

    @flows.register("fails", uses=())
    def _fails(dim: int) -> Any:
        """Fails."""
        return 1 / 0

    (row,) = flows.check("fails").failed
    assert (row.name, row.note) == ("construction", "ZeroDivisionError: division by zero")


@pytest.mark.parametrize("rows", [1, 5, 300])
def test_any_number_of_points_and_contexts_serves(rows: int) -> None:
    """One context for all, some, or more than the kit looks at."""
    flow = flows.build("maf", 2, hidden=8, layers=2, context_dim=2)
    found = flows.check(flow, x=torch.randn(rows, 2), context=torch.randn(rows, 2))
    assert found.passed, str(found)


def test_couplings_refuse_one_dimension() -> None:
    """In one line, which is a row that does not apply and no failure."""
    found = flows.check("realnvp", dim=1)
    assert found.passed
    assert [row.name for row in found.rows] == ["construction"]
    assert "dim=1" in found.rows[0].note
    assert "\n" not in found.rows[0].note


@pytest.mark.parametrize(
    ("flow", "options", "error", "message"),
    [
        ("nope", {}, ValueError, "unknown flow 'nope'"),
        ("maf", {"hiden": 3}, ValueError, "no option 'hiden'"),
        ("maf", {"dim": 0}, ValueError, "whole number from 1, got 0"),
        (3, {}, TypeError, "takes a Flow or a registered name, got int"),
        (Flow(IdentityTransform(), 3), {"dim": 3}, ValueError, "dim is for a registered name"),
        (Flow(IdentityTransform(), 3), {"x": torch.ones(3)}, ValueError, r"some rows.*got \(3,\)"),
        (Flow(IdentityTransform(), 3), {"x": torch.ones(2, 4)}, ValueError, r"\(N, 3\), got"),
        ("realnvp", {"context": torch.ones(2, 4)}, ValueError, "takes no context"),
        (Flow(IdentityTransform()), {}, ValueError, r"Flow\(transform, dim=D\)"),
    ],
)
def test_wrong_use_is_named(flow: Any, options: Any, error: Any, message: str) -> None:
    """What cannot be judged at all raises, in one line."""
    with pytest.raises(error, match=message):
        flows.check(flow, **options)


def test_the_table_has_every_row() -> None:
    """As text: a line for each row with figure, bound and status, after the verdict."""
    found = flows.check("planar", dim=2, layers=2)
    lines = str(found).splitlines()
    assert lines[0] == "planar, D = 2: passed"
    for line, row in itertools.zip_longest(lines[1:], found.rows):
        assert line.startswith(row.name)
        assert row.status in line
