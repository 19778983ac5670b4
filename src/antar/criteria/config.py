"""The thresholds of the seven criteria. Every default is the published study's, or says why it is not."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from antar.core.config import Config


class Embedder(Config):
    """A text encoder on this machine, for coherence by the texts themselves."""

    embedder: str
    """Folder of a transformers encoder and its tokenizer, relative to the study file. Not the model under study."""
    max_tokens: int = Field(default=256, ge=8)
    """A text is cut after this many tokens."""


def fold(log_odds: float) -> str:
    """`10-fold`: by how much the odds change. Beyond e⁷⁰⁰ it is no longer counted."""
    return f"{math.exp(min(log_odds, 700.0)):.3g}-fold"


class CriteriaConfig(Config):
    """A part of the study file, so that each threshold is on paper before anything is measured."""

    mse: float = Field(default=0.05, gt=0)
    """1, as published: mean squared error in raw activation units below this."""
    fvu: float = Field(default=0.05, gt=0)
    """1, the honest one: fraction of held-out variance left unexplained below this."""
    sparsity: float = Field(default=10.0, gt=0)
    """2: latents divided by the mean number that fires (L0) above this."""
    predictive_validity: float = Field(default=0.70, ge=0, le=1)
    """3: the lower end of the interval of the mean balanced accuracy reaches this."""
    d: float = Field(default=0.8, ge=0)
    """4: a feature counts when |d_av| is above this ..."""
    q: float = Field(default=0.05, gt=0, le=1)
    """4: ... and its Benjamini-Hochberg q is below this, both on the estimation half."""
    log_odds: float = Field(default=2.302585092994046, ge=0)
    """4, beside: a feature counts by firing when the odds of firing change by this much: ln 10, tenfold."""
    coherence: float = Field(default=0.60, ge=0, le=1)
    """5: mean coherence of the live features reaches this, in the activations and in `text_space`."""
    text_space: Literal["tfidf"] | Embedder = "tfidf"
    """5: vectors of the texts that the model has no part in: `tfidf` (words and pairs of words, reduced by LSA), or
    `{embedder: FOLDER}`, a transformers encoder on this machine."""
    agreement: float = Field(default=0.70, ge=-1, le=1)
    """6: the lower end of the interval of Krippendorff's alpha reaches this."""
    stability: float = Field(default=0.80, ge=0, le=1)
    """7: mean matched decoder cosine over replicas above this."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    """Coverage of every interval."""
    replicates: int = Field(default=2000, ge=100)
    """Bootstrap replicates."""
    seed: int = 42
    """Seed of the bootstrap."""
