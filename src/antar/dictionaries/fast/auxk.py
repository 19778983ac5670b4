"""AuxK inside the fused step: a few matrix products over the dead latents alone, in the kernels' precision.

The term and its gradients are those of `dictionaries/auxk.py`. A product of the whole width would cost as much as an
encode; the dead are few, and of their codes so many are used (k_aux of at most a few thousand) that dense products
over the dead rows are cheaper than sparse sums.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from antar.dictionaries.auxk import FLOOR, AuxK
from antar.dictionaries.fast import decode, select, update
from antar.dictionaries.fast.team import Team, spans


@dataclass(frozen=True)
class DeadCodes:
    """The dead latents' part in one step: dead_m, values_bm float32 (0 where not chosen)."""

    dead_m: np.ndarray
    asleep_m: np.ndarray
    values_bm: np.ndarray

    @classmethod
    def empty(cls, aux: AuxK, batch: int) -> DeadCodes:
        dead_m = aux.dead_m.numpy()
        return cls(dead_m, aux.asleep_m.numpy().copy(), np.empty((batch, len(dead_m)), np.float32))

    def choose(self, k_aux: int, lo: int, hi: int) -> None:
        """Of rows lo … hi − 1 keep the k_aux largest."""
        if k_aux >= len(self.dead_m):
            return
        rows_bm = self.values_bm[lo:hi]
        chosen = np.empty((hi - lo) * k_aux, np.int32), np.empty((hi - lo) * k_aux, np.float32)
        sizes = np.empty(hi - lo, np.int64)
        unused_m = np.zeros(len(self.dead_m), np.int64)
        zero_m = np.zeros(len(self.dead_m), np.float32)
        select.select_rows(rows_bm, zero_m, k_aux, 0, *chosen, sizes, unused_m)
        decode.keep_selected(*chosen, k_aux, sizes, rows_bm)


def aux_gradients(
    team: Team,
    aux: AuxK,
    codes: DeadCodes,
    error_bd: np.ndarray,
    square: float,
    centred_low_bd: Tensor,
    decoder_nd: np.ndarray,
    bias_n: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Gradient rows of the dead latents' encoder and (tangent) decoder, float32 `[m, d]` each, and the sum of
    squares of both; their encoder biases' are added to bias_n. error_bd: x − x̂, taken as a constant; square: its
    sum of squares."""
    low = centred_low_bd.dtype
    batch, m, d = len(error_bd), len(codes.dead_m), error_bd.shape[1]
    floor = FLOOR * error_bd.size
    weight = aux.coefficient / (max(square, floor) if aux.normalised else error_bd.size)
    dead_low_md = torch.empty(m, d, dtype=low)
    values_low_bm = torch.empty(batch, m, dtype=low)
    pull_low_bd = torch.empty(batch, d, dtype=low)
    code_pull_low_bm = torch.empty(batch, m, dtype=low)
    decoder, dead_m = torch.from_numpy(decoder_nd), torch.from_numpy(codes.dead_m)
    bias_pulls = np.zeros((team.size, m), np.float32)

    def gather(span: tuple[int, int]) -> None:
        dead_low_md[slice(*span)] = decoder[dead_m[slice(*span)]].to(low)

    def rows(part: tuple[int, tuple[int, int]]) -> None:
        number, span = part[0], slice(*part[1])
        values_bm = torch.from_numpy(codes.values_bm[span])
        values_low_bm[span] = values_bm.to(low)
        left_bd = torch.from_numpy(error_bd[span]) - (values_low_bm[span] @ dead_low_md).float()
        pull_low_bd[span] = (left_bd * (-2.0 * weight)).to(low)
        code_pull_bm = (pull_low_bd[span] @ dead_low_md.T).float() * (values_bm > 0)
        bias_pulls[number] = code_pull_bm.sum(0).numpy()
        code_pull_low_bm[span] = code_pull_bm.to(low)

    encoder_md, tangent_md = np.empty((m, d), np.float32), np.empty((m, d), np.float32)

    def latents(span: tuple[int, int]) -> float:
        part = slice(*span)
        torch.from_numpy(encoder_md)[part] = (code_pull_low_bm[:, part].T @ centred_low_bd).float()
        torch.from_numpy(tangent_md)[part] = (values_low_bm[:, part].T @ pull_low_bd).float()
        update.make_tangent(tangent_md[part], decoder_nd, codes.dead_m[part])
        return float(sum(update.dot(rows.ravel(), rows.ravel()) for rows in (encoder_md[part], tangent_md[part])))

    team.run(gather, spans(m, -(-m // team.size)))
    team.run(rows, list(enumerate(spans(batch, -(-batch // team.size)))))
    squares = team.run(latents, spans(m, -(-m // team.size)))
    bias_n[codes.dead_m] += bias_pulls.sum(0)
    return encoder_md, tangent_md, math.fsum(squares)
