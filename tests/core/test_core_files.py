"""Whole-or-absent writes, manifests that notice, shards that prove themselves."""

from __future__ import annotations

import json

import numpy as np
import pytest

from antar.core.atomic import remove_leftovers, replacing, write_json, write_text
from antar.core.errors import UserError
from antar.core.hashing import sha256_json
from antar.core.manifest import Fingerprint, damaged_files, read_manifest, why_stale, write_manifest
from antar.core.shards import (
    read_rows,
    read_shard,
    shard_about,
    shard_fingerprint,
    shard_is_whole,
    shard_name,
    shard_rows,
    write_shard,
)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "x.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_leftovers_of_a_killed_writer_are_removed(tmp_path):
    (tmp_path / ".tmp-123-x.txt").write_text("half")
    (tmp_path / ".tmp-123-model").mkdir()
    (tmp_path / ".tmp-123-model" / "config.json").write_text("half")
    (tmp_path / "x.txt").write_text("whole")
    assert remove_leftovers(tmp_path) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_json_refuses_nan_and_keeps_devanagari(tmp_path):
    write_json(tmp_path / "a.json", {"अंतर": 1.5})
    assert "अंतर" in (tmp_path / "a.json").read_text(encoding="utf-8")
    with pytest.raises(ValueError):
        write_json(tmp_path / "b.json", {"x": float("nan")})
    assert not (tmp_path / "b.json").exists()


def test_sha256_json_ignores_key_order_only():
    assert sha256_json({"a": 1, "b": [1, 2]}) == sha256_json({"b": [1, 2], "a": 1})
    assert sha256_json({"a": [1, 2]}) != sha256_json({"a": [2, 1]})


@pytest.fixture
def artifact(tmp_path):
    files = [tmp_path / "one.bin", tmp_path / "two.bin"]
    for file in files:
        file.write_bytes(b"0123456789")
    fingerprint = Fingerprint(inputs={"corpus": "abc"}, config={"k": 4, "deep": {"x": 1}}, code="v1")
    write_manifest(tmp_path / "manifest.json", "thing", fingerprint, files, {"n": 2})
    return tmp_path, fingerprint


def test_damage_is_found_and_named(artifact):
    folder, _ = artifact
    path = folder / "manifest.json"
    manifest = read_manifest(path)
    assert damaged_files(path, manifest) == {}
    (folder / "one.bin").write_bytes(b"012345678X")
    (folder / "two.bin").write_bytes(b"0123")
    assert damaged_files(path, manifest) == {"one.bin": "edited", "two.bin": "truncated"}
    (folder / "two.bin").unlink()
    assert damaged_files(path, manifest)["two.bin"] == "missing"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"inputs": {"corpus": "xyz"}}, "corpus changed"),
        ({"inputs": {"corpus": "abc", "model": "m"}}, "model changed"),
        ({"config": {"k": 4, "deep": {"x": 2}}}, "deep.x changed"),
        ({"code": "v2"}, "antar's code changed"),
    ],
)
def test_stale_says_which_input_changed(artifact, change, reason):
    folder, fingerprint = artifact
    manifest = read_manifest(folder / "manifest.json")
    assert why_stale(manifest, fingerprint) is None
    assert why_stale(manifest, fingerprint.model_copy(update=change)) == reason


def test_a_broken_manifest_counts_as_none(tmp_path):
    path = tmp_path / "manifest.json"
    assert read_manifest(path) is None
    path.write_text('{"artifact": "x", "fing')
    assert read_manifest(path) is None
    path.write_text(json.dumps({"artifact": "x"}))
    assert read_manifest(path) is None


def test_shards_prove_themselves(tmp_path):
    path = tmp_path / shard_name(0)
    acts = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_shard(path, {"acts": acts}, "fp")
    assert shard_is_whole(path, "fp")
    assert not shard_is_whole(path, "other")
    np.testing.assert_array_equal(read_shard(path)["acts"], acts)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # one bit of one value
    assert not shard_is_whole(path, "fp")
    path.write_bytes(whole[:-3])
    assert not shard_is_whole(path, "fp")
    with pytest.raises(UserError, match="whole shard"):
        read_shard(path)


def test_rows_come_back_in_order(tmp_path):
    rows = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    for shard, part in enumerate(shard_rows(10, 4)):
        write_shard(tmp_path / shard_name(shard), {"acts": rows[part.start : part.stop]}, "fp")
    np.testing.assert_array_equal(read_rows(tmp_path, ["acts"])["acts"], rows)
    with pytest.raises(UserError, match="found none"):
        read_rows(tmp_path / "nothing", ["acts"])


def test_a_shard_is_whole_only_as_it_was_written_to_the_last_byte(tmp_path):
    """What it says about itself ends in the manifest, so a byte flipped there is damage too."""
    path = tmp_path / shard_name(0)
    write_shard(path, {"acts": np.ones((2, 2), np.float32)}, "f", {"packed": True, "token_budget": 4096})
    assert shard_is_whole(path, "f") and not shard_is_whole(path, "g")
    assert shard_about(path) == {"packed": True, "token_budget": 4096}
    assert shard_fingerprint(path) == "f"
    written = path.read_bytes()
    for before, after in ((b"4096", b"4097"), (b"about", b"abput"), (b"packed", b"packee"), (b"true", b"trve")):
        path.write_bytes(written.replace(before, after, 1))
        assert not shard_is_whole(path, "f"), after
    path.write_bytes(written[:-1] + b"\x01")
    assert not shard_is_whole(path, "f")
