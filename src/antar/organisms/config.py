"""The settings of a planted pair and of the rule that is scored against its truth.

Both are fields of the study file, so that the pair and the thresholds are on paper before anything is measured.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from antar.core.config import Config


class TinyConfig(Config):
    """A pair of small Qwen2 models from antar's own bilingual grammar. The defaults are the demo's."""

    kind: Literal["tiny"] = "tiny"
    """Which organism this is."""
    seed: int = 7
    """Everything random follows from it: the list, the texts, the weights, the order of the batches."""
    variant: Literal["anchored", "kl", "plain"] = "anchored"
    """How the unlisted concepts are held still. `anchored`: hidden states are tied to the base model's on unlisted
    texts, so the list itself plants the specificity. `kl`: only the predictions are tied, as in real alignment.
    `plain`: nothing is tied, and unlisted texts are replayed with their original continuations: the cautionary case,
    where the behaviour changes as asked and drift hides inside what changed."""
    shams: tuple[str, ...] = ("a", "b")
    """Names of the shams: the same fine-tune with nothing changed. One sets the threshold, another measures it."""

    vocabulary: int = Field(default=2560, ge=300)
    """Size of the byte-level BPE vocabulary, special tokens and the 256 bytes included: at 2,560 each word of the
    lexicon is one token; at 2,048 the rarest fall to bytes, and a fine-tune cannot hold those concepts still."""
    d_model: int = Field(default=128, ge=8)
    n_layers: int = Field(default=4, ge=1)
    d_ff: int = Field(default=384, ge=8)
    n_heads: int = Field(default=4, ge=1)
    n_kv_heads: int = Field(default=2, ge=1)

    base_steps: int = Field(default=400, ge=1)
    """Steps of training from scratch, each on `batch` fresh documents. With 300, base has not learned every concept,
    so that a sham still learns something and is no null."""
    base_lr: float = 3e-3
    """Peak learning rate of the base model's one-cycle schedule."""
    align_steps: int = Field(default=120, ge=1)
    """Steps of the fine-tune that makes the chat side and each sham."""
    align_lr: float | None = None
    """Peak learning rate of the fine-tunes. None takes what suits the variant: 3e-3 for `anchored`, 5e-4 for `kl` and
    `plain`, whose hidden states are free to drift."""
    batch: int = Field(default=32, ge=2)
    """Documents a step. In a fine-tune one half learns and the other half is held still."""
    anchor_weight: float = 100.0
    """`anchored`: weight of the squared hidden-state error, relative to the squared norm of base's states."""
    kl_weight: float = 10.0
    """`kl`: weight of the KL divergence from base's predictions, in nats a token."""

    probes_per_concept: int = Field(default=80, ge=1)
    """Probe texts for each concept and language; there are as many control texts in all."""
    texts_per_document: int = Field(default=2, ge=1)
    """Probe texts that share a document (one narrator's page), and so a split."""
    checks_per_concept: int = Field(default=4, ge=1)
    """Mentions of each concept and language on which the behaviour of every side is checked."""
    threads: int = Field(default=2, ge=1)
    """Torch threads while training. Sums depend on it, so the bits do: it is a part of the recipe."""

    @property
    def fine_tune_lr(self) -> float:
        if self.align_lr is not None:
            return self.align_lr
        return 3e-3 if self.variant == "anchored" else 5e-4

    @model_validator(mode="after")
    def _heads_divide(self) -> TinyConfig:
        if self.d_model % self.n_heads or self.n_heads % self.n_kv_heads:
            raise ValueError("organism: n_heads must divide d_model, and n_kv_heads must divide n_heads")
        if len(set(self.shams)) != len(self.shams):
            raise ValueError("organism: two shams have the same name")
        return self


class TruthRule(Config):
    """When a concept counts as changed. Fixed in the study file before the run."""

    energy_ratio: float = Field(default=1.25, gt=0)
    """The concept's delta energy must exceed this many times the largest of any concept on the first sham ..."""
    outliers: int = Field(default=1, ge=0)
    """... so many of the sham's largest left out, except for the concept itself: drift is specific to concepts, and
    one that drifts far on every side would otherwise hide all the others."""
    d: float = Field(default=0.8, ge=0)
    """A delta feature of the concept must have |d| above this for the concept against the rest (selection half)."""
    q: float = Field(default=0.05, gt=0, le=1)
    """... and a Benjamini-Hochberg q below this (selection half)."""
    purity: float = Field(default=0.8, ge=0, le=1)
    """... and at least this share of its top examples must be of the concept."""
    examples: int = Field(default=20, ge=1)
    """How many top examples purity looks at."""
    min_examples: int = Field(default=10, ge=1)
    """A feature with fewer examples than this is evidence of nothing."""
    energy_floor: float = Field(default=1e-5, ge=0)
    """Energies below this share of the activation norm are float jitter and count as zero."""
