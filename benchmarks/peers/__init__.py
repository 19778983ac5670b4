"""Trainers behind one small interface, each in a module of its own and driven through its own public training step.

A driver is built from a `Setting`, the start weights, the training rows and one of its variants: options of its own
that change its speed and not what it trains. `step` is the only thing that is timed.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol

from torch import Tensor

from benchmarks.setting import Plain, Setting


class Driver(Protocol):
    """`options`: what it runs with, for the result. `packages`: whose versions go beside it. `variants`: keyword
    arguments of the constructor, the plain one first; a worker tries each and takes the fastest. A driver may have
    `running` too, a context that its steps want around them."""

    options: str
    packages: tuple[str, ...]
    variants: tuple[dict[str, Any], ...]

    def __init__(self, setting: Setting, start: Plain, rows_nd: Tensor, **variant: Any) -> None: ...

    def step(self, x_bd: Tensor) -> None:
        """One whole training step: forward, backward, clip, optimiser, decoder norms, dead counts."""

    def weights(self) -> Plain:
        """Its dictionary now, with unit decoder rows."""

    def reconstruct(self, x_bd: Tensor) -> Tensor:
        """Its own forward pass, to check the common evaluator against."""


# Name in the results → module and class. saelens is run as it comes too (decoder rows of length 0.1 at the start).
DRIVERS = {
    "antar": ("benchmarks.peers.antar", "Antar"),
    "saelens": ("benchmarks.peers.saelens", "SaeLens"),
    "saelens_as_it_comes": ("benchmarks.peers.saelens", "SaeLensAsItComes"),
    "sparsify": ("benchmarks.peers.sparsify", "Sparsify"),
    "dictionary_learning": ("benchmarks.peers.dictionary_learning", "DictionaryLearning"),
    "overcomplete": ("benchmarks.peers.overcomplete", "Overcomplete"),
}


def driver_class(name: str) -> type[Driver]:
    module, cls = DRIVERS[name]
    return getattr(import_module(module), cls)
