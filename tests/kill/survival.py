"""What the tests of survival share: a small study with every stage, and how two run folders are compared."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from nursery import STAGES
from saboteur import stage_of

from micro import MICRO

STUDY = (
    MICRO.replace("study: micro", "study: kill")
    .replace("shams: [a, b]", "shams: [a]")
    .replace("layers: [0, 1]", "layers: [1]")
    .replace("facets: [concept], permutations: 50, facet_permutations: 20", "permutations: 20")
    .replace("preset: antar,", "preset: antar, baselines: [pca],")
    .replace("features_per_site: 10", "features_per_site: 4")
)
NOT_COMPARED = {".lock", "study.lock.json"}
TEMPORARY = ".tmp"


def write_study(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "kill.yaml"
    path.write_text(STUDY, encoding="utf-8")
    return path


def files_of(run: Path) -> dict[str, Path]:
    """Name in the run folder → path."""
    return {
        path.relative_to(run).as_posix(): path
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name not in NOT_COMPARED
    }


def checksums(run: Path) -> dict[str, str]:
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files_of(run).items()}


def folders_of(run: Path) -> set[str]:
    return {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_dir()}


def up_to(stage: str, name: str, *, inclusive: bool) -> bool:
    """Whether the file `name` is of a stage before `stage` (or of it)."""
    of = stage_of(name)
    return of is None or STAGES.index(of) < STAGES.index(stage) + inclusive


def copy_before(whole: Path, run: Path, stage: str) -> None:
    """Make `run` the run folder of a study that ended before `stage`."""
    shutil.rmtree(run, ignore_errors=True)
    for path in whole.rglob("*"):
        name = path.relative_to(whole).as_posix()
        if path.is_file() and path.name != ".lock" and up_to(stage, name, inclusive=False):
            (run / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, run / name)


def assert_equal(run: Path, whole: Path, until: str | None = None) -> None:
    """Every file of `run` has the bits of `whole`'s, and none is there on one side only (up to the stage `until`)."""
    found, wanted = checksums(run), checksums(whole)
    if until is not None:
        wanted = {name: bits for name, bits in wanted.items() if up_to(until, name, inclusive=True)}
    assert sorted(found.keys() ^ wanted.keys()) == []  # by name first: which file is there on one side only?
    assert [name for name in found if found[name] != wanted[name]] == []
    if until is None:
        assert sorted(folders_of(run) ^ folders_of(whole)) == []


def assert_nothing_half_written(run: Path, whole: Path) -> None:
    """After a fault: whatever has a final name is whole, and is what the undisturbed run has under it.

    Records are appended, so theirs may be fewer and one torn; a training's checkpoint is no result.
    """
    wanted = files_of(whole)
    for name, path in files_of(run).items():
        if TEMPORARY in name or "/checkpoint/" in name:
            continue
        assert name in wanted, f"{name} is no file of this study"
        if path.suffix == ".jsonl" and name.startswith("interpret/"):
            lines = set(wanted[name].read_bytes().split(b"\n"))
            assert set(path.read_bytes().split(b"\n")[:-1]) <= lines, name
        else:
            assert path.read_bytes() == wanted[name].read_bytes(), f"{name} is not as the undisturbed run has it"


def profile(out: Path) -> dict[str, tuple[int, float]]:
    """Stage → how many changes it makes, and its CPU seconds, from what the saboteur's `watch` wrote."""
    found: dict[str, tuple[int, float]] = {}
    ended = 0.0
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    for stage in STAGES:
        times = [cpu for of, cpu in rows if of == stage]
        found[stage] = (len(times), max(times) - ended)
        ended = max(times)
    return found
