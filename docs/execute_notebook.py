"""Execute the notebooks of docs/ (or those that are named) on runs/demo, and write them back with their outputs.

python docs/execute_notebook.py [docs/demo.ipynb …]      (`make notebook`: all of them)
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

DOCS = Path(__file__).parent


def execute(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(DOCS.parent)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # wall-clock times, which differ at each execution
        if cell.cell_type == "code":  # warnings of libraries name folders of the machine
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    notebook.metadata = {"language_info": {"name": "python"}}
    nbformat.write(notebook, path)


def main(names: list[str]) -> None:
    for path in map(Path, names) if names else sorted(DOCS.glob("*.ipynb")):
        print(f"executing {path}", flush=True)
        execute(path)


if __name__ == "__main__":
    main(sys.argv[1:])
