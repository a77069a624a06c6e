"""Flows in files: weights as safetensors, and beside them a recipe to build the flow again."""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from nflows.transforms import CompositeTransform
from safetensors import safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

from flows.plugins import LONGEST, described
from flows.preprocessing import FITS, check

if TYPE_CHECKING:
    from flows.flow import Flow

SCHEMA, LISTED = 1, 12  # flows that a message lists
KINDS = {  # of what a recipe holds
    **{"flow": str, "dim": int, "options": dict, "preprocessing": list, "dtype": str},
    "version": int,
}
DTYPES = "float32", "float64", "bfloat16", "float16"
LARGEST = 10_000_000  # bytes of a recipe, and of the header of weights
ALLOCATED, CALL = 20, 100  # numbers that building takes, for each of the weights and for each call
WEIGHTS, RECIPE = "weights.safetensors", "flow.json"
CONTEXT = "context_scaling."  # in names of tensors
FIRST, REST = "_transforms.0.", "_transforms.1."  # in names of tensors, of what `Flow.prepend` puts


@dataclass(frozen=True)
class Recipe:
    """What `flows.build` and `flows.preprocessing.fit` made a flow from.

    ``version`` is that of the family's code, ``preprocessing`` the names of what precedes the flow,
    the nearest to the data first.
    """

    flow: str
    dim: int
    options: Mapping[str, Any]
    version: int
    preprocessing: tuple[str, ...] = ()

    def behind(self, transform: nn.Module) -> Recipe | None:
        """The recipe of the flow behind a preprocessing; None if it is another transform."""
        name = _name(transform)
        return None if name is None else replace(self, preprocessing=(name, *self.preprocessing))


def save(flow: Flow, folder: str | Path, **notes: Any) -> None:
    """Write a flow that `flows.build` has made, with its preprocessing, for `load`.

    The folder gets ``weights.safetensors`` and ``flow.json``: name, options, dim, preprocessing,
    dtype, versions, and the ``notes``, as JSON. Raises ValueError for a flow made otherwise.
    """
    if flow.recipe is None:
        raise ValueError(
            "this flow was not made by flows.build and flows.preprocessing.fit alone, so that no "
            "name builds it again: keep it by torch.save(flow, file)"
        )
    if taken := {"schema", "versions", "sha256", *KINDS} & notes.keys():
        raise ValueError(f"no note can be named {min(taken)!r}: flow.json has a field of that name")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "schema": SCHEMA,
        **asdict(replace(flow.recipe, options={})),
        "options": {
            name: value.plain() if hasattr(value, "plain") else value
            for name, value in flow.recipe.options.items()
        },
        "dtype": str(flow.like().dtype).removeprefix("torch."),
        "versions": {"torch": torch.__version__},
        **notes,
    }
    # a copy of each: the format refuses tensors that share memory
    state = {name: value.cpu().clone().contiguous() for name, value in flow.state_dict().items()}
    (folder / WEIGHTS).write_bytes(packed := safetensors.torch.save(state))
    content["sha256"] = hashlib.sha256(packed).hexdigest()
    (folder / RECIPE).write_text(json.dumps(content, indent=1) + "\n")


def load(folder: str | Path) -> Flow:
    """Read a flow that `save`, `flowgauge run --keep-weights` or `flowgauge choose` has written.

    It is a density of the raw data: its preprocessing is inside. A folder above serves where it has
    one flow. Whatever the folder holds, what is allocated is bounded by the size of its weights.
    Raises ValueError, in one line that names the file and the field, with the folders to choose
    from for several flows, for a folder without one, a family that is not registered, and weights
    that are damaged, not finite, or of another version of it.
    """
    try:
        place, files = Path(folder), []
        if not (place / RECIPE).exists():
            files = [*place.glob(f"*/{RECIPE}"), *place.glob(f"*/*/{RECIPE}")]
        if len(below := sorted(file.parent for file in files)) < 2:
            return _loaded(below[0] if below else place)
    except (Exception, MemoryError) as error:
        text = described(error).removeprefix("ValueError: ")
        raise ValueError(
            f"{str(folder)[:LONGEST]!r} holds no flow that can be read: {text}"
        ) from error
    names = ", ".join(map(str, below[:LISTED]))
    more = f" and {len(below) - LISTED} more" * (len(below) > LISTED)
    raise ValueError(f"{str(folder)!r} holds several flows, load one: {names}{more}")


def _loaded(folder: Path) -> Flow:
    import flows  # above this module

    content = json.loads(_bytes(folder / RECIPE, LARGEST))
    for field, kind in KINDS.items():
        value = content.get(field) if isinstance(content, dict) else None
        if type(value) is not kind:
            raise ValueError(
                f"{field} of {RECIPE} is {str(value)[:80]!r}, which is no {kind.__name__}"
            )
    name, dim, options, steps, dtype, version = (content[field] for field in KINDS)
    if content.get("schema", SCHEMA) != SCHEMA:
        raise ValueError(f"{RECIPE} is of schema {content['schema']!r}, and {SCHEMA} can be read")
    texts = {type(step) for step in steps} <= {str}
    if dtype not in DTYPES or not texts or len("+".join(steps)) > LONGEST:
        raise ValueError(
            f"{RECIPE} has an unknown dtype or preprocessing: {dtype[:80]!r}, {str(steps)[:80]}"
        )
    if (now := flows.members.declared(name).version) != version:
        raise ValueError(
            f"its weights are of version {version} of flow {name!r}, which is at {now}: train it "
            "again, or load it by the release that wrote it"
        )
    header = int.from_bytes(_bytes(folder / WEIGHTS, count=8), "little")
    if header > LARGEST:
        raise ValueError(f"{WEIGHTS} has a header of {header:,} bytes, and {LARGEST:,} at most")
    with safe_open(folder / WEIGHTS, "pt") as file:
        names = file.keys()  # which safe_open does not iterate over
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in names}
    sizes = {"dim": dim, **options}
    with _Bounded(sum(map(math.prod, shapes.values())), f"{RECIPE} has {str(sizes)[:200]}"):
        flow = flows.build(name, **sizes)
    places = [f"transform.{REST * place}{FIRST}" for place in range(len(steps))]
    for key, value in flow.state_dict().items():
        inner = key.removeprefix("transform.")
        key = key if inner == key else f"transform.{REST * len(steps)}{inner}"
        if (shape := shapes.pop(key, None)) != value.shape:
            present = f"shape {shape}" if shape else "no such tensor"
            raise ValueError(
                f"{key} of {WEIGHTS} does not fit: {tuple(value.shape)} needed, {present}"
            )
    if foreign := [key for key in shapes if not key.startswith((CONTEXT, *places))]:
        raise ValueError(f"{WEIGHTS} does not fit flow {name!r}: it has {foreign[0][:80]!r}")
    packed = _bytes(folder / WEIGHTS)
    if content.get("sha256") not in (None, hashlib.sha256(packed).hexdigest()):
        raise ValueError(
            f"{WEIGHTS} is not the file that {RECIPE} has the sha256 of: it was changed"
        )
    state = safetensors.torch.load(packed)
    for key, value in state.items():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{key} of {WEIGHTS} has NaN or infinity: the training has failed")
    for step, place in reversed(list(zip(steps, places, strict=True))):
        flow.prepend(_restored(step, _under(place, state), dim))
    if scaling := _under(CONTEXT, state):
        flow.scale_context(_restored("standardize", scaling, flow.context_dim or 0))
    for key, value in flow.to(getattr(torch, dtype)).state_dict().items():
        type_, state_type = value.dtype, state[key].dtype
        if type_ != state_type and not (type_.is_floating_point and state_type.is_floating_point):
            raise ValueError(f"{key} of {WEIGHTS} is of {state_type}, and {type_} is needed")
        columns = [t.flatten().sort()[0] for t in (value, state[key])]
        if value.dim() > 0 and type_ == torch.int64 and not torch.equal(*columns):
            raise ValueError(f"{key} of {WEIGHTS} has other columns than flow {name!r}")
    flow.load_state_dict(state)
    return flow


class _Bounded(TorchFunctionMode):
    """ValueError where more is allocated than weights of so many numbers account for."""

    def __init__(self, numbers: int, subject: str) -> None:
        super().__init__()
        self.left, self.subject = ALLOCATED * numbers + 1000 * CALL, subject

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in _device_constructors():
            like = {key: value for key, value in kwargs.items() if key != "generator"}
            self.left -= CALL + function(*args, **{**like, "device": "meta"}).numel()
            if self.left < 0:
                raise ValueError(f"{self.subject}, which is more than {WEIGHTS} has numbers for")
        return function(*args, **kwargs)


def _bytes(file: Path, most: int | None = None, count: int = -1) -> bytes:
    """The first bytes of a file, all by default; ValueError for what is no file, or too large."""
    with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{file.name} is no regular file")
        if most and status.st_size > most:
            raise ValueError(f"{file.name} has {status.st_size:,} bytes, and {most:,} at most")
        return stream.read(count)


def _name(transform: nn.Module) -> str | None:
    """The name by which `flows.preprocessing.fit` makes such a transform; None if there is none."""
    parts = transform._transforms if isinstance(transform, CompositeTransform) else [transform]
    kinds = tuple(type(part) for part in parts)
    if name := next((name for name, types in FITS.items() if types == kinds), None):
        return name
    steps = [_name(part) or "" for part in parts] if len(parts) > 1 else []
    return "+".join(steps) if steps and {*steps} <= {*FITS} else None


def _restored(name: str, tensors: Mapping[str, Tensor], dim: int) -> Any:
    """The Bijection of D columns that `flows.preprocessing.fit` gave for a name, from its state.

    ValueError where the state is none of such a Bijection.
    """
    steps = check(name).split("+")
    kinds: Sequence[Any] = FITS.get(name) or [partial(_restored, step, dim=dim) for step in steps]
    many = len(kinds) > 1
    under = [_under(f"_transforms.{n}.", tensors) for n in range(len(kinds))] if many else [tensors]
    try:
        parts = [
            kind(**part) if isinstance(kind, type) else kind(part)
            for kind, part in zip(kinds, under, strict=True)
        ]
        transform = CompositeTransform(parts) if many else parts[0]
        like = next((t for t in tensors.values() if t.is_floating_point()), None)
        z, ladj = transform(torch.zeros(1, dim, dtype=like.dtype if like is not None else None))
    except (TypeError, RuntimeError, IndexError) as error:
        raise ValueError(f"preprocessing {name!r} in {WEIGHTS}: {described(error)}") from error
    if z.shape != (1, dim) or ladj.shape != (1,) or not bool(torch.isfinite(ladj).all()):
        raise ValueError(f"preprocessing {name!r} in {WEIGHTS} maps no rows of {dim} columns")
    return transform


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
