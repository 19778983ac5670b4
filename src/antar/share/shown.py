"""Examples as tokens with a value each, whole graphemes only.

Where a run has an activation for every token, an example is its tokens as the model read them and the feature's code
of each. Where it has one vector a text, there is one code a text, and no token that it belongs to: such an example is
the whole text as a single token. Byte-level tokens cut Devanagari inside a letter; tokens are therefore joined until
each ends between two graphemes, and the strongest of the joined values stands.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import regex

from antar.core.errors import UserError
from antar.core.progress import say
from antar.core.shards import read_shard, shard_paths
from antar.core.sites import DictionaryId, Site
from antar.models.config import ModelConfig
from antar.models.token_rows import TokenSite, is_token_level
from antar.run import Run

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_GRAPHEME = regex.compile(r"\X")


@dataclass(frozen=True)
class Shown:
    """A text as tokens, which joined are the text (or as much of it as the model read), and a value for each."""

    tokens: list[str]
    values: list[float]


def whole_graphemes(text: str, decode: Callable[[int], str], n: int) -> tuple[list[str], list[int]]:
    """(pieces, for each of the `n` tokens its piece), where every piece ends between two graphemes of `text`.

    decode: how many tokens → what they say, in which a letter that is not whole yet is U+FFFD
    text: what was tokenised; the last piece is completed from it where the tokens end inside a grapheme
    """
    whole = decode(n)
    read = text if text.startswith(whole.rstrip("\ufffd")) else whole
    ends = {0} | {found.end() for found in _GRAPHEME.finditer(read)}
    cuts, pieces, piece_of = [0], list[str](), list[int]()
    for token in range(1, n + 1):
        piece_of.append(len(pieces))
        said = decode(token)
        if said.endswith("\ufffd") and token < n and len(decode(token + 1)) <= len(said):
            continue  # a letter that is not whole yet, even where the text has this very sign
        if len(said) > cuts[-1] and len(said) in ends and read.startswith(said):
            pieces.append(read[cuts[-1] : len(said)])
            cuts.append(len(said))
    if piece_of and piece_of[-1] == len(pieces):
        end = min((end for end in ends if end >= len(whole.rstrip("\ufffd"))), default=len(read))
        rest = read[cuts[-1] : end]
        if rest:
            pieces.append(rest)
        else:  # the last tokens say nothing more, e.g. an empty one
            piece_of = [min(piece, len(pieces) - 1) for piece in piece_of]
    return pieces, piece_of


class Examples:
    """The examples of a run as `Shown`, dictionary by dictionary."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._texts = run.texts["text"].to_list()
        self._pieces: dict[int, tuple[list[str], list[int], np.ndarray]] = {}

    def of(self, dictionary: DictionaryId, top: int) -> Mapping[int, list[Shown]]:
        """Latent → its `top` strongest examples, strongest first."""
        frame = (
            self._run.examples.filter(pl.col("dictionary") == str(dictionary))
            .sort(["latent", "activation", "row"], descending=[False, True, False])
            .unique(["latent", "row"], keep="first", maintain_order=True)
            .group_by("latent", maintain_order=True)
            .head(top)
        )
        chosen = list(frame.select("latent", "row", "activation").iter_rows())
        by_token = self._token_values(dictionary, [(row, latent) for latent, row, _ in chosen])
        found: dict[int, list[Shown]] = defaultdict(list)
        for latent, row, activation in chosen:
            values = by_token.get((row, latent))
            found[latent].append(
                Shown([self._texts[row]], [activation]) if values is None else self._joined(row, values)
            )
        return found

    def _joined(self, row: int, values: np.ndarray) -> Shown:
        pieces, piece_of, kept = self._pieces_of(row)
        strongest = np.zeros(len(pieces))
        if len(pieces):
            np.maximum.at(strongest, np.array(piece_of)[kept], values)
        return Shown(pieces, strongest.tolist())

    def _pieces_of(self, row: int) -> tuple[list[str], list[int], np.ndarray]:
        """(pieces, token → piece, which tokens have a row) of a text, from its first such token to its last."""
        if row not in self._pieces:
            tokenizer = self._tokenizer
            assert tokenizer is not None
            ids, keep = self._ids(row)
            first, last = int(np.argmax(keep)), len(keep) - int(np.argmax(keep[::-1]))
            ids, keep = ids[first:last], keep[first:last]

            def decode(n: int) -> str:
                return str(
                    tokenizer.decode(ids[:n].tolist(), skip_special_tokens=False, clean_up_tokenization_spaces=False)
                )

            pieces, piece_of = whole_graphemes(self._texts[row], decode, len(ids))
            self._pieces[row] = pieces, piece_of, np.flatnonzero(keep)
        return self._pieces[row]

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase | None:
        from antar.models.pair import load_tokenizer

        models = self._run.study["models"]
        base = {"path": str(self._run.folder / "organism/base")} if models.get("organism") else models["base"]
        try:
            return load_tokenizer(ModelConfig.model_validate(base))
        except UserError as error:
            say(f"  texts go out whole, not as tokens: {error}")
            return None

    @cached_property
    def _starts(self) -> list[int]:
        """The first text of each shard of tokens, and the number of texts."""
        lengths = [
            len(read_shard(path)["offsets"]) - 1 for path in shard_paths(self._run.folder / "activations/tokens")
        ]
        return np.concatenate([[0], np.cumsum(lengths)]).astype(int).tolist()

    def _ids(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        shard = int(np.searchsorted(self._starts, row, side="right")) - 1
        arrays = self._shard(shard)
        lo, hi = arrays["offsets"][row - self._starts[shard] :][:2].tolist()
        return arrays["ids"][lo:hi], arrays["keep"][lo:hi].astype(bool)

    def _shard(self, shard: int) -> dict[str, np.ndarray]:
        if self._held is None or self._held[0] != shard:
            self._held = shard, read_shard(shard_paths(self._run.folder / "activations/tokens")[shard])
        return self._held[1]

    _held: tuple[int, dict[str, np.ndarray]] | None = None

    def _token_values(
        self, dictionary: DictionaryId, wanted: Sequence[tuple[int, int]]
    ) -> dict[tuple[int, int], np.ndarray]:
        """(row, latent) → the code of each of the text's tokens; empty where the run has a vector a text.

        Of a dictionary of both sides' rows, the stronger side's, as examples are chosen by.
        """
        sides = ("base", "chat") if dictionary.is_joint_rows else (dictionary.trained_on,)
        sites = [Site(side, dictionary.layer) for side in sides]
        here = all((self._run.folder / "activations" / Site(one, dictionary.layer).folder).is_dir()
                   for site in sites for one in site.stored)  # fmt: skip
        if not here or not is_token_level(self._run.folder, sites[0]) or self._tokenizer is None:
            return {}
        latents: dict[int, list[int]] = defaultdict(list)
        for row, latent in wanted:
            latents[row].append(latent)
        coder = self._run.dictionary(dictionary)
        found: dict[tuple[int, int], np.ndarray] = {}
        for site in sites:
            for row, acts_td in _rows_of(TokenSite(self._run.folder, site), set(latents)):
                codes = coder.encode(acts_td)
                for latent in latents[row]:
                    values = np.where(codes.indices_nk == latent, codes.values_nk, 0).max(axis=1, initial=0.0)
                    found[row, latent] = np.maximum(found.get((row, latent), 0.0), values)
        return found


def _rows_of(site: TokenSite, rows: set[int]) -> Iterator[tuple[int, np.ndarray]]:
    """(text, float32 `[its tokens, width]`) for each text of `rows`, a block in memory at a time."""
    for block in site.blocks:
        its = [row for row in block.texts if row in rows]
        if its:
            acts_nd = site.read(block)
            for row in its:
                lo, hi = block.offsets[row - block.texts.start :][:2].tolist()
                yield row, acts_nd[lo:hi]
