"""The host's part of one dictionary of a stack: its counters, its history, when it stops, and what comes out.

These are the decisions of `Training.check` and the facts of `Training.result`, on numbers that were measured for the
whole stack at once; tests hold both trainers against each other.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import polars as pl
import torch

from antar.core.errors import UserError
from antar.dictionaries.config import DictionaryConfig
from antar.dictionaries.data import Scaling
from antar.dictionaries.stacked.jobs import StackedJob
from antar.dictionaries.topk import TopKLearner
from antar.dictionaries.trained import HISTORY, TrainedDictionary, common_facts
from antar.dictionaries.trainer import NO_VARIANCE, Counters
from antar.dictionaries.weights import Weights

LEARNER = TopKLearner()
"""A stack's dictionaries are TopK ones."""


@dataclass(frozen=True)
class Measured:
    """What a check finds of one dictionary, errors on the normalised scale."""

    val: float
    train: float
    live_share: float
    dead: int


@dataclass
class Member:
    """`best` is there, on the CPU, once the dictionary has stopped."""

    job: StackedJob
    scaling: Scaling
    val_variance: float
    at: Counters = field(default_factory=Counters)
    history: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    rows_in_window: int = 0
    best: Weights | None = None

    def check(self, found: Measured, cfg: DictionaryConfig) -> bool:
        """Append a history row; whether the weights are the best so far. Raises UserError for a diverged training."""
        at, raw = self.at, self.scaling.scale**2
        if not math.isfinite(found.val):
            raise UserError(
                f"{self.job.name}: training diverged by epoch {at.epoch}: expected a finite validation error, "
                f"found {found.val}; lower dictionaries.lr (now {cfg.lr:g}) or set dictionaries.clip"
            )
        gained, lowest = found.val < at.best_val * (1 - cfg.min_delta), found.val < at.best_val
        if lowest:
            at.best_val, at.best_epoch = found.val, at.epoch
        at.checks_without_gain = 0 if gained else at.checks_without_gain + 1
        row = {
            "epoch": at.epoch,
            "step": at.step,
            "train_mse": raw * found.train,
            "val_mse": raw * found.val,
            "val_fvu": self._fvu(found.val),
            "live_share": found.live_share,
            "dead": found.dead,
            "resets": at.resets,
            "best": at.best_epoch == at.epoch,
        }
        self.history.append(row)
        return lowest

    def _fvu(self, val: float) -> float | None:
        return val / self.val_variance if self.val_variance > NO_VARIANCE else None

    def finished(self, cfg: DictionaryConfig) -> bool:
        stopped = cfg.patience > 0 and self.at.checks_without_gain >= cfg.patience
        return stopped or self.at.epoch >= cfg.max_epochs

    def state(self) -> dict[str, Any]:
        """For the checkpoint, as JSON."""
        return {
            "at": asdict(self.at),
            "history": self.history,
            "rows_in_window": self.rows_in_window,
            "done": self.best is not None,
        }

    def restore(self, state: dict[str, Any], best: Weights | None) -> None:
        self.at, self.history = Counters(**state["at"]), list(state["history"])
        self.rows_in_window, self.best = state["rows_in_window"], best

    def result(self, cfg: DictionaryConfig, device: torch.device, of_all: dict[str, Any]) -> TrainedDictionary:
        """`of_all`: facts that all dictionaries of the stack share."""
        assert self.best is not None  # the last check lets everyone go
        at, scaling, last = self.at, self.scaling, self.history[-1]
        dictionary = LEARNER.fold(self.best, scaling, cfg.k, at.best_threshold)
        # Shapes without memory: the facts are of counts and widths.
        train, val = (torch.empty(len(rows), dictionary.d_model, device="meta") for rows in self.job.splits())
        facts = {
            **common_facts(train, val, scaling, cfg, self.job.seed, dictionary, device.type),
            "steps": at.step,
            "epochs": at.epoch,
            "best_epoch": at.best_epoch,
            "stopped_early": at.epoch < cfg.max_epochs,
            "best_val_mse": scaling.scale**2 * at.best_val,
            "best_val_fvu": self._fvu(at.best_val),
            "live_share": last["live_share"],
            "dead": last["dead"],
            "resets": at.resets,
            **of_all,
        }
        history = pl.DataFrame(self.history, schema=HISTORY, orient="row")
        return TrainedDictionary(dictionary, history, facts)
