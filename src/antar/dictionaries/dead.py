"""Dead latents: who is dead by which rule, and the reset of the published preset.

Counting stays on the device. The host learns who is dead at the end of a window only, so a training step never
waits for the device.
"""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from antar.core.errors import AntarWarning
from antar.dictionaries.auxk import AuxK
from antar.dictionaries.config import DictionaryConfig
from antar.dictionaries.weights import Weights, draw_decoder_rows


class DeadTracker:
    """Counts firings over a window of steps and says which latents are dead.

    Under the `epoch` rule the window is `dead_window_epochs`, whatever the size of the data, and a latent that fires
    again is alive at once. Under `published` it is `dead_window_steps` steps, and the verdict stands until the next
    window.
    """

    def __init__(self, cfg: DictionaryConfig, steps_per_epoch: int, device: torch.device) -> None:
        self._cfg = cfg
        epochs = math.ceil(cfg.dead_window_epochs * steps_per_epoch)
        self.window_steps = epochs if cfg.dead_rule == "epoch" else cfg.dead_window_steps
        self.fired_window_n = torch.zeros(cfg.n_latents, dtype=torch.int32, device=device)
        self.fired_epoch_n = torch.zeros_like(self.fired_window_n)
        self.rows_in_window = 0
        self._call_dead(torch.zeros(cfg.n_latents, dtype=torch.bool, device=device))

    def _call_dead(self, dead_n: Tensor) -> None:
        self.dead_n = dead_n
        dead_m = dead_n.nonzero().squeeze(1)
        self._aux = AuxK(
            dead_m,
            torch.ones_like(dead_m, dtype=torch.bool),
            self._cfg.k_aux,
            self._cfg.auxk_coefficient,
            self._cfg.auxk_normalised,
        )

    def restore(self, dead_n: Tensor, fired_window_n: Tensor, rows_in_window: int) -> None:
        """Take up the counts of a checkpoint. Under the `epoch` rule the counts say who has woken up since."""
        self.fired_window_n.copy_(fired_window_n)
        self.rows_in_window = rows_in_window
        self._call_dead(dead_n)
        self._wake()

    @property
    def aux(self) -> AuxK | None:
        """Who takes part in AuxK during the next step; None when nobody is dead."""
        return self._aux if len(self._aux.dead_m) else None

    def count(self, fired_n: Tensor, rows: int) -> None:
        """Count one step: how many of its `rows` texts fired each latent. Without a host sync."""
        self.fired_window_n += fired_n
        self.fired_epoch_n += fired_n
        self.rows_in_window += rows
        self._wake()

    def _wake(self) -> None:
        if self._cfg.dead_rule == "epoch" and len(self._aux.dead_m):
            torch.eq(self.fired_window_n[self._aux.dead_m], 0, out=self._aux.asleep_m)

    def end_of_step(self, step: int) -> None:
        """Close the window if `step` (counted from 1) ends one."""
        if step % self.window_steps:
            return
        limit = 1.0 if self._cfg.dead_rule == "epoch" else self._cfg.dead_share * self.rows_in_window
        self._call_dead(self.fired_window_n < limit)
        self.fired_window_n.zero_()
        self.rows_in_window = 0

    def dead_now(self) -> Tensor:
        """int64: the latents that are dead and have not fired since. Waits for the device."""
        return self._aux.dead_m[self._aux.asleep_m]

    def pardon(self) -> None:
        """After a reset nobody is dead, and the re-drawn latents have a window to show it."""
        self._call_dead(torch.zeros_like(self.dead_n))
        self.fired_window_n.zero_()
        self.rows_in_window = 0

    def live_share_of_epoch(self) -> float:
        """Share of latents that fired since this was last asked; asked at the end of each epoch."""
        share = float((self.fired_epoch_n > 0).float().mean())
        self.fired_epoch_n.zero_()
        return share


def warn_of_a_long_window(cfg: DictionaryConfig, window_steps: int, planned: int) -> None:
    """Say so where a training ends before its first window does."""
    if window_steps > planned:
        field = "dead_window_epochs" if cfg.dead_rule == "epoch" else "dead_window_steps"
        warnings.warn(
            f"the dead window of {window_steps} steps is longer than the whole training ({planned} steps), so no "
            f"latent is ever called dead; lower {field}, or use dead_rule: epoch",
            AntarWarning,
            stacklevel=3,
        )


def reset_rows_(
    weights: Weights,
    moments: tuple[Weights, Weights],
    dead_m: Tensor,
    cfg: DictionaryConfig,
    generator: torch.Generator,
    residual_rd: Tensor | None = None,
) -> None:
    """Re-draw the latents `dead_m` in place: decoder row, its transpose as encoder row, zero bias, zero moments.

    The first of them take the unit rows `residual_rd` (`reset_to: residual`; redraw.py), with encoder rows of
    `reset_scale` times the live latents' mean length; the others are drawn as at the start.

    `index_copy_` and `index_fill_` write to the tensors themselves. Indexing (`tensor[rows].zero_()`) writes to a
    copy, which is how the published reset came to do nothing. Adam's step count is shared by all rows and stays.
    """
    rows_md = draw_decoder_rows(len(dead_m), cfg, weights.decoder_nd.shape[1], generator).to(dead_m.device)
    encoder_md = rows_md.clone()
    if residual_rd is not None:
        given = slice(0, len(residual_rd))
        rows_md[given] = residual_rd
        encoder_md[given] = residual_rd * (cfg.reset_scale * _mean_length_of_others(weights.encoder_nd, dead_m))
    weights.decoder_nd.index_copy_(0, dead_m, rows_md)
    weights.encoder_nd.index_copy_(0, dead_m, encoder_md)
    weights.encoder_bias_n.index_fill_(0, dead_m, 0.0)
    for moment in moments:
        for tensor in (moment.encoder_nd, moment.encoder_bias_n, moment.decoder_nd):
            tensor.index_fill_(0, dead_m, 0.0)


def _mean_length_of_others(rows_nd: Tensor, dead_m: Tensor) -> Tensor:
    """Mean length of the rows that are not `dead_m`; 1, as at the start, where there are no others."""
    others_n = torch.ones(len(rows_nd), dtype=torch.bool, device=rows_nd.device).index_fill_(0, dead_m, False)
    lengths_n = torch.linalg.vector_norm(rows_nd[others_n], dim=1)
    return lengths_n.mean() if len(lengths_n) else rows_nd.new_ones(())
