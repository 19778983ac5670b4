"""Controls that measure an LLM validator: labels known to be wrong, and labels that are right by construction.

They are put among a validator's real cases, unmarked, and never reach the results. A validator that keeps whatever
it is shown has a true negative rate of 0; one that keeps nothing has a true positive rate of 0. A wrong label is that
of another feature of the same language which shares neither words nor texts with this one: else it could be true. A
right label names a word, and its firing texts are those that hold it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Literal

import numpy as np
import polars as pl

from antar.core.seeds import derive_seed, numpy_rng
from antar.interpret.cases import CaseMaker
from antar.interpret.config import ValidationConfig
from antar.interpret.corpus import REVISE, VALIDATE, TextCorpus
from antar.interpret.features import Firing
from antar.interpret.judge import wilson
from antar.interpret.types import Label, ShownText, ValidationCase
from antar.interpret.words import WordIndex, content_words, normalise, tokens

MOST_OVERLAP = 0.10
"""Two features may share less than this of the texts that fire either (Jaccard) …"""
MOST_INSIDE = 0.50
"""… and less than this of a feature's own: the label of a broad feature is true of a narrow one inside it."""
MOST_COMMON = 0.20
"""A word in more of its language's texts says nothing of a text."""
SENTENCE = {"en": "The text contains the word “{}”.", "hi": "पाठ में “{}” शब्द है।"}
FRAME = content_words(
    tokens(
        "about concept contain contains describe describes discuss discusses example examples feature focus focuses "
        "mention mentions mentioning sentence sentences text texts theme topic topics word words "
        "उल्लेख जिक्र ज़िक्र पाठ पाठों बात बारे वाक्य वाक्यों विषय शब्द शब्दों"
    )
)
"""Words with which any label may speak of texts. Two labels that share no other word are of different things."""


@dataclass(frozen=True)
class Control:
    """A case whose answer is known. `case.label` is what the validator sees.

    label_of: the feature whose label it is, for a wrong label
    """

    kind: Literal["wrong_label", "right_word"]
    label_of: str | None
    case: ValidationCase


def n_controls(n_real: int, share: float) -> int:
    """How many controls of a kind make `share` of what the validator reads beside `n_real` cases."""
    if share <= 0 or n_real <= 0:
        return 0
    return max(1, round(share / (1 - share) * n_real))


def wrong_pairs(
    features: Sequence[str], labels: Mapping[str, Label], latents: Mapping[str, int], firing: Firing, seed: int
) -> Iterator[tuple[str, str]]:
    """(feature, the other whose label it gets): of one language, with no word and few texts in common. Features come
    in a seeded order, each once."""

    def place(feature: str) -> int:
        return derive_seed(seed, "interpret", "wrong control", feature)

    named = sorted((f for f in features if labels[f].label is not None), key=place)
    words = {feature: _label_words(labels[feature]) for feature in named}
    for i, feature in enumerate(named):
        # From the next one on, so that no label is the wrong one of everybody.
        for other in named[i + 1 :] + named[:i]:
            if (
                labels[other].language == labels[feature].language
                and not words[other] & words[feature]
                and _apart(firing, latents[feature], latents[other])
            ):
                yield feature, other
                break


def _label_words(label: Label) -> frozenset[str]:
    return content_words(tokens(" ".join([label.label or "", *label.keywords]))) - FRAME


def _apart(firing: Firing, latent: int, other: int) -> bool:
    own, its = firing.first_rows_of(latent), firing.first_rows_of(other)
    both = len(np.intersect1d(own, its, assume_unique=True))
    either = len(own) + len(its) - both
    return both < MOST_OVERLAP * either and both < MOST_INSIDE * len(own) if both else True


def wrong_control(maker: CaseMaker, feature: str, latent: int, other: Label, cfg: ValidationConfig) -> Control:
    """The feature's own case with another's label under this feature's name."""
    label = replace(other, feature=feature, evidence=())
    return Control("wrong_label", other.feature, maker.validation(label, latent, cfg))


def wrong_controls(
    maker: CaseMaker,
    features: Sequence[str],
    labels: Mapping[str, Label],
    latents: Mapping[str, int],
    n: int,
    cfg: ValidationConfig,
) -> list[Control]:
    """`n` wrong labels or fewer, on features of one dictionary that have enough texts to judge a label by.

    A label that nothing can be judged by is not kept without anybody being asked, which is no validator's merit.
    """
    controls = (
        wrong_control(maker, feature, latents[feature], labels[other], cfg)
        for feature, other in wrong_pairs(features, labels, latents, maker.firing, maker.seed)
    )
    judged = (one for one in controls if min(len(one.case.firing), len(one.case.silent)) >= cfg.min_texts)
    return list(islice(judged, n))


@dataclass(frozen=True)
class _Reader:
    """The distinct texts of the two parts that a validator reads, as far as it reads them.

    rows: `[t]` rows of the corpus; index: of the texts as shown, row i for rows[i]; normals: of the whole texts
    """

    corpus: TextCorpus
    rows: np.ndarray
    index: WordIndex
    normals: tuple[str, ...]

    @classmethod
    def of(cls, corpus: TextCorpus, characters: int | None) -> _Reader:
        rows = corpus.once(np.flatnonzero(np.isin(corpus.parts_t, (REVISE, VALIDATE))))
        index = WordIndex.build([corpus.texts[row][:characters] for row in rows])
        return cls(corpus, rows, index, tuple(normalise(corpus.texts[row]) for row in rows))

    def candidates(self, least: int) -> list[tuple[str, int]]:
        """(language, word's id) of the words that enough of a language's judging texts hold, and not too many."""
        found: list[tuple[str, int]] = []
        judging = self.corpus.parts_t[self.rows] == VALIDATE
        for place, language in enumerate(self.corpus.languages):
            its = np.flatnonzero(judging & (self.corpus.language_t[self.rows] == place))
            counts = np.asarray(self.index.holds_tv[its].sum(axis=0)).ravel()
            fit = np.flatnonzero((counts >= least) & (counts <= MOST_COMMON * len(its)))
            found += [(language, int(word)) for word in fit]
        return found

    def sides(
        self, language: str, word: int, part: int, most: int, rng: np.random.Generator
    ) -> tuple[tuple[ShownText, ...], tuple[ShownText, ...]]:
        """At most `most` texts of a part that show the word, and as many matched ones that do not hold it anywhere,
        not even inside another word: whether “lamps” contains “lamp” has no answer."""
        corpus, spelled = self.corpus, self.index.words[word]
        own = (corpus.parts_t[self.rows] == part) & (corpus.language_t[self.rows] == corpus.languages.index(language))
        holds = np.asarray(self.index.holds_tv[:, [word]].todense()).ravel() > 0
        whole = np.array([spelled in normal for normal in self.normals])
        with_word = rng.permutation(self.rows[own & holds & whole])[:most]
        allowed_t = np.zeros(len(corpus.texts), dtype=bool)
        allowed_t[self.rows[own & ~whole]] = True
        silent = corpus.matched(with_word, allowed_t, rng, corpus.keys(with_word))
        fires = with_word[: len(silent)]
        # A word has no strength; without any its items would be known by their equal activations.
        strength = np.sort(rng.uniform(0.1, 1.0, len(fires)))[::-1]
        return corpus.shown(fires, strength), corpus.shown(silent, np.zeros(len(silent)))


def right_words(
    corpus: TextCorpus,
    n: int,
    cfg: ValidationConfig,
    seed: int,
    prompts: Literal["en", "hi"] = "en",
    characters: int | None = None,
) -> list[Control]:
    """`n` controls or fewer, each of a pseudo-feature that fires on the texts which hold a word.

    characters: where a text is cut for the validator; the word stands before the cut
    """
    if n <= 0:
        return []
    reader = _Reader.of(corpus, characters)
    candidates = reader.candidates(cfg.min_texts)
    controls: list[Control] = []
    done: set[int] = set()
    for i in numpy_rng(seed, "interpret", "right words").permutation(len(candidates)):
        if len(controls) >= n:
            break
        language, word = candidates[i]
        if word in done:
            continue
        spelled = reader.index.words[word]
        rng = numpy_rng(seed, "interpret", "right word", spelled)
        firing, silent = reader.sides(language, word, VALIDATE, cfg.texts, rng)
        if len(firing) < cfg.min_texts:
            continue
        done.add(word)
        sentence = SENTENCE[prompts].format(spelled)
        label = Label(f"word:{spelled}", True, sentence, (spelled,), 1, None, language, (), "")
        spare = reader.sides(language, word, REVISE, cfg.texts, rng)
        controls.append(Control("right_word", None, ValidationCase(label, firing, silent, *spare)))
    return controls


@dataclass(frozen=True)
class Rate:
    """A share with its 95% Wilson interval; all None when there was no control. `failed` calls count as wrong."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    failed: int


@dataclass(frozen=True)
class ValidatorRates:
    """true_positive: the share of right labels that were kept; true_negative: of wrong labels that were not."""

    true_positive: Rate
    true_negative: Rate

    def as_dict(self) -> dict[str, dict[str, float | int | None]]:
        return {"true_positive": asdict(self.true_positive), "true_negative": asdict(self.true_negative)}


def validator_rates(controls: pl.DataFrame) -> ValidatorRates:
    """From the records of the controls: `kind, verdict` (null for a call that failed)."""
    keeps = pl.col("verdict") == "KEEP"
    return ValidatorRates(
        _rate(controls.filter(pl.col("kind") == "right_word"), keeps),
        _rate(controls.filter(pl.col("kind") == "wrong_label"), ~keeps),
    )


def _rate(controls: pl.DataFrame, right: pl.Expr) -> Rate:
    n, failed = controls.height, int(controls["verdict"].null_count())
    if n == 0:
        return Rate(None, None, None, 0, 0)
    hits = controls.filter(right).height
    return Rate(hits / n, *wilson(hits, n), n, failed)
