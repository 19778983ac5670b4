"""The whole stage on a world whose features are known; kill -9 and the same bytes; what stays out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from antar.core.errors import UserError
from antar.core.hashing import sha256_file
from antar.interpret.config import PUBLISHED_LABELLER, PUBLISHED_VALIDATOR, InterpretConfig
from antar.interpret.records import LABELS, PREDICTIONS, VERDICTS, read_labels, read_predictions, read_verdicts

FILES = (LABELS, VERDICTS, PREDICTIONS)
Finished = tuple[Path, dict[str, Any]]


def bytes_of(folder: Path) -> dict[str, str]:
    return {name: sha256_file(folder / name) for name in FILES}


def test_known_themes_are_labelled_kept_and_predicted(world, finished: Finished) -> None:
    folder, facts = finished
    labels = {row["feature"]: row for row in read_labels(folder).iter_rows(named=True)}
    verdicts = {row["feature"]: row for row in read_verdicts(folder).iter_rows(named=True)}
    assert set(labels) == {f"base.layer02/{latent}" for latent in range(18)}
    for latent, name in enumerate(world.themes):
        row, verdict = labels[f"base.layer02/{latent}"], verdicts[f"base.layer02/{latent}"]
        theme, language = name.split("/")
        assert row["coherent"]
        assert row["language"] == language
        assert set(row["evidence"]) <= {f"{theme}-{language}-{i}" for i in range(120)}
        assert verdict["verdict"] == "KEEP"
        assert verdict["label"] == row["label"]
    random = [labels[f"base.layer02/{latent}"]["coherent"] for latent in range(12, 18)]
    assert sum(random) <= 2
    scores = facts["scores"]
    assert scores["right"]["value"] > 0.85
    assert scores["wrong_label"]["value"] < 0.6
    assert set(scores["by_language"]) == {"en", "hi"}
    assert facts["predictions"]["hard_share"] == pytest.approx(0.5, abs=0.05)
    json.dumps(facts, allow_nan=False)


def test_nobody_is_judged_on_what_the_labeller_saw(world, finished: Finished) -> None:
    folder, _ = finished
    half = dict(zip(world.texts["text_id"], world.texts["half"], strict=True))
    text_of = dict(zip(world.texts["text_id"], world.texts["text"], strict=True))
    row_of = {text_id: row for row, text_id in enumerate(world.texts["text_id"])}
    labels = read_labels(folder)
    assert {half[text_id] for text_id in labels["evidence"].explode().drop_nulls()} == {"select"}
    assert {half[text_id] for text_id in read_verdicts(folder)["evidence"].explode()} == {"estimate"}
    predictions = read_predictions(folder)
    assert {half[text_id] for text_id in predictions["text_id"]} == {"estimate"}
    seen = {text_of[text_id] for text_id, its_half in half.items() if its_half == "select"}
    assert not seen & {text_of[text_id] for text_id in predictions["text_id"]}
    dense = world.codes["base.layer02"].csr().toarray()
    for row in predictions.iter_rows(named=True):
        latent = int(row["feature"].split("/")[1])
        assert row["fires"] == (dense[row_of[row["text_id"]], latent] > 0)
    sizes = predictions.group_by("feature", "wrong_label").agg(pl.col("fires").sum(), n=pl.len())
    assert (sizes["fires"] * 2 == sizes["n"]).all()


def test_labels_do_not_depend_on_the_estimate_half(world, finished: Finished, tmp_path: Path) -> None:
    other = world.texts.with_columns(
        text=pl.when(pl.col("half") == "estimate").then(pl.lit("धुआँ smoke ") + pl.col("text_id")).otherwise("text")
    )
    replace(world, texts=other).run(tmp_path)
    keep = ["feature", "coherent", "label", "needed", "evidence"]
    assert read_labels(tmp_path).select(keep).equals(read_labels(finished[0]).select(keep))


def test_twice_is_the_same_another_seed_is_not_and_a_rerun_makes_nothing(
    world, finished: Finished, tmp_path: Path
) -> None:
    folder, facts = finished
    again = world.run(tmp_path / "again", InterpretConfig(checkpoint_every=3))
    assert bytes_of(tmp_path / "again") == bytes_of(folder)
    assert again == facts
    times = {name: (tmp_path / "again" / name).stat().st_mtime_ns for name in FILES}
    assert world.run(tmp_path / "again") == facts
    assert {name: (tmp_path / "again" / name).stat().st_mtime_ns for name in FILES} == times
    world.run(tmp_path / "other", seed=8)
    assert bytes_of(tmp_path / "other")[PREDICTIONS] != bytes_of(folder)[PREDICTIONS]


def test_what_changed_is_made_again(world, finished: Finished, tmp_path: Path) -> None:
    cfg = InterpretConfig.model_validate({"keywords": {"most": 2}})
    world.run(tmp_path / "one")
    world.run(tmp_path / "one", cfg)
    world.run(tmp_path / "two", cfg)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")
    assert bytes_of(tmp_path / "two")[LABELS] != bytes_of(finished[0])[LABELS]


def test_the_cap_takes_a_random_sample_that_only_grows(world, tmp_path: Path) -> None:
    features = []
    for cap in (3, 6):
        facts = world.run(tmp_path / str(cap), InterpretConfig(features_per_site=cap))
        assert facts["features"]["base.layer02"]["validated"] == cap
        features.append(set(read_verdicts(tmp_path / str(cap))["feature"]))
    assert features[0] < features[1]
    assert read_labels(tmp_path / "3").height == 18


def test_the_published_workers_give_way_with_a_note(world, finished: Finished, tmp_path: Path) -> None:
    cfg = InterpretConfig(labeller=PUBLISHED_LABELLER, validator=PUBLISHED_VALIDATOR)
    facts = world.run(tmp_path, cfg)
    assert facts["notes"] == [
        "labeller Qwen/Qwen1.5-32B-Chat: no endpoint given: keywords used instead",
        "validator Qwen/Qwen3-30B-A3B: no endpoint given: keywords used instead",
    ]
    assert facts["labeller"] == "keywords"
    assert facts["scores"] == finished[1]["scores"]


def test_faults_are_one_line(world, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected codes of base\.layer02, found none"):
        replace(world, codes={}).run(tmp_path)
    short = {name: codes.rows(np.arange(10)) for name, codes in world.codes.items()}
    with pytest.raises(UserError, match="expected 1,440 rows"):
        replace(world, codes=short).run(tmp_path)
    with pytest.raises(UserError, match="one half only"):
        replace(world, texts=world.texts.with_columns(half=pl.lit("select"))).run(tmp_path)
    with pytest.raises(UserError, match="empty corpus"):
        replace(world, texts=world.texts.clear()).run(tmp_path)


def test_features_that_are_dead_or_have_no_examples(world, tmp_path: Path) -> None:
    features = world.features.with_columns(live=pl.col("latent") != 3)
    examples = world.examples.filter(pl.col("latent") != 4)
    replace(world, features=features, examples=examples).run(tmp_path)
    labels = {row["feature"]: row for row in read_labels(tmp_path).iter_rows(named=True)}
    assert "base.layer02/3" not in labels
    assert not labels["base.layer02/4"]["coherent"]
    assert "0 distinct example texts" in labels["base.layer02/4"]["reason"]
    nothing = world.run_nothing(tmp_path / "nothing")
    assert nothing["scores"]["right"]["value"] is None


@pytest.mark.parametrize("name", FILES)
def test_a_run_stopped_at_any_byte_of_any_file_is_finished_to_the_same_bytes(
    world, finished: Finished, tmp_path: Path, name: str
) -> None:
    whole = {file: (finished[0] / file).read_bytes() for file in FILES}
    for cut in np.random.default_rng(len(name)).integers(0, len(whole[name]), size=3):
        folder = tmp_path / str(cut)
        folder.mkdir()
        for file in FILES[: FILES.index(name)]:
            (folder / file).write_bytes(whole[file])
        (folder / name).write_bytes(whole[name][:cut])
        assert world.run(folder) == finished[1]
        assert bytes_of(folder) == bytes_of(finished[0])


_SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
import conftest
from antar.interpret.config import InterpretConfig
from antar.interpret.records import RecordFile
add = RecordFile.add
def slowly(self, units):
    for key, unit in units.items():
        add(self, {{key: unit}})
        time.sleep(0.01)
RecordFile.add = slowly
conftest.make_world().run(Path(sys.argv[1]), InterpretConfig(checkpoint_every=4))
"""


@pytest.mark.slow
def test_kill_9_and_the_same_command_give_the_bytes_of_an_uninterrupted_run(
    world, finished: Finished, tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    command = [sys.executable, "-c", _SCRIPT.format(tests=str(Path(__file__).parent)), str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    deadline = time.monotonic() + 600
    path = folder / PREDICTIONS
    while time.monotonic() < deadline and process.poll() is None:
        if path.exists() and path.stat().st_size > 2000:
            break
        time.sleep(0.002)
    assert process.poll() is None, "the run ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    with (folder / PREDICTIONS).open("ab") as torn:
        torn.write(b'{"feature": "base.lay')
    assert bytes_of(folder) != bytes_of(finished[0])
    assert world.run(folder) == finished[1]
    assert bytes_of(folder) == bytes_of(finished[0])
