"""The settings of a checkpoint and of reading its activations, as they stand in a study file.

The defaults are the published study's (PUBLISHED.md): layers 6, 12 and 18, 512 tokens, fp16, 64 texts of full
length at a time, mean pooling, no outlier mask.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from antar.core.config import Config

Pooling = Literal["mean", "last", "max", "none"]
TOKEN_LEVEL_SHARD = 100
"""Texts in a shard of a row a token: 100 of 512 tokens, 3 layers 2,048 wide, are 1.3 GB."""


class ModelConfig(Config):
    """One checkpoint: a name on the Hugging Face hub, or a folder."""

    path: str = Field(min_length=1)
    """The hub name, e.g. `Qwen/Qwen1.5-1.8B`, or a folder with `config.json`, tokenizer and safetensors files."""
    revision: str | None = None
    """Branch, tag or commit on the hub; null is `main`. The commit that it names is recorded. Unused for a folder."""
    gguf_file: str | None = None
    """Name of a GGUF file in `path`, for checkpoints that exist in that form only; null reads safetensors."""
    name: str | None = None
    """What people call this checkpoint; null is its path."""
    random_weights: int | None = Field(default=None, ge=0)
    """Draw the architecture's weights afresh with this seed and read none; null reads the checkpoint's."""

    @property
    def display(self) -> str:
        return self.name or self.path


class ExtractConfig(Config):
    """What is read from each checkpoint."""

    layers: tuple[int, ...] = Field(default=(6, 12, 18), min_length=1)
    """0-based decoder blocks. Layer L is the output of block `layers[L]`, for the last one before the final norm."""
    max_tokens: int = Field(default=512, ge=1)
    """A longer text is cut after this many tokens, special tokens included. In the chat template only the text's own
    tokens are counted; the template's come on top."""
    chat_template: bool | Literal["both"] = False
    """Put every text as the single user message into the chat checkpoint's template, on every side, and pool the
    text's own tokens only. `both` reads every text twice, bare and so, as two corpora told apart by the facet
    `reading`. Published: off."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float16"
    """Arithmetic of the forward pass. Pooling is in float32 whatever this says."""
    token_budget: int | None = Field(default=None, ge=1)
    """Tokens in one batch, padding included; null is 32,768 on a GPU (published) and 2,048 on a CPU, whose caches
    hold no more. Halved, and halved again, when memory runs out."""
    packing: bool = True
    """Batches without padding, for every architecture that allows it (found out by trying, and kept in the manifest);
    false pads texts of similar length to the longest."""
    pooling: Pooling = "mean"
    """How a text's token vectors become one: the mean, the last or the largest (in each dimension) over its content
    tokens; `none` keeps every token's vector, dictionaries train on tokens, and codes are pooled."""
    precision_texts: int = Field(default=256, ge=0)
    """Read so many texts in float32 too, and say how far the difference of the sides is off in `dtype`; 0: not."""
    outliers: bool = False
    """Leave out tokens of extreme norm (attention sinks) that base has at any layer, on every side and layer."""
    outlier_multiple: float = Field(default=10.0, gt=1)
    """A token is an outlier when its norm exceeds this many times the layer's median token norm."""
    calibration_texts: int = Field(default=512, ge=1)
    """How many texts, evenly spread over the corpus, the median is taken over."""
    threads: int | None = Field(default=None, ge=1)
    """Torch threads of the forward pass, on whatever engine; null leaves torch's own choice."""
    texts_per_shard: int = Field(default=1000, ge=1)
    """Texts in one shard: what a killed run can lose, what batches are sorted by length within, and, at every layer
    together, what is in memory at once; with `pooling: none`, whose texts are many rows, 100 unless said."""
    device: str = "auto"
    """`auto` takes the GPU when there is one; else a torch device such as `cpu` or `cuda:1`."""

    @model_validator(mode="before")
    @classmethod
    def _token_level_shards_are_smaller(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("pooling") == "none" and "texts_per_shard" not in given:
            return {**given, "texts_per_shard": TOKEN_LEVEL_SHARD}
        return given

    @field_validator("layers")
    @classmethod
    def _layers_are_distinct(cls, layers: tuple[int, ...]) -> tuple[int, ...]:
        if any(layer < 0 for layer in layers):
            raise ValueError("layers: count blocks from 0; the last of n blocks is n - 1, not -1")
        if len(set(layers)) != len(layers):
            raise ValueError("layers: the same layer is listed twice")
        return layers
