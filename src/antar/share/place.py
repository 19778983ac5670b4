"""Where an export goes: a new folder, outside the run, that is whole or absent."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from antar.core.atomic import replacing_folder
from antar.core.errors import UserError
from antar.run import Run


def outside(run: Run, out: Path, option: str) -> None:
    """Raises UserError where `out` lies in the run itself."""
    if out.resolve().is_relative_to(run.folder.resolve()):
        raise UserError(f"{option}: expected a folder outside the run, found {out} in {run.folder}; name another")


@contextmanager
def new_folder(out: Path, option: str = "--out") -> Generator[Path]:
    """Yield a temporary folder that becomes `out` on success. Raises UserError where something is there already."""
    out = out.resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"{out}: expected a new or empty folder, found something in its place; name another with {option}"
        )
    try:
        with replacing_folder(out) as temporary:
            yield temporary
    except OSError as error:
        found = error.strerror or error
        raise UserError(
            f"{out}: expected a folder that can be written, found: {found}; name another with {option}"
        ) from error
