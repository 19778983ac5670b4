"""The dataset folder opens with `datasets` itself, and says what the run says."""

from __future__ import annotations

import pytest
import yaml

from antar.run import load_run
from antar.share.export import export_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(fake, tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "set"
    export_run(fake, out, "datasets")
    return out


def test_every_configuration_opens_with_its_splits(fake, folder, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    run = load_run(fake)
    front = yaml.safe_load((folder / "README.md").read_text("utf-8").split("---\n")[1])
    names = [config["config_name"] for config in front["configs"]]
    assert sorted(datasets.get_dataset_config_names(str(folder))) == sorted(names)
    opened = {name: datasets.load_dataset(str(folder), name, cache_dir=str(tmp_path)) for name in names}
    texts = opened["texts"]
    assert set(texts) == {"train", "validation", "test"}
    ids = [row["text_id"] for split in texts.values() for row in split]
    assert sorted(ids) == sorted(run.texts["text_id"])
    by_id = {row["text_id"]: row for split in texts.values() for row in split}
    for row in run.texts.iter_rows(named=True):
        assert by_id[row["text_id"]] == row
    assert opened["features"]["train"].num_rows == run.features.height
    assert opened["contrasts"]["train"].num_rows > 0
    assert opened["labels"]["train"]["label"][:] == run.labels["label"].to_list()
    examples = opened["examples"]["train"]
    assert examples["text"][:] == [by_id[one]["text"] for one in run.examples["text_id"]]


def test_the_default_is_the_texts(folder, tmp_path):
    datasets = pytest.importorskip("datasets")
    assert "text" in datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path)).column_names
