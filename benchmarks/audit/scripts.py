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

from flows.conformance.subject import ROWS

FOLDER = Path(__file__).parent
FUNCTIONS = {  # those of a script, with their arguments
    "forward": "flow, x",
    "inverse": "flow, z",
    "log_prob": "flow, x",
    "base": "flow, z",
    "noise": "flow, n",
    "sample": "flow, n",
}
ESTIMATES = (  # rows that an estimate, which is right on average, does not satisfy
    *("log-determinant", "inverse log-determinant", "log_prob of samples", "total mass"),
    *("train and eval", "batch independence", "batch independence of samples"),
)
DEFAULTS = {
    "base": "torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)",
    "noise": "torch.randn(n, {{ dim }})",
    "prelude": "",  # a function of the library's lines
    "prepare": "",  # what the first batch does
    "tolerance": 0.0,  # to which the library solves or inverts
    "estimated": False,  # its log-determinant is a random estimate
    "excused": [],  # rows that it need not satisfy, as its remark explains
    "remark": "",  # what its failures have in common
    "sizes": {},  # other than those of an audit, for a family that is slow
}
MOVE = """\
for p in filter(lambda p: p.requires_grad, flow.parameters()):
    p.data += 0.2 * min(1, 2 / ((1, *p.shape)[-1] or 1) ** 0.5) * torch.randn_like(p)"""
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
    values["nats"] = double and not own["estimated"]
    values["points"] = "torch.cat([x[:32], 10 * x[:32:2]])" if double else "x[:32]"
    values["build"] = build = _render(own["build"], values)
    body = _render(table["rows"][row], values)
    helpers = [text for name, text in table["helpers"].items() if _names(name, body)]
    functions = [
        f"{name} = lambda {arguments}: {own[name]}"
        for name, arguments in FUNCTIONS.items()
        if _names(name, body)
    ]
    run = [_render(text, values) for text in (*helpers, *functions)]
    run += ["torch.manual_seed(0)", build, "flow = flow.double()"]
    run += [MOVE] * (parameters == "moved")
    run += [f"x = 1.5 * torch.randn({ROWS}, {dim}, dtype=torch.float64) + 0.3"]
    run += [own["prepare"], "" if double else "flow, x = flow.float(), x.float()"]
    run += [body, "print(torch.as_tensor(figure).item())"]
    prelude, text = _render(own["prelude"], values), "\n".join(run)
    if prelude and _names(re.findall(r"^def (\w+)", prelude, re.M)[0], text):
        text = f"{prelude}\n{text}"
    return _with_imports(own["imports"], text)


def _with_imports(imports: str, text: str) -> str:
    """The lines of a script without blank ones, after those of the imports that it uses."""
    lines = ["import copy", "import torch", *imports.strip().splitlines()]
    used = [line for line in lines if _names(line.split()[-1], text)]
    body = [line for line in text.splitlines() if line.strip()]
    return "\n".join([*used, "", *body]) + "\n"


def _names(name: str, text: str) -> bool:
    """Whether a text has the name."""
    return re.search(rf"\b{name}\b", text) is not None


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
