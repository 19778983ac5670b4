"""Stand-ins for packages that a peer imports for other things than training, and that are not installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


class StandIn(ModuleType):
    """A module in which every public name is an empty class."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


@contextmanager
def standing_in(*names: str) -> Iterator[None]:
    """While a peer is imported, `names` import as stand-ins; installed ones are hidden for as long."""
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update({name: StandIn(name) for name in names})
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
