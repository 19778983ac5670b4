"""Drawings as SVG, made from elements and never from strings: what comes from data cannot become markup.

A drawing has two forms. On a page its colours are classes of the style sheet, so it follows light and dark and needs
no style attribute. As a file it carries its colours with it.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from xml.etree import ElementTree

from markupsafe import Markup

from antar.web.text import shown

COLOURS = {
    "paper": "#ffffff", "ink": "#23221f", "muted": "#625f57", "grid": "#dcd8cd", "real": "#a83a19",
    "sham": "#2f5f96", "shuffled": "#7a766d", "base": "#3f7350", "chat": "#7c4d90",
}  # fmt: skip
"""Role → colour on paper; those on the screen are in antar.css. Lines also differ in dashes, marks in shape."""
_FONTS = "'Noto Sans','Noto Sans Devanagari','Noto Sans Tamil','Noto Sans Bengali',system-ui,sans-serif"
_SVG = "http://www.w3.org/2000/svg"


def _sheet() -> str:
    rules = [
        f"text{{font:12px {_FONTS};fill:{COLOURS['ink']}}}",
        f".t-muted{{fill:{COLOURS['muted']}}}",
        ".t-strong{font-weight:600}",
        ".f-none{fill:none}",
    ]
    rules += [f".f-{role}{{fill:{c}}}.s-{role}{{stroke:{c}}}" for role, c in COLOURS.items()]
    return "".join(rules)


SHEET = _sheet()
"""The style of a saved drawing."""
SHEET_HASH = "sha256-" + base64.b64encode(hashlib.sha256(SHEET.encode("utf-8")).digest()).decode("ascii")
"""By which a policy allows it and no other."""


class Drawing:
    """An SVG of `width` × `height` pixels. `label` says what it shows, for those who do not see it."""

    def __init__(self, width: float, height: float, label: str) -> None:
        self.width, self.height = width, height
        self._root = ElementTree.Element(
            "svg",
            {"class": "drawn", "viewBox": f"0 0 {_n(width)} {_n(height)}", "width": _n(width), "height": _n(height),
             "role": "img", "aria-label": shown(label)},
        )  # fmt: skip
        self._into = self._root

    def line(self, x1: float, y1: float, x2: float, y2: float, role: str, width: float = 1, dash: str = "") -> None:
        self._add("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=role, width=width, dash=dash)

    def rect(
        self, x: float, y: float, width: float, height: float, role: str, opacity: float = 1, name: str = ""
    ) -> None:
        made = self._add("rect", x=x, y=y, fill=role, opacity=opacity, name=name)
        made.set("width", _n(max(0.0, width)))
        made.set("height", _n(max(0.0, height)))

    def circle(
        self, x: float, y: float, radius: float, role: str, opacity: float = 1, name: str = "", open_: bool = False
    ) -> None:
        fill, stroke = ("none", role) if open_ else (role, "")
        made = self._add("circle", cx=x, cy=y, r=radius, opacity=opacity, name=name, fill=fill, stroke=stroke)
        made.set("class", made.get("class", "") + " mark")

    def steps(
        self, edges: Sequence[float], heights: Sequence[float], floor: float, role: str, dash: str = ""
    ) -> None:
        """A histogram's outline: `heights[i]` between `edges[i]` and `edges[i + 1]`, in pixels."""
        parts = [f"M{_n(edges[0])} {_n(floor)}"]
        for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True):
            parts.append(f"L{_n(left)} {_n(height)}L{_n(right)} {_n(height)}")
        parts.append(f"L{_n(edges[-1])} {_n(floor)}")
        self._add("path", d="".join(parts), stroke=role, width=1.6, dash=dash, fill="none")

    def polyline(self, points: Sequence[tuple[float, float]], role: str, width: float = 1.6, dash: str = "") -> None:
        d = "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in points)
        self._add("path", d=d, stroke=role, width=width, dash=dash, fill="none")

    def area(self, points: Sequence[tuple[float, float]], role: str, opacity: float = 0.25) -> None:
        d = "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in points) + "Z"
        self._add("path", d=d, fill=role, opacity=opacity)

    def text(
        self, x: float, y: float, content: object, anchor: str = "start", role: str = "", strong: bool = False
    ) -> None:
        made = ElementTree.SubElement(self._into, "text", {"x": _n(x), "y": _n(y)})
        if anchor != "start":
            made.set("text-anchor", anchor)
        classes = [f"t-{role}"] * bool(role) + ["t-strong"] * strong
        if classes:
            made.set("class", " ".join(classes))
        made.text = shown(content)

    @contextmanager
    def link(self, href: str, title: str) -> Generator[None]:
        """What is drawn inside leads to `href`, an address of this server. It is left out of the tab order: a page
        with such a drawing has a table of the same links."""
        if not href.startswith("/") or href.startswith("//"):
            raise ValueError(f"link {href!r}")
        outer = self._into
        self._into = ElementTree.SubElement(outer, "a", {"href": href, "tabindex": "-1"})
        ElementTree.SubElement(self._into, "title").text = shown(title)
        try:
            yield
        finally:
            self._into = outer

    @contextmanager
    def moved(self, x: float, y: float) -> Generator[None]:
        outer = self._into
        self._into = ElementTree.SubElement(outer, "g", {"transform": f"translate({_n(x)} {_n(y)})"})
        try:
            yield
        finally:
            self._into = outer

    def inline(self) -> Markup:
        """For a page."""
        return Markup(ElementTree.tostring(self._root, encoding="unicode"))

    def file(self) -> bytes:
        """A file of its own, with its colours and on paper."""
        root = ElementTree.Element("svg", {**self._root.attrib, "xmlns": _SVG})
        ElementTree.SubElement(root, "style").text = SHEET
        ElementTree.SubElement(root, "rect", {"width": _n(self.width), "height": _n(self.height), "class": "f-paper"})
        root.extend(list(self._root))
        return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="utf-8")

    def _add(
        self, tag: str, *, fill: str = "", stroke: str = "", width: float = 1, dash: str = "", opacity: float = 1,
        name: str = "", d: str = "", **places: float,
    ) -> ElementTree.Element:  # fmt: skip
        made = ElementTree.SubElement(self._into, tag, {key: _n(value) for key, value in places.items()})
        if d:
            made.set("d", d)
        made.set("class", " ".join([f"f-{fill}"] * bool(fill) + [f"s-{stroke}"] * bool(stroke)))
        if stroke:
            made.set("stroke-width", _n(width))
        if dash:
            made.set("stroke-dasharray", dash)
        if opacity != 1:
            made.set("opacity", _n(opacity))
        if name:
            ElementTree.SubElement(made, "title").text = shown(name)
        return made


class Scale:
    """A linear map of `[low, high]` onto pixels, and round ticks inside it."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        if not (math.isfinite(low) and math.isfinite(high)):
            low, high = 0.0, 1.0
        self.low, self.high = (low, high) if high > low else (low - 0.5, low + 0.5)
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, -0.02), 1.02) * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        raw = (self.high - self.low) / max(1, about)
        size = 10.0 ** math.floor(math.log10(raw))
        step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [0.0 if i == 0 else i * step for i in range(first, last + 1)]


def tick_text(value: float) -> str:
    return f"{value:.6g}".replace("-", "\u2212")


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
