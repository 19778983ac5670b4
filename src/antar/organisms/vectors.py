"""Activations with a known difference, made from a known sparse dictionary without any model.

Every number that a contrast estimates is known here in closed form, so intervals, p-values and false discoveries can
be checked by the thousand. Texts come in documents whose texts resemble each other; features may belong to one
language or follow the length of a text; and cultural texts may be longer or more often Hindi, so that a statistic
which ignores documents, language or length is caught.

A feature fires on a text when g < a + β·L, with g standard normal and L the standardised log length of the text, and
then has a log-normal strength. g and the strength's exponent are sums of a part that a document's texts share, a part
that the two sides of a text share, and a rest: a Gaussian copula, which clusters texts and pairs sides and leaves
every marginal distribution as it is. Hence the population means and variances below are exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import Field
from scipy.special import ndtr, ndtri

from antar.core.config import Config
from antar.core.errors import UserError
from antar.core.seeds import numpy_rng
from antar.core.sparse import SparseCodes

LANGUAGES = ("en", "hi")
GROUPS = ("control", "cultural")
SIDES = ("base", "chat")
KINDS = ("unchanged", "shifted", "appearing", "vanishing", "rising")
# Log-normal strengths exp(SPREAD·z): the second moment is MOMENT times the squared mean.
SPREAD = 0.5
MOMENT = float(np.exp(SPREAD**2))
SHIFTED_RATE = 0.6
"""A feature whose strength (not its firing) changes must fire often, or no factor reaches a large d_av."""
RISING = (0.01, 0.10)
"""Rates between which a rising feature changes: ten times as often, and yet a d_av of about 0.3."""


class VectorConfig(Config):
    """A dataset of synthetic activations."""

    seed: int = 0
    n_documents: int = Field(default=200, ge=8)
    """Half of them cultural; each in one language."""
    texts_per_document: int = Field(default=2, ge=1)
    train_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the documents in the training split; the others are held out."""
    n_latents: int = Field(default=96, ge=4)
    d_model: int = Field(default=32, ge=2)
    noise: float = Field(default=0.05, ge=0)
    """Standard deviation of the noise that is added to each activation."""

    shifted: int = Field(default=0, ge=0)
    """Features that fire as often in chat as in base, and more strongly."""
    appearing: int = Field(default=0, ge=0)
    """Features that never fire in base."""
    vanishing: int = Field(default=0, ge=0)
    """Features that never fire in chat."""
    rising: int = Field(default=0, ge=0)
    """Features that fire on 1% of the texts in base and on 10% in chat, as strongly."""
    d: float = Field(default=0.8, gt=0, lt=1.2)
    """|d_av| in the population of each changed feature, the rising ones aside."""
    change_on: Literal["all", "cultural"] = "all"
    """On which texts the change happens; on cultural ones only, it is an interaction too."""
    cultural: int = Field(default=0, ge=0)
    """Unchanged features that fire on cultural texts and never on controls, with d_av = `d`."""
    cultural_rising: int = Field(default=0, ge=0)
    """Unchanged features that fire on 1% of the controls and on 10% of the cultural texts."""

    rates: tuple[float, float] = (0.02, 0.5)
    """Firing rates of the other features, log-uniform between these."""
    document_correlation: float = Field(default=0.3, ge=0, lt=1)
    """How much the texts of one document are alike."""
    text_correlation: float = Field(default=0.5, ge=0, lt=1)
    """Share of what the document leaves open that the two sides of one text have in common."""
    language_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the other features that fire ten times less in one of the languages."""
    hindi: tuple[float, float] = (0.5, 0.5)
    """Share of the control and of the cultural documents that are Hindi; unequal shares confound language."""
    length_effect: float = 0.0
    """β of the unchanged features: how firing follows length."""
    length_shift: float = 0.0
    """By how many standard deviations cultural texts are longer; with `length_effect` it confounds length."""


@dataclass(frozen=True)
class Truth:
    """What was planted.

    kind:     `[n_latents]` of `KINDS`
    cultural: bool `[n_latents]`, planted as a difference between cultural and control texts
    rising:   bool `[n_latents]`, those of either kind that change from RISING[0] to RISING[1]
    rate, mean, variance: float64 `[2 sides, 2 groups, 2 languages, n_latents]` in the population of texts, in the
                          orders of SIDES, GROUPS and LANGUAGES; mean and variance are of the code values
    """

    kind: np.ndarray
    cultural: np.ndarray
    rising: np.ndarray
    rate: np.ndarray
    mean: np.ndarray
    variance: np.ndarray

    @property
    def changed(self) -> np.ndarray:
        return self.kind != "unchanged"

    def shift_d(self, weights: Mapping[str, float], group: str = "cultural") -> np.ndarray:
        """Population d_av `[n_latents]` of chat against base on the texts of `group`; `weights`: language → weight
        of its stratum (one language alone: {"en": 1})."""
        at = GROUPS.index(group)
        return _d_av(self.mean[0, at], self.variance[0, at], self.mean[1, at], self.variance[1, at], weights)

    def culture_d(self, weights: Mapping[str, float], side: str = "base") -> np.ndarray:
        """Population d_av `[n_latents]` of cultural against control texts in the codes of `side`."""
        mean, variance = self.mean[SIDES.index(side)], self.variance[SIDES.index(side)]
        return _d_av(mean[0], variance[0], mean[1], variance[1], weights)

    def shift_rates(self, language: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(rate in base, rate in chat, factor on the strength), each `[n_latents]`, of cultural texts."""
        return self._pair((0, 1), (1, 1), language)

    def culture_rates(self, language: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(rate on controls, rate on cultural texts, factor on the strength), each `[n_latents]`, in base."""
        return self._pair((0, 0), (0, 1), language)

    def _pair(
        self, a: tuple[int, int], b: tuple[int, int], language: str
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        at = LANGUAGES.index(language)
        rate_a, rate_b = self.rate[(*a, at)], self.rate[(*b, at)]
        with np.errstate(invalid="ignore", divide="ignore"):
            factor = (self.mean[(*b, at)] / rate_b) / (self.mean[(*a, at)] / rate_a)
        return rate_a, rate_b, np.where((rate_a > 0) & (rate_b > 0), factor, 1.0)

    def to_json(self) -> dict[str, Any]:
        return {
            "changed": {kind: np.flatnonzero(self.kind == kind).tolist() for kind in KINDS[1:]},
            "cultural": np.flatnonzero(self.cultural).tolist(),
        }


@dataclass(frozen=True)
class Vectors:
    """texts: with the columns of a corpus; base_nd, chat_nd: float32 activations `[n_texts, d_model]`;
    codes: side → the true codes; decoder_nd: unit rows `[n_latents, d_model]`, so that activations = codes · decoder
    + noise."""

    texts: pl.DataFrame
    base_nd: np.ndarray
    chat_nd: np.ndarray
    codes: dict[str, SparseCodes]
    decoder_nd: np.ndarray
    truth: Truth


def make_vectors(cfg: VectorConfig) -> Vectors:
    """The dataset of `cfg`; the same seed gives the same bits."""
    planted = cfg.shifted + cfg.appearing + cfg.vanishing + cfg.cultural + cfg.rising + cfg.cultural_rising
    if planted > cfg.n_latents:
        raise UserError(f"vectors: expected at most {cfg.n_latents} planted features (n_latents), found {planted}")
    texts, length = _texts(cfg)
    truth, firing, strength = _plant(cfg)
    dense = _codes(cfg, texts, length, firing, strength)
    rng = numpy_rng(cfg.seed, "vectors", "decoder")
    decoder = rng.normal(size=(cfg.n_latents, cfg.d_model))
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    acts = [
        (values @ decoder + cfg.noise * rng.normal(size=(len(values), cfg.d_model))).astype(np.float32)
        for values in dense
    ]
    codes = {side: sparse_codes(values) for side, values in zip(SIDES, dense, strict=True)}
    return Vectors(texts, acts[0], acts[1], codes, decoder.astype(np.float32), truth)


def sparse_codes(dense_nl: np.ndarray) -> SparseCodes:
    """The codes of a dense `[n, n_latents]` array of values ≥ 0; k is the largest number that fire on a text."""
    k = max(1, int((dense_nl > 0).sum(axis=1).max(initial=0)))
    indices = np.argsort(-dense_nl, axis=1, kind="stable")[:, :k].astype(np.int32)
    return SparseCodes(indices, np.take_along_axis(dense_nl, indices, axis=1).astype(np.float32), dense_nl.shape[1])


def _texts(cfg: VectorConfig) -> tuple[pl.DataFrame, np.ndarray]:
    """The texts, and L of each, `[n_texts]`."""
    rng = numpy_rng(cfg.seed, "vectors", "texts")
    n, each = cfg.n_documents, cfg.texts_per_document
    cultural = rng.permutation(np.arange(n) % 2)
    hindi = (rng.random(n) < np.array(cfg.hindi)[cultural]).astype(np.int64)
    train = rng.random(n) < cfg.train_share
    select = rng.random(n) < 0.5
    document = np.repeat(np.arange(n), each)
    shared = np.sqrt(cfg.document_correlation) * rng.normal(size=n)
    length = shared[document] + np.sqrt(1 - cfg.document_correlation) * rng.normal(size=n * each)
    length += cfg.length_shift * cultural[document]
    characters = np.maximum(1, np.round(80 * np.exp(0.4 * length))).astype(np.int64)
    frame = pl.DataFrame(
        {
            "text_id": [f"t{i:06d}" for i in range(n * each)],
            "text": ["x" * int(c) for c in characters],
            "group": [GROUPS[g] for g in cultural[document]],
            "language": [LANGUAGES[h] for h in hindi[document]],
            "source": ["vectors"] * (n * each),
            "document": [f"d{i:05d}" for i in document],
            "split": ["train" if one else "heldout" for one in train[document]],
            "half": ["select" if one else "estimate" for one in select[document]],
        }
    )
    return frame, length


def _plant(cfg: VectorConfig) -> tuple[Truth, tuple[np.ndarray, np.ndarray], np.ndarray]:
    """The truth; (a, β) of every feature's firing; and the mean strength when firing.

    a and the strength are `[2 sides, 2 groups, 2 languages, n_latents]`, β is `[n_latents]`.
    """
    rng = numpy_rng(cfg.seed, "vectors", "plant")
    n = cfg.n_latents
    kind, cultural = np.full(n, "unchanged", dtype="<U9"), np.zeros(n, dtype=bool)
    wanted = [cfg.shifted, cfg.appearing, cfg.vanishing, cfg.cultural, cfg.rising, cfg.cultural_rising]
    places = np.split(rng.permutation(n), np.cumsum(wanted))
    for name, place in zip(KINDS[1:], (*places[:3], places[4]), strict=True):
        kind[place] = name
    cultural[np.concatenate([places[3], places[5]])] = True
    rising = np.zeros(n, dtype=bool)
    rising[np.concatenate([places[4], places[5]])] = True
    base_rate = np.exp(rng.uniform(*np.log(cfg.rates), size=n))
    rate = np.broadcast_to(base_rate, (2, 2, 2, n)).copy()
    weak = np.where(rng.random(n) < cfg.language_share, rng.integers(0, 2, n), -1)
    for language in range(2):
        rate[:, :, language] *= np.where(weak == language, 0.1, 1.0)
    strength = np.broadcast_to(np.exp(rng.normal(0, 0.3, size=n)), rate.shape).copy()
    groups = slice(1, 2) if cfg.change_on == "cultural" else slice(0, 2)
    rate[..., places[0]] = SHIFTED_RATE
    strength[1, groups][..., places[0]] *= _factor_of(cfg.d)
    for place, absent in ((places[1], 0), (places[2], 1)):
        rate[..., place] = _rate_of(cfg.d)
        rate[absent, groups][..., place] = 0.0
    rate[..., places[3]] = _rate_of(cfg.d)
    rate[:, 0][..., places[3]] = 0.0
    for place in (places[4], places[5]):
        rate[..., place] = RISING[0]
    rate[1, groups][..., places[4]] = RISING[1]
    rate[:, 1][..., places[5]] = RISING[1]

    beta = np.where((kind == "unchanged") & ~cultural, cfg.length_effect, 0.0)
    a = ndtri(rate) * np.sqrt(1 + beta**2)
    longer = np.array([0.0, cfg.length_shift])[None, :, None, None]
    with np.errstate(invalid="ignore"):  # −∞ stays −∞
        rate = ndtr((a + beta * longer) / np.sqrt(1 + beta**2))
    mean = rate * strength
    truth = Truth(kind, cultural, rising, rate, mean, rate * MOMENT * strength**2 - mean**2)
    return truth, (a, beta), strength


def _codes(
    cfg: VectorConfig,
    texts: pl.DataFrame,
    length: np.ndarray,
    firing: tuple[np.ndarray, np.ndarray],
    strength: np.ndarray,
) -> Sequence[np.ndarray]:
    """Dense code values `[n_texts, n_latents]` of base and of chat."""
    rng = numpy_rng(cfg.seed, "vectors", "codes")
    document = texts["document"].rank("dense").to_numpy().astype(np.int64) - 1
    group = (texts["group"] == "cultural").to_numpy().astype(np.int64)
    language = (texts["language"] == "hi").to_numpy().astype(np.int64)
    by_text = cfg.text_correlation * (1 - cfg.document_correlation)
    rest = 1 - cfg.document_correlation - by_text

    def shared() -> np.ndarray:
        of_document = rng.normal(size=(cfg.n_documents, cfg.n_latents))[document]
        of_text = rng.normal(size=(len(document), cfg.n_latents))
        return np.sqrt(cfg.document_correlation) * of_document + np.sqrt(by_text) * of_text

    g, z = shared(), shared()
    a, beta = firing
    dense: list[np.ndarray] = []
    for side in range(2):
        own_g, own_z = (np.sqrt(rest) * rng.normal(size=g.shape) for _ in range(2))
        fires = g + own_g < a[side, group, language] + beta * length[:, None]
        values = strength[side, group, language] * np.exp(SPREAD * (z + own_z) - SPREAD**2 / 2)
        dense.append(np.where(fires, values, 0.0))
    return dense


def population_log_odds(rate_a: np.ndarray, rate_b: np.ndarray) -> np.ndarray:
    """ln of the odds ratio of firing, b against a; infinite where a feature never fires on one side."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(rate_b) - np.log1p(-rate_b) - np.log(rate_a) + np.log1p(-rate_a)


def population_auroc(rate_a: np.ndarray, rate_b: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """P(b > a) + ½ P(b = a) for two texts drawn at random: both silent, one firing, or both, whose log strengths are
    normal with standard deviation SPREAD each."""
    both = ndtr(np.log(factor) / (SPREAD * np.sqrt(2)))
    return (1 - rate_a) * (1 - rate_b) / 2 + rate_b * (1 - rate_a) + rate_a * rate_b * both


def _d_av(
    mean_a: np.ndarray,
    variance_a: np.ndarray,
    mean_b: np.ndarray,
    variance_b: np.ndarray,
    weights: Mapping[str, float],
) -> np.ndarray:
    """(Σ w (mean_b − mean_a)) / √(Σ w (variance_a + variance_b)/2) over languages; arrays `[2 languages, n]`.

    0 for a feature that fires on neither side.
    """
    w = np.array([weights.get(language, 0.0) for language in LANGUAGES])[:, None]
    w = w / w.sum()
    spread = np.sum(w * (variance_a + variance_b) / 2, axis=0)
    difference = np.sum(w * (mean_b - mean_a), axis=0)
    return np.divide(difference, np.sqrt(spread), out=np.zeros_like(difference), where=spread > 0)


def _rate_of(d: float) -> float:
    """The firing rate at which a feature that fires on one side only has |d_av| = d.

    d = r / √((MOMENT·r − r²)/2), solved for r.
    """
    return d**2 * MOMENT / (2 + d**2)


def _factor_of(d: float) -> float:
    """The factor on the strength at which a feature that fires at SHIFTED_RATE on both sides has d_av = d."""
    # r (f − 1) = d √(s (1 + f²)), squared, is a quadratic in f; its larger root is the factor.
    r = SHIFTED_RATE
    s = (MOMENT * r - r**2) / 2
    lead = r**2 - d**2 * s
    return float((r**2 + np.sqrt(r**4 - lead**2)) / lead)
