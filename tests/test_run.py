"""A run is opened lazily, says in one line what it lacks, and hands out what the stages wrote."""

from __future__ import annotations

import importlib.util
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from antar.core.errors import UserError
from antar.core.sites import DictionaryId
from antar.run import Run, load_run


@pytest.fixture(scope="module")
def fake():
    spec = importlib.util.spec_from_file_location("fake_run", Path(__file__).with_name("fake_run.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run(fake, tmp_path_factory):
    return load_run(fake.write_fake_run(tmp_path_factory.mktemp("runs") / "fake"))


def test_every_part_of_a_run_opens(run):
    assert run.names == {"base": "Fake-Base", "chat": "Fake & Chat"}
    assert run.texts.height == 160
    assert run.features.height == 8 * 24
    assert set(run.examples["text_id"]) <= set(run.texts["text_id"])
    assert set(run.contrasts["null"]) == {"", "shuffled", "sham:a"}
    assert run.labels.height > 0 and run.verdicts.height > 0 and run.predictions.height > 0
    assert len(run.criteria["criteria"]) == 7
    assert run.truth["recall"] == 0.5
    assert {row["side"] for row in run.geometry} == {"base", "chat", "delta", "delta:a"}
    assert run.lock["seed"] == 5
    assert run.manifest("corpus").facts["n_texts"] == 160


def test_activations_are_subtracted_and_codes_are_sparse(run):
    base, chat, delta = (run.activations(side, 2) for side in ("base", "chat", "delta"))
    np.testing.assert_array_equal(delta, chat - base)
    np.testing.assert_array_equal(run.activations("delta:a", 2), run.activations("sham:a", 2) - base)
    codes = run.codes("delta.layer01", "delta")
    assert codes.indices_nk.shape == (160, 4) and codes.n_latents == 24
    assert run.dictionary("delta.layer01").decode(codes).shape == delta.shape
    assert run.layers_of("delta:a") == [1, 2] and run.layers_of("delta:b") == []


def test_dictionaries_come_in_order_with_their_metrics(run):
    ids = [str(one) for one in run.dictionary_ids]
    assert ids == ["base.layer01", "base.layer02", "chat.layer01", "chat.layer02", "delta.layer01",
                   "delta.layer01.seed1", "delta.layer02", "delta:a.layer01", "delta:a.layer02"]  # fmt: skip
    assert run.metrics(DictionaryId("delta", 1))["k"] == 4
    assert run.history("delta:a.layer02")["epoch"].to_list() == [5, 10, 15, 20]


def test_tables_are_read_once(run):
    assert run.texts is run.texts


def test_what_is_no_run_is_one_line(tmp_path):
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UserError, match=r"expected a run folder.*antar run STUDY") as error:
            load_run(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("part", "verb"),
    [("texts", "corpus"), ("features", "features"), ("contrasts", "measure"), ("criteria", "measure"),
     ("labels", "interpret"), ("dictionary_ids", "train"), ("geometry", "features")],
)  # fmt: skip
def test_what_is_not_made_yet_names_the_command(tmp_path, part, verb):
    (tmp_path / "study.yaml").write_text("study: x\n")
    run = load_run(tmp_path)
    with pytest.raises(UserError, match=rf"not made yet; `antar {verb} STUDY`"):
        getattr(run, part)
    assert run.truth is None
    with pytest.raises(UserError, match="antar extract STUDY"):
        run.activations("delta", 1)
    with pytest.raises(UserError, match="antar features STUDY"):
        run.codes("base.layer01", "base")


def test_damage_is_one_line(tmp_path):
    (tmp_path / "study.yaml").write_text("study: [\n")
    (tmp_path / "criteria.json").write_text("{")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/texts.parquet").write_bytes(b"PAR1 torn")
    run = load_run(tmp_path)
    for part in ("study", "criteria", "texts"):
        with pytest.raises(UserError, match="run the study again") as error:
            getattr(run, part)
        assert "\n" not in str(error.value)


def test_the_coherence_of_each_feature_is_kept_and_criterion_5_is_its_mean(finished):
    run = load_run(finished)
    criterion = run.criteria["criteria"][4]
    stated = {row["dictionary"]: row["coherence"] for row in criterion["per_dictionary"]}
    means = run.coherence.with_columns(dictionary=pl.col("feature").str.split("/").list.first())
    found = dict(means.group_by("dictionary").agg(pl.col("coherence").mean()).iter_rows())
    assert stated and all(found[name] == pytest.approx(value) for name, value in stated.items() if value is not None)
    by_texts = {row["dictionary"]: row["coherence_by_texts"] for row in criterion["per_dictionary"]}
    found = dict(means.group_by("dictionary").agg(pl.col("coherence_by_texts").mean()).iter_rows())
    assert all(found[name] == pytest.approx(value) for name, value in by_texts.items() if value is not None)
    assert "features/coherence.parquet" in (finished / "criteria.manifest.json").read_text(encoding="utf-8")


def test_a_run_of_before_coherence_was_kept_opens(run):
    assert run.coherence.is_empty() and run.coherence.columns == ["feature", "coherence", "coherence_by_texts"]


@pytest.mark.slow
def test_every_table_of_a_finished_run_is_a_polars_frame(finished):
    run = load_run(finished)
    tables = [
        name for name, one in vars(Run).items()
        if isinstance(one, cached_property) and one.func.__annotations__["return"] == "pl.DataFrame"
    ]  # fmt: skip
    assert {"texts", "features", "examples", "contrasts", "labels", "verdicts", "predictions", "energy"} <= set(
        tables
    )
    for name in tables:
        assert isinstance(getattr(run, name), pl.DataFrame), name
    assert all(getattr(run, name).height for name in ("texts", "features", "examples", "contrasts", "labels"))
