"""The figures of the browser. Each is a function from numbers to a drawing, and every drawing shows its null."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from antar.core.seeds import numpy_rng
from antar.web.explore.draw import Drawing, Scale, tick_text
from antar.web.explore.effects import Effect, null_name
from antar.web.text import clip

ROW_WIDTH, ROW_HEIGHT = 260, 24
SHUFFLES = 200
BINS = 24


def role_of_null(null: str) -> str:
    return "sham" if null.startswith("sham:") else "shuffled"


# -- effects beside their nulls -----------------------------------------------------------------------------------


def effect_row(effect: Effect, reach: float, d: float) -> Drawing:
    """One effect with its interval over the bands that 95% of the nulls stay in."""
    drawing = Drawing(ROW_WIDTH, ROW_HEIGHT, _effect_words(effect))
    _draw_effect(drawing, effect, _effect_scale(reach, ROW_WIDTH), 0, ROW_HEIGHT, d)
    return drawing


def effect_axis(reach: float, d: float) -> Drawing:
    """The axis over a column of `effect_row`s."""
    drawing = Drawing(ROW_WIDTH, 18, f"axis: effect d from {-reach:.1f} to {reach:.1f}; dotted: ±{d:g}")
    scale = _effect_scale(reach, ROW_WIDTH)
    for tick in scale.ticks(4):
        drawing.text(scale(tick), 12, tick_text(tick), "middle", "muted")
        drawing.line(scale(tick), 15, scale(tick), 18, "muted")
    return drawing


def effects_figure(effects: Sequence[Effect], reach: float, d: float, title: str) -> Drawing:
    """All rows under one another with their names: the form that is saved."""
    left, width, top = 300, 720, 44
    drawing = Drawing(width, top + ROW_HEIGHT * len(effects) + 44, f"effects of {title}")
    scale = _effect_scale(reach, width - left - 90, left)
    drawing.text(8, 20, clip(title, 90), strong=True)
    for i, effect in enumerate(effects):
        y = top + i * ROW_HEIGHT
        drawing.text(8, y + 16, clip(f"{_kind(effect)}{effect.name}; {effect.where}", 44))
        _draw_effect(drawing, effect, scale, y, ROW_HEIGHT, d)
        drawing.text(width - 8, y + 16, f"{effect.d:.2f}".replace("-", "\u2212"), "end")
    axis_below(drawing, scale, top + ROW_HEIGHT * len(effects), "d; bands: 95% of |d| on shuffled groups and shams")
    return drawing


def _kind(effect: Effect) -> str:
    return f"{effect.facet}: " if effect.contrast == "facet" else f"{effect.contrast}: "


def _effect_scale(reach: float, width: float, left: float = 0) -> Scale:
    return Scale(-reach, reach, left + 6, left + width - 6)


def _effect_words(effect: Effect) -> str:
    lo, hi = effect.numbers["d_lo"], effect.numbers["d_hi"]
    ends = f", 95% interval {lo:.2f} to {hi:.2f}" if lo is not None and hi is not None else ""
    own = "".join(f"; this feature on {null_name(null)} {value:.2f}" for null, value in effect.own.items())
    return f"d {effect.d:.2f}{ends}; 95% of |d| on nulls: {effect.nulls_in_words}{own}"


def _draw_effect(drawing: Drawing, effect: Effect, scale: Scale, y: float, height: float, d: float) -> None:
    middle = y + height / 2
    for null, point in sorted(effect.beside.items(), key=lambda pair: -pair[1]):
        half = height / 2 - (2 if role_of_null(null) == "shuffled" else 5)
        drawing.rect(scale(-point), middle - half, scale(point) - scale(-point), 2 * half, role_of_null(null), 0.16,
                     f"95% of |d| on {null_name(null)}: {point:.2f}")  # fmt: skip
    drawing.line(scale(0), y, scale(0), y + height, "muted", 0.8)
    for side in (-d, d):
        drawing.line(scale(side), y, scale(side), y + height, "muted", 0.8, "1 3")
    for null, value in effect.own.items():
        drawing.circle(scale(value), middle, 2.6, role_of_null(null), 0.9, f"on {null_name(null)}: {value:.2f}",
                       open_=True)  # fmt: skip
    lo, hi = effect.numbers["d_lo"], effect.numbers["d_hi"]
    if lo is not None and hi is not None and math.isfinite(lo) and math.isfinite(hi):
        drawing.line(scale(lo), middle, scale(hi), middle, "real", 2)
    drawing.circle(scale(effect.d), middle, 4, "real")


def axis_below(drawing: Drawing, scale: Scale, y: float, title: str, about: int = 5) -> None:
    drawing.line(scale.start, y, scale.end, y, "muted", 0.8)
    for tick in scale.ticks(about):
        drawing.line(scale(tick), y, scale(tick), y + 4, "muted", 0.8)
        drawing.text(scale(tick), y + 16, tick_text(tick), "middle", "muted")
    drawing.text((scale.start + scale.end) / 2, y + 32, title, "middle", "muted")


# -- how two groups of texts fire a feature -----------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """Texts of one kind, or the same texts on one side. `units` int `[n]`: the document of each of its firing texts;
    `values`: how strongly they fire; `n`: all of its texts, also those that do not."""

    name: str
    role: str
    units: np.ndarray
    values: np.ndarray
    n: int

    @property
    def share(self) -> float:
        return len(self.values) / self.n if self.n else 0.0


def null_band(
    a: Group, b: Group, edges: np.ndarray, paired: bool, seed: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) `[bins]`: where 95% of a group's histogram lies when the documents' labels are drawn again.

    Paired groups are the same texts on two sides: each document keeps its sides or swaps them. Other groups are
    different texts: each document falls to either group as often as the groups are large.
    """
    units, place = np.unique(np.concatenate([a.units, b.units]), return_inverse=True)
    bins = len(edges) - 1
    tables = np.zeros((2, max(1, len(units)), bins))
    for table, values, its in ((0, a.values, place[: len(a.units)]), (1, b.values, place[len(a.units) :])):
        which = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, bins - 1)
        np.add.at(tables[table], (its, which), 1.0)
    rng = numpy_rng(0, "web", "null band", *seed)
    if paired:
        mask = rng.random((SHUFFLES, tables.shape[1])) < 0.5
        drawn = (mask @ tables[0] + ~mask @ tables[1]) / max(1, a.n)
    else:
        share = a.n / max(1, a.n + b.n)
        mask = rng.random((SHUFFLES, tables.shape[1])) < share
        drawn = mask @ (tables[0] + tables[1]) / max(1, a.n)
    return np.quantile(drawn, 0.025, axis=0), np.quantile(drawn, 0.975, axis=0)


def distributions(a: Group, b: Group, paired: bool, seed: tuple[str, ...]) -> Drawing:
    """Two histograms of strength as shares of all texts of each group, over the band of shuffled labels."""
    width, height, left, floor, top = 420, 230, 44, 176, 30
    largest = float(max((v.max() for v in (a.values, b.values) if len(v)), default=1.0))
    edges = np.linspace(0, largest * (1 + 1e-6), BINS + 1)
    shares = [np.histogram(group.values, edges)[0] / max(1, group.n) for group in (a, b)]
    low, high = null_band(a, b, edges, paired, seed)
    words = ", ".join(f"{group.name} fires on {100 * group.share:.1f}% of {group.n:,} texts" for group in (a, b))
    drawing = Drawing(width, height, f"distribution of strength: {words}; grey: shuffled labels")
    across = Scale(0, largest, left, width - 10)
    up = Scale(0, 1.08 * max(float(max(s.max() for s in (*shares, high))), 1e-9), floor, top)
    ends = [across(edge) for edge in edges]
    outline = [(x, up(v)) for i, v in enumerate(high) for x in (ends[i], ends[i + 1])]
    back = [(x, up(v)) for i, v in reversed(list(enumerate(low))) for x in (ends[i + 1], ends[i])]
    drawing.area(outline + back, "shuffled", 0.28)
    for group, share, dash in zip((a, b), shares, ("", "5 3"), strict=True):
        drawing.steps(ends, [up(v) for v in share], floor, group.role, dash)
    for tick in up.ticks(3):
        drawing.line(left - 4, up(tick), left, up(tick), "muted", 0.8)
        drawing.text(left - 7, up(tick) + 4, f"{100 * tick:.3g}%", "end", "muted")
    drawing.line(left, top, left, floor, "muted", 0.8)
    axis_below(drawing, across, floor, "strength where it fires")
    for x, group, dash in ((left + 6, a, ""), (left + 190, b, "5 3")):
        drawing.line(x, 12, x + 22, 12, group.role, 2, dash)
        drawing.text(x + 28, 16, f"{group.name}: {100 * group.share:.1f}% fire")
    return drawing


# -- dictionaries and criteria ------------------------------------------------------------------------------------


def curves(
    lines: Mapping[str, tuple[str, str, Sequence[tuple[float, float]]]],
    across: str,
    title: str,
    log: bool = False,
    share: bool = False,
) -> Drawing:
    """Lines over one another: name → (role, dash, points). `share`: up from 0 to 1, whatever the points are."""
    width, height, left, floor, top = 420, 240, 56, 186, 34
    points = [p for _, _, line in lines.values() for p in line]
    drawing = Drawing(
        width, height, f"{title}: " + "; ".join(_curve_words(n, line) for n, (_, _, line) in lines.items())
    )
    if not points:
        drawing.text(width / 2, height / 2, "not measured", "middle", "muted")
        return drawing
    values = [math.log10(max(y, 1e-12)) if log else y for _, y in points]
    xs = Scale(min(x for x, _ in points), max(x for x, _ in points), left, width - 10)
    margin = 0.05 * (max(values) - min(values)) or 0.1
    ys = Scale(*((0.0, 1.0) if share else (min(values) - margin, max(values) + margin)), floor, top)
    for tick in ys.ticks(4):
        drawing.line(left, ys(tick), width - 10, ys(tick), "grid", 0.8)
        drawing.text(left - 6, ys(tick) + 4, f"{10**tick:.2g}" if log else tick_text(tick), "end", "muted")
    for role, dash, line in lines.values():
        drawn = [(xs(x), ys(math.log10(max(y, 1e-12)) if log else y)) for x, y in line]
        drawing.polyline(drawn, role, 1.8, dash)
    axis_below(drawing, xs, floor, across)
    _legend(drawing, {name: (role, dash) for name, (role, dash, _) in lines.items()}, left)
    return drawing


def _curve_words(name: str, line: Sequence[tuple[float, float]]) -> str:
    return f"{name} from {line[0][1]:.3g} to {line[-1][1]:.3g}" if line else f"{name} not measured"


def _legend(drawing: Drawing, entries: Mapping[str, tuple[str, str]], left: float) -> None:
    step = (drawing.width - left - 10) / max(1, len(entries))
    for i, (name, (role, dash)) in enumerate(entries.items()):
        x = left + i * step
        drawing.line(x, 14, x + 20, 14, role, 2, dash)
        drawing.text(x + 25, 18, clip(name, 24))


def bars(heights: Sequence[float], labels: Sequence[str], across: str, title: str) -> Drawing:
    """Counts in bins, each bin named by its left edge."""
    width, height, left, floor, top = 420, 220, 48, 168, 16
    words = ", ".join(f"{label}: {value:g}" for label, value in zip(labels, heights, strict=False) if value)
    drawing = Drawing(width, height, f"{title}: {words or 'nothing'}")
    ys = Scale(0, 1.08 * max(1.0, *heights), floor, top)
    for tick in ys.ticks(3):
        drawing.line(left, ys(tick), width - 10, ys(tick), "grid", 0.8)
        drawing.text(left - 6, ys(tick) + 4, tick_text(tick), "end", "muted")
    step = (width - 10 - left) / len(heights)
    for i, value in enumerate(heights):
        drawing.rect(
            left + i * step + 1, ys(value), step - 2, floor - ys(value), "base", 1, f"{labels[i]}: {value:g}"
        )
    for i, label in enumerate(labels):
        drawing.text(left + (i if i else 0.5) * step, floor + 16, label, "middle", "muted")
    drawing.line(left, floor, width - 10, floor, "muted", 0.8)
    drawing.text((left + width) / 2, floor + 34, across, "middle", "muted")
    return drawing


def dot_rows(
    rows: Sequence[tuple[str, Mapping[str, float]]], roles: Mapping[str, tuple[str, bool]], across: str, title: str
) -> Drawing:
    """A row for each name with a mark for each of its numbers, from 0 on. roles: kind → (role, whether open)."""
    left, width, top, step = 150, 420, 34, 22
    height = top + step * len(rows) + 44
    words = "; ".join(f"{name}: " + ", ".join(f"{kind} {v:.3g}" for kind, v in its.items()) for name, its in rows)
    drawing = Drawing(width, height, f"{title}. {words}")
    scale = Scale(0, max([1.0, *(v for _, its in rows for v in its.values())]), left, width - 14)
    for i, (name, its) in enumerate(rows):
        y = top + step * i + step / 2
        drawing.line(left, y, width - 14, y, "grid", 0.8)
        drawing.text(left - 8, y + 4, clip(name, 22), "end")
        for kind, value in its.items():
            role, open_ = roles[kind]
            drawing.circle(scale(value), y, 4.2, role, 0.95, f"{kind}: {value:.3g}", open_)
    at = 8.0
    for kind, (role, open_) in roles.items():
        drawing.circle(at + 5, 14, 4.2, role, 0.95, open_=open_)
        drawing.text(at + 14, 18, kind)
        at += 30 + 7.0 * len(kind)
    axis_below(drawing, scale, top + step * len(rows), across)
    return drawing


def criterion_strip(
    value: float | None, ends: Sequence[float] | None, null: float | None, null_ends: Sequence[float] | None,
    threshold: float | None, name: str,
) -> Drawing:  # fmt: skip
    """A criterion's value and interval over its null's, on one axis with the threshold."""
    width, height = 420, 96
    numbers = [v for v in (value, null, threshold, *(ends or ()), *(null_ends or ())) if v is not None]
    finite = [float(v) for v in numbers if math.isfinite(v)]
    words = f"{name}: value {_said(value)}, null {_said(null)}, threshold {_said(threshold)}"
    drawing = Drawing(width, height, words)
    if not finite:
        drawing.text(width / 2, height / 2, "not measured", "middle", "muted")
        return drawing
    low, high = min(0.0, *finite), max(1.0 if max(finite) <= 1 else 0.0, *finite)
    scale = Scale(low, high + 0.03 * (high - low), 70, width - 12)
    for y, label, role, at, its in ((22, "value", "real", value, ends), (46, "null", "shuffled", null, null_ends)):
        drawing.text(62, y + 4, label, "end", "muted")
        if at is None:
            drawing.text(74, y + 4, "not measured", role="muted")
            continue
        if its is not None and len(its) == 2:
            drawing.line(scale(its[0]), y, scale(its[1]), y, role, 2.4)
        drawing.circle(scale(at), y, 4.5, role)
    if threshold is not None:
        drawing.line(scale(threshold), 8, scale(threshold), 58, "ink", 1, "2 3")
    axis_below(drawing, scale, 60, "dotted: the threshold")
    return drawing


def _said(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3g}"
