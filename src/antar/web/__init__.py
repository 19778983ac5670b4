"""A browser for a run on this machine: its features, dictionaries and criteria, the report, and annotation.

Starlette, uvicorn and regex come with the extra `[web]`; without it there is one line that says so. `shell.py` says
how a section is added.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from antar.core.errors import UserError

DEFAULT_PORT = 8437
DEFAULT_HOST = "127.0.0.1"


def require_extra() -> None:
    """Raise a UserError unless the web extra is installed."""
    missing = [name for name in ("starlette", "uvicorn", "regex") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"antar serve: expected the web extra, found no {' and no '.join(missing)}; pip install 'antar[web]'"
        )


def serve(
    folder: Path | str, port: int = DEFAULT_PORT, host: str = DEFAULT_HOST, links: int = 1, open_at: str = ""
) -> None:
    """Serve the run in `folder` until interrupted, and print the addresses to open: `links` of them, one a browser.

    `port` 0 takes any free one; a `host` other than this machine's loopback needs a password; `open_at` is the page
    that the links open. Raises UserError where the extra, the run, the port or the password is not there.
    """
    require_extra()
    from antar.web.server import serve_run

    serve_run(folder, port, host, links, open_at)


__all__ = ["DEFAULT_HOST", "DEFAULT_PORT", "require_extra", "serve"]
