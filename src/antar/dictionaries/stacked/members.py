"""The host's part of one dictionary of a stack: its course, what its checkpoint keeps, and what comes out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from antar.dictionaries.course import Counters, Course
from antar.dictionaries.stacked.jobs import StackedJob
from antar.dictionaries.topk import TopKLearner
from antar.dictionaries.trained import TrainedDictionary, common_facts
from antar.dictionaries.weights import Weights

LEARNER = TopKLearner()
"""A stack's dictionaries are TopK ones."""


@dataclass(kw_only=True)
class Member(Course):
    """`best` is there, on the CPU, once the dictionary has stopped."""

    job: StackedJob
    rows_in_window: int = 0
    best: Weights | None = None

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

    def result(self, device: torch.device, of_all: dict[str, Any]) -> TrainedDictionary:
        """`of_all`: facts that all dictionaries of the stack share."""
        assert self.best is not None  # the last check lets everyone go
        dictionary = LEARNER.fold(self.best, self.scaling, self.cfg.k, self.at.best_threshold)
        # Shapes without memory: the facts are of counts and widths.
        train, val = (torch.empty(len(rows), dictionary.d_model, device="meta") for rows in self.job.splits())
        common = common_facts(train, val, self.scaling, self.cfg, self.job.seed, dictionary, device.type)
        return self.trained(dictionary, common, of_all)
