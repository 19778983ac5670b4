"""Stage 5: what features are about. Labels, verdicts on them, and predictions from them, as JSON lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl

from antar.core.hashing import code_version
from antar.core.manifest import Fingerprint
from antar.core.sites import DictionaryId
from antar.core.sparse import SparseCodes
from antar.dictionaries import load_dictionary
from antar.interpret.stage import interpret_run, record_files
from antar.stages.artifact import Artifact, ensure_files
from antar.stages.context import Context, config_slice

Value = TypeVar("Value")


class Lazily(Mapping[str, Value]):
    """Dictionary id → what `read` gives for it, when asked: a study's codes need not fit in memory at once."""

    def __init__(self, ids: Sequence[DictionaryId], read: Callable[[DictionaryId], Value]) -> None:
        self._ids, self._read = {str(one): one for one in ids}, read

    def __getitem__(self, name: str) -> Value:
        return self._read(self._ids[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)


def labelled_dictionaries(context: Context) -> list[DictionaryId]:
    """The study's own dictionaries: features of a null are no findings, and nobody reads their labels."""
    return [one for one in context.dictionary_ids() if not (one.is_replica or one.is_null)]


def artifacts(context: Context) -> list[Artifact]:
    features = context.manifest("features")
    return [
        Artifact(
            "interpret",
            context.folder / "interpret",
            Fingerprint(
                # The features' own inputs are the dictionaries and activations, which is what codes follow from.
                inputs={"features": features.content, "codes": features.fingerprint.sha256},
                config=config_slice(context.study.interpret) | {"seed": context.study.seed} | _limit(context),
                code=code_version("interpret", "features/readings.py"),
            ),
        )
    ]


def _limit(context: Context) -> dict[str, int]:
    """A first look is not the whole stage: the next run without a limit goes on from it."""
    return {} if context.label_limit is None else {"limit": context.label_limit}


def make(context: Context) -> None:
    (artifact,) = artifacts(context)

    def write() -> tuple[Sequence[Path], Mapping[str, Any]]:
        ids = labelled_dictionaries(context)
        ours = pl.col("dictionary").is_in([str(one) for one in ids])

        def codes(one: DictionaryId) -> SparseCodes:
            return context.own_codes(one)

        def decoder(one: DictionaryId) -> np.ndarray:
            return load_dictionary(context.folder / "dictionaries" / one.folder).decoder_nd

        facts = interpret_run(
            context.texts(),
            pl.read_parquet(context.folder / "features" / "features.parquet").filter(ours),
            pl.read_parquet(context.folder / "features" / "examples.parquet").filter(ours),
            Lazily(ids, codes),
            Lazily(ids, decoder),
            context.study.interpret,
            seed=context.study.seed,
            folder=artifact.folder,
            study_folder=context.study_folder,
            limit=context.label_limit,
        )
        return record_files(artifact.folder), facts

    ensure_files(artifact, write)
