"""How far a checkpoint has drifted from base: in its activations, at the study's layers, on held-out control texts.

Texts are read as extraction reads them: the same token ids, the same mask, the same pooling, the same arithmetic. So
what is matched here is what the dictionaries will see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from antar.core.errors import UserError
from antar.models.config import ExtractConfig, ModelConfig
from antar.models.extract import read_pooled
from antar.models.forward import Reader
from antar.models.pooling import a_text
from antar.models.tokens import TokenShard

UNEVEN = 1.25
"""Where a language drifts more than this many times as far as on chat, or less than its inverse, it is said: one
factor serves all languages, and contrasts are within one."""
_WIDER = "set extract.dtype to bfloat16 or float32"


class NotFiniteError(UserError):
    """Activations with infinities or NaN in them."""


@dataclass(frozen=True)
class Probe:
    """Texts on which drift is measured. languages: of each text."""

    tokens: TokenShard
    languages: Sequence[str]

    def __len__(self) -> int:
        return len(self.tokens)


def distances(acts_nd: np.ndarray, base_nd: np.ndarray) -> np.ndarray:
    """float64 `[n]`: ‖x_side − x_base‖ of each text."""
    return np.linalg.norm(acts_nd.astype(np.float64) - base_nd, axis=1)


def root_mean_square(values_n: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values_n, dtype=np.float64))))


class Gauge:
    """Measures drift: it reads base once, and then whatever weights are put in the place of base's.

    base, cfg: the checkpoint and how extraction reads it; probes: name → the texts
    """

    def __init__(self, base: ModelConfig, cfg: ExtractConfig, probes: Mapping[str, Probe]) -> None:
        self.reader = Reader(base, cfg)
        self.probes = probes
        self._cfg = cfg
        self._weights = dict(self.reader.model.named_parameters())
        # Each probe is read by itself and always whole: equal batches make an unchanged model's drift exactly zero.
        self._base = {name: self._read(self.reader, name, cfg.layers, self.reader.name, _WIDER) for name in probes}

    def _read(
        self, reader: Reader, probe: str, layers: Sequence[int], who: str, remedy: str
    ) -> dict[int, np.ndarray]:
        """who: whose weights the reader holds; remedy: what to do where their activations are not finite."""
        found = read_pooled(reader, self.probes[probe].tokens, sorted(layers), a_text(self._cfg.pooling))
        for layer, acts_nd in found.items():
            if not np.isfinite(acts_nd).all():
                raise NotFiniteError(
                    f"{who}, layer {layer}: expected finite activations, found infinities or NaN in "
                    f"{self._cfg.dtype}; {remedy}"
                )
        return found

    @torch.no_grad()
    def load(self, parameters: Mapping[str, Tensor]) -> None:
        """Put these weights of the decoder (by their names in it) where the reader has its own, in its precision."""
        for name, tensor in parameters.items():
            self._weights[name].copy_(tensor)

    def distances(self, probe: str, layers: Sequence[int]) -> dict[int, np.ndarray]:
        """Layer → `[n_texts]`, of the weights that are loaded. NotFiniteError where their activations are not."""
        # Base itself was finite, so the blame is not its and not the precision's.
        who = f"the sham trained from {self.reader.name}"
        found = self._read(self.reader, probe, layers, who, "lower lr under its `make`")
        return {layer: distances(acts_nd, self._base[probe][layer]) for layer, acts_nd in found.items()}

    def drift(self, probe: str, layers: Sequence[int]) -> dict[int, float]:
        """Layer → root mean square over the texts of ‖x − x_base‖, in activation units."""
        return {layer: root_mean_square(far) for layer, far in self.distances(probe, layers).items()}

    def distances_of(self, other: ModelConfig) -> dict[str, dict[int, np.ndarray]]:
        """Probe → layer → `[n_texts]`, of another checkpoint."""
        reader = Reader(other, self._cfg)
        return {
            probe: {
                layer: distances(acts_nd, self._base[probe][layer])
                for layer, acts_nd in self._read(reader, probe, self._cfg.layers, reader.name, _WIDER).items()
            }
            for probe in self.probes
        }

    def base_norm(self, probe: str, layer: int) -> float:
        """Root mean square of ‖x_base‖."""
        return root_mean_square(np.linalg.norm(self._base[probe][layer].astype(np.float64), axis=1))
