"""What comes from others: truncated, mislabelled, of the wrong width, a pickle, or leading out of its folder."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from antar.core.errors import UserError
from antar.core.hashing import sha256_file
from antar.core.manifest import FileEntry, Manifest
from antar.share.parcel import SHARE_NAME
from antar.share.pull import pull_run
from antar.share.push import Push, push_run

WEIGHTS = "sae_weights.safetensors"


@pytest.fixture(scope="module")
def pushed(fake, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pushed") / "one"
    push_run(fake, str(folder), Push(dictionary="base.layer01"))
    return folder


def resigned(folder: Path, *, add: tuple[str, ...] = (), rename: dict[str, str] | None = None) -> None:
    """What somebody does who wants it to look right: the manifest made again over the files as they are."""
    path = folder / SHARE_NAME
    manifest = Manifest.model_validate_json(path.read_bytes())
    entries = {
        (rename or {}).get(name, name): FileEntry(sha256=sha256_file(file), bytes=file.stat().st_size)
        for name in [*manifest.files, *add]
        for file in [folder / name]
    }
    path.write_text(manifest.model_copy(update={"files": entries}).sealed().model_dump_json(), encoding="utf-8")


def truncated(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])


def truncated_and_signed(folder: Path) -> None:
    truncated(folder)
    resigned(folder)


def edited(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS).write_bytes(data)


def lost(folder: Path) -> None:
    (folder / "metrics.json").unlink()


def a_pickle_by_another_name(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(pickle.dumps({"W_dec": [1.0]}))
    resigned(folder)


def a_pickle_beside(folder: Path) -> None:
    (folder / "weights.pt").write_bytes(pickle.dumps({}))


def a_pickle_that_is_named(folder: Path) -> None:
    (folder / "state.bin").write_bytes(pickle.dumps({}))
    resigned(folder, add=("state.bin",))


def wrong_width(folder: Path) -> None:
    cfg = json.loads((folder / "cfg.json").read_bytes())
    (folder / "cfg.json").write_text(json.dumps(cfg | {"d_model": 17}), encoding="utf-8")
    resigned(folder)


def wrong_tensors(folder: Path) -> None:
    save_file({"W": np.zeros((3, 3), np.float32)}, folder / WEIGHTS)
    resigned(folder)


def mislabelled_table(folder: Path) -> None:
    (folder / "features.parquet").write_bytes(b"feature,label\n1,2\n")
    resigned(folder)


def mislabelled_json(folder: Path) -> None:
    (folder / "metrics.json").write_bytes(b"\x93NUMPY")
    resigned(folder)


def a_damaged_manifest(folder: Path) -> None:
    text = (folder / SHARE_NAME).read_text(encoding="utf-8")
    (folder / SHARE_NAME).write_text(text.replace('"bytes": ', '"bytes": 1', 1), encoding="utf-8")


def out_of_the_folder(folder: Path) -> None:
    (folder.parent / "outside.json").write_text("{}")
    resigned(folder, add=("../outside.json",))


def hidden(folder: Path) -> None:
    (folder / ".ssh").mkdir()
    (folder / ".ssh/config.json").write_text("{}")
    resigned(folder, add=(".ssh/config.json",))


def absolute(folder: Path) -> None:
    resigned(folder, rename={"metrics.json": "/tmp/metrics.json"})


def a_page(folder: Path) -> None:
    (folder / "index.html").write_text("<script>alert(1)</script>")
    resigned(folder, add=("index.html",))


def a_link(folder: Path) -> None:
    (folder / "metrics.json").unlink()
    (folder / "metrics.json").symlink_to("/etc/hostname")


def nothing_of_antar(folder: Path) -> None:
    (folder / SHARE_NAME).unlink()


BAD = {
    truncated: "found it truncated",
    truncated_and_signed: "expected safetensors, found something else",
    edited: "found it edited",
    lost: "found it missing",
    a_pickle_by_another_name: "expected safetensors, found something else",
    a_pickle_beside: "found weights.pt, which can run code",
    a_pickle_that_is_named: "found state.bin, which can run code",
    wrong_width: "expected",
    wrong_tensors: "expected",
    mislabelled_table: "expected parquet, found something else",
    mislabelled_json: "expected json, found something else",
    a_damaged_manifest: "expected a whole manifest, found a damaged one",
    out_of_the_folder: "expected plain names of files below it",
    hidden: "expected plain names of files below it",
    absolute: "expected plain names of files below it",
    a_page: "only, found index.html",
    a_link: "expected a file, found a link",
    nothing_of_antar: f"found no {SHARE_NAME}",
}


@pytest.mark.parametrize("harm", BAD, ids=lambda one: one.__name__)
def test_a_bad_folder_is_refused_in_one_line_and_leaves_nothing(pushed, tmp_path, harm):
    bad = tmp_path / "bad" / "one"
    shutil.copytree(pushed, bad)
    harm(bad)
    with pytest.raises(UserError) as error:
        pull_run(str(bad), tmp_path / "x")
    assert BAD[harm] in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "x").exists() and sorted(path.name for path in tmp_path.iterdir()) == ["bad"]


def test_a_good_folder_comes_whole(pushed, tmp_path):
    pull_run(str(pushed), tmp_path / "x")
    for path in pushed.rglob("*"):
        if path.is_file():
            assert (tmp_path / "x" / path.relative_to(pushed)).read_bytes() == path.read_bytes()
    with pytest.raises(UserError, match="new or empty folder"):
        pull_run(str(pushed), tmp_path / "x")
