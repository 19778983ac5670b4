"""The dictionaries whose features are interpreted, the keys of their answers, and the files that answers go to.

An embedded worker answers in batches, each flushed to the disk, so that a killed run goes on where it stopped. A
language model is asked for everything at once, so that its server is never idle; its calls are in a log of their own,
and the record files are made from that log each time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl

from antar.core.errors import UserError
from antar.core.hashing import sha256_json
from antar.core.progress import progress
from antar.core.shards import tensors_sha256
from antar.core.sites import DictionaryId
from antar.core.sparse import SparseCodes
from antar.interpret.cases import CaseMaker
from antar.interpret.config import InterpretConfig
from antar.interpret.corpus import TextCorpus
from antar.interpret.features import Firing
from antar.interpret.records import RecordFile
from antar.interpret.types import Labeller, Predictor, Validator

Unit = list[dict[str, Any]]
Records = dict[str, Unit]
"""feature → the records of its unit"""
Keys = dict[str, dict[str, str]]
"""dictionary → feature → the key of its answer"""
Case = TypeVar("Case")


def is_finding(dictionary: str) -> bool:
    """Replicas, shams, baselines and random weights are nulls: their features are not labelled."""
    parsed = DictionaryId.parse(dictionary)
    return not (parsed.is_replica or parsed.is_null)


@dataclass
class Units:
    """codes, decoders: by dictionary; they may load lazily, and one at a time is kept."""

    corpus: TextCorpus
    cfg: InterpretConfig
    seed: int
    folder: Path
    features: pl.DataFrame
    codes: Mapping[str, SparseCodes]
    decoders: Mapping[str, np.ndarray]

    @cached_property
    def latents(self) -> dict[str, dict[str, int]]:
        """dictionary → feature → latent, of the live features of dictionaries that are findings, in frame order."""
        found: dict[str, dict[str, int]] = {}
        live = self.features.filter(pl.col("live"))
        for feature, dictionary, latent in live.select("feature", "dictionary", "latent").iter_rows():
            if is_finding(dictionary):
                found.setdefault(dictionary, {})[feature] = latent
        return found

    def makers(self, wanted: Mapping[str, Collection[str]]) -> Iterator[tuple[str, CaseMaker]]:
        """For each dictionary that has something to do, the maker of its cases."""
        for dictionary, latents in self.latents.items():
            if not wanted.get(dictionary):
                continue
            live = np.array(list(latents.values()), dtype=np.int64)
            codes, decoder_nd = self.dictionary(dictionary)
            firing = Firing.of(dictionary, codes, decoder_nd, live, len(self.corpus.texts), self.corpus.first_t)
            yield dictionary, CaseMaker(self.corpus, firing, self.seed)

    def dictionary(self, dictionary: str) -> tuple[SparseCodes, np.ndarray]:
        for name, mapping in (("codes", self.codes), ("a decoder", self.decoders)):
            if dictionary not in mapping:
                raise UserError(f"interpret: expected {name} of {dictionary}, found none; run `antar features` first")
        return self.codes[dictionary], self.decoders[dictionary]

    @cached_property
    def _basis(self) -> dict[str, str]:
        """dictionary → the fingerprint of all that its cases are drawn from: corpus, codes, decoder, seed, config."""
        # What a worker's answers depend on is in its own fingerprint; where it is served changes none.
        left_out = {"labeller", "validator", "predictor", "checkpoint_every", "features_per_site", "choose"}
        config = self.cfg.model_dump(mode="json", exclude=left_out)
        found: dict[str, str] = {}
        for dictionary in self.latents:
            codes, decoder_nd = self.dictionary(dictionary)
            tensors = {"indices": codes.indices_nk, "values": codes.values_nk, "decoder": decoder_nd}
            found[dictionary] = sha256_json([tensors_sha256(tensors), self.corpus.sha256, self.seed, config])
        return found

    def keys(
        self, worker: Labeller | Validator | Predictor, wanted: Collection[str], more: Callable[[str], Any]
    ) -> Keys:
        """`more`: what else the answer of a feature depends on."""
        return {
            dictionary: {
                feature: sha256_json([worker.fingerprint, self._basis[dictionary], feature, more(feature)])
                for feature in latents
                if feature in wanted
            }
            for dictionary, latents in self.latents.items()
        }

    def write(
        self,
        name: str,
        title: str,
        keys: Keys,
        prepare: Callable[[CaseMaker, Mapping[str, int]], Sequence[Case]],
        answer: Callable[[Sequence[Case]], Sequence[Unit]],
        at_once: bool,
    ) -> Records:
        """Make what the record file lacks. Returns the records of every feature of `keys`.

        prepare: the cases of some features (feature → latent) of one dictionary; answer: a unit of records for each
        case. `at_once`: all cases are answered together, and nothing that the file has is taken for done.
        """
        order = [key for of_dictionary in keys.values() for key in of_dictionary.values()]
        with RecordFile(self.folder / name, order, fresh=at_once) as file:
            missing = set(file.missing)
            todo = {
                dictionary: [feature for feature, key in of_dictionary.items() if key in missing]
                for dictionary, of_dictionary in keys.items()
            }
            if at_once:
                self._all_at_once(file, keys, todo, prepare, answer)
            else:
                with progress(title, len(order), "features") as bar:
                    bar.advance(len(order) - len(missing))
                    for dictionary, maker in self.makers(todo):
                        for batch in _batches(todo[dictionary], self.cfg.checkpoint_every):
                            units = answer(prepare(maker, self._latents_of(dictionary, batch)))
                            file.add({keys[dictionary][f]: unit for f, unit in zip(batch, units, strict=True)})
                            bar.advance(len(batch))
            return {
                feature: file.records(key)
                for of_dictionary in keys.values()
                for feature, key in of_dictionary.items()
            }

    def _all_at_once(
        self,
        file: RecordFile,
        keys: Keys,
        todo: Mapping[str, Sequence[str]],
        prepare: Callable[[CaseMaker, Mapping[str, int]], Sequence[Case]],
        answer: Callable[[Sequence[Case]], Sequence[Unit]],
    ) -> None:
        cases: list[Case] = []
        asked: list[str] = []
        for dictionary, maker in self.makers(todo):
            cases += prepare(maker, self._latents_of(dictionary, todo[dictionary]))
            asked += [keys[dictionary][feature] for feature in todo[dictionary]]
        file.add(dict(zip(asked, answer(cases), strict=True)))

    def _latents_of(self, dictionary: str, features: Sequence[str]) -> dict[str, int]:
        return {feature: self.latents[dictionary][feature] for feature in features}


def _batches(features: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(features), size):
        yield features[start : start + size]
