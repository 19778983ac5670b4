"""The mean difference as one direction: what a label tells about activations without any dictionary.

The simplest reading of a difference between two groups of texts is the vector between their means. On one model's
activations it is the difference-in-means direction, which Marks & Tegmark 2023 (*The Geometry of Truth*) find to
generalise as well as trained probes. On a delta it is near kin to the activation difference lens (Minder et al. 2025,
*Narrow Finetuning Leaves Clearly Readable Traces in Activation Differences*), which reads the mean delta itself, at
the first tokens of unrelated texts; here it is cultural texts' mean delta minus the controls', of whole texts. A
feature that separates the groups no better than this direction has found nothing that a mean did not show, so the
best one is held against it (`beyond.py`).

The direction comes from one half of the documents (`select`) and is measured on the other (`estimate`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from antar.core.errors import UserError
from antar.features.cells import Entries
from antar.features.comparisons import POOLED, group_cells
from antar.features.config import ContrastConfig
from antar.features.designs import Design, languages_of, unpaired_design
from antar.features.examples import contrast_rows
from antar.features.statistics import Stratum, moments, unpaired_effects

CHUNK_ROWS = 4096
TARGETS = np.array([1])
SCHEMA = {"language": pl.String, "null": pl.String, "n_a": pl.Int64, "n_b": pl.Int64, "norm": pl.Float64,
          "cosine": pl.Float64, "share": pl.Float64, "d_av": pl.Float64, "d_lo": pl.Float64, "d_hi": pl.Float64,
          "auroc": pl.Float64}  # fmt: skip

Halves = Mapping[str, Sequence[Design]]
"""`select` and `estimate` → one design a language (group 0: control, 1: cultural), the same languages in both."""


@dataclass(frozen=True)
class MeanDifference:
    """Cultural minus control texts of one half.

    by_language: language → float64 `[d_model]`, for the languages that have both groups
    pooled:      float64 `[d_model]`, their mean with weights n_a n_b / (n_a + n_b), as pooled contrasts have them
    """

    by_language: Mapping[str, np.ndarray]
    pooled: np.ndarray


def culture_designs(texts: pl.DataFrame, config: ContrastConfig, seed: int) -> dict[str, list[Design]]:
    """Control against cultural texts, as the culture contrast takes them; labels column 1 is shuffled by document."""
    cultural = (texts["group"] == "cultural").to_numpy().astype(np.int64)
    half = texts["half"].to_numpy()
    stream = (config.stream, "mean difference")
    return {
        name: [
            unpaired_design(texts, language, rows, cultural[rows], 2, config.length_bins, (1, 0), seed, *stream, name)
            for language, its in languages_of(texts, np.flatnonzero(contrast_rows(texts)))
            for rows in [its[half[its] == name]]
        ]
        for name in ("select", "estimate")
    }


def mean_difference(acts_nd: np.ndarray, designs: Sequence[Design], column: int = 0) -> MeanDifference:
    """The mean of group 1 minus that of group 0 in each design, and pooled over them.

    acts_nd: `[n_texts, d_model]`; column: of the designs' labels (0 as observed). A language in which a group has no
    text is left out; where all are, the pooled difference is zeros.
    """
    found: dict[str, np.ndarray] = {}
    total, weights = np.zeros(acts_nd.shape[1]), 0.0
    for design in designs:
        labels = design.labels[design.unit, column]
        n_a, n_b = int((labels == 0).sum()), int((labels == 1).sum())
        if n_a == 0 or n_b == 0:
            continue
        means = [acts_nd[design.rows[labels == group]].mean(axis=0, dtype=np.float64) for group in (0, 1)]
        found[design.language] = means[1] - means[0]
        weight = n_a * n_b / (n_a + n_b)
        total, weights = total + weight * found[design.language], weights + weight
    return MeanDifference(found, total / weights if weights else total)


def mean_difference_effects(
    acts_nd: np.ndarray, halves: Halves, sd_floor: float = 0.0, shuffled: bool = True
) -> pl.DataFrame:
    """How well the select half's mean difference separates the estimate half's texts: rows of `SCHEMA`.

    acts_nd:  `[n_texts, d_model]`; halves: as `culture_designs` gives them
    sd_floor: in activation units; projections whose standard deviation is at or under it are float jitter, d = 0
    shuffled: add rows of null `shuffled`: labels shuffled by document in both halves, the same steps

    One row a language, in which its own vector is measured, and one for `pooled`, in which the pooled vector is
    measured with the languages as strata. `norm` is the vector's, `cosine` that with the mean difference of the
    estimate half, and `share` = cosine² the part of that one's squared norm that the vector explains (null where one
    of the two is zero). d_av, its interval (documents are clusters) and AUROC are those of a contrast of the
    projections ⟨x, v⟩/‖v‖. Raises UserError where the two halves do not list the same languages.
    """
    languages = [[design.language for design in halves[half]] for half in ("select", "estimate")]
    if languages[0] != languages[1]:
        raise UserError(f"mean difference: expected the same languages in both halves, found {languages}")
    rows: list[dict[str, object]] = []
    for column, null in enumerate(("", "shuffled") if shuffled else ("",)):
        chosen, heldout = (mean_difference(acts_nd, halves[half], column) for half in ("select", "estimate"))
        for place, vector, other, designs in _places(chosen, heldout, halves["estimate"]):
            measured = _measured(acts_nd, vector, designs, column, sd_floor)
            rows.append({"language": place, "null": null, **_lengths(vector, other), **measured})
    return pl.DataFrame(rows, schema=SCHEMA).with_columns(pl.selectors.float().fill_nan(None))


def _places(
    chosen: MeanDifference, heldout: MeanDifference, designs: Sequence[Design]
) -> Iterator[tuple[str, np.ndarray, np.ndarray, list[Design]]]:
    """(language, vector, its held-out twin, the designs to measure it in); pooled comes last."""
    there = [one for one in designs if one.language in chosen.by_language and one.language in heldout.by_language]
    for one in there:
        yield one.language, chosen.by_language[one.language], heldout.by_language[one.language], [one]
    if there:
        yield POOLED, chosen.pooled, heldout.pooled, there


def _lengths(vector: np.ndarray, other: np.ndarray) -> dict[str, float | None]:
    norm, length = float(np.linalg.norm(vector)), float(np.linalg.norm(other))
    if norm == 0 or length == 0:
        return {"norm": norm, "cosine": None, "share": None}
    cosine = float(vector @ other) / (norm * length)
    return {"norm": norm, "cosine": cosine, "share": cosine**2}


def _measured(
    acts_nd: np.ndarray, vector: np.ndarray, designs: Sequence[Design], column: int, sd_floor: float
) -> dict[str, float]:
    norm = float(np.linalg.norm(vector))
    unit = vector / norm if norm > 0 else vector
    strata = [_stratum(project(acts_nd, one.rows, unit), one, column) for one in designs]
    effects = unpaired_effects(strata, sd_floor)
    sizes = {f"n_{side}": int(sum(getattr(one, side).n[0] for one in strata)) for side in ("a", "b")}
    return sizes | {name: float(effects[name][0, 0]) for name in ("d_av", "d_lo", "d_hi", "auroc")}


def project(acts_nd: np.ndarray, rows: np.ndarray, unit_d: np.ndarray) -> np.ndarray:
    """⟨x, unit⟩ of the texts `rows`, float64 `[len(rows)]`, summed in fp64."""
    parts = [
        acts_nd[rows[lo : lo + CHUNK_ROWS]].astype(np.float64) @ unit_d for lo in range(0, len(rows), CHUNK_ROWS)
    ]
    return np.concatenate([*parts, np.empty(0)])


def _stratum(scores: np.ndarray, design: Design, column: int) -> Stratum:
    """A dense score as a contrast takes a feature: one latent that every text has a value of."""
    n = len(scores)
    entries = Entries(np.zeros(n, np.int64), np.arange(n), np.zeros(n), scores)
    cells, zero_rank = group_cells(entries, design, 1)
    groups = moments(cells, design.unit_sizes, design.labels[:, column].astype(np.int64), design.n_groups)
    return Stratum(groups.rest(TARGETS), groups.take(TARGETS), zero_rank)
