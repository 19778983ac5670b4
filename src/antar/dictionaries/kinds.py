"""What every kind of dictionary can do, how it learns, and which kinds there are.

| kind | selects | trained on |
|---|---|---|
| topk | the k largest pre-activations of a text | one side's rows, or both sides' (`joint`) |
| batchtopk | the B·k largest of a batch; above a threshold afterwards | as topk |
| crosscoder | as batchtopk | rows (base, chat), with a decoder for each side |
| pca | ± the k principal components, as 2k latents | fitted, not trained |
| random | as topk, on random directions | one gain is fitted |
| neurons | the k coordinates farthest from their means, as ± pairs | nothing but the means |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from antar.core.errors import UserError
from antar.core.sites import BASELINE_KINDS
from antar.core.sparse import SparseCodes
from antar.dictionaries.batchtopk import BatchTopK, BatchTopKLearner
from antar.dictionaries.crosscoder import Crosscoder, CrosscoderLearner
from antar.dictionaries.data import Scaling
from antar.dictionaries.files import read_config
from antar.dictionaries.loss import Entries
from antar.dictionaries.topk import TopK, TopKLearner
from antar.dictionaries.weights import Weights


class Dictionary(Protocol):
    """A dictionary on raw activations.

    d_model: width of the rows that it takes and gives (for a crosscoder base's columns and chat's)
    k: latents that may fire on a text (`topk`) or that fire on average (`batchtopk`, `crosscoder`)
    """

    @property
    def kind(self) -> str: ...

    @property
    def d_model(self) -> int: ...

    @property
    def n_latents(self) -> int: ...

    @property
    def k(self) -> int: ...

    @property
    def decoder_nd(self) -> np.ndarray:
        """float32 `[n_latents, d_model]`, rows of unit length."""
        ...

    def encode(self, acts_nd: np.ndarray | Tensor) -> SparseCodes:
        """Codes of raw activations `[n, d_model]`, each row's strongest latent first."""
        ...

    def decode(self, codes: SparseCodes) -> np.ndarray:
        """Raw reconstructions, float32 `[n, d_model]`."""
        ...

    def tensors(self) -> Mapping[str, Tensor]:
        """What a file holds of it, by name; all on the raw scale."""
        ...

    def save(self, folder: Path, about: Mapping[str, Any] | None = None) -> None:
        """Write `cfg.json` and `sae_weights.safetensors`."""
        ...


class Learner(Protocol):
    """How a kind learns. The loss is the same for all, mean((x − x̂)²) + α · AuxK (loss.py, auxk.py); what differs
    is what fires."""

    @property
    def kind(self) -> str: ...

    def scaling(self, width: int, fit: Callable[[slice], Scaling]) -> Scaling:
        """Centre and scale of training rows of `width` columns; `fit` finds them for one side's columns."""
        ...

    def start(self, width: int, draw: Callable[[int], Weights]) -> Weights:
        """First weights for rows of `width` columns; `draw` makes them for one side's columns."""
        ...

    def select(self, pre_bn: Tensor, k: int) -> Entries:
        """What fires in a training batch."""
        ...

    def threshold(self, weights: Weights, batches: Iterable[Tensor], k: int) -> float:
        """θ for `weights`, from training batches (normalised); 0 where there is none, and no batch is drawn."""
        ...

    def reconstruct(self, weights: Weights, x_bd: Tensor, k: int, threshold: float) -> Tensor:
        """x̂ of normalised rows as a user of the dictionary will get it."""
        ...

    def fold(self, weights: Weights, scaling: Scaling, k: int, threshold: float) -> Dictionary:
        """The dictionary on raw rows, on the CPU."""
        ...


LEARNERS: Mapping[str, Learner] = {
    "topk": TopKLearner(),
    "batchtopk": BatchTopKLearner(),
    "crosscoder": CrosscoderLearner(),
    **{kind: TopKLearner(kind) for kind in BASELINE_KINDS},
}
"""Kind → how it learns. A baseline's entry serves training rows without variance only."""


def learner_of(kind: str) -> Learner:
    if kind not in LEARNERS:
        raise UserError(f"kind of dictionary: expected one of {', '.join(LEARNERS)}, found {kind!r}")
    return LEARNERS[kind]


_CLASSES: Mapping[str, type[TopK]] = {
    **dict.fromkeys(("topk", *BASELINE_KINDS), TopK),
    "batchtopk": BatchTopK,
    "crosscoder": Crosscoder,
}


def load_dictionary(folder: Path) -> Dictionary:
    """The dictionary in `folder`, of any kind. Raises a one-line UserError for what it does not understand."""
    config = read_config(folder, tuple(_CLASSES))
    return _CLASSES[config["architecture"]].load(folder, config)
