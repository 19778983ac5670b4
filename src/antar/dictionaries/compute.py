"""How the arithmetic of a training is done: which step, and the precision of its dense products.

A step has two dense products, the pre-activations and the pull on the codes, and they are most of its arithmetic. In
bf16 they take weights and inputs rounded to 8 bits of significand, whose products the hardware sums in fp32; what
they give is rounded once more. In torch's step everything else stays fp32: the sums over what fired, AuxK, Adam. The
compiled step (`fast/`) also reads centred texts, errors and AuxK's operands in bf16, and sums in fp32. Master weights
are fp32 everywhere.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch
from torch import Tensor

from antar.core.errors import UserError
from antar.core.jit import have_numba
from antar.core.machine import cpu_has_bf16
from antar.core.progress import say
from antar.dictionaries.config import DictionaryConfig

SMALLEST_FOR_BF16 = 2**20
"""Weights of one matrix under which `auto` stays with fp32: there rounding costs as much as the product gains."""

Precision = Literal["bf16", "fp32"]
StepPath = Literal["fused", "torch"]


def precision_of(cfg: DictionaryConfig, d_model: int, device: torch.device) -> Precision:
    """What `cfg.compute` comes to on `device`."""
    if cfg.compute != "auto":
        return cfg.compute
    if d_model * cfg.n_latents < SMALLEST_FOR_BF16:
        return "fp32"
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if not cpu_has_bf16():
        _say_fp32()
        return "fp32"
    return "bf16"


@cache
def _say_no_numba() -> None:
    say("  numba is not installed: dictionaries are trained with torch alone, slower; pip install 'antar[fast]'")


@cache
def _say_fp32() -> None:
    """Once a process."""
    say("  this CPU has no bf16 instructions (avx512_bf16 or amx_bf16): dictionaries are trained in fp32")


def path_of(cfg: DictionaryConfig, device: torch.device) -> StepPath:
    """What `cfg.path` comes to on `device`. Raises UserError where the fused step was asked for and cannot run."""
    if device.type == "cpu" and have_numba() and cfg.path != "torch":
        return "fused"
    if cfg.moments == "bf16":
        raise UserError(
            "dictionaries.moments: bf16 needs the fused step (a CPU and numba: pip install 'antar[fast]'), found the "
            f"torch step on {device.type}; use fp32"
        )
    if cfg.path == "torch":
        return "torch"
    if cfg.path == "fused":
        found = f"the device {device.type}" if device.type != "cpu" else "no numba"
        raise UserError(
            f"dictionaries.path: fused needs a CPU and numba, found {found}; pip install 'antar[fast]', or use auto"
        )
    if device.type == "cpu":
        _say_no_numba()
    return "torch"


def times_rows(left_bd: Tensor, rows_nd: Tensor, precision: Precision) -> Tensor:
    """`[b, n]`: left_bd · rows_ndᵀ. In bf16 it stays bf16, for the reader of its few entries to widen."""
    if precision == "fp32":
        return left_bd @ rows_nd.T
    return left_bd.to(torch.bfloat16) @ rows_nd.to(torch.bfloat16).T
