"""The three steps of interpretation: label, validate, predict.

Each asks its worker in batches and appends the answers to its record file, in the order of the features, so that a
killed run goes on where it stopped. Dictionaries are taken one after another, so that the codes of one at a time
are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from antar.core.errors import UserError
from antar.core.hashing import sha256_json
from antar.core.progress import progress
from antar.core.seeds import derive_seed
from antar.core.shards import tensors_sha256
from antar.core.sites import DictionaryId
from antar.core.sparse import SparseCodes
from antar.interpret.cases import CaseMaker, wrong_claim
from antar.interpret.config import InterpretConfig
from antar.interpret.corpus import TextCorpus
from antar.interpret.features import Firing
from antar.interpret.records import LABELS, PREDICTIONS, VERDICTS, RecordFile
from antar.interpret.types import Claim, Label, Labeller, Prediction, PredictionCase, Predictor, ShownText, Validator
from antar.interpret.workers import Workers

Records = dict[str, list[dict[str, Any]]]
"""feature → the records of its unit"""
Make = Callable[[CaseMaker, Mapping[str, int]], list[list[dict[str, Any]]]]
"""The records of each of some features (feature → latent) of one dictionary, in their order"""


def is_finding(dictionary: str) -> bool:
    """Replicas, shams, baselines and random weights are nulls: their features are not labelled."""
    parsed = DictionaryId.parse(dictionary)
    return not (parsed.is_replica or parsed.is_null)


@dataclass
class Steps:
    corpus: TextCorpus
    workers: Workers
    cfg: InterpretConfig
    seed: int
    folder: Path
    features: pl.DataFrame
    examples: pl.DataFrame
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

    def _makers(self, wanted: Mapping[str, Collection[str]]) -> Iterator[tuple[str, CaseMaker]]:
        """For each dictionary that has something to do, the maker of its cases."""
        for dictionary, latents in self.latents.items():
            if not wanted.get(dictionary):
                continue
            live = np.array(list(latents.values()), dtype=np.int64)
            codes, decoder_nd = self._dictionary(dictionary)
            firing = Firing.of(dictionary, codes, decoder_nd, live, len(self.corpus.texts))
            yield dictionary, CaseMaker(self.corpus, firing, self.seed)

    def _dictionary(self, dictionary: str) -> tuple[SparseCodes, np.ndarray]:
        for name, mapping in (("codes", self.codes), ("a decoder", self.decoders)):
            if dictionary not in mapping:
                raise UserError(f"interpret: expected {name} of {dictionary}, found none; run `antar features` first")
        return self.codes[dictionary], self.decoders[dictionary]

    @cached_property
    def _basis(self) -> dict[str, str]:
        """dictionary → the fingerprint of all that its cases are drawn from: corpus, codes, decoder, seed, config."""
        config = self.cfg.model_dump(mode="json", exclude={"checkpoint_every", "features_per_site"})
        found: dict[str, str] = {}
        for dictionary in self.latents:
            codes, decoder_nd = self._dictionary(dictionary)
            tensors = {"indices": codes.indices_nk, "values": codes.values_nk, "decoder": decoder_nd}
            found[dictionary] = sha256_json([tensors_sha256(tensors), self.corpus.sha256, self.seed, config])
        return found

    def _keys(
        self, worker: Labeller | Validator | Predictor, wanted: Collection[str], more: Callable[[str], Any]
    ) -> dict[str, dict[str, str]]:
        """dictionary → feature → the key of its answer. `more`: what else the answer of a feature depends on."""
        return {
            dictionary: {
                feature: sha256_json([worker.fingerprint, self._basis[dictionary], feature, more(feature)])
                for feature in latents
                if feature in wanted
            }
            for dictionary, latents in self.latents.items()
        }

    def label(self) -> dict[str, Label]:
        """A label for each live feature that has examples to see."""
        pool = self.examples.filter((pl.col("pool") == "select") & (pl.col("rank") < self.cfg.examples))
        pool = pool.sort("feature", "rank", maintain_order=True)
        shown = {
            str(feature): (part["row"].to_numpy(), part["activation"].to_numpy())
            for (feature,), part in pool.partition_by("feature", as_dict=True, maintain_order=True).items()
        }
        nothing = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
        wanted = {feature: shown.get(feature, nothing) for latents in self.latents.values() for feature in latents}
        worker = self.workers.labeller
        keys = self._keys(worker, wanted, lambda feature: [part.tolist() for part in wanted[feature]])

        def make(maker: CaseMaker, latents: Mapping[str, int]) -> list[list[dict[str, Any]]]:
            cases = [maker.evidence(feature, latent, *wanted[feature]) for feature, latent in latents.items()]
            answers = worker.label(cases)
            for case, answer in zip(cases, answers, strict=True):
                _check_evidence(worker.name, case.feature, answer.evidence, case.examples)
            who = {"labeller": worker.name, "version": worker.version}
            return [[asdict(answer) | who] for answer in answers]

        done = self._write(LABELS, "labels", keys, make)
        return {feature: _label(records[0]) for feature, records in done.items()}

    def choose(self, labels: Mapping[str, Label]) -> set[str]:
        """The coherent features to validate: of each dictionary a random sample of `features_per_site`.

        Each feature has its own place in the draw, so that a higher cap only adds features.
        """
        chosen: set[str] = set()
        for latents in self.latents.values():
            coherent = [feature for feature in latents if labels[feature].coherent]
            drawn = sorted(coherent, key=lambda feature: derive_seed(self.seed, "interpret", "choose", feature))
            chosen.update(drawn[: self.cfg.features_per_site])
        return chosen

    def validate(self, labels: Mapping[str, Label], chosen: Collection[str]) -> Records:
        """A verdict for each chosen feature."""
        worker = self.workers.validator
        keys = self._keys(worker, chosen, lambda feature: asdict(labels[feature]))

        def make(maker: CaseMaker, latents: Mapping[str, int]) -> list[list[dict[str, Any]]]:
            cases = [maker.validation(labels[name], latent, self.cfg.validation) for name, latent in latents.items()]
            answers = worker.validate(cases)
            for case, answer in zip(cases, answers, strict=True):
                texts = (*case.firing, *case.silent, *case.spare_firing, *case.spare_silent)
                _check_evidence(worker.name, case.label.feature, answer.evidence, texts)
            who = {"validator": worker.name, "version": worker.version}
            return [[asdict(answer) | who] for answer in answers]

        return self._write(VERDICTS, "verdicts", keys, make)

    def predict(self, labels: Mapping[str, Label], verdicts: Records) -> Records:
        """Predictions for the label that each verdict leaves, and for a wrong one on the same texts.

        A feature with too few held-out texts has no records.
        """
        claims = {
            feature: Claim(feature, verdict["label"], tuple(verdict["keywords"]), verdict["needed"])
            for feature, (verdict, *_) in verdicts.items()
        }
        wrong = self._wrong_claims(labels, claims)
        worker = self.workers.predictor

        def claimed(feature: str) -> Any:
            other = wrong[feature]
            return [asdict(claims[feature]), None if other is None else asdict(other)]

        keys = self._keys(worker, claims, claimed)

        def make(maker: CaseMaker, latents: Mapping[str, int]) -> list[list[dict[str, Any]]]:
            cases = [maker.prediction(claims[name], latent, self.cfg.prediction) for name, latent in latents.items()]
            return self._predictions(cases, wrong)

        return self._write(PREDICTIONS, "predictions", keys, make)

    def _predictions(
        self, cases: Sequence[PredictionCase | None], wrong: Mapping[str, Claim | None]
    ) -> list[list[dict[str, Any]]]:
        """The records of each case: its own claim's, then the wrong one's. None for a case without texts."""
        asked = [case for case in cases if case is not None]
        for case in list(asked):
            other = wrong[case.claim.feature]
            if other is not None:
                asked.append(replace(case, claim=other, wrong_label=True))
        records: dict[str, list[dict[str, Any]]] = {}
        for case, answers in zip(asked, self.workers.predictor.predict(asked), strict=True):
            records.setdefault(case.claim.feature, []).extend(self._prediction_records(case, answers))
        return [[] if case is None else records[case.claim.feature] for case in cases]

    def _prediction_records(self, case: PredictionCase, answers: Sequence[Prediction]) -> list[dict[str, Any]]:
        worker = self.workers.predictor
        return [
            {
                "feature": case.claim.feature,
                "text_id": text.text_id,
                "fires": fires,
                "predicted": answer.predicted,
                "score": answer.score,
                "predictor": worker.name,
                "wrong_label": case.wrong_label,
                "hard": hard,
                "version": worker.version,
            }
            for text, fires, hard, answer in zip(case.texts, case.fires, case.hard, answers, strict=True)
        ]

    def _wrong_claims(self, labels: Mapping[str, Label], claims: Mapping[str, Claim]) -> dict[str, Claim | None]:
        """For each claim one of the same dictionary and language, so that it is not wrong by its script alone."""
        peers: dict[tuple[str, str], list[Claim]] = {}
        for dictionary, latents in self.latents.items():
            for feature in latents:
                if feature in claims:
                    peers.setdefault((dictionary, labels[feature].language), []).append(claims[feature])
        return {claim.feature: wrong_claim(claim, group, self.seed) for group in peers.values() for claim in group}

    def _write(self, name: str, title: str, keys: Mapping[str, Mapping[str, str]], make: Make) -> Records:
        """Make what the record file lacks, a batch at a time. Returns the records of every feature of `keys`."""
        order = [key for of_dictionary in keys.values() for key in of_dictionary.values()]
        with RecordFile(self.folder / name, order) as file, progress(title, len(order), "features") as bar:
            missing = set(file.missing)
            bar.advance(len(order) - len(missing))
            todo = {
                dictionary: [feature for feature, key in of_dictionary.items() if key in missing]
                for dictionary, of_dictionary in keys.items()
            }
            for dictionary, maker in self._makers(todo):
                for lo in range(0, len(todo[dictionary]), self.cfg.checkpoint_every):
                    batch = todo[dictionary][lo : lo + self.cfg.checkpoint_every]
                    units = make(maker, {feature: self.latents[dictionary][feature] for feature in batch})
                    file.add({keys[dictionary][f]: unit for f, unit in zip(batch, units, strict=True)})
                    bar.advance(len(batch))
            return {
                feature: file.records(key)
                for of_dictionary in keys.values()
                for feature, key in of_dictionary.items()
            }


def _check_evidence(worker: str, feature: str, evidence: Sequence[str], shown: Sequence[ShownText]) -> None:
    strange = set(evidence) - {text.text_id for text in shown}
    if strange:
        raise ValueError(f"{worker} named evidence for {feature} that it was not shown: {sorted(strange)[:3]}")


def _label(record: Mapping[str, Any]) -> Label:
    fields: dict[str, Any] = {name: record[name] for name in Label.__dataclass_fields__}
    fields["keywords"], fields["evidence"] = tuple(record["keywords"]), tuple(record["evidence"])
    return Label(**fields)
