"""Everything of a stack that is on the device, and what a step, a window and a reset do to it.

The host knows how many steps were taken and how many texts a window has had, both of which it can count without
asking; it asks at the end of a window (how many are dead) and at checks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from antar.dictionaries.config import DictionaryConfig
from antar.dictionaries.stacked.graphs import Runner
from antar.dictionaries.stacked.jobs import DeviceRows
from antar.dictionaries.stacked.step import Batch, Products, Slots, bucket, gradients
from antar.dictionaries.stacked.update import Update
from antar.dictionaries.weights import NAMES, Weights

PARTS = ("weights", "best", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Tools:
    """What all stacks of one training share: how to multiply, to update and to run, and the rates of every step."""

    products: Products
    update: Update
    runner: Runner
    rates_t3: Tensor


class StackState:
    """The dictionaries that are still training: the s-th is job `positions[s]` of `rows`.

    A stack from which some are taken away is a new one (`keep`), so that the tensors of one stay where they are.
    """

    def __init__(
        self, parts: Mapping[str, Weights], positions: Sequence[int], rows: DeviceRows, cfg: DictionaryConfig,
        steps_per_epoch: int, tools: Tools,
    ) -> None:  # fmt: skip
        self.positions, self.rows, self.cfg, self.tools = list(positions), rows, cfg, tools
        self.steps_per_epoch = steps_per_epoch
        self.weights, self.best = parts["weights"], parts["best"]
        self.moments = (parts["exp_avg"], parts["exp_avg_sq"])
        self.device = rows.device
        s, n, self.d_model = self.weights.decoder_nd.shape
        self.low = (self.weights.encoder_nd, self.weights.decoder_nd)
        if tools.products.dtype != torch.float32:
            self.low = (tools.products.low(self.low[0]), tools.products.low(self.low[1]))
        self.errors_s = torch.zeros(s, dtype=torch.float64, device=self.device)
        self.fired_window_sn = torch.zeros(s, n, dtype=torch.int32, device=self.device)
        self.fired_epoch_sn = torch.zeros_like(self.fired_window_sn)
        self.dead_sn = torch.zeros(s, n, dtype=torch.bool, device=self.device)
        self._slots: dict[int, Slots] = {}
        self.bucket = 0
        where = torch.tensor(self.positions, device=self.device)
        self._centre_s1d = rows.centre_sd.index_select(0, where).unsqueeze(1)
        self._factor_s11 = rows.factor_s.index_select(0, where).view(-1, 1, 1)
        self._step_at = torch.zeros(1, dtype=torch.int64, device=self.device)
        self._batch_at = torch.zeros_like(self._step_at)
        sizes_st = [[self.batch_size(s, at) for at in range(steps_per_epoch)] for s in range(len(self.positions))]
        sizes_ts1 = torch.tensor(sizes_st).T.unsqueeze(2)
        self._largest = int(sizes_ts1.max())
        self._live_tsb = (torch.arange(self._largest) < sizes_ts1).float().to(self.device)
        self._order_tsb = torch.zeros(self._live_tsb.shape, dtype=torch.int64, device=self.device)

    def __len__(self) -> int:
        return len(self.positions)

    def batch_size(self, s: int, batch_at: int) -> int:
        """Texts in an epoch's `batch_at`-th batch, as `epoch_batches` cuts it."""
        whole, more = divmod(len(self.rows.train[self.positions[s]]), self.steps_per_epoch)
        return whole + (batch_at < more)

    # -- an epoch and its steps ---------------------------------------------------------------------------------

    def begin_epoch(self, batches: Sequence[Sequence[Tensor]], step: int) -> None:
        """Take in the epoch's batches of each dictionary (indices into its own rows); `step` were taken before."""
        order_tsb = torch.zeros(self._order_tsb.shape, dtype=torch.int64)
        for s, (position, own) in enumerate(zip(self.positions, batches, strict=True)):
            # Padding is the dictionary's own first row, which is finite like all of them.
            padded_tb = pad_sequence(list(own), batch_first=True)
            padded_tb = F.pad(padded_tb, (0, self._largest - padded_tb.shape[1]))
            order_tsb[:, s] = self.rows.train[position][padded_tb]
        if self.device.type == "cuda":
            order_tsb = order_tsb.pin_memory()
        self._order_tsb.copy_(order_tsb, non_blocking=True)
        self.fired_epoch_sn.zero_()
        self._batch_at.zero_()
        self._step_at.fill_(step)

    def step(self) -> None:
        self.tools.runner.run(self.bucket, self._step)

    @torch.no_grad()
    def _step(self) -> None:
        """One optimiser step of every dictionary, wholly on the device: it runs as it is, or is recorded."""
        batch = self._gather()
        slots = self._slots[self.bucket] if self.bucket else None
        out = gradients(self.weights, self.low, batch, self._asleep(slots), slots, self.cfg, self.tools.products)
        self.errors_s.add_(out.mse_s)
        rates_3 = self.tools.rates_t3.index_select(0, self._step_at).squeeze(0)
        self.tools.update(self.weights, self.low, self.moments, out.gradients, rates_3)
        self.fired_window_sn.add_(out.fired_sn)
        self.fired_epoch_sn.add_(out.fired_sn)
        self._batch_at.add_(1)
        self._step_at.add_(1)

    def _gather(self) -> Batch:
        order_sb = self._order_tsb.index_select(0, self._batch_at).squeeze(0)
        live_sb = self._live_tsb.index_select(0, self._batch_at).squeeze(0)
        raw_sbd = self.rows.raw_nd.index_select(0, order_sb.view(-1)).view(*order_sb.shape, self.d_model)
        return Batch.of((raw_sbd - self._centre_s1d).mul_(self._factor_s11), live_sb)

    def _asleep(self, slots: Slots | None) -> Tensor | None:
        """The slots whose latent takes part in AuxK. Under the `epoch` rule one that fires again is alive at once."""
        if slots is None or self.cfg.dead_rule != "epoch":
            return None if slots is None else slots.filled_sm
        return slots.filled_sm & (self.fired_window_sn.gather(1, slots.latents_sm) == 0)

    # -- dead latents, as DeadTracker has them ------------------------------------------------------------------

    def end_window(self, rows_s: Sequence[int]) -> None:
        """Say who is dead, after a window in which each dictionary has seen `rows_s` texts. Waits for the device."""
        epoch = self.cfg.dead_rule == "epoch"
        limits = [1.0 if epoch else self.cfg.dead_share * rows for rows in rows_s]
        # fp32, to which the single trainer rounds the limit when it compares counts with it.
        limit_s1 = torch.tensor(limits, dtype=torch.float32).unsqueeze(1).to(self.device)
        self.call_dead(self.fired_window_sn < limit_s1)
        self.fired_window_sn.zero_()

    def call_dead(self, dead_sn: Tensor) -> None:
        self.dead_sn.copy_(dead_sn)
        most = int(self.dead_sn.sum(1).max()) if self.cfg.auxk_coefficient else 0
        self.bucket = bucket(most, self.cfg.n_latents)
        if self.bucket:
            if self.bucket not in self._slots:
                self._slots[self.bucket] = Slots.empty(len(self), self.bucket, self.device)
            self._slots[self.bucket].fill_(self.dead_sn)

    def dead_now(self, s: int) -> Tensor:
        """int64: the latents of a dictionary that are dead and have not fired since. Waits for the device."""
        dead_n = self.dead_sn[s]
        if self.cfg.dead_rule == "epoch":
            dead_n = dead_n & (self.fired_window_sn[s] == 0)
        return dead_n.nonzero().squeeze(1)

    def pardon(self) -> None:
        """After a reset nobody is dead, and the re-drawn latents have a window to show it."""
        self.call_dead(torch.zeros_like(self.dead_sn))
        self.fired_window_sn.zero_()
        self.refresh()

    def refresh(self) -> None:
        """After the weights were changed from outside: take them into the products' copies."""
        if self.low[0] is not self.weights.encoder_nd:
            self.low[0].copy_(self.weights.encoder_nd)
            self.low[1].copy_(self.weights.decoder_nd)

    # -- one dictionary of it, fewer of them, and the file ------------------------------------------------------

    def parts(self) -> dict[str, Weights]:
        return dict(zip(PARTS, (self.weights, self.best, *self.moments), strict=True))

    def one(self, weights: Weights, s: int) -> Weights:
        """Views of the s-th dictionary's rows: writing to them writes to the stack."""
        return weights.map(lambda tensor: tensor[s])

    def keep(self, which: Sequence[int]) -> StackState:
        """A stack of some of these dictionaries. Recordings of this one are dropped."""
        self.tools.runner.forget()
        where = torch.tensor(which, device=self.device)
        parts = {
            name: weights.map(lambda tensor: tensor.index_select(0, where)) for name, weights in self.parts().items()
        }
        positions = [self.positions[s] for s in which]
        fewer = StackState(parts, positions, self.rows, self.cfg, self.steps_per_epoch, self.tools)
        fewer.fired_window_sn.copy_(self.fired_window_sn.index_select(0, where))
        fewer.call_dead(self.dead_sn.index_select(0, where))
        return fewer

    def tensors(self) -> dict[str, np.ndarray]:
        """What a checkpoint holds, on the host; after a check, when the sums of epoch and errors are zero."""
        named = {
            f"{part}.{name}": tensor
            for part, weights in self.parts().items()
            for name, tensor in zip(NAMES, weights.tensors(), strict=True)
        }
        named |= {"dead": self.dead_sn.to(torch.uint8), "fired_window": self.fired_window_sn}
        return {name: tensor.cpu().numpy() for name, tensor in named.items()}


def stack_weights(dictionaries: Sequence[Weights], device: torch.device) -> Weights:
    """The weights of several dictionaries as one, s first."""
    return Weights(
        *(torch.stack(tensors).to(device) for tensors in zip(*(w.tensors() for w in dictionaries), strict=True))
    )
