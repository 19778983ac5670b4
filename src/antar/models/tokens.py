"""Texts as token ids, and which of them count: written once, read by every side.

Shards `NNNNN.safetensors` hold
  ids      int32 `[n_tokens]`, all texts of the shard one after another
  offsets  int64 `[n_texts + 1]`, where each text starts
  keep     uint8 `[n_tokens]`, 1 for a token that pooling takes
  left_out int64 `[n_texts]`, how many of a text's content tokens the outlier mask took away

Special tokens are never pooled, nor is anything that a chat template writes around a text (`template.py`). With the
outlier mask on, base runs over the texts here, before any side is read: a token whose norm exceeds the threshold at
any wanted layer is left out on every side and at every layer. A text whose content tokens are all outliers keeps them
all, because a mean over nothing is not a vector. The thresholds stand in each shard's header, for the manifest;
`thresholds.json` only spares a second calibration, and is made again where it is not as it was written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from antar.core.atomic import write_json
from antar.core.errors import UserError
from antar.core.hashing import sha256_json
from antar.core.shards import read_shard, shard_is_whole, shard_name, shard_rows, write_shard
from antar.models.config import ExtractConfig, ModelConfig
from antar.models.forward import Reader, not_finite_in
from antar.models.pair import load_tokenizer
from antar.models.template import ChatTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

THRESHOLDS_NAME = "thresholds.json"


@dataclass(frozen=True)
class TokenShard:
    """The token ids of some texts, one array a text, and which of them pooling takes."""

    ids: list[np.ndarray]
    keep: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.ids)


def n_shards(n_texts: int, cfg: ExtractConfig) -> int:
    return len(shard_rows(n_texts, cfg.texts_per_shard))


def read_tokens(path: Path) -> TokenShard:
    """The shard at `path`; ids int32 `[n_tokens]` and keep bool `[n_tokens]` of each text."""
    arrays = read_shard(path)
    starts = arrays["offsets"][1:-1]
    return TokenShard(np.split(arrays["ids"], starts), np.split(arrays["keep"].astype(bool), starts))


@dataclass
class TokenTask:
    """Shard task: tokenise texts (and find outliers on `model`, which is base). `run(shard)` is idempotent.

    chat: the checkpoint whose tokenizer and chat template are used when `cfg.chat_template` is on
    in_template: with `cfg.chat_template` `both`, whether each of `texts` is read in the template
    """

    texts: Sequence[str]
    model: ModelConfig
    cfg: ExtractConfig
    folder: Path
    fingerprint: str
    chat: ModelConfig | None = None
    in_template: Sequence[bool] | None = None
    _tokenizer: PreTrainedTokenizerBase | None = field(default=None, init=False, repr=False)
    _template: ChatTemplate | None = field(default=None, init=False, repr=False)
    _reader: Reader | None = field(default=None, init=False, repr=False)
    _limits: dict[int, float] | None = field(default=None, init=False, repr=False)

    def run(self, shard: int) -> None:
        path = self.folder / shard_name(shard)
        if shard_is_whole(path, self.fingerprint):
            return
        rows = shard_rows(len(self.texts), self.cfg.texts_per_shard)[shard]
        tokens = self._tokenise(rows)
        left_out = [0] * len(rows)
        about: dict[str, Any] = {}
        if self.cfg.outliers:
            tokens, left_out = self._without_outliers(tokens)
            about = {"outlier_thresholds": {str(layer): value for layer, value in self._thresholds().items()}}
            about |= self._reader.forced() if self._reader else {}
        lengths = [len(ids) for ids in tokens.ids]
        arrays = {
            "ids": np.concatenate(tokens.ids).astype(np.int32),
            "offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            "keep": np.concatenate(tokens.keep).astype(np.uint8),
            "left_out": np.array(left_out, np.int64),
        }
        write_shard(path, arrays, self.fingerprint, about)

    def _tokenise(self, rows: Sequence[int]) -> TokenShard:
        """The rows in their order, each text by its own reading."""
        found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for templated in (False, True):
            its = [row for row in rows if self._is_templated(row) == templated]
            if its:
                texts = [self.texts[row] for row in its]
                read = self._in_template(texts) if templated else self._bare(texts)
                found |= dict(zip(its, zip(*read, strict=True), strict=True))
        ids, keep = [found[row][0] for row in rows], [found[row][1] for row in rows]
        for row, kept in zip(rows, keep, strict=True):
            if not kept.any():
                raise UserError(
                    f"text in row {row} ({self.texts[row][:40]!r}): expected at least one token that is not special, "
                    f"found none with the tokenizer of {self.model.path}; leave the text out of the corpus"
                )
        return TokenShard(ids, keep)

    def _is_templated(self, row: int) -> bool:
        if self.cfg.chat_template != "both":
            return self.cfg.chat_template
        if self.in_template is None:
            raise ValueError("in_template: with chat_template `both`, expected one bool a text, found none")
        return bool(self.in_template[row])

    def _in_template(self, texts: list[str]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """(ids, keep) of each text in the template."""
        if self._template is None:
            self._template = ChatTemplate.of(self.chat or self.model)
        ids, own = self._template.tokenise(texts, self.cfg.max_tokens)
        special = special_ids(self._template.tokenizer)
        return ids, [its & ~np.isin(one, special) for one, its in zip(ids, own, strict=True)]

    def _bare(self, texts: list[str]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """(ids, keep) of each text as it is."""
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self.model)
        encoded = self._tokenizer(texts, truncation=True, max_length=self.cfg.max_tokens, return_attention_mask=False)
        ids = [np.array(one, np.int32) for one in encoded["input_ids"]]
        special = special_ids(self._tokenizer)
        return ids, [~np.isin(one, special) for one in ids]

    def _without_outliers(self, tokens: TokenShard) -> tuple[TokenShard, list[int]]:
        thresholds = self._thresholds()
        norms = self._norms(tokens)
        keep: list[np.ndarray] = []
        left_out: list[int] = []
        for i, kept in enumerate(tokens.keep):
            extreme = np.any([norms[layer][i] > thresholds[layer] for layer in self.cfg.layers], axis=0)
            left = kept & ~extreme
            keep.append(left if left.any() else kept)
            left_out.append(int(kept.sum() - keep[-1].sum()))
        return TokenShard(tokens.ids, keep), left_out

    def _norms(self, tokens: TokenShard) -> dict[int, list[np.ndarray]]:
        """Layer → float32 `[n_tokens]` of each text: the norms of base's token vectors."""
        if self._reader is None:
            self._reader = Reader(self.model, self.cfg)

        def norms_t(hidden_td: Tensor, _rows: np.ndarray) -> Tensor:
            return torch.linalg.vector_norm(hidden_td, dim=-1, dtype=torch.float32)

        norms = {layer: [np.empty(0, np.float32)] * len(tokens) for layer in self.cfg.layers}
        for rows, found in self._reader.read(tokens.ids, self.cfg.layers, norms_t):
            ends = np.cumsum([len(tokens.ids[row]) for row in rows])
            for layer, values in found.items():
                for row, one in zip(rows, np.split(values, ends[:-1]), strict=True):
                    norms[layer][row] = one
        return norms

    def _thresholds(self) -> dict[int, float]:
        """Layer → norm above which a token is an outlier; found once and kept beside the shards."""
        if self._limits is None:
            self._limits = self._stored_thresholds() or self._calibrate()
        return self._limits

    def _stored_thresholds(self) -> dict[int, float] | None:
        try:
            stored = json.loads((self.folder / THRESHOLDS_NAME).read_text(encoding="utf-8"))
            seal = stored.pop("seal")
        except (FileNotFoundError, ValueError, KeyError, AttributeError):
            return None
        if seal != sha256_json(stored) or stored["fingerprint"] != self.fingerprint:
            return None
        return {int(layer): float(value) for layer, value in stored["thresholds"].items()}

    def _calibrate(self) -> dict[int, float]:
        # Evenly spread over the corpus, whose order may put one language or source first.
        n = min(self.cfg.calibration_texts, len(self.texts))
        rows = np.unique(np.linspace(0, len(self.texts) - 1, n).round().astype(int)).tolist()
        tokens = self._tokenise(rows)
        thresholds = {
            layer: self.cfg.outlier_multiple
            * float(np.median(np.concatenate([norm[keep] for norm, keep in zip(norms, tokens.keep, strict=True)])))
            for layer, norms in self._norms(tokens).items()
        }
        for layer, value in thresholds.items():
            if not np.isfinite(value):
                raise not_finite_in(self.model, layer, self.cfg)
        named = {str(layer): value for layer, value in thresholds.items()}
        found = {"fingerprint": self.fingerprint, "texts": len(rows), "thresholds": named}
        write_json(self.folder / THRESHOLDS_NAME, {**found, "seal": sha256_json(found)})
        return thresholds


def special_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of the tokens that stand for no text: BOS, EOS, padding, chat markers."""
    marked = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return sorted(marked | set(tokenizer.all_special_ids))
