"""The hub sources: on files of their schemas, on a hub that answers, and on one that cannot be reached."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import huggingface_hub
import polars as pl
import pytest

from antar.core.errors import UserError
from antar.corpora import CorpusConfig, build_corpus, local_inputs
from antar.corpora.records import Dropped

SEED = 42
NO_NEAR = {"near_duplicates": None}


def published(**changes: Any) -> CorpusConfig:
    sources: list[dict[str, Any]] = [
        {"source": "updesh", "n": {"en": 50, "hi": 50}},
        {"source": "snli", "n": 20},
        {"source": "iitb", "n": 20},
    ]
    return CorpusConfig.model_validate({"sources": sources, "clean": NO_NEAR, **changes})


def test_defaults_are_the_published_numbers() -> None:
    updesh, snli, iitb = CorpusConfig().sources
    assert (updesh.repo, updesh.config, updesh.n) == (
        "microsoft/Updesh_beta",
        "cultural_multihop_reasoning",
        {"en": 15000, "hi": 15000},
    )
    assert updesh.languages == {"en": "eng_Latn", "hi": "hin_Deva"}
    assert (snli.repo, snli.n, snli.min_characters) == ("stanfordnlp/snli", 5000, 11)
    assert (iitb.repo, iitb.n, iitb.min_words, iitb.max_words) == ("cfilt/iitb-english-hindi", 5000, 10, 50)
    assert [source.group for source in CorpusConfig().sources] == ["cultural", "control", "control"]
    assert CorpusConfig().split.controls == "heldout"


def test_folder_of_hub_files(hub_folder: Path, tmp_path: Path, make_sentence: Any) -> None:
    corpus = build_corpus(published(), seed=SEED, study_folder=tmp_path, from_folder=hub_folder)
    counts = {
        (source, language): n for source, language, n in corpus.texts.group_by("source", "language").len().rows()
    }
    assert counts == {("updesh", "en"): 50, ("updesh", "hi"): 50, ("snli", "en"): 20, ("iitb", "hi"): 20}
    # The last assistant message, from both forms of `messages` and of `id`.
    for row in corpus.texts.filter(pl.col("source") == "updesh").iter_rows(named=True):
        _, language, key = row["text_id"].split(":")
        assert row["text"] == make_sentence(int(key.removeprefix("c")), language, 12)
        assert row["group"] == "cultural"
    assert corpus.facts["sources"]["updesh"]["from"] == "folder"
    assert set(corpus.texts.filter(pl.col("group") == "control")["split"]) == {"heldout"}


def test_what_the_sources_leave_out_is_counted(hub_folder: Path, tmp_path: Path) -> None:
    facts = build_corpus(published(), seed=SEED, study_folder=tmp_path, from_folder=hub_folder).facts
    dropped = {(row["source"], row["reason"]): row for row in facts["dropped"]}
    assert dropped["snli", "premise under 11 characters"]["texts"] == 1
    assert dropped["snli", "label -1"]["texts"] == 1
    # 30 distinct premises stand 3 times each: the sampled 20 and the spare 10 have two repeats each.
    assert dropped["snli", "exact duplicate"]["texts"] == 60
    assert dropped["snli", "not sampled"]["texts"] == 10
    assert dropped["iitb", "not of 10 to 50 words"]["texts"] == 2
    assert dropped["iitb", "not sampled"]["texts"] == 20
    assert len(dropped["snli", "exact duplicate"]["examples"]) == 3


def test_premise_of_ten_characters_goes_and_of_eleven_stays(tmp_path: Path, hub_folder: Path) -> None:
    folder = hub_folder / "snli" / "plain_text"
    (folder / "train-00000-of-00001.parquet").unlink()
    rows = [{"premise": "ten chars.", "label": 0}, {"premise": "eleven char", "label": 0}]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = build_corpus(published(), seed=SEED, study_folder=tmp_path, from_folder=hub_folder)
    assert corpus.texts.filter(pl.col("source") == "snli")["text"].to_list() == ["eleven char"]


def test_hindi_sentences_of_ten_to_fifty_words_stay(tmp_path: Path, hub_folder: Path) -> None:
    folder = hub_folder / "iitb-english-hindi" / "data"
    (folder / "train-00000-of-00001.parquet").unlink()
    rows = [{"translation": {"en": "x", "hi": " ".join(["शब्द"] * words)}} for words in (9, 10, 50, 51)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = build_corpus(published(), seed=SEED, study_folder=tmp_path, from_folder=hub_folder)
    found = corpus.texts.filter(pl.col("source") == "iitb")["text"]
    assert sorted(len(text.split()) for text in found) == [10, 50]


def test_ids_shared_by_two_languages_share_a_document(hub_folder: Path, tmp_path: Path) -> None:
    path = hub_folder / "Updesh_beta" / "cultural_multihop_reasoning" / "eng_Latn-00000-of-00001.parquet"
    table = pl.read_parquet(path)
    table.with_columns(pl.col("id").str.strip_prefix("c")).write_parquet(path)
    corpus = build_corpus(published(), seed=SEED, study_folder=tmp_path, from_folder=hub_folder)
    updesh = corpus.texts.filter(pl.col("source") == "updesh")
    assert updesh["text_id"].n_unique() == 100
    both = updesh.group_by("document").agg(pl.len(), pl.col("split").n_unique().alias("splits"))
    assert both["len"].max() == 2
    assert both["splits"].max() == 1


def test_conversation_without_an_answer_is_dropped(hub_folder: Path, tmp_path: Path) -> None:
    path = hub_folder / "Updesh_beta" / "cultural_multihop_reasoning" / "hin_Deva-00000-of-00001.parquet"
    table = pl.read_parquet(path)
    silent = pl.DataFrame({"id": [999], "messages": ['[{"role": "user", "content": "only a question"}]']})
    pl.concat([table, silent]).write_parquet(path)
    facts = build_corpus(published(), seed=SEED, study_folder=tmp_path, from_folder=hub_folder).facts
    assert {"source": "updesh", "reason": "no assistant message", "texts": 1, "examples": ["updesh:hi:999"]} in facts[
        "dropped"
    ]


def test_folder_in_the_source_and_local_inputs(hub_folder: Path, tmp_path: Path) -> None:
    cfg = CorpusConfig.model_validate({"sources": [{"source": "snli", "folder": "hub"}]})
    assert local_inputs(cfg, tmp_path) == {
        "snli/snli/plain_text/train-00000-of-00001.parquet": hub_folder
        / "snli/plain_text/train-00000-of-00001.parquet"
    }
    assert local_inputs(CorpusConfig(), tmp_path) == {}
    assert len(local_inputs(CorpusConfig(), tmp_path, hub_folder)) == 4


def test_missing_file_names_the_layout(hub_folder: Path, tmp_path: Path) -> None:
    (hub_folder / "iitb-english-hindi" / "data" / "train-00000-of-00001.parquet").unlink()
    with pytest.raises(UserError, match=r"iitb: expected iitb-english-hindi/data/train-\*\.parquet") as caught:
        build_corpus(published(), seed=SEED, study_folder=tmp_path, from_folder=hub_folder)
    assert str(hub_folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_truncated_parquet_is_a_user_error(hub_folder: Path, tmp_path: Path) -> None:
    path = hub_folder / "snli" / "plain_text" / "train-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="expected a parquet file") as caught:
        build_corpus(published(), seed=SEED, study_folder=tmp_path, from_folder=hub_folder)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_hub_is_streamed_at_the_resolved_revision(
    hub_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []
    files = {
        (
            "microsoft/Updesh_beta",
            "eng_Latn",
        ): "Updesh_beta/cultural_multihop_reasoning/eng_Latn-00000-of-00001.parquet",
        (
            "microsoft/Updesh_beta",
            "hin_Deva",
        ): "Updesh_beta/cultural_multihop_reasoning/hin_Deva-00000-of-00001.parquet",
        ("stanfordnlp/snli", "train"): "snli/plain_text/train-00000-of-00001.parquet",
        ("cfilt/iitb-english-hindi", "train"): "iitb-english-hindi/data/train-00000-of-00001.parquet",
    }

    def info(self: Any, repo: str, *, revision: str | None, timeout: float) -> SimpleNamespace:
        assert timeout <= 15
        return SimpleNamespace(sha=revision or f"sha-of-{repo}")

    def load(repo: str, config: str | None, *, split: str, revision: str, streaming: bool) -> Any:
        calls.append((repo, config, split, revision, streaming))
        return pl.read_parquet(hub_folder / files[repo, split]).to_dicts()

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", info)
    monkeypatch.setattr(datasets, "load_dataset", load)
    cfg = published()
    pinned = cfg.sources[1].model_copy(update={"revision": "pinned"})
    cfg = cfg.model_copy(update={"sources": [cfg.sources[0], pinned, cfg.sources[2]]})
    streamed = build_corpus(cfg, seed=SEED, study_folder=tmp_path)
    config = "cultural_multihop_reasoning"
    assert sorted(calls, key=str) == sorted(
        [
            ("microsoft/Updesh_beta", config, "eng_Latn", "sha-of-microsoft/Updesh_beta", True),
            ("microsoft/Updesh_beta", config, "hin_Deva", "sha-of-microsoft/Updesh_beta", True),
            ("stanfordnlp/snli", "plain_text", "train", "pinned", True),
            ("cfilt/iitb-english-hindi", None, "train", "sha-of-cfilt/iitb-english-hindi", True),
        ],
        key=str,
    )
    assert streamed.facts["sources"]["updesh"]["revision"] == "sha-of-microsoft/Updesh_beta"
    assert streamed.facts["sources"]["snli"] | {"rows_read": 0} == {
        "kind": "snli",
        "rows_read": 0,
        "repo": "stanfordnlp/snli",
        "config": "plain_text",
        "from": "hub",
        "revision": "pinned",
    }
    # The same rows give the same corpus, wherever they came from.
    local = build_corpus(published(), seed=SEED, study_folder=tmp_path, from_folder=hub_folder)
    assert streamed.texts.equals(local.texts)


def test_unreachable_hub_is_one_line_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise ConnectionError("no route\nto host")

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("load_dataset must not be tried when the hub does not answer")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", fail)
    monkeypatch.setattr(datasets, "load_dataset", never)
    with pytest.raises(UserError) as caught:
        build_corpus(published(), seed=SEED, study_folder=tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "microsoft/Updesh_beta",
        "no route",
        "Updesh_beta/cultural_multihop_reasoning/eng_Latn-*.parquet",
        "Updesh_beta/cultural_multihop_reasoning/hin_Deva-*.parquet",
        "antar corpus STUDY --from-folder DIR",
    ):
        assert part in message


def test_hub_that_breaks_off_while_streaming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def info(*_: Any, **__: Any) -> SimpleNamespace:
        return SimpleNamespace(sha="abc")

    def broken(*_: Any, **__: Any) -> Any:
        yield {"premise": "A man walks his dog on a beach.", "label": 1}
        raise OSError("connection reset")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", info)
    monkeypatch.setattr(datasets, "load_dataset", broken)
    cfg = CorpusConfig.model_validate({"sources": [{"source": "snli"}]})
    with pytest.raises(UserError, match=r"stanfordnlp/snli cannot be read from the hub \(connection reset\)"):
        build_corpus(cfg, seed=SEED, study_folder=tmp_path)


@pytest.mark.slow
def test_closed_port_fails_within_seconds_and_import_sends_nothing(tmp_path: Path) -> None:
    """The real client against an address that refuses connections."""
    code = (
        "import time, pathlib, sys\n"
        "import antar.corpora as c\n"
        "assert 'datasets' not in sys.modules and 'huggingface_hub' not in sys.modules, 'loaded at import'\n"
        "started = time.monotonic()\n"
        "try:\n"
        "    c.build_corpus(c.CorpusConfig(), seed=1, study_folder=pathlib.Path('.'))\n"
        "except c.build.UserError as error:\n"
        "    print(error); print(time.monotonic() - started)\n"
    )
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    started = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120
    )
    assert result.returncode == 0, result.stderr
    message, seconds = result.stdout.strip().splitlines()
    assert message.startswith("updesh: microsoft/Updesh_beta cannot be read from the hub")
    assert float(seconds) < 45  # the streaming reader alone would retry for 100 seconds
    assert time.monotonic() - started < 120


def test_dropped_keeps_the_smallest_examples_whatever_the_order() -> None:
    ids = [f"t{i:04d}" for i in range(500)]
    one, other = Dropped(), Dropped()
    for text_id in ids:
        one.add("s", "r", text_id)
    for text_id in reversed(ids):
        other.add("s", "r", text_id)
    assert one.rows() == other.rows() == [{"source": "s", "reason": "r", "texts": 500, "examples": ids[:3]}]
