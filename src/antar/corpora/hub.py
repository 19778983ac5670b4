"""Data sets of the Hugging Face hub, or the same files from a folder that somebody filled by hand.

From the hub, the revision is resolved first with one short request: that records the commit that was read, and
it fails within seconds where there is no network, before the streaming reader begins its long retries. From a
folder, nothing is sent anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from antar.core.errors import UserError
from antar.corpora.config import HubSource
from antar.corpora.records import Place
from antar.corpora.rows import Row, format_of, read_rows

REACH_SECONDS = 10.0


@dataclass(frozen=True)
class Part:
    """One split of a hub data set: its name there, and the file pattern in the repository without its ending."""

    split: str
    pattern: str


def _repo_name(source: HubSource) -> str:
    return source.repo.rsplit("/", 1)[-1]


def layout(source: HubSource, part: Part) -> str:
    """The files to put by hand, e.g. `snli/plain_text/train-*.parquet (or train.jsonl)`."""
    last = part.pattern.rsplit("/", 1)[-1]
    return f"{_repo_name(source)}/{part.pattern}-*.parquet (or {last}.jsonl)"


def local_folder(source: HubSource, place: Place) -> Path | None:
    return place.resolve(source.folder) if source.folder is not None else place.from_folder


def local_files(source: HubSource, place: Place, part: Part) -> list[Path]:
    """The files of `part` in the folder of the source or `--from-folder`; empty when the hub is to be read."""
    folder = local_folder(source, place)
    if folder is None:
        return []
    if not folder.is_dir():
        raise UserError(f"{source.label}: expected a folder with {layout(source, part)}, found no folder {folder}")
    for base in (folder / _repo_name(source), folder / source.repo, folder):
        for ending in ("-*.parquet", ".parquet", "-*.jsonl", ".jsonl"):
            found = sorted(base.glob(part.pattern + ending))
            if found:
                return found
    if source.folder is None and not any((folder / name).is_dir() for name in (_repo_name(source), source.repo)):
        return []  # `--from-folder` may hold some of the repositories; the others are the hub's
    raise UserError(
        f"{source.label}: expected {layout(source, part)} in {folder}, found none; put {source.repo} there"
    )


def resolve_revision(source: HubSource, parts: list[Part]) -> str:
    """The commit sha that the hub serves for the wanted revision. A UserError when the hub cannot be reached."""
    from huggingface_hub import HfApi

    try:
        sha = HfApi().dataset_info(source.repo, revision=source.revision, timeout=REACH_SECONDS).sha
    except Exception as error:  # whatever the client of the day raises, the way out is the same
        raise _unreachable(source, parts, error) from error
    if not sha:
        raise _unreachable(source, parts, ValueError("no commit sha in the answer"))
    return sha


def _unreachable(source: HubSource, parts: list[Part], error: Exception) -> UserError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    wanted = " and ".join(layout(source, part) for part in parts)
    return UserError(
        f"{source.label}: {source.repo} cannot be read from the hub ({reason}); put {wanted} into a folder DIR "
        "and run `antar corpus STUDY --from-folder DIR`, or set `folder: DIR` in its source"
    )


def stream(source: HubSource, part: Part, sha: str) -> Iterator[Row]:
    """The rows of `part` at commit `sha`, streamed whole: its beginning is no sample of it."""
    import datasets

    try:
        rows: Any = datasets.load_dataset(source.repo, source.config, split=part.split, revision=sha, streaming=True)
        for number, values in enumerate(rows, start=1):
            yield Row(values, Path(f"{source.repo}/{part.split}"), number, number)
    except UserError:
        raise
    except Exception as error:
        raise _unreachable(source, [part], error) from error


def read_parts(source: HubSource, place: Place, parts: list[Part]) -> tuple[dict[str, Iterator[Row]], dict[str, Any]]:
    """({split: rows}, facts). The facts say the repository, the revision, and the folder or the hub."""
    facts: dict[str, Any] = {"repo": source.repo, "config": source.config}
    found = {part.split: local_files(source, place, part) for part in parts}
    lacking = [part for part in parts if not found[part.split]]
    if lacking and len(lacking) < len(parts):
        raise UserError(f"{source.label}: expected {layout(source, lacking[0])} beside the files that are there")
    if not lacking:
        facts |= {"from": "folder", "revision": source.revision}
        return {split: _file_rows(paths) for split, paths in found.items()}, facts
    sha = resolve_revision(source, parts)
    facts |= {"from": "hub", "revision": sha}
    return {part.split: stream(source, part, sha) for part in parts}, facts


def _file_rows(paths: list[Path]) -> Iterator[Row]:
    for path in paths:
        yield from read_rows(path, format_of(path))


def hub_inputs(source: HubSource, place: Place, parts: list[Part]) -> dict[str, Path]:
    paths = [path for part in parts for path in local_files(source, place, part)]
    folder = local_folder(source, place)
    return {f"{source.label}/{path.relative_to(folder or path.parent).as_posix()}": path for path in paths}
