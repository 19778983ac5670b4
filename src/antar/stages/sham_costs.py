"""What the shams that a study makes cost before they are made: tokens, memory and disk. Upper estimates."""

from __future__ import annotations

from antar.models.pair import local_parameters
from antar.organisms.sham import ShamConfig
from antar.stages.context import Context

_WEIGHT, _TRAINED = 4, 16
"""Bytes a weight: float32; with its gradient and two moments."""
_READ = {"float32": 4, "float16": 2, "bfloat16": 2}
_READINGS_OF_A_FACTOR = 8
"""Measurements of the drift that one layer's factor takes, at most as a rule."""


def sham_costs(context: Context) -> list[tuple[str, str, str]]:
    """(what, amount, basis) of all shams that antar makes; nothing for a study without one."""
    made = context.study.models.made_shams
    if not made:
        return []
    learnt = sum(cfg.max_steps * cfg.batch * cfg.max_tokens for cfg in made.values())
    measured = sum(_measured(context, cfg) for cfg in made.values())
    told = "; ".join(
        f"{name}: {cfg.max_steps:,} steps × {cfg.batch} texts × {cfg.max_tokens} tokens" for name, cfg in made.items()
    )
    costs = [
        ("sham training tokens", f"at most {learnt:,}", f"{told}; forward and backward"),
        ("sham forward tokens", f"at most {measured:,}", "drift on held-out controls, at every check and factor"),
    ]
    n = local_parameters(context.models()["base"])
    if n is None:
        costs.append(("memory to make a sham", "not known", "the model's size is not known here"))
        return costs
    reader = _READ[context.study.extract.dtype]
    most = max((cfg.token_budget for cfg in made.values()), default=0)
    costs.append(
        (
            "memory to make a sham",
            _gib(n * (_TRAINED + reader)),
            f"{n:,} weights, gradients and two moments in float32, and a copy that measures; besides activations of "
            f"{most:,} tokens and their logits",
        )
    )
    # A checkpoint holds weights and both moments, and goes when its sham is there.
    costs.append(
        (
            "disk for shams",
            _gib(n * _WEIGHT * (len(made) + 3)),
            f"{len(made)} × {_gib(n * _WEIGHT)} to stay, {_gib(3 * n * _WEIGHT)} of a checkpoint while one is made",
        )
    )
    return costs


def _measured(context: Context, cfg: ShamConfig) -> int:
    half = (cfg.probes // 2) * context.study.extract.max_tokens
    layers = len(context.layers())
    checks = -(-cfg.max_steps // cfg.check_every)
    # Base, chat and the end on both halves; checks and factors on the half that is matched.
    return half * (6 + checks + _READINGS_OF_A_FACTOR * layers)


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:,.2f} GiB"
