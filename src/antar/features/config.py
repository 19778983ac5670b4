"""What a study file may say about features and contrasts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from antar.core.config import Config


class FeatureConfig(Config):
    """Live features and their top examples."""

    top_examples: int = Field(default=20, ge=1)
    """Texts kept for each feature and pool, the strongest first; ties go to the earlier text."""
    token_codes: Literal["mean", "max"] = "mean"
    """How the codes of a text's tokens become the text's, where `extract.pooling` is `none`: each latent's mean over
    the tokens, or its maximum."""
    live_on: Literal["train", "all"] = "train"
    """Where a latent must fire to be live: on the training split (dead there is dead) or on any text."""
    live_texts: int = Field(default=1, ge=1)
    """On how many of those texts it must fire."""


class ContrastConfig(Config):
    """Which contrasts are measured, and how their p-values are made."""

    shift: bool = True
    """base against chat, the same cultural texts, paired; measured wherever it is defined."""
    culture: bool = True
    """Cultural texts against controls of the same language, labels shuffled within strata of length."""
    interaction: bool = True
    """Is the shift larger on cultural than on control texts? Measured wherever shift is."""
    facets: tuple[str, ...] = ()
    """Facet columns (such as `state` or `concept`): each value against the rest of the cultural texts."""
    permutations: int = Field(default=1000, ge=20)
    """Shuffles of the documents for shift, culture and interaction."""
    facet_permutations: int = Field(default=200, ge=20)
    """Shuffles for facets; each shuffle gives one null draw for every value of the column, and draws are pooled."""
    warn_under: int = Field(default=30, ge=2)
    """A group of fewer texts than this is marked `few`."""
    length_bins: int = Field(default=5, ge=1)
    """Quantile bins of text length (characters) within a language: labels are shuffled inside a bin."""
    within: str | None = None
    """A facet column (such as a topic or a template): the effect is given a second time with texts compared only with
    texts of the same value (`d_within`). Values that one group alone has say nothing there."""
    script_auroc: float = Field(default=0.95, gt=0.5, le=1)
    """A latent that tells one language from the others this well tracks the script; ..."""
    script_d: float = Field(default=0.2, ge=0)
    """... and tracks nothing else (`script_only`) when its effect is smaller than this in each language."""
    nulls: tuple[Literal["shuffled", "same_checkpoint"], ...] = ("shuffled", "same_checkpoint")
    """Nulls measured beside every contrast; those of a sham come from the sham's own codes."""
    sd_floor: float = Field(default=1e-6, ge=0)
    """An effect whose standard deviation is under this share of a code's typical size is float jitter: d = 0."""
    stream: str = "contrasts"
    """Name of the random stream of the shuffles, under the study's seed."""


class CrosscheckConfig(Config):
    """How features chosen on the cultural corpus are tested on the texts of a `split: crosscheck` source."""

    top: int = Field(default=20, ge=1)
    """Features of each set of codes and language: those with q_select under `q` and d_av_select above 0, largest
    first."""
    q: float = Field(default=0.05, gt=0, lt=1)
    """The bound on q_select."""
    bins: int = Field(default=10, ge=1)
    """Quantile bins of the cross-check texts' words: a text is compared with controls of its own bin only."""
    draws: int = Field(default=200, ge=20)
    """Random sets of live features, and shuffles of the documents' labels: the two nulls."""
    replicates: int = Field(default=1000, ge=100)
    """Bootstrap draws of documents for the intervals."""
