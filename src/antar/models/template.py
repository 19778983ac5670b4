"""A text put as the single user message of a chat template, and which tokens of the result are its own.

The template and the tokenizer are the chat side's: base often has no template, or the same one. Ids therefore come
from one tokenizer for all sides, and an id that a side's embedding does not have is an error. Own tokens are found by
their place in the rendered string, never by what they are: a text may well hold the word `user`. A template's prefix
and suffix are learnt from a sentence that no corpus holds; a text whose rendering is not prefix + text + suffix was
changed by the template (stripped, escaped), and that is an error too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from antar.core.errors import UserError
from antar.models.config import ModelConfig
from antar.models.pair import load_config, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SENTINEL = "Qwzx7 vbkj9 the place of the message"
# Some templates write today's date. A run must give the same ids tomorrow, so it is always this one (the fallback of
# Llama 3's own template).
FIXED_DAY = datetime(2024, 7, 26)
_TODAY = re.compile(r"""strftime_now\s*\(\s*(['"])(.*?)\1\s*\)""")


@dataclass(frozen=True)
class ChatTemplate:
    """prefix, suffix: what the template writes before and after the message."""

    tokenizer: PreTrainedTokenizerBase
    name: str
    prefix: str
    suffix: str

    @classmethod
    def of(cls, model: ModelConfig, tokenizer: PreTrainedTokenizerBase | None = None) -> ChatTemplate:
        """The template of a checkpoint. Raises UserError when it has none, or one that cannot be used."""
        tokenizer = tokenizer or load_tokenizer(model)
        name = model.display
        if tokenizer.chat_template is None:
            raise UserError(
                f"extract.chat_template: expected a chat template in the tokenizer of {name}, found none; write "
                "`chat_template: false`, or give a chat checkpoint whose tokenizer_config.json has one"
            )
        if not tokenizer.is_fast:
            raise UserError(
                f"extract.chat_template: expected a tokenizer of {name} that tells the place of each token (a fast "
                f"one), found {type(tokenizer).__name__}; write `chat_template: false`"
            )
        rendered = _render(tokenizer, SENTINEL, name)
        before, found, after = rendered.partition(SENTINEL)
        if not found or SENTINEL in after:
            raise UserError(
                f"extract.chat_template: expected a template of {name} that writes the user's message once, found it "
                f"{rendered.count(SENTINEL)} times in {rendered[:80]!r}; write `chat_template: false`"
            )
        return cls(tokenizer, name, before, after)

    def tokenise(self, texts: Sequence[str], max_tokens: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """(ids, own) of each text: int32 and bool `[n_tokens]`; own is true for tokens that hold some of the text.

        A text is cut after `max_tokens` tokens of its own; what the template writes comes on top and is never cut. A
        token that holds the end of the prefix and the start of the text (a space and a word) is the text's own.
        """
        rendered = [self._rendered(text) for text in texts]
        encoded = self.tokenizer(
            rendered, add_special_tokens=False, return_attention_mask=False, return_offsets_mapping=True
        )
        start = len(self.prefix)
        ids: list[np.ndarray] = []
        own: list[np.ndarray] = []
        for text, one, spans in zip(texts, encoded["input_ids"], encoded["offset_mapping"], strict=True):
            span_t2 = np.array(spans, dtype=np.int64).reshape(-1, 2)
            own_t = _from_first_to_last(
                (span_t2[:, 0] < start + len(text)) & (span_t2[:, 1] > start) & (span_t2[:, 1] > span_t2[:, 0])
            )
            kept_t = ~own_t | (np.cumsum(own_t) <= max_tokens)
            ids.append(np.array(one, np.int32)[kept_t])
            own.append(own_t[kept_t])
        return ids, own

    def _rendered(self, text: str) -> str:
        rendered = _render(self.tokenizer, text, self.name)
        if rendered != self.prefix + text + self.suffix:
            raise UserError(
                f"extract.chat_template: expected the template of {self.name} to leave a text as it is, found "
                f"{rendered[len(self.prefix) :][:60]!r} for {text[:60]!r}; write `chat_template: false`, or leave "
                "such texts out"
            )
        return rendered


def _from_first_to_last(overlaps_t: np.ndarray) -> np.ndarray:
    """Also the tokens between: byte-level tokenizers give a token of white space alone an empty span."""
    inside = np.flatnonzero(overlaps_t)
    own_t = np.zeros(len(overlaps_t), bool)
    if len(inside):
        own_t[inside[0] : inside[-1] + 1] = True
    return own_t


def check_template(models: Mapping[str, ModelConfig]) -> ChatTemplate:
    """The chat side's template, when every side can read what it writes. Reads configs and tokenizers, no weights."""
    template = ChatTemplate.of(models["chat"])
    ids, _ = template.tokenise([SENTINEL], max_tokens=len(SENTINEL))
    for side, model in models.items():
        rows = load_config(model).vocab_size
        if ids[0].max() >= rows:
            token = template.tokenizer.convert_ids_to_tokens(int(ids[0].max()))
            raise UserError(
                f"extract.chat_template: expected {side} ({model.display}) to know every token of the chat template, "
                f"found {token!r} (id {ids[0].max()}) beyond its {rows:,} embeddings; write `chat_template: false`"
            )
    return template


def _without_today(template: str, name: str) -> str:
    """`template` with every call for today's date replaced by FIXED_DAY in the format that it asks for."""
    fixed = _TODAY.sub(lambda call: repr(FIXED_DAY.strftime(call[2])), template)
    if re.search(r"strftime_now\s*\(", fixed):
        raise UserError(
            f"extract.chat_template: expected a template of {name} that says in which format it writes the date, "
            "found a strftime_now(…) that does not; ids would change from day to day: write `chat_template: false`"
        )
    return fixed


def _render(tokenizer: PreTrainedTokenizerBase, text: str, name: str) -> str:
    from jinja2 import TemplateError

    options: dict[str, Any] = {
        "tokenize": False,
        "add_generation_prompt": False,
        "date_string": FIXED_DAY.strftime("%d %b %Y"),
    }
    try:
        options["chat_template"] = _without_today(tokenizer.get_chat_template(), name)
        return str(tokenizer.apply_chat_template([{"role": "user", "content": text}], **options))
    except (TemplateError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"extract.chat_template: expected a template of {name} that takes one user message, found "
            f"{type(error).__name__}: {reason}; write `chat_template: false`"
        ) from error
