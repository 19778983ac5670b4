"""How large the shift is, in activation units, beside the sham's (`features/magnitude.py` measures it)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes

from antar.features.magnitude import Magnitude, stands_above_shams
from antar.report.blocks import Block, Cell, Column, Paragraph, Row, Section, Table, Value
from antar.report.figures import COLOURS, Plot, legend_below
from antar.report.shams import drift_blocks
from antar.report.sources import at, interval, number
from antar.report.text import NOT_MEASURED
from antar.report.words import Prose, told
from antar.run import Run


def energy_section(run: Run) -> Section:
    title = "How large the shift is"
    found = run.magnitudes
    if not found:
        return Section("energy", title, [Paragraph("The shift has not been measured in this run.")], appendix=True)
    sides = list(dict.fromkeys(one.side for one in found))
    shams = [side for side in sides if side != "delta"]
    blocks: list[Block] = [
        Paragraph(
            "A dictionary on differences rescales any drift to unit variance, so effect sizes and their p-values "
            "come out as well on a sham (base trained on with nothing to learn) as on a real change. Only "
            "magnitude beside a sham's tells them apart. The cultural shift is how far the mean difference of "
            "cultural texts lies from that of control texts in the same language; the whole shift is the size of "
            "a text's difference, culture or not."
        ),
        Paragraph(_answer(found, shams), "answer"),
        *drift_blocks(run),
        _table(found, shams),
    ]
    return Section("energy", title, blocks, appendix=True)


def energy_plots(run: Run) -> list[Plot]:
    """The cultural shift at each layer, beside the shams'; one for each language."""
    found = run.magnitudes
    return [_plot(found, language) for language in dict.fromkeys(one.language for one in found)]


def _answer(found: list[Magnitude], shams: list[str]) -> Prose:
    if not shams:
        return "This study has no sham, so it cannot say how much of the shift is what any further training would do."
    above, compared = stands_above_shams(found)
    return told(
        "The cultural shift stands above every sham's, interval against interval, at {} of {}.",
        number(above, f"{_FILE}#stands_above"),
        number(compared, f"{_FILE}#stands_compared")
        + (" layer and language" if compared == 1 else " layers and languages"),
    )


_FILE = "features/magnitudes.json"


def _table(found: list[Magnitude], shams: list[str]) -> Table:
    place = {(one.side, one.layer, one.language): i for i, one in enumerate(found)}
    columns = [
        Column("site", False),
        Column("cultural shift"),
        *(Column(f"on sham {sham.split(':')[1]}") for sham in shams),
        Column("ratio to the largest sham"),
        Column("whole shift"),
        *(Column(f"on sham {sham.split(':')[1]}") for sham in shams),
        Column("norm of base"),
        Column("texts"),
    ]
    rows: list[Row] = []
    for i, one in enumerate(found):
        if one.side != "delta":
            continue
        others = [place.get((sham, one.layer, one.language)) for sham in shams]
        there = [other for other in others if other is not None]
        cells: list[Cell] = [_value(found, i, "cultural"), *(_value(found, other, "cultural") for other in others)]
        cells.append(_ratio(found, i, there))
        cells += [_value(found, i, "whole"), *(_value(found, other, "whole") for other in others)]
        cells += [number(one.base, at(_FILE, i, "base")), number(one.texts, at(_FILE, i, "texts"))]
        rows.append(Row(f"layer {one.layer}, {one.language}", cells))
    return Table(
        "Shift in activation units on held-out texts, with 95% intervals by bootstrap over documents",
        columns,
        rows,
        "Norms, not squares. What noise adds to the norm of a mean is taken off; a shift no larger than noise is 0.",
    )


def _value(found: list[Magnitude], i: int | None, name: str) -> Cell:
    if i is None:
        return NOT_MEASURED
    ends = interval(getattr(found[i], f"{name}_ci"), at(_FILE, i, f"{name}_ci"))
    return Value(number(getattr(found[i], name), at(_FILE, i, name)), ends)


def _ratio(found: list[Magnitude], i: int, others: list[int]) -> Prose:
    largest = max(others, key=lambda other: found[other].cultural or 0.0, default=None)
    value = found[i].cultural
    if value is None or largest is None:
        return NOT_MEASURED
    size = found[largest].cultural or 0.0
    if size <= 0:
        return "the sham's is no larger than noise"
    return number(value / size, f"{at(_FILE, i, 'cultural')} / {at(_FILE, largest, 'cultural')}")


def _plot(found: list[Magnitude], language: str) -> Plot:
    ours = [one for one in found if one.language == language]
    by_side: Mapping[str, list[Magnitude]] = {
        side: [one for one in ours if one.side == side and one.cultural is not None]
        for side in dict.fromkeys(one.side for one in ours)
    }

    def draw(axes: Axes) -> None:
        for shift, (side, ones) in enumerate(by_side.items()):
            null = side != "delta"
            xs = [one.layer + 0.06 * (shift - len(by_side) / 2 + 0.5) * _spacing(ours) for one in ones]
            centre = np.array([one.cultural for one in ones], dtype=float)
            # An interval need not contain its point exactly; a bar of negative length is an error.
            ends = np.array([one.cultural_ci or (np.nan, np.nan) for one in ones], dtype=float).reshape(-1, 2)
            bars = np.maximum(np.stack([centre - ends[:, 0], ends[:, 1] - centre]), 0)
            axes.errorbar(
                xs,
                centre,
                yerr=bars,
                color=COLOURS["sham" if null else "real"],
                marker="s" if null else "o",
                markersize=3.5,
                linestyle="--" if null else "-",
                linewidth=1.1,
                elinewidth=0.8,
                label=f"sham {side.split(':')[1]}" if null else "chat − base",
            )
        axes.set_xticks(sorted({one.layer for one in ours}))
        axes.margins(y=0.15)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("layer")
        axes.set_title(f"cultural shift ({language}), activation units")
        axes.grid(axis="y")
        legend_below(axes)

    safe = "".join(character for character in language.lower() if character.isascii() and character.isalnum())
    return Plot(
        f"energy-{safe or 'x'}",
        f"Cultural shift in {language} at each layer, beside the shams' (the numbers: “How large the shift is”).",
        f"How far the models lie apart on cultural texts in {language}, at each layer, beside the shams; bars: 95% "
        f"intervals.",
        draw,
    )


def _spacing(ours: list[Magnitude]) -> float:
    layers = sorted({one.layer for one in ours})
    return min((b - a for a, b in pairwise(layers)), default=1)
