"""The example notebooks still run, cell by cell, on a small run in the place of the demo's."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

pytestmark = pytest.mark.slow
DOCS = Path(__file__).parent.parent.parent / "docs"


def run_cells(path: Path) -> dict[str, Any]:
    """The names that the notebook's code cells leave."""
    names: dict[str, Any] = {"__name__": "notebook"}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec(compile(ast.parse("".join(cell["source"])), path.name, "exec"), names)
    return names


def cells_with_outputs(path: Path) -> int:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return sum(bool(cell.get("outputs")) for cell in cells)


@pytest.fixture
def beside_a_run(finished, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/demo").symlink_to(finished)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["imported_saes", "new_corpus", "new_model_pair"])
def test_the_cells_run_and_their_outputs_are_kept(beside_a_run, name):
    names = run_cells(DOCS / f"{name}.ipynb")
    run = names["run"]
    assert run.contrasts.height > 0 and isinstance(run.contrasts, pl.DataFrame)
    assert cells_with_outputs(DOCS / f"{name}.ipynb") >= 4


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_no_output_names_a_folder_of_a_machine(path):
    from antar.share.cleaning import without_paths

    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        shown = json.dumps(cell.get("outputs", []), ensure_ascii=False)
        assert without_paths(shown) == shown
