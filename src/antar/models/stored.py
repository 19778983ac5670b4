"""Where a site's shards lie, and what is said when one of them does not hold what it should."""

from __future__ import annotations

from pathlib import Path

from antar.core.errors import UserError
from antar.core.sites import Site


def site_folder(run_folder: Path, site: Site) -> Path:
    """Where a site's shards lie (for sides that are stored: base, chat and shams)."""
    return run_folder / "activations" / site.folder


def not_finite(site: Site, bad: int, width: int, where: str) -> UserError:
    """The error for a row with `bad` columns that are no numbers; `where` names its shard and row."""
    return UserError(
        f"{site}: expected finite numbers, found NaN or infinity in {bad} of {width} columns of {where}; remove this "
        "shard and run `antar extract STUDY`"
    )
