"""What tests of trainings share: a training that dies in the middle of an epoch, and codes for a dead tracker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from antar.dictionaries import trainer as trainer_module
from antar.dictionaries.data import epoch_batches
from antar.dictionaries.dead import DeadTracker


class Killed(BaseException):
    pass


@contextmanager
def killed_in_epoch(epoch: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every training dies three steps into `epoch`."""

    def batches(n_rows: int, batch: int, seed: int, at: int, device: torch.device) -> Iterator[torch.Tensor]:
        for number, rows in enumerate(epoch_batches(n_rows, batch, seed, at, device)):
            if at == epoch and number == 3:
                raise Killed
            yield rows

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(trainer_module, "epoch_batches", batches)
        yield


def count(tracker: DeadTracker, indices_bk: torch.Tensor, values_bk: torch.Tensor) -> None:
    """What a step tells the tracker, from the codes of its batch."""
    fired_n = torch.zeros_like(tracker.fired_window_n)
    fired_n.scatter_add_(0, indices_bk.reshape(-1), (values_bk > 0).reshape(-1).to(torch.int32))
    tracker.count(fired_n, len(indices_bk))
