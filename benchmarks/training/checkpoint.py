"""Checkpoints inside a case: a training that was killed goes on to the result it would have had.

One safetensors file holds weights, optimiser, random streams and history. It is written between
two updates, so that what follows is the same bit for bit, seconds apart.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from benchmarks.core.case import Case
from benchmarks.core.store import replace
from benchmarks.training.history import History
from benchmarks.training.state import State

SECONDS = 30.0  # from one checkpoint to the next

slots: dict[str, Path] = {}  # the file of each case's checkpoint, by its key; a worker is told them


def slot(case: Case) -> Path | None:
    """Where a case's checkpoint lies; None where nobody wants one."""
    return slots.get(case.key)


def write(path: Path, state: State) -> None:
    """Write the state of a training, atomically."""
    optimiser = state.optimiser.state_dict()["state"]
    tensors = {f"flow.{name}": value for name, value in state.flow.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in state.best.items()}
    tensors |= {f"optimiser.{i}.{k}": v for i, entry in optimiser.items() for k, v in entry.items()}
    tensors |= {f"stream.{name}": _state(stream) for name, stream in _streams(state).items()}
    tensors["order"] = state.order
    # every tensor on its own: the format holds no two that share memory
    kept = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    about = {name: getattr(state, name) for name in state.SCALARS}
    told = json.dumps({"scalars": about, "history": asdict(state.history)})
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, save(kept, {"state": told}))


def read(path: Path, state: State) -> bool:
    """Bring a fresh state to what was written; whether there was something that can be read."""
    if not path.exists():
        return False
    try:
        with safe_open(path, "pt") as file:
            told = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no dict)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        warnings.warn(
            f"checkpoint {path.name} cannot be read, so it starts anew: {error}", stacklevel=2
        )
        return False
    state.flow.load_state_dict(_under("flow.", tensors))
    device = next(iter(state.best.values())).device
    state.best = {name: value.to(device) for name, value in _under("best.", tensors).items()}
    entries: dict[int, dict[str, Tensor]] = {}
    for name, value in _under("optimiser.", tensors).items():
        index, _, key = name.partition(".")
        entries.setdefault(int(index), {})[key] = value
    groups = state.optimiser.state_dict()["param_groups"]
    state.optimiser.load_state_dict({"state": entries, "param_groups": groups})
    for name, stream in _streams(state).items():
        if stream is None:
            torch.set_rng_state(tensors[f"stream.{name}"])
        else:
            stream.set_state(tensors[f"stream.{name}"])
    state.order = tensors["order"]
    for name, value in told["scalars"].items():
        setattr(state, name, value)
    state.history = History(**{f.name: _listed(told["history"][f.name]) for f in fields(History)})
    return True


def _streams(state: State) -> dict[str, torch.Generator | None]:
    """Every random stream that a training draws from; None is torch's global one."""
    found: dict[str, torch.Generator | None] = {"global": None, "batches": state.generator}
    for name, module in state.flow.named_modules():
        if isinstance(own := getattr(module, "generator", None), torch.Generator):
            found[f"module.{name}"] = own
    if torch.cuda.is_available():
        for index, stream in enumerate(torch.cuda.default_generators):
            found[f"cuda.{index}"] = stream
    return found


def _state(stream: torch.Generator | None) -> Tensor:
    return torch.get_rng_state() if stream is None else stream.get_state()


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _listed(value: Any) -> Any:
    """JSON has no tuples."""
    if isinstance(value, list) and value and isinstance(value[0], list):
        return [tuple(pair) for pair in value]
    return value
