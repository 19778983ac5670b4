"""The steps of interpretation: label, choose, validate, predict, and SAEBench's form of predicting.

Keyword labels are made for every live feature in any case: they are the labels where no language model is named, and
the baseline that one has to beat. A language model labels a part of each dictionary's features; what it finds
coherent is validated, with known labels mixed in that measure the validator, and predicted from.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from antar.core.seeds import numpy_rng
from antar.interpret.cases import CaseMaker, wrong_claims
from antar.interpret.choose import choose_order
from antar.interpret.controls import Control, n_controls, right_words, wrong_controls
from antar.interpret.labeller import phrase
from antar.interpret.records import CONTROLS, KEYWORDS, LABELS, PREDICTIONS, SAEBENCH, VERDICTS, RecordFile
from antar.interpret.saebench import keyword_answer, saebench_record
from antar.interpret.types import (
    Claim,
    Evidence,
    Label,
    Prediction,
    PredictionCase,
    Predictor,
    SaebenchCase,
    ShownText,
    ValidationCase,
)
from antar.interpret.units import Records, Unit, Units
from antar.interpret.workers import Workers


class _Bench(NamedTuple):
    """`baseline`: the keywords' claim, for the same texts."""

    case: SaebenchCase | None
    baseline: Claim


@dataclass
class Steps:
    """limit: a first look at so many features in all."""

    units: Units
    workers: Workers
    examples: pl.DataFrame
    texts: pl.DataFrame
    limit: int | None = None

    # -- label ----------------------------------------------------------------------------------------------------

    @cached_property
    def keyword_labels(self) -> dict[str, Label]:
        """A keyword label for each live feature. They are `labels.jsonl` itself where no model labels."""
        cfg, latents = self.units.cfg, self.units.latents
        pool = self.examples.filter((pl.col("pool") == "select") & (pl.col("rank") < cfg.examples))
        pool = pool.sort("feature", "rank", maintain_order=True)
        shown = {
            str(feature): (part["row"].to_numpy(), part["activation"].to_numpy())
            for (feature,), part in pool.partition_by("feature", as_dict=True, maintain_order=True).items()
        }
        nothing = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
        wanted = {feature: shown.get(feature, nothing) for its in latents.values() for feature in its}
        worker = self.workers.keyword_labeller
        keys = self.units.keys(worker, wanted, lambda feature: [part.tolist() for part in wanted[feature]])

        def prepare(maker: CaseMaker, latents: Mapping[str, int]) -> list[Evidence]:
            return [maker.evidence(feature, latent, *wanted[feature]) for feature, latent in latents.items()]

        def answer(cases: Sequence[Evidence]) -> list[Unit]:
            return [[_label_record(label, worker)] for label in worker.label(cases)]

        name = KEYWORDS if self.workers.llm_labels else LABELS
        done = self.units.write(name, "keyword labels", keys, prepare, answer, at_once=False)
        return {feature: _label(records[0]) for feature, records in done.items()}

    def label(self) -> dict[str, Label]:
        """The label of every live feature: the model's where it was asked, else the keywords."""
        keywords = self.keyword_labels
        if not self.workers.llm_labels:
            return keywords
        worker, units = self.workers.labeller, self.units
        asked = self.asked
        keys = units.keys(worker, keywords, lambda feature: feature in asked or asdict(keywords[feature]))

        def prepare(maker: CaseMaker, latents: Mapping[str, int]) -> list[Evidence | Label]:
            return [
                maker.llm_evidence(feature, latent, units.cfg) if feature in asked else keywords[feature]
                for feature, latent in latents.items()
            ]

        def answer(cases: Sequence[Evidence | Label]) -> list[Unit]:
            questions = [case for case in cases if isinstance(case, Evidence)]
            answers = iter(worker.label(questions))
            embedded = self.workers.keyword_labeller
            return [
                [_label_record(case, embedded) if isinstance(case, Label) else _label_record(next(answers), worker)]
                for case in cases
            ]

        done = units.write(LABELS, "labels", keys, prepare, answer, at_once=True)
        return {feature: _label(records[0]) for feature, records in done.items()}

    @cached_property
    def asked(self) -> set[str]:
        """The features that a language model labels."""
        taken = [order[: self._most] for order in self._order.values()]
        if self.limit is None:
            return {feature for its in taken for feature in its}
        # A first look goes over the dictionaries in turn.
        in_turn = (its[i] for i in range(max(map(len, taken), default=0)) for its in taken if i < len(its))
        return set(islice(in_turn, self.limit))

    @property
    def _most(self) -> int | None:
        """How many of a dictionary are taken; None for all."""
        return None if self.units.cfg.choose == "all" else self.units.cfg.features_per_site

    @cached_property
    def _order(self) -> dict[str, list[str]]:
        """dictionary → its live features in the order in which they are taken."""
        found: dict[str, list[str]] = {}
        for dictionary, latents in self.units.latents.items():
            codes, _ = self.units.dictionary(dictionary)
            found[dictionary] = choose_order(
                latents, self.units.cfg.choose, seed=self.units.seed, codes=codes, texts=self.texts,
                examples=self.examples.filter(pl.col("dictionary") == dictionary),
            )  # fmt: skip
        return found

    def choose(self, labels: Mapping[str, Label]) -> set[str]:
        """The coherent features to validate. Each has its own place in the order, so a higher cap only adds some."""
        chosen: set[str] = set()
        for order in self._order.values():
            if self.workers.llm_labels:
                chosen.update(feature for feature in order if feature in self.asked and labels[feature].coherent)
            else:
                chosen.update([feature for feature in order if labels[feature].coherent][: self._most])
        return chosen

    # -- validate -------------------------------------------------------------------------------------------------

    def validate(self, labels: Mapping[str, Label], chosen: Collection[str]) -> Records:
        """A verdict for each chosen feature. A model sees known labels among them, and cannot tell which."""
        worker, units = self.workers.validator, self.units
        keys = units.keys(worker, chosen, lambda feature: asdict(labels[feature]))
        controls = self._controls(labels, chosen) if self.workers.llm_validates else []

        def prepare(maker: CaseMaker, latents: Mapping[str, int]) -> list[ValidationCase]:
            return [maker.validation(labels[name], latent, units.cfg.validation) for name, latent in latents.items()]

        def answer(cases: Sequence[ValidationCase]) -> list[Unit]:
            mixed = [*cases, *(control.case for control in controls)]
            order = list(range(len(mixed)))
            if controls:
                order = numpy_rng(units.seed, "interpret", "mixed").permutation(len(mixed)).tolist()
            verdicts = dict(zip(order, worker.validate([mixed[i] for i in order]), strict=True))
            for i, case in enumerate(cases):
                texts = (*case.firing, *case.silent, *case.spare_firing, *case.spare_silent)
                _check_evidence(worker.name, case.label.feature, verdicts[i].evidence, texts)
            who = {"validator": worker.name, "version": worker.version}
            return [[asdict(verdicts[i]) | who] for i in range(len(cases))]

        done = units.write(VERDICTS, "verdicts", keys, prepare, answer, at_once=self.workers.llm_validates)
        if self.workers.llm_validates:
            self._write_controls(controls)
        return done

    def _controls(self, labels: Mapping[str, Label], chosen: Collection[str]) -> list[Control]:
        """Labels known to be wrong, in each dictionary, and as many that are right by construction."""
        units, cfg = self.units, self.units.cfg
        found: list[Control] = []
        by_dictionary = {d: [f for f in its if f in chosen] for d, its in units.latents.items()}
        for dictionary, maker in units.makers(by_dictionary):
            features, latents = by_dictionary[dictionary], units.latents[dictionary]
            wanted = n_controls(len(features), cfg.validation.controls)
            found += wrong_controls(maker, features, labels, latents, wanted, cfg.validation)
        right = right_words(
            units.corpus, len(found), cfg.validation, units.seed, self.workers.prompts, cfg.characters
        )
        return found + right

    def _write_controls(self, controls: Sequence[Control]) -> None:
        """From the log: their calls were made among the others."""
        worker = self.workers.validator
        verdicts = worker.validate([control.case for control in controls])
        units: Records = {}
        for i, (control, verdict) in enumerate(zip(controls, verdicts, strict=True)):
            record = {
                "kind": control.kind,
                "feature": control.case.label.feature,
                "label": control.case.label.label,
                "label_of": control.label_of,
                "verdict": verdict.verdict,
                "reason": verdict.reason,
                "evidence": list(verdict.evidence),
                "validator": worker.name,
                "version": worker.version,
                "failed": verdict.failed,
            }
            units[f"{control.kind}-{i}"] = [record]
        with RecordFile(self.units.folder / CONTROLS, list(units), fresh=True) as file:
            file.add(units)

    # -- predict --------------------------------------------------------------------------------------------------

    def claims(self, verdicts: Records) -> dict[str, Claim]:
        """The label that each verdict leaves."""
        return {
            feature: Claim(feature, verdict["label"], tuple(verdict["keywords"]), verdict["needed"])
            for feature, (verdict, *_) in verdicts.items()
        }

    def _baseline(self, feature: str) -> Claim:
        label = self.keyword_labels[feature]
        return Claim(feature, phrase(label.keywords), label.keywords, label.needed)

    def predict(self, labels: Mapping[str, Label], claims: Mapping[str, Claim]) -> Records:
        """Predictions from each claim, from a wrong one on the same texts, and from the keywords beside a model's.

        A feature with too few held-out texts has no records.
        """
        units, workers = self.units, self.workers
        wrong = self._wrong_claims(labels, claims)
        baselines = {feature: self._baseline(feature) for feature in claims} if workers.llm_predicts else {}
        wrong_baselines = self._wrong_claims(self.keyword_labels, baselines)

        def known(claim: Claim | None) -> Any:
            return None if claim is None else asdict(claim)

        keys = units.keys(
            workers.predictor,
            claims,
            lambda f: [known(one) for one in (claims[f], wrong[f], baselines.get(f), wrong_baselines.get(f))][
                : 4 if workers.llm_predicts else 2
            ],
        )

        def prepare(maker: CaseMaker, latents: Mapping[str, int]) -> list[PredictionCase | None]:
            return [maker.prediction(claims[name], latent, units.cfg.prediction) for name, latent in latents.items()]

        def answer(cases: Sequence[PredictionCase | None]) -> list[Unit]:
            records = self._predictions(workers.predictor, [case for case in cases if case is not None], wrong)
            if workers.llm_predicts:
                its = [replace(case, claim=baselines[case.claim.feature]) for case in cases if case is not None]
                beside = self._predictions(workers.keyword_predictor, its, wrong_baselines)
                records = {feature: unit + beside[feature] for feature, unit in records.items()}
            return [[] if case is None else records[case.claim.feature] for case in cases]

        return units.write(PREDICTIONS, "predictions", keys, prepare, answer, at_once=workers.llm_predicts)

    def _predictions(
        self, worker: Predictor, cases: Sequence[PredictionCase], wrong: Mapping[str, Claim | None]
    ) -> Records:
        """The records of each case: its own claim's, then the wrong one's."""
        asked = list(cases)
        for case in cases:
            other = wrong[case.claim.feature]
            if other is not None:
                asked.append(replace(case, claim=other, wrong_label=True))
        records: Records = {}
        for case, answers in zip(asked, worker.predict(asked), strict=True):
            records.setdefault(case.claim.feature, []).extend(_prediction_records(worker, case, answers))
        return records

    def _wrong_claims(self, labels: Mapping[str, Label], claims: Mapping[str, Claim]) -> dict[str, Claim | None]:
        """For each claim one of the same dictionary and language, so that it is not wrong by its script alone."""
        peers: dict[tuple[str, str], list[Claim]] = {}
        for dictionary, latents in self.units.latents.items():
            for feature in latents:
                if feature in claims:
                    peers.setdefault((dictionary, labels[feature].language), []).append(claims[feature])
        seed = self.units.seed
        found: dict[str, Claim | None] = {}
        for group in peers.values():
            found |= wrong_claims(group, seed)
        return found

    def saebench(self, claims: Mapping[str, Claim]) -> None:
        """SAEBench's form, by the model and by the keywords."""
        units, workers = self.units, self.workers
        keys = units.keys(workers.predictor, claims, lambda f: ["saebench", asdict(claims[f])])

        def prepare(maker: CaseMaker, latents: Mapping[str, int]) -> list[_Bench]:
            return [
                _Bench(maker.saebench(claims[name], latent), self._baseline(name)) for name, latent in latents.items()
            ]

        def answer(cases: Sequence[_Bench]) -> list[Unit]:
            answers = iter(workers.saebench([one.case for one in cases if one.case is not None]))
            embedded, model = workers.keyword_predictor, workers.predictor
            found: list[Unit] = []
            for case, baseline in cases:
                if case is None:
                    found.append([])
                    continue
                beside = replace(case, claim=baseline)
                found.append(
                    [
                        saebench_record(case, next(answers), model.name, model.version),
                        saebench_record(beside, keyword_answer(embedded, beside), embedded.name, embedded.version),
                    ]
                )
            return found

        units.write(SAEBENCH, "SAEBench's form", keys, prepare, answer, at_once=True)


def _prediction_records(worker: Predictor, case: PredictionCase, answers: Sequence[Prediction]) -> Unit:
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
            "failed": answer.failed,
        }
        for text, fires, hard, answer in zip(case.texts, case.fires, case.hard, answers, strict=True)
    ]


def _check_evidence(worker: str, feature: str, evidence: Sequence[str], shown: Sequence[ShownText]) -> None:
    strange = set(evidence) - {text.text_id for text in shown}
    if strange:
        raise ValueError(f"{worker} named evidence for {feature} that it was not shown: {sorted(strange)[:3]}")


def _label_record(label: Label, worker: Any) -> dict[str, Any]:
    return asdict(label) | {"labeller": worker.name, "version": worker.version}


def _label(record: Mapping[str, Any]) -> Label:
    fields: dict[str, Any] = {name: record[name] for name in Label.__dataclass_fields__}
    fields["keywords"], fields["evidence"] = tuple(record["keywords"]), tuple(record["evidence"])
    return Label(**fields)
