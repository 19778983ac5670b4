"""Files that are not as they were written: cut short, a bit flipped, a manifest of something else."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from nursery import STAGES
from survival import STUDY, assert_equal, copy_before, write_study

EVERY_KIND = [
    "organism/base/model.safetensors",
    "organism/chat/tokenizer.json",
    "organism/base/organism.json",
    "organism/texts.jsonl",
    "organism/truth.json",
    "organism/manifest.json",
    "corpus/texts.parquet",
    "corpus/manifest.json",
    "activations/tokens/00001.safetensors",
    "activations/tokens/manifest.json",
    "activations/chat.layer01/00000.safetensors",
    "activations/base.layer01/manifest.json",
    "dictionaries/base.layer01/sae_weights.safetensors",
    "dictionaries/base.layer01/cfg.json",
    "dictionaries/delta.layer01/metrics.json",
    "dictionaries/base.layer01.seed1/history.parquet",
    "dictionaries/chat.layer01/manifest.json",
    "codes/base.layer01@chat/00000.safetensors",
    "codes/base.layer01@chat/manifest.json",
    "features/features.parquet",
    "features/examples.parquet",
    "features/geometry.json",
    "interpret/labels.jsonl",
    "interpret/verdicts.jsonl",
    "interpret/predictions.jsonl",
    "interpret/manifest.json",
    "features/contrasts.parquet",
    "criteria.json",
    "truth_report.json",
    "criteria.manifest.json",
    "report/index.html",
]


def flip(path: Path, rng: random.Random, first: int = 0) -> None:
    """One bit of one byte, from the byte `first` on."""
    data = bytearray(path.read_bytes())
    data[rng.randrange(first, len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def cut(path: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])


def found_and_mended(name, nursery, whole, folder):
    run = folder / "runs" / "kill"
    done = nursery.run("run", "kill.yaml", cwd=folder)
    assert done.code == 0, done.log
    told = [line for line in done.log.splitlines() if line.startswith("  ") and Path(name).name in line]
    assert any(word in line for line in told for word in ("edited", "truncated", "damaged")), done.log
    assert_equal(run, whole)


def a_copy(whole: Path, folder: Path) -> Path:
    write_study(folder)
    return Path(shutil.copytree(whole, folder / "runs" / "kill", dirs_exist_ok=True))


@pytest.mark.kill
@pytest.mark.parametrize("name", EVERY_KIND)
def test_a_flipped_byte(name, nursery, whole, ledger, tmp_path):
    run = a_copy(whole, tmp_path)
    flip(run / name, random.Random(f"flip {name}"))
    with ledger.trial("byte flipped", name):
        found_and_mended(name, nursery, whole, tmp_path)


@pytest.mark.kill
@pytest.mark.parametrize("name", EVERY_KIND)
def test_a_file_cut_short(name, nursery, whole, ledger, tmp_path):
    run = a_copy(whole, tmp_path)
    cut(run / name, random.Random(f"cut {name}"))
    with ledger.trial("file cut short", name):
        found_and_mended(name, nursery, whole, tmp_path)


@pytest.mark.kill
@pytest.mark.parametrize("harm", [flip, cut])
def test_a_damaged_lock_file_is_refused(harm, nursery, whole, ledger, tmp_path):
    lock = a_copy(whole, tmp_path) / "study.lock.json"
    harm(lock, random.Random("lock"))
    with ledger.trial("byte flipped" if harm is flip else "file cut short", lock.name):
        ended = nursery.run("run", "kill.yaml", cwd=tmp_path)
        assert ended.code == 2 and len(ended.lines) == 1 and "found it damaged" in ended.lines[0], ended.log
        lock.unlink()
        done = nursery.run("run", "kill.yaml", cwd=tmp_path)
        assert done.code == 0, done.log
        assert_equal(lock.parent, whole)


UNSEALED = {
    "organism": ("chat", 1, "organism/base/model.safetensors", "is edited"),
    "extract": ("00002", 1, "activations/tokens/00001.safetensors", ""),
    "train": ("/checkpoint/", 8, "dictionaries/*/checkpoint/training.safetensors", "is damaged"),
    "features": ("00000.safetensors", 8, "codes/*/00000.safetensors", ""),
    "interpret": ("predictions.jsonl", 1, "interpret/labels.jsonl", "damaged lines are made again"),
}
"""Stage → what it is killed at (the n-th change to such a file), what is then flipped, and what is said of it."""


@pytest.mark.kill
@pytest.mark.parametrize("stage", UNSEALED)
def test_a_flipped_byte_in_what_a_killed_run_left(stage, nursery, whole, ledger, tmp_path):
    flipped_after_a_kill(stage, nursery, whole, ledger, tmp_path)


def flipped_after_a_kill(stage, nursery, whole, ledger, folder):
    among, number, pattern, told = UNSEALED[stage]
    write_study(folder)
    run, command = folder / "runs" / "kill", ("run", "kill.yaml", "--until", stage)
    copy_before(whole, run, stage)
    killed = nursery.run(*command, cwd=folder, kill_at=(stage, number, among))
    assert killed.code == -9, killed.log
    victim = next(path for path in sorted(run.glob(pattern)) if not (path.parent / "manifest.json").exists())
    size = victim.stat().st_size
    flip(victim, random.Random(f"unsealed {stage}"), first=0 if stage == "interpret" else size // 2)
    with ledger.trial("byte flipped in a killed run", stage):
        done = nursery.run(*command, cwd=folder)
        assert done.code == 0, done.log
        assert told in done.log
        assert_equal(run, whole, until=stage)


@pytest.mark.kill
def test_a_shard_over_its_sibling_in_what_a_killed_run_left(nursery, whole, ledger, tmp_path):
    write_study(tmp_path)
    run, command = tmp_path / "runs" / "kill", ("run", "kill.yaml", "--until", "extract")
    copy_before(whole, run, "extract")
    killed = nursery.run(*command, cwd=tmp_path, kill_at=("extract", 1, "chat.layer01/.tmp"))
    assert killed.code == -9, killed.log
    first, second = (run / f"activations/base.layer01/0000{n}.safetensors" for n in (0, 1))
    assert first.is_file() and not first.with_name("manifest.json").exists()
    shutil.copyfile(first, second)
    with ledger.trial("manifest of another", "a sibling's shard"):
        done = nursery.run(*command, cwd=tmp_path)
        assert done.code == 0, done.log
        assert_equal(run, whole, until="extract")


@pytest.mark.kill
def test_manifests_of_another_study(nursery, whole, ledger, tmp_path):
    other = tmp_path / "other"
    write_study(other).write_text(STUDY.replace("seed: 3", "seed: 4"), encoding="utf-8")
    made = nursery.run("run", "kill.yaml", "--until", "interpret", cwd=other)
    assert made.code == 0, made.log
    run = a_copy(whole, tmp_path)
    foreign = [path.relative_to(other / "runs/kill") for path in (other / "runs/kill").rglob("manifest.json")]
    for name in foreign:
        shutil.copyfile(other / "runs/kill" / name, run / name)
    with ledger.trial("manifest of another", "another study's", times=len(foreign)):
        done = nursery.run("run", "kill.yaml", cwd=tmp_path)
        assert done.code == 0, done.log
        assert "changed" in done.log
        assert_equal(run, whole)


SIBLINGS = [
    ("activations/base.layer01", "activations/chat.layer01"),
    ("dictionaries/base.layer01", "dictionaries/chat.layer01"),
    ("dictionaries/base.layer01", "dictionaries/base.layer01.seed1"),
    ("codes/base.layer01@base", "codes/base.layer01@chat"),
    ("corpus", "interpret"),
    ("interpret", "features"),
    ("activations/base.layer01", "activations/tokens"),
]


@pytest.mark.kill
def test_manifests_of_siblings(nursery, whole, ledger, tmp_path):
    run = a_copy(whole, tmp_path)
    for source, target in SIBLINGS:
        shutil.copyfile(whole / source / "manifest.json", run / target / "manifest.json")
    with ledger.trial("manifest of another", "a sibling's", times=len(SIBLINGS)):
        done = nursery.run("run", "kill.yaml", cwd=tmp_path)
        assert done.code == 0, done.log
        assert done.log.count("manifest.json is that of ") == len(SIBLINGS), done.log
        assert_equal(run, whole)


def test_the_study_has_every_kind_of_file(whole):
    """The lists above are of files that are there."""
    assert [name for name in EVERY_KIND if not (whole / name).is_file()] == []
    assert set(UNSEALED) < set(STAGES)
