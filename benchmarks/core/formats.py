"""Numbers and foreign text as reports and the gate write them."""

import math
import re
from collections.abc import Container, Sequence
from typing import Any

NOTHING = "–"  # an en dash stands for a number that there is not
LONGEST, LARGE = 500, 50_000  # characters that are kept of a message, and of any other text
ESCAPES = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # operating system commands: titles, links
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # control sequences: colours, cursor
    r"|\x1b[ -/]*[0-~]?"  # all other escapes
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"  # control characters but tab and newline
    r"|[\u202a-\u202e\u2066-\u2069]"  # what turns the direction of the text around
)
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def plain(text: object) -> str:
    """Foreign text without `ESCAPES`; half of a surrogate pair becomes a question mark."""
    written = str(text)
    if written.isprintable():  # most texts, in a fraction of the time
        return written
    return ESCAPES.sub("", written).encode("utf-8", "replace").decode()


def brief(message: object, longest: int = LONGEST) -> str:
    """The first line of a foreign message, plain and cut if long; else the type of the error."""
    text = str(message)[: 4 * longest]
    lines = (plain(line).expandtabs(1).strip() for line in text.splitlines())
    first = next(filter(None, lines), type(message).__name__)
    return first if len(first) <= longest else f"{first[:longest].rstrip()} …"


def readable(value: Any) -> Any:
    """A JSON value of others with every text plain, and cut where it is very long."""
    if isinstance(value, str):
        return plain(value[:LARGE])
    if isinstance(value, dict):
        return {readable(key): readable(part) for key, part in value.items()}
    return [readable(part) for part in value] if isinstance(value, list | tuple) else value


def cell(text: object) -> str:
    """Foreign text as a CSV cell, with an apostrophe before what could be a formula (OWASP)."""
    written = plain(text)
    try:
        float(written)
    except ValueError:
        return "'" * written.startswith(("=", "+", "-", "@", "\t", "\r")) + written
    return written


def number(value: float, digits: str) -> str:
    """A number under a format specification; powers of ten as such, not as 1e-05."""
    if math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = format(round(value) if digits.endswith("d") else value, digits)
    mantissa, _, exponent = text.partition("e")
    if exponent and digits.endswith("g") and 0 < int(exponent) < 6:
        text = _whole(float(text))  # 1230 rather than 1.23e+03
    elif exponent and not value:
        text = "0"
    elif exponent:
        text = f"{mantissa}×{power_of_ten(int(exponent))}"
    if not text.strip("-0."):
        text = text.lstrip("-")  # avoid negative zero
    return text.replace("-", "−")


def power_of_ten(exponent: int) -> str:
    """ "10⁻³"."""
    return f"10{str(exponent).translate(SUPERSCRIPTS)}"


def with_error(value: float, error: float, digits: str, error_digits: str | None = None) -> str:
    """ "value ± error"; the value alone where the error is not known.

    Unless a specification fixes the decimals, the error gets two significant digits and the value
    as many decimals as that takes.
    """
    if not math.isfinite(value) or not math.isfinite(error):
        return number(value, digits)
    if error_digits is None and digits.endswith("g") and error > 0:
        decimals = 1 - math.floor(math.log10(float(f"{error:.1e}")))
        if 0 <= decimals <= 6:
            digits = error_digits = f".{decimals}f"
        elif -5 <= decimals < 0:
            rounded = _whole(round(value, decimals)).replace("-", "−")
            return f"{rounded} ± {_whole(round(error, decimals))}"
    spec = error_digits or digits.removeprefix("+")
    return f"{number(value, digits)} ± {number(error, spec)}"


def markdown(text: str) -> str:
    """Text with everything escaped that Markdown or HTML would read as markup."""
    text = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_\[\]|~$#])", r"\\\1", text)
    return "<br>".join(text.splitlines())


def markdown_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], numbers: Container[int]
) -> str:
    """A table in Markdown of escaped cells; ``numbers`` are the places of columns of numbers."""
    rules = ["---:" if place in numbers else "---" for place in range(len(headers))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headers, rules, *rows))


def markdown_details(summary: str, content: str) -> str:
    """Content in Markdown that is folded under a summary."""
    return f"<details><summary>{summary}</summary>\n\n{content}\n\n</details>"


def _whole(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.0f}"
