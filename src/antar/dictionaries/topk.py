"""A trained TopK dictionary: raw activations in, sparse codes out, and back.

The centre μ and scale s of training are folded into the four tensors, which is exact: with b_dec' = μ + s·b_dec and
b_enc' = s·b_enc the pre-activations are s times those of training, TopK does not see a positive scale, and
x̂ = W_decᵀ z + b_dec' is on the raw scale. So nothing has to be remembered on load, and a code's value is the
length, in activation units, that the latent adds along its unit decoder row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from antar.core.errors import UserError
from antar.core.sparse import SparseCodes
from antar.dictionaries.data import Scaling
from antar.dictionaries.files import read_sizes, read_tensors, write_dictionary
from antar.dictionaries.loss import Entries, decode_sparse, forward, select_by_text
from antar.dictionaries.weights import NAMES, Weights

# Pre-activations of one chunk take at most this many bytes, whatever the number of texts.
CHUNK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class TopK:
    """A dictionary with at most k latents a text. `weights` are float32 on the raw scale; decoder rows are unit.

    kind: `topk`, or `pca`, `random` or `neurons` for the baselines, which have this form (baselines.py)
    """

    weights: Weights
    k: int
    kind: str = "topk"

    @property
    def n_latents(self) -> int:
        return self.weights.encoder_nd.shape[0]

    @property
    def d_model(self) -> int:
        return self.weights.encoder_nd.shape[1]

    @property
    def decoder_nd(self) -> np.ndarray:
        """float32 `[n_latents, d_model]`, rows of unit length."""
        return self.weights.decoder_nd.cpu().numpy()

    def encode(self, acts_nd: np.ndarray | Tensor) -> SparseCodes:
        """Codes of raw activations `[n, d_model]`, each row's strongest latent first.

        Raises UserError for another width and for a row that is not finite, which it names.
        """
        acts = self._checked(acts_nd)
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        for rows in self._chunks(len(acts)):
            x_bd = self._on_device(acts[rows])
            indices_bk, values_bk = self._firing(x_bd)
            _check_finite(x_bd, rows.start)
            parts.append((indices_bk.to(torch.int32).cpu().numpy(), values_bk.cpu().numpy()))
        widest = max((indices_bk.shape[1] for indices_bk, _ in parts), default=self.k)
        indices_nk = np.zeros((len(acts), widest), dtype=np.int32)
        values_nk = np.zeros((len(acts), widest), dtype=np.float32)
        for rows, (indices_bk, values_bk) in zip(self._chunks(len(acts)), parts, strict=True):
            indices_nk[rows, : indices_bk.shape[1]] = indices_bk
            values_nk[rows, : values_bk.shape[1]] = values_bk
        return SparseCodes(indices_nk, values_nk, self.n_latents)

    def _firing(self, x_bd: Tensor) -> tuple[Tensor, Tensor]:
        """Latents and strengths of each row, strongest first, as many columns as the fullest row needs."""
        out = forward(self.weights, x_bd, self.k)
        return out.indices_bk, out.values_bk

    def decode(self, codes: SparseCodes) -> np.ndarray:
        """Raw reconstructions, float32 `[n, d_model]`."""
        if codes.n_latents != self.n_latents:
            raise UserError(
                f"codes: expected those of a dictionary with {self.n_latents} latents, found {codes.n_latents}; "
                "decode codes with the dictionary that made them"
            )
        device = self.weights.decoder_nd.device
        out_nd = np.empty((len(codes), self.d_model), dtype=np.float32)
        for rows in self._chunks(len(codes)):
            indices_bk = torch.as_tensor(codes.indices_nk[rows], dtype=torch.int64, device=device)
            values_bk = torch.as_tensor(codes.values_nk[rows], dtype=torch.float32, device=device)
            raw_bd = decode_sparse(indices_bk, values_bk, self.weights.decoder_nd) + self.weights.decoder_bias_d
            out_nd[rows] = raw_bd.cpu().numpy()
        return out_nd

    def save(self, folder: Path, about: Mapping[str, Any] | None = None) -> None:
        """Write `cfg.json` and `sae_weights.safetensors`. `about` is JSON that a reader of cfg.json may want."""
        sizes = {"d_model": self.d_model, "n_latents": self.n_latents, "k": self.k}
        tensors = {name: tensor.cpu().numpy() for name, tensor in self.tensors().items()}
        write_dictionary(folder, self.kind, sizes, tensors, about)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any]) -> Self:
        """The dictionary in `folder`, whose checked `cfg.json` is `config`."""
        d_model, n_latents, k = read_sizes(folder, config)
        return cls(read_weights(folder, d_model, n_latents), k, str(config["architecture"]))

    def tensors(self) -> dict[str, Tensor]:
        """What a file holds of this dictionary, by name."""
        return dict(zip(NAMES, self.weights.tensors(), strict=True))

    def _checked(self, acts_nd: np.ndarray | Tensor) -> np.ndarray | Tensor:
        if acts_nd.ndim != 2 or acts_nd.shape[1] != self.d_model:
            raise UserError(
                f"activations: expected shape [texts, {self.d_model}] as this dictionary was trained on, found "
                f"{list(acts_nd.shape)}; use the activations of the dictionary's own model and layer"
            )
        return acts_nd

    def _on_device(self, acts_bd: np.ndarray | Tensor) -> Tensor:
        plain = np.ascontiguousarray(acts_bd) if isinstance(acts_bd, np.ndarray) else acts_bd
        return torch.as_tensor(plain, dtype=torch.float32, device=self.weights.encoder_nd.device)

    def _chunks(self, n_rows: int) -> list[slice]:
        rows = max(1, CHUNK_BYTES // (4 * max(self.n_latents, self.d_model)))
        return [slice(lo, min(lo + rows, n_rows)) for lo in range(0, n_rows, rows)]


def _check_finite(x_bd: Tensor, first_row: int) -> None:
    finite_b = torch.isfinite(x_bd).all(1)
    if not bool(finite_b.all()):
        row = first_row + int((~finite_b).nonzero()[0])
        raise UserError(f"activations, row {row}: expected finite numbers, found NaN or infinity; extract them again")


def weight_shapes(d_model: int, n_latents: int) -> dict[str, tuple[int, ...]]:
    """The shape of each of `NAMES` in a file."""
    return {
        "W_enc": (n_latents, d_model),
        "b_enc": (n_latents,),
        "W_dec": (n_latents, d_model),
        "b_dec": (d_model,),
    }


def read_weights(folder: Path, d_model: int, n_latents: int) -> Weights:
    tensors = read_tensors(folder, weight_shapes(d_model, n_latents))
    return Weights(*(torch.from_numpy(tensors[name]) for name in NAMES))


def fold(weights: Weights, scaling: Scaling) -> Weights:
    """Weights on normalised inputs → the same dictionary on raw ones, on the CPU. The module says why it is exact."""
    own = weights.clone().map(Tensor.cpu)
    own.encoder_bias_n.mul_(scaling.scale)
    own.decoder_bias_d.mul_(scaling.scale).add_(torch.from_numpy(scaling.centre_d))
    return own


@dataclass(frozen=True)
class TopKLearner:
    """How TopK learns (`kinds.Learner` says what each part is for). The baselines borrow it for data that is one
    point, which no kind can learn from."""

    kind: str = "topk"

    def scaling(self, width: int, fit: Callable[[slice], Scaling]) -> Scaling:
        return fit(slice(0, width))

    def start(self, width: int, draw: Callable[[int], Weights]) -> Weights:
        return draw(width)

    def select(self, pre_bn: Tensor, k: int) -> Entries:
        return select_by_text(pre_bn, k)

    def threshold(self, weights: Weights, batches: Iterable[Tensor], k: int) -> float:
        return 0.0

    def reconstruct(self, weights: Weights, x_bd: Tensor, k: int, threshold: float) -> Tensor:
        return forward(weights, x_bd, k).reconstruction_bd

    def fold(self, weights: Weights, scaling: Scaling, k: int, threshold: float) -> TopK:
        return TopK(fold(weights, scaling), k, self.kind)
