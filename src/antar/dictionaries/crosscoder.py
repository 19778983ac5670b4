"""The crosscoder (Lindsey et al. 2024): one code for both sides of a pair, and a decoder for each side.

It is BatchTopK on wide rows x = (x_base, x_chat), each side centred and scaled by its own training mean and root mean
square, with one encoder `[n_latents, 2d]` and decoders d_j = (d_j_base, d_j_chat) whose concatenation has unit
length. That fixes the scale which Lindsey et al. fix by putting decoder norms into the sparsity term: f_j is the
length that latent j adds to both sides together, and BatchTopK keeps what adds most (docs/decisions/).

Folding. With μ and s of each column, L_j = ‖(s_base d_j_base, s_chat d_j_chat)‖ and b' = μ + s·b_dec,

    W_dec'_j = s·d_j / L_j,   W_enc'_j = L_j W_enc_j / s,   b_enc'_j = L_j b_enc_j,   θ'_j = L_j θ

gives pre-activations L_j times those of training, hence the same latents above their thresholds and, on both sides,
the raw reconstruction. Thresholds differ by latent where the two sides differ in scale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from antar.core.errors import UserError
from antar.dictionaries.batchtopk import BatchTopK, BatchTopKLearner
from antar.dictionaries.data import Scaling
from antar.dictionaries.weights import Weights

SIDES: tuple[str, ...] = ("base", "chat")
"""The order of the columns."""


@dataclass(frozen=True)
class Crosscoder(BatchTopK):
    """Takes and gives raw rows `[n, d_model]` with d_model = 2d: base's columns, then chat's."""

    kind: str = "crosscoder"

    def columns(self, side: str) -> slice:
        """Where the columns of `side` are."""
        half = self.d_model // 2
        return slice(half * SIDES.index(side), half * (SIDES.index(side) + 1))

    @property
    def decoder_base_nd(self) -> np.ndarray:
        """float32 `[n_latents, d]` on base's raw scale."""
        return self.decoder_nd[:, self.columns("base")]

    @property
    def decoder_chat_nd(self) -> np.ndarray:
        """float32 `[n_latents, d]` on chat's raw scale."""
        return self.decoder_nd[:, self.columns("chat")]

    @property
    def norm_difference_n(self) -> np.ndarray:
        return norm_difference(self.decoder_base_nd, self.decoder_chat_nd)


def norm_difference(decoder_base_nd: np.ndarray, decoder_chat_nd: np.ndarray) -> np.ndarray:
    """Δ = ½ ((‖d_chat‖ − ‖d_base‖) / max(‖d_chat‖, ‖d_base‖) + 1), float64 `[n_latents]` (Minder et al. 2025).

    0 is base only, ½ both alike, 1 chat only; NaN where both are zero.
    """
    base_n = np.linalg.norm(decoder_base_nd.astype(np.float64), axis=1)
    chat_n = np.linalg.norm(decoder_chat_nd.astype(np.float64), axis=1)
    with np.errstate(invalid="ignore"):
        return 0.5 * ((chat_n - base_n) / np.maximum(chat_n, base_n) + 1.0)


@dataclass(frozen=True)
class CrosscoderLearner(BatchTopKLearner):
    """How a crosscoder learns (`kinds.Learner` says what each part is for)."""

    kind: str = "crosscoder"

    def scaling(self, width: int, fit: Callable[[slice], Scaling]) -> Scaling:
        """Each side by itself. `scale` is the root mean square of the two; 0 where either side has no variance."""
        if width % 2:
            raise UserError(
                "training activations: expected base's columns and as many of chat's for a crosscoder, found an odd "
                f"number, {width}; put the two sides side by side"
            )
        half = width // 2
        sides = [fit(slice(0, half)), fit(slice(half, width))]
        scales = np.array([side.scale for side in sides])
        return Scaling(
            np.concatenate([side.centre_d for side in sides]),
            float(np.sqrt(np.mean(np.square(scales)))) if scales.all() else 0.0,
            np.repeat(scales, half).astype(np.float32),
        )

    def start(self, width: int, draw: Callable[[int], Weights]) -> Weights:
        """Both sides start with the same directions: what the two share is the rule, what one has is to be found."""
        one = draw(width // 2)

        def twice(rows_nd: torch.Tensor) -> torch.Tensor:
            return torch.cat([rows_nd, rows_nd], dim=-1)

        half_length = 2**-0.5
        return Weights(
            twice(one.encoder_nd).mul_(half_length),
            one.encoder_bias_n,
            twice(one.decoder_nd).mul_(half_length),
            twice(one.decoder_bias_d),
        )

    def fold(self, weights: Weights, scaling: Scaling, k: int, threshold: float) -> Crosscoder:
        own = weights.map(lambda tensor: tensor.detach().cpu().double())
        scale_d = torch.from_numpy(scaling.columns_d.astype(np.float64))
        decoder_nd = own.decoder_nd * scale_d
        length_n = torch.linalg.vector_norm(decoder_nd, dim=1)
        folded = Weights(
            length_n[:, None] * own.encoder_nd / scale_d,
            length_n * own.encoder_bias_n,
            decoder_nd / length_n[:, None],
            torch.from_numpy(scaling.centre_d.astype(np.float64)) + scale_d * own.decoder_bias_d,
        )
        return Crosscoder(folded.map(torch.Tensor.float), k, threshold_n=(threshold * length_n).float())
