"""DOSA (Seth et al., LREC-COLING 2024): people's clues about social artifacts of Indian subcultures.

Its repository holds a folder for each state with `original_artifacts.csv` and `expanded_artifacts.csv`. Files are
read by their header: some begin with a byte-order mark, and four (both of Bihar and of Punjab) have `clues` before
`artifact`; in all of them the header agrees with the content. A header that does not (artifacts that are mostly
longer than their clues) would be a mislabelled file, and is repaired and noted.

The paper counts 615 artifacts of 19 subcultures. The repository as it lies in the project's data folder has 630
rows in 35 files of 18 states (Delhi has no expanded file); two rows repeat an artifact of the same state, so 628
differ by state and name, and 618 by name alone. What makes the difference to 615 and 19 the files do not say. The
facts count all of this anew from the files that are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from antar.core.errors import UserError
from antar.corpora.config import Dosa
from antar.corpora.records import Opened, Place, RawText
from antar.corpora.rows import Row, read_rows

COLUMNS = {"artifact", "clues"}
PAPER_ARTIFACTS, PAPER_SUBCULTURES = 615, 19
KINDS = ("original", "expanded")


@dataclass(frozen=True)
class _File:
    state: str
    kind: str
    rows: list[dict[str, str]]
    clues_first: bool
    mislabelled: bool


def _root(source: Dosa, place: Place) -> Path:
    if source.folder is not None:
        folder = place.resolve(source.folder)
    elif place.from_folder is not None:
        folder = place.from_folder / "DOSA"
    else:
        raise UserError(
            f"{source.label}: expected `folder`, found none; clone DOSA's repository (microsoft/DOSA on GitHub) and "
            "name the clone in the source"
        )
    if not folder.is_dir():
        raise UserError(f"{source.label}: expected a clone of DOSA's repository, found no folder {folder}")
    return folder / "data" if (folder / "data").is_dir() else folder


def _paths(source: Dosa, place: Place) -> list[Path]:
    root = _root(source, place)
    paths = [path for kind in KINDS for path in root.glob(f"*/{kind}_artifacts.csv")]
    if not paths:
        raise UserError(f"{source.label}: expected STATE/original_artifacts.csv in {root}, found none")
    return sorted(paths)


def inputs(source: Dosa, place: Place) -> dict[str, Path]:
    return {f"{source.label}/{path.parent.name}/{path.name}": path for path in _paths(source, place)}


def open_source(source: Dosa, place: Place) -> Opened:
    files = [_read(path) for path in _paths(source, place)]
    facts = _facts(files)
    notes = [
        f"{source.label}: {facts['rows']} rows in {facts['files']} files of {facts['states']} states here, "
        f"{facts['artifacts_by_state']} artifacts that differ by state and name, {facts['artifacts_by_name']} by "
        f"name alone; the paper reports {PAPER_ARTIFACTS} artifacts of {PAPER_SUBCULTURES} subcultures"
    ]
    if facts["states_with_one_file"]:
        notes.append(f"{source.label}: one file instead of two for {', '.join(facts['states_with_one_file'])}")
    if facts["mislabelled_files"]:
        notes.append(f"{source.label}: swapped headers repaired in {', '.join(facts['mislabelled_files'])}")
    return Opened([text for file in files for text in _raw_texts(source, file)], facts, notes)


def _normal(name: str) -> str:
    return " ".join(name.casefold().split())


def _read(path: Path) -> _File:
    found = list(read_rows(path, "csv"))
    rows = [_cells(row) for row in found]
    mislabelled = len(rows) > 2 and median(len(row["artifact"]) for row in rows) > median(
        len(row["clues"]) for row in rows
    )
    if mislabelled:
        rows = [{"artifact": row["clues"], "clues": row["artifact"]} for row in rows]
    return _File(
        state=path.parent.name,
        kind=path.name.removesuffix("_artifacts.csv"),
        rows=rows,
        clues_first=bool(found)
        and _names(found[0].values).index("clues") < _names(found[0].values).index("artifact"),
        mislabelled=mislabelled,
    )


def _names(values: Mapping[str | int, Any]) -> list[str]:
    return [str(name).strip().casefold() for name in values]


def _cells(row: Row) -> dict[str, str]:
    cells = dict(zip(_names(row.values), (str(value).strip() for value in row.values.values()), strict=True))
    if not cells.keys() >= COLUMNS:
        found = ", ".join(map(str, row.values))
        raise UserError(f"{row.path}: expected the columns artifact and clues, found {found}; is this DOSA's file?")
    return cells


def _raw_texts(source: Dosa, file: _File) -> list[RawText]:
    return [
        RawText(
            text_id=f"{source.label}:{file.state}/{file.kind}/{number}",
            text=row["clues"],
            group=source.group,
            language="en",
            document=f"{source.label}:{file.state}/{_normal(row['artifact'])}",
            facets={"state": file.state, "artifact": row["artifact"]},
            problem=None if row["clues"] else "no clues",
        )
        for number, row in enumerate(file.rows, start=1)
    ]


def _facts(files: list[_File]) -> dict[str, Any]:
    states = sorted({file.state for file in files})
    pairs = {(file.state, _normal(row["artifact"])) for file in files for row in file.rows}
    return {
        "rows": sum(len(file.rows) for file in files),
        "files": len(files),
        "states": len(states),
        "artifacts_by_state": len(pairs),
        "artifacts_by_name": len({artifact for _, artifact in pairs}),
        "states_with_one_file": [s for s in states if sum(file.state == s for file in files) == 1],
        "clues_before_artifact": [f"{file.state}/{file.kind}" for file in files if file.clues_first],
        "mislabelled_files": [f"{file.state}/{file.kind}" for file in files if file.mislabelled],
        "paper": {"artifacts": PAPER_ARTIFACTS, "subcultures": PAPER_SUBCULTURES},
    }
