"""Who labels, validates and predicts under a config: the one place where a worker is chosen."""

from __future__ import annotations

from dataclasses import dataclass

from antar.interpret.config import InterpretConfig, LlmWorker, Worker
from antar.interpret.corpus import TextCorpus
from antar.interpret.judge import KeywordPredictor, KeywordValidator
from antar.interpret.keywords import KeywordModel
from antar.interpret.labeller import KeywordLabeller
from antar.interpret.types import Labeller, Predictor, Validator


@dataclass(frozen=True)
class Workers:
    """notes: one line for each worker that the study names and this run does without."""

    labeller: Labeller
    validator: Validator
    predictor: Predictor
    notes: tuple[str, ...]


def choose_workers(corpus: TextCorpus, cfg: InterpretConfig, seed: int) -> Workers:
    model = KeywordModel.fit(corpus, cfg.keywords, cfg.examples, seed)
    named: tuple[tuple[str, Worker], ...] = (
        ("labeller", cfg.labeller),
        ("validator", cfg.validator),
        ("predictor", cfg.predictor),
    )
    return Workers(
        labeller=KeywordLabeller(model),
        validator=KeywordValidator(model, cfg.validation),
        predictor=KeywordPredictor(),
        notes=tuple(_note(role, worker) for role, worker in named if isinstance(worker, LlmWorker)),
    )


def _note(role: str, worker: LlmWorker) -> str:
    return f"{role} {worker.model}: no endpoint given: keywords used instead"
