"""Baselines: densities that are fitted, not trained, which a flow has to beat."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Self, cast

import numpy as np
import torch
from pydantic import PositiveFloat
from pydantic import model_validator as validator
from torch import Tensor

from benchmarks.core.case import Settings
from benchmarks.training.baselines.density import Baseline, gaussian
from benchmarks.training.baselines.kernels import kde
from benchmarks.training.baselines.mixture import mixture
from flows import preprocessing
from flows.bijection import Bijection

# functions of training rows (N, D), of about unit variance, a seed, and validation rows
BASELINES: dict[str, Callable[..., Baseline]] = {
    "gaussian": gaussian,
    "kde": kde,
    "mixture": mixture,
}


class BaselineEntry(Settings, frozen=True):
    """A baseline of a suite, by its name alone or as a table."""

    flow: str
    """Name of the baseline: "gaussian", "kde" or "mixture". A name alone may stand in place of the
    table.
    """
    preprocessing: str = "whiten"
    """Preprocessing that is fitted to the training rows and put before the baseline: "standardize",
    "whiten" or "radial".
    """
    effort: PositiveFloat | None = None
    """FLOPs that the search of a baseline may take, for one that searches (`mixture`)."""

    @validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"flow": value} if isinstance(value, str) else value

    @validator(mode="after")
    def _known(self) -> Self:
        if self.flow not in BASELINES:
            known = ", ".join(BASELINES)
            raise ValueError(f"unknown baseline {self.flow!r}; choose from: {known}")
        if self.preprocessing not in preprocessing.FITS:
            known = ", ".join(preprocessing.FITS)
            raise ValueError(
                f"unknown preprocessing {self.preprocessing!r} of a baseline; choose from: {known}"
            )
        if self.effort and "effort" not in inspect.signature(BASELINES[self.flow]).parameters:
            raise ValueError(f"baseline {self.flow!r} has one way to be fitted: leave out effort")
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """What differs from the defaults, for a case."""
        return self.model_dump(exclude={"flow"}, exclude_defaults=True)


EVERY = tuple(
    BaselineEntry(flow=name, preprocessing=first)
    for name in BASELINES
    for first in ("whiten", "radial")
)


def fit(
    baseline: BaselineEntry | str,
    train: np.ndarray,
    seed: int,
    validation: np.ndarray,
    given: int = 0,
) -> Baseline:
    """Fit a baseline to raw rows (N, D), after its preprocessing.

    The preprocessing is fitted to the training rows and counted in densities; samples are of the
    raw data. With ``given`` C the rows are (y, x), (N, D + C), and the density is that of y given
    x: of the joint density q(x, y) / q(x), of one Gaussian thus a linear regression. y and x have
    a preprocessing each, and samples have the training set's x.
    """
    entry = BaselineEntry.model_validate(baseline)
    split = train.shape[1] - given
    first = _fitted_map(entry, train[:, :split])
    context = _fitted_map(entry, train[:, split:]) if given else None

    def mapped(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows that are fitted, x before y, and the log-determinant of y's map."""
        z, ladj = first.forward(torch.from_numpy(rows[:, :split]).double())
        if context is None:
            return z.numpy(), ladj.numpy()
        return np.concatenate([_image(context.forward, rows[:, split:]), z], 1), ladj.numpy()

    def log_prob(rows: np.ndarray) -> np.ndarray:
        z, ladj = mapped(rows)
        density: np.ndarray = fitted.log_prob(z) + ladj
        return density - fitted.marginal(z[:, :given]) if given else density

    def sample(n: int) -> np.ndarray:
        if not given:
            return _image(first.inverse, fitted.sample(n))
        x = train[np.arange(n) % len(train)]
        z = fitted.completed(mapped(x)[0][:, :given])
        return np.concatenate([_image(first.inverse, z[:, given:]), x[:, split:]], 1)

    settings = {"effort": entry.effort} if entry.effort else {}
    held, ladj = mapped(validation)
    fitted = BASELINES[entry.flow](mapped(train)[0], seed, held, **settings)
    notes = {**_of_raw_rows(fitted.notes, ladj), "preprocessing": entry.preprocessing}
    return replace(fitted, log_prob=log_prob, sample=sample, notes=notes)


def _fitted_map(entry: BaselineEntry, rows: np.ndarray) -> Bijection:
    return cast(Bijection, preprocessing.fit(entry.preprocessing, torch.from_numpy(rows).double()))


def _image(move: Callable[[Tensor], tuple[Tensor, Tensor]], rows: np.ndarray) -> np.ndarray:
    image: np.ndarray = move(torch.from_numpy(rows).double())[0].numpy()
    return image


def _of_raw_rows(notes: Mapping[str, Any], ladj: np.ndarray) -> dict[str, Any]:
    """Notes with validation likelihoods of the raw rows; ``ladj`` (N,) of the preprocessing."""
    if "tried" not in notes:
        return dict(notes)
    shift = float(ladj[: notes["validation_rows"]].mean())
    tried = [{**one, "validation_ll": one["validation_ll"] + shift} for one in notes["tried"]]
    return {**notes, "validation_ll": notes["validation_ll"] + shift, "tried": tried}
