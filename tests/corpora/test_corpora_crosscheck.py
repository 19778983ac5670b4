"""A cross-check source: kept apart from splits, matching and lengths; and its masked copies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from antar.core.errors import UserError
from antar.corpora import CorpusConfig, build_corpus, facet_columns
from antar.corpora.mask import mask, place_pattern, spellings

STATES = place_pattern(["andhra_pradesh", "goa", "rajasthan", "assam", "uttar_pradesh"])


@pytest.mark.parametrize(
    ("text", "artifact", "masked"),
    [
        ("Worn by rajasthani men in Rajasthan.", "safa", "Worn by somewhere men in somewhere."),
        ("An Assamese dance; a Goan one; goalkeepers", "x", "An somewhere dance; a somewhere one; goalkeepers"),
        ("Common in ANDHRA  pradesh's villages", "x", "Common in somewhere villages"),
        ("This is the second day of Pongal, pongals", "pongal", "This is the second day of something, something"),
        ("phulkari is embroidery", "Fulkari/phulkari", "something is embroidery"),
        ("Eaten with rice", "ri", "Eaten with rice"),
        ("गोवा goaक", "x", "गोवा goaक"),
        ("No name here", "sohar", "No name here"),
    ],
)
def test_mask(text: str, artifact: str, masked: str) -> None:
    assert mask(text, artifact, STATES)[0] == masked


def test_mask_counts_and_spellings() -> None:
    assert mask("Goa, goa and Ugadi", "ugadi", STATES) == ("somewhere, somewhere and something", 1, 2)
    assert {"KOHVAR", "SOHRAI PAINTINGS"} < spellings("KOHVAR & SOHRAI PAINTINGS")
    assert place_pattern(["", "x"]) is None


def dosa_folder(folder: Path, make_sentence: Any) -> Path:
    """Two states in DOSA's layout, with a repeated clue, a named state and a named artifact."""
    for state, other in (("goa", "assam"), ("assam", "goa")):
        place = folder / "dosa" / state
        place.mkdir(parents=True)
        rows = [(f"lamp{i}", f"made of {state} clay {make_sentence(i, 'en', 30)}") for i in range(6)]
        rows += [(f"cup{i}", make_sentence(100 + i + len(state), "en", 30)) for i in range(6)]
        rows += [("fair", f"The fair comes from {other} too")]
        for kind, part in (("original", rows[:7]), ("expanded", rows[7:])):
            lines = "artifact,clues\n" + "".join(f'{name},"{clue}"\n' for name, clue in part)
            (place / f"{kind}_artifacts.csv").write_text(lines, encoding="utf-8")
    return folder / "dosa"


@pytest.fixture
def build(tmp_path: Path, write_jsonl: Any, make_sentence: Any) -> Any:
    rows = [
        {"text": make_sentence(i, "en", 8), "group": "cultural" if i % 2 else "control", "doc": f"d{i}"}
        for i in range(200)
    ]
    write_jsonl("rows.jsonl", rows)
    dosa_folder(tmp_path, make_sentence)
    mine = {"source": "files", "name": "mine", "paths": ["rows.jsonl"], "group_column": "group", "document": "doc"}

    def make(*, dosa: dict[str, Any] | None, **cfg: Any) -> Any:
        sources = [mine, *([] if dosa is None else [{"source": "dosa", "folder": "dosa", **dosa}])]
        made = {"sources": sources, "clean": {"near_duplicates": None}, **cfg}
        return build_corpus(CorpusConfig.model_validate(made), seed=5, study_folder=tmp_path)

    return make


def test_the_rest_of_the_corpus_is_as_without_it(build: Any) -> None:
    cfg = {"match": {"bins": 3}, "split": {"train": 0.4, "val": 0.2, "heldout": 0.4, "controls": "same"}}
    alone, beside = build(dosa=None, **cfg), build(dosa={"split": "crosscheck", "masked": True}, **cfg)
    apart = beside.texts.filter(pl.col("split") == "crosscheck")
    assert set(apart["source"]) == {"dosa"} and set(apart["group"]) == {"cultural"}
    own = beside.texts.filter(pl.col("split") != "crosscheck")
    assert own.select(alone.texts.columns).equals(alone.texts)
    # Clues of thirty words would else stretch the bins that controls of eight are matched in.
    assert beside.facts["match"] == alone.facts["match"]
    words = {(row["group"], row["language"]): row["words"]["0.5"] for row in beside.facts["words"]}
    assert (words["cultural", "en"], words["control", "en"]) == (8, 8) and words["cross-check", "en"] > 20


def test_every_clue_has_one_masked_copy_in_its_document(build: Any) -> None:
    corpus = build(dosa={"split": "crosscheck", "masked": True})
    texts = corpus.texts
    copies = texts.filter(pl.col("masked_of").is_not_null())
    clues = texts.filter((pl.col("source") == "dosa") & pl.col("masked_of").is_null())
    assert copies["masked_of"].sort().equals(clues["text_id"].sort().rename("masked_of"))
    joined = copies.join(clues, left_on="masked_of", right_on="text_id", suffix="_clue")
    for name in ("document", "half", "split", "state", "artifact", "language"):
        assert (joined[name] == joined[f"{name}_clue"]).all()
    changed = joined.filter(pl.col("text") != pl.col("text_clue"))
    assert (changed["text"].str.contains("somewhere|something")).all()
    (facts,) = corpus.facts["masked"]
    assert facts == {"source": "dosa", "texts": clues.height, "changed": changed.height, "artifact": 2, "place": 14}
    assert changed.height == 14 < clues.height  # the other copies equal their clues and are there all the same
    assert "masked_of" not in facet_columns(texts)
    told = f"masked copies of {clues.height} texts, 14 of which the mask changed"
    assert any(told in note for note in corpus.facts["notes"])


def test_without_masked_there_are_no_copies(build: Any) -> None:
    corpus = build(dosa={"split": "crosscheck"})
    assert "masked_of" not in corpus.texts.columns and corpus.facts["masked"] == []


def test_a_document_shared_with_a_crosscheck_is_apart_whole(
    tmp_path: Path, write_jsonl: Any, make_sentence: Any
) -> None:
    write_jsonl("own.jsonl", [{"text": make_sentence(i, "en"), "d": f"d{i}", "g": ("cultural", "control")[i % 2]}
                              for i in range(80)])  # fmt: skip
    write_jsonl("check.jsonl", [{"text": make_sentence(900 + i, "en"), "d": f"d{i}"} for i in range(4)])
    common = {"source": "files", "document": "d", "documents_of": "both"}
    own = {**common, "name": "own", "paths": ["own.jsonl"], "group_column": "g"}
    check = {**common, "name": "check", "paths": ["check.jsonl"], "group": "cultural", "split": "crosscheck"}
    cfg = CorpusConfig.model_validate({"sources": [own, check], "clean": {"near_duplicates": None}})
    texts = build_corpus(cfg, seed=1, study_folder=tmp_path).texts
    apart = texts.filter(pl.col("split") == "crosscheck")
    assert sorted(set(apart["document"])) == ["both:d0", "both:d1", "both:d2", "both:d3"] and apart.height == 8


@pytest.mark.parametrize(
    "source",
    [
        {"source": "files", "paths": ["x"], "split": "crosscheck"},
        {"source": "files", "paths": ["x"], "group": "cultural", "group_column": "g", "split": "crosscheck"},
        {"source": "organism", "group": "cultural", "split": "crosscheck"},
        {"source": "dosa", "masked": True},
        {"source": "dosa", "masked": True, "split": "heldout"},
        {"source": "files", "paths": ["x"], "facets": {"masked_of": "m"}},
    ],
)
def test_what_a_crosscheck_cannot_be(source: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"crosscheck|masked"):
        CorpusConfig.model_validate({"sources": [source]})


def test_a_crosscheck_alone_is_one_line(tmp_path: Path, make_sentence: Any) -> None:
    dosa_folder(tmp_path, make_sentence)
    cfg = CorpusConfig.model_validate({"sources": [{"source": "dosa", "folder": "dosa", "split": "crosscheck"}]})
    with pytest.raises(
        UserError, match="expected cultural texts to choose features on, found only those of the cross"
    ):
        build_corpus(cfg, seed=1, study_folder=tmp_path)
