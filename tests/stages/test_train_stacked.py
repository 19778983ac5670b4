"""The train stage in stacks: the same dictionaries as one by one, each complete or absent, and a kill in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from antar.core.manifest import Fingerprint, read_manifest, write_manifest
from antar.dictionaries import load_dictionary, preset
from antar.dictionaries.stacked.state import StackState
from antar.dictionaries.stacked.train import StackedTraining
from antar.engines import InlineEngine
from antar.stages import stacks, train
from antar.stages.context import Context
from antar.study import load_study
from fake_run import write_fake_run

FILES = {"cfg.json", "sae_weights.safetensors", "history.parquet", "metrics.json", "manifest.json"}


@pytest.fixture(scope="module")
def activations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with corpus and activations, and the manifests that the stage reads."""
    folder = write_fake_run(tmp_path_factory.mktemp("fake"), labels=False, contrasts=False)
    for place in sorted((folder / "activations").iterdir()):
        shards = sorted(place.glob("*.safetensors"))
        write_manifest(place / "manifest.json", f"activations/{place.name}", Fingerprint(), shards, {})
    return folder


def context(activations: Path, folder: Path, **dictionaries: Any) -> Context:
    folder.mkdir(exist_ok=True)
    for name in ("corpus", "activations"):
        if not (folder / name).exists():
            (folder / name).symlink_to(activations / name)
    study = yaml.safe_load((activations / "study.yaml").read_text(encoding="utf-8"))
    study["dictionaries"] |= {
        "preset": "antar", "max_epochs": 4, "check_every_epochs": 2, "batch": 8, "threads": 1, "device": "cpu",
        "folds": 2, "path": "torch", "compute": "fp32", "baselines": [], **dictionaries,
    }  # fmt: skip
    (folder / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    return Context(load_study(folder / "study.yaml"), folder, folder, InlineEngine())


def files(folder: Path) -> dict[str, bytes]:
    """Everything under dictionaries/ by name, hidden folders too."""
    root = folder / "dictionaries"
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_stacked_and_single_training_write_the_same_dictionaries(activations: Path, tmp_path: Path) -> None:
    """The study's own ones, the sham's, a seed and two folds, which have other numbers of texts; one of both sides'
    rows; and a kind that does not stack."""
    fields = {"sides": ["base", "joint"], "kinds": ["topk", "batchtopk"]}
    one_by_one = context(activations, tmp_path / "single", stacked="never", **fields)
    together = context(activations, tmp_path / "stacked", stacked="always", **fields)
    train.make(one_by_one)
    train.make(together)
    ids = together.dictionary_ids()
    assert {(one.seed, one.fold) for one in ids} == {(None, None), (1, None), (None, 0), (None, 1)}
    assert {name.split("/")[0] for name in files(tmp_path / "stacked")} == {one.folder for one in ids}
    for one in ids:
        single, stacked = (tmp_path / name / "dictionaries" / one.folder for name in ("single", "stacked"))
        assert {path.name for path in stacked.iterdir()} == FILES
        pairs = zip(
            load_dictionary(single).weights.tensors(), load_dictionary(stacked).weights.tensors(), strict=True
        )
        for mine, theirs in pairs:
            assert float((mine - theirs).norm()) <= 1e-3 * float(mine.norm())
        histories = [pl.read_parquet(place / "history.parquet") for place in (single, stacked)]
        np.testing.assert_allclose(histories[0]["val_mse"], histories[1]["val_mse"], rtol=1e-4)
        manifests = [read_manifest(place / "manifest.json") for place in (single, stacked)]
        assert manifests[0] is not None and manifests[1] is not None
        assert manifests[0].fingerprint == manifests[1].fingerprint
        assert manifests[0].facts.keys() == manifests[1].facts.keys()
        assert manifests[0].facts["rows_train"] == manifests[1].facts["rows_train"]
        assert [one.facts["path"] for one in manifests if one] == ["torch", "torch" if one.kind else "stacked"]
    # What is fresh stays, whichever way it is asked for.
    before = files(tmp_path / "single")
    train.make(context(activations, tmp_path / "single", stacked="always", **fields))
    assert files(tmp_path / "single") == before


class Killed(BaseException):
    pass


def test_a_run_killed_while_results_are_written_goes_on_to_the_same_bytes(
    activations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train.make(context(activations, tmp_path / "whole", stacked="always"))
    killed = context(activations, tmp_path / "killed", stacked="always")
    victim = killed.dictionary_ids()[4]
    evaluate = train.evaluate
    count: list[int] = []

    def dying(*args: Any, **options: Any) -> Any:
        count.append(1)
        if len(count) == 5:
            raise Killed
        return evaluate(*args, **options)

    trained: set[str] = set()
    run_epoch = StackedTraining.run_epoch

    def watched(self: StackedTraining, stack: StackState) -> None:
        trained.update(member.job.name for member in self.members)
        run_epoch(self, stack)

    monkeypatch.setattr(StackedTraining, "run_epoch", watched)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(train, "evaluate", dying)
        train.make(killed)
    before = frozenset(trained)
    assert str(victim) in before
    place = tmp_path / "killed" / "dictionaries"
    assert sorted(path.parent.name for path in place.rglob("manifest.json")) == sorted(
        one.folder for one in killed.dictionary_ids()[:4]
    )
    assert (place / victim.folder / "cfg.json").is_file()  # half of it
    trained.clear()
    train.make(killed)
    assert trained and not trained & before  # of two stacks the second only
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    assert not (place / ".stacks").exists()


def test_only_what_is_stale_is_trained_again(
    activations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = context(activations, tmp_path / "run", stacked="always")
    train.make(made)
    before = files(tmp_path / "run")
    gone = made.dictionary_ids()[2]
    (tmp_path / "run" / "dictionaries" / gone.folder / "metrics.json").write_text("{}")
    trained: list[str] = []
    train_stacked = stacks.train_stacked
    monkeypatch.setattr(
        stacks,
        "train_stacked",
        lambda jobs, *args, **kwargs: (
            trained.extend(job.name for job in jobs),
            train_stacked(jobs, *args, **kwargs),
        )[1],
    )
    train.make(made)
    assert trained == [str(gone)]
    after = files(tmp_path / "run")
    assert {name for name in after if after[name] != before[name]} <= {
        f"{gone.folder}/{name}" for name in FILES
    }  # alone, its last bits may be others


def test_the_device_decides_unless_the_study_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def device(**fields: Any) -> str | None:
        found = stacks.stacking_device(preset("antar", **fields))
        return None if found is None else found.type

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device() is None and device(stacked="always") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device() == "cuda" and device(device="cpu") is None and device(stacked="never") is None
    assert device(device="cpu", stacked="always") == "cpu"
    assert device(moments="bf16") is None and device(path="fused") is None
    for fields in ({"moments": "bf16"}, {"path": "fused"}):
        with pytest.raises(ValueError, match=r"stacked: always needs fp32 moments and path auto or torch"):
            device(stacked="always", **fields)


def test_a_stage_with_nothing_to_stack_asks_no_device_for_room(
    activations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = context(activations, tmp_path / "run", stacked="always")
    train.make(made)
    monkeypatch.setattr(stacks, "largest_stack", lambda *_: pytest.fail("nothing is stale"))
    train.make(made)
