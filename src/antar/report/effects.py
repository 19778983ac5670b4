"""Effect sizes as distributions, always over those of the nulls: one drawing for what is real and what is not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from antar.criteria.config import CriteriaConfig
from antar.report.blocks import Block, Cell, Column, Paragraph, Row, Section, Table
from antar.report.figures import COLOURS, Plot, legend_below
from antar.report.sources import CONTRASTS, at, fixed, number, percent
from antar.report.text import listing
from antar.report.words import Cited, told
from antar.run import Run

KINDS = ("shift", "culture", "interaction", "facet")
MEANINGS = {
    "shift": "the same texts before and after",
    "culture": "cultural against control texts",
    "interaction": "is the shift larger on cultural texts?",
    "facet": "one value of a facet against the rest",
}
_CROWDED = 1500
_CURVE_POINTS = 300


def thresholds(run: Run) -> tuple[float, float]:
    """(|d|, q) of the study's fourth criterion."""
    settings = run.study.get("criteria")
    settings = settings if isinstance(settings, Mapping) else {}
    usual = CriteriaConfig()
    return float(settings.get("d", usual.d)), float(settings.get("q", usual.q))


def pooled_rows(contrasts: pl.DataFrame) -> pl.DataFrame:
    """Rows with an effect: those pooled over languages where a comparison has them, else those of each language."""
    keys = ["contrast", "dictionary", "side_a", "side_b", "facet", "value", "null"]
    frame = contrasts.filter(pl.col("d_av").is_not_null() & pl.col("d_av").is_not_nan())
    has_pooled = (pl.col("language") == "pooled").any().over(keys)
    return frame.filter(~has_pooled | (pl.col("language") == "pooled"))


def null_name(null: str) -> str:
    if null.startswith("sham:"):
        return f"sham {null.split(':', 1)[1]}"
    names = {
        "": "real",
        "shuffled": "shuffled groups",
        "same_checkpoint": "same checkpoint",
        "pca": "PCA directions",
        "random": "random directions",
        "neurons": "raw neurons",
        "random_weights": "a model of random weights",
    }
    return names.get(null, null)


def threshold_words(run: Run) -> tuple[Cited, Cited]:
    """`thresholds` as they are shown."""
    d, q = thresholds(run)
    return Cited(f"{d:g}", at("study.yaml", "criteria", "d")), Cited(f"{q:g}", at("study.yaml", "criteria", "q"))


def large_rows(run: Run) -> tuple[str, str]:
    """The conditions (of `sources.py`) under which an effect counts."""
    d, q = thresholds(run)
    return f"|d_av|>{d:g}", f"q<{q:g}"


_NULLS = ("same_checkpoint", "shuffled", "random_weights", "pca", "random", "neurons")


def null_order(null: str) -> tuple[int, str]:
    """The real one, the shams, then the others in the order of how much they say."""
    if null == "" or null.startswith("sham:"):
        return (0 if null == "" else 1, null)
    return (2 + _NULLS.index(null) if null in _NULLS else 9, null)


def effects_section(run: Run) -> Section:
    title = "Effect sizes beside their nulls"
    if not run.has("features/contrasts.parquet") or run.contrasts.is_empty():
        return Section("effects", title, [Paragraph("No contrast has been measured in this run.")], appendix=True)
    rows = pooled_rows(run.contrasts)
    kinds = [kind for kind in KINDS if kind in set(rows["contrast"])]
    blocks: list[Block] = [
        Paragraph(
            "Each contrast, over all live features of all dictionaries, on the estimation half of the held-out "
            "documents. The count of features over a threshold is no evidence by itself: read it against the "
            "shuffled groups and, where there is one, against the sham."
        ),
        _counts(run, rows, kinds),
    ]
    return Section("effects", title, blocks, appendix=True)


def effect_plots(run: Run) -> list[Plot]:
    """How fast effects thin out and what evidence they have, beside the nulls; culture against shift."""
    if not run.has("features/contrasts.parquet") or run.contrasts.is_empty():
        return []
    rows = pooled_rows(run.contrasts)
    d, _ = thresholds(run)
    of_kind = {kind: rows.filter(pl.col("contrast") == kind) for kind in KINDS if kind in set(rows["contrast"])}
    tails = [_tail(part, kind, d) for kind, part in of_kind.items()]
    return (
        tails
        + [_volcano(part, kind, d) for kind, part in of_kind.items() if kind != "facet"]
        + _culture_by_shift(rows)
    )


def _counts(run: Run, rows: pl.DataFrame, kinds: list[str]) -> Table:
    table: list[Row] = []
    d, q = thresholds(run)
    above, sure = large_rows(run)
    large = (pl.col("d_av").abs() > d) & (pl.col("q") < q)
    for kind in kinds:
        of_kind = rows.filter(pl.col("contrast") == kind)
        for null in sorted(of_kind["null"].unique(), key=null_order):
            part = of_kind.filter(pl.col("null") == null)
            sizes = part["d_av"].abs()
            its = CONTRASTS.where("d_av", "pooled", contrast=kind, null=null)
            many = its.where(above, sure)
            cells: list[Cell] = [
                null_name(null),
                number(part.height, its.get("count")),
                number(int(part.select(large.sum()).item()), many.get("count")),
                percent(float(part.select(large.mean()).item() or 0.0), f"{many.get('count')} / {its.get('count')}"),
                percent(float(part.select((pl.col("q") < q).mean()).item() or 0.0), its.get(f"share:{sure}")),
                fixed(_quantile(sizes, 0.5), its.get("q0.5:|d_av|")),
                fixed(_quantile(sizes, 0.95), its.get("q0.95:|d_av|")),
            ]
            table.append(Row(kind if null else f"{kind}: {MEANINGS[kind]}", cells, null=null != ""))
    at_d, at_q = threshold_words(run)
    columns = [
        Column("contrast", False),
        Column("on", False),
        Column("tests"),
        Column(told("|d| > {}, q < {}", at_d, at_q)),
        Column("share"),
        Column(told("share q < {}", at_q)),
        Column("median |d|"),
        Column("95% of |d|"),
    ]
    return Table(
        "How many effects are large, really and on the nulls",
        columns,
        table,
        "d is d_av. Shaded rows are nulls. A test is one feature in one comparison.",
    )


def _quantile(sizes: pl.Series, at: float) -> float | None:
    return sizes.quantile(at, "linear")


def _groups(rows: pl.DataFrame) -> list[tuple[str, str, str, np.ndarray]]:
    """(null, role, line, |d|) of the null groups that are drawn; all shams share one line."""
    found: list[tuple[str, str, str, np.ndarray]] = []
    for name, role, line, mask in (
        ("real", "real", "-", pl.col("null") == ""),
        ("sham", "sham", "--", pl.col("null").str.starts_with("sham:")),
        ("shuffled", "shuffled", ":", pl.col("null") == "shuffled"),
    ):
        sizes = rows.filter(mask)["d_av"].abs().to_numpy()
        if len(sizes):
            found.append((name, role, line, np.sort(sizes)))
    return found


def _tail(rows: pl.DataFrame, kind: str, d: float) -> Plot:
    groups = _groups(rows)

    def draw(axes: Axes) -> None:
        for name, role, line, sizes in groups:
            # Thinned evenly, so that a figure of a million tests is no larger than one of a thousand.
            keep = np.unique(np.linspace(0, len(sizes) - 1, _CURVE_POINTS).astype(int))
            axes.step(
                sizes[keep], 1 - keep / len(sizes), where="pre", color=COLOURS[role], linestyle=line, label=name
            )
        axes.axvline(d, color=COLOURS["ink"], linewidth=0.8, linestyle=":")
        axes.set_yscale("log")
        axes.set_xlim(left=0)
        axes.set_xlabel("|d|")
        axes.set_title(f"{kind}: share of tests with |d| above x")
        axes.grid(axis="both")
        legend_below(axes)

    lines = listing([name for name, *_ in groups])
    return Plot(
        f"effects-{kind}",
        f"Share of tests with an absolute effect above x, {kind} contrast: {lines}.",
        f"{kind.capitalize()} ({MEANINGS[kind]}): how fast effects thin out, really and on the nulls. Dotted: the "
        "threshold.",
        draw,
    )


def _cloud(axes: Axes, x: np.ndarray, y: np.ndarray, mark: str, role: str, name: str) -> None:
    """Many points, of which none hides another; as an image where there are so many that an SVG would be heavy."""
    axes.plot(
        x,
        y,
        mark,
        markersize=2.3,
        markeredgewidth=0,
        color=COLOURS[role],
        alpha=0.55,
        linestyle="none",
        rasterized=len(x) > _CROWDED,
        label=name,
    )


def _volcano(rows: pl.DataFrame, kind: str, d: float) -> Plot:
    parts = [
        ("shuffled", "shuffled", "o", rows.filter(pl.col("null") == "shuffled")),
        ("sham", "sham", "s", rows.filter(pl.col("null").str.starts_with("sham:"))),
        ("real", "real", "o", rows.filter(pl.col("null") == "")),
    ]
    parts = [
        (name, role, mark, part.filter(pl.col("p").is_not_null() & pl.col("p").is_not_nan()))
        for name, role, mark, part in parts
    ]

    def draw(axes: Axes) -> None:
        for name, role, mark, part in parts:
            if part.is_empty():
                continue
            heights = -np.log10(np.maximum(part["p"].to_numpy(), 1e-12))
            _cloud(axes, part["d_av"].to_numpy(), heights, mark, role, name)
        for x in (-d, d):
            axes.axvline(x, color=COLOURS["ink"], linewidth=0.8, linestyle=":")
        axes.set_xlabel("d")
        axes.set_title(f"{kind}: −log10 p")
        axes.grid(axis="y")
        legend_below(axes, markerscale=2)

    lines = listing([name for name, _, _, part in parts if not part.is_empty()])
    return Plot(
        f"volcano-{kind}",
        f"Effect size against the logarithm of p, {kind} contrast: {lines}.",
        f"{kind.capitalize()}: effect against evidence, one point a test.",
        draw,
    )


def _culture_by_shift(rows: pl.DataFrame) -> list[Plot]:
    """Is what shifts cultural? For each feature of a dictionary on both sides, its two effects."""
    keys = ["feature", "null"]
    culture = rows.filter((pl.col("contrast") == "culture") & (pl.col("side_b") == "base")).select(
        "feature", pl.col("d_av").alias("culture")
    )
    culture = culture.group_by("feature").agg(pl.col("culture").mean())
    shift = rows.filter(pl.col("contrast") == "shift").group_by(keys).agg(pl.col("d_av").mean().alias("shift"))
    both = shift.join(culture, on="feature", how="inner").sort(keys)
    if both.is_empty():
        return []
    parts = [
        ("shuffled", "shuffled", "o", both.filter(pl.col("null") == "shuffled")),
        ("sham", "sham", "s", both.filter(pl.col("null").str.starts_with("sham:"))),
        ("real", "real", "o", both.filter(pl.col("null") == "")),
    ]

    def draw(axes: Axes) -> None:
        axes.axhline(0, color=COLOURS["grid"], linewidth=0.8)
        axes.axvline(0, color=COLOURS["grid"], linewidth=0.8)
        for name, role, mark, part in parts:
            if not part.is_empty():
                _cloud(axes, part["culture"].to_numpy(), part["shift"].to_numpy(), mark, role, name)
        axes.set_xlabel("culture: d of cultural against control texts, on base")
        axes.set_title("shift: d after against before")
        legend_below(axes, markerscale=2)

    return [
        Plot(
            "culture-by-shift",
            "Shift effect against culture effect, one point a feature of a dictionary on base.",
            "Culture × shift, one point a feature: do cultural features shift more, and more than on the nulls?",
            draw,
        )
    ]
