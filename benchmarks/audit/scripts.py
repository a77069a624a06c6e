"""Reproductions: a failure in a library's own terms, as a script that prints its figure.

``libraries/NAME.toml`` has a library's lines: what to import, expressions for the functions of
`FUNCTIONS`, and for each family the lines that leave ``flow``, an ``nn.Module``; a family that
differs is a table with expressions of its own. ``rows.toml`` has the lines of each row.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

FOLDER = Path(__file__).parent
FUNCTIONS = {  # those of a script, with their arguments
    "forward": "flow, x",
    "inverse": "flow, z",
    "log_prob": "flow, x",
    "base": "flow, z",
    "noise": "flow, n",
    "sample": "flow, n",
}
DEFAULTS = {
    "base": "torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)",
    "noise": "torch.randn(n, {{ dim }})",
    "tolerance": 0.0,  # to which the library solves or inverts
    "sizes": {},  # other than those of an audit, for a family that is slow
}
MOVE = """\
for p in flow.parameters():
    p.data += 0.2 * min(1, 2 / (1, *p.shape)[-1] ** 0.5) * torch.randn_like(p)"""
TEMPLATES = jinja2.Environment(
    undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


def families(library: str) -> list[str]:
    """The families of which a library's lines are known."""
    return list(_table(f"libraries/{library}.toml").get("families", {}))


def construction(library: str, family: str, values: Mapping[str, Any]) -> str:
    """The lines that import a library and leave a family's ``flow``."""
    own = terms(library, family)
    return f"import torch\n{own['imports']}\n{_render(own['build'], values)}\n"


def script(
    library: str,
    family: str,
    row: str,
    *,
    dim: int,
    dtype: str,
    parameters: str,
    options: Mapping[str, Any],
) -> str | None:
    """The script that shows a row of a family, or None where its library has no such lines.

    ``parameters`` are "initial" or "moved"; ``options`` those of the member. The points and the
    parameters are those of the kit, as far as the library draws the same random numbers.
    """
    table = _table("rows.toml")
    if family not in families(library) or row not in table["rows"]:
        return None
    own, double = terms(library, family), dtype == "float64"
    step = max(1e-6, 10 * own["tolerance"] ** 0.5)
    values = {**options, "dim": dim, "dtype": dtype, "step": f"{step:g}"}
    values["points"] = "torch.cat([x[:32], 10 * x[:32:2]])" if double else "x[:32]"
    values["build"] = _render(own["build"], values)
    body = _render(table["rows"][row], values)
    parts = [_render(text, values) for name, text in table["helpers"].items() if name in body]
    parts += [
        f"{name} = lambda {arguments}: {_render(own[name], values)}"
        for name, arguments in FUNCTIONS.items()
        if re.search(rf"\b{name}\b", body)
    ]
    parts += ["torch.manual_seed(0)", values["build"], "flow = flow.double()"]
    parts += [MOVE] * (parameters == "moved")
    if re.search(r"\bx\b", body):
        parts.append(f"x = 1.5 * torch.randn(256, {dim}, dtype=torch.float64) + 0.3")
    parts += [] if double else ["flow, x = flow.float(), x.float()"]
    parts += [body, "print(torch.as_tensor(figure).item())"]
    text = "\n".join(parts)
    imports = ["import copy", "import itertools", "import torch", *own["imports"].splitlines()]
    used = [
        line for line in imports if re.search(rf"\b{line.split()[-1]}\b" if line else "$^", text)
    ]
    lines = "\n".join([*used, "", text]).splitlines()
    return "\n".join(line for line in lines if line.strip() or not line) + "\n"


def terms(library: str, family: str) -> dict[str, Any]:
    """The lines of a family: its own, else its library's, else those that hold for all."""
    table = _table(f"libraries/{library}.toml")
    own = table.get("families", {}).get(family, {})
    return {**DEFAULTS, **table, **({"build": own} if isinstance(own, str) else own)}


@cache
def _table(name: str) -> dict[str, Any]:
    path = FOLDER / name
    return tomllib.loads(path.read_text()) if path.exists() else {}


def _render(text: str, values: Mapping[str, Any]) -> str:
    return TEMPLATES.from_string(text).render(values).strip()
