"""Which vectors of the texts a run's coherence is measured in, and when another encoder makes them stale."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from antar.core.errors import UserError
from antar.features import embed
from antar.stages.text_space import text_space_inputs, text_space_name, text_vectors
from antar.study import study_yaml

sys.path.insert(0, str(Path(__file__).parent))
from stored import stored_run, stored_texts


def with_text() -> pl.DataFrame:
    words = ["lamps river", "onions market", "दीये नदी", "प्याज बाज़ार"]
    return stored_texts().with_columns(text=pl.Series([f"{words[i % 4]} {i}" for i in range(150)]))


def test_without_a_word_in_the_study_it_is_tfidf_of_the_training_texts(tmp_path):
    context = stored_run(tmp_path)
    vectors = text_vectors(context, with_text())
    assert vectors is not None and len(vectors) == 150 and np.isfinite(vectors).all()
    np.testing.assert_array_equal(vectors, text_vectors(context, with_text()))
    assert (text_space_name(context), text_space_inputs(context)) == ("TF-IDF", {})
    assert yaml.safe_load(study_yaml(context.study))["criteria"]["text_space"] == "tfidf"


def test_an_encoder_is_found_beside_the_study_file_and_its_files_are_an_input(tmp_path, monkeypatch):
    criteria = {"text_space": {"embedder": "encoders/small", "max_tokens": 9}}
    context = stored_run(tmp_path, criteria=criteria)
    with pytest.raises(UserError, match=r"criteria\.text_space\.embedder: .* found none at .*encoders/small"):
        text_space_inputs(context)
    folder = tmp_path / "encoders" / "small"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    before = text_space_inputs(context)
    (folder / "README.md").write_text("not a part of it")
    assert text_space_inputs(context) == before
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    assert text_space_inputs(context) == before
    for name in ("model.safetensors", "spm.model", "source.spm"):
        (folder / name).write_bytes(b"1")
        assert text_space_inputs(context) != before
        before = text_space_inputs(context)
    asked = []

    def embedded(folder, texts, max_tokens, done):
        asked.append((folder, max_tokens))
        return np.ones((len(texts), 2), np.float32)

    monkeypatch.setattr(embed, "embed_texts", embedded)
    assert text_vectors(context, with_text()).shape == (150, 2)
    assert asked == [(folder, 9)] and text_space_name(context) == "the encoder small"
