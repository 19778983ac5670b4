"""The learning rate of a step, from its number alone, so that a resumed training needs no scheduler's state."""

from __future__ import annotations

import math

from antar.dictionaries.config import DictionaryConfig


def warmup_steps(cfg: DictionaryConfig, planned: int) -> int:
    """How long the warm-up of a training of `planned` steps takes."""
    return min(cfg.warmup_steps, math.ceil(cfg.warmup_share * planned))


def learning_rate(cfg: DictionaryConfig, step: int, planned: int) -> float:
    """Of step `step`, counted from 1, in a training of at most `planned` steps.

    It rises linearly over the warm-up and falls over the last `decay_share` of the planned steps, to reach zero one
    step after the last, so that no step is taken for nothing.
    """
    return cfg.lr * min(1.0, step / max(1, warmup_steps(cfg, planned))) * _decay(cfg, step, planned)


def _decay(cfg: DictionaryConfig, step: int, planned: int) -> float:
    if cfg.decay == "none":
        return 1.0
    left = min(1.0, (planned + 1 - step) / (math.ceil(cfg.decay_share * planned) + 1))
    return left if cfg.decay == "linear" else 0.5 * (1.0 - math.cos(math.pi * left))
