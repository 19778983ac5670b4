"""`antar export`: one command, a format each for those who read it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from antar.core.errors import UserError
from antar.core.sites import DictionaryId
from antar.run import Run, load_run
from antar.share.place import new_folder
from antar.stages.export import FORMATS as TOOLS
from antar.stages.export import export_run as export_for_tools
from antar.stages.export import refuse_inside

SHARED = ("neuronpedia", "datasets", "tables")
FORMATS = (*TOOLS, *SHARED)
_TAKEN_BY = {
    "--dictionary": (*TOOLS, "neuronpedia", "tables"),  # of its tools each says for itself
    "--format": ("tables",),
    "--contrast": ("tables",),
    "--top": ("tables", "neuronpedia"),
}
"""Option → the formats that it means something for."""


@dataclass(frozen=True)
class Options:
    """What was asked for beside the format; None is what was not said."""

    dictionary: str | None = None
    format: str | None = None
    contrast: str | None = None
    top: int | None = None


def export_run(run_folder: Path, out: Path, to: str, options: Options | None = None) -> int:
    """Write the run in `run_folder` under `out` in the format `to`; returns how many files were written.

    Raises UserError for an unknown format, an option that it does not have, and for what the run lacks.
    """
    asked = options or Options()
    if to not in FORMATS:
        raise UserError(f"--to: expected {', '.join(FORMATS)}, found {to!r}")
    given = {"--dictionary": asked.dictionary, "--format": asked.format, "--contrast": asked.contrast,
             "--top": asked.top}  # fmt: skip
    for option, value in given.items():
        if value is not None and to not in _TAKEN_BY[option]:
            raise UserError(f"{option}: expected with --to {' or '.join(_TAKEN_BY[option])} only, found --to {to}")
    if to in TOOLS:
        return export_for_tools(run_folder, out, to, asked.dictionary)
    run = load_run(run_folder)
    refuse_inside(run, out, "--out")
    one = None if asked.dictionary is None else DictionaryId.parse(asked.dictionary)
    with new_folder(out) as folder:
        return _write(run, folder, to, one, asked)


def _write(run: Run, folder: Path, to: str, one: DictionaryId | None, asked: Options) -> int:
    if to == "tables":
        from antar.share.tables import write_tables

        return write_tables(run, folder, asked.format or "csv", asked.contrast, one, asked.top)
    if to == "datasets":
        from antar.share.data import write_dataset

        return write_dataset(run, folder, with_texts=True)
    from antar.share.neuronpedia import write_neuronpedia

    return write_neuronpedia(run, folder, one, asked.top)
