"""What dictionaries read where activations are one row a token (`extract.pooling: none`).

Training streams over all tokens of the training texts. What has to be in memory is a fixed sample of tokens: those
that stop the training, and those that a dictionary and its baselines are measured on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from antar.core.seeds import derive_seed
from antar.core.sites import DictionaryId, Site
from antar.core.sparse import SparseCodes
from antar.dictionaries import Dictionary
from antar.dictionaries.stream import SAMPLE_ROWS, Moments, sample_rows
from antar.features.token_codes import encode_texts
from antar.models import TokenRows, TokenSite
from antar.stages.context import Context


def is_token_level(context: Context) -> bool:
    return context.study.extract.pooling == "none"


def token_rows(context: Context, one: DictionaryId, texts: np.ndarray) -> TokenRows:
    """The tokens of `texts` (rows of the corpus) that a dictionary reads: of a dictionary of both sides' rows base's,
    then chat's."""
    sides = ("base", "chat") if one.is_joint_rows else (one.trained_on,)
    return TokenRows([TokenSite(context.folder, Site(side, one.layer)) for side in sides], texts)


def token_sample(context: Context, one: DictionaryId, texts: np.ndarray) -> np.ndarray:
    """float32 `[m, width]`: at most `SAMPLE_ROWS` tokens of `texts`, the same each time."""
    rows = token_rows(context, one, texts)
    return sample_rows(rows, SAMPLE_ROWS, derive_seed(context.study.seed, "token sample", str(one)))[1]


def root_mean_square(context: Context, site: Site, texts: np.ndarray) -> float:
    """Of the tokens of `texts` at a stored site."""
    moments = Moments.of(TokenRows([TokenSite(context.folder, site)], texts))
    return float(np.sqrt(moments.raw_d.sum() / (max(moments.rows, 1) * len(moments.raw_d))))


def codes_of_shard(context: Context, dictionary: Dictionary, site: TokenSite, shard: int) -> SparseCodes:
    """The codes of a shard's texts, pooled over their tokens as the study says."""
    rows = ((block.offsets, site.read(block)) for block in site.blocks_of(shard))
    return encode_texts(dictionary, rows, context.study.features.token_codes, dictionary.k)


def codes_of_texts(context: Context, dictionary: Dictionary, site: Site, texts: np.ndarray) -> SparseCodes:
    """The same of some texts, in their order."""
    tokens = TokenSite(context.folder, site)
    chosen = np.zeros(tokens.n_texts, bool)
    chosen[texts] = True

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for block in tokens.blocks:
            its = chosen[block.texts.start : block.texts.stop]
            if its.any():
                lengths = np.diff(block.offsets)
                yield np.concatenate([[0], np.cumsum(lengths[its])]), tokens.read(block)[np.repeat(its, lengths)]

    codes = encode_texts(dictionary, blocks(), context.study.features.token_codes, dictionary.k)
    return codes.rows(np.searchsorted(np.flatnonzero(chosen), texts))


@dataclass(frozen=True)
class TokenMeasure:
    """What a dictionary is measured on: part → indices into `acts_nd`; of: part → how many tokens there are."""

    acts_nd: np.ndarray
    parts: dict[str, np.ndarray]
    of: dict[str, int]

    @classmethod
    def of_parts(cls, context: Context, one: DictionaryId, parts: Mapping[str, np.ndarray]) -> TokenMeasure:
        """`parts`: part → its texts. One sample of the training tokens and one of the held-out ones, in which each
        other part, which is of held-out texts, is what fell to it."""
        samples: list[np.ndarray] = []
        found: dict[str, np.ndarray] = {}
        totals: dict[str, int] = {}
        start = 0
        for name in ("train", "heldout"):
            if name not in parts:
                continue
            rows = token_rows(context, one, parts[name])
            drawn, acts_nd = sample_rows(rows, SAMPLE_ROWS, derive_seed(context.study.seed, name, str(one)))
            text_of = rows.texts_of(drawn)
            totals[name] = len(rows)
            for part, texts in parts.items():
                if part == name or (name == "heldout" and part != "train"):
                    its = np.flatnonzero(np.isin(text_of, texts))
                    found |= {part: its + start} if len(its) else {}
            samples.append(acts_nd)
            start += len(acts_nd)
        return cls(np.concatenate(samples), found, totals)
