"""The house of DESIGN §2: rooms import only from floors below; nothing is unsafe to load; nothing is unescaped."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "antar"
FLOORS = {
    "core": 0, "engines": 0.5,
    "corpora": 1, "models": 1, "dictionaries": 1,
    "features": 2,
    "interpret": 3, "people": 3,
    "criteria": 4, "organisms": 4,
    "run": 4.5,
    "report": 5, "web": 5.2,
    "study": 5.5, "stages": 6, "templates": 6, "share": 6.3,
    "tables": 6.5, "tables_people": 6.5, "tables_saebench": 6.5, "pipeline": 6.5, "prove": 6.8,
    "cli_annotate": 6.9, "cli_saebench": 6.9, "cli_share": 6.9, "cli": 7,
}  # fmt: skip
FILES = sorted(SOURCE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """The rooms of antar that a module imports when it is loaded or run (type-checking imports do not count)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in ast.walk(block)
    }
    rooms: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "antar":
            parts = node.module.split(".")
            rooms |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            rooms |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("antar.")}
    return {room for room in rooms if not room.startswith("__")}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_a_room_imports_only_from_floors_below(path):
    room = room_of(path)
    if room == "__init__":
        return
    assert room in FLOORS, f"{room} has no floor: give it one here and in DESIGN"
    for other in imports_of(path) - {room}:
        assert FLOORS[other] < FLOORS[room], f"{room} (floor {FLOORS[room]}) imports {other} (floor {FLOORS[other]})"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_nothing_unsafe_is_loaded(path):
    text = path.read_text(encoding="utf-8")
    unsafe = r"import pickle|torch\.load\(|allow_pickle=True|trust_remote_code=True|yaml\.(?:unsafe_|full_)load\("
    assert not re.findall(unsafe, text)


def test_templates_escape_everything():
    for path in SOURCE.rglob("*.j2"):
        assert not re.search(r"\|\s*safe\b", path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_every_module_opens_with_what_it_holds(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{path} has no module docstring"


def test_files_and_functions_stay_readable():
    too_long = []
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        if (n := len(text.splitlines())) > 400:
            too_long.append(f"{path.relative_to(SOURCE)}: {n} lines")
        too_long += [
            f"{path.relative_to(SOURCE)}:{node.name}: {node.end_lineno - node.lineno + 1} lines"
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > 60
        ]
    assert not too_long, too_long
