"""One file that holds everything a training needs to go on as if it had never stopped.

It is a safetensors file: weights, best weights, both Adam moments and the dead-latent counts as tensors, the rest as
one JSON string in its header, with the tensors' checksum. One file, renamed into place, cannot disagree with itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from antar.core.atomic import remove_leftovers, write_safetensors
from antar.core.progress import say
from antar.core.shards import tensors_sha256

CHECKPOINT_FILE = "training.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    tensors: Mapping[str, np.ndarray]
    state: Mapping[str, Any]


def bits_of(tensor: Tensor) -> np.ndarray:
    """The tensor for a checkpoint; numpy knows no bfloat16, so that is kept as its bits (uint16)."""
    plain = tensor.cpu()
    return (plain.view(torch.uint16) if plain.dtype == torch.bfloat16 else plain).numpy()


def write_checkpoint(folder: Path, checkpoint: Checkpoint, fingerprint: str) -> None:
    # One metadata key: the order of several is not fixed by safetensors, and the bytes should be.
    proof = {"fingerprint": fingerprint, "sha256": tensors_sha256(checkpoint.tensors)}
    state = json.dumps({**proof, **checkpoint.state}, sort_keys=True, allow_nan=False)
    write_safetensors(folder / CHECKPOINT_FILE, checkpoint.tensors, {"state": state})


def read_checkpoint(folder: Path, fingerprint: str) -> Checkpoint | None:
    """The checkpoint in `folder` if it is whole and belongs to this training; else None, with a line that says so."""
    path = folder / CHECKPOINT_FILE
    remove_leftovers(folder)
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as handle:
            state = json.loads((handle.metadata() or {})["state"])
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 (not a dict)
        if state.pop("sha256") != tensors_sha256(tensors):
            raise ValueError("its numbers are not those that were written")
    except (SafetensorError, KeyError, ValueError) as error:
        say(f"  {_place(path)} is damaged ({error}); this training starts anew")
        return None
    if state.pop("fingerprint", None) != fingerprint:
        say(f"  {_place(path)} belongs to other data or settings; this training starts anew")
        return None
    return Checkpoint(tensors, state)


def _place(path: Path) -> str:
    """`base.layer06/checkpoint/training.safetensors`"""
    return "/".join(path.parts[-3:])


def remove_checkpoint(folder: Path) -> None:
    """Delete the checkpoint and, if nothing else is in it, its folder. For the caller, once the result is written."""
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
    remove_leftovers(folder)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
