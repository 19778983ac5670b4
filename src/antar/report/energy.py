"""How large the shift is, in activation units, beside the sham's: the number that a delta dictionary cannot show.

A dictionary on differences rescales any drift to unit variance, so effect sizes say nothing about magnitude. Two
magnitudes are given. The *whole* shift is the root mean square of a text's difference; any training moves that. The
*cultural* shift is the distance between the mean difference of the cultural texts and that of the controls, in one
language: what moved culture and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from antar.core.errors import UserError
from antar.core.seeds import numpy_rng
from antar.report.blocks import Block, Cell, Column, Figures, Paragraph, Row, Section, Table, Value
from antar.report.figures import COLOURS, Plot, legend_below
from antar.report.text import interval, number, plural
from antar.run import Run

REPLICATES = 200


@dataclass(frozen=True)
class Energy:
    """One side's shift at one layer in one language, in activation units; intervals by bootstrap over documents.

    whole:    sqrt(mean ‖Δ‖²) over held-out cultural texts
    cultural: ‖mean Δ of held-out cultural texts − mean Δ of held-out controls‖, less what noise adds; None without
              controls
    base:     sqrt(mean ‖x‖²) of base on the same texts
    """

    side: str
    layer: int
    language: str
    texts: int
    whole: float
    whole_ci: tuple[float, float]
    cultural: float | None
    cultural_ci: tuple[float, float] | None
    base: float


def energies(run: Run) -> list[Energy]:
    """The shift of every delta side, chat's first, at each layer and language. Empty without activations."""
    texts = run.texts
    found: list[Energy] = []
    for layer in run.layers_of("delta"):
        base_nd = run.activations("base", layer)
        shams = sorted(f"delta:{name}" for name in _shams(run) if layer in run.layers_of(f"delta:{name}"))
        for side in ["delta", *shams]:
            delta_nd = run.activations(side, layer)
            found += [
                _energy(side, layer, str(language), texts, base_nd, delta_nd)
                for language in sorted(texts["language"].unique())
            ]
    return [one for one in found if one.texts > 1]


def _shams(run: Run) -> list[str]:
    root = run.folder / "activations"
    return sorted({path.name.split(".")[0].removeprefix("sham-") for path in root.glob("sham-*.layer*")})


def _energy(
    side: str, layer: int, language: str, texts: pl.DataFrame, base_nd: np.ndarray, delta_nd: np.ndarray
) -> Energy:
    heldout = (pl.col("split") == "heldout") & (pl.col("language") == language)
    cultural = texts.select((heldout & (pl.col("group") == "cultural")).arg_true()).to_series().to_numpy()
    # Controls are only ever a reference here, so that those of the training split would do no harm; held-out ones
    # are taken all the same, as in the contrasts.
    control = texts.select((heldout & (pl.col("group") == "control")).arg_true()).to_series().to_numpy()
    if len(cultural) < 2:
        return Energy(side, layer, language, len(cultural), 0.0, (0.0, 0.0), None, None, 0.0)
    documents = texts["document"].to_numpy()
    rng = numpy_rng(0, "report", "energy", side, layer, language)
    ours = _by_document(delta_nd, cultural, documents)
    draws_rg = _draws(len(ours.counts), rng)
    whole_r = np.sqrt(draws_rg @ ours.squares / (draws_rg @ ours.counts))
    whole = float(np.sqrt(ours.squares.sum() / ours.counts.sum()))
    base = float(np.sqrt(np.square(base_nd[cultural].astype(np.float64)).sum(axis=1).mean()))
    distance, ends = None, None
    if len(ours.counts) > 1 and len(np.unique(documents[control])) > 1:
        distance, ends = _distance(ours, _by_document(delta_nd, control, documents), draws_rg, rng)
    return Energy(side, layer, language, len(cultural), whole, _ends(whole_r), distance, ends, base)


def _distance(
    ours: _Documents, theirs: _Documents, draws_rg: np.ndarray, rng: np.random.Generator
) -> tuple[float, tuple[float, float]]:
    """‖mean of ours − mean of theirs‖ without what noise adds to it, and its interval.

    A squared norm of a mean overstates by the trace of the mean's covariance (V, over documents), and a bootstrap
    replicate of it by V once more. Both are taken off, or a noisy side would seem to have moved further.
    """
    noise = ours.mean_variance + theirs.mean_variance
    found = float(np.square(ours.mean - theirs.mean).sum()) - noise
    other_rg = _draws(len(theirs.counts), rng)
    moved_rd = ours.means(draws_rg) - theirs.means(other_rg)
    squares_r = np.square(moved_rd).sum(axis=1) - 2 * noise
    return float(np.sqrt(max(found, 0.0))), _ends(np.sqrt(np.maximum(squares_r, 0.0)))


@dataclass(frozen=True)
class _Documents:
    """Sums over the texts of each document: counts `[g]`, vectors `[g, d]`, squared norms `[g]`."""

    counts: np.ndarray
    sums: np.ndarray
    squares: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """`[d]`"""
        return self.sums.sum(axis=0) / self.counts.sum()

    @property
    def mean_variance(self) -> float:
        """Trace of the covariance of `mean`, documents being what varies (Liang & Zeger 1986, times g / (g − 1))."""
        g = len(self.counts)
        residuals = self.sums - self.counts[:, None] * self.mean
        return float(np.square(residuals).sum() / self.counts.sum() ** 2 * g / (g - 1))

    def means(self, draws_rg: np.ndarray) -> np.ndarray:
        """`[r, d]`: the mean under each draw of documents."""
        return draws_rg @ self.sums / (draws_rg @ self.counts)[:, None]


def _by_document(delta_nd: np.ndarray, rows: np.ndarray, documents: np.ndarray) -> _Documents:
    _, place = np.unique(documents[rows], return_inverse=True)
    chosen_nd = delta_nd[rows].astype(np.float64)
    sums = np.zeros((int(place.max()) + 1, delta_nd.shape[1]))
    np.add.at(sums, place, chosen_nd)
    return _Documents(np.bincount(place).astype(float), sums, np.bincount(place, np.square(chosen_nd).sum(axis=1)))


def _draws(n: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of `n` documents is drawn, `[REPLICATES, n]`."""
    return rng.multinomial(n, np.full(n, 1 / n), size=REPLICATES).astype(np.float64)


def _ends(values_r: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values_r, [0.025, 0.975])
    return float(low), float(high)


# -- on the page ------------------------------------------------------------------------------------------------


def energy_section(run: Run) -> Section:
    title = "How large the shift is"
    try:
        found = energies(run) if run.has("activations") and run.has("corpus/texts.parquet") else []
    except UserError:
        found = []
    if not found:
        return Section(
            "energy", title, [Paragraph("The activations are not in this run, so the shift was not measured.")]
        )
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
        Figures([_plot(found, language) for language in dict.fromkeys(one.language for one in found)]),
        _table(found, shams),
    ]
    return Section("energy", title, blocks)


def _answer(found: list[Energy], shams: list[str]) -> str:
    if not shams:
        return "This study has no sham, so it cannot say how much of the shift is what any further training would do."
    by = {(one.side, one.layer, one.language): one for one in found}
    above, compared = 0, 0
    for one in found:
        others = [by[sham, one.layer, one.language] for sham in shams if (sham, one.layer, one.language) in by]
        if one.side != "delta" or one.cultural_ci is None or not others:
            continue
        compared += 1
        above += all(other.cultural_ci is not None and one.cultural_ci[0] > other.cultural_ci[1] for other in others)
    return (
        f"The cultural shift stands above every sham's, interval against interval, at {above} of "
        f"{plural(compared, 'layer and language', 'layers and languages')}."
    )


def _table(found: list[Energy], shams: list[str]) -> Table:
    by = {(one.side, one.layer, one.language): one for one in found}
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
    for one in found:
        if one.side != "delta":
            continue
        others = [by.get((sham, one.layer, one.language)) for sham in shams]
        cells: list[Cell] = [_value(one.cultural, one.cultural_ci)]
        cells += [_value(o.cultural, o.cultural_ci) if o else number(None) for o in others]
        cells.append(_ratio(one, [o for o in others if o is not None]))
        cells.append(_value(one.whole, one.whole_ci))
        cells += [_value(o.whole, o.whole_ci) if o else number(None) for o in others]
        rows.append(Row(f"layer {one.layer}, {one.language}", [*cells, number(one.base), number(one.texts)]))
    return Table(
        "Shift in activation units on held-out texts, with 95% intervals by bootstrap over documents", columns, rows,
        "Norms, not squares. What noise adds to the norm of a mean is taken off; a shift no larger than noise is 0."
    )  # fmt: skip


def _value(value: float | None, ends: tuple[float, float] | None) -> Value:
    return Value(number(value), interval(ends))


def _ratio(one: Energy, others: list[Energy]) -> str:
    largest = max((other.cultural for other in others if other.cultural is not None), default=0.0)
    if one.cultural is None or not others:
        return number(None)
    return number(one.cultural / largest) if largest > 0 else "the sham's is 0"


def _plot(found: list[Energy], language: str) -> Plot:
    ours = [one for one in found if one.language == language]
    by_side: Mapping[str, list[Energy]] = {
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
                xs, centre, yerr=bars, color=COLOURS["sham" if null else "real"], marker="s" if null else "o",
                markersize=3.5, linestyle="--" if null else "-", linewidth=1.1, elinewidth=0.8,
                label=f"sham {side.split(':')[1]}" if null else "chat − base",
            )  # fmt: skip
        axes.set_xticks(sorted({one.layer for one in ours}))
        axes.margins(y=0.15)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("layer")
        axes.set_title(f"cultural shift ({language}), activation units")
        axes.grid(axis="y")
        legend_below(axes)

    told = "; ".join(
        f"{'sham ' + side.split(':')[1] if side != 'delta' else 'chat minus base'}: "
        + ", ".join(f"{number(one.cultural)} at layer {one.layer}" for one in ones)
        for side, ones in by_side.items()
    )
    safe = "".join(character for character in language.lower() if character.isascii() and character.isalnum())
    return Plot(
        f"energy-{safe or 'x'}", f"Cultural shift in {language} by layer. {told}.",
        f"Cultural shift in {language} at each layer, beside the shams; bars: 95% intervals.", draw,
    )  # fmt: skip


def _spacing(ours: list[Energy]) -> float:
    layers = sorted({one.layer for one in ours})
    return min((b - a for a, b in pairwise(layers)), default=1)
