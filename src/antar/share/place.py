"""Where an export goes: a new folder that is whole or absent."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from antar.core.atomic import replacing_folder
from antar.core.errors import UserError
from antar.stages.export import refuse_taken


@contextmanager
def new_folder(out: Path, option: str = "--out") -> Generator[Path]:
    """Yield a temporary folder that becomes `out` on success. Raises UserError where something is there already."""
    out = out.resolve()
    refuse_taken(out, option)
    try:
        with replacing_folder(out) as temporary:
            yield temporary
    except OSError as error:
        found = error.strerror or error
        raise UserError(
            f"{out}: expected a folder that can be written, found: {found}; name another with {option}"
        ) from error
