"""Labels whose truth is known, which measure a validator: one that keeps everything passes unseen without them.

Wrong ones are another feature's label on this feature's texts: another thing, in the same language, whose texts are
others. Right ones are true by construction: the texts share a word, and the label says so. Both are mixed among the
real items, unmarked, and never reach the results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import polars as pl

from antar.core.seeds import numpy_rng
from antar.interpret.cases import CaseMaker
from antar.interpret.config import ValidationConfig
from antar.interpret.corpus import VALIDATE, TextCorpus
from antar.interpret.features import Firing
from antar.interpret.judge import wilson
from antar.interpret.types import Label, ValidationCase
from antar.interpret.words import telling_words

MOST_SHARED = 0.10
"""Two features whose firing texts overlap more (Jaccard) may be about one thing."""
MOST_COMMON = 0.20
"""A word that more of a language's texts hold is hard to be silent about."""
RIGHT = {"en": "The text contains the word “{word}”.", "hi": "पाठ में “{word}” शब्द है।"}
Kind = Literal["wrong_label", "right_word"]


@dataclass(frozen=True)
class Control:
    """`case.label` is what the validator sees; `label_of` is the feature that it was written for."""

    kind: Kind
    label_of: str | None
    case: ValidationCase


def n_controls(n_real: int, share: float) -> int:
    """How many make up `share` of all items; at least one where any are wanted."""
    return max(1, round(share / (1 - share) * n_real)) if share > 0 and n_real > 0 else 0


def wrong_pairs(
    features: Sequence[str],
    labels: Mapping[str, Label],
    latents: Mapping[str, int],
    firing: Firing,
    n: int,
    seed: int,
) -> list[tuple[str, str]]:
    """(feature, the feature whose label it gets): up to `n`, drawn by `seed`.

    The two labels are about one language, share no content word, and their features' texts overlap little: otherwise
    a "wrong" label could be true.
    """
    words = telling_words({feature: (labels[feature].keywords, labels[feature].label or "") for feature in features})
    texts = {feature: frozenset(firing.texts_of(latents[feature])[0].tolist()) for feature in features}

    def apart(a: str, b: str) -> bool:
        shared = len(texts[a] & texts[b]) / max(1, len(texts[a] | texts[b]))
        return labels[a].language == labels[b].language and not words[a] & words[b] and shared < MOST_SHARED

    rng = numpy_rng(seed, "interpret", "controls", *features[:1])
    found: list[tuple[str, str]] = []
    for feature in _shuffled(features, rng):
        if len(found) == n:
            break
        others = [one for one in _shuffled(features, rng) if one != feature]
        other = next((one for one in others if apart(feature, one)), None)
        if other is not None:
            found.append((feature, other))
    return found


def _shuffled(features: Sequence[str], rng: np.random.Generator) -> list[str]:
    return [features[int(i)] for i in rng.permutation(len(features))]


def wrong_control(maker: CaseMaker, feature: str, latent: int, other: Label, cfg: ValidationConfig) -> Control:
    """`other`'s label beside the texts of `feature`."""
    label = replace(other, feature=feature, evidence=())
    return Control("wrong_label", other.feature, maker.validation(label, latent, cfg))


def right_words(
    corpus: TextCorpus, n: int, cfg: ValidationConfig, seed: int, prompts: Literal["en", "hi"]
) -> list[Control]:
    """Up to `n` words as if they were features: they "fire" on the texts that hold them, and the label says so."""
    rng = numpy_rng(seed, "interpret", "controls", "words")
    found: list[Control] = []
    for language in rng.permutation(len(corpus.languages)).tolist() * 2:
        wanted = min(n - len(found), -(-n // max(1, len(corpus.languages))))
        taken = {control.case.label.feature for control in found}
        found += _of_language(corpus, language, wanted, cfg, rng, prompts, taken)
    return found[:n]


def _of_language(
    corpus: TextCorpus,
    language: int,
    n: int,
    cfg: ValidationConfig,
    rng: np.random.Generator,
    prompts: Literal["en", "hi"],
    taken: set[str],
) -> list[Control]:
    its_t = (corpus.parts_t == VALIDATE) & (corpus.language_t == language)
    rows = corpus.once(np.flatnonzero(its_t))
    counts = np.asarray(corpus.index.holds_tv[rows].sum(axis=0)).ravel()
    usable = np.flatnonzero((counts >= cfg.min_texts) & (counts <= MOST_COMMON * len(rows)))
    found: list[Control] = []
    for word in rng.permutation(usable):
        if len(found) >= n:
            break
        control = _of_word(corpus, int(word), rows, cfg, rng, prompts)
        if control is not None and control.case.label.feature not in taken:
            found.append(control)
    return found


def _of_word(
    corpus: TextCorpus,
    word: int,
    rows: np.ndarray,
    cfg: ValidationConfig,
    rng: np.random.Generator,
    prompts: Literal["en", "hi"],
) -> Control | None:
    holds = np.asarray(corpus.index.holds_tv[rows][:, [word]].todense()).ravel() > 0
    firing = rng.permutation(rows[holds])[: cfg.texts]
    silent_t = np.zeros(len(corpus.texts), dtype=bool)
    silent_t[rows[~holds]] = True
    silent = corpus.matched(firing, silent_t, rng, corpus.keys(firing))
    if min(len(firing), len(silent)) < cfg.min_texts:
        return None
    name = corpus.index.words[word]
    label = Label(f"word:{name}", True, RIGHT[prompts].format(word=name), (name,), 1, None, "", (), "")
    shown = corpus.shown(firing, np.ones(len(firing))), corpus.shown(silent, np.zeros(len(silent)))
    return Control("right_word", None, ValidationCase(label, *shown, (), ()))


@dataclass(frozen=True)
class Rate:
    """A share with its 95% Wilson interval; None without items. failed: calls without an answer, counted as wrong."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    failed: int


@dataclass(frozen=True)
class ValidatorRates:
    """true_positive: of the labels that are right, how many were kept; true_negative: of those that are wrong, how
    many were not (revised or invalidated)."""

    true_positive: Rate
    true_negative: Rate

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def validator_rates(controls: pl.DataFrame) -> ValidatorRates:
    """From the controls' records: `kind, verdict`; a null verdict is a call that failed."""
    kept = pl.col("verdict") == "KEEP"
    return ValidatorRates(
        _rate(controls.filter(pl.col("kind") == "right_word"), kept),
        _rate(controls.filter(pl.col("kind") == "wrong_label"), ~kept),
    )


def _rate(controls: pl.DataFrame, right: pl.Expr) -> Rate:
    n, failed = controls.height, int(controls["verdict"].null_count())
    if not n:
        return Rate(None, None, None, 0, 0)
    hits = int(controls.select(right.fill_null(False).sum()).item())
    low, high = wilson(hits, n)
    return Rate(hits / n, low, high, n, failed)
