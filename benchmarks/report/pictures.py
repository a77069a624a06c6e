"""Draw figures as SVG with real text, as SVG for use inside HTML, and as PNG.

Within a page each part of a picture says which flow it is of, and each point its values.
"""

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from benchmarks.core.exhibit import Figure
from benchmarks.core.formats import number
from benchmarks.core.naming import flow_of
from benchmarks.plotting.draw import STYLE

SAVED: dict[str, Any] = {**STYLE, "savefig.dpi": 144, "savefig.facecolor": "white"}
MOST = 200  # points of a line that are named one by one


@dataclass(frozen=True)
class Mark:
    """The series that an artist belongs to, and what its points say, in their order."""

    series: str
    points: tuple[str, ...] = ()


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
            marks = mark(picture)
            svg, png = io.BytesIO(), io.BytesIO()
            picture.savefig(svg, format="svg", metadata={"Date": None})
            picture.set_layout_engine("none")  # laid out once is enough, and half the time
            picture.savefig(png, format="png", metadata={"Software": None})
        finally:
            plt.close(picture)
    inline, width = embed(svg.getvalue(), f"svg-{name}", figure.title, marks)
    return Picture(svg.getvalue(), png.getvalue(), inline, width)


def embed(svg: bytes, prefix: str, label: str, marks: Mapping[str, Mark]) -> tuple[str, int]:
    """An SVG to stand among others in one HTML page, and its natural width in CSS pixels.

    Every id gets the prefix, so that no two figures share one; names of namespaces and the style
    sheet, which would rule the whole page, go; ``label`` is what a screen reader says. Groups of
    ``marks`` get the name of their flow, and their points what they say.
    """
    root = ET.fromstring(svg)
    parents = {child: parent for parent in root.iter() for child in parent}
    for element in root.iter():
        element.tag = _local(element.tag)
    for group in root.iter("g"):
        if mark := marks.get(group.get("id", "")):
            group.set("data-flows", flow_of(mark.series))
            points = list(group.iter("use"))
            if len(points) == len(mark.points):
                for point, text in zip(points, mark.points, strict=True):
                    ET.SubElement(point, "title").text = text
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
    if name == "id":
        return f"{prefix}-{value}"
    if name == "href" and value.startswith("#"):
        return f"#{prefix}-{value[1:]}"
    return re.sub(r"url\(#", f"url(#{prefix}-", value)


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def mark(figure: Any) -> dict[str, Mark]:
    """Give the artists of each series of the legends an id; what belongs to these ids.

    An artist belongs to the series of its label, else to the one of its colour and mark.
    """
    entries = list(_entries(figure))
    marked = [(artist, Mark(name)) for name, *artists in entries for artist in artists]
    looks = [(name, _look(handle)) for name, handle, _ in entries]
    for axes in figure.axes if entries else ():
        for artist in (*axes.lines, *axes.collections, *axes.texts):
            if name := _series(artist, looks):
                marked.append((artist, Mark(name, tuple(_points(artist, axes, name)))))
    for place, (artist, _) in enumerate(marked, 1):
        artist.set_gid(f"series-{place}")
    return {artist.get_gid(): mark for artist, mark in marked}


def _entries(figure: Any) -> Iterator[tuple[str, Any, Any]]:
    """Name, handle and text of each entry of the legends."""
    within = (axes.get_legend() for axes in figure.axes)
    for legend in filter(None, (*figure.legends, *within)):
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
            yield text.get_text(), handle, text


def _look(artist: Any) -> tuple[str, str]:
    """Colour and mark; empty for what has none."""
    colour = getattr(artist, "get_color", lambda: "")()
    colour = colour[0] if np.ndim(colour) == 2 and len(colour) else colour  # of several lines
    marker = str(getattr(artist, "get_marker", lambda: "None")())
    return to_hex(colour) if len(colour) else "", "" if marker == "None" else marker


def _series(artist: Any, looks: list[tuple[str, tuple[str, str]]]) -> str:
    """The series of an artist; empty for none, and where its look is that of several."""
    if artist.get_label() in (look_of := dict(looks)):
        return str(artist.get_label())
    colour, marker = _look(artist)
    plain = hasattr(artist, "get_text") and colour == "#000000"  # as are the words of any figure
    alike = {name for name, (hue, _) in looks if hue == colour and not plain}
    same = {name for name in alike if not marker or look_of[name][1] == marker}
    return same.pop() if len(same) == 1 else ""


def _points(artist: Any, axes: Any, name: str) -> Iterator[str]:
    """What each point that has a mark says."""
    if not hasattr(artist, "get_xydata") or not _look(artist)[1]:
        return
    values: np.ndarray = np.ma.filled(np.ma.asarray(artist.get_xydata(), dtype=float), np.nan)
    if len(values) <= MOST:
        labels = [label and f"{label} " for label in (axes.get_xlabel(), axes.get_ylabel())]
        for point in values[np.isfinite(values).all(axis=1)]:
            pairs = zip(labels, (number(value, ".4g") for value in point), strict=True)
            yield f"{name}: {', '.join(label + value for label, value in pairs)}"
