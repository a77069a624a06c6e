"""Checkpoints inside a case: a training that was killed resumes to the result it would have had.

One file holds weights, optimiser, random streams and history. It is written between two updates, so
that everything after it is the same bit for bit, except seconds.
"""

import copy
import hashlib
import io
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from benchmarks.core import store
from benchmarks.core.case import Case
from benchmarks.measure.operations import counting
from benchmarks.training.settings import Training
from benchmarks.training.state import History, State
from flows.training import Course

SECONDS = 30.0  # between two checkpoints
DIGEST = 32  # bytes of a sha256
PLATEAU = "plateau"  # how names of files begin that trainings share, see `plateau`

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

    With the schedules "wsd" and "course" trainings that differ in their length alone share that
    part of the way: a longer one goes on from where a shorter one has left it, to the result that
    it would have had. Where operators are counted each goes the whole way.
    """
    file = slot(case)
    if settings.schedule not in ("wsd", "course") or settings.led or file is None or counting():
        return None
    length = {"decay", "finish", "cpu_seconds", "time_limit"}
    training = {"training": settings.model_dump(exclude=length)}
    way = {"settings": training, "roles": {}, "needs": (), "resolves": ""}
    key = case.changed(study="", updates=0, **way).key
    mark = file.stem.split("-")[1]  # of the versions
    return file.with_name(f"{PLATEAU}-{mark}-{key}{file.suffix}")


def write(path: Path, state: State, owner: str) -> None:
    """Write the state of the training that ``owner`` identifies, atomically.

    A training goes on where its file cannot be written; a warning says so.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        store.replace(path, packed({"owner": owner, **_content(state)}))
    except OSError as error:
        text = f"no checkpoint in {str(path.parent)!r}, trainings go on without: {error.strerror}"
        warnings.warn(text, stacklevel=2)


def packed(content: Mapping[str, Any]) -> bytes:
    """Return the bytes of a checkpoint: the sha256 of all that follows, then what torch saves."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    return hashlib.sha256(buffer.getbuffer()).digest() + buffer.getvalue()


def unpacked(data: bytes) -> dict[str, Any]:
    """Return the content of `packed` bytes; ValueError if their checksum is wrong."""
    digest, saved = data[:DIGEST], data[DIGEST:]
    if hashlib.sha256(saved).digest() != digest:
        raise ValueError("its checksum is wrong")
    content: dict[str, Any] = torch.load(io.BytesIO(saved), "cpu", weights_only=True)
    return content


def read(path: Path, state: State, owner: str, latest: float) -> bool:
    """Restore a fresh state from a file; False, with the state as it was, if it cannot be.

    A state after more than ``latest`` updates is passed over; of a course, one that has spent more.
    A file that is damaged, of another training, or does not fit the flow is reported by a warning.
    """
    if not path.exists():
        return False
    fresh = copy.deepcopy(_content(state))
    try:
        content = unpacked(path.read_bytes())
        if content["owner"] != owner:
            raise ValueError("it is of another training")
        course = content["course"]
        if (course["spent"] if course else content["scalars"]["update"]) > latest:
            return False
        _restore(state, content)
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        _restore(state, fresh)
        text = f"checkpoint {path.name} cannot be used, the training starts anew: {error!r}"
        warnings.warn(text, stacklevel=2)
        return False
    return True


def share(path: Path, updates: int) -> float:
    """The part of a training of so many updates that a file holds; 0 if it cannot be read."""
    try:
        content = unpacked(path.read_bytes())
        course, update = content["course"], content["scalars"]["update"]
        return float(course["spent"] / course["amount"] if course else update / updates)
    except (OSError, KeyError, ValueError, RuntimeError, ZeroDivisionError):
        return 0.0


def _content(state: State) -> dict[str, Any]:
    """All that determines what follows, as tensors, numbers and text."""
    return {
        "flow": state.flow.state_dict(),
        "best": state.best,
        "optimiser": state.optimiser.state_dict(),
        "streams": {name: stream.get_state() for name, stream in state.streams.items()},
        "order": state.order,
        "mean": None if state.mean is None else state.mean.state_dict(),
        "course": None if state.course is None else state.course.plain(),
        "tail": list(state.tail),
        "scalars": {name: getattr(state, name) for name in state.SCALARS},
        "history": json.dumps(asdict(state.history)),
    }


def _restore(state: State, content: Mapping[str, Any]) -> None:
    state.flow.load_state_dict(content["flow"])
    device = next(iter(state.best.values())).device
    state.best = {name: value.to(device) for name, value in content["best"].items()}
    state.optimiser.load_state_dict(content["optimiser"])
    for name, stream in state.streams.items():
        stream.set_state(content["streams"][name])
    state.order, state.tail = content["order"], content["tail"]
    if state.mean is not None and state.course is not None:
        state.mean.load_state_dict(content["mean"])
        state.course = Course(**content["course"], led=state.course.led)
    for name in state.SCALARS:
        setattr(state, name, content["scalars"][name])
    state.history = TypeAdapter(History).validate_python(json.loads(content["history"]))
