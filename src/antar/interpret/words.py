"""Words of English and Hindi texts, and which text holds which word.

A word is a run of letters, digits and combining marks. Python's `\\w` leaves out the marks, and so would cut
every Devanagari word at its matras (सेवइयाँ → स, वइय); the pattern here is built from Unicode's own categories, so
it serves the other Indian scripts as well. Texts are NFC, in which both spellings of a nukta letter (क़) are one.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib import resources

import numpy as np
from scipy import sparse

from antar.core.hashing import code_version, sha256_json

# Zero-width joiners choose a glyph, not a word: क्‍ष and क्ष are the same word.
_ONE_SPELLING = {"\u200c": "", "\u200d": "", "\u2019": "'", "\u2018": "'", "\u02bc": "'"}


@cache
def _word_pattern() -> re.Pattern[str]:
    marks = [code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)).startswith("M")]
    ranges: list[str] = []
    start = previous = marks[0]
    for code in [*marks[1:], sys.maxunicode + 2]:
        if code != previous + 1:
            ranges.append(f"{re.escape(chr(start))}-{re.escape(chr(previous))}")
            start = code
        previous = code
    letters = f"(?:[^\\W_]|[{''.join(ranges)}])"
    return re.compile(f"{letters}+(?:'{letters}+)*")


def normalise(text: str) -> str:
    """NFC, case folded, without zero-width joiners, with one kind of apostrophe and of white space.

    Two texts with the same normal form are the same text to a labeller.
    """
    for character, replacement in _ONE_SPELLING.items():
        text = text.replace(character, replacement)
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).split())


def tokens(text: str) -> list[str]:
    """Every word of `text` in order, stop words too. A possessive `'s` is cut off."""
    return _tokens_of_normal(normalise(text))


def _tokens_of_normal(text: str) -> list[str]:
    return [word.removesuffix("'s") for word in _word_pattern().findall(text)]


@cache
def stop_words() -> frozenset[str]:
    """The English and the Hindi list together, because Indian texts mix the two languages."""
    words: set[str] = set()
    for name in ("stopwords_en.txt", "stopwords_hi.txt"):
        lines = (resources.files("antar.interpret") / "data" / name).read_text(encoding="utf-8").splitlines()
        words.update(normalise(line) for line in lines if line.strip() and not line.startswith("#"))
    return frozenset(words)


def keyword_fingerprint(worker: str) -> str:
    """What determines a keyword worker's answers besides its case: the code of this room and the stop lists."""
    return sha256_json([worker, code_version("interpret"), sorted(stop_words())])


def content_words(all_tokens: Iterable[str]) -> frozenset[str]:
    """The distinct words that may be keywords: no stop words, no bare numbers, no single characters."""
    return frozenset(word for word in set(all_tokens) if _may_be_keyword(word))


COMMON_SHARE = 0.2


def words_of(keywords: Collection[str], label: str) -> set[str]:
    """The words that a label names: its keywords, or its content words where a model or a person wrote it."""
    return set(keywords) or set(content_words(tokens(label)))


def telling_words(said: Mapping[str, tuple[Collection[str], str]]) -> dict[str, set[str]]:
    """name → the words of its (keywords, label) that tell it from the others.

    Sentences share words such as "text" or "describes"; those of more than a fifth of the sentences tell nothing.
    Keywords all tell something.
    """
    words = {name: words_of(*both) for name, both in said.items()}
    sentences = [words[name] for name, (keywords, _) in said.items() if not keywords]
    counts = Counter(word for its in sentences for word in its)
    common = {word for word, n in counts.items() if n > max(2, COMMON_SHARE * len(sentences))}
    return {name: its if said[name][0] else its - common for name, its in words.items()}


@lru_cache(maxsize=1 << 18)
def _may_be_keyword(word: str) -> bool:
    return len(word) > 1 and word not in stop_words() and any(character.isalpha() for character in word)


@dataclass(frozen=True)
class WordIndex:
    """Which text holds which content word.

    words:      the vocabulary, sorted; a word's place is its id
    holds_tv:   int32 CSR `[n_texts, n_words]`, 1 where the text holds the word (however often)
    lengths_t:  int64 `[n_texts]`, words in the text, stop words too
    text_key_t: int64 `[n_texts]`, equal for two texts that are the same after `normalise`
    """

    words: tuple[str, ...]
    holds_tv: sparse.csr_array
    lengths_t: np.ndarray
    text_key_t: np.ndarray
    _sets: dict[int, frozenset[str]] = field(default_factory=dict[int, frozenset[str]], repr=False, compare=False)

    @classmethod
    def build(cls, texts: Sequence[str]) -> WordIndex:
        """Tokenise every text once. About 4 million words a minute and core."""
        found: dict[str, int] = {}
        keys: dict[str, int] = {}
        columns: list[int] = []
        offsets, lengths, text_keys = [0], [], []
        for text in texts:
            normal = normalise(text)
            all_tokens = _tokens_of_normal(normal)
            columns += [found.setdefault(word, len(found)) for word in sorted(content_words(all_tokens))]
            offsets.append(len(columns))
            lengths.append(len(all_tokens))
            text_keys.append(keys.setdefault(normal, len(keys)))
        words = sorted(found)
        place = np.empty(len(words), dtype=np.int64)
        place[[found[word] for word in words]] = np.arange(len(words))
        columns_now = place[np.array(columns, dtype=np.int64)]
        holds = sparse.csr_array(
            (np.ones(len(columns), dtype=np.int32), columns_now, np.array(offsets, dtype=np.int64)),
            shape=(len(texts), len(words)),
        )
        holds.sort_indices()
        return cls(tuple(words), holds, np.array(lengths, dtype=np.int64), np.array(text_keys, dtype=np.int64))

    def words_of(self, row: int) -> frozenset[str]:
        """The content words of one text."""
        known = self._sets.get(row)
        if known is None:
            offsets = np.asarray(self.holds_tv.indptr)
            columns = self.holds_tv.indices[offsets[row] : offsets[row + 1]]
            known = frozenset(self.words[column] for column in columns)
            self._sets[row] = known
        return known
