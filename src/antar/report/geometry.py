"""How many directions the activations take up, side by side, and what that says about the study's claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from antar.report.blocks import Block, Column, Figures, Paragraph, Row, Section, Table
from antar.report.figures import COLOURS, Plot, legend_below
from antar.report.sources import at, number
from antar.report.words import Prose, listed, told
from antar.run import Run

Record = Mapping[str, Any]
_MEASURES = (("participation_ratio", "participation ratio"), ("pca90_rank", "directions for 90% of the variance"))


def geometry_section(run: Run) -> Section:
    title = "How many directions change"
    if not run.has("features/geometry.json") or not run.geometry:
        return Section(
            "geometry",
            title,
            [Paragraph("The shape of the activations has not been measured in this run.")],
            appendix=True,
        )
    rows = run.geometry
    blocks: list[Block] = [
        Paragraph(
            "The published study explains its easy deltas by a lower effective dimension: only hundreds of "
            "directions change. It states this and does not test it. These are the numbers that do, on the "
            "training texts."
        ),
        Paragraph(claim(rows), "answer"),
        Figures([_plot(rows, key, words, run.names) for key, words in _MEASURES]),
        _table(rows, run.names),
    ]
    return Section("geometry", title, blocks, appendix=True)


_FILE = "features/geometry.json"


def claim(rows: Sequence[Record]) -> Prose:
    """One sentence: is a delta's effective dimension lower than its base's, and lower than a sham's?"""
    by = {
        (row["layer"], row["side"]): (i, rank)
        for i, row in enumerate(rows)
        if (rank := row.get("pca90_rank")) is not None
    }
    lower, lower_than_sham, compared = 0, 0, 0
    examples: list[Prose] = []
    for layer in sorted({row["layer"] for row in rows}):
        base, delta = by.get((layer, "base")), by.get((layer, "delta"))
        shams = [found[1] for (where, side), found in by.items() if where == layer and side.startswith("delta:")]
        if base is None or delta is None:
            continue
        lower += delta[1] < base[1]
        examples.append(told("{} against {} at layer {}", _rank(delta), _rank(base), str(layer)))
        if shams:
            compared += 1
            lower_than_sham += delta[1] < min(shams)
    if not examples:
        return "The claim cannot be tested here: the delta has no variance, or was not measured."
    verdict = "takes" if lower == len(examples) else "does not take" if lower == 0 else "takes only in part"
    first = told(
        "The delta {} fewer directions than base for 90% of its variance: at {} of {} layers ({}).",
        verdict,
        number(lower, f"{_FILE}#rank_below_base"),
        number(len(examples), f"{_FILE}#rank_compared"),
        listed(examples),
    )
    if not compared:
        return first + " There is no sham beside it, so this cannot be told from the shape of any drift."
    second = told(
        " It takes fewer than every sham's delta at {} of {} layers",
        number(lower_than_sham, f"{_FILE}#rank_below_shams"),
        number(compared, f"{_FILE}#rank_with_shams"),
    )
    if lower and not lower_than_sham:
        second = second + ": a low dimension is what any further training gives here, not what this change did"
    return first + second + "."


def _rank(found: tuple[int, int]) -> Prose:
    return number(found[1], at(_FILE, found[0], "pca90_rank"))


def _table(rows: Sequence[Record], names: Mapping[str, str]) -> Table:
    columns = ("site", "participation ratio", "PCA-90% rank", "mean norm", "norm / base's")
    keys = ("participation_ratio", "pca90_rank", "mean_norm", "energy_share")
    body = [
        Row(
            side_name(row["side"], names) + f", layer {row['layer']}",
            [number(row.get(key), at(_FILE, i, key)) for key in keys],
            null=":" in row["side"],
        )
        for i, row in sorted(enumerate(rows), key=lambda one: one[1]["layer"])
    ]
    note = "Participation ratio: (Σλ)² / Σλ² over the eigenvalues of the covariance. Shaded rows are nulls."
    return Table("Directions and norms at each site", [Column(c, i > 0) for i, c in enumerate(columns)], body, note)


def side_name(side: str, names: Mapping[str, str]) -> str:
    """A side as a reader says it: the study's names, and `sham a − base` for a sham's delta."""
    if side == "delta":
        return "delta (the second minus the first)" if not names else f"{names['chat']} − {names['base']}"
    if side.startswith("delta:"):
        return f"sham {side.split(':')[1]} − {names['base']}"
    if side.startswith("sham:"):
        return f"sham {side.split(':')[1]}"
    return names.get(side, side)


def _plot(rows: Sequence[Record], key: str, words: str, names: Mapping[str, str]) -> Plot:
    sides = list(dict.fromkeys(row["side"] for row in rows))
    layers = sorted({row["layer"] for row in rows})

    def draw(axes: Axes) -> None:
        for side in sides:
            points = [(row["layer"], row[key]) for row in rows if row["side"] == side and row[key] is not None]
            null = ":" in side
            colour = COLOURS["sham"] if null else COLOURS.get(side, COLOURS["ink"])
            label = "delta" if side == "delta" else f"delta of sham {side.split(':')[1]}" if null else side
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                color=colour,
                marker="s" if null else "o",
                markersize=3.5,
                linestyle="--" if null else "-",
                label=label,
            )
        axes.set_xticks(layers)
        axes.margins(y=0.12)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("layer")
        axes.set_title(words)
        axes.grid(axis="y")
        legend_below(axes)

    return Plot(
        "geometry-" + key.replace("_", "-").replace("pca90", "pca90"),
        f"{words.capitalize()} of each side by layer; the table below has the numbers.",
        f"{words.capitalize()} of each side at each layer; dashed: shams.",
        draw,
    )
