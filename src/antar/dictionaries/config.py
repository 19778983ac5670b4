"""The part of a study file that says how dictionaries are trained, and its two presets.

`published` is the published study's recipe, number for number, with its faults mended (`published_faults` lists
each, for the report). `antar` is the recommended recipe: the same sizes and optimiser, OpenAI's AuxK (Gao et al.
2024, arXiv 2406.04093, appendix A.2) instead of re-drawn latents, and a dead rule that spares rare features.
A study file names a preset and overrides any field of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from antar.core.config import Config
from antar.core.errors import UserError
from antar.core.sites import IMPORTED

PresetName = Literal["antar", "published"]
Side = Literal["base", "chat", "delta", "joint"]
Baseline = Literal["pca", "random", "neurons"]
Kind = Literal["topk", "batchtopk", "crosscoder", "pca", "random", "neurons"]

# What a preset sets otherwise than the fields' own defaults, which are those of `antar`.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "antar": {},
    "published": {
        "auxk_coefficient": 0.03,
        "auxk_normalised": False,
        "dead_rule": "published",
        "reset_every_steps": 3000,
        "decoder_init": "xavier",
        "pre_bias": "zero",
        "warmup_share": 1.0,
        "train_on": "cultural",
        "validate_on": "control",
    },
}


class ImportedDictionary(Config):
    """A dictionary that others trained, as SAELens saved it or `antar import` wrote it."""

    path: str = Field(min_length=1)
    """Its folder, relative to the study file: `cfg.json` and `sae_weights.safetensors`."""
    name: str = Field(pattern="^[a-z0-9]+$")
    """A short name, in lower-case letters and digits; `theirs` makes the id `base.layer06.imported_theirs`."""
    side: Literal["base", "chat", "delta"] = "base"
    """What it was trained on. One of base encodes every checkpoint, so that a shift is measured on it."""
    layer: int = Field(ge=0)
    """The 0-based block whose output it takes; one of `extract.layers`."""
    k: int | None = Field(None, ge=1)
    """Latents that fire on average, where its latents have thresholds and the folder does not tell."""

    @property
    def kind(self) -> str:
        return f"{IMPORTED}{self.name}"


class DictionaryConfig(Config):
    """How each dictionary is trained. Lengths are in optimiser steps or epochs, as named."""

    preset: PresetName = "antar"
    """The recipe that every field which is not set here is taken from: `antar` (recommended) or `published`."""
    sides: list[Side] = Field(["base", "chat", "delta"], min_length=1)
    """What dictionaries are trained on, at each layer: one side's activations, or both sides' rows (`joint`)."""
    kinds: list[Kind] = Field(["topk"])
    """Kinds of dictionaries, each on each of `sides`: `topk`; `batchtopk`, whose texts share a budget; `pca`,
    `random` and `neurons`, the baselines as dictionaries of their own. A `crosscoder` (one code for base and chat,
    two decoders) is always of both, one a layer. [] trains none, for a study of `imported` ones."""
    imported: list[ImportedDictionary] = Field(default_factory=list)
    """Dictionaries that others trained: they get codes, examples, contrasts and criteria like the study's own."""
    baselines: list[Baseline] = Field(["pca", "random", "neurons"])
    """Nulls that need no training, on the sides base and delta where `sides` has them: principal components, random
    directions, and raw neurons (the coordinates of the activations), with the same k. [] makes none; one that `kinds`
    names is on every side."""
    n_latents: int = Field(8192, ge=1)
    """Width of the dictionary."""
    k: int = Field(256, ge=1)
    """Latents that may fire on one text (`topk`), or that fire on average (`batchtopk`, `crosscoder`)."""
    auxk_coefficient: float = Field(1 / 32, ge=0)
    """Weight of the AuxK term: 1/32 in `antar` (Gao et al. 2024), 0.03 in `published`. 0 turns it off."""
    auxk_normalised: bool = True
    """Divide AuxK by the residual's own sum of squares, as OpenAI's code does, so that it does not fade as the
    residual shrinks. `published` takes the plain mean square."""
    k_aux: int = Field(512, ge=1)
    """Dead latents that model the residual of one text; all of them where fewer are dead."""
    optimiser: Literal["adamw", "adam"] = "adamw"
    """`adam` is AdamW without the weight decay, which must be 0 then (and is, where it is not set)."""
    lr: float = Field(1e-4, gt=0)
    """The learning rate after the warm-up. A training of a few hundred steps needs more than 1e-4 (about 3e-3
    for 256 latents); much more, and latents die where AuxK does not reach them (no text gives them a positive
    pre-activation)."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Adam's decay rates of the two moments."""
    moments: Literal["fp32", "bf16"] = "fp32"
    """How Adam's moments of encoder and decoder are kept. `bf16` halves the optimiser's memory and shortens the fused
    CPU step; the second moment is then rounded at random. The torch step keeps fp32 only."""
    eps: float = Field(1e-8, gt=0)
    """Adam's epsilon, added to the root of the second moment."""
    weight_decay: float = Field(0.01, ge=0)
    """AdamW's decoupled weight decay. Decoder rows are brought back to unit length, so it acts on the rest."""
    warmup_steps: int = Field(1000, ge=0)
    """Steps over which the learning rate rises linearly from zero."""
    warmup_share: float = Field(0.1, gt=0, le=1)
    """The warm-up takes at most this share of the planned steps, so that short trainings have one that ends."""
    decay: Literal["none", "linear", "cosine"] = "none"
    """How the learning rate falls to zero at the end of the planned steps. Early stopping may come before."""
    decay_share: float = Field(0.2, gt=0, le=1)
    """Share of the planned steps, the last ones, over which `decay` acts."""
    clip: float = Field(1.0, ge=0)
    """Gradients are scaled down to this global norm. 0 turns clipping off."""
    batch: int = Field(256, ge=1)
    """Largest batch, in texts. An epoch is cut into equal batches of at most this size."""
    max_epochs: int = Field(100, ge=1)
    """Training ends here at the latest."""
    check_every_epochs: int = Field(5, ge=1)
    """Validation, history row and checkpoint after this many epochs (and after the last one)."""
    patience: int = Field(3, ge=0)
    """Training stops after this many checks in a row without improvement. 0 never stops early."""
    min_delta: float = Field(1e-3, ge=0, lt=1)
    """An improvement lowers the best validation error by more than this share of it."""
    dead_rule: Literal["epoch", "published"] = "epoch"
    """`epoch`: dead is what fired on no text of `dead_window_epochs`, until it fires again. `published`: what fired
    on less than `dead_share` of the texts of the last `dead_window_steps` steps."""
    dead_window_epochs: float = Field(1.0, ge=1)
    """Window of the `epoch` dead rule: each text is seen once in an epoch, so a shorter one would call a latent dead
    whose texts had not come yet."""
    dead_window_steps: int = Field(1000, ge=1)
    """Window of the `published` dead rule."""
    dead_share: float = Field(0.001, gt=0, lt=1)
    """Firing rate under which the `published` rule calls a latent dead."""
    reset_every_steps: int = Field(0, ge=0)
    """After this many steps dead latents are re-drawn and their optimiser state is cleared. 0: never."""
    reset_to: Literal["fresh", "residual"] = "fresh"
    """What dead latents are re-drawn to: rows as at the start (`fresh`), or what the dictionary leaves of texts that
    it reconstructs poorly (`residual`), drawn in proportion to their squared loss (Bricken et al. 2023)."""
    reset_scale: float = Field(0.2, gt=0)
    """Length of encoder rows re-drawn to `residual`, as a share of the live latents' mean: a longer one fires on many
    texts before it has learnt when."""
    decoder_init: Literal["unit", "xavier"] = "unit"
    """First decoder rows: Gaussian directions (`unit`) or Xavier-uniform entries (`xavier`), then unit length. The
    encoder starts as the transpose of the decoder, the biases at zero."""
    normalise: bool = True
    """Centre the inputs on the training split's mean and scale them to unit mean square on it. Both are folded
    back into the weights, so that a dictionary always takes and gives raw activations."""
    pre_bias: Literal["mean", "geometric_median", "zero"] = "mean"
    """Where the decoder bias starts, among the inputs as training sees them. With `normalise` the mean is zero, so
    that `mean` and `zero` (`published`) are one; `geometric_median` is moved less by texts of outlying norm."""
    train_on: Literal["cultural", "all"] = "all"
    """Texts that dictionaries are trained on: the cultural corpus (`published`) or it and the controls (`antar`)."""
    validate_on: Literal["val", "control"] = "val"
    """Texts that stop the training: the validation split of what it trains on (`antar`) or the controls
    (`published`)."""
    seeds: int = Field(0, ge=0)
    """Replicas with other seeds, for criterion 7 (stability)."""
    folds: int = Field(0, ge=0)
    """Replicas on document folds, for criterion 7 (stability): none, or at least two."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where training runs. `auto` takes a CUDA device where there is one."""
    path: Literal["auto", "fused", "torch"] = "auto"
    """The step that trains: compiled kernels for the CPU (`fused`) or tuned torch (`torch`). `auto` takes the
    fastest that this machine has."""
    compute: Literal["auto", "bf16", "fp32"] = "auto"
    """Precision of what a step multiplies; weights and optimiser are fp32 either way, and sums are made in fp32. The
    torch step rounds the operands of its two dense products, the fused and stacked ones those of AuxK and of the
    gradients too. `auto` takes bf16 where the hardware has it and the dictionary is large enough (2²⁰ weights a
    matrix) to gain by it."""
    stacked: Literal["auto", "always", "never"] = "auto"
    """Train a study's dictionaries at once, as one stack of matrices: `auto` on a CUDA device. In one
    precision the result is the same to rounding."""
    stream_buffer: int = Field(512, ge=1)
    """MiB of token rows that are shuffled together, where `extract.pooling` is `none` and rows stay on the disk."""
    threads: int | None = Field(None, ge=1)
    """Torch threads during training; the last bits of a result depend on them. Unset: as the process has them."""

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        adam = {"weight_decay": 0.0} if given.get("optimiser") == "adam" else {}
        return {**PRESETS.get(given.get("preset", "antar"), {}), **adam, **given}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.k > self.n_latents:
            raise ValueError(f"k: expected at most n_latents = {self.n_latents}, found {self.k}")
        if self.optimiser == "adam" and self.weight_decay:
            raise ValueError(f"weight_decay: expected 0 with optimiser adam, found {self.weight_decay:g}; use adamw")
        if self.moments == "bf16" and self.path == "torch":
            raise ValueError("moments: expected fp32 with path torch, found bf16; use path auto or fused")
        if self.stacked == "always" and (self.moments == "bf16" or self.path == "fused"):
            raise ValueError(
                "stacked: always needs fp32 moments and path auto or torch, found "
                f"moments {self.moments} and path {self.path}; change those, or use stacked: auto"
            )
        for name in ("sides", "kinds", "baselines"):
            given: list[str] = getattr(self, name)
            if len(set(given)) < len(given):
                raise ValueError(f"{name}: expected each once, found {', '.join(given)}")
        if not self.kinds and not self.imported:
            raise ValueError("kinds: expected at least one, or dictionaries in `imported`, found neither")
        places = [(one.side, one.layer, one.name) for one in self.imported]
        if twice := next((place for place in places if places.count(place) > 1), None):
            raise ValueError(
                "imported: expected a name once for each side and layer, found {} twice on {}, layer {}".format(
                    twice[2], *twice[:2]
                )
            )
        if self.folds == 1:
            raise ValueError("folds: expected 0 or at least 2, found 1")
        return self

    def training_fields(self) -> dict[str, Any]:
        """The fields that one dictionary's training depends on, for its fingerprint."""
        which = {"preset", "sides", "kinds", "baselines", "imported", "seeds", "folds", "stacked"}
        return self.model_dump(exclude=which | {"train_on", "validate_on"})


def preset(name: str, **overrides: Any) -> DictionaryConfig:
    """The config of the preset called `name`, with `overrides`. Raises UserError for an unknown name."""
    if name not in PRESETS:
        raise UserError(f"dictionaries.preset: expected one of {', '.join(PRESETS)}, found {name!r}")
    return DictionaryConfig.model_validate({"preset": name, **overrides})


@dataclass(frozen=True)
class PublishedFault:
    """A fault of the published recipe: what it was, and what antar does, under both presets unless said."""

    name: str
    was: str
    now: str


published_faults: tuple[PublishedFault, ...] = (
    PublishedFault(
        "dead-latent reset",
        "The reset wrote to a copy of the weights (advanced indexing copies), so that nothing was reset.",
        "Exactly the dead rows and their two Adam moments are overwritten in place; a test compares every row.",
    ),
    PublishedFault(
        "optimiser after a reset",
        "The optimiser was rebuilt whole, so that live latents lost their moments too.",
        "The moments of live latents stay as they are.",
    ),
    PublishedFault(
        "raw error as the only measure",
        "MSE on the raw scale was compared over sides and layers. A delta is small, so its MSE is small by nature.",
        "The raw MSE is kept, and FVU (share of variance not explained) stands beside it.",
    ),
    PublishedFault(
        "validation on other data",
        "Training was stopped by the controls, which have another length and genre than the training texts.",
        "The published preset still stops on the controls and reports held-out cultural texts beside them; "
        "the antar preset stops on held-out texts of what it trains on.",
    ),
    PublishedFault(
        "dead window",
        "A latent under 0.1% of 1,000 steps counts as dead, so rare cultural features are re-drawn.",
        "Kept in the published preset. In the antar preset a latent is dead only if no text of a whole epoch "
        "fires it; AuxK revives it and nothing is re-drawn.",
    ),
    PublishedFault(
        "scale of the inputs",
        "No centring or scaling is stated, while the scale of activations differs by sides and layers, and so does "
        "the weight of AuxK, clipping and Adam's epsilon.",
        "Inputs are centred and scaled on the training split, and both are folded back into the weights.",
    ),
    PublishedFault(
        "length of decoder rows",
        "No constraint is stated; then a code's value is no magnitude, because a row's length can absorb it.",
        "Decoder rows have unit length, at the start and after each step; codes are in activation units.",
    ),
    PublishedFault(
        "sparsity as a criterion",
        "L0 above 10 times the baseline passes by construction: TopK fixes k.",
        "Reported as passing by construction, with the live share and the firing-rate histogram beside it.",
    ),
)
