"""Typed contrasts: which comparisons of codes mean something, and the long table of their effects.

| contrast | side a → side b or group a → group b | defined for |
|---|---|---|
| shift | base → chat, the same held-out cultural texts, paired | a dictionary that encodes both sides |
| culture | controls → cultural texts of the same language | any codes |
| interaction | that paired change, controls → cultural texts | as shift; on a delta dictionary it is `culture` |
| facet | the other cultural texts → those of one value, in one language | any codes |

A dictionary that was trained on differences has no base and chat codes to compare, so shift and interaction are not
defined on it; asking for one says what to ask for instead. Effects are estimated on one half of the documents
(`estimate`); the other half (`select`) gives its own effect, p and q, for choosing features without the winner's
curse. Every row has its null beside it: `shuffled` (labels or sides exchanged by document), `same_checkpoint`
(base against itself), `sham:<name>` (a checkpoint trained on with nothing to learn), `random_weights` (a model that
was never trained), and `pca`, `random` and `neurons`, the real contrast on a baseline's codes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import polars as pl

from antar.core.errors import UserError
from antar.core.progress import progress
from antar.core.sites import UNTRAINED, DictionaryId
from antar.core.sparse import CodeSource
from antar.features.comparisons import POOLED, Comparison, measure
from antar.features.config import ContrastConfig
from antar.features.designs import Design, languages_of, paired_design, unpaired_design
from antar.features.examples import contrast_rows, crosscheck_rows, facet_rows
from antar.features.multiple import benjamini_hochberg
from antar.features.permutation import max_p

CONTRASTS = ("shift", "culture", "interaction", "facet")
PAIRED = ("shift", "interaction")
COLUMNS = (
    "contrast", "dictionary", "side_a", "side_b", "facet", "value", "language", "latent", "feature", "null",
    "n_a", "n_b", "documents_a", "documents_b", "mean_a", "mean_b", "sd", "d_av", "d_lo", "d_hi", "hedges_g", "d_z",
    "auroc", "auroc_lo", "auroc_hi", "log_odds", "log_odds_lo", "log_odds_hi", "fire_a", "fire_b", "magnitude_a",
    "magnitude_b", "z", "p", "q", "p_max", "d_av_select", "p_select", "q_select", "d_partial", "partial_lo",
    "partial_hi", "d_within", "within_lo", "within_hi", "het_p", "language_auroc", "script_only", "few", "matched",
)  # fmt: skip
_STRINGS = ("contrast", "dictionary", "side_a", "side_b", "facet", "value", "language", "feature", "null")
_INTEGERS = ("latent", "n_a", "n_b", "documents_a", "documents_b")
SCHEMA = {
    name: pl.String if name in _STRINGS else pl.Int64 if name in _INTEGERS
    else pl.Boolean if name in ("few", "script_only") else pl.Float64
    for name in COLUMNS
}  # fmt: skip
"""The columns of `contrasts.parquet` and their types."""

CodeSets = Mapping[tuple[DictionaryId, str], CodeSource]
"""(dictionary, side) → codes of all texts. May load on access: each set is asked for once a contrast."""


def defined_contrasts(dictionary: DictionaryId, sides: set[str]) -> tuple[str, ...]:
    """The contrasts that are defined on `dictionary`, given the sides that it has encoded."""
    both = "base" in sides and any(side == "chat" or side.startswith("sham:") for side in sides)
    if dictionary.trained_on.startswith("delta") or not both:
        return ("culture", "facet")
    return CONTRASTS


def require_defined(contrast: str, dictionary: DictionaryId, sides: set[str]) -> None:
    """Raise a UserError that names the defined contrasts when `contrast` is not one of them."""
    defined = defined_contrasts(dictionary, sides)
    if contrast in defined:
        return
    if contrast not in CONTRASTS:
        raise UserError(f"contrast: expected one of {', '.join(CONTRASTS)}, found {contrast!r}")
    why = "one trained on differences" if dictionary.trained_on.startswith("delta") else f"codes of {sorted(sides)}"
    if dictionary.kind == "crosscoder":
        why = "a crosscoder's joint codes (its latent_scaling.parquet says how much of each latent is on each side)"
    instead = "culture (which there is the interaction)" if contrast == "interaction" else "culture"
    raise UserError(
        f"{contrast} on {dictionary}: expected a dictionary with codes of base and chat, found {why}; "
        f"ask there for {instead} or facet, or for {contrast} on a base or chat dictionary that encodes both sides"
    )


def measure_contrasts(
    texts: pl.DataFrame,
    codes: CodeSets,
    config: ContrastConfig | None = None,
    seed: int = 0,
    live: Mapping[DictionaryId, np.ndarray] | None = None,
) -> pl.DataFrame:
    """All contrasts of `config` on all sets of codes: the table with columns `COLUMNS`.

    texts: in row order, with the columns of `antar.corpora.schema` and the facet columns that `config` names
    live:  bool `[n_latents]` for each dictionary; without it, every latent that fires counts
    A latent that fires on no compared text of a language, in either half, has no row there: nothing was compared. A
    group too small
    for a standard error (one document) gives a row of nulls. `q` is Benjamini–Hochberg over all features,
    dictionaries, sides, values and languages of a contrast (its facet column, its null); pooled rows are a family of
    their own.

    Cost grows with firings × shuffles. Measured (benchmarks/results/contrasts.json): 40,000 texts × 9 sites × 8,192
    latents × k = 256, 1,000 shuffles, 168 s of CPU for culture, 42 s for shift and interaction of one pair of sides,
    2.3 GiB at the peak; without Numba the sums under shuffles take 7.6 times as long.
    """
    config = config or ContrastConfig()
    sides = sides_of(codes)
    _check_texts(texts)
    _check_defined_somewhere(config, sides)
    comparisons = {contrast: _comparisons(contrast, texts, config, seed) for contrast in _wanted(config)}
    jobs = jobs_of(codes, config)
    frames: list[pl.DataFrame] = []
    largest: dict[_Family, np.ndarray] = {}
    with progress("contrasts", len(jobs), "contrasts") as bar:
        for contrast, dictionary, side_a, side_b, null in jobs:
            bar.note(f"{contrast} {dictionary}")
            after = _checked(codes, dictionary, side_b, texts)
            before = _checked(codes, dictionary, side_a, texts) if contrast in PAIRED else None
            alive = np.ones(after.n_latents, dtype=bool) if live is None else live[dictionary]
            for comparison in comparisons[contrast]:
                frame, reached = measure(comparison, after, before, alive, config)
                frames.append(_named(frame, dictionary, side_a, side_b, null))
                if frame.height:
                    _keep_largest(largest, (contrast, comparison.facet, null), reached)
            bar.advance()
    table = pl.concat([frame for frame in frames if frame.height] or [pl.DataFrame(schema=SCHEMA)])
    return with_p_max(with_q_values(table), largest).select(pl.col(name).cast(SCHEMA[name]) for name in COLUMNS)


def _check_texts(texts: pl.DataFrame) -> None:
    needed = ("group", "language", "document", "split", "half")
    if missing := [name for name in needed if name not in texts.columns]:
        raise UserError(f"texts: expected the columns {', '.join(needed)}, found none called {', '.join(missing)}")
    for name in needed:
        if texts[name].null_count():
            raise UserError(f"texts: expected a {name} for each text, found {texts[name].null_count()} without one")
    if unknown := sorted(set(texts["half"].unique()) - {"select", "estimate"}):
        raise UserError(f"texts: expected half to be select or estimate, found {', '.join(map(str, unknown))}")
    if POOLED in set(texts["language"].unique()):
        raise UserError(
            f"texts: expected languages with names of their own, found {POOLED!r}, which names all of them"
        )


def _checked(codes: CodeSets, dictionary: DictionaryId, side: str, texts: pl.DataFrame) -> CodeSource:
    found = codes[dictionary, side]
    if len(found) != texts.height:
        raise UserError(f"codes of {dictionary}@{side}: expected {texts.height} texts, found {len(found)}")
    for first, part in found.parts():
        part.check(f"codes of {dictionary}@{side}", first)
    return found


_Family = tuple[str, str | None, str]
"""(contrast, facet, null); "" for the real rows, whose shuffles also serve the row that shows one of them."""


def _keep_largest(largest: dict[_Family, np.ndarray], family: _Family, reached: np.ndarray) -> None:
    """One shuffle relabels all dictionaries at once, so the largest |z| is taken over all of them."""
    largest[family] = np.maximum(largest[family], reached) if family in largest else reached


def with_p_max(table: pl.DataFrame, largest: Mapping[_Family, np.ndarray]) -> pl.DataFrame:
    """Add `p_max`: p adjusted for all tests of the family by the largest |z| (see `max_p`).

    largest: family → float `[2, n_draws]`, over the rows of single languages, and over the pooled rows
    """
    found = np.full(table.height, np.nan)
    z = table["z"].cast(pl.Float64).fill_null(float("nan")).to_numpy() if table.height else found
    pooled = (table["language"] == POOLED).to_numpy()
    keys = table.select("contrast", "facet", pl.col("null").replace("shuffled", "")).rows()
    place = {family: i for i, family in enumerate(largest)}
    family_of = np.array([place.get(key, -1) for key in keys], dtype=np.int64)
    for family, number in place.items():
        for row, its_place in enumerate((~pooled, pooled)):
            at = (family_of == number) & its_place
            found[at] = max_p(z[at], largest[family][row])
    return table.with_columns(p_max=pl.Series(found, dtype=pl.Float64).fill_nan(None))


def sides_of(codes: Iterable[tuple[DictionaryId, str]]) -> dict[DictionaryId, set[str]]:
    found: dict[DictionaryId, set[str]] = {}
    for dictionary, side in codes:
        found.setdefault(dictionary, set()).add(side)
    return found


def _wanted(config: ContrastConfig) -> list[str]:
    on = {"shift": config.shift, "culture": config.culture, "interaction": config.interaction, "facet": config.facets}
    return [contrast for contrast in CONTRASTS if on[contrast]]


def _check_defined_somewhere(config: ContrastConfig, sides: dict[DictionaryId, set[str]]) -> None:
    for contrast in _wanted(config):
        if sides and not any(contrast in defined_contrasts(one, its) for one, its in sides.items()):
            require_defined(contrast, *next(iter(sides.items())))


def jobs_of(
    codes: Iterable[tuple[DictionaryId, str]], config: ContrastConfig
) -> list[tuple[str, DictionaryId, str, str, str]]:
    """(contrast, dictionary, side a, side b, null) of everything that is measured on these (dictionary, side)."""
    sides = sides_of(codes)
    return [(contrast, *job) for contrast in _wanted(config) for job in _jobs(contrast, sides, config)]


def _jobs(
    contrast: str, sides: dict[DictionaryId, set[str]], config: ContrastConfig
) -> Iterator[tuple[DictionaryId, str, str, str]]:
    """(dictionary, side a, side b, null) of everything that `contrast` is measured on."""
    for dictionary, its in sides.items():
        if contrast not in defined_contrasts(dictionary, its):
            continue
        if contrast == "facet" and dictionary.is_baseline:
            continue  # every value of every facet on every baseline: dear, and no finding is judged by it
        if contrast not in PAIRED:
            yield from ((dictionary, side, side, null_of(dictionary, side)) for side in sorted(its))
            continue
        others = sorted(side for side in its if side == "chat" or side.startswith("sham:"))
        yield from ((dictionary, "base", side, null_of(dictionary, side)) for side in others)
        if "same_checkpoint" in config.nulls and not dictionary.is_baseline:
            yield dictionary, "base", "base", "same_checkpoint"


def null_of(dictionary: DictionaryId, side: str) -> str:
    """A baseline's kind; `random_weights` on a model that was never trained; `sham:<name>` when the dictionary or the
    side belongs to a sham; else ""."""
    if dictionary.is_baseline:
        return str(dictionary.kind)
    if dictionary.trained_on == UNTRAINED:
        return "random_weights"
    for name in (side, dictionary.trained_on):
        if name.startswith(("sham:", "delta:")):
            return "sham:" + name.split(":", 1)[1]
    return ""


def _named(frame: pl.DataFrame, dictionary: DictionaryId, side_a: str, side_b: str, null: str) -> pl.DataFrame:
    if frame.is_empty():
        return frame
    if null:  # a null's own shuffles would be a null of a null
        frame = frame.filter(pl.col("null") == "").with_columns(null=pl.lit(null))
    return frame.with_columns(
        dictionary=pl.lit(str(dictionary)),
        side_a=pl.lit(side_a),
        side_b=pl.lit(side_b),
        feature=pl.lit(f"{dictionary}/") + pl.col("latent").cast(pl.String),
    )


def with_q_values(table: pl.DataFrame) -> pl.DataFrame:
    """Add `q` (of `p`) and `q_select` (of `p_select`) by family: contrast, facet column, null, pooled or not."""
    if table.is_empty():
        return table.with_columns(q=pl.lit(None, pl.Float64), q_select=pl.lit(None, pl.Float64))
    family = pl.struct("contrast", "facet", "null", pl.col("language") == POOLED).rank("dense")
    groups = table.select(family.alias("family"))["family"].to_numpy()
    found = {name: np.full(table.height, np.nan) for name in ("p", "p_select")}
    for name, q in found.items():
        p = table[name].cast(pl.Float64).to_numpy()
        for group in np.unique(groups):
            q[groups == group] = benjamini_hochberg(p[groups == group])
    return table.with_columns(
        q=pl.Series(found["p"]).fill_nan(None), q_select=pl.Series(found["p_select"]).fill_nan(None)
    )


def check_within(config: ContrastConfig, texts: pl.DataFrame) -> None:
    """Raise a UserError where `within` is no column of `texts`."""
    if config.within is not None and config.within not in texts.columns:
        raise UserError(f"contrasts.within: expected a column of the texts, found {config.within!r}; one of "
                        f"{', '.join(texts.columns)}")  # fmt: skip


def _comparisons(contrast: str, texts: pl.DataFrame, config: ContrastConfig, seed: int) -> list[Comparison]:
    check_within(config, texts)
    if contrast == "facet":
        return [one for facet in config.facets for one in _facet_comparison(facet, texts, config, seed)]
    cultural = (texts["group"] == "cultural").to_numpy()
    rows = np.flatnonzero(contrast_rows(texts) & (cultural if contrast == "shift" else True))
    nulls = _nulls(config)
    columns = (len(nulls) - 1, config.permutations)
    if contrast == "shift":

        def paired(half: str, language: str, its: np.ndarray) -> Design:
            return paired_design(texts, language, its, columns, seed, config.stream, contrast, half)

        return [Comparison(contrast, None, (None,), np.array([0]), _by_half(texts, rows, paired), nulls)]

    def unpaired(half: str, language: str, its: np.ndarray) -> Design:
        groups = cultural[its].astype(np.int64)
        stream = (config.stream, "culture", half)  # the interaction shuffles the same labels
        return unpaired_design(
            texts, language, its, groups, 2, config.length_bins, columns, seed, *stream, within=config.within
        )

    if cultural[rows].all() or not cultural[rows].any():
        raise UserError(
            f"{contrast}: expected held-out cultural texts and controls outside the training split, found only "
            f"{'cultural texts' if len(rows) and cultural[rows].all() else 'controls'}; change the corpus's splits"
        )
    return [Comparison(contrast, None, (None,), np.array([1]), _by_half(texts, rows, unpaired), nulls)]


def _facet_comparison(facet: str, texts: pl.DataFrame, config: ContrastConfig, seed: int) -> Iterator[Comparison]:
    if facet not in texts.columns:
        raise UserError(f"contrasts.facets: expected a column of the texts, found {facet!r}; one of {texts.columns}")
    rows = np.flatnonzero(facet_rows(texts, facet))
    values = sorted(texts[facet].gather(rows).cast(pl.String).unique().to_list())
    if len(values) < 2:
        return
    labels = texts[facet].cast(pl.String).replace_strict(values, list(range(len(values))), default=-1).to_numpy()
    nulls = _nulls(config)
    columns = (len(nulls) - 1, config.facet_permutations)

    def unpaired(half: str, language: str, its: np.ndarray) -> Design:
        stream = (config.stream, "facet", facet, half)
        groups = labels[its].astype(np.int64)
        within = None if config.within == facet else config.within
        return unpaired_design(
            texts, language, its, groups, len(values), config.length_bins, columns, seed, *stream, within=within
        )

    yield Comparison("facet", facet, tuple(values), np.arange(len(values)), _by_half(texts, rows, unpaired), nulls)


def _nulls(config: ContrastConfig) -> tuple[str, ...]:
    return ("", "shuffled") if "shuffled" in config.nulls else ("",)


def _by_half(
    texts: pl.DataFrame, rows: np.ndarray, make: Callable[[str, str, np.ndarray], Design]
) -> dict[str, list[Design]]:
    """Half → a design for each language; `make(half, language, rows)`. Both halves list the same languages."""
    # A cross-check's texts choose nothing, so none need be kept apart from those that estimate.
    half = np.where(crosscheck_rows(texts), "estimate", texts["half"].to_numpy())
    return {
        name: [make(name, language, its[half[its] == name]) for language, its in languages_of(texts, rows)]
        for name in ("estimate", "select")
    }
