"""Measures: calls and the clock, memory by hand, the machine."""

import gc
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import flows
from benchmarks.core.case import Case
from benchmarks.core.metrics import METRICS
from benchmarks.core.study import Result
from benchmarks.measure import clock, machine
from benchmarks.measure.calls import COUNTED, calls, measured, timed
from benchmarks.measure.clock import interleave
from benchmarks.measure.memory import peak_bytes, saved_bytes
from benchmarks.studies.contender import Contender
from measuring import GRADIENTS, TRACE, cases_of, results_of
from repositories import git
from runs import SCORING

SIZES = {"hidden": 8, "depth": 2, "layers": 2}


def made(name: str, dim: int = 6, **settings: Any) -> Case:
    options = Contender(flow=name).complete(SIZES, dim)
    return Case(study="cost", flow=name, dim=dim, batch=4, options=options, settings=settings)


def test_every_call_is_timed_and_a_fault_costs_no_other():
    """Construction too, which is not counted; the case that cannot be built has its reason."""
    good, bad = (made("realnvp", dim, seconds=0.01) for dim in (2, 1))
    results = dict(measured([bad, good], lambda case, result: {"log_prob_error": 0.5}))
    assert results.keys() == {good.key, bad.key}
    assert "at least two columns" in results[bad.key].failure
    metrics = results[good.key].metrics
    timed = {name for name in metrics if METRICS[name].kind == "time"}
    first = {f"{name}_first" for name in COUNTED}
    assert timed == {f"{name}_seconds" for name in (*COUNTED, *first, "build", "reference")}
    assert all(np.min(metrics[name]) > 0 for name in timed)
    assert metrics["log_prob_error"] == 0.5


def test_a_call_that_fails_while_it_is_timed_costs_no_other():
    cases = [made("realnvp", dim, seconds=1e-9) for dim in (2, 3, 4)]

    def prepare(case: Case) -> tuple[dict[str, Callable[[], Any]], Result]:
        left = [0] * (6 if case.dim == 3 else 10**5)
        return {"step": left.pop}, Result()

    good, bad, other = (dict(timed(cases, prepare))[case.key] for case in cases)
    assert "pop from empty list" in bad.failure
    assert all(one.metrics["step_seconds"] for one in (good, other))


def test_the_random_stream_does_not_decide_a_count():
    """Samples are drawn from one seed, so an inverse that iterates does so as often each time."""
    counts = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        metrics = calls(made("dense"))
        torch.manual_seed(seed)
        counts.append(metrics.count()[0]["sample_flops"])
    assert counts[0] == counts[1]


# minor page faults per page of a hundred tensors of 1 MiB, after timing with either heap
FAULTS = """
import json, resource, torch
from benchmarks.measure.clock import interleave

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.empty(2**18).fill_(1) for _ in range(100)]
    del tensors
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

shares = []
for heap in ("default", "steady"):
    interleave({"a": lambda: None}, seconds=1e-9, rounds=(1, 1), heap=heap)
    faults()
    shares.append(sum(faults() for _ in range(5)) / (5 * 100 * 2**20 / 4096))
print(json.dumps(shares))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_steady_heap_serves_large_tensors_again_and_the_default_one_does_not():
    """In a process of its own, whose heap nothing else has set."""
    default, steady = json.loads(subprocess.check_output([sys.executable, "-c", FAULTS]))
    assert default > 0.5
    assert steady < 0.02


def test_rounds_end_when_the_times_are_steady(monkeypatch):
    """From the least number for that on, or when the seconds or the rounds are spent."""
    for spread, done in ((0.01, 7), (0.2, 9)):
        ticks = itertools.cycle([1.0, 1.0, 1.0 + spread, 1.0 - spread])
        monkeypatch.setattr(clock, "seconds_of", lambda work, device, ticks=ticks: next(ticks))
        samples = interleave({"a": lambda: None}, seconds=60, rounds=(3, 9), steady=7)
        assert len(samples["a"]) == done


TRAINED = {"datasets": ["8gaussians"], "sizes": SIZES, "batch": 16, "updates": 2}
TRAINED |= {"training": {"validations": 1, "validation_rows": 50}}
CNF = {"flow": "cnf", "options": {"solver": {"method": "rk4", "step_size": 0.5}}}
UNTIMED: dict[str, dict[str, Any]] = {
    "cost": {"flows": ["realnvp"], "dims": [2], "sizes": SIZES, "batch": 4, "seconds": 0},
    "trace": TRACE | {"dims": [2], "draws": 100, "seconds": 0},
    "numerics": GRADIENTS | {"part": "gradients", "solvers": {"rk4": [0.5]}, "seconds": 0},
    "nfe": TRAINED | {"flows": [CNF], "tolerances": [0.1], "seconds": 0},
    "density": TRAINED | {"flows": ["realnvp"], "scoring": SCORING | {"seconds": 0}},
}
# sums of updates, which are timed in any case
FROM_THE_LOOP = {"train_process_seconds", "train_cpu_seconds"}


@pytest.mark.parametrize("name", UNTIMED)
def test_no_seconds_give_counts_and_no_times(name):
    cases = cases_of(name, UNTIMED[name])
    results = results_of(cases)
    assert len(results) == len(cases) > 0
    for result in results.values():
        assert not result.failure
        kinds = {METRICS[metric].kind for metric in result.metrics.keys() - FROM_THE_LOOP}
        assert kinds
        assert "time" not in kinds


N, D, H = 5, 4, 3
FLOAT = 4  # bytes
SIZE = FLOAT * N * D


@pytest.fixture
def x() -> Tensor:
    return torch.randn(N, D, requires_grad=True)


def chain(x: Tensor, length: int, function: Callable[[Tensor], Tensor]) -> Tensor:
    for _ in range(length):
        x = function(x)
    return x


def test_a_linear_layer_saves_its_input_and_makes_its_output(x):
    layer = nn.Linear(D, H)

    def step() -> None:
        layer(x).sum().backward()

    assert saved_bytes(lambda: layer(x.detach()).sum().backward()) == FLOAT * N * D
    assert saved_bytes(step) == FLOAT * (N * D + D * H)  # the weight too, for the gradient in x
    assert saved_bytes(step, layer.parameters()) == FLOAT * N * D
    with torch.no_grad():
        assert saved_bytes(lambda: layer(x)) == 0
        assert peak_bytes(lambda: layer(x)) == FLOAT * N * H
    layer.zero_grad()
    gradients = FLOAT * (D * H + H)  # beside the loss and the gradient in it
    assert peak_bytes(lambda: layer(x.detach()).sum().backward()) == gradients + 2 * FLOAT


@pytest.mark.parametrize("length", [1, 2, 7])
def test_a_chain_holds_a_tensor_a_link_and_two_where_nothing_is_saved(x, length):
    assert saved_bytes(lambda: chain(x, length, torch.sin)) == length * SIZE  # every input
    assert saved_bytes(lambda: chain(x, length, torch.exp)) == length * SIZE  # every result
    assert saved_bytes(lambda: chain(x, length, lambda x: x + 1)) == 0
    assert peak_bytes(lambda: chain(x, length, torch.exp)) == length * SIZE
    with torch.no_grad():
        assert peak_bytes(lambda: chain(x, length, torch.exp)) == min(length, 2) * SIZE


def test_views_and_shared_storages_count_once_and_whole(x):
    def views() -> Tensor:
        a = x + 1
        return (a.T * a.T).sum() + (a[:1] * a.view(-1)[:D]).sum()

    def part() -> Tensor:
        a = x + 1
        return a[:1] * a[:1]  # its storage is all of a's

    assert saved_bytes(views) == saved_bytes(part) == SIZE
    assert saved_bytes(lambda: x * x, [x]) == 0
    with torch.no_grad():
        assert peak_bytes(lambda: (x + 1).view(-1).unflatten(0, (D, N)).T[1:]) == SIZE
        assert peak_bytes(lambda: x.T) == 0


def test_what_was_there_before_is_no_part_of_the_peak_but_its_growth_is():
    there, empty = torch.zeros(N, D), torch.empty(0)
    assert peak_bytes(lambda: there.add_(1)) == 0
    assert peak_bytes(lambda: torch.add(there, 1, out=empty)) == SIZE
    assert peak_bytes(lambda: torch.tensor([1.0, 2.0, 3.0])) == 3 * FLOAT
    assert peak_bytes(lambda: [torch.zeros(N, D) for _ in range(3)]) == 3 * SIZE
    assert peak_bytes(lambda: [torch.zeros(N, D).sum() for _ in range(3)]) == SIZE + 3 * FLOAT


def test_vectors_that_torch_forms_under_a_mode_alone_do_not_count():
    a = torch.eye(D).expand(N, D, D)
    values, vectors = FLOAT * N * D, FLOAT * N * D * D
    assert peak_bytes(lambda: torch.linalg.svdvals(a)) == values
    assert peak_bytes(lambda: torch.linalg.svd(a)) == values + 2 * vectors
    assert peak_bytes(lambda: torch.linalg.eigvalsh(a)) == values
    assert peak_bytes(lambda: torch.linalg.eigh(a)) == values + vectors


def test_a_graph_counts_until_it_is_freed(x):
    def one_by_one() -> None:
        for _ in range(3):
            (x + 1).sin().sum().backward()

    def together() -> None:
        losses = [(x + 1).sin().sum() for _ in range(3)]
        sum(losses).backward()

    assert saved_bytes(one_by_one) == SIZE
    assert saved_bytes(together) == 3 * SIZE


def test_graphs_that_a_backward_pass_builds_are_seen(x):
    """sin' = cos: its graph saves x again, which counts once, and the ones that it multiplies."""

    def gradient() -> Tensor:
        return torch.autograd.grad(x.sin().sum(), x, create_graph=True)[0]

    assert saved_bytes(gradient) == SIZE + FLOAT
    assert saved_bytes(lambda: gradient().square().sum()) == 2 * SIZE + FLOAT


def nested(net: nn.Module, x: Tensor) -> dict[str, Callable[[], Tensor]]:
    func: Any = torch.func

    def pushed(x: Tensor) -> Tensor:
        return func.vjp(net, x)[1](x)[0]

    return {
        "vjp": lambda: pushed(x).square().sum(),
        "jacrev": lambda: func.vmap(func.jacrev(net))(x).square().sum(),
        "jacfwd": lambda: func.vmap(func.jacfwd(net))(x).square().sum(),
        "twice": lambda: func.vmap(func.jacrev(func.jacrev(net)))(x).square().sum(),
        "mixed": lambda: func.vmap(func.jacfwd(func.jacrev(net)))(x).square().sum(),
        "jvp of vjp": lambda: func.jvp(pushed, (x,), (x,))[1].square().sum(),
    }


@pytest.mark.parametrize("name", nested(nn.Identity(), torch.zeros(1)))
def test_under_torch_func_measuring_changes_no_gradient(name, normal):
    """It lets hooks in where torch refuses them, so the outer gradient has to be the same."""
    net = nn.Sequential(nn.Linear(D, H), nn.Tanh(), nn.Linear(H, D)).double()
    step = nested(net, normal(N, D))[name]
    weights = [p for p in net.parameters() if p.dim() == 2]
    expected = torch.autograd.grad(step(), weights)
    gradients: list[Tensor] = []
    saved = saved_bytes(lambda: gradients.extend(torch.autograd.grad(step(), weights)), weights)
    for a, b in zip(gradients, expected, strict=True):
        assert torch.equal(a, b)
    assert saved > 2 * FLOAT * N * D
    assert saved == saved_bytes(lambda: torch.autograd.grad(step(), weights), weights)
    failing = pytest.raises(RuntimeError, match="saved tensor hooks")
    with failing, torch.autograd.graph.save_on_cpu():
        torch.func.vjp(net, normal(N, D))


def test_the_adjoint_holds_one_evaluation_and_backprop_every_step():
    def saved(gradient: str, steps: int) -> int:
        solver = {"method": "rk4", "step_size": 1 / steps, "gradient": gradient}
        flow = flows.build("cnf", D, hidden=16, solver=solver)
        x = torch.randn(8, D)
        return saved_bytes(lambda: flow.loss(x).backward(), flow.parameters())

    adjoint = [saved("adjoint", steps) for steps in (1, 2, 4, 8)]
    one, two, four, eight = (saved("backprop", steps) for steps in (1, 2, 4, 8))
    assert len(set(adjoint)) == 1
    assert four - two == 2 * (two - one)
    assert eight - four == 4 * (two - one)
    assert one > adjoint[0]


def test_a_call_that_fails_leaves_nothing_behind(x):
    guard = torch.autograd.graph.disable_saved_tensors_hooks

    def fail() -> None:
        (x * x).sum()
        raise KeyError("no such thing")

    for measure in (saved_bytes, peak_bytes):
        with pytest.raises(KeyError):
            measure(fail)
    assert gc.isenabled()
    assert torch.autograd.graph.disable_saved_tensors_hooks is guard
    torch.func.vjp(torch.sin, x)  # the hooks are off again


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A machine of four processors on two physical cores; a function that writes its files."""
    for name, folder in (("CGROUPS", "cgroup"), ("TOPOLOGY", "cpu")):
        monkeypatch.setattr(machine, name, tmp_path / folder)
    monkeypatch.setattr(machine, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)

    def write(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    for processor in range(4):
        siblings = "0-1" if processor < 2 else "2,3"
        write(f"cpu/cpu{processor}/topology/thread_siblings_list", siblings)
    return write


def test_siblings_are_one_core_and_the_affinity_mask_counts(system, monkeypatch):
    assert machine.cores() == [{0, 1}, {2, 3}]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 3}, raising=False)
    assert machine.cores() == [{1}, {3}]


def test_a_quota_of_the_second_version_limits_the_cores(system):
    system("membership", "0::/a/b")
    for quota, count in (("150000", 1), ("250000", 2), ("max", 2), ("50000", 1)):
        system("cgroup/a/cpu.max", f"{quota} 100000")  # of the parent
        assert len(machine.cores()) == count


def test_a_quota_of_the_first_version_limits_the_cores(system):
    system("membership", "3:cpu,cpuacct:/x\n0::/")
    system("cgroup/cpu/x/cpu.cfs_period_us", "100000")
    for quota, count in (("100000", 1), ("-1", 2)):
        system("cgroup/cpu/x/cpu.cfs_quota_us", quota)
        assert len(machine.cores()) == count


@pytest.mark.parametrize(
    ("membership", "file"),
    [
        ("0::/a", "a/memory.max"),
        ("4:memory:/a", "memory/a/memory.limit_in_bytes"),
        ("4:memory:/gone", "memory/memory.limit_in_bytes"),
    ],
)
def test_the_memory_is_that_of_the_cgroup(system, membership, file):
    system("membership", membership)
    total = machine.memory_bytes()
    system(f"cgroup/{file}", "1000000")
    assert machine.memory_bytes() == 1_000_000 < total
    system(f"cgroup/{file}", "max")
    assert machine.memory_bytes() == total


def test_visible_gpus_are_those_of_the_environment(monkeypatch):
    for visible, gpus in (("2, GPU-a1", ["2", "GPU-a1"]), ("", [])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert machine.gpus() == gpus


def test_the_kernels_kills_for_memory_are_counted(system, tmp_path, monkeypatch):
    system("vmstat", "pgfault 12\noom_kill 3\noom_killer 5")
    for name, count in (("vmstat", 3), ("absent", 0)):
        monkeypatch.setattr(machine, "KILLED", tmp_path / name)
        assert machine.killed_for_memory() == count


@pytest.mark.parametrize(("place", "tracked"), [("", True), ("", False), ("venv", True)])
def test_a_commit_is_that_of_the_packages_own_repository(place, tracked, tmp_path, monkeypatch):
    """Not that of a repository that it is installed into, whether tracked or not."""
    file = tmp_path / place / "benchmarks" / "measure" / "machine.py"
    file.parent.mkdir(parents=True)
    shutil.copy(machine.__file__, file)
    git(tmp_path, "init", "-q")
    if tracked:
        git(tmp_path, "add", str(file))
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "first")
    monkeypatch.setattr(machine, "__file__", str(file))
    own = git(tmp_path, "rev-parse", "--short=12", "HEAD").strip() if tracked and not place else ""
    assert machine.commit.__wrapped__() == own
    if own:
        file.write_text("changed")
        assert machine.commit.__wrapped__() == f"{own}-dirty"
