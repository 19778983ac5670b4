"""Texts from a dataset, and labels from a model, as data in a prompt: nothing in them is an instruction.

A block of data is a line `<data-NONCE>`, one JSON value, and a line `</data-NONCE>`. The nonce depends on the study's
seed and on what stands in the block, so whoever wrote a text cannot have known it. Inside, every character that could
end the block or look like a marker of a chat template is written as a JSON escape; `json.loads` gives the text back.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from antar.core.hashing import sha256_json

ELLIPSIS = "…"
_ID_LENGTH = 4
_FIRST = "abcdefghjkmnpqrstuvwxyz"
_REST = _FIRST + "23456789"

# `<` and `>` would close a block, `|` stands in <|im_start|>; a fence may end one for a model that reads Markdown.
# Then what Unicode normalisation (which some tokenizers do) turns into one of these or into a bracket. Then what
# nobody sees: control characters, line breaks that are none for JSON, marks that turn the line around, tags, and
# selectors that carry hidden bytes. The two joiners are not among them.
_UNSAFE = re.compile(
    "[<>|`\u1fef\ufe47\ufe48\ufe64\ufe65\uff1c\uff1e\uff3b\uff3d\uff40\uff5c"
    "\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# [INST], [/INST], [TOOL_CALLS], [gMASK]
_MARKER = re.compile(r"\[(?=/?\w*[A-Z]{2}\w*\])", re.ASCII)
_JOINERS = "\u200c\u200d"
_VIRAMA = 9  # canonical combining class: what joins two consonants of an Indian script


def quoted(value: Any) -> str:
    """`value` as JSON on one line, with every unsafe character escaped. Joiners stay: Devanagari needs them."""
    plain = json.dumps(value, ensure_ascii=False, allow_nan=False)
    # In JSON these characters stand inside strings only (`[` of a marker too: no JSON value begins with a capital).
    escaped = _UNSAFE.sub(lambda found: _escape(found.group()), plain)
    return _MARKER.sub("\\\\u005b", escaped)


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


def data_block(value: Any, seed: int, about: str) -> str:
    """`value` between the two lines of its own nonce."""
    body = quoted(value)
    # Surrogates may stand alone in a text; the hash must not mind.
    nonce = hashlib.sha256(f"{seed}\0{about}\0{body}".encode("utf-8", "backslashreplace")).hexdigest()[:12]
    return f"<data-{nonce}>\n{body}\n</data-{nonce}>"


def shortened(text: str, characters: int) -> str:
    """`text`, or its beginning with an ellipsis: at most `characters`, cut where no letter loses its marks."""
    text = text.strip()
    if len(text) <= characters:
        return text
    end = characters - 1
    while end > 0 and _inside_a_letter(text, end):
        end -= 1
    return text[:end].rstrip() + ELLIPSIS


def _inside_a_letter(text: str, place: int) -> bool:
    """Whether a cut before `place` would part what a reader sees as one letter or one sign."""
    after = text[place]
    if _is_mark(after):
        return True
    before = place - 1
    if text[before] == "\u200d":
        return True
    # A virama joins to what follows, also with other marks between.
    while before > 0 and _is_mark(text[before]) and unicodedata.combining(text[before]) != _VIRAMA:
        before -= 1
    if unicodedata.combining(text[before]) == _VIRAMA:
        return True
    # Two regional indicators are one flag.
    flags = re.search("[\U0001f1e6-\U0001f1ff]*$", text[:place]) if "\U0001f1e6" <= after <= "\U0001f1ff" else None
    return flags is not None and len(flags.group()) % 2 == 1


def _is_mark(character: str) -> bool:
    """A combining mark, a joiner, or the skin of an emoji."""
    if character in _JOINERS or "\U0001f3fb" <= character <= "\U0001f3ff":
        return True
    return unicodedata.category(character).startswith("M")


def random_ids(n: int, seed: int, about: str, texts: Iterable[str]) -> tuple[str, ...]:
    """n different names for texts, which stand in none of them and mean nothing: `k3f9`.

    They follow from the seed and from what is asked, so a rerun asks the same question; another feature has others.
    Each has a digit, so that none is a word that a label might hold by chance.
    """
    shown = "\n".join(texts).lower()
    found: list[str] = []
    taken: set[str] = set()
    turn = 0
    while len(found) < n:
        name = _name(sha256_json([seed, about, turn]))
        turn += 1
        if name not in taken and name not in shown and not name.isalpha():
            taken.add(name)
            found.append(name)
    return tuple(found)


def _name(digest: str) -> str:
    number = int(digest, 16)
    number, first = divmod(number, len(_FIRST))
    letters = [_FIRST[first]]
    for _ in range(_ID_LENGTH - 1):
        number, place = divmod(number, len(_REST))
        letters.append(_REST[place])
    return "".join(letters)


def named(label: str, ids: Sequence[str]) -> bool:
    """Whether a label speaks of texts by their ids, which mean nothing to a reader."""
    words = set(re.findall(r"[a-z0-9]+", label.lower()))
    return not words.isdisjoint(ids)
