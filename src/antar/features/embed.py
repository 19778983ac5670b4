"""Texts as the mean-pooled vectors of an encoder that is not under study: an independent view of what they say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoModel, AutoTokenizer

from antar.core.errors import UserError
from antar.core.progress import say
from antar.models.forward import batches

TOKEN_BUDGET = 8192


def embed_texts(
    folder: Path, texts: Sequence[str], max_tokens: int = 256, done: Callable[[int], None] = lambda _: None
) -> np.ndarray:
    """float32 `[n_texts, d]`: the mean of the last layer's vectors over a text's tokens, special ones too, as
    sentence encoders are trained (Reimers & Gurevych 2019, section 3); a text is cut after `max_tokens`, and where
    the encoder has fewer positions, after those (a line says so).

    folder: a transformers checkpoint (safetensors) with its tokenizer, on this machine; nothing is looked for
            anywhere else
    done:   called with the number of texts of each batch
    Runs on the CPU in fp32. Raises UserError where the folder holds no encoder that transformers can read.
    """
    tokenizer, model = _load(folder)
    positions = _positions(model)
    if positions is not None and positions < max_tokens:
        say(f"  {folder.name} reads at most {positions} tokens: texts are cut there, not after {max_tokens}")
        max_tokens = positions
    ids = [
        np.asarray(one, dtype=np.int64)
        for one in tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"]
    ]
    pooled: list[np.ndarray | None] = [None] * len(ids)
    for rows in batches(np.array([len(one) for one in ids]), TOKEN_BUDGET):
        longest = max(1, max(len(ids[row]) for row in rows))
        padded = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros(len(rows), longest, dtype=torch.long)
        for place, row in enumerate(rows):
            padded[place, : len(ids[row])] = torch.from_numpy(ids[row])
            mask[place, : len(ids[row])] = 1
        with torch.inference_mode():
            hidden = model(input_ids=padded, attention_mask=mask).last_hidden_state
        weights = mask[:, :, None].to(hidden.dtype)
        means = (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        for row, vector in zip(rows, means.numpy(), strict=True):
            pooled[row] = vector
        done(len(rows))
    return np.stack([one for one in pooled if one is not None]).astype(np.float32)


def _load(folder: Path) -> tuple[Any, Any]:
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: expected an encoder's folder (config.json, weights, tokenizer), found none; give "
                        "the path of one that is on this machine, or use text_space: tfidf")  # fmt: skip
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        # Weights are never unpickled: a folder that has none in safetensors is refused.
        model = AutoModel.from_pretrained(
            str(folder), local_files_only=True, dtype=torch.float32, use_safetensors=True
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(f"{folder}: expected an encoder that transformers reads, found: {said}") from error
    return tokenizer, model.eval()


def _positions(model: Any) -> int | None:
    """How many tokens have a position; None where the encoder sets no bound. RoBERTa's kind counts from behind its
    padding index."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return None
    padding = [
        part.padding_idx + 1
        for name, part in model.named_modules()
        if name.endswith("position_embeddings") and getattr(part, "padding_idx", None) is not None
    ]
    return positions - max(padding, default=0)
