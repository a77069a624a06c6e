"""Threads, hostile folders and data: equal results, one line that names the fault, right limits."""

import copy
import json
import os
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.torch as safe
import torch
from torch import Tensor
from torch.nn import functional as F

import flows
from benchmarks.measure.operations import Dispatched
from flows import preprocessing
from flows.conformance.subject import jitter
from flows.continuous import SolveError
from flows.preprocessing import FITS
from flows.saved import RECIPE, WEIGHTS
from flows.streams import Stream
from variants import SMALL, small

X = np.random.default_rng(0).normal(size=(400, 2))


def losses(name: str, x: Any = X) -> list[float]:
    return flows.fit(name, x, seed=1, updates=4, progress=False, **small(name)).losses


def test_fits_in_threads_are_those_alone_and_the_callers_stream_goes_on() -> None:
    """Beside draws of a thread that fits nothing, whose own stream is what it would be."""
    names, drawn = ["realnvp", "nsf_ar", "ffjord", "flow_matching"], []
    alone = [losses(name) for name in names]
    torch.manual_seed(3)
    with ThreadPoolExecutor(len(names)) as pool:
        fits = [pool.submit(losses, name) for name in names]
        while not drawn or not all(fit.done() for fit in fits):
            drawn.append(torch.rand(1))
    torch.manual_seed(3)
    assert all(torch.equal(value, torch.rand(1)) for value in drawn)
    assert [fit.result() for fit in fits] == alone


@pytest.mark.parametrize("name", [*flows.own(), "layers"])
def test_a_stream_draws_what_the_global_generator_would(name: str) -> None:
    """In building, losses and samples, and in functions that take no generator."""

    def drawn() -> list[Tensor]:
        if name == "layers":
            x = torch.ones(40, 4)
            net = torch.nn.LSTM(4, 3, 2, dropout=0.5)
            attention = torch.nn.MultiheadAttention(4, 2, dropout=0.5)(x, x, x)[0]
            gamma = torch.distributions.Gamma(1.0, 2.0).sample((9,))
            return [F.dropout(x), F.rrelu(-x, training=True), net(x)[0], attention, gamma]
        flow = flows.build(name, 2, **flows.members[name].applicable(SMALL))
        loss = flow.loss(torch.as_tensor(X[:50]).float())
        loss.backward()
        return [*flow.state_dict().values(), loss, flow.sample(3), torch.rand(1)]

    with torch.random.fork_rng():
        torch.manual_seed(4)
        expected = drawn()
    before = torch.get_rng_state()
    with Stream(4):
        values = drawn()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(map(torch.equal, values, expected))


def saved(folder: Path) -> dict[str, Tensor]:
    torch.manual_seed(0)
    flow = flows.build("realnvp", 2, hidden=8, layers=2)
    flow.prepend(preprocessing.fit("whiten", torch.as_tensor(X).float()))
    flows.save(flow, folder)
    return {name: value.contiguous() for name, value in flow.state_dict().items()}


SIZES = {"hidden": 8, "depth": 2, "layers": 2, "context_dim": 0}
OF_SIZES = [
    *({"layers": 10**7}, {"hidden": 10**9}, {"depth": 10**6}, {"context_dim": 10**9}),
    *({"hidden": "x"}, {"hidden": {}}, {"layers": -3}, {"dim": 4}, {"other": 1}, {"hidden": 1.5}),
]
RECIPES: list[Any] = [
    *({"dim": dim} for dim in (10**9, 10**400, 0, -1, True, "2", None, 2.5, 3, [2])),
    *({"options": {**SIZES, **changes}} for changes in OF_SIZES),
    *({"options": None}, {"options": [1]}),
    *({"flow": flow} for flow in ("nope", 3, None, ["realnvp"], {}, "maf", "planar", "../../x")),
    *({"version": 9}, {"version": "1"}, {"schema": 9}, {"schema": "x"}),
    *({"dtype": dtype} for dtype in ("int64", "float99", "nn", "load", "complex64", None, [1])),
    *({"preprocessing": steps} for steps in ("whiten", None, 3, [], [3], ["pca"], ["radial"])),
    *({"preprocessing": steps} for steps in (["whiten"] * 5, ["whiten"] * 10**5, ["logit"], [""])),
    *(b"", b"[]", b"null", b'"x"', b"1e999", bytes(256), b"[" * 10**5, b'{"a":' * 10**5),
]


@pytest.mark.parametrize("change", RECIPES, ids=lambda change: str(change)[:40])
def test_a_hostile_recipe_is_one_line(change: Any, tmp_path: Path) -> None:
    saved(tmp_path)
    content = json.loads((tmp_path / RECIPE).read_text())
    text = change if isinstance(change, bytes) else json.dumps(content | change).encode()
    (tmp_path / RECIPE).write_bytes(text)
    refused(tmp_path)


def refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="holds no flow") as error:
        flows.load(folder)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1500


def packed(header: Any) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


EMPTY = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
Change = Callable[[dict[str, Tensor]], Any]


def numbers(change: Callable[[Tensor], Tensor]) -> Change:
    """Change the tensors of real numbers; the others are places of columns."""
    return lambda state: {n: change(v) if v.is_floating_point() else v for n, v in state.items()}


def places(change: Callable[[Tensor], Tensor]) -> Change:
    return lambda state: {n: v if v.is_floating_point() else change(v) for n, v in state.items()}


WEIGHTS_CHANGED: dict[str, Change] = {
    "nothing": lambda state: b"",
    "short": lambda state: safe.save(state)[:20],
    "cut": lambda state: safe.save(state)[:-7],
    "longer": lambda state: safe.save(state) + b"xx",
    "huge header": lambda state: struct.pack("<Q", 2**62) + b"{}",
    "empty tensors": lambda state: packed({f"t{i}": EMPTY for i in range(300_000)}),
    "huge shape": lambda state: packed({"a": {**EMPTY, "shape": [10**12]}}),
    "none": lambda state: {},
    "renamed": lambda state: {f"x{name}": value for name, value in state.items()},
    "one more": lambda state: {**state, "evil": torch.ones(3)},
    "a context": lambda state: {**state, "context_scaling.mean": torch.ones(3)},
    "edited": numbers(lambda value: value + 1),
    "NaN": numbers(lambda value: value * torch.nan),
    "other places": places(lambda value: value + 1),
    "a place twice": places(lambda value: 0 * value),
    "another shape": lambda state: {name: value[..., None] for name, value in state.items()},
    "whole numbers": lambda state: {name: value.int() for name, value in state.items()},
    "complex": lambda state: {name: value.cfloat() for name, value in state.items()},
    "no spread": lambda state: {n: 0 * v if "factor" in n else v for n, v in state.items()},
}


@pytest.mark.parametrize("change", WEIGHTS_CHANGED)
def test_hostile_weights_are_one_line(change: str, tmp_path: Path) -> None:
    """Without the digest that the recipe has of them, but for those that it alone tells apart."""
    state = saved(tmp_path)
    content = WEIGHTS_CHANGED[change](state)
    tensors = isinstance(content, dict)
    text = safe.save({n: v.contiguous() for n, v in content.items()}) if tensors else content
    (tmp_path / WEIGHTS).write_bytes(text)
    if change != "edited":
        recipe = json.loads((tmp_path / RECIPE).read_text())
        recipe.pop("sha256")
        (tmp_path / RECIPE).write_text(json.dumps(recipe))
    refused(tmp_path)


@pytest.mark.parametrize("file", [RECIPE, WEIGHTS])
@pytest.mark.parametrize("kind", ["device", "loop", "fifo", "folder", "none", "sparse"])
def test_what_is_no_file_is_one_line(kind: str, file: str, tmp_path: Path) -> None:
    saved(tmp_path)
    path = tmp_path / file
    if kind == "sparse":
        os.truncate(path, 10**12)
    else:
        path.unlink()
    if kind in ("device", "loop"):
        path.symlink_to("/dev/zero" if kind == "device" else path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    refused(tmp_path)


@pytest.mark.parametrize("name", [*flows.own(), *FITS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_row_far_out_has_no_nan_and_moves_no_other(name: str, dtype: torch.dtype) -> None:
    """As float64 has it, or minus infinity; an ODE may say that it cannot be solved."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 2, generator=generator)
    if name in FITS:
        data = {"logit": x.sigmoid(), "log": x.exp()}.get(name, x**3)
        flow = flows.Flow(preprocessing.fit(name, data), dim=2).to(dtype)
    else:
        torch.manual_seed(0)
        flow = flows.build(name, 2, **flows.members[name].applicable(SMALL)).initialize(x)
        jitter(flow, 0.1)
        flow = flow.to(dtype).using(noise=0)
    largest = torch.finfo(dtype).max
    for size in (largest**0.5, largest / 4, -largest / 4):
        rows = x[:3].to(dtype)
        rows[1] = torch.tensor([size, -size], dtype=dtype)
        try:
            log_prob = flow.log_prob(rows)
        except SolveError:
            continue
        assert bool(torch.isfinite(log_prob[[0, 2]]).all())
        assert log_prob[1] < -1e4
        if dtype == torch.float32 and torch.isfinite(log_prob[1]):
            exact = copy.deepcopy(flow).double().log_prob(rows.double())[1]
            assert log_prob[1].item() == pytest.approx(exact.item(), rel=0.05)


def test_a_nan_of_ordinary_rows_or_of_weights_stays() -> None:
    """And a look for one dispatches no operator."""
    flow, x = flows.build("realnvp", 2, hidden=8), torch.ones(3, 2)
    with Dispatched() as mode:
        flow.log_prob(x)
    assert not any("isnan" in name for name in mode.counts)
    next(flow.parameters()).data.fill_(torch.nan)
    assert bool(flow.log_prob(x * 1e38).isnan().all())
    assert bool(flow.log_prob(x).isnan().all())


def test_what_a_flow_cannot_be_given_is_named() -> None:
    def column(x, context=None):
        return x, torch.zeros(len(x), 1)

    x, ode = torch.randn(20, 2), flows.build("cnf", 2, hidden=8)
    wide = flows.Flow(SimpleNamespace(forward=column, inverse=column), 2)
    with torch.inference_mode():
        built, inside = flows.build("realnvp", 2, hidden=8), torch.randn(20, 2)
    few: dict[str, Any] = {"updates": 2, "progress": False}
    for call, reason in (
        (lambda: wide.log_prob(x), r"\(20, 1\)"),
        (lambda: wide.log_prob(x * 1j), "complex64"),
        (lambda: flows.fit("realnvp", x * 1j, **few), "complex"),
        (lambda: preprocessing.fit("whiten", x * 1j), "real"),
        (lambda: flows.check(wide, x=x * 1j), "Tensor"),
        (lambda: flows.fit(built, x, **few), "inference_mode"),
        (lambda: built.log_prob(x), "inference_mode"),
        (lambda: torch.func.vmap(ode.log_prob)(x[None]), "backprop"),
        (lambda: torch.func.grad(lambda x: ode.log_prob(x).sum())(x), "backprop"),
    ):
        with pytest.raises((ValueError, TypeError, RuntimeError), match=reason):
            call()
    (row,) = flows.check(wide).rows
    assert "(8, 1)" in row.note
    with pytest.warns(UserWarning, match="three digits"):
        flows.build("realnvp", 2, hidden=8).bfloat16().log_prob(x.bfloat16())
    for name in ("cnf", "ffjord"):
        flows.build(name, 2, hidden=8).loss(inside).backward()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_training_under_any_mode_is_the_same(mode: Callable[..., Any]) -> None:
    expected = losses("realnvp")
    with mode():
        assert losses("realnvp") == expected
    x = torch.tensor(X, requires_grad=True)
    assert losses("realnvp", x) == expected
