"""Checkpoints inside a case: a training that was killed resumes to the result it would have had.

One safetensors file holds weights, optimiser, random streams and history. It is written between two
updates, so that everything after it is the same bit for bit, except seconds.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from benchmarks.core.case import Case
from benchmarks.core.store import replace
from benchmarks.measure.operations import counting
from benchmarks.training import PLATEAU
from benchmarks.training.settings import Training
from benchmarks.training.state import History, State

SECONDS = 30.0  # between two checkpoints

slots: dict[str, Path] = {}  # checkpoint files of the block in progress, by case key
stopping = False  # set by a signal: trainings stop at their next update, with a checkpoint


class Stopped(BaseException):
    """A training has stopped as it was asked to; no study takes that for a failure."""


def slot(case: Case) -> Path | None:
    """Return the checkpoint file of a case; None if checkpointing is off.

    A training that several cases of a block share has a case of its own, which no plan lists: its
    file lies beside that of the block's first case and begins with the same name.
    """
    if not slots or case.key in slots:
        return slots.get(case.key)
    first = next(iter(slots.values()))
    return first.with_name(f"{first.stem}-{case.key}{first.suffix}")


def plateau(case: Case, settings: Training) -> Path | None:
    """Return the file of a training before its learning rate falls; None if there is none.

    With the schedule "wsd" trainings that differ in their updates alone share that part of the way:
    a longer one goes on from where a shorter one has left it, to the result that it would have had.
    Where operators are counted each goes the whole way.
    """
    own = slot(case)
    if settings.schedule != "wsd" or settings.clock or own is None or counting():
        return None
    training = {"training": settings.model_dump(exclude={"decay", "finish"})}
    way = {"settings": training, "roles": {}, "needs": (), "resolves": ""}
    key = case.changed(study="", updates=0, **way).key
    mark = own.stem.split("-")[1]  # of the versions
    return own.with_name(f"{PLATEAU}-{mark}-{key}{own.suffix}")


def write(path: Path, state: State, owner: str) -> None:
    """Write the state of the training that ``owner`` identifies, atomically.

    A training goes on where its file cannot be written; a warning says so.
    """
    scalars = {name: getattr(state, name) for name in state.SCALARS}
    content = {"owner": owner, "scalars": scalars, "history": asdict(state.history)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, packed(content, _tensors(state)))
    except OSError as error:
        text = f"no checkpoint in {str(path.parent)!r}, trainings go on without: {error.strerror}"
        warnings.warn(text, stacklevel=2)


def packed(content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    """Return the bytes of a checkpoint of JSON content and tensors, with their checksum."""
    text = json.dumps(content)
    # a copy of each: the format refuses tensors that share memory
    copies = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    return save(copies, {"state": text, "sha256": _digest(text, copies)})


def unpacked(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return content and tensors of a file of `packed` bytes.

    Raises ValueError if its checksum is wrong, and OSError, SafetensorError, KeyError or TypeError
    if it is no such file.
    """
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no dict)
    text = metadata["state"]
    if metadata["sha256"] != _digest(text, tensors):
        raise ValueError("its checksum is wrong")
    return json.loads(text), tensors


def read(path: Path, state: State, owner: str, latest: int) -> bool:
    """Restore a fresh state from a file; False, with the state as it was, if it cannot be.

    A state after more than ``latest`` updates is passed over. A file that is damaged, of another
    training, or does not fit the flow is reported by a warning.
    """
    if not path.exists():
        return False
    fresh = {name: value.clone() for name, value in _tensors(state).items()}
    try:
        content, tensors = unpacked(path)
        if content["owner"] != owner:
            raise ValueError("it is of another training")
        if content["scalars"]["update"] > latest:
            return False
        history = TypeAdapter(History).validate_python(content["history"])
        scalars = {name: content["scalars"][name] for name in state.SCALARS}
        _restore(state, tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        _restore(state, fresh)
        text = f"checkpoint {path.name} cannot be used, the training starts anew: {error!r}"
        warnings.warn(text, stacklevel=2)
        return False
    state.history = history
    for name, value in scalars.items():
        setattr(state, name, value)
    return True


def _tensors(state: State) -> dict[str, Tensor]:
    """All tensors of a state, by name in the file."""
    tensors = {f"flow.{name}": value for name, value in state.flow.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in state.best.items()}
    for name, stream in state.streams.items():
        own = torch.get_rng_state() if stream is None else stream.get_state()
        tensors[f"stream.{name}"] = own
    for index, moments in state.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in moments.items()}
    return tensors | {"order": state.order}


def _restore(state: State, tensors: Mapping[str, Tensor]) -> None:
    """Load the tensors of a file into a state."""
    state.flow.load_state_dict(_under("flow.", tensors))
    device = next(iter(state.best.values())).device
    state.best = {name: value.to(device) for name, value in _under("best.", tensors).items()}
    groups = state.optimiser.state_dict()["param_groups"]
    state.optimiser.load_state_dict({"state": _moments(tensors), "param_groups": groups})
    for name, stream in state.streams.items():
        if stream is None:
            torch.set_rng_state(tensors[f"stream.{name}"])
        else:
            stream.set_state(tensors[f"stream.{name}"])
    state.order = tensors["order"]


def _moments(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """The optimiser's tensors by the number of the parameter and by name."""
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in _under("optimiser.", tensors).items():
        index, _, key = name.partition(".")
        moments.setdefault(int(index), {})[key] = value
    return moments


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    """sha256 of the metadata and of every tensor's bytes, in the order of names."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
