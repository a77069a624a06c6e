"""The cost study's cases and measures: its grid, counts without data, the resident set."""

from __future__ import annotations

from typing import Any

import pytest

import flows
from benchmarks.core.case import Case
from benchmarks.core.metrics import METRICS
from benchmarks.core.study import registry
from benchmarks.execution.suite import Suite
from benchmarks.measure.calls import calls, resident_bytes
from benchmarks.measure.operations import count_shapes

SIZES = {"hidden": 8, "depth": 2, "layers": 2}
STEPS = {"method": "rk4", "step_size": 0.5, "gradient": "backprop"}
OURS = flows.own()


def cases(*contenders: dict[str, Any], **options: Any) -> list[Case]:
    entry = {"study": "cost", "flows": contenders, "sizes": SIZES, "dims": [3], "seconds": 0}
    return Suite(name="test", about="", studies=({**entry, **options},)).cases()


@pytest.mark.parametrize("name", OURS)
def test_counts_from_shapes_are_those_of_a_run(name: str) -> None:
    """The same integers on the meta device as where everything is computed."""
    solver = {"solver": STEPS} if "solver" in flows.members[name].defaults else {}
    computed, counted = cases({"flow": name, "options": solver}, counted_dims=[3])
    assert (computed.device, counted.device) == ("cpu", "meta")
    metrics = calls(computed).count()[0]
    counts = count_shapes(counted)
    assert counts == {name: metrics[name] for name in counts}
    assert counts["log_prob_flops"] > 0 or counts["log_prob_determinant_flops"] == 0


def test_counts_from_shapes_go_beyond_any_memory() -> None:
    """A batch of dense Jacobians at D = 4096 would take 64 GiB; the count is of LU's degree."""
    options = {"layers": 1, "hidden": 8}
    (case,) = cases({"flow": "dense", "options": options}, batch=1024, dims=[], counted_dims=[4096])
    counts = count_shapes(case)
    assert counts["log_prob_determinant_flops"] == 1024 * (4096 * 4095 * (4 * 4096 + 1) // 6)


def test_of_adaptive_steps_one_evaluation_is_counted() -> None:
    """Their number is the data's."""
    (case,) = cases({"flow": "cnf"}, dims=[], counted_dims=[3])
    counts = count_shapes(case)
    assert counts["rate_flops"] > counts["field_flops"] > 0
    assert not any(name.startswith("log_prob") for name in counts)


def test_a_count_that_fails_costs_no_other() -> None:
    """It is a failed result with its reason."""
    pair = cases({"flow": "glow"}, {"flow": "maf"}, dims=[], counted_dims=[1])
    results = dict(registry["cost"].measure(pair))
    failed, done = (results[case.key] for case in pair)
    assert "at least two columns" in failed.failure
    assert done.metrics["log_prob_flops"] > 0


def test_several_sizes_make_a_grid() -> None:
    """Each with each, all flows beside each other at every point; H = c D is no size of it."""
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
def test_the_resident_set_tells_the_adjoint_from_backprop() -> None:
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
def test_a_process_that_fails_says_why() -> None:
    """Its last words are the reason, and not only that it failed."""
    (case,) = cases({"flow": "realnvp"})
    with pytest.raises(RuntimeError, match="at least two columns"):
        resident_bytes(case.model_copy(update={"dim": 1}), "log_prob")


def test_a_heap_as_it_comes_changes_no_count() -> None:
    """A fresh process measures the same metrics, and only times and memory are of its own."""
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
