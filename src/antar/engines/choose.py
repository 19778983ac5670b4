"""An engine by the name that a command line gives it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from antar.core.errors import UserError
from antar.engines.base import Engine
from antar.engines.inline import InlineEngine

ENGINES = ("inline", "ray")


@contextmanager
def open_engine(name: str = "inline", address: str | None = None) -> Generator[Engine]:
    """The engine called `name` while the block runs. Raises UserError for another name, an address that it has no use
    for, and an engine that is not installed."""
    if name not in ENGINES:
        raise UserError(f"--engine: expected one of {', '.join(ENGINES)}, found {name!r}")
    if name == "inline" and address is not None:
        raise UserError(f"--address {address}: expected together with --engine ray only; add that, or leave it out")
    engine = _ray(address) if name == "ray" else InlineEngine()
    try:
        yield engine
    finally:
        engine.close()


def _ray(address: str | None) -> Engine:
    # On demand: ray is an extra, and takes a second to import.
    from antar.engines.ray_engine import RayEngine

    return RayEngine(address)
