"""Who labels, validates and predicts under a config: the one place where a worker is chosen, and a server started."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from antar.core.errors import UserError
from antar.core.hashing import sha256_file
from antar.interpret.config import InterpretConfig, Worker
from antar.interpret.corpus import TextCorpus
from antar.interpret.judge import KeywordPredictor, KeywordValidator
from antar.interpret.keywords import KeywordModel
from antar.interpret.labeller import KeywordLabeller
from antar.interpret.llm.asking import Asking, Target
from antar.interpret.llm.calls import Role
from antar.interpret.llm.config import Endpoint, LlamaCppWorker, LlmWorker
from antar.interpret.llm.embedded import find_gguf, serve_gguf
from antar.interpret.llm.usage import Usage
from antar.interpret.llm_workers import LlmLabeller, LlmPredictor, LlmValidator, Model
from antar.interpret.questions import Questions
from antar.interpret.types import Labeller, Predictor, SaebenchAnswer, SaebenchCase, Validator

ModelConfig = LlmWorker | LlamaCppWorker


@dataclass(frozen=True)
class Workers:
    """notes: one line for each worker that the study names and this run does without, and for each doubt about one.

    The keyword workers are there in any case, as the baseline.
    """

    labeller: Labeller
    validator: Validator
    predictor: Predictor
    keyword_labeller: KeywordLabeller
    keyword_predictor: KeywordPredictor
    prompts: Literal["en", "hi"]
    notes: tuple[str, ...]
    configs: dict[str, ModelConfig]

    @property
    def llm_labels(self) -> bool:
        return isinstance(self.labeller, LlmLabeller)

    @property
    def llm_validates(self) -> bool:
        return isinstance(self.validator, LlmValidator)

    @property
    def llm_predicts(self) -> bool:
        return isinstance(self.predictor, LlmPredictor)

    def saebench(self, batch: Sequence[SaebenchCase]) -> list[SaebenchAnswer]:
        assert isinstance(self.predictor, LlmPredictor)
        return self.predictor.saebench(batch)

    def usage(self) -> dict[str, dict[str, Any]]:
        """role → the model, and what its calls came to."""
        found: dict[str, dict[str, Any]] = {}
        for model in self._models():
            config = self.configs["predictor" if model.role == "saebench" else _WORKER_OF[model.role]]
            who = {"model": model.asking.model, "revision": model.asking.revision}
            found[model.role] = who | Usage.of(model.entries()).as_dict(config.prices)
        return found

    def _models(self) -> list[Model]:
        models = [worker.model for worker in (self.labeller, self.validator, self.predictor)
                  if isinstance(worker, LlmLabeller | LlmValidator | LlmPredictor)]  # fmt: skip
        return [*models, self.predictor.bench] if isinstance(self.predictor, LlmPredictor) else models


_WORKER_OF = {"label": "labeller", "validate": "validator", "predict": "predictor"}


@contextmanager
def open_workers(
    corpus: TextCorpus, cfg: InterpretConfig, seed: int, folder: Path, study_folder: Path
) -> Generator[Workers]:
    """folder: the run's `interpret`; study_folder: where the study file's own paths begin. A server of antar's own
    is started when the first call needs it, and ends with the block."""
    keywords = KeywordModel.fit(corpus, cfg.keywords, cfg.examples, seed)
    labeller, validator, predictor = (live_model(worker) for worker in (cfg.labeller, cfg.validator, cfg.predictor))
    with ExitStack() as servers:
        hall = _Hall(servers, study_folder)

        def model(role: Role, worker: ModelConfig) -> Model:
            questions = Questions(worker, cfg.characters, seed)
            return Model(role, hall.asking(worker, seed), questions, worker.prompts, folder)

        live = {"labeller": labeller, "validator": validator, "predictor": predictor}
        yield Workers(
            labeller=LlmLabeller(model("label", labeller)) if labeller else KeywordLabeller(keywords),
            validator=LlmValidator(model("validate", validator), cfg.validation.min_texts)
            if validator
            else KeywordValidator(keywords, cfg.validation),
            predictor=LlmPredictor(model("predict", predictor), model("saebench", predictor))
            if predictor
            else KeywordPredictor(),
            keyword_labeller=KeywordLabeller(keywords),
            keyword_predictor=KeywordPredictor(),
            prompts=validator.prompts if validator else "en",
            notes=(*_without(cfg), *doubts(labeller, validator)),
            configs={role: worker for role, worker in live.items() if worker},
        )


def live_model(worker: Worker) -> ModelConfig | None:
    """The worker, where it is a language model that this run can ask."""
    if isinstance(worker, LlamaCppWorker):
        return worker
    return worker if isinstance(worker, LlmWorker) and worker.base_url else None


class _Hall:
    """The embedded servers of a run: one for each file and way to serve it, started when it is first needed."""

    def __init__(self, servers: ExitStack, study_folder: Path) -> None:
        self._servers, self._study_folder = servers, study_folder
        self._running: dict[tuple[Any, ...], Target] = {}

    def asking(self, worker: ModelConfig, seed: int) -> Asking:
        revision, connect = self._place(worker)
        return Asking(
            model=worker.model,
            revision=revision,
            parameters={
                "temperature": worker.temperature,
                "seed": seed if worker.seed is None else worker.seed,
                "max_tokens": worker.max_tokens,
                "extra_body": dict(worker.extra_body),
            },
            timeout_s=worker.timeout_s,
            attempts=worker.attempts,
            patience_s=worker.patience_s,
            connect=connect,
        )

    def _place(self, worker: ModelConfig) -> tuple[str | None, Callable[[], Sequence[Target]]]:
        if isinstance(worker, LlmWorker):
            return worker.revision, lambda: [_target(endpoint, worker) for endpoint in worker.base_url]
        gguf = find_gguf(worker.gguf, self._study_folder)
        # The file itself is the revision: a name can be given to any weights.
        return worker.revision or f"sha256:{sha256_file(gguf)}", lambda: [self._serve(worker, gguf)]

    def _serve(self, worker: LlamaCppWorker, gguf: Path) -> Target:
        key = (gguf, worker.context, worker.concurrency, worker.threads, worker.gpu_layers)
        if key not in self._running:
            served = self._servers.enter_context(serve_gguf(worker, gguf))
            self._running[key] = Target(served.base_url, served.token, worker.concurrency)
        return self._running[key]


def _target(endpoint: Endpoint, worker: LlmWorker) -> Target:
    key = ""
    if endpoint.key_env is not None:
        key = os.environ.get(endpoint.key_env, "")
        if not key:
            raise UserError(
                f"{endpoint.base_url}: expected its key in the environment variable {endpoint.key_env}, found none; "
                f"export {endpoint.key_env}=…"
            )
    return Target(endpoint.base_url, key, endpoint.concurrency or worker.concurrency)


def _without(cfg: InterpretConfig) -> list[str]:
    named = (("labeller", cfg.labeller), ("validator", cfg.validator), ("predictor", cfg.predictor))
    return [
        f"{role} {worker.model}: no endpoint given: keywords used instead"
        for role, worker in named
        if isinstance(worker, LlmWorker) and not worker.base_url
    ]


def doubts(labeller: ModelConfig | None, validator: ModelConfig | None) -> list[str]:
    """A validator that thinks as the labeller does repeats its mistakes."""
    if labeller is None or validator is None:
        return []
    if labeller.model == validator.model:
        return [f"{labeller.model} validates its own labels: name another model as the validator"]
    if family(labeller.model) == family(validator.model):
        return [
            f"labeller {labeller.model} and validator {validator.model} are of one family "
            f"({family(labeller.model)}): they may share their mistakes"
        ]
    return []


def family(model: str) -> str:
    """The family of a model by its name: `Qwen/Qwen1.5-32B-Chat` → `qwen`."""
    name = model.rsplit("/", 1)[-1].lower()
    found = re.match(r"(?:meta[-_])?([a-z]+)", name)
    return found.group(1) if found else name
