"""Base trained on by next-token prediction until each wanted layer has drifted as far as it should.

Drift is measured every few steps. A group of blocks is trained while its layer is short of its target and frozen
while it is not, so that the layers arrive together as far as they can; `scale.py` does the rest. A checkpoint holds
weights, both moments, step and losses, and the order of the texts follows from the step alone: a training that was
killed ends with the bits of one that was not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from antar.core.errors import UserError
from antar.core.progress import Bar, progress
from antar.core.seeds import numpy_rng
from antar.dictionaries.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from antar.models.forward import batches, pad_right
from antar.organisms.sham.config import ShamConfig
from antar.organisms.sham.drift import Gauge, NotFiniteError
from antar.organisms.sham.groups import Group

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass
class Course:
    """How far a training has come. active: whether each group is still trained; drifts: the last measurement, one
    number a layer; checks: every measurement, with its step; losses: nats a token, of each step."""

    step: int = 0
    done: bool = False
    tokens: int = 0
    active: list[bool] = field(default_factory=list[bool])
    drifts: list[float] = field(default_factory=list[float])
    checks: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    losses: list[float] = field(default_factory=list[float])


class Order:
    """Which texts a step takes: each text once before any comes again, from a seed."""

    def __init__(self, n_texts: int, batch: int, seed: int, name: str) -> None:
        self._n, self._batch, self._stream = n_texts, batch, (seed, "sham", name)
        self._rounds: dict[int, np.ndarray] = {}

    def rows(self, step: int) -> list[int]:
        """The texts of step `step` (counted from 0)."""
        places = range(step * self._batch, (step + 1) * self._batch)
        return [int(self._round(place // self._n)[place % self._n]) for place in places]

    def _round(self, number: int) -> np.ndarray:
        if number not in self._rounds:
            seed, *names = self._stream
            self._rounds = {
                n: one for n, one in self._rounds.items() if n == number - 1
            }  # a step may lie across two rounds, never more rounds than are still asked for
            self._rounds[number] = numpy_rng(int(seed), *names, number).permutation(self._n)
        return self._rounds[number]


@dataclass
class Training:
    """One training of `model` in place, on token ids `texts`, until every layer's drift is its target.

    name: the sham's; groups: from shallow to deep; targets: one a group; folder: where checkpoints go; fingerprint:
    what they belong to
    """

    name: str
    cfg: ShamConfig
    model: PreTrainedModel
    groups: Sequence[Group]
    gauge: Gauge
    targets: Sequence[float]
    texts: Sequence[np.ndarray]
    order: Order
    folder: Path
    fingerprint: str

    def run(self) -> Course:
        """Train, or go on from a checkpoint; returns how it went. The last checkpoint stays, for the caller.

        UserError where the loss or the activations are no longer finite.
        """
        optimiser = torch.optim.AdamW(
            [one for group in self.groups for one in group.parameters.values()],
            lr=self.cfg.lr, weight_decay=self.cfg.weight_decay,
        )  # fmt: skip
        course = self._resume(optimiser) or Course(active=[True] * len(self.groups))
        with progress(f"sham {self.name}", self.cfg.max_steps, "steps") as bar:
            bar.advance(course.step)
            while not course.done:
                self._train_to_next_check(optimiser, course, bar)
        return course

    def _train_to_next_check(self, optimiser: torch.optim.Optimizer, course: Course, bar: Bar) -> None:
        cfg = self.cfg
        until = min(cfg.max_steps, course.step + cfg.check_every)
        for group, active in zip(self.groups, course.active, strict=True):
            for parameter in group.parameters.values():
                parameter.requires_grad_(active)
                parameter.grad = None  # AdamW leaves alone what has no gradient
        while course.step < until:
            self._step(optimiser, course)
            bar.advance()
        self.gauge.load({name: one for group in self.groups for name, one in group.parameters.items()})
        layers = [group.layer for group in self.groups]
        try:
            found = self.gauge.drift("match", layers)
        except NotFiniteError:
            raise self._diverged("activations", course.step) from None
        course.drifts = [found[layer] for layer in layers]
        course.active = [drift < target for drift, target in zip(course.drifts, self.targets, strict=True)]
        course.checks.append({"step": course.step, "drift": course.drifts})
        course.done = not any(course.active) or course.step >= cfg.max_steps
        shares = " ".join(f"{drift / target:.2f}" for drift, target in zip(course.drifts, self.targets, strict=True))
        bar.note(f"drift × {shares} of chat's")
        every = cfg.checkpoint_every
        if course.done or (every and course.step // every > (course.step - cfg.check_every) // every):
            self._save(optimiser, course)

    def _step(self, optimiser: torch.optim.Optimizer, course: Course) -> None:
        warm = min(1.0, (course.step + 1) / max(1, self.cfg.warmup_steps))
        for part in optimiser.param_groups:
            part["lr"] = self.cfg.lr * warm
        ids = [self.texts[row] for row in self.order.rows(course.step)]
        course.losses.append(backward(self.model, ids, self.cfg.token_budget, self.cfg.dtype))
        if not np.isfinite(course.losses[-1]):
            raise self._diverged("loss", course.step + 1)
        trained = [one for group in self.groups for one in group.parameters.values() if one.grad is not None]
        torch.nn.utils.clip_grad_norm_(trained, self.cfg.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        course.tokens += sum(map(len, ids))
        course.step += 1

    def _diverged(self, what: str, step: int) -> UserError:
        return UserError(
            f"sham {self.name}: its training diverged at step {step}: expected finite {what}, found infinities "
            f"or NaN; lower lr ({self.cfg.lr:g}) under its `make`"
        )

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def _named(self) -> Mapping[str, nn.Parameter]:
        return {name: one for group in self.groups for name, one in group.parameters.items()}

    def _save(self, optimiser: torch.optim.Optimizer, course: Course) -> None:
        tensors: dict[str, np.ndarray] = {}
        for name, parameter in self._named().items():
            tensors[f"weight/{name}"] = parameter.detach().cpu().numpy()
            if not course.done:  # the moments of a training that ended are of no use
                moments = optimiser.state[parameter]
                tensors |= {f"{key}/{name}": moments[key].cpu().numpy() for key in _MOMENTS if key in moments}
        write_checkpoint(self.folder, Checkpoint(tensors, vars(course)), self.fingerprint)

    def _resume(self, optimiser: torch.optim.Optimizer) -> Course | None:
        found = read_checkpoint(self.folder, self.fingerprint)
        if found is None:
            return None
        with torch.no_grad():
            for name, parameter in self._named().items():
                parameter.copy_(torch.from_numpy(found.tensors[f"weight/{name}"]))
                # None of a group that was never trained before it was frozen, nor of a training that ended.
                kept = [(key, found.tensors.get(f"{key}/{name}")) for key in _MOMENTS]
                moments = {key: torch.from_numpy(one) for key, one in kept if one is not None}
                if moments:
                    optimiser.state[parameter] = {
                        key: one.to(parameter.device if one.ndim else "cpu") for key, one in moments.items()
                    }
        return Course(**found.state)


def backward(model: nn.Module, ids: Sequence[np.ndarray], budget: int, dtype: str) -> float:
    """Add the gradient of the mean cross-entropy (nats) over all tokens that have one before them; returns the mean.

    The texts go through in parts of at most `budget` tokens; the gradient is the same as in one, but for rounding.
    """
    device = next(model.parameters()).device
    n_targets = sum(len(one) - 1 for one in ids)
    total = 0.0
    for rows in batches(np.array([len(one) for one in ids]), budget):
        ids_bt, mask_bt = (tensor.to(device) for tensor in pad_right([ids[row] for row in rows]))
        targets_bt = ids_bt.masked_fill(mask_bt == 0, -100)[:, 1:]
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            logits: Tensor = model(input_ids=ids_bt, attention_mask=mask_bt, use_cache=False).logits
        summed = functional.cross_entropy(
            logits[:, :-1].float().flatten(0, 1), targets_bt.flatten(), ignore_index=-100, reduction="sum"
        )
        loss = summed / n_targets
        loss.backward()  # pyright: ignore[reportUnknownMemberType]
        total += loss.item()
    return total
