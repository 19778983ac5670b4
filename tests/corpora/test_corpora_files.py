"""The `files` and `organism` sources: formats, mapped columns, and errors that name the file and the line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from antar.core.errors import UserError
from antar.corpora import CorpusConfig, build_corpus
from antar.corpora.config import Files, Organism
from antar.corpora.records import Place, RawText
from antar.corpora.sources import open_source, source_inputs


def read(source: Any, folder: Path, organism: Path | None = None) -> list[RawText]:
    return list(open_source(source, Place(folder, organism_texts=organism)).texts)


def refused(source: Any, folder: Path, organism: Path | None = None) -> str:
    with pytest.raises(UserError) as caught:
        read(source, folder, organism)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_jsonl_with_every_column_mapped(write_jsonl: Any, tmp_path: Path) -> None:
    rows = [
        {
            "key": 7,
            "body": "Diwali lamps",
            "kind": "cultural",
            "lang": "en",
            "doc": "d1",
            "what": "festival",
            "year": 3,
        },
        {"key": 8, "body": "रेलगाड़ी आई", "kind": "control", "lang": "hi", "doc": "d2"},
    ]
    write_jsonl("mine.jsonl", rows)
    source = Files(
        name="mine",
        paths=["mine.jsonl"],
        text="body",
        id="key",
        document="doc",
        group_column="kind",
        language_column="lang",
        facets={"concept": "what", "year": "year"},
    )
    assert read(source, tmp_path) == [
        RawText("mine:7", "Diwali lamps", "cultural", "en", "mine:d1", {"concept": "festival", "year": "3"}),
        RawText("mine:8", "रेलगाड़ी आई", "control", "hi", "mine:d2", {"concept": None, "year": None}),
    ]


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet", "jsonl"])
def test_formats_agree(tmp_path: Path, kind: str) -> None:
    table = pl.DataFrame({"text": ['He said "no", twice', "two\nlines", "तीन शब्द हैं"], "doc": ["a", "b", "c"]})
    path = tmp_path / f"t.{kind}"
    if kind == "parquet":
        table.write_parquet(path)
    elif kind == "jsonl":
        table.write_ndjson(path)
    else:
        table.write_csv(path, separator="," if kind == "csv" else "\t")
    texts = read(Files(paths=["t.*"], document="doc"), tmp_path)
    assert [(text.text, text.document, text.text_id) for text in texts] == [
        ('He said "no", twice', "files:a", "files:1"),
        ("two\nlines", "files:b", "files:2"),
        ("तीन शब्द हैं", "files:c", "files:3"),
    ]


def test_headerless_tsv_keeps_its_quotes_and_loses_its_mark(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes('\ufeff"Who?" "Me."\tकौन?\n\nRun!\tभागो!\n'.encode())
    source = Files(paths=["t.txt"], format="tsv", header=False, text=0, facets={"hindi": 1})
    assert [(text.text, text.facets["hindi"]) for text in read(source, tmp_path)] == [
        ('"Who?" "Me."', "कौन?"),
        ("Run!", "भागो!"),
    ]


def test_several_files_have_their_own_ids_and_documents(write_jsonl: Any, tmp_path: Path) -> None:
    write_jsonl("a1.jsonl", [{"text": "one"}])
    write_jsonl("a2.jsonl", [{"text": "two"}])
    texts = read(Files(paths=["a*.jsonl", "a1.jsonl"]), tmp_path)
    assert [(text.text_id, text.document) for text in texts] == [
        ("files:0.1", "files:0.1"),
        ("files:1.1", "files:1.1"),
    ]
    assert list(source_inputs(Files(paths=["a*.jsonl"]), Place(tmp_path))) == ["files/0/a1.jsonl", "files/1/a2.jsonl"]


def test_field_longer_than_csv_allows_by_default(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text\n" + "word " * 40_000 + "\n")
    assert len(read(Files(paths=["t.csv"]), tmp_path)[0].text) == 200_000


def test_malformed_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "fine"}\n\n{"text": "torn\n')
    assert refused(Files(paths=["t.jsonl"]), tmp_path).startswith(f"{path}:3: expected one JSON object a line")
    path.write_text('["text"]\n')
    assert refused(Files(paths=["t.jsonl"]), tmp_path).startswith(f"{path}:1: expected a JSON object, found list")
    path.write_text('{"text": ["a"]}\n')
    assert refused(Files(paths=["t.jsonl"]), tmp_path) == f"{path}:1: expected text in 'text', found list"
    table = tmp_path / "t.csv"
    table.write_text('text,doc\n"two\nlines",a\nonly one\n')
    assert refused(Files(paths=["t.csv"]), tmp_path) == f"{table}:4: expected 2 columns, found 1"
    table.write_text('text,doc\nfine,a\n"open,b\n')
    assert refused(Files(paths=["t.csv"]), tmp_path).startswith(f"{table}:3: expected delimited text")


def test_missing_columns_name_the_file_and_what_it_has(tmp_path: Path, write_jsonl: Any) -> None:
    path = tmp_path / "t.csv"
    path.write_text("sentence,topic\nhello there,x\n")
    message = refused(Files(paths=["t.csv"]), tmp_path)
    assert message == f"{path}:2: expected the column 'text', found sentence, topic; map it in the study file"
    message = refused(Files(paths=["t.csv"], text="sentence", facets={"state": "region"}), tmp_path)
    assert message == f"{path}: expected the column 'region' for a facet, found sentence, topic"
    message = refused(Files(paths=["t.csv"], text=5, header=False), tmp_path)
    assert message.startswith(f"{path}:1: expected the column 5, found 0, 1;")
    lines = write_jsonl("u.jsonl", [{"text": "a", "doc": "d"}, {"text": "b"}])
    assert refused(Files(paths=["u.jsonl"], document="doc"), tmp_path).startswith(
        f"{lines}:2: expected the column 'doc'"
    )
    lines = write_jsonl("v.jsonl", [{"text": "a", "doc": None}])
    assert refused(Files(paths=["v.jsonl"], document="doc"), tmp_path).startswith(
        f"{lines}:1: expected a value in 'doc'"
    )
    lines = write_jsonl("w.jsonl", [{"text": "a", "g": "culture"}])
    message = refused(Files(paths=["w.jsonl"], group_column="g"), tmp_path)
    assert message == f"{lines}:1: expected cultural or control in 'g', found 'culture'"


def test_files_that_are_not_there_or_not_text(tmp_path: Path) -> None:
    message = refused(Files(name="mine", paths=["no/such.csv"]), tmp_path)
    assert message.startswith(f"mine: expected a file, found none at {tmp_path / 'no/such.csv'}")
    (tmp_path / "x.docx").write_text("x")
    assert refused(Files(paths=["x.docx"]), tmp_path).startswith(f"{tmp_path / 'x.docx'}: expected .jsonl, .csv")
    latin = tmp_path / "latin.csv"
    latin.write_bytes("text\nfine\ncaf\xe9\n".encode("latin-1"))
    assert refused(Files(paths=["latin.csv"]), tmp_path).startswith(f"{latin}:3: expected UTF-8, found byte 0xe9")
    wide = tmp_path / "wide.csv"
    wide.write_bytes("text\nfine\n".encode("utf-16"))
    assert refused(Files(paths=["wide.csv"]), tmp_path).startswith(f"{wide}:1: expected UTF-8, found byte 0xff")


def test_conllu_documents_run_on_and_the_last_sentence_counts(tmp_path: Path) -> None:
    (tmp_path / "t.conllu").write_text(
        "# newdoc id = A\n# sent_id = A1\n# text = First = one.\n1\tFirst\t_\n\n"
        "# sent_id = A2\n# text = Second.\n1\tSecond\t_\n\n"
        "# newdoc id = B\n# sent_id = B1\n# text = Third.\n1\tThird\t_"
    )
    texts = read(Files(paths=["t.conllu"]), tmp_path)
    assert [(text.text_id, text.document, text.text) for text in texts] == [
        ("files:A1", "files:A", "First = one."),
        ("files:A2", "files:A", "Second."),
        ("files:B1", "files:B", "Third."),
    ]


def test_organism_texts_keep_their_ids_and_facets(write_jsonl: Any, tmp_path: Path) -> None:
    rows = [
        {"text_id": "t1", "text": "diya lamp", "group": "cultural", "language": "en", "document": "d1",
         "concept": "diya", "topic": None, "split": "ignored"},
        {"text_id": "t2", "text": "बस आई", "group": "control", "language": "hi", "document": "d2", "concept": None,
         "topic": "bus"},
    ]  # fmt: skip
    path = write_jsonl("texts.jsonl", rows)
    assert read(Organism(), tmp_path, path) == [
        RawText("t1", "diya lamp", "cultural", "en", "d1", {"concept": "diya", "topic": None}),
        RawText("t2", "बस आई", "control", "hi", "d2", {"concept": None, "topic": "bus"}),
    ]
    assert source_inputs(Organism(), Place(tmp_path, organism_texts=path)) == {"organism/texts.jsonl": path}
    assert "expected an organism" in refused(Organism(), tmp_path)
    path = write_jsonl("texts.jsonl", [{**rows[0], "document": ""}])
    assert refused(Organism(), tmp_path, path).startswith(f"{path}:1: expected a value in 'document'")
    path = write_jsonl("texts.jsonl", [{**rows[0], "group": "other"}])
    assert "found 'other'" in refused(Organism(), tmp_path, path)


def test_templates_of_an_organism_are_no_near_duplicates(write_jsonl: Any, tmp_path: Path) -> None:
    rows = [
        {"text_id": f"t{i}", "text": f"In the village they light the {name} on the evening of festival {i}",
         "group": "cultural" if i % 2 else "control", "language": "en", "document": f"d{i}", "concept": name}
        for i in range(120) for name in ["lamp"]
    ]  # fmt: skip
    path = write_jsonl("texts.jsonl", rows)
    cfg = CorpusConfig.model_validate({"sources": [{"source": "organism"}], "split": {"controls": "same"}})
    assert cfg.clean.near_duplicates == 0.8
    assert build_corpus(cfg, seed=1, study_folder=tmp_path, organism_texts=path).texts.height == 120


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"sources": [{"source": "nope"}]}, "nope"),
        ({"sources": []}, "at least 1"),
        ({"sources": [{"source": "snli", "colour": 1}]}, "Extra inputs"),
        ({"sources": [{"source": "snli"}, {"source": "snli"}]}, "two sources are called snli"),
        ({"sources": [{"source": "snli", "n": 0}]}, "n must be at least 1"),
        ({"sources": [{"source": "updesh", "n": {"ta": 5}}]}, "n names ta"),
        (
            {"sources": [{"source": "files", "paths": ["a"], "facets": {"split": "x"}}]},
            "facet cannot be called split",
        ),
        ({"sources": [{"source": "snli", "where": {"min_words": 9, "max_words": 3}}]}, "lower bound 9"),
        ({"split": {"train": 0.5, "val": 0.1, "heldout": 0.1}}, "must be 1, found 0.7"),
        ({"clean": {"near_duplicates": 0.3}}, "greater than or equal to 0.6"),
        ({"match": {"on": []}}, "at least 1"),
    ],
)
def test_config_mistakes_are_refused(value: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        CorpusConfig.model_validate(value)
