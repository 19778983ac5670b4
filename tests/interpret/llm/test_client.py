"""The client against a server that does everything wrong: no call lost, none twice, and one line for a person."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from antar.core.errors import UserError
from antar.interpret.llm.client import Client
from antar.interpret.llm.endpoint import Abilities
from antar.interpret.llm.log import CallLog, LogWriter, read_calls

sys.path.insert(0, str(Path(__file__).parent))
from asked import answer_text, ask, asking, call, number_of
from scripted_server import FAULT_KINDS, Answer, Faults, Features, ScriptedServer

PROBES = 8
"""At most so many requests of one endpoint are probes."""


def answers(request: dict[str, Any]) -> Answer:
    return Answer(answer_text(request))


class Asker:
    """The program of `asked.py`: starts children that make calls, one after another."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def start(self) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def rest(self) -> list[str]:
        """What the child printed before it ended."""
        assert self.process.stdout is not None
        lines: list[str] = []
        while (line := self.process.stdout.readline().strip()) != "ended":
            assert line, "the program itself ended"
            lines.append(line)
        return lines


@contextmanager
def program(url: str, log: Path, n: int, concurrency: int) -> Generator[Asker]:
    command = [sys.executable, str(Path(__file__).parent / "asked.py"), url, str(log), str(n), str(concurrency)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield Asker(process)
    finally:
        process.kill()
        process.communicate()


def keys_of(log: Path) -> Counter[str]:
    return Counter(record["key"] for record in read_calls(log))


def test_every_call_is_answered_once_and_a_rerun_asks_nothing(tmp_path: Path) -> None:
    with ScriptedServer(answers) as server:
        outcomes = ask(tmp_path / "label.jsonl", 200, server.base_url)
        assert [outcome.answer["label"] for outcome in outcomes if outcome.answer] == [
            f"label {i}" for i in range(200)
        ]
        asked = server.counts.requests
        assert asked <= 200 + PROBES
        again = ask(tmp_path / "label.jsonl", 210, server.base_url)
        assert again[:200] == outcomes
        assert server.counts.requests - asked <= 10 + PROBES
    assert set(keys_of(tmp_path / "label.jsonl").values()) == {1}
    no_server = ask(tmp_path / "label.jsonl", 210, "http://127.0.0.1:9/v1")
    assert no_server == again


def test_the_same_question_twice_is_asked_once(tmp_path: Path) -> None:
    with ScriptedServer(answers) as server:
        same = [call(1), call(1), call(2)]
        outcomes = Client(asking(server.base_url)).ask(same, CallLog(tmp_path / "label.jsonl"), "calls")
        assert outcomes[0] == outcomes[1] != outcomes[2]
        assert len(keys_of(tmp_path / "label.jsonl")) == 2


LONG = pytest.mark.long


@pytest.mark.slow
@pytest.mark.parametrize("n", [600, pytest.param(5000, marks=LONG)])
def test_at_a_fifth_of_faults_every_call_is_answered_or_recorded_as_failed(tmp_path: Path, n: int) -> None:
    log = tmp_path / "label.jsonl"
    with ScriptedServer(answers) as server, ScriptedServer(answers) as other:
        for one, seed in ((server, 1), (other, 2)):
            one.faults = Faults(0.2, FAULT_KINDS, seed, retry_after_s=0.01, slow_s=0.05)
        dying = threading.Timer(1.5, other.die)
        returning = threading.Timer(3.0, other.come_back)
        dying.start()
        returning.start()
        outcomes = ask(log, n, server.base_url, other.base_url, concurrency=24, patience_s=20.0)
        dying.join()
        returning.join()
        faulted = Counter(server.counts.by_fault) + Counter(other.counts.by_fault)
    assert len(outcomes) == n
    assert set(faulted) == set(FAULT_KINDS)
    for i, outcome in enumerate(outcomes):
        assert (outcome.answer is None) == (outcome.failed is not None)
        assert outcome.answer is None or outcome.answer["label"] == f"label {i}"
    failed = [outcome.failed for outcome in outcomes if outcome.failed]
    assert len(failed) < n / 50
    keys = keys_of(log)
    assert len(keys) == n
    assert set(keys.values()) == {1}
    assert sum(record["failed"] is not None for record in read_calls(log)) == len(failed)
    assert any(len(record["attempts"]) > 1 for record in read_calls(log))


@pytest.mark.slow
@pytest.mark.parametrize(("n", "times"), [(800, 5), pytest.param(5000, 20, marks=LONG)])
def test_after_kill_9_at_random_moments_no_call_is_lost_and_none_is_written_twice(
    tmp_path: Path, n: int, times: int
) -> None:
    log, rng = tmp_path / "label.jsonl", random.Random(5)
    with ScriptedServer(lambda request: Answer(answer_text(request), delay_s=0.004)) as server:
        server.faults = Faults(0.2, FAULT_KINDS, 3, retry_after_s=0.01, slow_s=0.05)
        with program(server.base_url, log, n, 24) as asker:
            kills, grown = 0, 0
            while kills < times:
                before = log.stat().st_size if log.exists() else 0
                child = asker.start()
                # Kill while it writes: once its log grows, after a random while.
                deadline = time.monotonic() + 20
                while not (log.exists() and log.stat().st_size > before) and time.monotonic() < deadline:
                    time.sleep(0.002)
                time.sleep(rng.uniform(0, 0.08))
                os.kill(child, signal.SIGKILL)
                assert asker.rest() == []
                kills += 1
                grown += log.stat().st_size > before
            asker.start()
            finished = asker.rest()
        whole = sum(server.counts.answered.values())
        asked_twice = sum(count - 1 for count in server.counts.answered.values())
        assert grown > times / 2
    assert finished == [str(n)]
    keys = keys_of(log)
    assert len(keys) == n
    assert set(keys.values()) == {1}
    # Only what was in flight at a kill (24 calls) may have been answered twice; and each start probes.
    assert asked_twice <= (kills + 1) * (24 + PROBES)
    assert whole >= n - sum(record["failed"] is not None for record in read_calls(log))


def test_an_answer_that_cannot_be_used_fails_with_its_reason_and_stays_failed(tmp_path: Path) -> None:
    def script(request: dict[str, Any]) -> Answer:
        i = number_of(request)
        bad = {0: Answer("no JSON at all"), 1: Answer('{"evidence": ["t99999"], "answer": "COHERENT", "label": "x"}'),
               2: Answer('{"evidence": [], "answer": "MAYBE", "label": "x"}'),
               3: Answer(answer_text(request), finish_reason="length"),
               4: Answer('{"evidence": [], "answer": "COHERENT", "label": "x", "more": 1}')}  # fmt: skip
        return bad.get(i) or answers(request)

    log = tmp_path / "label.jsonl"
    with ScriptedServer(script) as server:
        outcomes = ask(log, 6, server.base_url)
        reasons = [outcome.failed for outcome in outcomes]
        assert reasons[5] is None
        expected = ["no JSON", "not shown", "answer: ", "cut off", "more: "]
        for reason, part in zip(reasons, expected, strict=False):
            assert reason is not None
            assert part in reason
        asked = server.counts.requests
        assert ask(log, 6, server.base_url) == outcomes
        assert server.counts.requests == asked


def test_a_second_answer_may_be_right_and_what_was_wrong_is_recorded(tmp_path: Path) -> None:
    seen: Counter[int] = Counter()

    def script(request: dict[str, Any]) -> Answer:
        seen[number_of(request)] += 1
        return Answer("hm") if seen[number_of(request)] == 1 else answers(request)

    with ScriptedServer(script) as server:
        (outcome,) = ask(tmp_path / "label.jsonl", 1, server.base_url)
    assert outcome.answer is not None
    (record,) = read_calls(tmp_path / "label.jsonl")
    assert record["attempts"] == ["the answer is no JSON object", "answered"]
    assert record["usage"]["prompt_tokens"] > 0


def test_an_answer_that_cannot_be_used_is_asked_for_again_at_once_and_the_bar_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At once, while the server remembers the prompt; from the end of the line nothing would be done for long."""
    monkeypatch.setattr("antar.core.progress.PLAIN_SECONDS", 0.0)
    order: list[int] = []

    def script(request: dict[str, Any]) -> Answer:
        i = number_of(request)
        order.append(i)
        return Answer("hm") if i == 2 or order.count(i) == 1 else answers(request)

    with ScriptedServer(script) as server:
        outcomes = ask(tmp_path / "label.jsonl", 4, server.base_url, concurrency=1)
    assert [i for i in order if i >= 0] == [0, 0, 1, 1, 2, 2, 2, 3, 3]
    assert [outcome.answer is None for outcome in outcomes] == [False, False, True, False]
    said = capsys.readouterr().err.splitlines()
    assert "  calls: 0 of 4 calls unusable answers: 1" in said
    assert said[-1].endswith("left failed: 1, unusable answers: 6")


def test_a_server_that_is_busy_is_given_less_and_nothing_fails(tmp_path: Path) -> None:
    with ScriptedServer(lambda r: Answer(answer_text(r), delay_s=0.01), capacity=4) as server:
        outcomes = ask(tmp_path / "label.jsonl", 300, server.base_url, concurrency=32)
        refused = server.counts.by_status.get(429, 0) or server.counts.by_status.get("429", 0)
    assert all(outcome.answer for outcome in outcomes)
    assert 0 < refused < 300


def test_a_dead_endpoint_is_left_out_and_taken_back(tmp_path: Path) -> None:
    slow = lambda r: Answer(answer_text(r), delay_s=0.02)  # noqa: E731
    with ScriptedServer(slow) as server, ScriptedServer(slow) as other:
        threading.Timer(0.5, other.die).start()
        back = threading.Timer(1.2, other.come_back)
        back.start()
        outcomes = ask(tmp_path / "label.jsonl", 1500, server.base_url, other.base_url, concurrency=8)
        back.join()
        by_endpoint = Counter(record["reply"]["endpoint"] for record in read_calls(tmp_path / "label.jsonl"))
        last = [record["reply"]["endpoint"] for record in read_calls(tmp_path / "label.jsonl")][-100:]
    assert all(outcome.answer for outcome in outcomes)
    assert set(by_endpoint) == {server.base_url, other.base_url}
    assert other.base_url in last


@pytest.mark.parametrize("kind", ["500", "dropped"])
def test_an_endpoint_that_only_lists_its_models_takes_no_call_with_it(tmp_path: Path, kind: str) -> None:
    """Its engine has died and its health check has not; the other endpoint answers everything."""
    log, n = tmp_path / "label.jsonl", 300
    slow = lambda r: Answer(answer_text(r), delay_s=0.05)  # noqa: E731
    with ScriptedServer(slow) as server, ScriptedServer(slow) as other:
        client = Client(asking(server.base_url, other.base_url, concurrency=8, attempts=3, patience_s=30.0))
        client.abilities = {url: Abilities("json_schema", 20) for url in (server.base_url, other.base_url)}
        other.faults = Faults(1.0, (kind,), 1)
        outcomes = client.ask([call(i) for i in range(n)], CallLog(log), "calls")
    assert all(outcome.answer for outcome in outcomes)
    assert {record["reply"]["endpoint"] for record in read_calls(log)} == {server.base_url}


@pytest.mark.parametrize("failing", [1, 30])
def test_calls_that_break_any_server_are_recorded_also_when_they_alone_are_left(tmp_path: Path, failing: int) -> None:
    log, n = tmp_path / "label.jsonl", 60

    def script(request: dict[str, Any]) -> Answer:
        return Answer(answer_text(request), status=500 if 0 <= number_of(request) < failing else 200)

    with ScriptedServer(script) as server:
        for _ in range(2):  # the second time only they are asked
            outcomes = ask(log, n, server.base_url, attempts=2, patience_s=30.0)
            assert [outcome.answer is None for outcome in outcomes] == [i < failing for i in range(n)]
    assert len(keys_of(log)) == n
    assert set(keys_of(log).values()) == {1}


def test_a_server_that_is_busy_at_the_start_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("antar.interpret.llm.round.START_S", 0.2)
    with ScriptedServer(answers, capacity=0) as server:
        threading.Timer(1.5, lambda: setattr(server, "capacity", None)).start()
        assert ask(tmp_path / "label.jsonl", 1, server.base_url, patience_s=30.0)[0].answer


def test_no_endpoint_is_one_line_and_what_is_done_stays(tmp_path: Path) -> None:
    log = tmp_path / "label.jsonl"
    with pytest.raises(UserError, match=r"expected an endpoint that answers, found none .*nobody listens"):
        ask(log, 5, "http://127.0.0.1:9/v1", patience_s=0.3)
    answered = itertools.count(1)

    def script(request: dict[str, Any]) -> Answer:
        if next(answered) == 60:  # not after a time: a busy machine may have answered nothing by then
            threading.Thread(target=server.die).start()
        return Answer(answer_text(request), delay_s=0.02)

    with ScriptedServer(script) as server:
        with pytest.raises(UserError, match=r"finished calls are kept"):
            ask(log, 500, server.base_url, concurrency=8, patience_s=0.8)
        kept = len(keys_of(log))
        assert 0 < kept < 500
        server.come_back()
        assert len(ask(log, 500, server.base_url, concurrency=64)) == 500
    assert set(keys_of(log).values()) == {1}


def test_a_slow_disk_is_no_silent_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flush = LogWriter._flush

    def slowly(writer: LogWriter, data: bytes) -> None:
        time.sleep(1.5)
        flush(writer, data)

    monkeypatch.setattr(LogWriter, "_flush", slowly)
    with ScriptedServer(answers) as server:
        outcomes = ask(tmp_path / "label.jsonl", 3, server.base_url, concurrency=1, patience_s=0.5)
    assert all(outcome.answer for outcome in outcomes)


def test_a_wrong_key_or_model_stops_at_once(tmp_path: Path) -> None:
    with ScriptedServer(answers, token="right") as server:
        with pytest.raises(UserError, match=r"401.*key_env"):
            ask(tmp_path / "a.jsonl", 3, server.base_url)
        assert ask(tmp_path / "a.jsonl", 3, server.base_url, key="right")[0].answer
    with ScriptedServer(answers, models=("another",)) as server, pytest.raises(UserError, match="it serves another"):
        ask(tmp_path / "b.jsonl", 3, server.base_url)
    assert "right" not in (tmp_path / "a.jsonl").read_text(encoding="utf-8").replace("copyright", "")


def test_a_server_that_fails_everything_stops_the_run_and_its_failures_are_tried_again(tmp_path: Path) -> None:
    log = tmp_path / "label.jsonl"
    with ScriptedServer(answers, faults=Faults(1.0, ("500",), 1)) as server:
        with pytest.raises(UserError, match=r"found none .*500: something broke"):
            ask(log, 100, server.base_url, patience_s=0.5)
        server.faults = None
        server.answer = lambda _: Answer("", status=400)
        with pytest.raises(UserError, match=r"the first 20 calls all failed .*400: this question breaks it"):
            ask(log, 100, server.base_url)
        assert {record["failed_by"] for record in read_calls(log)} == {"server"}
        server.answer = answers
        assert all(outcome.answer for outcome in ask(log, 100, server.base_url))
    assert set(keys_of(log).values()) == {1}


@pytest.mark.parametrize(
    ("features", "mode"),
    [
        (Features(), "json_schema"),
        (Features(json_schema="rejected"), "json_object"),
        (Features(json_schema="ignored", prose=True), "json_object"),
        (Features(json_schema="rejected", json_object="rejected"), "prompt"),
    ],
)
def test_each_endpoint_is_asked_how_it_takes_schemas(tmp_path: Path, features: Features, mode: str) -> None:
    with ScriptedServer(answers, features=features) as server:
        (outcome,) = ask(tmp_path / "label.jsonl", 1, server.base_url)
    assert outcome.answer is not None
    (record,) = read_calls(tmp_path / "label.jsonl")
    assert record["reply"]["structured"] == mode


@pytest.mark.parametrize(
    ("features", "top"), [(Features(), 20), (Features(max_top_logprobs=5), 5), (Features(logprobs="rejected"), 0)]
)
def test_one_token_answers_have_probabilities_where_the_server_has_them(
    tmp_path: Path, features: Features, top: int
) -> None:
    def script(request: dict[str, Any]) -> Answer:
        yes = 0.9 if number_of(request) % 2 == 0 else 0.2
        return Answer("Yes" if yes > 0.5 else "No", logprobs=[(" Yes", yes), (" No", 1 - yes)])

    with ScriptedServer(script, features=features) as server:
        outcomes = ask(tmp_path / "predict.jsonl", 4, server.base_url, one_token=True)
    assert [outcome.answer for outcome in outcomes] == [{"yes": i % 2 == 0} for i in range(4)]
    assert outcomes[0].score == (pytest.approx(0.9) if top else None)
    assert {record["reply"]["top_logprobs"] for record in read_calls(tmp_path / "predict.jsonl")} == {top}


def test_ctrl_c_ends_cleanly_and_the_rest_is_asked_later(tmp_path: Path) -> None:
    log = tmp_path / "label.jsonl"
    slow = ScriptedServer(lambda r: Answer(answer_text(r), delay_s=0.02))
    with slow as server, program(server.base_url, log, 2000, 8) as asker:
        child = asker.start()
        while not (log.exists() and log.stat().st_size):
            time.sleep(0.01)
        os.kill(child, signal.SIGINT)
        assert asker.rest() == []
    data = log.read_bytes()
    assert data.endswith(b"\n")
    assert 0 < len(keys_of(log)) < 2000


def test_it_asks_from_within_a_running_event_loop(tmp_path: Path) -> None:
    async def in_a_notebook(url: str) -> int:
        return len(ask(tmp_path / "label.jsonl", 3, url))

    with ScriptedServer(answers) as server:
        assert asyncio.run(in_a_notebook(server.base_url)) == 3


def test_the_key_is_over_all_that_decides_an_answer() -> None:
    one = asking("http://a/v1")
    assert one.key(call(1)) == asking("http://b/v1", concurrency=3, timeout_s=9.0, attempts=1).key(call(1))
    others = [
        one.key(call(2)),
        asking("http://a/v1").__class__(**{**vars(one), "model": "other"}).key(call(1)),
        one.__class__(**{**vars(one), "revision": "abc"}).key(call(1)),
        one.__class__(**{**vars(one), "parameters": {**one.parameters, "temperature": 1.0}}).key(call(1)),
        one.key(call(1).__class__(**{**vars(call(1)), "prompt_sha256": "1" * 64})),
        one.key(call(1).__class__(**{**vars(call(1)), "schema": {"type": "object"}})),
        one.key(call(1).__class__(**{**vars(call(1)), "user": "x"})),
    ]
    assert len({one.key(call(1)), *others}) == 8


def test_a_torn_or_damaged_log_is_mended(tmp_path: Path) -> None:
    log = tmp_path / "label.jsonl"
    with ScriptedServer(answers) as server:
        ask(log, 10, server.base_url)
        lines = log.read_bytes().splitlines(keepends=True)
        assert json.loads(lines[0])["inputs"]
        log.write_bytes(b"".join([*lines[:4], b"{ damaged\n", *lines[5:9], lines[9][:50]]))
        outcomes = ask(log, 10, server.base_url)
    assert all(outcome.answer for outcome in outcomes)
    assert set(keys_of(log).values()) == {1}
    assert len(log.read_bytes().splitlines()) == 10


def test_an_answer_that_is_not_what_was_written_is_never_taken_for_it_and_is_kept_aside(tmp_path: Path) -> None:
    log = tmp_path / "label.jsonl"
    with ScriptedServer(answers) as server:
        before = ask(log, 10, server.base_url)
        lines = log.read_bytes().splitlines(keepends=True)
        at = lines[4].index(b'"answer": ') + 20
        forged = lines[4][:at] + bytes([lines[4][at] ^ 1]) + lines[4][at + 1 :]
        for _ in range(2):  # the second time: as after a kill between the keeping and the mending
            log.write_bytes(b"".join([*lines[:4], forged, *lines[5:]]))
            assert ask(log, 10, server.base_url) == before
    assert (tmp_path / "label.damaged").read_bytes() == forged
    assert len(log.read_bytes().splitlines()) == 10


def test_a_disk_that_cannot_be_written_is_one_line_and_counts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    log = CallLog(tmp_path / "label.jsonl")
    monkeypatch.setattr("antar.interpret.llm.log.os.fsync", full)
    with ScriptedServer(answers) as server, pytest.raises(UserError, match="No space left on device"):
        Client(asking(server.base_url)).ask([call(1), call(2)], log, "calls")
    assert log.entries == {}


def test_a_server_that_is_slow_to_its_first_answer_is_waited_for(tmp_path: Path) -> None:
    with ScriptedServer(lambda r: Answer(answer_text(r), delay_s=0.6)) as server:
        server.features = Features(json_schema="rejected")  # so that the script itself answers a probe, late
        (outcome,) = ask(tmp_path / "label.jsonl", 1, server.base_url, patience_s=0.2)
    assert outcome.answer is not None
