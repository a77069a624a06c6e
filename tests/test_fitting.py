"""`flows.fit`, `flows.save` and `flows.load`: what is learned, kept and refused."""

from __future__ import annotations

import copy
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import flows
from flows import preprocessing
from flows.flow import Flow
from flows.saved import RECIPE

FEW = {"hidden": 8, "layers": 1, "updates": 60, "every": 10, "progress": False}


def rows(count: int = 2000) -> np.ndarray:
    """Rows (N, 2) of a Gaussian far from the standard one."""
    return np.random.default_rng(0).normal([100.0, -3.0], [5.0, 0.1], (count, 2))


def entropy() -> float:
    """Negative entropy of that Gaussian, nats."""
    return -math.log(2 * math.pi * math.e) - math.log(5.0 * 0.1)


def test_a_family_learns_a_density_of_the_raw_data(tmp_path: Path) -> None:
    fit = flows.fit("realnvp", rows(), **FEW)
    fresh = torch.tensor(np.random.default_rng(1).normal([100.0, -3.0], [5.0, 0.1], (4000, 2)))
    flow = fit.flow.double()
    assert flow.log_prob(fresh).mean().item() == pytest.approx(entropy(), abs=0.1)
    assert flow.sample(1000).mean(0).numpy() == pytest.approx([100, -3], rel=0.02)
    assert fit.validated == [0, 10, 20, 30, 40, 50, 60]
    assert fit.best == max(fit.validation_ll)
    flows.save(flow, tmp_path)
    assert torch.equal(flows.load(tmp_path).log_prob(fresh), flow.log_prob(fresh))


def test_equal_seeds_give_equal_flows_and_leave_the_random_stream() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    fits = [flows.fit("realnvp", rows(), seed=seed, **FEW) for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(1), expected)
    assert fits[0].losses == fits[1].losses != fits[2].losses


def test_the_best_weights_are_kept_and_patience_ends_it() -> None:
    """At a rate that spoils what there is the first validation stays the best."""
    x = torch.randn(500, 2)
    flow = flows.build("realnvp", 2, hidden=8).initialize(x)
    before = flow.log_prob(x).mean().item()
    fit = flows.fit(flow, x, validation=x, learning_rate=10.0, every=1, patience=3, progress=False)
    assert fit.flow is flow
    assert (fit.stopped, fit.validated[-1]) == ("patience", 4)
    assert flow.log_prob(x).mean().item() == pytest.approx(before)


def test_a_context_is_learned() -> None:
    generator = np.random.default_rng(0)
    y = generator.normal(size=(3000, 1))
    x = np.hstack([3 * y, -y]) + generator.normal(size=(3000, 2))
    fits = [
        flows.fit("maf", data, **FEW | {"updates": 200, "learning_rate": 0.02})
        for data in (x, (x, y))
    ]
    given, alone = fits[1].best, fits[0].best
    assert given > alone + 0.5  # of the mutual information of 1.2 nats


def test_tables_are_data_and_others_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame(rows(300), columns=["a", "b"])
    flows.fit("realnvp", frame, **FEW | {"updates": 2, "progress": True})
    assert "2 of 2 updates" in capsys.readouterr().err
    table = frame.assign(b=frame["b"] > frame["b"].mean())
    with pytest.warns(UserWarning, match="whole numbers have no bound.* to b$"):
        flows.fit("realnvp", table.convert_dtypes()[::-1], **FEW | {"updates": 2})
    table["kind"] = "of words"
    nan = rows(300)
    nan[0, 0] = math.nan
    for data, more, reason in (
        (rows(300)[:, 0], {}, "shape"),
        (table, {}, "columns kind of"),
        (nan, {}, "NaN or infinity"),
        (frame.assign(still=2.5), {}, "leave out still"),
        (frame.assign(c=1.0 * frame["a"]), {}, "one of a, c"),
        (rows(300), {"validation": 0.0}, "takes 0"),
        (rows(300), {"validation": np.zeros((5, 3))}, "3 columns"),
        (rows(300), {"updates": 0}, "updates = 0"),
        (rows(300), {"preprocessing": "whitn"}, "whitn"),
        (rows(300), {"depht": 2}, "depht"),
    ):
        with pytest.raises(ValueError, match=reason):
            flows.fit("realnvp", data, **FEW | more)


SIZES = {"hidden": 8, "depth": 1, "layers": 2, "context_dim": 2}
EVERY = pytest.mark.parametrize("name", flows.own())


def built(name: str, preprocessings: tuple[str, ...] = ()) -> tuple[Flow, torch.Tensor, Any]:
    """A small flow of a family, rows of data (N, D), and a context where it takes one."""
    torch.manual_seed(0)
    x = torch.randn(64, 3) * torch.tensor([1.0, 10.0, 0.1]) + 5
    flow = flows.build(name, 3, **flows.members[name].applicable(SIZES))
    for own in preprocessings:
        flow.prepend(preprocessing.fit(own, x))
    context = torch.randn(64, 2) if "context_dim" in flows.members[name].uses else None
    flow.initialize(x, context)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return flow.using(noise=0), x, context


@EVERY
def test_a_flow_is_kept_by_files_by_torch_and_by_copies(name: str, tmp_path: Path) -> None:
    """Its densities are the same, and later changes of the original do not reach it.

    Its preprocessing, its recipe and its dtype are inside.
    """
    flow, x, context = built(name, tuple(preprocessing.FITS))
    flow, x, context = flow.double(), x.double(), None if context is None else context.double()
    expected = flow.log_prob(x, context).detach()
    buffer = io.BytesIO()
    torch.save(flow, buffer)
    buffer.seek(0)
    flows.save(flow, tmp_path)
    others = [
        copy.deepcopy(flow),
        torch.load(buffer, weights_only=False),
        flows.load(tmp_path).using(noise=0),
    ]
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.zero_()
    for other in others:
        assert torch.equal(other.log_prob(x, context), expected)
        assert other.recipe == flow.recipe


def test_what_cannot_be_kept_or_read_is_refused(tmp_path: Path) -> None:
    flow, *_ = built("realnvp")
    flows.save(flow, tmp_path)
    content = json.loads((tmp_path / RECIPE).read_text())
    for change, reason in (
        ({"version": 99}, "version 99"),
        ({"flow": "glwo"}, "glwo"),
        ({"options": {"hidden": 9}}, "do not fit"),
        ({"dtype": "float3"}, "no flow"),
    ):
        (tmp_path / RECIPE).write_text(json.dumps(content | change))
        with pytest.raises(ValueError, match=reason):
            flows.load(tmp_path)
    with pytest.raises(ValueError, match="no flow"):
        flows.load(tmp_path / "absent")
    flow.prepend(flows.build("realnvp", 3).transform)
    with pytest.raises(ValueError, match=r"flows\.build"):
        flows.save(flow, tmp_path)
