"""The course of one training: where it is, what its checks found, when it stops, and the facts of its result.

Both trainers measure (one dictionary at a time, or a stack at once) and have the decisions taken here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from antar.core.errors import UserError
from antar.dictionaries.config import DictionaryConfig
from antar.dictionaries.data import Scaling
from antar.dictionaries.kinds import Dictionary
from antar.dictionaries.trained import HISTORY, TrainedDictionary

# A validation split whose variance is below this share of the training split's has no FVU.
NO_VARIANCE = 1e-12


@dataclass
class Counters:
    """Where a training is; goes to the checkpoint as JSON."""

    epoch: int = 0
    step: int = 0
    resets: int = 0
    best_epoch: int = 0
    best_val: float = math.inf
    best_threshold: float = 0.0
    checks_without_gain: int = 0


@dataclass(frozen=True)
class Measured:
    """What a check finds, mean square errors on the normalised scale; threshold: θ of the weights as they are."""

    val: float
    train: float
    live_share: float
    dead: int
    threshold: float = 0.0


@dataclass
class Course:
    """val_variance: of the normalised validation rows; name: of the dictionary, where a message must say which."""

    cfg: DictionaryConfig
    scaling: Scaling
    val_variance: float
    name: str = ""
    at: Counters = field(default_factory=Counters)
    history: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    @property
    def finished(self) -> bool:
        stopped = self.cfg.patience > 0 and self.at.checks_without_gain >= self.cfg.patience
        return stopped or self.at.epoch >= self.cfg.max_epochs

    def check(self, found: Measured) -> bool:
        """Append a history row; whether the weights are the best so far. Raises UserError for a diverged training."""
        at, raw = self.at, self.scaling.scale**2
        if not math.isfinite(found.val):
            which = f"{self.name}: " if self.name else ""
            raise UserError(
                f"{which}training diverged by epoch {at.epoch}: expected a finite validation error, found "
                f"{found.val}; lower dictionaries.lr (now {self.cfg.lr:g}) or set dictionaries.clip"
            )
        gained, lowest = found.val < at.best_val * (1 - self.cfg.min_delta), found.val < at.best_val
        if lowest:
            at.best_val, at.best_epoch, at.best_threshold = found.val, at.epoch, found.threshold
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
        """Training stops by it: the variance of one validation split is one number, so FVU and error order alike."""
        return val / self.val_variance if self.val_variance > NO_VARIANCE else None

    def trained(self, dictionary: Dictionary, before: dict[str, Any], after: dict[str, Any]) -> TrainedDictionary:
        """`dictionary` with its history and facts: `before`, those of the course, `after`."""
        at, last = self.at, self.history[-1]
        facts = {
            **before,
            "steps": at.step,
            "epochs": at.epoch,
            "best_epoch": at.best_epoch,
            "stopped_early": at.epoch < self.cfg.max_epochs,
            "best_val_mse": self.scaling.scale**2 * at.best_val,
            "best_val_fvu": self._fvu(at.best_val),
            "live_share": last["live_share"],
            "dead": last["dead"],
            "resets": at.resets,
            **after,
        }
        return TrainedDictionary(dictionary, pl.DataFrame(self.history, schema=HISTORY, orient="row"), facts)
