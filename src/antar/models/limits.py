"""What a checkpoint can read: how many tokens, and which ids.

Looked at before a pass, which would end in an index out of range or, worse, in vectors that depend on what was read
beside a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from antar.core.errors import UserError


@dataclass(frozen=True)
class Limits:
    """ids: rows of the token embedding.
    positions: of learned position embeddings, None without them.
    turn_alike: the length up to which all texts' rotary positions turn alike, None where that is at any length.
    """

    ids: int
    positions: int | None
    turn_alike: int | None

    @classmethod
    def of(cls, model: Any) -> Limits:
        config, tokens = model.config.get_text_config(), model.get_input_embeddings()
        return cls(int(tokens.num_embeddings), _learned_positions(model, config, tokens), turning_alike(config))

    def check(self, name: str, ids: Sequence[np.ndarray]) -> None:
        """ids: int `[n_tokens]` of each text. UserError for a text that the checkpoint `name` cannot read."""
        longest = max(map(len, ids), default=0)
        if self.positions is not None and longest > self.positions:
            raise UserError(
                f"{name}: expected texts of at most {self.positions:,} tokens, since it has learned no further "
                f"positions, found {longest:,}; set extract.max_tokens to {self.positions}"
            )
        if self.turn_alike is not None and longest > self.turn_alike:
            raise UserError(
                f"{name}: expected texts of at most {self.turn_alike:,} tokens, found {longest:,}: beyond that its "
                f"rotary positions depend on the longest text of a batch; set extract.max_tokens to {self.turn_alike}"
            )
        largest = max((int(one.max()) for one in ids), default=0)
        if largest >= self.ids:
            raise UserError(
                f"{name}: expected token ids below {self.ids:,}, which is what its embedding has, found {largest:,}; "
                "its tokenizer is another model's"
            )


def _learned_positions(model: nn.Module, config: Any, tokens: nn.Module) -> int | None:
    """An embedding with a row a position (GPT-2), or two more (OPT's offset)."""
    stated = getattr(config, "max_position_embeddings", None)
    if stated is None:
        return None
    rows = [one.num_embeddings for one in model.modules() if isinstance(one, nn.Embedding) and one is not tokens]
    return int(stated) if any(n - int(stated) in (0, 2) for n in rows) else None


def turning_alike(config: Any) -> int | None:
    """`dynamic` and `longrope` scale the frequencies by the longest text of a batch once it passes the pretraining
    length, and `dynamic` remembers it; so beyond, a text's vectors depend on what was read with or before it."""
    stated = getattr(config, "rope_parameters", None) or {}
    each = [one for one in stated.values() if isinstance(one, dict)] or [stated]
    for one in each:
        if one.get("rope_type") in ("dynamic", "longrope"):
            name = "original_max_position_embeddings"
            return int(one.get(name) or getattr(config, name, None) or config.max_position_embeddings)
    return None
