"""A corpus read twice: every text bare, and every text in the chat template, as two corpora of one study.

A reading is a row of its own: it has its own tokens, activations and codes. What it shares with its text's other
reading is everything that the split, the halves and the permutations go by (document, group, language), so that no
text is trained on in one reading and judged in the other. The bare corpus comes first, whole, then the other, so that
rows spread evenly over the table are spread evenly over the readings too.
"""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from antar.core.errors import UserError
from antar.corpora.build import Corpus
from antar.corpora.facts import count_rows
from antar.corpora.schema import BARE, CHAT, MASKED_OF, READING, READING_OF, check_texts

IN_TEMPLATE = ", in the chat template"
"""What `source` says of a reading in the template, after the source's own name."""


def in_both_readings(corpus: Corpus) -> Corpus:
    """The corpus with two rows for each text, `<text_id>#bare` and `<text_id>#chat`.

    `reading` (a facet) says which, `reading_of` is the text's own id, `source` names a corpus of its own, and a
    masked copy belongs to the same reading of its text. Raises UserError where a facet is called `reading` already.
    """
    if READING in corpus.texts.columns:
        raise UserError(
            f"extract.chat_template: expected a corpus without a facet `{READING}`, which `both` adds, found one; "
            "give it another name in `corpus.sources`, or write `chat_template: true` or `false`"
        )
    texts = pl.concat([_read(corpus.texts, BARE, ""), _read(corpus.texts, CHAT, IN_TEMPLATE)])
    note = (
        f"Each of the {corpus.texts.height:,} texts is read twice, bare and in the chat template: two rows of one "
        "document"
    )
    notes = [*corpus.facts["notes"], note]
    facts = corpus.facts | {"counts": count_rows(texts), "readings": [BARE, CHAT], "notes": notes}
    return replace(corpus, texts=check_texts(texts, "corpus"), facts=facts)


def _read(texts: pl.DataFrame, reading: str, place: str) -> pl.DataFrame:
    ids = [name for name in ("text_id", MASKED_OF) if name in texts.columns]
    return texts.with_columns(
        pl.col("text_id").alias(READING_OF),
        *(pl.col(name) + f"#{reading}" for name in ids),  # null stays null: most texts are no masked copy
        source=pl.col("source") + place,
        **{READING: pl.lit(reading)},
    )
