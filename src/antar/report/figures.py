"""How figures are made: one look, the same bytes every time, and three forms of each.

A figure is drawn once with matplotlib and kept as SVG and PDF for papers. The page carries a third form: the same
drawing as inline SVG, rebuilt from an allow-list of elements and attributes, with colours as classes. So the page
needs no style attributes (its content policy forbids them), figures follow the reader's light or dark scheme, and
two figures on one page never share an id.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from antar.core.atomic import write_bytes

COLOURS = {
    "paper": "#ffffff",
    "ink": "#23221f",
    "muted": "#6b6860",
    "grid": "#e3e0d8",
    "real": "#c2410c",
    "sham": "#3f8fcb",
    "shuffled": "#949189",
    "base": "#1b4d3e",
    "chat": "#571a75",
    "delta": "#c2410d",
    "joint": "#8a6d2f",
}
"""Role → colour on paper. Everybody can tell them apart, in each kind of colour blindness (a test simulates it, for
the page's dark scheme too); lines differ in dashes and marks in shape besides. Each is distinct, because the inline
form finds a colour's role by its value."""

_CLASS_OF = {value: name for name, value in COLOURS.items()}
_LOOK: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "antar",
    "pdf.fonttype": 42,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titleweight": "normal",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.edgecolor": COLOURS["muted"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
    "savefig.facecolor": COLOURS["paper"],
    "figure.facecolor": COLOURS["paper"],
    "axes.facecolor": COLOURS["paper"],
    "path.simplify": True,
}
_WIDTH, _HEIGHT = 4.3, 3.1


@dataclass(frozen=True)
class Drawn:
    """A figure on the page. `alt` says what it shows, for those who do not see it; `caption` how to read it."""

    name: str
    alt: str
    caption: str
    svg: Markup


@dataclass(frozen=True)
class Plot:
    """A figure to be drawn: `draw` fills one pair of axes. The name is that of its files."""

    name: str
    alt: str
    caption: str
    draw: Callable[[Axes], None]
    height: float = _HEIGHT


def draw_plot(plot: Plot, folder: Path) -> Drawn:
    """Draw `plot`, write `<name>.svg` and `<name>.pdf` to `folder`, and return its inline form."""
    if not re.fullmatch(r"[a-z0-9-]+", plot.name):
        raise ValueError(f"figure name {plot.name!r}")
    with matplotlib.rc_context(_LOOK):
        figure = Figure(figsize=(_WIDTH, plot.height), dpi=150, layout="constrained")
        plot.draw(figure.subplots())
        svg = _saved(figure, "svg", {"Date": None, "Creator": "antar", "Title": plot.alt})
        figure.set_layout_engine("none")  # the places are found; finding them again would only take time
        pdf = _saved(figure, "pdf", {"CreationDate": None, "ModDate": None, "Creator": "antar", "Producer": "antar"})
    write_bytes(folder / f"{plot.name}.svg", svg)
    write_bytes(folder / f"{plot.name}.pdf", pdf)
    return Drawn(plot.name, plot.alt, plot.caption, inline(svg, plot.name, plot.alt))


def legend_below(axes: Axes, columns: int = 4, **options: Any) -> None:
    """A legend under the axes, where no line can run through it."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure = axes.get_figure()
        assert isinstance(figure, Figure)  # plots are drawn on one figure's axes
        figure.legend(handles, labels, loc="outside lower left", ncols=min(columns, len(handles)), **options)


def _saved(figure: Figure, kind: str, metadata: dict[str, Any]) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()


# -- the inline form --------------------------------------------------------------------------------------------

_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_ELEMENTS = {"svg", "g", "defs", "path", "use", "text", "tspan", "clipPath", "rect", "image"}
_ATTRIBUTES = {"id", "d", "x", "y", "width", "height", "viewBox", "transform", "clip-path"}
_STYLES = {"stroke-width", "stroke-dasharray", "stroke-dashoffset", "stroke-linecap", "stroke-linejoin",
           "stroke-miterlimit", "stroke-opacity", "fill-opacity", "opacity", "text-anchor", "fill-rule"}  # fmt: skip


def inline(svg: bytes, name: str, alt: str) -> Markup:
    """matplotlib's SVG as safe inline SVG: known elements and attributes only, ids prefixed by `name`."""
    source = ElementTree.fromstring(svg)
    built = _rebuilt(source, name)
    assert built is not None  # the root is an svg element
    for key in ("width", "height"):
        built.attrib.pop(key, None)
    built.set("role", "img")
    built.set("aria-label", alt)
    return Markup(ElementTree.tostring(built, encoding="unicode", short_empty_elements=True))


def _rebuilt(source: ElementTree.Element, name: str) -> ElementTree.Element | None:
    tag = source.tag.removeprefix(_SVG)
    if tag not in _ELEMENTS:
        return None
    element = ElementTree.Element(tag)
    for key, value in source.attrib.items():
        if key == "id":
            element.set("id", f"{name}-{value}")
        elif key in {f"{_XLINK}href", "href"}:
            _set_link(element, value, name)
        elif key == "clip-path":
            element.set(key, re.sub(r"url\(#", f"url(#{name}-", value))
        elif key == "style":
            _set_style(element, value)
        elif key in _ATTRIBUTES:
            element.set(key, value)
    element.text, element.tail = source.text, source.tail
    for child in source:
        kept = _rebuilt(child, name)
        if kept is not None:
            element.append(kept)
    return element


def _set_link(element: ElementTree.Element, value: str, name: str) -> None:
    if value.startswith("#"):
        element.set("href", f"#{name}-{value[1:]}")
    elif value.startswith("data:image/png;base64,"):
        element.set("href", "".join(value.split()))


def _set_style(element: ElementTree.Element, style: str) -> None:
    classes: list[str] = []
    for part in style.split(";"):
        key, _, value = (piece.strip() for piece in part.partition(":"))
        if key in {"fill", "stroke"}:
            known = _CLASS_OF.get(value.lower())
            if known:
                classes.append(f"{key[0]}-{known}")
            else:
                element.set(key, value if value == "none" else "currentColor")
        elif key == "font" or key == "font-size":
            size = re.search(r"([\d.]+)px", value)
            if size:
                element.set("font-size", size[1])
        elif key in _STYLES:
            element.set(key, value)
    if element.tag == "text" and not any(one.startswith("f-") for one in classes):
        classes.append("f-ink")
    if classes:
        element.set("class", " ".join(classes))
