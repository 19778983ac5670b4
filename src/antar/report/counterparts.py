"""How many of base's features have a counterpart in chat's own dictionary, beside another seed of base's."""

from __future__ import annotations

from antar.features.counterparts import OTHER_SEED, Share, counterparts_sentence
from antar.report.blocks import Block, Column, Paragraph, Row, Table
from antar.report.sources import at, number, percent, quoted
from antar.report.words import Prose, told
from antar.run import Run


def counterparts_blocks(run: Run) -> list[Block]:
    """For the section on dictionaries; nothing where no two were compared."""
    shares = run.counterparts
    sentence = counterparts_sentence(shares, run.names["base"], run.names["chat"])
    if sentence is None:
        return []
    titles = (
        "dictionary",
        "matched with",
        "features with a counterpart",
        "live",
        "mean cosine",
        "mean correlation",
        "cosine above",
        "correlation above",
    )
    return [
        Paragraph(
            "Dictionaries trained apart share no index of features, so those of the two sides are matched one to one "
            "by the mean of two scores: the cosine of what a feature writes, and the correlation of its codes over "
            "the same texts, within a language and group. A pair counts only where both are above the 99th "
            "percentile of what chance gives (random directions; the other side's documents permuted). Other seeds "
            "of the same recipe on the same texts say how much of that any training would give."
        ),
        Paragraph(sentence_of(run, sentence), "answer"),
        Table(
            "Features with a counterpart in a dictionary trained apart",
            [Column(title, i > 1) for i, title in enumerate(titles)],
            [_row(share, i) for i, share in enumerate(shares)],
            "Shaded rows: base with another seed of itself, the null.",
        ),
    ]


_FILE = "features/matches.json"


def sentence_of(run: Run, sentence: str) -> Prose:
    """The sentence as criteria.json has it, if it does."""
    lines = run.criteria.get("headline") or [] if run.has("criteria.json") else []
    return quoted(sentence, at("criteria.json", "headline", lines.index(sentence))) if sentence in lines else ""


def _row(share: Share, i: int) -> Row:
    matched = number(share.matched, at(_FILE, i, "matched"))
    if share.live_a:
        ratio = percent(share.matched / share.live_a, f"{at(_FILE, i, 'matched')} / {at(_FILE, i, 'live_a')}", 0)
        matched = told("{} ({})", matched, ratio)
    return Row(
        share.dictionary_a,
        [
            share.dictionary_b,
            matched,
            *(
                number(getattr(share, name), at(_FILE, i, name))
                for name in ("live_a", "cosine", "correlation", "cosine_bar", "correlation_bar")
            ),
        ],
        null=share.null == OTHER_SEED,
    )
