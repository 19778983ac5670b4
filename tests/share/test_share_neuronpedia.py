"""Neuronpedia's layout: what is in it is what the run has, token by token, with every grapheme whole."""

from __future__ import annotations

import gzip
import itertools
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from antar.core.shards import read_shard, shard_paths
from antar.core.sites import DictionaryId, Site
from antar.models.token_rows import TokenSite
from antar.run import load_run
from antar.share.export import Options, export_run
from antar.share.neuronpedia import own_codes
from antar.share.shown import whole_graphemes
from fake_run import HINDI


def rows_of(folder: Path, table: str) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in sorted(folder.glob(f"{table}/batch-*.jsonl.gz"), key=lambda path: path.name)
        for line in gzip.decompress(path.read_bytes()).decode("utf-8").splitlines()
    ]


TEXTS = st.one_of(
    st.text(alphabet=st.sampled_from("कक्षत्रज्ञ्ािीुूेै ंःँ़।\u200d\u200ca é👩🏽‍🌾\ufffd"), min_size=1, max_size=30),
    st.just(HINDI),
)


@given(TEXTS, st.data())
def test_tokens_of_bytes_become_whole_graphemes(text, data):
    encoded = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, len(encoded)), max_size=40)) | {len(encoded)})

    def decode(n: int) -> str:
        return encoded[: cuts[n - 1] if n else 0].decode("utf-8", "replace")

    pieces, piece_of = whole_graphemes(text, decode, len(cuts))
    assert "".join(pieces) == text
    ends = {found.end() for found in regex.finditer(r"\X", text)}
    assert {sum(map(len, pieces[: i + 1])) for i in range(len(pieces))} <= ends
    assert len(piece_of) == len(cuts) and piece_of == sorted(piece_of)
    assert set(piece_of) == set(range(len(pieces)))
    for token, piece in enumerate(piece_of):  # each token lies in its piece
        before = len("".join(pieces[:piece]).encode())
        assert before < cuts[token] <= before + len(pieces[piece].encode())


def test_a_text_that_was_cut_ends_with_the_grapheme_that_was_begun():
    encoded = "दिल्ली में".encode()

    def decode(n: int) -> str:
        return encoded[: 3 * n + (1 if n == 4 else 0)].decode("utf-8", "replace")

    pieces, piece_of = whole_graphemes("दिल्ली में", decode, 4)
    assert "".join(pieces) == "दिल्ली" and "\ufffd" not in "".join(pieces) and piece_of[-1] == len(pieces) - 1


def test_a_pooled_run_gives_whole_texts_with_their_codes(fake, tmp_path):
    assert export_run(fake, tmp_path / "out", "neuronpedia", Options(dictionary="base.layer01", top=5)) == 8
    run, one = load_run(fake), DictionaryId.parse("base.layer01")
    place = tmp_path / "out/exports/qwen1-5-1-8b/1-antar-fake-base"
    features, acts, labels = (rows_of(place, name) for name in ("features", "activations", "explanations"))
    assert [row["index"] for row in features] == [str(i) for i in range(24)]
    assert all(set(row) == set(features[0]) for row in features), "the importer takes the first line's columns"
    assert all(set(row) == set(acts[0]) for row in acts)
    decoder_nd = run.dictionary(one).weights.decoder_nd.numpy()
    np.testing.assert_allclose([row["vector"] for row in features], decoder_nd, rtol=1e-5)
    assert {row["hookName"] for row in features} == {"blocks.1.hook_resid_post"}
    codes = own_codes(run, one).csr().toarray()
    for row in features:
        fired = codes[:, int(row["index"])]
        assert sum(row["freq_hist_data_bar_heights"]) == (fired > 0).sum()
    texts = dict(run.texts.select("text_id", "text").iter_rows())
    for latent in (0, 7):
        mine = (
            run.examples.filter(dictionary="base.layer01", latent=latent).sort("activation", descending=True).head(5)
        )
        theirs = [row for row in acts if row["index"] == str(latent)]
        assert [row["tokens"] for row in theirs] == [[texts[one].replace("\0", "␀")] for one in mine["text_id"]]
        np.testing.assert_allclose([row["values"][0] for row in theirs], mine["activation"], rtol=1e-5)
        assert {row["binMax"] for row in theirs} == {theirs[0]["maxValue"]}
    assert not [row for row in acts if row["index"] == "5"], "a dead latent has no examples"
    said = {row["index"]: row["description"] for row in labels}
    assert said == {
        one.rsplit("/", 1)[1]: label
        for one, label in run.labels.select("feature", "label").iter_rows()
        if label and one.startswith("base.layer01/")
    }
    about = json.loads((place / "source.jsonl").read_text("utf-8"))
    assert about["id"] == "1-antar-fake-base" and "a whole text as one token" in about["notes"]


def test_a_dictionary_of_two_checkpoints_is_attached_to_none(fake, tmp_path):
    export_run(fake, tmp_path / "out", "neuronpedia", Options(dictionary="delta.layer02", top=1))
    (place,) = (tmp_path / "out/exports/my-chat").iterdir()
    for row in rows_of(place, "features"):
        assert row["hookName"] is None and row["hasVector"] is False and row["vector"] == []
    assert "of chat minus base" in json.loads((place / "sourceset.jsonl").read_text("utf-8"))["description"]


def test_devanagari_is_whole_in_the_bytes(fake, tmp_path):
    export_run(fake, tmp_path / "out", "neuronpedia", Options(dictionary="base.layer01"))
    hindi = [text for text in load_run(fake).texts["text"] if "दीवाली" in text]
    files = [*(tmp_path / "out").rglob("*.json"), *(tmp_path / "out").rglob("*.gz")]
    for path in files:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        assert b"\\u09" not in data and "\ufffd" not in data.decode("utf-8")
    shown = {
        "".join(row["tokens"])
        for row in rows_of(next((tmp_path / "out/exports").rglob("source.jsonl")).parent, "activations")
    }
    assert shown & set(hindi)
    assert all(unicodedata.is_normalized("NFC", text) for text in shown & set(hindi))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["base.layer01", "delta.layer00"])
def test_token_level_values_are_the_codes_of_the_tokens(token_level, tmp_path, name):
    export_run(token_level, tmp_path / "out", "neuronpedia", Options(dictionary=name, top=4))
    run, one = load_run(token_level), DictionaryId.parse(name)
    place = next((tmp_path / "out/exports").rglob("source.jsonl")).parent
    acts = rows_of(place, "activations")
    texts = run.texts["text"].to_list()
    kept = [
        keep[lo:hi].astype(bool)
        for path in shard_paths(token_level / "activations/tokens")
        for keep, offsets in [(read_shard(path)["keep"], read_shard(path)["offsets"])]
        for lo, hi in itertools.pairwise(offsets)
    ]
    tokens = dict(naive_rows(TokenSite(token_level, Site(one.trained_on, one.layer))))
    dictionary, checked, hindi = run.dictionary(one), 0, 0
    for latent in sorted({int(row["index"]) for row in acts})[:12]:
        mine = (
            run.examples.filter(dictionary=name, latent=latent)
            .sort(["activation", "row"], descending=[True, False]).unique("row", keep="first", maintain_order=True)
        )  # fmt: skip
        theirs = [row for row in acts if row["index"] == str(latent)]
        assert len(theirs) == min(4, mine.height)
        for row, shown in zip(mine["row"], theirs, strict=False):
            text = "".join(shown["tokens"])
            assert texts[row].startswith(text.strip()) and "\ufffd" not in text
            ends = {found.end() for found in regex.finditer(r"\X", text)}
            assert {sum(map(len, shown["tokens"][: i + 1])) for i in range(len(shown["tokens"]))} <= ends
            codes = dictionary.encode(tokens[row])
            naive = np.array([
                max((v for i, v in zip(c, w, strict=True) if i == latent), default=0.0)
                for c, w in zip(codes.indices_nk, codes.values_nk, strict=True)
            ])  # fmt: skip
            assert kept[row].sum() == len(naive)
            np.testing.assert_allclose(shown["maxValue"], naive.max(), rtol=1e-5)
            if len(shown["tokens"]) == len(naive):
                np.testing.assert_allclose(shown["values"], naive, rtol=1e-5, atol=1e-9)
                checked += 1
            hindi += len(shown["tokens"]) < len(naive)
    assert checked > 10
    assert hindi > 0, "no token was joined: the test saw no Devanagari cut into bytes"


def naive_rows(site: TokenSite):
    for of_rows, rows_nd in site:
        for row in np.unique(of_rows):
            yield int(row), rows_nd[of_rows == row]


def test_nulls_and_replicas_are_left_out_where_nothing_is_said(fake, tmp_path):
    export_run(fake, tmp_path / "out", "neuronpedia", Options(top=1))
    names = {path.parent.name for path in (tmp_path / "out/exports").rglob("source.jsonl")}
    assert names == {f"{layer}-antar-fake-{side}" for layer in (1, 2) for side in ("base", "chat", "delta")}
    assert len(names) == len(pl.Series(sorted(names)).unique())
