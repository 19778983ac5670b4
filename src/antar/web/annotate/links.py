"""Each annotator's link: a secret that opens their blind pages, and stays theirs when the server starts again.

The secrets lie in `people/links.json`, which only its owner may read. Without the file all links change. They are not
in the sheet, which is copied between machines.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from antar.core.atomic import replacing
from antar.core.errors import UserError
from antar.people.schema import SHEET
from antar.people.store import annotators_of

LINKS = "links.json"


def sheet_of(folder: Path) -> Path:
    """The annotation sheet of the run in `folder`, whether it is there or not."""
    return folder / "people" / SHEET


def guests_of(folder: Path) -> dict[str, str]:
    """annotator → token, for the people of the run's sheet; empty without a sheet."""
    sheet = sheet_of(folder)
    if not sheet.is_file():
        return {}
    path, names = sheet.with_name(LINKS), annotators_of(sheet)
    kept = _read(path)
    links = {name: kept.get(name) or secrets.token_urlsafe(32) for name in names}
    if links != {name: kept.get(name) for name in names}:
        with replacing(path) as temporary:
            temporary.touch(mode=0o600)
            temporary.write_text(json.dumps({**kept, **links}, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return links


def _read(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(
        isinstance(token, str) and len(token) >= 32 for token in found.values()
    ):
        raise UserError(f"{path}: expected the links of the annotators, found damage; remove it for new ones")
    return found
