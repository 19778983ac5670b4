"""What must not leave a machine: paths are shortened, keys are refused, and what is neither stays as it was."""

from __future__ import annotations

import json

import pytest
import yaml
from runs import shared_run

from antar.core.errors import UserError
from antar.core.lines import read_line, sealed_line
from antar.core.manifest import Fingerprint, read_manifest, write_manifest
from antar.run import load_run
from antar.share.cleaning import cleaned, refuse_keys, without_paths
from antar.share.contents import Ask, run_parcel
from antar.share.parcel import Parcel


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/home/me/models/base", "…/base"),
        ("/scratch/x/y.parquet", "…/y.parquet"),
        ("~/models/base", "…/base"),
        ("C:\\Users\\me\\x.json", "…/x.json"),
        ("\\\\server\\share\\x", "…/x"),
        ("file:///home/me/x", "…/x"),
        ("read from /home/me/data/t.csv, 3 rows", "read from …/t.csv, 3 rows"),
        ("Qwen/Qwen1.5-1.8B", "Qwen/Qwen1.5-1.8B"),
        ("and/or, 3/4, https://example.org/home/x", "and/or, 3/4, https://example.org/home/x"),
        ("organism/texts.jsonl", "organism/texts.jsonl"),
        ("/", "/"),
        ("क/ख, हाँ/नहीं", "क/ख, हाँ/नहीं"),
    ],
)
def test_paths_are_shortened_and_nothing_else(text, left):
    assert without_paths({"a": [text, 3, None]}) == {"a": [left, 3, None]}


def test_a_file_without_paths_keeps_its_bytes():
    files = {"a.json": b'{"b":  1, "a": [1.0]}', "a.yaml": b"b: 1 # a remark\na: 2\n", "a.jsonl": b'{"a": 1}\n'}
    for name, data in files.items():
        assert cleaned(name, data) == data


def test_what_was_sealed_is_sealed_again(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"x")
    made_of = Fingerprint(inputs={"/home/me/x/y": "0"})
    write_manifest(tmp_path / "manifest.json", "x", made_of, [tmp_path / "x.bin"], {"model": "/home/me/m"})
    (tmp_path / "manifest.json").write_bytes(cleaned("manifest.json", (tmp_path / "manifest.json").read_bytes()))
    manifest = read_manifest(tmp_path / "manifest.json")
    assert manifest and manifest.facts == {"model": "…/m"} and manifest.fingerprint.inputs == {"…/y": "0"}
    line = sealed_line({"label": "/home/me/is a text", "labeller": "/home/me/m.gguf"})
    assert read_line(cleaned("labels.jsonl", line)) == {"label": "/home/me/is a text", "labeller": "…/m.gguf"}
    study = yaml.safe_load(
        cleaned("study.yaml", yaml.safe_dump({"models": {"base": {"path": "/home/me/b"}}}).encode())
    )
    assert study == {"models": {"base": {"path": "…/b"}}}


@pytest.mark.parametrize(
    "secret",
    ["hf_" + "aB3" * 12, "sk-proj-" + "x1Y2" * 8, "ghp_" + "q" * 36, "AKIA" + "ABCD1234" * 2,
     "xoxb-1234567890-abcdef", "-----BEGIN OPENSSH PRIVATE KEY-----"],
)  # fmt: skip
def test_a_key_is_refused_and_not_repeated(tmp_path, secret):
    run = shared_run(tmp_path / "run")
    study = yaml.safe_load((run / "study.yaml").read_text("utf-8"))
    study["interpret"]["labeller"] |= {"headers": {"authorization": f"Bearer {secret}"}}
    (run / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    with pytest.raises(UserError, match=r"study.yaml: expected no secrets, found") as error:
        run_parcel(load_run(run), Ask())
    assert secret not in str(error.value)


def test_what_the_environment_keeps_secret_is_refused(monkeypatch):
    monkeypatch.setenv("MY_SERVERS_PASSWORD", "correct horse battery")
    with pytest.raises(UserError, match=r"found what \$MY_SERVERS_PASSWORD holds"):
        refuse_keys("a.json", b'{"x": "correct horse battery"}')
    refuse_keys("a.json", b'{"x": "correct horse"}')


def test_a_broken_file_is_one_line(tmp_path):
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(UserError, match=r"metrics.json: expected JSON, found .*; run the study again"):
        Parcel("run", "x", {}).add("metrics.json", tmp_path / "metrics.json")


def test_a_lock_file_without_its_folder_is_whole(fake):
    from antar.stages.context import read_lock

    parcel = run_parcel(load_run(fake), Ask())
    source = parcel.files["study.lock.json"]
    assert isinstance(source, bytes) and json.loads(source)["from_folder"] == "…/hub"
    place = fake.parent / "lock"
    place.mkdir()
    (place / "study.lock.json").write_bytes(source)
    assert read_lock(place)["revisions"] == {"Qwen/Qwen1.5-1.8B@main": "7" * 40}
