"""Flows that are kept: through files, torch.save and copies they stay the densities they are."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import flows
from benchmarks.core.case import Case
from benchmarks.datasets.own import load_file
from benchmarks.measure.calls import prepare
from benchmarks.training import weights
from flows import preprocessing
from flows.flow import Flow
from flows.saved import KINDS, RECIPE

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
    """Its densities are the same, and later changes of the original do not reach it."""
    flow, x, context = built(name, ("radial", "standardize"))
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", preprocessing.FITS)
def test_the_preprocessing_of_a_flow_is_inside(
    name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    flow, x, context = built("realnvp", (name,))
    flow.to(dtype)
    flows.save(flow, tmp_path)
    other = flows.load(tmp_path)
    given = x.to(dtype), context.to(dtype)
    assert torch.equal(other.log_prob(*given), flow.log_prob(*given))
    assert other.recipe == flow.recipe


def test_every_preprocessing_can_be_kept() -> None:
    assert set(KINDS) == set(preprocessing.FITS)


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


def test_a_run_keeps_a_density_of_the_raw_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    raw = generator.normal([100.0, -3.0], [5.0, 0.1], (1000, 2))
    np.savetxt(file := tmp_path / "raw.csv", raw, delimiter=",", header="a,b", comments="")
    data = load_file(str(file))
    case = Case(study="density", flow="realnvp", dim=2, batch=8, dataset=str(file))
    flow = prepare(case, data.train.float(), "whiten")
    monkeypatch.setattr(weights, "folders", {})
    weights.keep(case, flow, data)  # no folder is named: nothing is written
    weights.folders[case.key] = tmp_path / "kept"
    weights.keep(case, flow, data, val_ll=-1.0)
    content = json.loads((tmp_path / "kept" / RECIPE).read_text())
    assert content["columns"] == ["a", "b"]
    assert content["preprocessing"] == ["standardize", "whiten"]
    other, rows = flows.load(tmp_path / "kept").double(), torch.tensor(raw)
    mean, deviation = data.scaling.mean, data.scaling.factor
    own = flow.double().log_prob((rows - mean) / deviation) - deviation.log().sum()
    assert torch.allclose(other.log_prob(rows), own, atol=1e-5)
