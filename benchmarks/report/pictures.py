"""Draw figures as SVG with real text, as SVG for use inside HTML, and as PNG."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib import pyplot as plt
from PIL import Image

from benchmarks.core.exhibit import Figure
from benchmarks.plotting.draw import STYLE
from benchmarks.report import series_marks
from benchmarks.report.series_marks import Mark

SAVED: dict[str, Any] = {
    **STYLE,
    "savefig.dpi": 144,
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
}
COLOURS = 128  # of the palette of a small PNG


@dataclass(frozen=True)
class Picture:
    """One figure in its three forms; ``width`` is its natural width in CSS pixels."""

    svg: bytes
    png: bytes
    inline: str
    width: int


def draw(figure: Figure, name: str) -> Picture:
    """Draw a figure in the report's style; the same figure gives the same bytes."""
    with matplotlib.rc_context({**SAVED, "svg.hashsalt": name}):
        picture = figure.draw()
        try:
            marks = series_marks.mark(picture)
            svg, png = io.BytesIO(), io.BytesIO()
            picture.savefig(svg, format="svg", metadata={"Date": None})
            picture.set_layout_engine("none")  # laid out once is enough, and half the time
            picture.savefig(png, format="png", metadata={"Software": None})
        finally:
            plt.close(picture)
    inline, width = embed(svg.getvalue(), f"svg-{name}", figure.title, marks)
    return Picture(svg.getvalue(), png.getvalue(), inline, width)


def small_png(figure: Figure) -> bytes:
    """Draw a figure as a PNG with a palette; the same figure gives the same bytes."""
    with matplotlib.rc_context({**SAVED, "savefig.dpi": 110}):
        picture = figure.draw()
        try:
            full, small = io.BytesIO(), io.BytesIO()
            picture.savefig(full, format="png", metadata={"Software": None})
        finally:
            plt.close(picture)
    image = Image.open(full).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    image.save(small, format="PNG", optimize=True)
    return small.getvalue()


def embed(
    svg: bytes, prefix: str, label: str, marks: Mapping[str, Mark] | None = None
) -> tuple[str, int]:
    """An SVG to stand among others in one HTML page, and its natural width in CSS pixels.

    Every id gets the prefix, so that no two figures share one; names of namespaces and the style
    sheet, which would rule the whole page, go; ``label`` is what a screen reader says. Groups of
    ``marks`` get the name of their flow, and their points what they say.
    """
    root = ET.fromstring(svg)
    parents = {child: parent for parent in root.iter() for child in parent}
    for element in root.iter():
        element.tag = _local(element.tag)
    series_marks.write(root, marks or {})
    for element in list(root.iter()):
        element.attrib = {_local(k): _own(_local(k), v, prefix) for k, v in element.items()}
        if element.tag in ("metadata", "style"):
            parents[element].remove(element)
    width = round(float(root.attrib["viewBox"].split()[2]) * 96 / 72)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"role": "img", "aria-label": label}
    root.attrib["style"] = "stroke-linejoin: round; stroke-linecap: butt"  # matplotlib's own sheet
    return ET.tostring(root, encoding="unicode"), width


def _own(name: str, value: str, prefix: str) -> str:
    """An attribute's value with every id in it prefixed."""
    if name == "id":
        return f"{prefix}-{value}"
    if name == "href" and value.startswith("#"):
        return f"#{prefix}-{value[1:]}"
    return re.sub(r"url\(#", f"url(#{prefix}-", value)


def _local(name: str) -> str:
    return name.rpartition("}")[2]
