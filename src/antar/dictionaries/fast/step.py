"""One training step of a dictionary (TopK or BatchTopK) on a CPU, put together from the kernels.

The order is that of the torch step: codes, error, gradients (the decoder's tangent to the unit sphere), clipping,
AdamW, unit rows. What is different is only how: each latent's rows are read and written once, and the encode runs in
bfloat16 where the processor has it, on a copy of the encoder that the update keeps current.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
from torch import Tensor

from antar.core.progress import say
from antar.dictionaries.auxk import AuxK
from antar.dictionaries.fast import batch_select, decode, select, update
from antar.dictionaries.fast.auxk import DeadCodes, aux_gradients
from antar.dictionaries.fast.decode import TextCodes
from antar.dictionaries.fast.team import Team, spans
from antar.dictionaries.fast.update import Adam, Aux, Entries
from antar.dictionaries.weights import Weights

# Latents that a thread takes at a time, texts of one matrix product, columns and texts of one decode: sizes that fit
# the caches.
LATENTS, TEXTS, COLUMNS, ROWS = 512, 256, 512, 64
# What the bound on the gradient's norm is widened by: in bfloat16 a row's length is off by up to 2⁻⁸ of itself.
SLACK = 1.02


@dataclass(frozen=True)
class AdamNumbers:
    """AdamW at one step (counted from 1). `clip` is the largest global gradient norm; 0 turns clipping off."""

    step: int
    lr: float
    beta1: float
    beta2: float
    eps: float
    decay: float
    clip: float

    def packed(self) -> np.ndarray:
        """What the kernel `adam_row` takes."""
        rate = self.lr / (1 - self.beta1**self.step)
        root = 1 / math.sqrt(1 - self.beta2**self.step)
        keep = 1 - self.lr * self.decay
        return np.array([1 - self.beta1, self.beta2, 1 - self.beta2, keep, rate, root, self.eps], np.float32)


@dataclass(frozen=True)
class StepFacts:
    """mse of the batch; fired_n int64 `[n_latents]`: how many of its texts fired each latent."""

    mse: float
    fired_n: np.ndarray


class FusedStep:
    """Holds views of a dictionary's weights and moments, which a step changes in place.

    weights, moments: float32 on the CPU, contiguous; the moments of encoder and decoder may be bfloat16
    k: latents a text, or on average (by_batch: BatchTopK); threads: size of the team
    low: encode and gradients read bfloat16 copies
    Whoever changes the weights from outside calls `refresh`.
    """

    def __init__(
        self,
        weights: Weights,
        moments: tuple[Weights, Weights],
        k: int,
        threads: int,
        low: bool,
        by_batch: bool = False,
    ) -> None:
        self.k, self.low, self.by_batch = k, low, by_batch
        self.team = Team(threads)
        parts = [tuple(_numbers(tensor) for tensor in one.tensors()) for one in (weights, *moments)]
        self.encoder, self.encoder_bias, self.decoder, self.decoder_bias = (
            Adam(*part) for part in zip(*parts, strict=True)
        )
        self._weights = weights
        self.n, self.d = self.encoder.weights.shape
        # What encode and decode read: copies in bfloat16 that the update keeps current, or the weights themselves.
        self._low_encoder_nd, self._low_decoder_qnw = weights.encoder_nd, weights.decoder_nd[None]
        if low:
            width = COLUMNS if self.d % COLUMNS == 0 else self.d
            self._low_encoder_nd = torch.empty(self.n, self.d, dtype=torch.bfloat16)
            self._low_decoder_qnw = torch.empty(self.d // width, self.n, width, dtype=torch.bfloat16)
        self._buffers: dict[int, _Buffers] = {}
        self._no_slots = np.full(self.n, -1, np.int64)
        self._nothing_stored = np.empty((2, 0, 0), np.float32)
        self.refresh()

    def refresh(self) -> None:
        """Take the weights as they are now."""
        if self.low:
            self._low_encoder_nd.copy_(self._weights.encoder_nd)
            blocks = self._weights.decoder_nd.split(self._low_decoder_qnw.shape[2], dim=1)
            for copy, block in zip(self._low_decoder_qnw, blocks, strict=True):
                copy.copy_(block)

    def step(self, x_bd: np.ndarray, aux: AuxK | None, adam: AdamNumbers) -> StepFacts:
        """One step on the batch x_bd: float32, normalised, contiguous."""
        at = self._buffers.get(len(x_bd)) or self._buffers.setdefault(len(x_bd), _Buffers(len(x_bd), self))
        self._prepare(at, x_bd)
        dead = DeadCodes.empty(aux, len(x_bd)) if aux is not None and aux.coefficient else None
        fired_n = self._encode(at, dead, aux.k_aux if aux else 0)
        square = self._error(at, x_bd)
        entries, scale = at.entries, np.float32(-2.0 / at.error_bd.size)
        entries.bias[:] = 0
        parts, aux_square = Aux(self._no_slots, at.no_rows, at.no_rows), 0.0
        if dead is not None and aux is not None:
            *rows, aux_square = aux_gradients(
                self.team, aux, dead, at.error_bd, square, at.low_bd, self.decoder.weights, entries.bias
            )
            slot_n = self._no_slots.copy()
            slot_n[dead.dead_m] = np.arange(len(dead.dead_m))
            parts = Aux(slot_n, *rows)
        bias_gradient_d, bound = self._pulls(at, scale)
        bound = SLACK * (math.sqrt(bound) + math.sqrt(aux_square)) ** 2
        factor, stored = self._clip(at, parts, scale, bias_gradient_d, bound, adam.clip)
        self._update(at, parts, stored, factor, scale, adam, bias_gradient_d)
        return StepFacts(square / at.error_bd.size, fired_n)

    def _prepare(self, at: _Buffers, x_bd: np.ndarray) -> None:
        bias_d, low_bd, squares_b = self.decoder_bias.weights, _numbers(at.low_bd), at.squares[0]
        self.team.run(lambda s: decode.prepare_rows(x_bd, bias_d, *s, low_bd, squares_b), at.texts)

    def _encode(self, at: _Buffers, dead: DeadCodes | None, k_aux: int) -> np.ndarray:
        """Codes of the batch by latent, in `at.entries`; and the dead latents' in `dead`."""
        counts_cn = np.zeros((len(at.texts), self.n), np.int64)
        bias_n, found = self.encoder_bias.weights, (at.codes.latents, at.codes.values)

        def texts(part: tuple[int, tuple[int, int]]) -> None:
            number, (first, last) = part
            for lo in range(first, last, TEXTS):
                hi = min(lo + TEXTS, last)
                pre_bn = _numbers(at.low_bd[lo:hi] @ self._low_encoder_nd.T)
                if self.by_batch:
                    batch_select.keys_of_rows(pre_bn, bias_n, at.keys_bn[lo:hi])
                else:
                    select.select_rows(pre_bn, bias_n, self.k, lo, *found, at.codes.sizes, counts_cn[number])
                if dead is not None:
                    decode.dead_values(pre_bn, bias_n, dead.dead_m, dead.asleep_m, lo, dead.values_bm)
                    dead.choose(k_aux, lo, hi)

        numbered, entries = list(enumerate(at.texts)), at.entries
        self.team.run(texts, numbered)
        if self.by_batch:
            wanted = self.k * len(at.codes.sizes)
            batch_select.select_batch(
                self.team, at.keys_bn, at.texts, wanted, at.codes.begins, at.codes.sizes, *found, counts_cn
            )
        fired_n = counts_cn.sum(0)
        select.starts_by_latent(counts_cn, entries.starts)
        self.team.run(
            lambda p: select.fill_by_latent(
                *found, at.codes.begins, at.codes.sizes, *p[1], counts_cn[p[0]], entries.rows, entries.values
            ),
            numbered,
        )
        return fired_n

    def _error(self, at: _Buffers, x_bd: np.ndarray) -> float:
        """The batch's error, into `at`; returns its sum of squares."""
        bias_d, out = self.decoder_bias.weights, (at.error_bd, _numbers(at.low_error_bd))
        low_qnw = _numbers(self._low_decoder_qnw)
        n_blocks, _, width = low_qnw.shape
        parts = [(q, number) for q in range(n_blocks) for number in range(len(at.rows))]
        squares_qb = np.empty((n_blocks, len(x_bd)), np.float32)
        sums = np.empty((n_blocks, len(at.rows), width), np.float32)

        def rows(part: tuple[int, int]) -> None:
            q, number = part
            sizes = squares_qb[q], sums[q, number]
            decode.error_rows(q, *at.rows[number], x_bd, low_qnw[q], bias_d, at.codes, *out, *sizes)

        self.team.run(rows, parts)
        at.sums_d = sums.sum(1).ravel()
        at.squares[1] = squares_qb.sum(0)
        return float(at.squares[1].sum(dtype=np.float64))

    def _pulls(self, at: _Buffers, scale: np.float32) -> tuple[np.ndarray, float]:
        """Fills the entries' pulls; returns the gradient of the decoder bias, and a bound on the sum of squares of
        the gradients of encoder and decoder (AuxK's left out)."""
        back = np.zeros((len(at.latents), self.d), np.float32)
        decoder_nd, low_nd, low_bd = self.decoder.weights, _numbers(self._low_encoder_nd), _numbers(at.low_error_bd)
        bounds = self.team.run(
            lambda p: update.pulls(*p[1], decoder_nd, low_nd, low_bd, at.entries, scale, at.squares, back[p[0]]),
            list(enumerate(at.latents)),
        )
        return scale * at.sums_d - back.sum(0), math.fsum(bounds)

    def _clip(
        self, at: _Buffers, aux: Aux, scale: np.float32, bias_gradient_d: np.ndarray, bound: float, clip: float
    ) -> tuple[np.float32, np.ndarray]:
        """What clipping leaves of the gradient, and the gradients if they had to be stored for it."""
        biases = sum(float(np.square(g, dtype=np.float64).sum()) for g in (at.entries.bias, bias_gradient_d))
        if clip == 0 or bound + biases <= clip**2:
            return np.float32(1), self._nothing_stored
        decoder_nd, stored, rows = self.decoder.weights, self._room_for_gradients, self._rows(at)
        squares = self.team.run(
            lambda s: update.store_gradients(*s, decoder_nd, *rows, at.entries, aux, scale, stored), at.latents
        )
        norm = math.sqrt(math.fsum(squares) + biases)
        # As torch.nn.utils.clip_grad_norm_ has it; a NaN stays one.
        return np.minimum(np.float32(1), np.float32(clip / (norm + 1e-6))), stored

    def _rows(self, at: _Buffers) -> tuple[np.ndarray, np.ndarray]:
        """Centred texts and errors in the kernels' precision."""
        return _numbers(at.low_bd), _numbers(at.low_error_bd)

    @cached_property
    def _room_for_gradients(self) -> np.ndarray:
        return np.empty((2, self.n, self.d), np.float32)

    def _update(
        self,
        at: _Buffers,
        aux: Aux,
        stored: np.ndarray,
        factor: np.float32,
        scale: np.float32,
        adam: AdamNumbers,
        bias_gradient_d: np.ndarray,
    ) -> None:
        numbers, (x_bd, error_bd), both = adam.packed(), self._rows(at), (at.entries, aux, stored, factor)
        # Where encode and decode read the weights themselves there is nothing to copy.
        copies = _numbers(self._low_encoder_nd), _numbers(self._low_decoder_qnw)
        copy_nd, copy_qnw = copies if self.low else (copies[0][:0], copies[1][:0])

        def latents(span: tuple[int, int]) -> None:
            update.update_encoder(*span, self.encoder, self.encoder_bias, copy_nd, x_bd, *both, numbers, adam.step)
            update.update_decoder(*span, self.decoder, copy_qnw, error_bd, *both, scale, numbers, adam.step)

        self.team.run(latents, at.latents)
        update.adam_row(*self.decoder_bias, factor * bias_gradient_d, numbers, np.uint32(0))

    def close(self) -> None:
        """End the threads."""
        self.team.close()


def zero_moments(weights: Weights, low: bool) -> tuple[Weights, Weights]:
    """Adam's moments at the start, those of encoder and decoder in bfloat16 where `low` says so."""
    kind = torch.bfloat16 if low else torch.float32
    first, second = (
        weights.map(lambda tensor: torch.zeros_like(tensor, dtype=kind if tensor.ndim == 2 else torch.float32))
        for _ in range(2)
    )
    return first, second


@cache
def warm_up(low: bool, by_batch: bool, low_moments: bool) -> None:
    """Compile every kernel of this kind of step, or load it from Numba's cache; says so where it takes a while."""
    patience = threading.Timer(1.5, say, ["  compiling the training kernels (once on this machine, some seconds)"])
    patience.daemon = True
    patience.start()
    try:
        _compile(low, by_batch, low_moments)
    finally:
        patience.cancel()


def _compile(low: bool, by_batch: bool, low_moments: bool) -> None:
    """One step of a tiny dictionary that clips and has dead latents, so that every kernel runs."""
    generator = torch.Generator().manual_seed(0)
    x_bd = torch.randn(2, 8, generator=generator).numpy()
    rows_nd = torch.eye(8)
    weights = Weights(rows_nd.clone(), torch.zeros(8), rows_nd, torch.zeros(8))
    aux = AuxK(torch.arange(3), torch.ones(3, dtype=torch.bool), 2, 1.0, True)
    step = FusedStep(weights, zero_moments(weights, low_moments), 4, 1, low, by_batch)
    step.step(x_bd, aux, AdamNumbers(1, 1e-3, 0.9, 0.999, 1e-8, 0.0, clip=1e-6))
    step.close()


class _Buffers:
    """Everything that a step of one batch size writes on its way, and how the work is cut."""

    def __init__(self, batch: int, owner: FusedStep) -> None:
        n, d, k = owner.n, owner.d, owner.k
        kind = torch.bfloat16 if owner.low else torch.float32
        self.error_bd = np.empty((batch, d), np.float32)
        # x − b_dec and the error in the kernels' precision, and the squared length of each text's.
        self.low_bd, self.low_error_bd = torch.empty(batch, d, dtype=kind), torch.empty(batch, d, dtype=kind)
        self.squares = np.empty((2, batch), np.float32)
        self.sums_d = np.empty(d, np.float32)
        self.codes = TextCodes(
            begins=np.arange(batch, dtype=np.int64) * k,
            sizes=np.empty(batch, np.int64),
            latents=np.empty(batch * k, np.int32),
            values=np.empty(batch * k, np.float32),
        )
        self.keys_bn = np.empty((batch, n) if owner.by_batch else (0, n), np.int32)
        self.entries = Entries(
            starts=np.empty(n + 1, np.int64),
            rows=np.empty(batch * k, np.int64),
            values=np.empty(batch * k, np.float32),
            pulls=np.empty(batch * k, np.float32),
            along=np.empty(n, np.float32),
            bias=np.empty(n, np.float32),
        )
        self.no_rows = np.empty((0, d), np.float32)
        self.texts = spans(batch, -(-batch // owner.team.size))
        self.latents = spans(n, LATENTS)
        self.rows = spans(batch, ROWS)


def _numbers(tensor: Tensor) -> np.ndarray:
    """The same memory for a kernel: bfloat16 as its bits."""
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
