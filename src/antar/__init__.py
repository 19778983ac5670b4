"""antar compares two checkpoints of one language model, before and after alignment, from the inside.

`antar.load_run(path)` opens a finished run in a notebook; everything else is behind the `antar` command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from antar.run import Run, load_run

__version__ = "0.1.0"
__all__ = ["Run", "__version__", "load_run"]


def __getattr__(name: str) -> Any:
    # On demand: `antar --help` should not wait for torch and polars.
    if name in {"Run", "load_run"}:
        from antar import run

        return getattr(run, name)
    raise AttributeError(f"module 'antar' has no attribute {name!r}")
