"""Calls for the tests of the client, the answers that a scripted server gives to them, and a program that asks them.

As a program (`asked.py BASE_URL LOG N CONCURRENCY`) it waits for lines on its standard input. For each it
forks a child that makes N calls, and prints the child's process id; the child prints how many calls have an outcome.
So a test can kill many children without waiting for their imports.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from antar.interpret.llm.asking import Asking, Target
from antar.interpret.llm.calls import Call, Outcome
from antar.interpret.llm.client import Client
from antar.interpret.llm.log import CallLog

PARAMETERS: dict[str, Any] = {"temperature": 0.0, "seed": 3, "max_tokens": 100, "extra_body": {}}


class Answered(BaseModel):
    model_config = ConfigDict(extra="forbid")
    evidence: list[str]
    answer: Literal["COHERENT", "INCOHERENT"]
    label: str


def call(i: int, one_token: bool = False) -> Call:
    shown = f"t{i:05d}"

    def check(answer: Answered) -> str | None:
        strange = set(answer.evidence) - {shown}
        return f"evidence that was not shown: {sorted(strange)}" if strange else None

    return Call(
        role="predict" if one_token else "label",
        about=f"base.layer06/{i}",
        prompt="test.en.v1",
        prompt_sha256="0" * 64,
        inputs={"i": i},
        system="Answer in JSON.",
        user=f"number {i} text {shown}",
        answer=None if one_token else Answered,
        check=check,
    )


def number_of(request: dict[str, Any]) -> int:
    found = re.search(r"number (\d+)", request["messages"][1]["content"])
    return int(found.group(1)) if found else -1


def answer_text(request: dict[str, Any]) -> str:
    i = number_of(request)
    return json.dumps({"evidence": [f"t{i:05d}"], "answer": "COHERENT", "label": f"label {i}"})


def asking(*urls: str, concurrency: int = 16, key: str = "", **changed: Any) -> Asking:
    settings: dict[str, Any] = {"timeout_s": 5.0, "attempts": 6, "patience_s": 5.0} | changed
    targets = [Target(url, key, concurrency) for url in urls]
    return Asking("scripted", None, PARAMETERS, connect=lambda: targets, **settings)


def ask(log: Path, n: int, *urls: str, one_token: bool = False, **changed: Any) -> list[Outcome]:
    calls = [call(i, one_token) for i in range(n)]
    return Client(asking(*urls, **changed)).ask(calls, CallLog(log), "calls")


def serve_children(url: str, log: Path, n: int, concurrency: int) -> None:
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                found = ask(log, n, url, concurrency=concurrency, patience_s=30.0)
                print(len(found), flush=True)
                status = 0
            finally:
                os._exit(status)
        print(child, flush=True)
        os.waitpid(child, 0)
        print("ended", flush=True)


if __name__ == "__main__":
    serve_children(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
