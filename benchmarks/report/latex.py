"""A table as LaTeX, which needs the package booktabs and, where it is long, longtable."""

import re
import unicodedata
from functools import cache
from itertools import groupby

import pandas as pd

from benchmarks.report.cells import Cell, Grid, sentence
from benchmarks.report.content import Table

SENTENCE = 80  # characters of a cell from which on its column is set as paragraphs
_MATH = {
    "±": r"\pm", "×": r"\times", "÷": r"\div", "−": "-", "∞": r"\infty", "≈": r"\approx",
    "≤": r"\leq", "≥": r"\geq", "≠": r"\neq", "→": r"\rightarrow", "·": r"\cdot", "√": r"\surd",
    "∂": r"\partial", "∑": r"\sum", "∫": r"\int", "‖": r"\Vert", "ℓ": r"\ell", "µ": r"\mu",
    "α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "δ": r"\delta", "ε": r"\varepsilon",
    "ζ": r"\zeta", "η": r"\eta", "θ": r"\theta", "κ": r"\kappa", "λ": r"\lambda", "μ": r"\mu",
    "ν": r"\nu", "ξ": r"\xi", "π": r"\pi", "ρ": r"\rho", "σ": r"\sigma", "τ": r"\tau",
    "φ": r"\varphi", "χ": r"\chi", "ψ": r"\psi", "ω": r"\omega", "Γ": r"\Gamma", "Δ": r"\Delta",
    "Θ": r"\Theta", "Λ": r"\Lambda", "Π": r"\Pi", "Σ": r"\Sigma", "Φ": r"\Phi", "Ψ": r"\Psi",
    "Ω": r"\Omega",
}  # fmt: skip
_ESCAPES = {character: f"${command}$" for character, command in _MATH.items()} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "…": r"\dots{}",
    "–": "--",
    "—": "---",
    "†": r"\dag{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    **{character: "\\" + character for character in "&%$#_{}"},
}
_ACCENTS = {
    "\N{COMBINING GRAVE ACCENT}": "`",
    "\N{COMBINING ACUTE ACCENT}": "'",
    "\N{COMBINING CIRCUMFLEX ACCENT}": "^",
    "\N{COMBINING TILDE}": "~",
    "\N{COMBINING DIAERESIS}": '"',
    "\N{COMBINING CARON}": "v",
    "\N{COMBINING CEDILLA}": "c",
    "\N{COMBINING RING ABOVE}": "r",
}
PAGE = 40  # rows that a page has room for
_RAISED = {"<super>": "^", "<sub>": "_"}


def escape(text: str) -> str:
    """Text in ASCII, with every character escaped that LaTeX would take for something else.

    A character that LaTeX cannot write is named in parentheses.
    """
    pieces = []
    for raised, run in groupby(text, _raised):
        if raised:
            pieces.append(f"${raised}{{{''.join(map(_lowered, run))}}}$")
        else:
            pieces += map(_plain, run)
    return "".join(pieces)


def latex(table: Table) -> str:
    """The table with booktabs' rules, a caption and a label: a float, or over pages where long."""
    cells, long = table.grid, len(table.grid.rows) > PAGE
    rows = [[_cell(cell) for cell in row] for row in cells.rows]
    frame = pd.DataFrame(rows, columns=[escape(header) for header in cells.headers])
    text = frame.style.hide(axis="index").to_latex(
        column_format="".join(_kind(cells, column) for column in range(len(cells.headers))),
        environment="longtable" if long else "table",
        position_float=None if long else "centering",
        hrules=True,
        caption=escape(f"{sentence(table.title)} {table.note}".strip()),
        label=f"tab:{table.name}",
    )
    text = re.sub(r"\\caption\[\].*\n", "", text)  # the caption on the first page is enough
    packages = "booktabs, longtable" if long else "booktabs"
    return f"% needs \\usepackage{{{packages}}}\n{text}"


def _kind(cells: Grid, column: int) -> str:
    """Of a column: to the right where it holds numbers, a paragraph where it holds sentences."""
    longest = max((len(row[column].text) for row in cells.rows), default=0)
    return "r" if cells.numeric[column] else r"p{0.35\textwidth}" if longest > SENTENCE else "l"


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    if text.startswith(("[", "*")):
        text = f"{{{text}}}"  # the end of the line above would take it for its argument
    return rf"\textbf{{{text}}}" if cell.best else text


@cache
def _raised(character: str) -> str:
    """ "^" of a superscript, "_" of a subscript, nothing of any other character."""
    kind = unicodedata.decomposition(character).partition(" ")[0]
    return _RAISED.get(kind, "") if re.fullmatch(r"[\w+=()-]", _lowered(character), re.A) else ""


def _lowered(character: str) -> str:
    return unicodedata.normalize("NFKD", character).replace("−", "-")


@cache
def _plain(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if unicodedata.category(character)[0] in "ZC":  # of any kind of space, and what is not seen
        return " "
    base, *accents = list(unicodedata.normalize("NFKD", character))
    if not accents:
        return base if base.isascii() else f"({unicodedata.name(character, '?').lower()})"
    if base.isascii() and base.isalpha() and len(accents) == 1 and accents[0] in _ACCENTS:
        return rf"\{_ACCENTS[accents[0]]}{{{base}}}"
    return f"({unicodedata.name(character, '?').lower()})"
