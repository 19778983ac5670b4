"""What a study file may set of a sham that antar makes: `models.shams: {a: {make: {...}}}`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from antar.core.config import Config
from antar.corpora.config import Organism, Source


class ShamConfig(Config):
    """How base is trained on with nothing to learn. `{}` is a whole recipe."""

    seed: int | None = None
    """The order of the texts follows from it and from the sham's name; null is the study's seed. So two shams differ
    whether or not they have seeds of their own."""
    texts: tuple[Source, ...] | None = None
    """What base is trained on: null takes the corpus's control texts of the training split. Else a list of files
    (`neutral.txt`, one text a line; JSONL, CSV, ... with a column `text`) or of sources as a corpus has them. Texts
    that the corpus holds, and near duplicates of them, are left out."""
    lr: float = Field(default=2e-5, gt=0)
    """Learning rate of AdamW: constant after `warmup_steps`, because nobody knows beforehand when it ends."""
    weight_decay: float = Field(default=0.0, ge=0)
    warmup_steps: int = Field(default=10, ge=0)
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of a step's gradient."""
    batch: int = Field(default=16, ge=1)
    """Texts a step."""
    max_tokens: int = Field(default=128, ge=2)
    """A training text is cut after this many tokens."""
    max_steps: int = Field(default=2000, ge=1)
    """Training ends here, and the report says so where a layer has not drifted as far as the chat model's by then."""
    check_every: int = Field(default=10, ge=1)
    """Steps between two measurements of the drift. A layer that has reached its target has its blocks frozen."""
    tolerance: float = Field(default=0.02, gt=0, lt=1)
    """How far the drift of a layer may be from the chat model's, relatively."""
    probes: int = Field(default=400, ge=2)
    """Held-out control texts on which drift is measured, evenly spread over them: those of the selection half set the
    match, those of the estimation half say how well it holds elsewhere."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the forward pass in training. Weights and both moments are float32 whatever this says: in
    bfloat16 most updates of a small learning rate would round to nothing."""
    token_budget: int = Field(default=4096, ge=1)
    """Tokens in one forward pass, padding included; a step with more adds up several."""
    threads: int | None = Field(default=None, ge=1)
    """Torch threads; null takes extract's. Sums depend on it, so the bits do."""
    device: str | None = None
    """A torch device such as `cpu` or `cuda:1`; null takes extract's."""
    checkpoint_every: int = Field(default=100, ge=0)
    """Steps between two checkpoints, from which a killed training goes on; 0 writes none before its end."""

    @field_validator("texts", mode="before")
    @classmethod
    def _files_by_name(cls, texts: Any) -> Any:
        """`texts: a.txt` and `texts: [a.txt, ...]` as sources of files."""
        if isinstance(texts, str):
            texts = [texts]
        if not isinstance(texts, list | tuple):
            return texts
        return tuple(
            {"source": "files", "name": one, "paths": [one]} if isinstance(one, str) else one for one in texts
        )

    @field_validator("texts")
    @classmethod
    def _neutral(cls, texts: tuple[Source, ...] | None) -> tuple[Source, ...] | None:
        if texts is None:
            return None
        if not texts:
            raise ValueError("name at least one file or source, or leave texts out")
        labels = [source.label for source in texts]
        if twice := sorted({label for label in labels if labels.count(label) > 1}):
            raise ValueError(f"two sources are called {', '.join(twice)}: give each its own `name`")
        for source in texts:
            if source.group != "control" or isinstance(source, Organism):
                raise ValueError(f"{source.label}: a sham learns neutral texts, and these are {source.group} texts")
        return texts


class MadeSham(Config):
    """A sham that antar makes, in place of one that is given by its path."""

    make: ShamConfig
    """How; `{}` takes every default."""
