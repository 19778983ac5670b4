"""Near duplicates: texts whose sets of character 5-grams overlap, found by MinHash and confirmed exactly.

MinHash signatures (Broder 1997) of 64 permutations in 16 bands of 4 propose pairs; a proposed pair is compared
by the exact Jaccard similarity of its 5-gram sets. A pair of similarity 0.8 is proposed with probability 0.9998,
one of 0.6 with 0.89: recall falls below that, hence the bound on `clean.near_duplicates`. Character 5-grams, and
not words, because Hindi inflects and captions are short.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from antar.core.progress import progress
from antar.core.seeds import numpy_rng
from antar.corpora.records import Candidate

SHINGLE = 5
BANDS, ROWS = 16, 4
_BASE = np.uint64(0x9E3779B97F4A7C15)


@lru_cache(maxsize=4096)
def shingles(form: str) -> np.ndarray:
    """uint64, sorted, distinct: hashes of the character 5-grams of a normal form (of all of it when shorter)."""
    points = np.frombuffer(form.encode("utf-32-le"), dtype="<u4").astype(np.uint64) + np.uint64(1)
    width = min(SHINGLE, len(points))
    count = len(points) - width + 1
    hashes = np.zeros(count, dtype=np.uint64)
    for offset in range(width):
        hashes = hashes * _BASE + points[offset : offset + count]
        hashes ^= hashes >> np.uint64(29)
    return np.unique(hashes)


def jaccard(a: str, b: str) -> float:
    """Shared over all distinct 5-grams of two normal forms."""
    first, second = shingles(a), shingles(b)
    shared = len(np.intersect1d(first, second, assume_unique=True))
    return shared / (len(first) + len(second) - shared)


class NearDuplicates:
    """An index of kept texts that answers: is this text nearly one of them?"""

    def __init__(self, threshold: float, seed: int) -> None:
        rng = numpy_rng(seed, "corpus", "minhash")
        limit = np.iinfo(np.uint64).max
        self._threshold = threshold
        self._factors_p1 = rng.integers(0, limit, (BANDS * ROWS, 1), dtype=np.uint64) | np.uint64(1)
        self._offsets_p1 = rng.integers(0, limit, (BANDS * ROWS, 1), dtype=np.uint64)
        self._buckets: list[dict[bytes, list[Candidate]]] = [{} for _ in range(BANDS)]

    def _bands(self, form: str) -> list[bytes]:
        mixed_ps = self._factors_p1 * shingles(form)[None, :] + self._offsets_p1
        signature_br = (mixed_ps >> np.uint64(32)).min(axis=1).reshape(BANDS, ROWS)
        return [band.tobytes() for band in signature_br]

    def find_or_add(self, text: Candidate, *, always_add: bool = False) -> Candidate | None:
        """A kept text that `text` nearly repeats; when there is none, `text` is kept and None returned."""
        bands = self._bands(text.normal_form)
        tried: set[str] = set()
        for bucket, band in zip(self._buckets, bands, strict=True):
            for other in [] if always_add else bucket.get(band, []):
                if other.text_id in tried:
                    continue
                tried.add(other.text_id)
                if jaccard(text.normal_form, other.normal_form) >= self._threshold:
                    return other
        for bucket, band in zip(self._buckets, bands, strict=True):
            bucket.setdefault(band, []).append(text)
        return None


def without_near_duplicates(
    texts: Sequence[Candidate], threshold: float, seed: int, exempt: set[str]
) -> tuple[list[Candidate], list[tuple[Candidate, Candidate]]]:
    """(kept, [(dropped, the kept text that it repeats)]). Of two near duplicates the earlier in `texts` stays.

    Texts of the `exempt` sources always stay; others are compared with them.
    """
    index = NearDuplicates(threshold, seed)
    kept: list[Candidate] = []
    pairs: list[tuple[Candidate, Candidate]] = []
    with progress("near duplicates", len(texts), "texts") as bar:
        for text in sorted(texts, key=lambda text: text.source not in exempt):
            repeated = index.find_or_add(text, always_add=text.source in exempt)
            if repeated is None:
                kept.append(text)
            else:
                pairs.append((text, repeated))
            bar.advance()
    return kept, pairs
