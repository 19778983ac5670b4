"""`antar pull`: what `antar push` put on the hub or into a folder, of one commit, whole and as it was sent.

Everything that comes is untrusted. Names are looked at before anything is fetched; only kinds of files that cannot
run code are; each must have the checksum that the manifest says, and be what its name says; dictionaries are opened.
What is wrong is one line, and the folder is then not there. What was fetched so far stays beside it, so that a pull
that was cut off goes on.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl
import yaml

from antar.core.atomic import write_json
from antar.core.errors import UserError
from antar.core.manifest import Manifest, damaged_files, read_manifest
from antar.core.progress import say
from antar.dictionaries import load_dictionary
from antar.dictionaries.saelens import read_saelens
from antar.share.hub import COMMIT, TIMEOUT_SECONDS, Repository, api, place_of, told_in_one_line
from antar.share.parcel import CARD, KINDS, RUNS_CODE, SHARE_NAME
from antar.share.place import new_folder
from antar.stages.export import refuse_taken

PULLED_NAME = "antar-pulled.json"
_NAME = re.compile(r"[\w.@+-]+(?:/[\w.@+-]+)*")


def pull_run(source: str, to: Path, dataset: bool = False) -> str:
    """Pull; returns the line that says what came from where. Raises UserError for anything that is not as it should
    be; then `to` does not exist."""
    to = to.resolve()
    refuse_taken(to, "--to")  # before anything is fetched
    place = place_of(source, "pull", "dataset" if dataset else "model")
    if isinstance(place, Path):
        manifest = _checked(place)
        pulled: dict[str, Any] = {"from": "a folder", "revision": None}
        with new_folder(to, "--to") as folder:
            _copy(place, folder, [*manifest.files, SHARE_NAME, CARD])
            _finish(folder, manifest, pulled)
        return f"pulled {manifest.artifact} from {source} to {to}"
    commit = _commit(place)
    staging = to.parent / f".antar-pull-{commit[:12]}-{to.name}"
    with told_in_one_line(place, "pull from"):
        _fetch(place, commit, staging)
    try:
        manifest = _checked(staging)
        with new_folder(to, "--to") as folder:
            _copy(staging, folder, [*manifest.files, SHARE_NAME, CARD], move=True)
            pulled = {"from": place.name, "kind": place.kind, "asked": place.revision or "main", "revision": commit}
            _finish(folder, manifest, pulled)
    finally:
        shutil.rmtree(staging, ignore_errors=True)  # fetched whole: wrong as it is, or in its place by now
    return f"pulled {manifest.artifact} from {place}@{commit} to {to}"


def _commit(place: Repository) -> str:
    """The commit that is pulled, said where what was asked for may be another tomorrow."""
    if place.revision is not None and COMMIT.fullmatch(place.revision):
        return place.revision
    with told_in_one_line(place, "pull from"):
        found = api().repo_info(place.name, revision=place.revision, repo_type=place.kind, timeout=TIMEOUT_SECONDS)
        commit = str(found.sha)
    if not COMMIT.fullmatch(commit):
        raise UserError(f"pull from {place}: expected a commit of 40 hex digits, found {commit[:60]!r}")
    say(f"  {place.revision or 'main'} is {commit} today; {place}@{commit} pulls the same again")
    return commit


def _fetch(place: Repository, commit: str, staging: Path) -> None:
    from huggingface_hub import hf_hub_download, snapshot_download

    names = api().list_repo_files(place.name, revision=commit, repo_type=place.kind)
    refuse_code(names, f"{place}@{commit[:12]}")
    if SHARE_NAME not in names:
        raise _not_shared(str(place))
    hf_hub_download(place.name, SHARE_NAME, revision=commit, repo_type=place.kind, local_dir=staging)
    manifest = _read(staging)
    if lacking := sorted(set(manifest.files) - set(names)):
        raise UserError(f"{place}: expected {lacking[0]}, which its {SHARE_NAME} names, found no such file in it")
    if extra := sorted(set(names) - set(manifest.files) - {SHARE_NAME, CARD, ".gitattributes"}):
        say(f"  left there, since {SHARE_NAME} does not name it: {', '.join(extra[:6])}")
    snapshot_download(
        place.name,
        revision=commit,
        repo_type=place.kind,
        local_dir=staging,
        allow_patterns=[*manifest.files, SHARE_NAME, CARD],
    )


def refuse_code(names: Iterable[str], where: str) -> None:
    """Raises UserError where one of `names` is of a kind that can run code when it is opened."""
    found = next((name for name in sorted(names) if PurePosixPath(name).suffix.lower() in RUNS_CODE), None)
    if found:
        raise UserError(
            f"{where}: expected safetensors, parquet and JSON only, found {found}, which can run code when it is "
            "opened; nothing was fetched"
        )


def _not_shared(where: str) -> UserError:
    return UserError(
        f"{where}: expected what `antar push` wrote, found no {SHARE_NAME}; a SAELens folder that you have "
        "fetched is read with `antar import`"
    )


def _read(folder: Path) -> Manifest:
    """The manifest in `folder`, none of whose names leads out of it or is of an unknown kind."""
    path = folder / SHARE_NAME
    if not path.is_file():
        raise _not_shared(str(folder))
    manifest = read_manifest(path)
    if manifest is None:
        raise UserError(f"{path}: expected a whole manifest, found a damaged one; have it pushed again")
    for name in manifest.files:
        parts = PurePosixPath(name).parts
        if not _NAME.fullmatch(name) or any(part.startswith(".") for part in parts):
            raise UserError(f"{path}: expected plain names of files below it, found {name!r}; it is not antar's")
        if PurePosixPath(name).suffix not in KINDS:
            raise UserError(f"{path}: expected {', '.join(sorted(KINDS))} only, found {name}; it is not antar's")
    return manifest


def _checked(folder: Path) -> Manifest:
    """The manifest of `folder`, whose files are all as it says and what they are called."""
    if not folder.is_dir():
        raise UserError(f"{folder}: expected a folder that `antar push` wrote, found none")
    links = [path for path in folder.rglob("*") if path.is_symlink()]
    if links:
        raise UserError(f"{links[0]}: expected a file, found a link; have it pushed again")
    refuse_code((path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()), str(folder))
    manifest = _read(folder)
    if problems := damaged_files(folder / SHARE_NAME, manifest):
        name, what = next(iter(problems.items()))
        raise UserError(f"{folder / name}: expected the file that was pushed, found it {what}; pull it again")
    for name in manifest.files:
        _is_what_it_is_called(folder / name)
    for name in manifest.files:
        if PurePosixPath(name).name == "cfg.json":
            place = (folder / name).parent
            (read_saelens if place.name == "saelens" else load_dictionary)(place)
    return manifest


def _is_what_it_is_called(path: Path) -> None:
    """Raises UserError where a file's content is of another kind than its name."""
    from safetensors import SafetensorError, safe_open

    kind = path.suffix[1:]
    try:
        if kind == "safetensors":
            with safe_open(path, framework="numpy") as handle:
                handle.keys()
        elif kind == "parquet":
            pl.read_parquet_schema(path)
        elif kind == "json":
            json.loads(path.read_bytes())
        elif kind == "yaml":
            yaml.safe_load(path.read_bytes())
        else:
            path.read_bytes().decode("utf-8")
    except (SafetensorError, pl.exceptions.PolarsError, ValueError, yaml.YAMLError) as error:
        raise UserError(
            f"{path}: expected {kind}, found something else ({' '.join(str(error).split())[:100]}); it is not antar's"
        ) from error


def _copy(source: Path, folder: Path, names: Iterable[str], move: bool = False) -> None:
    for name in names:
        if (source / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (shutil.move if move else shutil.copyfile)(source / name, folder / name)


def _finish(folder: Path, manifest: Manifest, pulled: dict[str, Any]) -> None:
    if left := damaged_files(folder / SHARE_NAME, manifest):
        raise UserError(
            f"{folder}: expected every file as it was pushed, found {next(iter(left))} changed; try again"
        )
    write_json(folder / PULLED_NAME, pulled)
