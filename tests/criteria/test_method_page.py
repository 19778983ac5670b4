"""docs/method.md names code and tests; those names must exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", PAGE)))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_what_the_method_page_names_exists(path: str, name: str) -> None:
    files = [file for folder in ("src/antar", "tests") for file in (ROOT / folder).rglob(Path(path).name)]
    files = [file for file in files if file.as_posix().endswith(f"/{path}")]
    assert files, path
    if name:
        assert any(re.search(rf"^\s*def {name}\(", file.read_text(encoding="utf-8"), re.MULTILINE) for file in files)


def test_the_page_names_something() -> None:
    assert len(NAMED) > 20
    assert all((ROOT / "src" / "antar" / room).exists() for room in ("criteria", "features", "dictionaries"))
