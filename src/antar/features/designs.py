"""Who is compared with whom, and how the labels are shuffled.

A design belongs to one language and one half of the texts and is shared by every dictionary and side, so the same
shuffles serve them all. Documents are the units. Unpaired labels are shuffled within bins of text length, so that
what length alone explains is no evidence; a paired contrast swaps base and chat by document.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from antar.core.seeds import numpy_rng
from antar.corpora.schema import READING_OF


@dataclass(frozen=True)
class Design:
    """One language's part of a comparison.

    rows:       int64 `[n_texts of the design]`, rows of the texts
    unit:       int64, the unit of each of those texts
    unit_sizes: float64 `[n_units]`, texts in each unit
    labels:     int16 `[n_units, 1 + n_nulls + n_draws]`. Unpaired: the group of each unit, column 0 as observed.
                Paired: +1, or −1 where the two sides are swapped. Columns 1 … n_nulls are shuffles that are reported
                as a null of their own; the rest make the permutation distribution.
    n_groups:   how many groups the labels name (0 in a paired design)
    matched:    share of the texts in length bins that hold more than one group: outside them nothing can be shuffled
    readings:   rows that each text has in a group: 2 where both readings of a text are compared as one, else 1
    characters: int64 `[n_texts of the design]`, lengths; strata: strings of the same length, the facet within which
                groups are compared a second time (None: nowhere)
    """

    language: str
    rows: np.ndarray
    unit: np.ndarray
    unit_sizes: np.ndarray
    labels: np.ndarray
    n_groups: int
    matched: float
    characters: np.ndarray
    strata: np.ndarray | None = None
    readings: float = 1.0

    @property
    def n_units(self) -> int:
        return len(self.unit_sizes)


def unpaired_design(
    texts: pl.DataFrame, language: str, rows: np.ndarray, groups: np.ndarray, n_groups: int, bins: int,
    columns: tuple[int, int], seed: int, *stream: str, within: str | None = None
) -> Design:  # fmt: skip
    """Groups of texts in one language.

    rows:    int64 `[n]`, the texts; groups: int `[n]` in 0 … n_groups − 1
    bins:    quantile bins of length (characters of the text, averaged over a unit)
    columns: (null shuffles, draws); within: a facet; a text without a value of it is a stratum of its own kind

    A document with texts of several groups becomes one unit for each group. Their labels are then shuffled apart,
    which ignores that such units resemble each other and so errs on the safe side.
    """
    documents = texts["document"].gather(rows).rank("dense").to_numpy().astype(np.int64)
    _, unit = np.unique(documents * n_groups + groups, return_inverse=True)
    sizes = np.bincount(unit).astype(np.float64)
    lengths = lengths_of(texts, rows)
    observed = np.zeros(len(sizes), dtype=np.int16)
    observed[unit] = groups
    stratum = length_bins(np.bincount(unit, lengths) / sizes, bins)
    labels = np.empty((len(sizes), 1 + sum(columns)), dtype=np.int16)
    rng = numpy_rng(seed, *stream, language)
    mixed = 0.0
    for one in np.unique(stratum):
        members = np.flatnonzero(stratum == one)
        tiled = np.tile(observed[members], (sum(columns), 1))
        labels[members] = np.column_stack([observed[members], rng.permuted(tiled, axis=1).T])
        mixed += sizes[members].sum() if len(np.unique(observed[members])) > 1 else 0.0
    strata = None if within is None else texts[within].gather(rows).cast(pl.String).fill_null("").to_numpy()
    share, readings = mixed / max(sizes.sum(), 1.0), _readings(texts, rows, groups)
    return Design(language, rows, unit, sizes, labels, n_groups, share, lengths, strata, readings)


def paired_design(
    texts: pl.DataFrame, language: str, rows: np.ndarray, columns: tuple[int, int], seed: int, *stream: str
) -> Design:
    """The same texts on two sides; `columns` as in `unpaired_design`."""
    documents = texts["document"].gather(rows).rank("dense").to_numpy().astype(np.int64)
    _, unit = np.unique(documents, return_inverse=True)
    sizes = np.bincount(unit).astype(np.float64)
    rng = numpy_rng(seed, *stream, language)
    swaps = rng.integers(0, 2, (len(sizes), sum(columns)), dtype=np.int8) * 2 - 1
    labels = np.column_stack([np.ones(len(sizes), dtype=np.int16), swaps.astype(np.int16)])
    lengths = lengths_of(texts, rows)
    return Design(
        language, rows, unit, sizes, labels, 0, 1.0, lengths, readings=_readings(texts, rows, np.zeros_like(rows))
    )


def _readings(texts: pl.DataFrame, rows: np.ndarray, groups: np.ndarray) -> float:
    """Rows a text and group; 1 for no rows."""
    if READING_OF not in texts.columns or len(rows) == 0:
        return 1.0
    return len(rows) / pl.DataFrame({"text": texts[READING_OF].gather(rows), "group": groups}).n_unique()


def lengths_of(texts: pl.DataFrame, rows: np.ndarray) -> np.ndarray:
    """int64: characters of each text, from the column of that name where texts themselves are not at hand."""
    if "characters" in texts.columns:
        return texts["characters"].gather(rows).cast(pl.Int64).to_numpy()
    return texts["text"].gather(rows).str.len_chars().cast(pl.Int64).to_numpy()


def length_bins(lengths: np.ndarray, bins: int) -> np.ndarray:
    """The quantile bin (0 … bins − 1) of each length; equal lengths share a bin."""
    if len(lengths) == 0:
        return np.zeros(0, dtype=np.int64)
    edges = np.quantile(lengths, np.arange(1, bins) / bins)
    return np.searchsorted(edges, lengths, side="left")


def languages_of(texts: pl.DataFrame, rows: np.ndarray) -> Sequence[tuple[str, np.ndarray]]:
    """(language, its rows) for every language among `rows`, in alphabetical order."""
    language = texts["language"].gather(rows).to_numpy()
    return [(str(one), rows[language == one]) for one in sorted(set(language.tolist()))]
