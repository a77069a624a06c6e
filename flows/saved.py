"""Flows in files: weights as safetensors, and beside them a recipe to build the flow again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from nflows.transforms import CompositeTransform
from torch import Tensor, nn

from flows.preprocessing import FITS, Standardization, check

if TYPE_CHECKING:
    from flows.flow import Flow

SCHEMA, LISTED = 1, 12  # flows that a message lists
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
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    like = flow.reference()
    content = {
        "schema": SCHEMA,
        **asdict(replace(flow.recipe, options={})),
        "options": {name: _plain(value) for name, value in flow.recipe.options.items()},
        "dtype": str(torch.float32 if like is None else like.dtype).removeprefix("torch."),
        "versions": {"torch": torch.__version__},
        **notes,
    }
    # a copy of each: the format refuses tensors that share memory
    state = {name: value.cpu().clone().contiguous() for name, value in flow.state_dict().items()}
    (folder / WEIGHTS).write_bytes(safetensors.torch.save(state))
    (folder / RECIPE).write_text(json.dumps(content, indent=1) + "\n")


def load(folder: str | Path) -> Flow:
    """Read a flow that `save`, `flowgauge run --keep-weights` or `flowgauge choose` has written.

    It is a density of the raw data: its preprocessing is inside. A folder above serves where it has
    one flow. Raises ValueError, with the folders to choose from, for several flows, and for a
    folder without one, a family that is not registered, and weights of another version of it.
    """
    import flows  # above this module

    folder = Path(folder)
    below = sorted(
        file.parent for level in ("*", "*/*") for file in folder.glob(f"{level}/{RECIPE}")
    )
    if below and not (folder / RECIPE).exists():
        if len(below) > 1:
            listed = ", ".join(map(str, below[:LISTED]))
            more = f" and {len(below) - LISTED} more" * (len(below) > LISTED)
            raise ValueError(f"{str(folder)!r} holds several flows, load one: {listed}{more}")
        folder = below[0]
    try:
        content = json.loads((folder / RECIPE).read_text())
        state = safetensors.torch.load((folder / WEIGHTS).read_bytes())
        name, dim, options = (content[key] for key in ("flow", "dim", "options"))
        version, preprocessing = content["version"], content["preprocessing"]
        dtype = getattr(torch, content["dtype"])
    except (OSError, KeyError, ValueError, AttributeError, safetensors.SafetensorError) as error:
        raise ValueError(f"{str(folder)!r} holds no flow that can be read: {error!r}") from error
    flow = flows.build(name, dim, **options)
    if (now := flows.members.declared(name).version) != version:
        raise ValueError(
            f"{str(folder)!r} is of version {version} of flow {name!r}, which is at {now}: train "
            "it again, or load it by the release that wrote it"
        )
    flow.to(dtype)
    for place, own in reversed(list(enumerate(preprocessing))):
        flow.prepend(_restored(own, _under(f"transform.{REST * place}{FIRST}", state)))
    if scaling := _under(CONTEXT, state):
        flow.scale_context(Standardization(**scaling))
    try:
        flow.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"weights in {str(folder)!r} do not fit flow {name!r}: {error}") from error
    return flow


def _name(transform: nn.Module) -> str | None:
    """The name by which `flows.preprocessing.fit` makes such a transform; None if there is none."""
    parts = transform._transforms if isinstance(transform, CompositeTransform) else [transform]
    kinds = tuple(type(part) for part in parts)
    if name := next((name for name, own in FITS.items() if own == kinds), None):
        return name
    steps = [_name(part) or "" for part in parts] if len(parts) > 1 else []
    return "+".join(steps) if steps and {*steps} <= {*FITS} else None


def _restored(name: str, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The Bijection that `flows.preprocessing.fit` gave for a name, from its state."""
    steps = check(name).split("+")
    if (kinds := FITS.get(name)) and len(kinds) == 1:
        return kinds[0](**tensors)
    under = [_under(f"_transforms.{n}.", tensors) for n in range(len(kinds or steps))]
    composed: nn.Module = CompositeTransform(
        [kind(**part) for kind, part in zip(kinds, under, strict=True)]
        if kinds
        else list(map(_restored, steps, under))
    )
    return composed


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _plain(value: Any) -> Any:
    """An option as JSON: descriptions such as a Solver by their own plain values."""
    return _plain(value.plain()) if hasattr(value, "plain") else value
