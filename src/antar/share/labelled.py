"""Features and contrasts as others read them: each row with its label, each number with its nulls in the same row."""

from __future__ import annotations

import polars as pl

from antar.core.errors import UserError
from antar.core.sites import DictionaryId
from antar.run import Run

LABELS = ("label", "category", "verdict")
_KEY = ("contrast", "dictionary", "facet", "value", "language", "latent")


def labels_of(run: Run) -> pl.DataFrame:
    """`feature, label, category, verdict` of every labelled feature; no rows where nothing was labelled."""
    schema = {"feature": pl.String, **dict.fromkeys(LABELS, pl.String)}
    if not run.has("interpret/labels.jsonl"):
        return pl.DataFrame(schema=schema)
    labels = run.labels.select("feature", "label", "category")
    if not run.has("interpret/verdicts.jsonl"):
        return labels.with_columns(pl.lit(None, pl.String).alias("verdict"))
    verdicts = run.verdicts.select("feature", "verdict").unique("feature", keep="last", maintain_order=True)
    return labels.join(verdicts, on="feature", how="left", maintain_order="left")


def features_of(run: Run, dictionary: DictionaryId | None = None) -> pl.DataFrame:
    """`run.features` with label, category, verdict and coherence; of one dictionary, or of all."""
    frame = _of(run.features, dictionary)
    coherence = run.coherence.select("feature", "coherence")
    for more in (labels_of(run), coherence):
        frame = frame.join(more, on="feature", how="left", maintain_order="left")
    return frame


def contrasts_of(run: Run, contrast: str | None = None, dictionary: DictionaryId | None = None) -> pl.DataFrame:
    """`run.contrasts`, a row an effect, with the feature's label and a column `d_av_null_<name>` for each null.

    An effect's nulls are the same latent's under shuffled groups and in the shams. What was measured on a null's own
    dictionary (a sham's delta) is a row of its own, whose `null` says of what. The strongest effects of a contrast
    come first, null dictionaries last. Raises UserError for a contrast that the run does not have.
    """
    every = _of(run.contrasts, dictionary)
    if contrast is not None and contrast not in (known := sorted(every["contrast"].unique())):
        raise UserError(
            f"--contrast: expected {' or '.join(known) or 'none, for there are none'}, found {contrast!r}"
        )
    if contrast is not None:
        every = every.filter(pl.col("contrast") == contrast)
    own = every.select(pl.col("dictionary").unique())["dictionary"]
    nulls = [one for one in own if DictionaryId.parse(one).is_null]
    rows = every.filter((pl.col("null") == "") | (pl.col("dictionary").is_in(nulls) & (pl.col("null") != "shuffled")))
    for name in sorted(set(every["null"].unique()) - {""}):
        # Shuffled groups are of the same sides; a sham, or base itself, stands in the place of one.
        key = (*_KEY, "side_a", "side_b") if name == "shuffled" else _KEY
        beside = every.filter((pl.col("null") == name) & ~pl.col("dictionary").is_in(nulls)).select(
            *key, pl.col("d_av").alias(f"d_av_null_{name}")
        )
        if beside.height:
            rows = rows.join(beside, on=key, how="left", nulls_equal=True, maintain_order="left", validate="m:1")
    rows = rows.join(labels_of(run), on="feature", how="left", maintain_order="left")
    order = [pl.col("contrast"), pl.col("dictionary").is_in(nulls), pl.col("d_av").abs().fill_nan(None)]
    return rows.sort(order, descending=[False, False, True], nulls_last=True, maintain_order=True)


def _of(frame: pl.DataFrame, dictionary: DictionaryId | None) -> pl.DataFrame:
    if dictionary is None:
        return frame
    found = frame.filter(pl.col("dictionary") == str(dictionary))
    if found.is_empty():
        known = ", ".join(sorted(frame["dictionary"].unique())[:8])
        raise UserError(f"--dictionary: expected one that the run has features of ({known}), found {dictionary}")
    return found
