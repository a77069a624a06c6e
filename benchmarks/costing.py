"""The command ``flowgauge cost``: what calls of any flows cost against D, without a suite file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.console import Plugin, console, load_plugins, usage_errors
from benchmarks.running import carry_out

STEP = 0.25  # of rk4, for flows that solve an ODE


def cost(
    flows: Annotated[list[str], typer.Argument(help="Names of flows; see list.")],
    dim: Annotated[
        str, typer.Option(help="Dimensions: 2..512 doubles and ends there, 3,10,63 names them.")
    ],
    hidden: Annotated[int | None, typer.Option(min=1, help="Width, where a flow has one.")] = None,
    depth: Annotated[int | None, typer.Option(min=1, help="Hidden layers of a network.")] = None,
    layers: Annotated[int | None, typer.Option(min=1, help="Number of transformations.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Rows of a call.")] = 64,
    seconds: Annotated[
        float, typer.Option(min=0, help="Of timing at each dimension; 0: exact counts alone.")
    ] = 3.0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the worker.")] = 1,
    out: Annotated[Path, typer.Option(help="Results folder.")] = Path("results/cost"),
    plugin: Plugin = None,
) -> None:
    """Measure log_prob, a training step and sampling of FLOWS against the dimension.

    Flows with an option "solver" solve their ODE by four steps of rk4 and backpropagation, so that
    the number of evaluations does not change with D; of others that solve one it is said. Exit
    status: 0 all cases done, 1 some failed, 2 wrong usage.
    """
    with usage_errors():
        from benchmarks.suite import Suite
        from flows import members

        load_plugins(plugin)
        sizes = {"hidden": hidden, "depth": depth, "layers": layers}
        study = {
            "study": "cost",
            "dims": dimensions(dim),
            "sizes": {name: size for name, size in sizes.items() if size is not None},
            "batch": batch,
            "seconds": seconds,
            "flows": [_contender(name, members[name].defaults) for name in dict.fromkeys(flows)],
        }
        about = f"Cost of {', '.join(flows)} at D = {dim}."
        suite = Suite(name=out.name, about=about, threads=threads, studies=(study,))
        cases = suite.cases()
        for case in {case.flow: case for case in cases}.values():
            if "solver" not in members[case.flow].defaults and _solves(case):
                console.print(
                    f"note: {case.flow} takes no option 'solver', and is measured with its own",
                    style="yellow",
                )
    carry_out(suite, out, plugin)


def dimensions(said: str) -> list[int]:
    """ "2..512" as 2, 4, ..., 512, its end always the last; "3,10,63" as it is.

    ValueError for what is neither.
    """
    if span := re.fullmatch(r"(\d+)\.\.(\d+)", said):
        first, last = map(int, span.groups())
        if 1 <= first < last:
            doubled = [first]
            while doubled[-1] * 2 < last:
                doubled.append(doubled[-1] * 2)
            return [*doubled, last]
    elif re.fullmatch(r"\d+(,\d+)*", said) and all(dims := [int(d) for d in said.split(",")]):
        return dims
    raise ValueError(f"cannot read dimensions {said!r}: write 2..512, or 3,10,63, from 1 on")


def _solves(case: Any) -> bool:
    """Whether a case's flow has an ODE, which counts its evaluations."""
    from flows import build

    flow = build(case.flow, case.dim, **case.options)
    return any(hasattr(module, "counters") for module in flow.modules())


def _contender(name: str, defaults: Any) -> dict[str, Any]:
    solver = {"method": "rk4", "step_size": STEP, "gradient": "backprop"}
    return {"flow": name, "options": {"solver": solver} if "solver" in defaults else {}}
