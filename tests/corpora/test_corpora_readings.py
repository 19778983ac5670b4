"""A corpus that is read bare and in the chat template: two rows a text, one document."""

from __future__ import annotations

import polars as pl
import pytest

from antar.core.errors import UserError
from antar.corpora import Corpus, facet_columns, in_both_readings
from antar.corpora.facts import count_rows


def corpus(**facets: list[str | None]) -> Corpus:
    frame = pl.DataFrame({
        "text_id": ["a/1", "a/2", "dosa/1", "dosa/1/masked"], "text": ["one", "two", "Goan", "somewhere"],
        "group": ["cultural", "control", "cultural", "cultural"], "language": ["en"] * 4,
        "source": ["a", "a", "dosa", "dosa"], "document": ["d1", "d2", "d3", "d3"],
        "split": ["train", "heldout", "crosscheck", "crosscheck"], "half": ["select", "estimate", "select", "select"],
        "masked_of": [None, None, None, "dosa/1"], **facets,
    })  # fmt: skip
    return Corpus(frame, {"counts": count_rows(frame), "notes": ["before"], "dropped": []})


def test_each_text_has_two_rows_that_differ_in_id_source_and_reading_only():
    once = corpus(state=[None, None, "goa", "goa"])
    texts = in_both_readings(once).texts
    assert texts["reading"].to_list() == ["bare"] * 4 + ["chat"] * 4
    alike = ["text", "group", "language", "document", "split", "half", "state"]
    for lo, reading, place in ((0, "bare", ""), (4, "chat", ", in the chat template")):
        rows = texts[lo : lo + 4]
        assert rows.select(alike).equals(once.texts.select(alike))
        assert rows["reading_of"].to_list() == once.texts["text_id"].to_list()
        assert rows["text_id"].to_list() == [f"{one}#{reading}" for one in once.texts["text_id"]]
        assert rows["source"].to_list() == [one + place for one in once.texts["source"]]
        # A masked copy stands beside its text in the same reading, never in the other.
        assert rows["masked_of"].to_list() == [None, None, None, f"dosa/1#{reading}"]
    assert facet_columns(texts) == ["state", "reading"]


def test_the_facts_count_both_and_say_so():
    once = corpus()
    facts = in_both_readings(once).facts
    assert facts["readings"] == ["bare", "chat"] and "readings" not in once.facts
    assert sum(row["texts"] for row in facts["counts"]) == 8
    assert {row["source"] for row in facts["counts"]} >= {"dosa", "dosa, in the chat template"}
    assert facts["notes"][0] == "before" and facts["notes"][1].startswith("Each of the 4 texts is read twice")
    assert once.facts["notes"] == ["before"]


def test_a_corpus_with_a_facet_of_that_name_is_refused():
    with pytest.raises(UserError, match=r"extract\.chat_template: expected a corpus without a facet `reading`"):
        in_both_readings(corpus(reading=["aloud"] * 4))
