"""How much of a server's throughput the labelling client uses: calls/s of antar beside a plain saturating loop.

Both ask the same scripted server (tests/interpret/llm/scripted_server.py, in a process of its own) questions of one
kind, with the same `openai` package and the same concurrency, in turns. The loop does nothing else: no log, no fsync,
no schema, no check. antar writes every call to the disk before it counts. Prints one JSON line; `ratio_saturation` is
the ratio of medians, and 0.95 was asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai

from antar.core.machine import machine_facts
from antar.core.progress import console
from antar.interpret.answers import LabelAnswer, json_schema
from antar.interpret.llm.asking import Asking, Target
from antar.interpret.llm.calls import Call
from antar.interpret.llm.client import Client
from antar.interpret.llm.config import LlmWorker
from antar.interpret.llm.log import CallLog
from antar.interpret.questions import Questions
from antar.interpret.types import Evidence, ShownText

SERVER = Path(__file__).parents[1] / "tests/interpret/llm/scripted_server.py"
PARAMETERS: dict[str, Any] = {"temperature": 0.0, "seed": 0, "max_tokens": 400, "extra_body": {}}


@contextlib.contextmanager
def served(delay_s: float) -> Iterator[str]:
    command = [sys.executable, str(SERVER), "--port", "0", "--delay", str(delay_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def questions(n: int, start: int) -> list[Call]:
    """Label questions of 20 examples and 20 silent texts, as the stage asks them."""
    ask = Questions(LlmWorker(model="scripted"), 300, 0)
    found: list[Call] = []
    for i in range(start, start + n):
        texts = [
            ShownText(f"t{j}", f"question {i}, text {j}: " + "words of a text " * 12, "en", 1.0 + j)
            for j in range(40)
        ]
        found.append(ask.label(Evidence(f"base.layer06/{i}", tuple(texts[:20]), tuple(texts[20:]))))
    return found


def plain(url: str, calls: list[Call], concurrency: int) -> float:
    """Seconds of a loop that only keeps the server busy."""

    async def run() -> float:
        client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0)
        line = iter(calls)
        schema = {"name": "answer", "strict": True, "schema": json_schema(LabelAnswer, None)}

        async def work() -> None:
            for call in line:
                await client.chat.completions.create(
                    model="scripted", messages=call.messages, max_tokens=400, temperature=0, seed=0,  # pyright: ignore
                    response_format={"type": "json_schema", "json_schema": schema},
                )  # fmt: skip

        started = time.monotonic()
        await asyncio.gather(*(work() for _ in range(concurrency)))
        seconds = time.monotonic() - started
        await client.close()
        return seconds

    return asyncio.run(run())


def ours(client: Client, calls: list[Call], folder: Path) -> float:
    log = CallLog(folder / f"{calls[0].about.replace('/', '-')}.jsonl")
    started = time.monotonic()
    outcomes = client.ask(calls, log, "calls")
    seconds = time.monotonic() - started
    assert all(outcome.answer for outcome in outcomes)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=600, help="calls a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--delay", type=float, default=0.4, help="seconds that the server takes for a call")
    parser.add_argument("--out", type=Path, default=None)
    asked = parser.parse_args()
    console.quiet = True
    rates: dict[str, list[float]] = {"plain": [], "antar": []}
    with served(asked.delay) as url, tempfile.TemporaryDirectory() as folder:
        targets = [Target(url, "", asked.concurrency)]
        client = Client(Asking("scripted", None, PARAMETERS, 60.0, 5, 60.0, lambda: targets))
        for turn in range(asked.rounds):
            calls = questions(asked.calls, 2 * turn * asked.calls)
            others = questions(asked.calls, (2 * turn + 1) * asked.calls)
            rates["plain"].append(asked.calls / plain(url, calls, asked.concurrency))
            rates["antar"].append(asked.calls / ours(client, others, Path(folder)))
    medians = {name: statistics.median(its) for name, its in rates.items()}
    result = {
        "benchmark": "label_throughput",
        "ratio_saturation": round(medians["antar"] / medians["plain"], 4),
        "calls_per_second": {name: round(value, 1) for name, value in medians.items()},
        "rounds": {name: [round(value, 1) for value in its] for name, its in rates.items()},
        "calls": asked.calls,
        "concurrency": asked.concurrency,
        "server_seconds": asked.delay,
        "machine": machine_facts(),
    }
    line = json.dumps(result)
    print(line)
    if asked.out:
        asked.out.write_text(line + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
