"""Modes: shares and gaps of samples that are known, the reverse KL of Gaussians, the claim."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import flows
from benchmarks import datasets
from benchmarks.core.frame import load
from benchmarks.core.study import registry
from benchmarks.datasets import Dataset, stream
from benchmarks.evaluation import modes
from benchmarks.studies.modes.study import AnnealedKL, reverse_kl
from benchmarks.studies.modes.tables import means, tables
from benchmarks.training.loop import train
from benchmarks.training.state import prepared
from flows.discrete.nflows_compat import ActNorm
from measuring import cases_of
from records import write_result

STUDY = registry["modes"]
WITH_MODES = ["8gaussians", "25gaussians", "25gaussians_turned", "mixture_8"]
SMALL: dict[str, Any] = {"flows": ["realnvp"], "datasets": ["8gaussians"], "batch": 64}
SMALL |= {"sizes": {"hidden": 8, "layers": 2}, "updates": 3, "samples": 300, "rows": 100}
SMALL |= {"objectives": ["likelihood", "reverse_kl", "annealed_kl"]}
SMALL |= {"training": {"validations": 1, "validation_rows": 50}}


@pytest.mark.parametrize("name", WITH_MODES)
def test_exact_samples_have_every_mode_as_due(name: str) -> None:
    """Within the binomial error, and as much in gaps as is rare."""
    data = datasets.load(name)
    x = data.sample(20_000, stream(3, "exact"))
    due = modes.shares(x, data) / modes.due(data)
    error = math.sqrt((1 / modes.due(data).min() - 1) / len(x))
    assert np.abs(due - 1).max() < 4.5 * error
    metrics = modes.figures(x, data)
    assert metrics["modes_missed"] == metrics["modes_thin"] == 0
    assert metrics["least_share"] == due.min() > metrics["least_mass"] > due.min() - 0.03
    assert metrics["mode_kl"] < 5 * len(due) / (2 * len(x))  # of chi squared, half over the rows
    spread = math.sqrt(2 * modes.RARE / len(x))  # of these and of the data's own rows
    assert metrics["gap_mass"] == pytest.approx(modes.RARE, abs=5 * spread)


def test_data_without_modes_or_density_is_refused() -> None:
    for name, words in (("magic", "has no modes"), ("2spirals", "has no modes")):
        with pytest.raises(ValueError, match=words):
            cases_of("modes", {**SMALL, "datasets": [name]})
    data = datasets.load("magic")
    with pytest.raises(ValueError, match="not known"):
        modes.density(data)
    with pytest.raises(ValueError, match=r"magic.*by likelihood"):
        reverse_kl(data)
    with pytest.raises(ValueError, match=r"'gan'.*likelihood, reverse_kl"):
        cases_of("modes", {**SMALL, "objectives": ["gan"]})
    parts, two = [torch.zeros(1, 2).double()] * 3, torch.zeros(2, 2)
    with pytest.raises(ValueError, match=r"'bad'.*modes"):
        Dataset("bad", 2, *parts, "", "", modes=torch.zeros(3, 1))
    for weights in (torch.ones(3), torch.tensor([0.5, 0.6]), torch.tensor([-0.5, 1.5])):
        with pytest.raises(ValueError, match=r"'bad'.*weights"):
            Dataset("bad", 2, *parts, "", "", modes=two, weights=weights)


def test_reverse_kl_is_that_of_gaussians() -> None:
    """KL(N(a, b^2) from N(0, 1)) = (a^2 + b^2 - 1) / 2 - ln b in each dimension, gradient too."""
    a, b, rows = 0.7, 1.6, 400_000
    normal = torch.distributions.Normal(torch.tensor(0.0).double(), 1.0)
    x = normal.sample((500, 2))
    exact = {"log_prob": lambda x: normal.log_prob(x).sum(1), "modes": torch.zeros(1, 2).double()}
    data = Dataset("normal", 2, x, x, x, "", "", **exact)
    norm: Any = ActNorm(2).double()  # z = (x - a) / b, of parameters -ln b and -a / b
    torch.nn.init.constant_(norm.log_scale, -math.log(b))
    torch.nn.init.constant_(norm.shift, -a / b)
    value = reverse_kl(data)(flows.Flow(norm, 2), torch.empty(rows, 2))
    value.backward()
    assert value.item() == pytest.approx(a**2 + b**2 - 1 - 2 * math.log(b), abs=0.02)
    assert norm.log_scale.grad.tolist() == pytest.approx([1 - a**2 - b**2] * 2, abs=0.03)
    assert norm.shift.grad.tolist() == pytest.approx([-a * b] * 2, abs=0.03)


@pytest.mark.parametrize(("updates", "power"), [(1, 0.01), (4, 1.0), (8, 1.0), (3, 1.0)])
def test_the_target_is_annealed_over_half_of_the_updates(updates: int, power: float) -> None:
    """By what has been done before the last of them, in a loop that may have been resumed."""
    (case,) = cases_of("modes", {**SMALL, "objectives": ["annealed_kl"], "updates": updates})
    objective = AnnealedKL(data := datasets.load("8gaussians"))
    flow, settings = prepared(case, data)
    train(flow, data, case, settings, objective=objective)
    assert objective.power == power


def test_a_row_for_each_objective_and_flow(tmp_path: Path) -> None:
    cases = cases_of("modes", SMALL, seeds=(0, 1))
    for case, (_, result) in zip(cases, STUDY.measure(cases), strict=True):
        write_result(tmp_path, case, result)
    measured = load(tmp_path)
    (table,) = tables(measured)
    rows = means(measured)
    assert rows["objective"].tolist() == SMALL["objectives"]
    assert table.frame["seeds"].tolist() == [2, 2, 2]
    assert {key for keys in table.rows_from for key in keys} == set(measured["key"])
    by_objective = dict(list(measured.groupby("setting.objective")))
    pairs = [by_objective[name]["gap_mass"] for name in SMALL["objectives"]]
    for frame in (rows, table.frame):
        assert frame["gap_mass"].tolist() == pytest.approx([pair.mean() for pair in pairs])
        errors = [abs(pair.diff().iloc[1]) / 2 for pair in pairs]
        assert frame["gap_mass_se"].tolist() == pytest.approx(errors)
    failed = tables(measured.assign(status="failed"))[0].frame
    assert failed["modes_missed"].tolist() == ["failed"] * 3
    assert STUDY.tables(pd.DataFrame()) == STUDY.figures(pd.DataFrame()) == []
