"""How many directions the activations take up, side by side, and what that says about the study's claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from antar.report.blocks import Block, Column, Figures, Paragraph, Row, Section, Table
from antar.report.figures import COLOURS, Plot, legend_below
from antar.report.text import listing, number
from antar.run import Run

Record = Mapping[str, Any]
_MEASURES = (("participation_ratio", "participation ratio"), ("pca90_rank", "directions for 90% of the variance"))


def geometry_section(run: Run) -> Section:
    title = "How many directions change"
    if not run.has("features/geometry.json") or not run.geometry:
        return Section(
            "geometry", title, [Paragraph("The shape of the activations has not been measured in this run.")]
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
    return Section("geometry", title, blocks)


def claim(rows: Sequence[Record]) -> str:
    """One sentence: is a delta's effective dimension lower than its base's, and lower than a sham's?"""
    by = {(row["layer"], row["side"]): row for row in rows}
    layers = sorted({row["layer"] for row in rows})
    lower, lower_than_sham, compared, examples = 0, 0, 0, list[str]()
    measured = 0
    for layer in layers:
        base, delta = (_rank(by.get((layer, side))) for side in ("base", "delta"))
        shams = [rank for (at, side), row in by.items() if at == layer and side.startswith("delta:")
                 if (rank := _rank(row)) is not None]  # fmt: skip
        if base is None or delta is None:
            continue
        measured += 1
        lower += delta < base
        examples.append(f"{delta:,} against {base:,} at layer {layer}")
        if shams:
            compared += 1
            lower_than_sham += delta < min(shams)
    if not measured:
        return "The claim cannot be tested here: the delta has no variance, or was not measured."
    verdict = "takes" if lower == measured else "does not take" if lower == 0 else "takes only in part"
    first = (
        f"The delta {verdict} fewer directions than base for 90% of its variance: at {lower} of {measured} layers "
        f"({listing(examples)})."
    )
    if not compared:
        return f"{first} There is no sham beside it, so this cannot be told from the shape of any drift."
    second = f"It takes fewer than every sham's delta at {lower_than_sham} of {compared} layers"
    if lower and not lower_than_sham:
        return f"{first} {second}: a low dimension is what any further training gives here, not what this change did."
    return f"{first} {second}."


def _rank(row: Record | None) -> int | None:
    return None if row is None else row.get("pca90_rank")


def _table(rows: Sequence[Record], names: Mapping[str, str]) -> Table:
    columns = ("site", "participation ratio", "PCA-90% rank", "mean norm", "norm / base's")
    body = [
        Row(
            side_name(row["side"], names) + f", layer {row['layer']}",
            [number(row["participation_ratio"]), number(row["pca90_rank"]), number(row["mean_norm"]),
             number(row.get("energy_share"))],
            null=":" in row["side"],
        )
        for row in sorted(rows, key=lambda row: row["layer"])
    ]  # fmt: skip
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

    told = "; ".join(
        f"{side}: " + ", ".join(f"{number(row[key])} at layer {row['layer']}" for row in rows if row["side"] == side)
        for side in sides
    )
    return Plot(
        "geometry-" + key.replace("_", "-").replace("pca90", "pca90"),
        f"{words.capitalize()} by layer. {told}.",
        f"{words.capitalize()} of each side at each layer; dashed: shams.",
        draw,
    )
