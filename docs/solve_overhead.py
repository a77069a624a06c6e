"""What a solve costs beside its evaluations: `python docs/solve_overhead.py` prints four tables.

Random CNFs, matrices doubled, dopri5 at 1e-5, densities without gradients. The first table has the
time of a density over that of as many evaluations of the field and trace, timed in the same turns;
the next two where the time of a compiled view goes, by torch's profiler. The last, where torchode
is installed, has both engines beside it, by a field that does not depend on time, since torchode
gives every row a time of its own.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import flows
from benchmarks.measure.clock import Work, interleave
from flows.threads import threads_for

SIZES = ((2, 64, 512), (8, 160, 1000), (43, 430, 500))  # D, H, N
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
COUPLINGS = ((10, 64, 256), (63, 128, 256))
PRODUCTS = ("aten::mm", "aten::addmm")
GRAPH = "CompiledFxGraph"  # in the names of what compiled graphs take
SECONDS = 10.0  # of timing one size
CALLS = 20  # that are profiled


def flow(dim: int, hidden: int, **options: Any) -> flows.Flow:
    """A CNF off its initial weights."""
    torch.manual_seed(0)
    built = flows.build("cnf", dim, hidden=hidden, solver=TOLERANCE, **options)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.mul_(2 if parameter.dim() == 2 else 1)
    return built


def without_graph(work: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """A work without gradients; the reference workload beside it has some."""

    def call() -> Tensor:
        with torch.no_grad():
            return work()

    return call


def medians(works: dict[str, Work]) -> dict[str, float]:
    """Milliseconds of a call of each work."""
    return {k: 1e3 * median(v) for k, v in interleave(works, seconds=SECONDS).items()}


def overhead(dim: int, hidden: int, rows: int) -> str:
    """Density, evaluations, and their ratio."""
    eager, x = flow(dim, hidden), torch.randn(rows, dim)
    (ode,) = (module for module in eager.modules() if hasattr(module, "solver"))
    field: Any = ode.field
    with flows.count_nfe(eager) as nfe:
        eager.log_prob(x)
    t, work = torch.tensor(0.5), rows * sum(p.numel() for p in eager.parameters())

    @torch.no_grad()
    def evaluations() -> None:
        with threads_for(work):
            for _ in range(nfe.forward):
                field.with_trace(t, x)

    density = without_graph(lambda: eager.log_prob(x))
    times = medians({"density": density, "evaluations": evaluations})
    ratio = times["density"] / times["evaluations"]
    return f"{nfe.forward} | {times['density']:.2f} | {times['evaluations']:.2f} | {ratio:.2f}"


def shares(dim: int, hidden: int, rows: int) -> str:
    """Of the compiled view's density: matrix products, the rest of the graphs, Python."""
    return shares_of(flow(dim, hidden), torch.randn(rows, dim))


def shares_of_coupling(dim: int, hidden: int, rows: int) -> str:
    """The same of a RealNVP with five layers."""
    x = torch.randn(rows, dim)
    built = flows.build("realnvp", dim, hidden=hidden, depth=2, layers=5)
    return shares_of(built.initialize(x), x)


def shares_of(eager: flows.Flow, x: Tensor) -> str:
    """Milliseconds of a density by the compiled view of a flow, and of its parts."""
    compiled = eager.compiled()
    density = without_graph(lambda: compiled.log_prob(x))
    milliseconds = medians({"density": density})["density"]
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(CALLS):
            density()
    events = seen.key_averages()
    products = sum(e.self_cpu_time_total for e in events if e.key in PRODUCTS) / CALLS / 1e3
    graphs = sum(e.cpu_time_total for e in events if GRAPH in e.key) / CALLS / 1e3
    parts = (products, graphs - products, milliseconds - graphs)
    return " | ".join(f"{part:.2f}" for part in (milliseconds, *parts))


def beside_torchode(dim: int, hidden: int, rows: int) -> str:
    """Densities by torchode and by both engines, and their errors against a tight solution."""
    torchode = importlib.import_module("torchode")
    native, x = flow(dim, hidden, time="ignore"), torch.randn(rows, dim)
    theirs = native.using(solver={**TOLERANCE, "engine": "torchdiffeq"})
    (ode,) = (module for module in native.modules() if hasattr(module, "solver"))
    field: Any = ode.field

    def rate(t: Tensor, y: Tensor) -> Tensor:
        dx, trace = field.with_trace(t[0], y[:, :-1])
        return torch.cat([dx, trace[:, None]], 1)

    term = torchode.ODETerm(rate)
    control = torchode.IntegralController(atol=1e-5, rtol=1e-5, term=term)
    solver = torchode.AutoDiffAdjoint(torchode.Dopri5(term=term), control)
    start = torch.cat([x, x.new_zeros(rows, 1)], 1)
    problem = torchode.InitialValueProblem(
        y0=start, t_start=torch.zeros(rows), t_end=torch.ones(rows)
    )

    def density() -> Tensor:
        end = solver.solve(problem, dt0=torch.full((rows,), 0.2)).ys[:, -1]
        result: Tensor = native.base.log_prob(end[:, :-1]) + end[:, -1]
        return result

    works: dict[str, Callable[[], Tensor]] = {
        "torchode": density,
        "torchdiffeq": lambda: theirs.log_prob(x),
        "native": lambda: native.log_prob(x),
    }
    works = {name: without_graph(work) for name, work in works.items()}
    values = {name: work().double() for name, work in works.items()}
    tight = {"rtol": 1e-10, "atol": 1e-10}
    exact = native.double().using(solver=tight).log_prob(x.double()).detach()
    native.float()
    times = medians(dict(works))
    cells = [f"{times[k]:.2f} ({(v - exact).abs().max():.0e})" for k, v in values.items()]
    return " | ".join(cells)


def main() -> None:
    """Print the tables in Markdown."""
    tables = {
        "NFE | Density, ms | Evaluations, ms | Ratio": overhead,
        "Compiled, ms | Products | Rest of the graphs | Python": shares,
        "RealNVP compiled, ms | Products | Rest of the graphs | Python": shares_of_coupling,
        "torchode, ms (error, nats) | torchdiffeq | native": beside_torchode,
    }
    if importlib.util.find_spec("torchode") is None:
        tables.popitem()
    for header, row in tables.items():
        print(f"| D/H/N | {header} |")
        print("| --- " + "| ---: " * (header.count("|") + 1) + "|")
        for size in COUPLINGS if row is shares_of_coupling else SIZES:
            print(f"| {'/'.join(map(str, size))} | {row(*size)} |", flush=True)
        print()


if __name__ == "__main__":
    main()
