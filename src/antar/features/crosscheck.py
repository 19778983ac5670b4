"""The cross-check: do the features that were chosen on the cultural corpus fire on other people's cultural texts?

A source with `split: crosscheck` (DOSA) is in no contrast and trains nothing. The culture contrast on the *select*
half of the corpus chooses features: q_select < q, d_av_select > 0, the largest `top`, for each set of codes and
language. A text's score is

    s(t) = 1/|S| · Σ_{j ∈ S} c_tj / m_j,   m_j the mean code of feature j where it fires, on the cultural corpus

(on all texts outside the cross-check, for a feature that fires on no cultural text). Division by m_j makes a strong
feature and a weak one count alike, and a text that fires all of S as the corpus does has s = 1. The AUROC is of
cross-check texts over matched controls: outside training, of the *estimate* half (the select half chose the
features), same language, same quantile bin of words. Every control stands in one bin and counts once.

Beside it: an interval by bootstrap over documents; `random`, equally large sets of live features, because cultural
and control texts differ in much and any set may tell them apart; `shuffled`, the documents' labels exchanged
within length bins. Masked copies (`corpora/mask.py`) are scored in place of their texts, in the bins of those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse

from antar.core.progress import progress
from antar.core.seeds import numpy_rng
from antar.core.sites import DictionaryId, feature_id
from antar.core.sparse import SparseCodes
from antar.corpora.match import bin_edges, bin_of
from antar.corpora.schema import MASKED_OF
from antar.features.auroc import Strata, stratified_auroc, weighted_auroc
from antar.features.config import CrosscheckConfig
from antar.features.contrasts import null_of
from antar.features.examples import contrast_rows, crosscheck_rows, facet_rows

ENRICHED_Q = 0.05
LEAST_DOCUMENTS = 5
"""A length bin with fewer control documents is left out: one document would speak for a tenth of the texts."""
Numbers = dict[str, Any]


@dataclass(frozen=True)
class Matched:
    """The texts of one language that are compared.

    clues:    int64 `[n_a]`, rows of cross-check texts that have controls of their length; never masked copies
    copies:   int64 `[n_a]`, the row of each one's masked copy, -1 without
    controls: int64 `[n_b]`, rows; strata: the length bins of both
    unmatched: how many cross-check texts are left out, their bins having under LEAST_DOCUMENTS control documents
    """

    language: str
    clues: np.ndarray
    copies: np.ndarray
    controls: np.ndarray
    strata: Strata
    unmatched: int


def match_controls(texts: pl.DataFrame, language: str, bins: int) -> Matched:
    """The cross-check texts of `language` and the controls in their quantile bins of words."""
    here = (texts["language"] == language).to_numpy()
    copy_of = texts[MASKED_OF].to_numpy() if MASKED_OF in texts.columns else np.full(texts.height, None)
    is_copy = np.array([one is not None for one in copy_of])
    control = (texts["group"] == "control").to_numpy() & (texts["half"] == "estimate").to_numpy()
    clues = np.flatnonzero(here & crosscheck_rows(texts) & ~is_copy)
    controls = np.flatnonzero(here & control & contrast_rows(texts))
    words = texts["text"].str.count_matches(r"\S+").to_numpy().astype(np.int64)
    if len(clues) == 0 or len(controls) == 0:
        empty = clues[:0]
        return Matched(language, empty, empty, empty, Strata(empty, empty), len(clues))
    edges = bin_edges(words[clues], bins)
    of_clue, of_control = bin_of(words[clues], edges), bin_of(words[controls], edges)
    documents = texts["document"].gather(controls).to_numpy()
    enough = [one for one in np.unique(of_clue) if len(np.unique(documents[of_control == one])) >= LEAST_DOCUMENTS]
    kept_a, kept_b = np.isin(of_clue, enough), np.isin(of_control, enough)
    row_of_copy = {copy_of[row]: row for row in np.flatnonzero(here & is_copy)}
    copies = np.array([row_of_copy.get(one, -1) for one in texts["text_id"].gather(clues[kept_a])], dtype=np.int64)
    strata = Strata(of_clue[kept_a], of_control[kept_b])
    return Matched(language, clues[kept_a], copies, controls[kept_b], strata, int((~kept_a).sum()))


def chosen_features(
    contrasts: pl.DataFrame, dictionary: DictionaryId, side: str, language: str, cfg: CrosscheckConfig
) -> pl.DataFrame:
    """The culture rows of the selected set, strongest on the select half first; ties go to the lower latent."""
    rows = contrasts.filter(
        (pl.col("contrast") == "culture")
        & (pl.col("dictionary") == str(dictionary))
        & (pl.col("side_b") == side)
        & (pl.col("null") == null_of(dictionary, side))
        & (pl.col("language") == language)
        & (pl.col("q_select") < cfg.q)
        & (pl.col("d_av_select") > 0)
    )
    return rows.sort("d_av_select", "latent", descending=[True, False]).head(cfg.top)


def mean_given_firing(codes: SparseCodes, texts: pl.DataFrame) -> np.ndarray:
    """float64 `[n_latents]`: m_j of the score; NaN for a latent that fires on no text outside the cross-check."""
    own = ~crosscheck_rows(texts)
    cultural = own & (texts["group"] == "cultural").to_numpy()
    found = np.full(codes.n_latents, np.nan)
    for rows in (own, cultural):
        its = codes.rows(rows)
        fired = its.values_nk > 0
        counts = its.firing_counts()
        total = np.bincount(its.indices_nk[fired], its.values_nk[fired], minlength=codes.n_latents)
        found[counts > 0] = total[counts > 0] / counts[counts > 0]
    return found


def set_scores(codes: SparseCodes, rows: np.ndarray, scale: np.ndarray, sets: list[np.ndarray]) -> np.ndarray:
    """float64 `[n_rows, n_sets]`: s(t) of the chosen rows for every set of latents."""
    latents = np.concatenate(sets)
    column = np.repeat(np.arange(len(sets)), [len(one) for one in sets])
    share = np.repeat([1 / len(one) for one in sets], [len(one) for one in sets])
    weights = sparse.csr_array((share / scale[latents], (latents, column)), shape=(codes.n_latents, len(sets)))
    return sparse.csr_array(codes.rows(rows).csr().astype(np.float64) @ weights).toarray()


def measure_crosscheck(
    texts: pl.DataFrame,
    codes: Mapping[tuple[DictionaryId, str], SparseCodes],
    contrasts: pl.DataFrame,
    live: Mapping[DictionaryId, np.ndarray],
    cfg: CrosscheckConfig,
    seed: int,
) -> Numbers:
    """What `features/crosscheck.json` holds: `languages`, `sets` (a row for each set of codes and language that the
    cross-check has), `features` (a row for each chosen feature) and `enriched` (its values of the cross-check's own
    facets). Shams and baselines are sets like the others, with their name in `null`.

    texts, codes, live: as in `measure_contrasts`, whose table `contrasts` is.
    """
    languages = sorted(set(texts["language"].filter(pl.Series(crosscheck_rows(texts))).to_list()))
    matched = [match_controls(texts, language, cfg.bins) for language in languages]
    found = Numbers(languages=[_about(texts, one) for one in matched], sets=[], features=[], enriched=[])
    with progress("cross-check", len(codes), "sets of codes") as bar:
        for dictionary, side in codes:
            for one in matched:
                if len(one.clues):
                    check = _Check(dictionary, side, one, texts, codes[dictionary, side], live[dictionary], cfg, seed)
                    chosen = chosen_features(contrasts, dictionary, side, one.language, cfg)
                    row, features = check.measure(chosen)
                    found["sets"].append(row)
                    found["features"] += features
            bar.advance()
    found["enriched"] = enriched_values(texts, contrasts, found["features"])
    return found


def enriched_values(texts: pl.DataFrame, contrasts: pl.DataFrame, features: list[Numbers]) -> list[Numbers]:
    """Values of the cross-check's own facet columns on which a chosen feature fires more than on the other values:
    rows of the facet contrast with q < 0.05 and d_av > 0. `few` says that a side has under `warn_under` texts."""
    measured = contrasts.filter((pl.col("contrast") == "facet") & (pl.col("null") == ""))
    columns = [c for c in measured["facet"].unique().sort() if _only_crosscheck_has(texts, c)]
    rows = measured.filter(pl.col("facet").is_in(columns) & (pl.col("q") < ENRICHED_Q) & (pl.col("d_av") > 0))
    names = ("feature", "facet", "value", "n_a", "n_b", "d_av", "d_lo", "d_hi", "q", "few")
    return [
        {"side": one["side"], "language": one["language"], **{name: row[name] for name in names}}
        for one in features
        if one["null"] == ""
        for row in rows.filter(
            (pl.col("feature") == one["feature"])
            & (pl.col("side_b") == one["side"])
            & (pl.col("language") == one["language"])
        )
        .sort("d_av", descending=True)
        .iter_rows(named=True)
    ]


def _only_crosscheck_has(texts: pl.DataFrame, column: str) -> bool:
    rows = facet_rows(texts, column)
    return bool(rows.any()) and bool(crosscheck_rows(texts)[rows].all())


def _about(texts: pl.DataFrame, one: Matched) -> Numbers:
    words = texts["text"].str.count_matches(r"\S+")
    documents = texts["document"]
    return {
        "language": one.language,
        "texts": len(one.clues),
        "documents": documents.gather(one.clues).n_unique(),
        "unmatched": one.unmatched,
        "controls": len(one.controls),
        "control_documents": documents.gather(one.controls).n_unique(),
        "median_words": words.gather(one.clues).median(),
        "control_median_words": words.gather(one.controls).median(),
        "copies": int((one.copies >= 0).sum()),
        "changed": int(_changed(texts, one).sum()),
    }


def _changed(texts: pl.DataFrame, one: Matched) -> np.ndarray:
    """bool `[n_a]`: the mask changed the text."""
    text = texts["text"].to_numpy()
    return (one.copies >= 0) & (text[one.clues] != text[one.copies])


@dataclass(frozen=True)
class _Check:
    """One set of codes in one language."""

    dictionary: DictionaryId
    side: str
    matched: Matched
    texts: pl.DataFrame
    codes: SparseCodes
    live: np.ndarray
    cfg: CrosscheckConfig
    seed: int

    def measure(self, chosen: pl.DataFrame) -> tuple[Numbers, list[Numbers]]:
        """(the set's row, a row for each feature). Without a chosen feature the set's row has no numbers."""
        latents = chosen["latent"].to_numpy().astype(np.int64)
        names: Numbers = {
            "dictionary": str(self.dictionary),
            "side": self.side,
            "language": self.matched.language,
            "null": null_of(self.dictionary, self.side),
        }
        scale = mean_given_firing(self.codes, self.texts)
        if len(latents) == 0:
            return {**names, "chosen": 0}, []
        pool = np.flatnonzero(self.live & np.isfinite(scale))
        rng = self._rng("random")
        size = min(len(latents), len(pool))
        random_sets = [rng.choice(pool, size, replace=False) for _ in range(self.cfg.draws)]
        sets = [latents, *(np.array([one]) for one in latents), *random_sets]
        m = self.matched
        clues, controls = (set_scores(self.codes, rows, scale, sets) for rows in (m.clues, m.controls))
        weights = self._document_draws(m.clues, "clues"), self._document_draws(m.controls, "controls")
        auroc = stratified_auroc(clues[:, 0], controls[:, 0], m.strata)
        first_random = 1 + len(latents)
        null = np.array(
            [stratified_auroc(clues[:, i], controls[:, i], m.strata) for i in range(first_random, len(sets))]
        )
        row = {
            **names,
            "chosen": len(latents),
            "auroc": _number(auroc),
            "ci": _ends(weighted_auroc(clues[:, 0], controls[:, 0], m.strata, *weights)),
            "random": _null(null, auroc),
            "shuffled": _null(self._shuffled(clues[:, 0], controls[:, 0]), auroc),
        }
        has_copy = m.copies >= 0
        copies = set_scores(self.codes, m.copies[has_copy], scale, sets[:first_random])
        row["masked"] = self._masked(clues[has_copy, 0], copies[:, 0], controls[:, 0], weights)
        features = [
            {
                **names,
                **self._feature(record, clues[:, i], controls[:, i], weights),
                "auroc_masked": _number(stratified_auroc(copies[:, i], controls[:, i], self._strata(has_copy))),
            }
            for i, record in enumerate(chosen.iter_rows(named=True), 1)
        ]
        return row, features

    def _rng(self, name: str) -> np.random.Generator:
        return numpy_rng(self.seed, "crosscheck", name, str(self.dictionary), self.side, self.matched.language)

    def _strata(self, kept: np.ndarray) -> Strata:
        return Strata(self.matched.strata.of_a[kept], self.matched.strata.of_b)

    def _document_draws(self, rows: np.ndarray, name: str) -> np.ndarray:
        """float64 `[replicates, n]`: how often each text is there when its documents are drawn with replacement."""
        _, place = np.unique(self.texts["document"].gather(rows).to_numpy(), return_inverse=True)
        n = int(place.max()) + 1
        # One stream for all sets of codes, so that their intervals rest on the same draws.
        rng = numpy_rng(self.seed, "crosscheck", "bootstrap", name, self.matched.language)
        return rng.multinomial(n, np.full(n, 1 / n), size=self.cfg.replicates)[:, place].astype(np.float64)

    def _shuffled(self, clues: np.ndarray, controls: np.ndarray) -> np.ndarray:
        """`[draws]`: the AUROC with the labels of documents exchanged within the length bin of their first text."""
        m = self.matched
        rows, scores = np.concatenate([m.clues, m.controls]), np.concatenate([clues, controls])
        bins = np.concatenate([m.strata.of_a, m.strata.of_b])
        _, first, place = np.unique(
            self.texts["document"].gather(rows).to_numpy(), return_index=True, return_inverse=True
        )
        is_clue, bin_of_document = first < len(m.clues), bins[first]
        rng, found = self._rng("shuffled"), np.empty(self.cfg.draws)
        for draw in range(self.cfg.draws):
            labels = is_clue.copy()
            for one in np.unique(bin_of_document):
                members = np.flatnonzero(bin_of_document == one)
                labels[members] = rng.permutation(is_clue[members])
            a = labels[place]
            found[draw] = stratified_auroc(scores[a], scores[~a], Strata(bins[a], bins[~a]))
        return found

    def _masked(
        self, clues: np.ndarray, copies: np.ndarray, controls: np.ndarray, weights: tuple[np.ndarray, np.ndarray]
    ) -> Numbers | None:
        """The set on masked copies beside the same texts as they are; then on the texts that the mask changed."""
        has_copy = self.matched.copies >= 0
        if not has_copy.any():
            return None
        changed = _changed(self.texts, self.matched)
        return {
            **self._side_by_side(clues, copies, controls, has_copy, weights),
            "changed": int(changed.sum()),
            "on_changed": self._side_by_side(
                clues[changed[has_copy]], copies[changed[has_copy]], controls, changed, weights
            )
            if changed.any()
            else None,
        }

    def _side_by_side(
        self,
        plain: np.ndarray,
        masked: np.ndarray,
        controls: np.ndarray,
        kept: np.ndarray,
        weights: tuple[np.ndarray, np.ndarray],
    ) -> Numbers:
        """AUROC of the `kept` texts as they are and masked, and the difference under the same draws of documents."""
        strata, draws = self._strata(kept), (weights[0][:, kept], weights[1])
        values = [stratified_auroc(scores, controls, strata) for scores in (plain, masked)]
        drawn = [weighted_auroc(scores, controls, strata, *draws) for scores in (plain, masked)]
        return {
            "texts": int(kept.sum()),
            "auroc_plain": _number(values[0]),
            "auroc": _number(values[1]),
            "ci": _ends(drawn[1]),
            "difference": _number(values[1] - values[0]),
            "difference_ci": _ends(drawn[1] - drawn[0]),
        }

    def _feature(
        self,
        record: Mapping[str, Any],
        clues: np.ndarray,
        controls: np.ndarray,
        weights: tuple[np.ndarray, np.ndarray],
    ) -> Numbers:
        m = self.matched
        sizes_a, sizes_b = (np.bincount(one, minlength=self.cfg.bins) for one in (m.strata.of_a, m.strata.of_b))
        # Controls stand for the lengths of the texts that they are compared with.
        as_clues = sizes_a[m.strata.of_b] / sizes_b[m.strata.of_b]
        return {
            "feature": feature_id(self.dictionary, int(record["latent"])),
            "latent": int(record["latent"]),
            **{name: record[name] for name in ("d_av_select", "q_select", "d_av", "q")},
            "fire": float((clues > 0).mean()),
            "fire_controls": float(((controls > 0) * as_clues).sum() / as_clues.sum()),
            "auroc": _number(stratified_auroc(clues, controls, m.strata)),
            "ci": _ends(weighted_auroc(clues, controls, m.strata, *weights)),
        }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _ends(values: np.ndarray) -> list[float] | None:
    known = values[np.isfinite(values)]
    return [float(end) for end in np.quantile(known, [0.025, 0.975])] if len(known) else None


def _null(values: np.ndarray, observed: float) -> Numbers:
    """A null's mean and its middle 95%, and the share of it that is at least `observed` (itself counted among it)."""
    known = values[np.isfinite(values)]
    above = int((known >= observed).sum())
    return {
        "mean": _number(known.mean()) if len(known) else None,
        "range": _ends(known),
        "p": (1 + above) / (1 + len(known)),
    }
