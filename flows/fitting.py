"""Training a flow on rows of raw data, as in a notebook."""

from __future__ import annotations

import math
import sys
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

import flows
from flows import preprocessing as preprocessings
from flows.continuous import SolveError
from flows.flow import Flow
from flows.training import State, Turns, cosine, loop

INITIAL_ROWS = 1024  # of the initialisation of ActNorm
CHUNK = 5000  # validation rows at once
CLIP = 5.0  # largest norm of a gradient


@dataclass
class Fit:
    """A trained flow, with the best validated weights, and its learning curve.

    ``validation_ll`` are mean log-densities of the validation rows, nats, after ``validated``
    updates; ``losses`` those of the updates. ``stopped`` is "patience" where validations got no
    better, else "updates".
    """

    flow: Flow
    stopped: str = ""
    validated: list[int] = field(default_factory=list, repr=False)
    validation_ll: list[float] = field(default_factory=list, repr=False)
    losses: list[float] = field(default_factory=list, repr=False)

    @property
    def best(self) -> float:
        """Validation log-likelihood of the weights that are kept, nats."""
        return max(self.validation_ll)


def fit(
    flow: Flow | str,
    data: Any,
    *,
    validation: Any = 0.1,
    preprocessing: str | None = None,
    support: Any = None,
    updates: int = 2000,
    batch: int = 256,
    learning_rate: float = 1e-3,
    every: int = 50,
    patience: int = 10,
    seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> Fit:
    """Train a flow, or the family of a name with these ``options``, on rows of raw data.

    ``data`` are rows (N, D), as an array, a tensor or a table, or a pair of them and their context
    (N, C), which should have mean 0 and deviation 1. ``validation`` is a share of the rows, chosen
    at random, or rows of the same kind. ``preprocessing`` is fitted to the training rows and put
    before the flow: a name of `flows.preprocessing.fit`, which takes the ``support``, or "none"; by
    default "standardize" for a family and "none" for a flow.
    The rate falls by a cosine to zero over ``updates``. Weights are validated after ``every``
    updates, by the exact trace; ``patience`` validations in a row without a better one end the
    training (0: never). The flow is trained in place and ends with the best weights, in its dtype
    and on its device; a family is built in float32. Equal seeds give equal results on one machine.

    Warns of columns of whole numbers, on which likelihoods have no bound. Raises ValueError for
    data of another shape, values that are not finite, constant and repeated columns, too few rows
    and an unknown name or option, and `flows.training.TrainingError` where updates have no finite
    loss.
    """
    for name, value in {"updates": updates, "batch": batch, "every": every}.items():
        if value < 1:
            raise ValueError(f"{name} = {value}: give a number from 1")
    rows, width = _rows("data", data)
    named = getattr(data[0] if isinstance(data, tuple) else data, "columns", range(width))
    _inspect(rows[:, :width], list(named))
    generator = torch.Generator().manual_seed(seed)
    if isinstance(validation, float):
        order, count = torch.randperm(len(rows), generator=generator), round(validation * len(rows))
        if not 0 < count < len(rows):
            raise ValueError(
                f"validation = {validation:g} takes {count} of {len(rows)} rows: give another share"
            )
        train, val = rows[order[count:]], rows[order[:count]]
    else:
        train, (val, _) = rows, _rows("validation", validation)
        if val.shape[1] != rows.shape[1]:
            raise ValueError(f"validation has {val.shape[1]} columns, and data {rows.shape[1]}")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        flow, train, val = _prepared(flow, train, val, width, preprocessing, support, options)
        optimiser = torch.optim.Adam(flow.parameters())
        state = State(flow, optimiser, generator, flow.state_dict())
        batch, rate = min(batch, len(train)), learning_rate
        turns = _Turns(state, train, val, width, batch, updates, rate, every, progress, patience)
        turns.fit.stopped = loop(state, turns)
    flow.load_state_dict(state.best)
    return turns.fit


def _rows(name: str, data: Any) -> tuple[Tensor, int]:
    """Rows beside their context, (N, D + C) float64, and D; ValueError for another shape."""
    parts = data if isinstance(data, tuple) else (data,)
    tables = [torch.tensor(_numbers(name, part)) for part in parts]
    shapes = ", ".join(str(tuple(table.shape)) for table in tables)
    lengths = {len(table) if table.dim() == 2 else 0 for table in tables}
    if len(tables) > 2 or len(lengths) > 1 or 0 in lengths:
        raise ValueError(f"expected {name} of shape (N, D), or (N, D) and (N, C), got {shapes}")
    rows = torch.cat(tables, 1)
    if bad := int((~torch.isfinite(rows)).any(1).sum()):
        raise ValueError(
            f"{bad} of {len(rows)} rows of {name} have NaN or infinity: leave them out"
        )
    return rows, tables[0].shape[1]


def _inspect(x: Tensor, names: list[Any]) -> None:
    """ValueError that names the columns of rows (N, D) without a density; warn of whole numbers."""
    constant = (x == x[0]).all(0)
    columns, first = x.T.unique(dim=0, return_inverse=True)
    repeated = first.bincount(minlength=len(columns))[first] > 1
    integral = (x == x.round()).all(0)

    def listed(mask: Tensor) -> str:
        return ", ".join(str(names[i]) for i in mask.nonzero().flatten().tolist())

    if constant.any():
        raise ValueError(f"constant columns have no density: leave out {listed(constant)}")
    if repeated.any():
        raise ValueError(f"equal columns have no density: leave out one of {listed(repeated)}")
    if integral.any():
        remedy = f"add uniform noise in [0, 1) to {listed(integral)}"
        warnings.warn(f"likelihoods on whole numbers have no bound, {remedy}", stacklevel=3)


def _numbers(name: str, part: Any) -> np.ndarray:
    """In float64; ValueError that names the columns of a DataFrame that are not numbers."""
    try:
        return np.ascontiguousarray(np.asarray(part), dtype=np.float64)
    except (TypeError, ValueError) as error:
        wrong = [c for c in getattr(part, "columns", ()) if not _is_numeric(part[c])]
        what = f"columns {', '.join(map(str, wrong))} of {name}" if wrong else name
        raise ValueError(f"{what} cannot be read as numbers: {error}") from error


def _is_numeric(column: Any) -> bool:
    try:
        np.asarray(column).astype(np.float64)
    except (TypeError, ValueError):
        return False
    return True


def _prepared(
    flow: Flow | str,
    train: Tensor,
    val: Tensor,
    width: int,
    preprocessing: str | None,
    support: Any,
    options: dict[str, Any],
) -> tuple[Flow, Tensor, Tensor]:
    """The flow behind its preprocessing, initialised, and both parts as it takes them."""
    if isinstance(flow, str):
        preprocessing = preprocessing or "standardize"
        if context := train.shape[1] - width:
            options.setdefault("context_dim", context)
        flow = flows.build(flow, width, **options)
    elif options:
        raise ValueError(f"{', '.join(options)}: options are of a family that is named, not a flow")
    like = flow.reference()
    like = torch.empty(0) if like is None else like
    if preprocessing not in (None, "none"):
        bounds = support if support is None else torch.as_tensor(support, dtype=train.dtype)
        flow.prepend(preprocessings.fit(str(preprocessing), train[:, :width], bounds))
        flow.to(like)
    train, val = train.to(like), val.to(like)
    flow.initialize(*_split(train[torch.randperm(len(train))[:INITIAL_ROWS]], width))
    return flow, train, val


def _split(rows: Tensor, width: int) -> tuple[Tensor, Tensor | None]:
    """Rows (N, D) and their context (N, C), None without one."""
    return rows[:, :width], rows[:, width:] if rows.shape[1] > width else None


@dataclass
class _Turns(Turns):
    """A training on tensors, with a line of progress."""

    state: State
    train: Tensor
    val: Tensor
    width: int  # columns before those of the context
    batch: int
    updates: int
    rate: float
    every: int
    progress: bool
    patience: int = 0

    def __post_init__(self) -> None:
        self.exact = self.state.flow.using(trace="exact")
        self.fit = Fit(self.state.flow)

    def end(self) -> str:
        return "updates" if self.state.update == self.updates else ""

    def due(self) -> bool:
        return self.state.update % self.every == 0

    @torch.no_grad()
    def validate(self) -> None:
        parts = torch.split(self.val, CHUNK)
        try:
            log_prob = torch.cat([self.exact.log_prob(*_split(p, self.width)) for p in parts])
            score = log_prob.mean().item()
        except SolveError:
            score = -math.inf
        score = score if math.isfinite(score) else -math.inf
        self.state.keep_best(score)
        self.fit.validated.append(self.state.update)
        self.fit.validation_ll.append(score)
        if self.progress:
            done, best = f"{self.state.update:,} of {self.updates:,} updates", self.state.score
            line = f"\r{done}: validation {score:.3f} nats, best {best:.3f} "
            print(line, end="", file=sys.stderr, flush=True)

    def update(self) -> str:
        picks = self.state.picks(len(self.train), self.batch)
        x = self.train[picks.to(self.train.device)]
        rate = self.rate * cosine(self.state.update, self.updates)
        loss, fault = self.state.step(x, self._loss, rate, CLIP)
        self.fit.losses.append(loss)
        return fault

    def _loss(self, flow: Flow, x: Tensor) -> Tensor:
        return flow.loss(*_split(x, self.width))
