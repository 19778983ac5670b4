"""The published layout: what is written is what is stored, readable by numpy alone without pickle."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from antar.core.errors import UserError
from antar.core.shards import write_shard
from antar.core.sites import Site
from antar.models import export_npz, read_site, site_folder

LAYERS = [6, 12, 18]
SOURCES = ["updesh", "snli", "cfilt/iitb"]


@pytest.fixture
def run(tmp_path):
    rng = np.random.default_rng(0)
    for side in ("base", "chat"):
        for layer in LAYERS:
            for shard in range(2):
                acts = rng.normal(size=(6, 4)).astype(np.float32)
                write_shard(
                    site_folder(tmp_path, Site(side, layer)) / f"{shard:05d}.safetensors", {"acts": acts}, "f"
                )
    return tmp_path


@pytest.fixture
def corpus() -> pl.DataFrame:
    # Sources interleaved: rows of a dataset are not consecutive in the corpus.
    return pl.DataFrame(
        {"text_id": [f"text-{i}-दीया" for i in range(12)], "source": [SOURCES[i % 3] for i in range(12)]}
    )


def test_round_trip_of_the_27_sets(run, corpus, tmp_path):
    out = tmp_path / "npz"
    files = export_npz(run, corpus, LAYERS, out)
    assert sorted(str(path.relative_to(out)) for path in files) == sorted(
        f"{dataset}/{side}/chunk_0000.npz"
        for dataset in ("updesh", "snli", "cfilt_iitb")
        for side in ("base", "chat", "delta")
    )
    sets = 0
    for path in files:
        with np.load(path, allow_pickle=False) as chunk:
            assert sorted(chunk.files) == ["layer_06", "layer_12", "layer_18", "text_id"]
            assert chunk["text_id"].dtype.kind == "U"
            source = {"cfilt_iitb": "cfilt/iitb"}.get(path.parts[-3], path.parts[-3])
            rows = np.flatnonzero((corpus["source"] == source).to_numpy())
            assert chunk["text_id"].tolist() == corpus["text_id"].gather(rows).to_list()
            for layer in LAYERS:
                stored = read_site(run, Site(path.parts[-2], layer))[rows]
                assert chunk[f"layer_{layer:02d}"].dtype == np.float32
                np.testing.assert_array_equal(chunk[f"layer_{layer:02d}"], stored)
                sets += 1
    assert sets == 27


def test_long_datasets_are_chunked_and_older_chunks_go(run, corpus, tmp_path):
    folder = tmp_path / "npz" / "updesh" / "base"
    export_npz(run, corpus, LAYERS, tmp_path / "npz", rows_per_chunk=1)
    assert sorted(path.name for path in folder.iterdir()) == [f"chunk_000{i}.npz" for i in range(4)]
    export_npz(run, corpus, LAYERS, tmp_path / "npz", rows_per_chunk=3)
    assert sorted(path.name for path in folder.iterdir()) == ["chunk_0000.npz", "chunk_0001.npz"]
    chunks = [np.load(path, allow_pickle=False)["text_id"] for path in sorted(folder.iterdir())]
    assert [len(ids) for ids in chunks] == [3, 1]
    assert np.concatenate(chunks).tolist() == corpus.filter(pl.col("source") == "updesh")["text_id"].to_list()


def test_a_corpus_of_another_length_is_a_user_error(run, corpus, tmp_path):
    with pytest.raises(UserError, match=r"base\.layer06 has 12 rows and the corpus 11 texts"):
        export_npz(run, corpus.head(11), LAYERS, tmp_path / "npz")


def test_a_failed_write_leaves_nothing(run, corpus, tmp_path, monkeypatch):
    def fail(path, **_):
        path.write_bytes(b"half a file")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="no space"):
        export_npz(run, corpus, LAYERS, tmp_path / "npz")
    assert not list((tmp_path / "npz" / "updesh" / "base").iterdir())
