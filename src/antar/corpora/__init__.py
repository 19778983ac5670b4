"""Texts: where they come from, and how they are cleaned, sampled, matched and split."""

from antar.corpora.build import Corpus, build_corpus, local_inputs
from antar.corpora.config import CorpusConfig
from antar.corpora.readings import in_both_readings
from antar.corpora.schema import REQUIRED_COLUMNS, check_texts, facet_columns

__all__ = [
    "REQUIRED_COLUMNS",
    "Corpus",
    "CorpusConfig",
    "build_corpus",
    "check_texts",
    "facet_columns",
    "in_both_readings",
    "local_inputs",
]
