"""How far a delta is off because the forward pass did not compute in float32.

Base and chat agree to a cosine of 0.997 and more, so their difference is small beside either, and rounding that
neither side would feel is a large share of it. Some texts, evenly spread, are read in float32 too; the error of a
delta at a layer is ‖Δ − Δ₃₂‖ / ‖Δ₃₂‖ over them (Frobenius norms).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from antar.core.shards import shard_is_whole, shard_name, shard_rows, write_shard
from antar.models.config import ExtractConfig, ModelConfig
from antar.models.extract import read_pooled
from antar.models.forward import Reader
from antar.models.pooling import a_text
from antar.models.tokens import TokenShard, read_tokens

TOLERATED = 0.05
"""A larger error of a delta is a warning."""


def sample_rows(n_texts: int, wanted: int) -> np.ndarray:
    """int64 `[n]`: rows evenly spread over the corpus, whose order may put one language or source first."""
    return np.unique(np.linspace(0, n_texts - 1, min(wanted, n_texts)).round().astype(np.int64))


@dataclass(frozen=True)
class PrecisionTask:
    """Shard task: `run(i)` reads the sample of texts in float32 with checkpoint i; `layer_06`, ... float32 `[n, d]`.

    token_folder: whole token shards of all `n_texts` texts
    """

    models: Sequence[ModelConfig]
    cfg: ExtractConfig
    n_texts: int
    token_folder: Path
    folder: Path
    fingerprint: str

    def run(self, shard: int) -> None:
        path = self.folder / shard_name(shard)
        if shard_is_whole(path, self.fingerprint):
            return
        reader = Reader(self.models[shard], self.cfg.model_copy(update={"dtype": "float32"}))
        exact = read_pooled(reader, self._sample(), self.cfg.layers, a_text(self.cfg.pooling))
        named = {f"layer_{layer:02d}": acts_nd for layer, acts_nd in exact.items()}
        write_shard(path, named, self.fingerprint, reader.forced())

    def _sample(self) -> TokenShard:
        ids: list[np.ndarray] = []
        keep: list[np.ndarray] = []
        wanted = sample_rows(self.n_texts, self.cfg.precision_texts)
        for number, rows in enumerate(shard_rows(self.n_texts, self.cfg.texts_per_shard)):
            of_shard = wanted[(wanted >= rows.start) & (wanted < rows.stop)] - rows.start
            if len(of_shard):
                tokens = read_tokens(self.token_folder / shard_name(number))
                ids += [tokens.ids[row] for row in of_shard]
                keep += [tokens.keep[row] for row in of_shard]
        return TokenShard(ids, keep)


def delta_error(delta_nd: np.ndarray, exact_nd: np.ndarray) -> float | None:
    """‖Δ − Δ₃₂‖ / ‖Δ₃₂‖; None where the sides do not differ at all."""
    size = float(np.linalg.norm(exact_nd.astype(np.float64)))
    return float(np.linalg.norm(delta_nd.astype(np.float64) - exact_nd)) / size if size else None


def warning(errors: Mapping[str, float | None], dtype: str) -> str | None:
    """What to say of deltas that are further off than is tolerated, and which arithmetic to use instead."""
    worst, site = max(((error, site) for site, error in errors.items() if error is not None), default=(0.0, ""))
    if worst <= TOLERATED:
        return None
    other = "set extract.dtype to float32" + (", or try float16" if dtype == "bfloat16" else "")
    return f"warning: in {dtype} {site} is off by {worst:.1%} of its size (over {TOLERATED:.0%}); {other}"
