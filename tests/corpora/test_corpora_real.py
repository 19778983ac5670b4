"""Real third-party files: DOSA, SNLI, Hindi PUD and Tatoeba, each checked against an independent reading."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from antar.core.errors import UserError
from antar.corpora import CorpusConfig, build_corpus, local_inputs
from antar.corpora.config import Dosa, Files
from antar.corpora.records import Place
from antar.corpora.sources import open_source


def read(source: Any, folder: Path) -> list[Any]:
    return list(open_source(source, Place(folder)).texts)


def test_dosa_is_the_630_rows_of_the_files(shared_data: Path) -> None:
    expected: Counter[tuple[str, str, str]] = Counter()
    for path in (shared_data / "dosa" / "data").rglob("*.csv"):
        with path.open(encoding="utf-8-sig", newline="") as handle:
            for row in csv.DictReader(handle):
                expected[path.parent.name, row["artifact"].strip(), row["clues"].strip()] += 1
    assert expected.total() == 630
    texts = read(Dosa(folder=shared_data / "dosa"), Path())
    found = Counter((text.facets["state"], text.facets["artifact"], text.text) for text in texts)
    plain = Counter({(s, a, " ".join(c.split())): n for (s, a, c), n in expected.items()})
    assert Counter({(s, a, " ".join(c.split())): n for (s, a, c), n in found.items()}) == plain
    assert len({text.text_id for text in texts}) == 630


def test_dosa_goes_whole_into_a_corpus_and_says_how_it_differs_from_the_paper(shared_data: Path) -> None:
    cfg = CorpusConfig.model_validate(
        {
            "sources": [
                {"source": "dosa", "folder": str(shared_data / "dosa")},
                {"source": "files", "name": "snli", "paths": [str(shared_data / "snli" / "original_*.tsv")],
                 "text": "sentence1", "language": "en"},
            ]
        }
    )  # fmt: skip
    corpus = build_corpus(cfg, seed=1, study_folder=Path())
    dosa = corpus.texts.filter(pl.col("source") == "dosa")
    assert dosa.height == 630
    assert dosa["state"].n_unique() == 18
    facts = corpus.facts["sources"]["dosa"]
    assert (facts["rows"], facts["files"], facts["states"]) == (630, 35, 18)
    assert (facts["artifacts_by_state"], facts["artifacts_by_name"]) == (628, 618)
    assert facts["states_with_one_file"] == ["delhi"]
    assert facts["clues_before_artifact"] == [
        "bihar/expanded",
        "bihar/original",
        "punjab/expanded",
        "punjab/original",
    ]
    assert facts["mislabelled_files"] == []
    assert any("615 artifacts of 19 subcultures" in note for note in corpus.facts["notes"])
    # Both modaks of Maharashtra are one document.
    modak = dosa.filter(pl.col("document") == "dosa:maharashtra/modak")
    assert modak.height == 2
    assert len(local_inputs(cfg, Path())) == 35 + 3


def test_snli_tsv_with_its_quotes(shared_data: Path) -> None:
    path = shared_data / "snli" / "original_train.tsv"
    expected = pl.read_csv(path, separator="\t")
    texts = read(Files(paths=[str(path)], text="sentence1", facets={"label": "gold_label"}, language="en"), Path())
    assert [text.text for text in texts] == expected["sentence1"].to_list()
    assert [text.facets["label"] for text in texts] == expected["gold_label"].to_list()
    assert len(texts) == 1666


def test_hindi_pud_sentences_and_documents(shared_data: Path) -> None:
    path = shared_data / "hindi" / "hi_pud-ud-test.conllu"
    lines = path.read_text(encoding="utf-8").splitlines()
    texts = read(Files(paths=[str(path)], language="hi", facets={"english": "text_en"}), Path())
    assert [text.text for text in texts] == [line[9:] for line in lines if line.startswith("# text = ")]
    assert [text.facets["english"] for text in texts] == [
        line[12:] for line in lines if line.startswith("# text_en = ")
    ]
    assert texts[0].text_id == "files:n01001011"
    assert len({text.document for text in texts}) == sum(line.startswith("# newdoc") for line in lines) == 397
    assert all(text.text_id.split(":")[1].startswith(text.document.split(":")[1]) for text in texts)


def test_tatoeba_without_header_and_with_a_mark(shared_data: Path) -> None:
    path = shared_data / "hindi" / "tatoeba_hin.txt"
    lines = path.read_bytes().decode("utf-8-sig").split("\n")[:-1]
    tsv = Files(paths=[str(path)], format="tsv", header=False, text=0, language="en")
    english = read(tsv, Path())
    hindi = read(tsv.model_copy(update={"text": 1, "language": "hi"}), Path())
    assert [text.text for text in english] == [line.split("\t")[0] for line in lines]
    assert [text.text for text in hindi] == [line.split("\t")[1] for line in lines]
    assert english[0].text == "Wow!"
    assert len(english) == 2778


def test_parallel_texts_stay_together(shared_data: Path) -> None:
    path = str(shared_data / "hindi" / "tatoeba_hin.txt")
    common = {"source": "files", "paths": [path], "format": "tsv", "header": False, "documents_of": "tatoeba"}
    cfg = CorpusConfig.model_validate(
        {
            "sources": [
                {**common, "name": "a", "text": 0, "language": "en", "group": "cultural"},
                {**common, "name": "b", "text": 1, "language": "hi", "group": "cultural"},
                {"source": "files", "name": "c", "paths": [str(shared_data / "hindi" / "hi_pud-ud-test.conllu")]},
                {"source": "files", "name": "d", "paths": [str(shared_data / "snli" / "original_dev.tsv")],
                 "text": "sentence1"},
            ]
        }
    )  # fmt: skip
    texts = build_corpus(cfg, seed=3, study_folder=Path()).texts
    pairs = texts.filter(pl.col("document").str.starts_with("tatoeba:")).group_by("document").agg(
        pl.len(), pl.col("split").n_unique().alias("splits")
    )  # fmt: skip
    assert pairs.filter(pl.col("len") == 2).height > 2000
    assert pairs["splits"].max() == 1
    # Where no language is stated, the script tells it.
    assert set(texts.filter(pl.col("source") == "c")["language"]) == {"hi"}
    assert set(texts.filter(pl.col("source") == "d")["language"]) == {"en"}


def test_real_lengths_come_nearer_by_matching(shared_data: Path) -> None:
    sources = [
        {"source": "dosa", "folder": str(shared_data / "dosa")},
        {"source": "files", "name": "snli", "paths": [str(shared_data / "snli" / "original_*.tsv")], "n": 400,
         "text": "sentence1", "language": "en"},
    ]  # fmt: skip
    cfg = CorpusConfig.model_validate({"sources": sources, "match": {"bins": 8}})
    facts = build_corpus(cfg, seed=5, study_folder=Path()).facts["match"][0]
    cultural, before, after = (facts[f"words_{name}"] for name in ("cultural", "before", "after"))
    for quantile in ("0.25", "0.5", "0.75", "0.95"):
        assert abs(after[quantile] - cultural[quantile]) < abs(before[quantile] - cultural[quantile]), quantile


def dosa_folder(tmp_path: Path, name: str, content: bytes) -> Path:
    path = tmp_path / "dosa" / "goa" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return tmp_path / "dosa"


def test_dosa_mislabelled_header_is_repaired_and_said(tmp_path: Path) -> None:
    rows = "".join(f'"A dish of the coast, number {i}, with coconut",dish{i}\r\n' for i in range(4))
    folder = dosa_folder(tmp_path, "original_artifacts.csv", b"\xef\xbb\xbfartifact,clues\r\n" + rows.encode())
    opened = open_source(Dosa(folder=folder), Place(tmp_path))
    texts = list(opened.texts)
    assert texts[1].facets == {"state": "goa", "artifact": "dish1"}
    assert texts[1].text == "A dish of the coast, number 1, with coconut"
    assert opened.facts["mislabelled_files"] == ["goa/original"]
    assert any("swapped headers repaired in goa/original" in note for note in opened.notes)


def test_dosa_errors_name_the_place(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dosa: expected `folder`"):
        open_source(Dosa(), Place(tmp_path))
    with pytest.raises(UserError, match=r"found no folder .*nowhere"):
        open_source(Dosa(folder=Path("nowhere")), Place(tmp_path))
    folder = dosa_folder(tmp_path, "original_artifacts.csv", b"name,clues\nx,y\n")
    with pytest.raises(
        UserError, match=r"original_artifacts\.csv: expected the columns artifact and clues, found name"
    ):
        open_source(Dosa(folder=folder), Place(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"expected STATE/original_artifacts\.csv"):
        open_source(Dosa(folder=tmp_path / "empty"), Place(tmp_path))
