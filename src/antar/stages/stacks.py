"""Stage 3 on a device that trains many dictionaries at once: which stale ones go together, and when they train.

Artifacts are made one by one as ever, each complete or absent. The first of a stack that is asked for has the whole
stack trained; the others find their result there. A stack's checkpoint stays until all dictionaries are written, so
that a run killed in between goes on from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from antar.core.progress import say
from antar.core.sites import DictionaryId
from antar.dictionaries import TrainedDictionary, remove_checkpoint
from antar.dictionaries.config import DictionaryConfig
from antar.dictionaries.stacked import StackedJob, group_by_shape, largest_stack, train_stacked

FOLDER = ".stacks"


def stacking_device(cfg: DictionaryConfig) -> torch.device | None:
    """Where dictionaries are trained in stacks; None where they are trained one after another."""
    cuda = cfg.device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if cuda else "cpu") if stacks_on(cfg, cuda) else None


def stacks_on(cfg: DictionaryConfig, cuda: bool) -> bool:
    """Whether dictionaries are trained in stacks on a device that is a GPU, or is not."""
    alone = cfg.path == "fused" or cfg.moments == "bf16"  # what a stack does not have
    return cfg.stacked == "always" or (cfg.stacked == "auto" and cuda and not alone)


class Stacks:
    """jobs: the stale dictionaries; folder: for checkpoints, one a stack; label: begins their names, where other
    processes have stacks there too."""

    def __init__(
        self,
        jobs: Mapping[DictionaryId, StackedJob],
        cfg: DictionaryConfig,
        device: torch.device,
        folder: Path,
        label: str = "",
    ) -> None:
        ids, self._cfg = list(jobs), cfg
        groups = group_by_shape(list(jobs.values()), cfg, largest_stack(list(jobs.values()), cfg, device))
        self._stacks = [
            _Stack({ids[at]: jobs[ids[at]] for at in at_s}, device, folder / f"{label}{name}")
            for name, at_s in groups
        ]
        if jobs:
            say(f"  {len(jobs)} dictionaries train in {len(self._stacks)} stack(s) on {device.type}")

    def __contains__(self, dictionary: DictionaryId) -> bool:
        return any(dictionary in stack.jobs for stack in self._stacks)

    def job(self, dictionary: DictionaryId) -> StackedJob:
        return self._stack_of(dictionary).jobs[dictionary]

    def trained(self, dictionary: DictionaryId) -> TrainedDictionary:
        """The result, trained now if its stack is not yet. Handed out once: a stack of results is large."""
        return self._stack_of(dictionary).results(self._cfg).pop(dictionary)

    def _stack_of(self, dictionary: DictionaryId) -> _Stack:
        return next(stack for stack in self._stacks if dictionary in stack.jobs)


class _Stack:
    def __init__(self, jobs: Mapping[DictionaryId, StackedJob], device: torch.device, checkpoint: Path) -> None:
        self.jobs, self._device, self._checkpoint = jobs, device, checkpoint
        self._results: dict[DictionaryId, TrainedDictionary] | None = None

    def results(self, cfg: DictionaryConfig) -> dict[DictionaryId, TrainedDictionary]:
        if self._results is None:
            found = train_stacked(
                list(self.jobs.values()),
                cfg,
                device=self._device,
                checkpoint=self._checkpoint,
                title=f"{len(self.jobs)} dictionaries",
            )
            self._results = dict(zip(self.jobs, found, strict=True))
        return self._results


def remove_stack_checkpoints(folder: Path) -> None:
    """Once all dictionaries are written, also those of stacks that are no longer asked for."""
    if folder.is_dir():
        for one in sorted(folder.iterdir()):
            remove_checkpoint(one)
        if not any(folder.iterdir()):
            folder.rmdir()
