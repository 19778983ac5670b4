"""Names of sites and dictionaries, sparse codes, seeds, progress off a terminal."""

from __future__ import annotations

import numpy as np
import pytest

from antar.core import progress as progress_module
from antar.core.errors import UserError
from antar.core.progress import progress, say
from antar.core.seeds import derive_seed, numpy_rng
from antar.core.sites import DictionaryId, Site, codes_folder
from antar.core.sparse import SparseCodes


@pytest.mark.parametrize(
    "text",
    [
        "base.layer06",
        "delta.layer18.seed2",
        "joint.layer12.crosscoder",
        "delta:a.layer02",
        "chat.layer100.fold4",
        "delta.layer06.neurons",
        "untrained.layer06.seed1",
    ],
)
def test_dictionary_ids_round_trip(text):
    assert str(DictionaryId.parse(text)) == text


@pytest.mark.parametrize("text", ["base", "base.layer6", "base.layer06.seedx", "../base.layer06", "base.layer06/3"])
def test_other_ids_are_refused(text):
    with pytest.raises(UserError):
        DictionaryId.parse(text)


def test_sites():
    assert Site("delta", 6).difference == ("chat", "base")
    assert Site("delta:a", 6).difference == ("sham:a", "base")
    assert Site("sham:a", 6).difference is None
    assert Site("sham:a", 6).folder == "sham-a.layer06"
    assert codes_folder(DictionaryId("delta:a", 2), "delta:a") == "delta-a.layer02@delta-a"
    assert Site("untrained", 6).difference is None and Site("untrained", 6).stored == ("untrained",)
    with pytest.raises(UserError):
        Site("../etc", 1)


def test_what_is_a_null():
    null = [
        "base.layer01.pca",
        "delta.layer01.neurons",
        "base.layer01.random",
        "delta:a.layer01",
        "untrained.layer01",
    ]
    assert all(DictionaryId.parse(text).is_null for text in null)
    assert not any(DictionaryId.parse(text).is_null for text in ("base.layer01", "delta.layer01.batchtopk.seed1"))


def test_seeds_are_streams_of_their_own():
    assert derive_seed(0, "a", 1) == derive_seed(0, "a", 1)
    seeds = {derive_seed(0), derive_seed(0, "a"), derive_seed(0, "b"), derive_seed(1, "a"), derive_seed(0, "a", 1)}
    assert len(seeds) == 5
    assert derive_seed(0, "ab", "c") != derive_seed(0, "a", "bc")
    assert numpy_rng(0, "a").random() == numpy_rng(0, "a").random()


def test_sparse_codes_equal_the_dense_twin():
    rng = np.random.default_rng(0)
    n, k, width = 50, 5, 20
    indices = np.stack([rng.choice(width, k, replace=False) for _ in range(n)]).astype(np.int32)
    values = np.maximum(rng.normal(size=(n, k)), 0).astype(np.float32)
    dense = np.zeros((n, width), np.float32)
    for i in range(n):
        dense[i, indices[i]] = values[i]
    codes = SparseCodes(indices, values, width)
    np.testing.assert_array_equal(codes.csr().toarray(), dense)
    np.testing.assert_array_equal(codes.csc().toarray(), dense)
    np.testing.assert_array_equal(codes.firing_counts(), (dense > 0).sum(0))
    np.testing.assert_array_equal(codes.rows(np.array([3, 1])).csr().toarray(), dense[[3, 1]])
    assert codes.csr().nnz == (dense > 0).sum()
    assert codes.rows(np.zeros(n, bool)).csr().shape == (0, width)


def test_what_is_said_is_neither_markup_nor_emoji(capsys):
    say("activations of sham:a: 3 [bold]texts[/bold]")
    assert capsys.readouterr().err == "activations of sham:a: 3 [bold]texts[/bold]\n"


def test_progress_speaks_in_plain_lines_off_a_terminal(monkeypatch, capsys):
    clock = iter(float(t) for t in range(0, 1000, 11))
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: next(clock))
    with progress("reading", 100, "texts") as bar:
        bar.advance(10)
        bar.note("loss 0.5")
        bar.advance(10)
        bar.advance(80)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3, "the end is said by the caller"
    assert "reading: 10 of 100 texts" in lines[0]
    assert "left" not in lines[0], "start-up says nothing of the rate"
    assert "reading: 10 of 100 texts" in lines[1] and "loss 0.5" in lines[1], "a late note speaks too"
    assert "reading: 20 of 100 texts" in lines[2] and "loss 0.5" in lines[2] and "s left" in lines[2]
