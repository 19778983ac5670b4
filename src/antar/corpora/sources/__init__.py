"""How each kind of source is read. To add one: a config class in `config.py`, a module here, a line in READERS.

A module offers `open_source(source, place) -> Opened` and `inputs(source, place) -> {label: path}`, the local
files that it will read.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from antar.corpora.config import Source, SourceConfig
from antar.corpora.records import Opened, Place
from antar.corpora.sources import dosa, files, iitb, organism, snli, updesh

READERS: dict[str, tuple[Callable[[Any, Place], Opened], Callable[[Any, Place], dict[str, Path]]]] = {
    "updesh": (updesh.open_source, updesh.inputs),
    "snli": (snli.open_source, snli.inputs),
    "iitb": (iitb.open_source, iitb.inputs),
    "dosa": (dosa.open_source, dosa.inputs),
    "files": (files.open_source, files.inputs),
    "organism": (organism.open_source, organism.inputs),
}


def open_source(source: Source, place: Place) -> Opened:
    return READERS[source.source][0](source, place)


def source_inputs(source: Source, place: Place) -> dict[str, Path]:
    return READERS[source.source][1](source, place)


__all__ = ["READERS", "SourceConfig", "open_source", "source_inputs"]
