"""Train, val and held-out by document, and the select/estimate halves, from hashes of the document's name.

A hash does not look at the other documents, so that adding texts moves none of the old ones, and two texts of
one document can never part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from antar.core.seeds import derive_seed
from antar.corpora.config import SplitConfig
from antar.corpora.records import Candidate


def uniform(seed: int, stream: str, name: str) -> float:
    """A number in [0, 1) that only the seed, the stream and the name decide."""
    return derive_seed(seed, "corpus", stream, name) / 2**63


def split_of(document: str, seed: int, cfg: SplitConfig) -> str:
    point = uniform(seed, "split", document)
    if point < cfg.train:
        return "train"
    return "val" if point < cfg.train + cfg.val else "heldout"


def half_of(document: str, seed: int) -> str:
    return "select" if uniform(seed, "half", document) < 0.5 else "estimate"


def assign_splits(
    texts: Iterable[Candidate], cfg: SplitConfig, seed: int, source_splits: Mapping[str, str]
) -> dict[str, str]:
    """Document → split. `source_splits` is source → "by document", "heldout" or "crosscheck".

    A document goes to the held-out split whole as soon as one of its texts must: a control text under
    `controls: heldout`, or a text of a source that is held out. One with a text of a cross-check goes to that, whole.
    """
    texts = list(texts)
    apart = {text.document for text in texts if source_splits[text.source] == "crosscheck"}
    kept_out = {
        text.document
        for text in texts
        if source_splits[text.source] == "heldout" or (cfg.controls == "heldout" and text.group == "control")
    }
    return {
        document: "crosscheck"
        if document in apart
        else "heldout"
        if document in kept_out
        else split_of(document, seed, cfg)
        for document in {text.document for text in texts}
    }
