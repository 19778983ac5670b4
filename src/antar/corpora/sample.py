"""Sampling that depends on the texts and the seed, not on the order in which they are read.

Each text has a priority: a keyed hash of its normal form. A stratum (source × group × language) keeps the texts
of the smallest priorities (a bottom-k sketch, Cohen & Kaplan 2007): a uniform sample of its distinct texts, in
one pass and bounded memory, so that a million-row set is streamed whole instead of sampled from its beginning.
Equal texts have equal priorities and fall together.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable

from antar.core.seeds import derive_seed
from antar.corpora.records import Candidate, Dropped

Stratum = tuple[str, str, str]
"""(source, group, language)"""


def priority_of(seed: int, source: str) -> Callable[[str], int]:
    """The function from a normal form to its priority (128 bits) in the random order of `source`."""
    key = derive_seed(seed, "corpus", "sample", source).to_bytes(8, "big")

    def priority(normal_form: str) -> int:
        digest = hashlib.blake2b(normal_form.encode("utf-8", "surrogatepass"), digest_size=16, key=key).digest()
        return int.from_bytes(digest, "big")

    return priority


class Sketch:
    """The `capacity` distinct texts of smallest priority (all when None), and the duplicates of each."""

    def __init__(self, capacity: int | None) -> None:
        self._capacity = capacity
        self._kept: dict[int, Candidate] = {}
        self._duplicates: dict[int, list[str]] = {}
        self._largest_first: list[int] = []
        self.offered = 0

    def offer(self, text: Candidate) -> None:
        self.offered += 1
        held = self._kept.get(text.priority)
        if held is not None:
            first, second = sorted((held, text), key=lambda candidate: candidate.rank)
            self._kept[text.priority] = first
            self._duplicates.setdefault(text.priority, []).append(second.text_id)
            return
        if self._capacity is None:
            self._kept[text.priority] = text
            return
        if len(self._kept) < self._capacity:
            heapq.heappush(self._largest_first, -text.priority)
        elif text.priority < -self._largest_first[0]:
            evicted = -heapq.heapreplace(self._largest_first, -text.priority)
            del self._kept[evicted]
            self._duplicates.pop(evicted, None)
        else:
            return
        self._kept[text.priority] = text

    def texts(self) -> list[Candidate]:
        """The kept texts in random order (by priority)."""
        return [self._kept[priority] for priority in sorted(self._kept)]

    def report(self, source: str, dropped: Dropped) -> None:
        """Count the duplicates of kept texts by id, and everything that the sketch passed over as one number."""
        duplicates = [text_id for ids in self._duplicates.values() for text_id in ids]
        for text_id in duplicates:
            dropped.add(source, "exact duplicate", text_id)
        dropped.add_count(source, "not sampled", self.offered - len(self._kept) - len(duplicates))


def draw(candidates: list[Candidate], n: int | None) -> tuple[list[Candidate], list[Candidate]]:
    """(taken, left over): the `n` of smallest priority, or all."""
    ordered = sorted(candidates, key=lambda candidate: (candidate.priority, candidate.rank))
    return (ordered, []) if n is None else (ordered[:n], ordered[n:])
