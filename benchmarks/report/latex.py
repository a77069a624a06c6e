"""A table as LaTeX, which needs the package booktabs and no other."""

from __future__ import annotations

import re
from collections.abc import Iterable

from benchmarks.report.cells import PLAIN, RAISED, Cell, sentence
from benchmarks.report.content import Table

_MATH = {
    "±": r"\pm", "×": r"\times", "−": "-", "∞": r"\infty", "≈": r"\approx", "≤": r"\leq",
    "≥": r"\geq", "→": r"\rightarrow", "·": r"\cdot", "√": r"\surd", "∂": r"\partial", "ℓ": r"\ell",
    "α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "δ": r"\delta", "ε": r"\varepsilon",
    "ζ": r"\zeta", "η": r"\eta", "θ": r"\theta", "κ": r"\kappa", "λ": r"\lambda", "μ": r"\mu",
    "ν": r"\nu", "ξ": r"\xi", "π": r"\pi", "ρ": r"\rho", "σ": r"\sigma", "τ": r"\tau",
    "φ": r"\varphi", "χ": r"\chi", "ψ": r"\psi", "ω": r"\omega", "Γ": r"\Gamma", "Δ": r"\Delta",
    "Θ": r"\Theta", "Λ": r"\Lambda", "Π": r"\Pi", "Σ": r"\Sigma", "Φ": r"\Phi", "Ψ": r"\Psi",
    "Ω": r"\Omega",
}  # fmt: skip
_TEXT = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "…": r"\dots{}",
    "–": "--",
    "\n": " ",
    **{character: "\\" + character for character in "&%$#_{}"},
}
_ESCAPES = {**{character: f"${command}$" for character, command in _MATH.items()}, **_TEXT}
_POWER = re.compile(f"[{RAISED}]+")
_LOWERED = str.maketrans(RAISED, PLAIN)


def escape(text: str) -> str:
    """Text with every character that LaTeX would take for something else made harmless."""
    pieces, start = [], 0
    for power in _POWER.finditer(text):
        pieces += [_plain(text[start : power.start()]), f"$^{{{power[0].translate(_LOWERED)}}}$"]
        start = power.end()
    return "".join([*pieces, _plain(text[start:])])


def render(table: Table) -> str:
    """The table as a LaTeX ``table`` with booktabs' rules, a caption and a label."""
    caption = escape(f"{sentence(table.title)} {table.note}".strip())
    columns = "".join("r" if numeric else "l" for numeric in table.grid.numeric)
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{caption}}}",
        f"\\label{{tab:{table.name}}}",
        f"\\begin{{tabular}}{{{columns}}}",
        "\\toprule",
        _row(map(escape, table.grid.headers)),
        "\\midrule",
        *(_row(map(_cell, row)) for row in table.grid.rows),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    if text.startswith(("[", "*")):
        text = f"{{{text}}}"  # the end of the line above would take it for its argument
    return rf"\textbf{{{text}}}" if cell.best else text


def _plain(text: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in text)
