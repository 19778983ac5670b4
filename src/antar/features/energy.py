"""How large a shift is, in activation units.

A dictionary on differences rescales any drift to unit variance, so its effect sizes say nothing about magnitude
(ORGANISM, finding 1). Energy does: the norm of the mean difference of some texts, centred within a language, and its
share of the mean activation norm. It needs no dictionary, and it stands beside the same number of each sham.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from antar.core.errors import UserError

SCHEMA = {"site": pl.String, "side": pl.String, "language": pl.String, "facet": pl.String, "value": pl.String,
          "energy": pl.Float64, "noise": pl.Float64, "share": pl.Float64, "n": pl.Int64}  # fmt: skip
GROUP = "group"


def shift_energy(
    delta_nd: np.ndarray, norms_n: np.ndarray, texts: pl.DataFrame, site: str, side: str,
    facets: Sequence[str] = (), rows: np.ndarray | None = None,
) -> pl.DataFrame:  # fmt: skip
    """Energy of a difference of activations, by language and over all of them.

    delta_nd: `[n_texts, d_model]`, one checkpoint minus base; norms_n: `[n_texts]`, norms of the base activations
    texts:    in row order, with `group`, `language`, `document` and the `facets`; rows: which texts to use (all)

    | facet | value | energy = norm of |
    |---|---|---|
    | group | control | the controls' mean difference: drift that has nothing to do with culture |
    | group | cultural | the cultural texts' mean difference minus the controls' |
    | a facet | a value | the mean difference of its cultural texts minus that of the other cultural texts |

    `noise` is the energy that sampling of documents alone gives (root of the expected squared norm if the two means
    were equal); `share` is energy over the mean of `norms_n` in the language; language "pooled" is the mean over the
    languages, `n` their sum. A value whose rest is empty has no row. A delta of zeros gives zeros.
    """
    if len(delta_nd) != texts.height or len(norms_n) != texts.height:
        raise UserError(
            f"energy of {site}: expected {texts.height} rows of activations, as many as texts, found {len(delta_nd)}"
        )
    chosen = np.arange(texts.height) if rows is None else np.arange(texts.height)[rows]
    records = [
        {"site": site, "side": side, "language": language, **record}
        for language in sorted(texts["language"].gather(chosen).unique().to_list())
        for record in _language_energy(delta_nd, norms_n, texts, facets,
                                       chosen[(texts["language"].gather(chosen) == language).to_numpy()])
    ]  # fmt: skip
    table = pl.DataFrame(records, schema=SCHEMA)
    pooled = table.group_by("site", "side", "facet", "value", maintain_order=True).agg(
        pl.lit("pooled").alias("language"), pl.col("energy", "noise", "share").mean(), pl.col("n").sum()
    )
    return pl.concat([table, pooled.select(table.columns)])


def _language_energy(
    delta_nd: np.ndarray, norms_n: np.ndarray, texts: pl.DataFrame, facets: Sequence[str], rows: np.ndarray
) -> Iterator[dict[str, object]]:
    scale = float(np.mean(norms_n[rows], dtype=np.float64))
    group = texts[GROUP].gather(rows).to_numpy()
    cultural, control = rows[group == "cultural"], rows[group == "control"]
    nothing = rows[:0]
    comparisons = [(GROUP, "control", control, nothing), (GROUP, "cultural", cultural, control)]
    for facet in facets:
        labels = texts[facet].gather(cultural).cast(pl.String)
        known = cultural[labels.is_not_null().to_numpy()]
        values = labels.drop_nulls().to_numpy()
        comparisons += [(facet, v, known[values == v], known[values != v]) for v in sorted(set(values.tolist()))]
    for facet, value, these, others in comparisons:
        if len(these) == 0 or (len(others) == 0 and value != "control"):
            continue
        mean, noise = _mean_and_noise(delta_nd, texts, these)
        if len(others):
            other_mean, other_noise = _mean_and_noise(delta_nd, texts, others)
            mean, noise = mean - other_mean, noise + other_noise
        energy = float(np.linalg.norm(mean))
        share = energy / scale if scale > 0 else 0.0
        yield {"facet": facet, "value": value, "energy": energy, "noise": float(np.sqrt(noise)), "share": share,
               "n": len(these)}  # fmt: skip


def _mean_and_noise(delta_nd: np.ndarray, texts: pl.DataFrame, rows: np.ndarray) -> tuple[np.ndarray, float]:
    """Mean `[d_model]` and its expected squared error, documents as clusters (0 for a single document)."""
    values = delta_nd[rows].astype(np.float64)
    mean = values.mean(axis=0)
    unit = texts["document"].gather(rows).rank("dense").to_numpy().astype(np.int64) - 1
    n_units = int(unit.max()) + 1
    if n_units < 2:
        return mean, 0.0
    order = np.argsort(unit, kind="stable")
    starts = np.searchsorted(unit[order], np.arange(n_units))
    sums = np.add.reduceat(values[order] - mean, starts, axis=0)
    return mean, float(np.sum(sums**2)) / len(rows) ** 2 * n_units / (n_units - 1)


def with_energy(contrasts: pl.DataFrame, energy: pl.DataFrame) -> pl.DataFrame:
    """The table of contrasts with the energy of the shift that each row is about, and the largest sham's beside it.

    contrasts: with `contrast`, `dictionary`, `side_b`, `facet`, `value` and `language`; energy: of `shift_energy`
    Adds `energy_share` and `energy_share_sham`, shares of the mean activation norm: of a facet row, its value's
    energy; of another, the cultural texts' (centred on the controls'). Null for rows that compare no two checkpoints
    (culture and facets of a dictionary that is not one of differences) and, the second, without a sham.
    """
    layer = pl.col("dictionary").str.extract(r"\.layer(\d+)").cast(pl.Int64)
    trained_on = pl.col("dictionary").str.extract(r"^([a-z]+(?::[a-z0-9]+)?)")
    changed_side = (
        pl.when(trained_on.str.starts_with("delta"))
        .then(trained_on)
        .when(pl.col("contrast").is_in(["shift", "interaction"]) & (pl.col("side_b") == "chat"))
        .then(pl.lit("delta"))
        .when(pl.col("contrast").is_in(["shift", "interaction"]) & pl.col("side_b").str.starts_with("sham:"))
        .then(pl.col("side_b").str.replace("sham:", "delta:", literal=True))
    )
    is_facet = pl.col("contrast") == "facet"
    keys = ["_layer", "_facet", "_value", "language"]
    rows = contrasts.with_columns(
        _layer=layer,
        _side=changed_side,
        _facet=pl.when(is_facet).then(pl.col("facet")).otherwise(pl.lit(GROUP)),
        _value=pl.when(is_facet).then(pl.col("value")).otherwise(pl.lit("cultural")),
    )
    shares = energy.select(
        pl.col("site").str.extract(r"\.layer(\d+)").cast(pl.Int64).alias("_layer"),
        pl.col("side").alias("_side"), pl.col("facet").alias("_facet"), pl.col("value").alias("_value"), "language",
        pl.col("share").alias("energy_share"),
    )  # fmt: skip
    shams = shares.filter(pl.col("_side").str.starts_with("delta:")).group_by(keys).agg(
        pl.col("energy_share").max().alias("energy_share_sham")
    )  # fmt: skip
    found = rows.join(shares, on=["_side", *keys], how="left", maintain_order="left")
    found = found.join(shams, on=keys, how="left", maintain_order="left")
    about_a_change = pl.col("_side").is_not_null()
    return found.with_columns(
        energy_share_sham=pl.when(about_a_change).then(pl.col("energy_share_sham"))
    ).drop("_layer", "_side", "_facet", "_value")  # fmt: skip
