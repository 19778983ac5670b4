"""A part of a stage's shards, for array jobs: `--shard i/N` makes those whose number leaves i when divided by N.

Parts need no engine and nothing of each other, so a scheduler may start, requeue and finish them in any order. They
write shards only; a run without `--shard` makes what they left out, writes the manifests and goes on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from antar.core.errors import UserError


@dataclass(frozen=True)
class Part:
    """number: 0 to of - 1."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """From `i/N`. Raises UserError for anything else."""
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None or not int(match[1]) < int(match[2]):
            raise UserError(f"--shard: expected i/N with i from 0 to N - 1, such as 0/4, found {text!r}")
        return cls(int(match[1]), int(match[2]))

    def shards(self, n_shards: int) -> list[int]:
        return list(range(self.number, n_shards, self.of))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"
