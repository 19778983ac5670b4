"""Language models in the three roles: each turns cases into calls, has them made, and reads the answers.

They fill the same protocols as the keyword workers. All cases come in one batch, so that the server is kept busy; a
call whose answer is in the log is not made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from antar.core.hashing import sha256_json
from antar.interpret.judge import without_texts
from antar.interpret.llm.asking import Asking
from antar.interpret.llm.calls import Call, Outcome, Role
from antar.interpret.llm.log import CallLog, Entry
from antar.interpret.prompting import load_prompt
from antar.interpret.questions import Questions
from antar.interpret.types import (
    Evidence,
    Label,
    Prediction,
    PredictionCase,
    SaebenchAnswer,
    SaebenchCase,
    ValidationCase,
    Verdict,
)

CALLS = "calls"
"""The folder of the logs, beside the records that are made from them."""


class Model:
    """One model in one role, with the log of its calls."""

    def __init__(self, role: Role, asking: Asking, questions: Questions, language: str, folder: Path) -> None:
        self.role, self.asking, self.questions = role, asking, questions
        self.prompt = load_prompt(role, language)
        from antar.interpret.llm.client import Client  # brings openai, which a plan need not wait for

        self._client, self._path = Client(asking), folder / CALLS / f"{role}.jsonl"
        self._log: CallLog | None = None

    @property
    def fingerprint(self) -> str:
        asking = self.asking
        return sha256_json([asking.model, asking.revision, dict(asking.parameters), self.prompt.sha256])

    def ask(self, calls: Sequence[Call], title: str) -> list[Outcome]:
        log = self._log = self._log or CallLog(self._path)
        return self._client.ask(calls, log, title)

    def entries(self) -> list[Entry]:
        """What the log says of every call that was used."""
        return [] if self._log is None else [self._log.entries[key] for key in self._client.used]


class LlmLabeller:
    """Fills the `Labeller` protocol."""

    def __init__(self, model: Model) -> None:
        self.model, self.name, self.version = model, model.asking.model, model.prompt.name
        self.fingerprint = model.fingerprint

    def label(self, batch: Sequence[Evidence]) -> list[Label]:
        ask = self.model.questions
        outcomes = self.model.ask([ask.label(evidence) for evidence in batch], "labels")
        return [ask.read_label(evidence, outcome) for evidence, outcome in zip(batch, outcomes, strict=True)]


class LlmValidator:
    """Fills the `Validator` protocol. A label without texts to judge it by is not asked about."""

    def __init__(self, model: Model, min_texts: int) -> None:
        self.model, self.name, self.version = model, model.asking.model, model.prompt.name
        self.fingerprint, self._min_texts = model.fingerprint, min_texts

    def validate(self, batch: Sequence[ValidationCase]) -> list[Verdict]:
        ask = self.model.questions
        unchecked = [without_texts(case, self._min_texts) for case in batch]
        judged = [case for case, verdict in zip(batch, unchecked, strict=True) if verdict is None]
        outcomes = iter(self.model.ask([ask.validate(case) for case in judged], "verdicts"))
        return [
            ask.read_verdict(case, next(outcomes)) if verdict is None else verdict
            for case, verdict in zip(batch, unchecked, strict=True)
        ]


class LlmPredictor:
    """Fills the `Predictor` protocol: one text a question, one word an answer. Also asks SAEBench's form."""

    def __init__(self, model: Model, bench: Model) -> None:
        self.model, self.bench = model, bench
        self.name, self.version, self.fingerprint = model.asking.model, model.prompt.name, model.fingerprint

    def predict(self, batch: Sequence[PredictionCase]) -> list[list[Prediction]]:
        ask = self.model.questions
        calls = [ask.predict(case.claim, text) for case in batch for text in case.texts]
        answers = map(ask.read_prediction, self.model.ask(calls, "predictions"))
        return [list(islice(answers, len(case.texts))) for case in batch]

    def saebench(self, batch: Sequence[SaebenchCase]) -> list[SaebenchAnswer]:
        ask = self.bench.questions
        outcomes = self.bench.ask([ask.saebench(case) for case in batch], "SAEBench's form")
        return [ask.read_saebench(case, outcome) for case, outcome in zip(batch, outcomes, strict=True)]
