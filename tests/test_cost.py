"""Costs: cases and counts, growth as stated, tables and figures of made-up records, the command."""

import inspect
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import flows
from benchmarks.analysis import sizes
from benchmarks.analysis.growth import ALWAYS, NEVER, Growth, crossing, crossings, growth
from benchmarks.cli.options import numbers
from benchmarks.core.case import Case
from benchmarks.core.exhibit import Table
from benchmarks.core.metrics import METRICS
from benchmarks.core.study import registry
from benchmarks.execution.suite import Suite
from benchmarks.measure.calls import COUNTED, calls, resident_bytes
from benchmarks.measure.operations import Operations, count_shapes
from benchmarks.studies.cost.figures import figures, shares
from benchmarks.studies.cost.tables import tables
from flows.preprocessing import Whitening
from runs import flowgauge
from variants import SMALL, small

OURS = flows.own()
STATED = re.compile(r"Growth in D at fixed width: log_prob (\d), sampling (\d)\.")
DIMS = (128, 384)
LEAST = {"hidden": 4, "depth": 1, "layers": 1}
TRAINED = {"hidden": 32, "depth": 2, "layers": 2}
QUARTERS = {"method": "rk4", "step_size": 0.25, "gradient": "backprop"}
BATCH = 4
H = {"option.hidden": 3}
Sizes = tuple[int, int, int, int, int]  # D, N, H, depth, layers
Cost = Callable[[int, int, int, int, int], float]
BASE = (16, 64, 32, 2, 4)
PLUGIN = """
import flows
flows.register("one_planar", uses=())(lambda dim: flows.build("planar", dim))
"""


def cases(*contenders: dict[str, Any], **options: Any) -> list[Case]:
    entry = {"study": "cost", "flows": contenders, "sizes": SMALL, "dims": [3], "seconds": 0}
    return Suite(name="test", about="", studies=({**entry, **options},)).cases()


@pytest.mark.parametrize("name", OURS)
def test_counts_from_shapes_are_those_of_a_run(name):
    computed, counted = cases({"flow": name, "options": small(name)}, counted_dims=[3])
    assert (computed.device, counted.device) == ("cpu", "meta")
    metrics = calls(computed).count()[0]
    counts = count_shapes(counted)
    assert counts == {name: metrics[name] for name in counts}
    assert counts["log_prob_flops"] > 0 or counts["log_prob_determinant_flops"] == 0


def test_counts_from_shapes_go_beyond_any_memory():
    """A batch of dense Jacobians at D = 4096 would take 64 GiB; the count is of LU's degree."""
    options = {"layers": 1, "hidden": 8}
    (case,) = cases({"flow": "dense", "options": options}, batch=1024, dims=[], counted_dims=[4096])
    counts = count_shapes(case)
    assert counts["log_prob_determinant_flops"] == 1024 * (4096 * 4095 * (4 * 4096 + 1) // 6)


def test_of_adaptive_steps_one_evaluation_is_counted():
    """Their number is the data's."""
    (case,) = cases({"flow": "cnf"}, dims=[], counted_dims=[3])
    counts = count_shapes(case)
    assert counts["rate_flops"] > counts["field_flops"] > 0
    assert not any(name.startswith("log_prob") for name in counts)


def test_a_count_that_fails_costs_no_other():
    pair = cases({"flow": "glow"}, {"flow": "maf"}, dims=[], counted_dims=[1])
    results = dict(registry["cost"].measure(pair))
    failed, done = (results[case.key] for case in pair)
    assert "at least two columns" in failed.failure
    assert done.metrics["log_prob_flops"] > 0


def test_several_sizes_make_a_grid():
    sizes = {"hidden": [4, 8], "depth": 1, "layers": [1, 2, 3]}
    grid = cases({"flow": "realnvp"}, {"flow": "dense"}, sizes=sizes, batch=[5, 6])
    assert len(grid) == 2 * (2 * 3 * 2)
    planar = {"study": "cost", "flows": [{"flow": "planar"}], "sizes": sizes, "dims": [3]}
    shared = Suite(name="test", studies=(planar,))  # of these sizes it has the layers alone
    assert (len(shared.entries()), len(shared.cases())) == (6, 3)
    star = cases({"flow": "realnvp"}, sizes=sizes, batch=[5, 6], one_at_a_time=True)
    assert len(star) == 1 + 1 + 1 + 2
    scaled = cases({"flow": "realnvp", "hidden_per_dim": 2}, sizes={"layers": 1}, dims=[3, 5])
    assert [case.options["hidden"] for case in scaled] == [6, 10]
    assert {case.roles["hidden_per_dim"] for case in scaled} == {2}
    with pytest.raises(ValueError, match=r"'planar' has no 'hidden' that hidden_per_dim decides"):
        cases({"flow": "planar", "hidden_per_dim": 2})
    blocks = [registry["cost"].block(case) for case in grid]
    assert [blocks.count(block) for block in set(blocks)] == [2] * 12  # flows beside each other


@pytest.mark.slow
def test_the_resident_set_tells_the_adjoint_from_backprop():
    """Through many steps backprop keeps what the adjoint does not; a fresh process says so."""
    grown = []
    for gradient in ("adjoint", "backprop"):
        solver = {"method": "rk4", "step_size": 1 / 16, "gradient": gradient}
        options = {"hidden": 64, "depth": 2, "layers": 1, "solver": solver}
        (case,) = cases({"flow": "cnf", "options": options}, batch=512, resident=True)
        grown.append(resident_bytes(case, "step"))
    saved = 16 * 4 * 3 * 512 * 64 * 4  # steps, evaluations, tensors (N, H) of float32
    assert grown[1] - grown[0] > saved / 2


@pytest.mark.slow
def test_a_heap_as_it_comes_changes_no_count():
    changes = {"seconds": 0.01, "batch": 16}
    names = ({"flow": "maf"}, {"flow": "realnvp"})
    steady, default = cases(*names, **changes), cases(*names, **changes, heap="default")
    assert len({case.key for case in (*steady, *default)}) == 4
    blocks = [dict(registry["cost"].measure(block)) for block in (steady, default)]
    for here, afresh in zip(steady, default, strict=True):
        known, fresh = blocks[0][here.key].metrics, blocks[1][afresh.key].metrics
        assert set(known) == set(fresh)
        exact = [name for name in known if METRICS[name].kind == "exact"]
        assert {name: fresh[name] for name in exact} == {name: known[name] for name in exact}


def _flops(name: str, dim: int) -> tuple[float, float]:
    """FLOPs of log_prob of two rows and of two samples, an evaluation of the field for an ODE."""
    torch.manual_seed(0)
    flow = flows.build(name, dim, **flows.members[name].applicable(LEAST))
    if flows.members.module_of(name).startswith("flows.continuous"):
        flow = flow.using(solver={"method": "euler", "step_size": 1.0})
    x = torch.randn(2, dim)
    counts = []
    for call in (lambda: flow.log_prob(x), lambda: flow.sample(2)):
        with torch.no_grad(), flows.count_nfe(flow) as nfe, Operations() as operations:
            call()
        counts.append(operations.flops / max(1, nfe.forward))
    return counts[0], counts[1]


@pytest.mark.parametrize("name", OURS)
def test_growth_is_as_stated(name):
    stated = STATED.search(inspect.getdoc(flows.members[name].factory) or "")
    assert stated, f"the docstring of {name} does not say how its cost grows with D"
    small, large = (_flops(name, dim) for dim in DIMS)
    for degree, low, high in zip(stated.groups(), small, large, strict=True):
        measured = math.log(high / low) / math.log(DIMS[1] / DIMS[0])
        assert measured == pytest.approx(int(degree), abs=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("name", OURS)
def test_a_narrow_gaussian_is_learned(name):
    """Maximum likelihood on N(0, 0.1² I₂) reaches the true 1.767 nats within 0.02."""
    truth = torch.distributions.Normal(torch.zeros(2), 0.1)
    flow = flows.build(name, 2, **flows.members[name].applicable(TRAINED))
    solved = flows.members.module_of(name).startswith("flows.continuous")
    if solved:
        flow = flow.using(solver=QUARTERS)
    if flow.objective in ("flow matching", "free form"):  # in the data's units
        flow.prepend(Whitening.fit(truth.sample((1000,))))
    flow.initialize(truth.sample((1000,)))
    updates = 400
    optimiser = torch.optim.Adam(flow.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, updates)
    for _ in range(updates):
        optimiser.zero_grad()
        flow.loss(truth.sample((256,))).backward()
        optimiser.step()
        schedule.step()
    x = truth.sample((5000,))
    # by steps that are controlled: those of the training may find too much, by whole nats
    exact = flow.using(trace="exact", solver={"method": "dopri5"} if solved else None)
    with torch.no_grad():  # against the truth of the same rows: without the noise of the test set
        gap = (truth.log_prob(x).sum(1) - exact.log_prob(x)).mean().item()
    assert -1e-3 < gap < 0.02


def _frame(flow: str = "realnvp", power: int = 2, factor: int = 1, **more: Any) -> pd.DataFrame:
    """FLOPs of D to a power, seconds of D, at five dimensions."""
    rows = []
    for dim in (2, 4, 8, 16, 32):
        row: dict[str, Any] = {"flow": flow, "dim": dim, "batch": BATCH, "status": "done"}
        row |= {"key": f"{flow}{dim}", "option.hidden": 10 + dim, "reference_seconds": 1.0, **more}
        for call in COUNTED:
            row[f"{call}_flops"] = float(factor * dim**power)
            row[f"{call}_seconds"], row[f"{call}_seconds.values"] = float(dim), [float(dim)] * 3
        rows.append(row)
    return pd.DataFrame(rows)


def _tables(frame: pd.DataFrame) -> dict[str, Table]:
    return {table.name: table for table in tables(frame)}


def test_a_budget_is_one_series_though_its_width_varies():
    """Otherwise each dimension would be a series of its own, and none would grow."""
    assert set(_tables(_frame())) == {"cost-by-dimension"}
    grown = _tables(_frame(**{"setting.parameters": 1e4}))
    for name in ("cost-growth", "cost-by-dimension"):
        assert set(grown[name].frame["flow"]) == {"realnvp"}


def test_counts_of_no_polynomial_have_no_degree():
    frame = _frame(**H)
    frame["log_prob_flops"] = [4.0, 16.0, 256.0, 65536.0, 2.0**32]
    assert growth(frame, "log_prob_flops") == Growth(None, 16.0, 32)
    (row,) = _tables(frame)["cost-growth"].frame.to_dict("records")
    assert math.isnan(row["log_prob_flops"])


def test_where_one_becomes_cheaper():
    """40 D against D³: from D = √40 on; interpolated between sizes, and never where it is not."""
    frames = [_frame("realnvp", 1, 40), _frame("dense", 3)]
    frame = pd.concat(frames, ignore_index=True).assign(**H)
    rows = crossings(sizes.scans(frame), ["log_prob_flops", "log_prob_seconds"])
    (row,) = rows.to_dict("records")
    assert (row["cheaper"], row["than"]) == ("realnvp", "dense")
    assert row["log_prob_flops"] == pytest.approx(math.sqrt(40))
    assert row["log_prob_seconds"] == NEVER  # they are equal
    assert len(_tables(frame)["cost-crossings"].frame) == 1
    quoted = frame.assign(log_prob_seconds=frame["log_prob_seconds"].where(frame.index > 0))
    (quoted_row,) = crossings(sizes.scans(quoted), list(row)[2:4]).to_dict("records")
    assert math.isnan(quoted_row["log_prob_seconds"])
    assert crossing(pd.Series([-1.0, -2.0], index=[2, 4])) == ALWAYS
    assert crossing(pd.Series([1.0, -1.0], index=[2, 8])) == pytest.approx(4)
    assert math.isnan(crossing(pd.Series([], dtype=float)))


def test_an_asymptote_that_is_not_reached_is_told():
    frame = _frame(**H)
    beside, alone = (growth(f, "log_prob_seconds") for f in (frame, frame.assign(log_prob_flops=0)))
    assert beside.exponent == alone.exponent == pytest.approx(1)
    assert (beside.reached, alone.reached) == (False, True)


def test_shares_of_a_solve():
    """Four evaluations in each of two pieces: field, trace and the solver's rest."""
    frame = _frame("cnf", **{"option.layers": 2, "log_prob_nfe": 8})
    frame["field_seconds"], frame["rate_seconds"] = frame["dim"] * 0.05, frame["dim"] * 0.15
    parts = shares(frame)
    assert parts.loc[8].to_dict() == pytest.approx({"field": 0.2, "trace": 0.4, "solver": 0.4})
    (figure,) = (figure for figure in figures(frame) if figure.name == "solve-breakdown")
    assert figure.draw()


def _points(points: Iterable[Sizes], cost_of: Cost, **more: Any) -> pd.DataFrame:
    """FLOPs and nanoseconds of ``cost_of`` the sizes, with a spread of a hundredth."""
    rng, rows = np.random.default_rng(0), []
    for d, n, h, depth, layers in points:
        flops = float(cost_of(d, n, h, depth, layers))
        times = (flops * 1e-9 * np.exp(rng.normal(0, 0.01, 9))).tolist()
        row = {"flow": "glow", "dim": d, "batch": n, "option.hidden": h, "option.depth": depth}
        row |= {"option.layers": layers, "key": f"glow{len(rows)}", "status": "done"}
        row |= {"device": "cpu", "setting.seconds": float(d), "log_prob_nfe": 4.0 * layers}
        row |= {f"{call}_flops": flops for call in ("log_prob", "step")}
        row |= {f"{call}_seconds": float(np.median(times)) for call in ("log_prob", "step")}
        row |= {f"{call}_seconds.values": times for call in ("log_prob", "step")}
        rows.append({**row, **more})
    return pd.DataFrame(rows)


def _cross(*ranges: Iterable[int], base: Sizes = BASE) -> list[Sizes]:
    """The base, and each size varied alone over its range."""
    moved = [(*base[:i], n, *base[i + 1 :]) for i, sizes in enumerate(ranges) for n in sizes]
    return list(dict.fromkeys([base, *moved]))


def test_each_axis_has_its_degree():
    """N (H² (depth - 1) + D²) layers + D³ layers: a degree each, and exponents at the end."""
    points = _cross((), (1, 16, 256), (8, 16, 64, 128), (3, 4, 6), (1, 2, 8))
    frame = _points(points, lambda d, n, h, k, m: m * (n * (h**2 * (k - 1) + d**2) + d**3))
    frame["log_prob_determinant_flops"] = frame["dim"] ** 3.0 * frame["option.layers"]
    (table,) = (table for table in tables(frame) if table.name == "cost-axes")
    rows = table.frame.set_index("axis")
    assert rows["log_prob_flops"].to_dict() == {"N": 1, "H": 2, "ℓ": 1, "L": 1}
    assert rows["log_prob_determinant_flops"].to_dict() == {"N": 0, "H": 0, "ℓ": 0, "L": 1}
    assert rows["from"].to_dict() == {"N": 1, "H": 8, "ℓ": 2, "L": 1}
    assert rows["to"].to_dict() == {"N": 256, "H": 128, "ℓ": 6, "L": 8}
    assert set(rows["flow"]) == {"glow"}
    share = 128**2 / (128**2 + 16**2 + 16**3 / 64)
    assert rows["log_prob_seconds"]["H"] == pytest.approx(2 * share, abs=0.05)
    (group,) = sizes.lines(frame)["option.hidden"].values()
    assert growth(group, "log_prob_flops", "option.hidden").exponent == pytest.approx(2 * share)
    counts = frame[[column for column in frame if "_seconds" not in column]]
    for made, panels in ((frame, 8), (counts, 4)):  # without a clock the counts alone
        (figure,) = (figure for figure in figures(made) if figure.name == "cost-axes")
        assert len(figure.draw().axes) == panels


def test_all_else_is_equal_along_an_axis():
    at_two = [*_cross((), (1, 4, 16)), *_cross((), (1, 4, 16), base=(8, *BASE[1:]))]
    frame = _points(at_two, lambda d, n, *_: n * d)
    assert not sizes.lines(frame.assign(device="meta"))
    lines = sizes.lines(frame)
    labels = {axis: list(along) for axis, along in lines.items()}
    assert labels == {"batch": ["glow D=16", "glow D=8"]}
    assert all(group["dim"].nunique() == 1 for group in lines["batch"].values())
    assert not sizes.lines(_points(_cross((), (1, 4)), lambda d, n, *_: n * d))
    widths = [(16, 64, h, 2, 4) for h in (8, 16, 32, 64)]
    ruled = {"setting.parameters": 1e4}
    assert not sizes.lines(_points(widths, lambda d, n, h, *_: h, **ruled))
    assert list(sizes.lines(_points(widths, lambda d, n, h, *_: h))) == ["option.hidden"]


def test_numbers_of_the_command():
    assert numbers("2..16", "dim") == [2, 4, 8, 16]
    assert numbers("3..20", "dim") == [3, 6, 12, 20]
    assert numbers("3,10,63", "dim") == [3, 10, 63]
    for wrong in ("2..2", "0..4", "", "2...4", "2,,3", "0,1", "a"):
        with pytest.raises(ValueError, match="cannot read --hidden"):
            numbers(wrong, "hidden")


def test_a_file_stands_for_the_flows_that_it_registers(tmp_path):
    file, out = tmp_path / "planar_flow.py", tmp_path / "out"
    file.write_text(PLUGIN)
    arguments = ["cost", str(file), "--dim", "2,3", "--batch", "4,8", "--seconds", "0"]
    assert "6 done, 0 not" in flowgauge(*arguments, "--counted-dim", "64", "--out", out).output
