"""Artifacts: skipped when fresh, redone when not, resumed shard by shard, and said aloud."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from antar.core.errors import UserError
from antar.core.manifest import Fingerprint, read_manifest
from antar.core.shards import read_rows, shard_name, shard_paths, write_shard
from antar.engines import InlineEngine
from antar.stages.artifact import Artifact, Sharded, ensure_all, ensure_files


class Numbers:
    """A sharded artifact of known rows that counts how often each shard is made, and can die at one."""

    def __init__(self, folder, code="v1", die_at=None):
        self.artifact = Artifact("numbers", folder, Fingerprint(inputs={"corpus": "c"}, code=code))
        self.made, self.die_at = [], die_at

    def task(self, shard):
        if shard == self.die_at:
            raise KeyboardInterrupt
        self.made.append(shard)
        rows = np.full((2, 3), shard, np.float32)
        write_shard(self.artifact.folder / shard_name(shard), {"acts": rows}, self.artifact.fingerprint.sha256)

    def ensure(self, n=4):
        ((made,),) = ensure_all([Sharded("shards", [self.artifact], n, lambda: self.task)], InlineEngine())
        return made


def test_a_resumed_artifact_equals_an_uninterrupted_one(tmp_path):
    whole = Numbers(tmp_path / "a").ensure()
    dying = Numbers(tmp_path / "b", die_at=2)
    with pytest.raises(KeyboardInterrupt):
        dying.ensure()
    assert read_manifest(dying.artifact.manifest_path) is None
    again = Numbers(tmp_path / "b")
    assert again.ensure().content == whole.content
    assert again.made == [2, 3]


def test_fresh_is_skipped_and_stale_is_redone(tmp_path, capsys):
    Numbers(tmp_path).ensure()
    same = Numbers(tmp_path)
    same.ensure()
    assert same.made == []
    assert capsys.readouterr().err == ""
    newer = Numbers(tmp_path, code="v2")
    newer.ensure()
    assert newer.made == [0, 1, 2, 3]
    assert "antar's code changed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "truncated"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x01"), "edited"),
    ],
)
def test_a_damaged_shard_is_named_and_only_it_is_redone(tmp_path, capsys, damage, word):
    before = Numbers(tmp_path).ensure()
    damage(tmp_path / shard_name(1))
    again = Numbers(tmp_path)
    assert again.ensure() == before
    assert again.made == [1]
    assert f"numbers/00001.safetensors: {word}" in capsys.readouterr().err
    np.testing.assert_array_equal(read_rows(tmp_path, ["acts"])["acts"][:, 0], [0, 0, 1, 1, 2, 2, 3, 3])


def test_shards_of_a_longer_past_are_removed(tmp_path):
    Numbers(tmp_path).ensure(n=4)
    shorter = Numbers(tmp_path, code="v2")
    manifest = shorter.ensure(n=2)
    assert list(manifest.files) == [shard_name(0), shard_name(1)]
    assert not (tmp_path / shard_name(3)).exists()


def test_facts_are_those_of_its_own_shards(tmp_path):
    """Also where a longer past left shards, and where another machine's new ones are seen late."""
    Numbers(tmp_path).ensure(n=4)
    late = tmp_path.with_name("late")

    class Elsewhere(InlineEngine):
        local = False

        def map(self, jobs, needs=None):
            super().map(jobs)
            (tmp_path / shard_name(0)).rename(late)
            threading.Timer(0.2, late.rename, [tmp_path / shard_name(0)]).start()

    shorter = Numbers(tmp_path, code="v2")

    def facts(artifact):
        return {"shards": [path.stem for path in shard_paths(artifact.folder)]}

    work = Sharded("shards", [shorter.artifact], 2, lambda: shorter.task, facts)
    ((manifest,),) = ensure_all([work], Elsewhere())
    assert manifest.facts == {"shards": ["00000", "00001"]}


def test_a_shard_that_another_put_in_the_place_of_one_is_not_sealed(tmp_path):
    """A worker that outlived its killed driver may still write, for the study as it was then."""
    older, newer = Numbers(tmp_path, code="v1"), Numbers(tmp_path, code="v2")

    class Meanwhile(InlineEngine):
        def map(self, jobs, needs=None):
            super().map(jobs)
            older.task(1)

    work = Sharded("shards", [newer.artifact], 3, lambda: newer.task)
    with pytest.raises(UserError, match=r"00001\.safetensors: expected the shard that was made now, found another's"):
        ensure_all([work], Meanwhile())
    assert read_manifest(newer.artifact.manifest_path) is None
    newer.ensure(n=3)
    assert newer.made == [0, 1, 2, 1]


def test_files_are_made_once_and_a_failed_make_leaves_no_manifest(tmp_path):
    artifact = Artifact("thing", tmp_path, Fingerprint(code="v1"))
    calls = []

    def make():
        calls.append(1)
        (tmp_path / "x").write_text("x")
        return [tmp_path / "x"], {"n": 1}

    first = ensure_files(artifact, make)
    assert ensure_files(artifact, make) == first
    assert len(calls) == 1

    def fail():
        raise RuntimeError

    with pytest.raises(RuntimeError):
        ensure_files(Artifact("thing", tmp_path, Fingerprint(code="v2")), fail)
    assert read_manifest(artifact.manifest_path) is None
