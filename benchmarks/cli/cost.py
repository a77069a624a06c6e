"""The command ``flowgauge cost``: cost of calls of any flows, without a suite file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.cli.console import console, usage_errors
from benchmarks.cli.options import Plugin, complete_flows, flows_of, load_plugins
from benchmarks.cli.run import measure

STEP = 0.25  # of rk4, for flows that solve an ODE
NUMBERS = "2..512 doubles up to 512; 3,10,63 lists values"


def cost(
    flows: Annotated[
        list[str],
        typer.Argument(
            help="Names or patterns of flows, or files that register flows.",
            autocompletion=complete_flows,
        ),
    ],
    dim: Annotated[str, typer.Option(help=f"Dimensions: {NUMBERS}.")],
    hidden: Annotated[str | None, typer.Option(help="Widths, for flows that have one.")] = None,
    hidden_per_dim: Annotated[
        float | None,
        typer.Option(help="The factor c of a width H = c D, rounded; instead of --hidden."),
    ] = None,
    depth: Annotated[
        str | None, typer.Option(help="Numbers of hidden layers of a network.")
    ] = None,
    layers: Annotated[
        str | None, typer.Option(help="Numbers of transformations, or of pieces of time of an ODE.")
    ] = None,
    batch: Annotated[str, typer.Option(help="Batch sizes.")] = "64",
    counted_dim: Annotated[
        str | None,
        typer.Option(help="Larger dimensions, where log_prob is counted from its shapes alone."),
    ] = None,
    seconds: Annotated[
        float,
        typer.Option(min=0, help="Seconds of timing at each dimension; 0 for exact counts only."),
    ] = 3.0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the worker.")] = 1,
    out: Annotated[Path, typer.Option(help="Results folder.")] = Path("results/cost"),
    plugin: Plugin = None,
) -> None:
    """Measure log_prob, a training step and sampling of FLOWS against their sizes.

    --dim, --hidden, --depth, --layers and --batch take several values; all combinations are
    measured. Flows with an option "solver" solve their ODE by four steps of rk4 (at least one for
    each piece of time) and backpropagation, so that the number of evaluations does not change with
    D; a note names other flows that solve an ODE. The report shows the cases of this command, the
    folder keeps those of all earlier commands. Exit status: 0 all cases done, 1 some failed, 2
    wrong usage.
    """
    with usage_errors():
        from benchmarks.execution.faults import validated
        from benchmarks.execution.suite import Suite
        from flows import members

        load_plugins(plugin)
        names = flows_of(flows)
        if hidden_per_dim is not None and (hidden is not None or hidden_per_dim <= 0):
            raise ValueError(
                f"--hidden-per-dim {hidden_per_dim:g}: give a number above 0, and no --hidden"
            )
        sizes = {"hidden": hidden, "depth": depth, "layers": layers}
        grids = {name: numbers(text, name) for name, text in sizes.items() if text is not None}
        for size in grids:
            if not any(size in members[name].uses for name in names):
                raise ValueError(f"none of {', '.join(names)} has a size {size!r}")
        dims = numbers(dim, "dim")
        larger = [] if counted_dim is None else numbers(counted_dim, "counted-dim")
        study = {
            "study": "cost",
            "dims": dims,
            "counted_dims": [d for d in larger if d not in dims],
            "sizes": grids,
            "batch": numbers(batch, "batch"),
            "seconds": seconds,
            "flows": [_contender(n, members[n].defaults, hidden_per_dim) for n in names],
        }
        about = f"Cost of {', '.join(names)} at D = {dim}."
        values = {"name": out.resolve().name, "about": about, "threads": threads}
        suite = validated(Suite, {**values, "studies": [study]}, "cost")
        cases = suite.cases()
        for case in {case.flow: case for case in reversed(cases)}.values():  # of the smallest D
            if "solver" not in members[case.flow].defaults and _solves(case):
                console.print(
                    f"note: {case.flow} has no option 'solver' and is measured with its own solver",
                    style="yellow",
                )
    measure(suite, out)


def numbers(text: str, option: str) -> list[int]:
    """Parse "2..512" as 2, 4, ..., 512, the end always the last; "3,10,63" as it is.

    ValueError for a text that is neither, naming the ``option``.
    """
    if span := re.fullmatch(r"(\d{1,18})\.\.(\d{1,18})", text):
        first, last = map(int, span.groups())
        if 1 <= first < last:
            doubled = [first]
            while doubled[-1] * 2 < last:
                doubled.append(doubled[-1] * 2)
            return [*doubled, last]
    elif re.fullmatch(r"[1-9]\d{0,17}(,[1-9]\d{0,17})*", text):
        return [int(number) for number in text.split(",")]
    raise ValueError(f"cannot read --{option} {text!r}: write 2..512, or 3,10,63, from 1 on")


def _solves(case: Any) -> bool:
    """Whether a case's flow solves an ODE; False if it cannot be built, as its record will say."""
    from flows import build
    from flows.plugins import FOREIGN

    try:
        flow = build(case.flow, case.dim, **case.options)
    except FOREIGN:
        return False
    return any(hasattr(module, "counters") for module in flow.modules())


def _contender(name: str, defaults: Any, hidden_per_dim: float | None) -> dict[str, Any]:
    """A flow of the study; one that solves an ODE does so by fixed steps."""
    solver = {"method": "rk4", "step_size": STEP, "gradient": "backprop"}
    options = {"solver": solver} if "solver" in defaults else {}
    return {"flow": name, "options": options, "hidden_per_dim": hidden_per_dim}
