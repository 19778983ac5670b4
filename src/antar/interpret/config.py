"""The interpretation part of a study file: who labels, who validates, and how many texts they see.

The embedded keyword workers need nothing. An LLM worker is named by model and endpoint; with no endpoint the
keyword worker stands in and the run says so, so that the published study's file runs on any machine.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from antar.core.config import Config
from antar.interpret.llm.config import LlamaCppWorker, LlmWorker


class KeywordWorker(Config):
    """The embedded worker: contrastive keywords, no model, no network."""

    kind: Literal["keywords"] = "keywords"


def _by_name(value: Any) -> Any:
    """`labeller: keywords` is short for `labeller: {kind: keywords}`."""
    return {"kind": value} if isinstance(value, str) else value


Worker = Annotated[KeywordWorker | LlmWorker | LlamaCppWorker, Field(discriminator="kind"), BeforeValidator(_by_name)]

PUBLISHED_LABELLER = LlmWorker(model="Qwen/Qwen1.5-32B-Chat")
PUBLISHED_VALIDATOR = LlmWorker(model="Qwen/Qwen3-30B-A3B")


class KeywordConfig(Config):
    """How keyword labels are made and when a set of examples counts as one theme."""

    most: int = Field(default=5, ge=1, le=20)
    """Keywords of a label."""
    min_texts: int = Field(default=2, ge=1)
    """A keyword is in at least so many example texts …"""
    min_share: float = Field(default=0.15, gt=0, le=1)
    """… and in at least this share of them."""
    min_lift: float = Field(default=2.0, ge=1)
    """A keyword is so many times as common among the examples as in texts of the same languages."""
    alpha: float = Field(default=0.05, gt=0, lt=1)
    """COHERENT when so small a share of random example sets is covered by its keywords as well as this one."""
    null_sets: int = Field(default=199, ge=19)
    """Random sets for each make-up of languages and length."""
    min_examples: int = Field(default=5, ge=2)
    """Fewer distinct example texts than this are INCOHERENT: nothing can be said of them."""


class ValidationConfig(Config):
    """When the keyword validator keeps a label."""

    texts: int = Field(default=20, ge=5)
    """The strongest held-out texts that judge a label, with as many that do not fire the feature."""
    min_texts: int = Field(default=5, ge=2)
    """With fewer a label cannot be checked, and is not kept."""
    keep_at: float = Field(default=0.70, gt=0.5, le=1)
    """The balanced accuracy that a keyword label needs; its interval must also lie above one half."""
    controls: float = Field(default=0.10, ge=0, lt=0.5)
    """The share of an LLM validator's items that carry a label known to be wrong, unmarked; as many more carry one
    that is right by construction. They measure the validator and never reach the results."""


class PredictionConfig(Config):
    """The texts of criterion 3."""

    texts: int = Field(default=20, ge=4)
    """Texts of each class a feature: half of the silent ones random, half hard."""
    min_texts: int = Field(default=4, ge=2)
    """A feature with fewer held-out texts that fire it is not tested; the run says how many there were."""
    quantiles: int = Field(default=5, ge=1)
    """The firing texts are drawn evenly from so many quantiles of their activation."""
    saebench: bool = True
    """Also ask SAEBench's form (14 texts in one question, accuracy), beside its always-no baseline of 0.714."""
    neighbours: int = Field(default=5, ge=1)
    """Hard texts fire one of the so many nearest features (decoder cosine) and not this one."""


class InterpretConfig(Config):
    """Labels, verdicts and predictions."""

    labeller: Worker = KeywordWorker()
    """Who says what a feature is about. Published: Qwen1.5-32B-Chat."""
    validator: Worker = KeywordWorker()
    """Who checks it on other texts. Published: Qwen3-30B-A3B."""
    predictor: Worker = KeywordWorker()
    """Who predicts firing from the label alone (criterion 3)."""
    choose: Literal["live", "effect", "coherence", "all"] = "live"
    """Which features of a dictionary are taken: `live` a random sample of the live ones, so that criterion 3 is not
    measured on the best; `effect` those of the largest difference between cultural and control texts; `coherence`
    those whose examples are most alike in words (both on the select half); `all` every live one."""
    features_per_site: int | None = Field(default=400, ge=1)
    """How many of a dictionary are taken: an LLM labels so many, and what it finds coherent is validated and
    predicted; of keyword labels so many coherent ones are. None: all. Keyword labels are made for every live feature
    in any case."""
    examples: int = Field(default=20, ge=2)
    """Example texts that a labeller sees."""
    top_share: float = Field(default=0.5, gt=0, le=1)
    """The share of an LLM's examples that are a feature's strongest texts; the rest come evenly from the range of its
    activation below them. Published: 1. Keyword labels read the strongest texts alone."""
    hard_negatives: int = Field(default=0, ge=0)
    """Texts that an LLM labeller sees beside them which fire the nearest features and not this one."""
    characters: int = Field(default=300, ge=50)
    """Where a text is cut for an LLM. Keywords are counted over whole texts."""
    checkpoint_every: int = Field(default=100, ge=1)
    """Records are flushed to the disk after so many features."""
    keywords: KeywordConfig = KeywordConfig()
    validation: ValidationConfig = ValidationConfig()
    prediction: PredictionConfig = PredictionConfig()
