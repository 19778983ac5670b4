"""The sweep: each variant trained on each dictionary, compared beside what was published, skipped when fresh."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml

from antar import tables
from antar.core.errors import UserError
from antar.core.manifest import read_manifest
from antar.dictionaries import load_dictionary, preset
from antar.dictionaries.sweep import PUBLISHED, published_of, variant_config
from antar.stages import sweep, train
from antar.study import parse_study
from micro import MICRO, antar

sys.path.insert(0, str(Path(__file__).parent))
from stored import STUDY, stored_run

VARIANTS = {
    "narrow": {"k": 2, "n_latents": 12, "auxk_coefficient": 0.0},
    "own": {},
    "published": {"preset": "published", "n_latents": 24, "k": 3, "k_aux": 8, "max_epochs": 2,
                  "check_every_epochs": 1, "dead_window_steps": 1, "threads": 1, "device": "cpu"},
}  # fmt: skip
IDS = ["base.layer00", "base.layer01", "chat.layer00", "chat.layer01", "delta.layer00", "delta.layer01"]


def test_every_variant_is_trained_on_every_dictionary_and_compared(tmp_path, capsys):
    context = stored_run(tmp_path, sweep={"variants": VARIANTS})
    frame = sweep.make(context)
    assert frame["variant"].to_list() == [name for name in VARIANTS for _ in IDS]
    assert frame["dictionary"].to_list() == IDS * 3  # no sham's delta
    assert frame.schema == sweep.SCHEMA
    for row in frame.to_dicts():
        folder = tmp_path / "sweep" / row["variant"] / row["dictionary"]
        cfg = variant_config(context.study.dictionaries, VARIANTS[row["variant"]])
        dictionary = load_dictionary(folder)
        assert (row["n_latents"], row["k"], row["auxk"]) == (cfg.n_latents, cfg.k, cfg.auxk_coefficient)
        assert (dictionary.n_latents, dictionary.k) == (cfg.n_latents, cfg.k)
        parts = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["parts"]
        assert (row["fvu"], row["mse"], row["l0"]) == tuple(parts["heldout"][name] for name in ("fvu", "mse", "l0"))
        assert row["mse_control"] == parts["heldout_control"]["mse"]
        assert row["passes"] == (row["mse_control"] < 0.05)
        assert (row["live_share"], row["dead"]) == (
            parts["train"]["live_share"],
            cfg.n_latents - parts["train"]["live"],
        )
        assert row["published_passed"] is None
    assert variant_config(context.study.dictionaries, VARIANTS["published"]).train_on == "cultural"
    assert pl.read_parquet(tmp_path / "sweep" / "sweep.parquet").equals(frame)
    capsys.readouterr()
    tables.show_sweep(frame, 0.05)
    shown = capsys.readouterr().out
    assert "delta.layer01" in shown and "off" in shown and "not measured here" not in shown


def test_what_is_fresh_is_skipped_and_what_changed_is_trained_again(tmp_path, monkeypatch):
    trained = []
    real = sweep.train_one
    monkeypatch.setattr(sweep, "train_one", lambda *args: (trained.append(args[3].name), real(*args))[1])
    context = stored_run(tmp_path, sweep={"variants": {"own": {}, "narrow": VARIANTS["narrow"]}})
    first = sweep.make(context, ["narrow"])
    assert trained == [f"sweep/narrow/{one}" for one in IDS]
    assert set(first["variant"]) == {"narrow"}
    both = sweep.make(context)
    assert trained[6:] == [f"sweep/own/{one}" for one in IDS]
    assert sweep.make(context).equals(both) and len(trained) == 12
    # --only tells of the other variants too, as long as they are whole.
    assert sweep.make(context, ["own"]).equals(both)
    (tmp_path / "sweep/own/base.layer01/metrics.json").unlink()
    assert set(sweep.make(context, ["narrow"])["variant"]) == {"narrow"}
    assert sweep.make(context).equals(both) and trained[12:] == ["sweep/own/base.layer01"]
    wider = context.study.model_copy(update={"sweep": context.study.sweep.model_copy(
        update={"variants": {"own": {}, "narrow": VARIANTS["narrow"] | {"n_latents": 13}}})})  # fmt: skip
    again = sweep.make(dataclasses.replace(context, study=wider))
    assert trained[13:] == [f"sweep/narrow/{one}" for one in IDS]
    assert again.filter(pl.col("variant") == "narrow")["n_latents"].to_list() == [13] * 6


def test_a_variant_that_is_the_studys_own_recipe_takes_its_dictionaries_over(tmp_path, monkeypatch, capsys):
    context = stored_run(tmp_path, sweep={"variants": {"own": {}}})
    train.make(context)
    monkeypatch.setattr(sweep, "train_one", lambda *_: pytest.fail("trained once already"))
    sweep.make(context)
    for one in IDS:
        own, copy = tmp_path / "dictionaries" / one, tmp_path / "sweep" / "own" / one
        assert (own / "sae_weights.safetensors").read_bytes() == (copy / "sae_weights.safetensors").read_bytes()
        assert read_manifest(own / "manifest.json").files == read_manifest(copy / "manifest.json").files
    assert "is the study's own dictionaries/base.layer00" in capsys.readouterr().err


def test_a_killed_training_of_a_variant_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    from antar.dictionaries.trainer import Training

    variants = {"variants": {"narrow": VARIANTS["narrow"]}}
    whole = sweep.make(stored_run(tmp_path / "a", sweep=variants))
    real, epochs = Training.run_epoch, []

    def dies(self):
        epochs.append(self.at.epoch)
        if len(epochs) == 6:  # in the last epoch of the second dictionary
            raise KeyboardInterrupt
        real(self)

    context = stored_run(tmp_path / "b", sweep=variants)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Training, "run_epoch", dies)
        sweep.make(context)
    assert not (tmp_path / "b/sweep/narrow/base.layer01/manifest.json").exists()
    assert sweep.make(context).equals(whole)
    weights = "sweep/narrow/base.layer01/sae_weights.safetensors"
    assert (tmp_path / "a" / weights).read_bytes() == (tmp_path / "b" / weights).read_bytes()
    assert not (tmp_path / "b/sweep/narrow/base.layer01/checkpoint").exists()


def test_the_default_variants_are_the_published_iterations_beside_their_numbers():
    study = parse_study(yaml.safe_load(STUDY), "stored")
    sizes = {n: (one["n_latents"], one["k"], one["auxk_coefficient"]) for n, one in study.sweep.variants.items()}
    assert list(sizes) == ["iteration-1", "iteration-2", "iteration-3"]
    assert list(sizes.values()) == [(16384, 128, 0.0), (8192, 256, 0.0), (8192, 256, 0.03)]
    told = {name: (one.passed, one.of, one.dead_share) for name, one in PUBLISHED.items()}
    assert told == {"iteration-1": (2, 9, 0.98), "iteration-2": (3, 9, 0.75), "iteration-3": (9, 9, None)}
    for name, overrides in study.sweep.variants.items():
        assert published_of(name, overrides) is PUBLISHED[name]
        assert published_of(name, overrides | {"lr": 1}) is None  # another recipe under the same name
    assert published_of("mine", study.sweep.variants["iteration-1"]) is None


def test_published_numbers_stand_in_the_table_marked_as_published(tmp_path, monkeypatch, capsys):
    small = {"n_latents": 16, "k": 2, "auxk_coefficient": 0.0}
    monkeypatch.setitem(PUBLISHED, "iteration-1", dataclasses.replace(PUBLISHED["iteration-1"], overrides=small))
    frame = sweep.make(stored_run(tmp_path, sweep={"variants": {"iteration-1": small}}))
    assert set(frame["published_passed"]) == {2} and set(frame["published_dead_share"]) == {0.98}
    tables.show_sweep(frame, 0.05)
    shown = capsys.readouterr().out
    assert "2 of 9, 98%" in shown and "published: what the published study says" in shown


@pytest.mark.parametrize(
    ("variants", "told"),
    [
        ({"wide": {"n_latent": 9}}, r"sweep\.variants\.wide: n_latent"),
        ({"wide": {"k": 99}}, r"sweep\.variants\.wide: .*k: expected at most n_latents = 24, found 99"),
        ({"wide": {"seeds": 2}}, "expected settings of one training, found seeds"),
        ({"../up": {}}, "it names a folder"),
    ],
)
def test_a_variant_that_cannot_be_is_one_line_that_names_it(variants, told):
    with pytest.raises(UserError, match=told) as error:
        parse_study(yaml.safe_load(STUDY) | {"sweep": {"variants": variants}}, "stored")
    assert "\n" not in str(error.value)


def test_a_variant_with_another_optimiser_takes_that_ones_decay():
    assert variant_config(preset("antar"), {"optimiser": "adam"}).weight_decay == 0
    adam = preset("antar", optimiser="adam")
    assert variant_config(adam, {"optimiser": "adamw"}).weight_decay == preset("antar").weight_decay
    assert variant_config(adam, {"k": 4}).weight_decay == 0


def test_a_variant_that_the_study_lacks_is_one_line(tmp_path):
    context = stored_run(tmp_path, sweep={"variants": {"own": {}}})
    with pytest.raises(UserError, match="sweep: expected one of own, found 'mine'"):
        sweep.make(context, ["mine"])


@pytest.mark.slow
def test_antar_sweep_on_a_finished_study_leaves_every_stage_fresh(finished, tmp_path):
    shutil.copytree(finished.parent, tmp_path / "runs")
    path = tmp_path / "micro.yaml"
    variants = {"wide": {"n_latents": 48, "k": 2, "auxk_coefficient": 0.0}, "own": {}}
    before = (tmp_path / "runs/micro/study.yaml").read_bytes()
    path.write_text(MICRO + yaml.safe_dump({"sweep": {"variants": variants}}, sort_keys=False), encoding="utf-8")
    done = antar("sweep", path, "--only", "wide", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "wide" in done.stdout and "live" in done.stdout
    assert not (tmp_path / "runs/micro/sweep/own").exists()
    assert antar("sweep", path, cwd=tmp_path).returncode == 0
    assert (tmp_path / "runs/micro/study.yaml").read_bytes() == before, "the run still says what made it"
    again = antar("run", path, cwd=tmp_path)
    assert again.stderr.count(": fresh") == 8, again.stderr
    wrong = antar("sweep", path, "--only", "mine", cwd=tmp_path)
    assert wrong.returncode == 2 and "expected one of wide, own" in wrong.stderr
    shutil.rmtree(tmp_path / "runs/micro/activations/base.layer00")
    stale = antar("sweep", path, cwd=tmp_path)
    assert stale.returncode == 2 and "sweep: needs extract first" in stale.stderr
