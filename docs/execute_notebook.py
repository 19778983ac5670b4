"""Execute docs/demo.ipynb on runs/demo and write it back with its outputs (`make notebook`)."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent / "demo.ipynb"


def main() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(NOTEBOOK.parent.parent)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # wall-clock times, which differ at each execution
    notebook.metadata = {"language_info": {"name": "python"}}
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()
