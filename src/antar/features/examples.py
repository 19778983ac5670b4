"""The texts that fire a feature most, and one row of facts for each feature.

The top texts are found exactly, in one pass over the codes as they are stored: each latent keeps a short sorted list,
and a firing that does not exceed the last of a full list costs one comparison. That pass is compiled (Numba). Without
Numba the same result comes from the column-compressed codes, one partition a latent, in over ten times the time and
five times the codes' memory (benchmarks/top_examples.py).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from antar.core.jit import have_numba
from antar.core.sites import DictionaryId, feature_id
from antar.core.sparse import SparseCodes
from antar.corpora.schema import MASKED_OF
from antar.features.config import FeatureConfig
from antar.features.readings import first_readings, stronger_readings

POOLS = ("select", "estimate")
"""What a labeller may see, and what validates: the two halves of the documents."""


_EXAMPLE_COLUMNS = {"feature": pl.String, "dictionary": pl.String, "latent": pl.Int64, "rank": pl.Int64,
                    "row": pl.Int64, "text_id": pl.String, "activation": pl.Float32, "pool": pl.String}  # fmt: skip


def top_examples(
    codes: SparseCodes, n: int = 20, rows: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The `n` strongest texts of each latent: `(latents, ranks, rows, values)`, one entry an example.

    Sorted by latent, then rank (0-based). Only firings count, so a latent that fires on fewer than `n` texts has
    fewer examples. Ties go to the earlier row. `rows` (index or boolean `[n_texts]`) restricts the texts; the rows
    that come back still index `codes`.
    """
    if n < 1:
        raise ValueError(f"n: expected at least one example a latent, found {n}")
    all_rows = np.arange(len(codes), dtype=np.int64)
    kept = all_rows if rows is None else np.sort(all_rows[rows])
    counts, chosen_rows, chosen_values = (_compiled_top if have_numba() else _numpy_top)(codes, n, kept)
    latents = np.repeat(np.arange(codes.n_latents), counts)
    ranks = np.arange(len(chosen_rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return latents, ranks, chosen_rows, chosen_values


def _compiled_top(codes: SparseCodes, n: int, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(counts, rows, values): how many examples each latent has, and those, latent by latent. kept: ascending."""
    from antar.features.kernels import keep_strongest

    n = min(n, max(len(kept), 1))
    best_values_ln = np.empty((codes.n_latents, n), dtype=np.float32)
    best_rows_ln = np.empty((codes.n_latents, n), dtype=np.int64)
    counts = np.zeros(codes.n_latents, dtype=np.int64)
    bar_l = np.zeros(codes.n_latents, dtype=np.float32)
    if not keep_strongest(codes.indices_nk, codes.values_nk, kept, best_values_ln, best_rows_ln, counts, bar_l):
        raise ValueError(f"codes: expected latents from 0 to {codes.n_latents - 1}, found another")
    filled = np.arange(n) < counts[:, None]
    return counts, best_rows_ln[filled], best_values_ln[filled]


def _numpy_top(codes: SparseCodes, n: int, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `_compiled_top` gives, without Numba: its fallback, and its twin in the tests.

    A firing and its row are packed into one integer, so that one partition of a column finds the strongest texts with
    ties broken by row. Memory is that of the codes.
    """
    matrix = codes.rows(kept).csc()
    values = np.asarray(matrix.data, dtype=np.float32)
    # Positive floats sort as their bits do; inverted, the smallest key is the strongest, earliest text.
    strength = ~values.view(np.uint32)
    keys = (strength.astype(np.uint64) << np.uint64(32)) | kept[matrix.indices].astype(np.uint64)
    best: list[np.ndarray] = []
    for lo, hi in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        column = keys[lo:hi]
        best.append(np.sort(column if hi - lo <= n else np.partition(column, n - 1)[:n]))
    counts = np.array([len(column) for column in best], dtype=np.int64)
    chosen = np.concatenate([*best, np.empty(0, np.uint64)])
    chosen_values = (~(chosen >> np.uint64(32)).astype(np.uint32)).view(np.float32)
    return counts, (chosen & np.uint64(0xFFFFFFFF)).astype(np.int64), chosen_values


def examples_frame(dictionary: DictionaryId, codes: SparseCodes, texts: pl.DataFrame, n: int = 20) -> pl.DataFrame:
    """The rows of `examples.parquet` for one dictionary: the top `n` texts of each latent in each pool.

    texts: in row order, with `text_id`, `half` ("select" | "estimate", by document), `group` and `split`. The pool
    `estimate` judges, so it holds only texts that no dictionary was trained on. Neither holds a cross-check's texts.
    Of a text that is read twice the stronger reading alone is an example.
    """
    codes = stronger_readings(codes, first_readings(texts))
    half = texts["half"].to_numpy()
    text_ids = texts["text_id"]
    names = pl.Series([feature_id(dictionary, latent) for latent in range(codes.n_latents)], dtype=pl.String)
    frames: list[pl.DataFrame] = []
    for pool in POOLS:
        allowed = ~crosscheck_rows(texts) if pool == "select" else contrast_rows(texts)
        chosen = (half == pool) & allowed
        latents, ranks, rows, values = top_examples(codes, n, np.flatnonzero(chosen))
        frames.append(
            pl.DataFrame(
                {
                    "feature": names.gather(latents),
                    "dictionary": [str(dictionary)] * len(latents),
                    "latent": latents.astype(np.int64),
                    "rank": ranks.astype(np.int64),
                    "row": rows,
                    "text_id": text_ids.gather(rows),
                    "activation": values,
                    "pool": [pool] * len(latents),
                },
                schema=_EXAMPLE_COLUMNS,
            )
        )
    return pl.concat(frames)


def live_latents(
    codes: SparseCodes, train_rows: np.ndarray, config: FeatureConfig, rows: np.ndarray | None = None
) -> np.ndarray:
    """bool `[n_latents]`: which latents are live by the study's rule (`features.live_on`, `.live_texts`).

    rows: the texts that "any text" means, by default all (index or boolean array)
    """
    if config.live_on == "train":
        codes = codes.rows(train_rows)
    elif rows is not None:
        codes = codes.rows(rows)
    return codes.firing_counts() >= config.live_texts


def contrast_rows(texts: pl.DataFrame) -> np.ndarray:
    """bool `[n_texts]`: the texts that contrasts may use: held-out cultural texts, and controls not trained on.

    The published preset trains on cultural texts only, so there its controls are all unseen, whatever split name
    they carry; where controls are trained on too, those of the training split stay out.
    """
    group, split = texts["group"].to_numpy(), texts["split"].to_numpy()
    return np.where(group == "cultural", split == "heldout", (split != "train") & (split != "crosscheck"))


def crosscheck_rows(texts: pl.DataFrame) -> np.ndarray:
    """bool `[n_texts]`: the texts of a cross-check, masked copies too. They are in no contrast but their own facets',
    in no example, and decide nothing about which features live."""
    return (texts["split"] == "crosscheck").to_numpy()


def facet_rows(texts: pl.DataFrame, column: str) -> np.ndarray:
    """bool `[n_texts]`: the texts that the `facet` contrast of `column` compares: cultural ones that have a value.

    They are the contrasts' own texts. A column that only a cross-check has (DOSA's `state`) is measured among the
    cross-check's texts, without the masked copies.
    """
    valued = ((texts["group"] == "cultural") & texts[column].is_not_null()).to_numpy()
    own = valued & contrast_rows(texts)
    if (valued & ~crosscheck_rows(texts)).any():
        return own
    copies = texts[MASKED_OF].is_not_null().to_numpy() if MASKED_OF in texts.columns else np.zeros(len(valued), bool)
    return valued & crosscheck_rows(texts) & ~copies


def features_frame(
    dictionary: DictionaryId,
    codes: SparseCodes,
    texts: pl.DataFrame,
    train_rows: np.ndarray | None = None,
    config: FeatureConfig | None = None,
) -> pl.DataFrame:
    """The rows of `features.parquet` for one dictionary: one for each latent, dead ones too.

    codes: of all texts at the dictionary's own side, in the order of `texts`
    train_rows: index or boolean array of the texts that the dictionary was trained on; by default the train split
    Rates are shares of texts; a rate over no texts at all is null, as are `mean_active` and `max_active` of a latent
    that never fires. A cross-check's texts are not counted anywhere.
    """
    trained = texts["split"].to_numpy() == "train" if train_rows is None else train_rows
    unseen, own = contrast_rows(texts), ~crosscheck_rows(texts)
    group = texts["group"].to_numpy()
    largest = np.zeros(codes.n_latents, dtype=np.float32)
    fired = (codes.values_nk > 0) & own[:, None]
    total = np.bincount(codes.indices_nk[fired], codes.values_nk[fired], minlength=codes.n_latents)
    np.maximum.at(largest, codes.indices_nk[fired], codes.values_nk[fired])
    counts = np.bincount(codes.indices_nk[fired], minlength=codes.n_latents)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_active = total / counts
    n = codes.n_latents
    return pl.DataFrame(
        {
            "feature": [feature_id(dictionary, latent) for latent in range(n)],
            "dictionary": [str(dictionary)] * n,
            "trained_on": [dictionary.trained_on] * n,
            "layer": np.full(n, dictionary.layer, dtype=np.int64),
            "latent": np.arange(n, dtype=np.int64),
            "live": live_latents(codes, trained, config or FeatureConfig(), own),
            "firing_rate": _rate(codes, own),
            "firing_rate_train": _rate(codes, trained),
            "firing_rate_cultural": _rate(codes, unseen & (group == "cultural")),
            "firing_rate_control": _rate(codes, unseen & (group == "control")),
            "mean_active": mean_active,
            "max_active": np.where(counts > 0, largest.astype(np.float64), np.nan),
        }
    ).with_columns(pl.selectors.float().fill_nan(None))


def _rate(codes: SparseCodes, rows: np.ndarray) -> np.ndarray:
    """Share of the chosen texts that fire each latent, `[n_latents]`; NaN over no texts."""
    chosen = codes.rows(rows)
    return chosen.firing_counts() / len(chosen) if len(chosen) else np.full(codes.n_latents, np.nan)
