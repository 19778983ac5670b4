"""A browser for a run's features on this machine: the report, a table to search, and a page for each feature.

It stands on the report's room, because a feature looks the same in both. Starlette and uvicorn come with the extra
`[web]`; without it there is one line that says so.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from antar.core.errors import UserError

DEFAULT_PORT = 8437


def require_extra() -> None:
    """Raise a UserError unless the web extra is installed."""
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"antar serve: expected the web extra, found no {' and no '.join(missing)}; pip install 'antar[web]'"
        )


def serve(folder: Path | str, port: int = DEFAULT_PORT) -> None:
    """Serve the run in `folder` on this machine's loopback until interrupted, and print the address to open.

    `port` 0 takes any free one. Raises UserError where the extra, the run or the port is not there.
    """
    require_extra()
    from antar.web.server import serve_run

    serve_run(folder, port)


__all__ = ["DEFAULT_PORT", "require_extra", "serve"]
