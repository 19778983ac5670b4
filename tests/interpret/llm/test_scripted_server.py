"""The scripted server does what it says: every fault, every count, death and return, and who obeys what."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from injections import INJECTIONS, succeeded
from scripted_server import (
    FAULT_KINDS,
    Answer,
    Faults,
    Features,
    ScriptedServer,
    data_of,
    fixed,
    gullible,
    obedient,
    obeyed_in,
    outside_data,
)

TEXTS = [
    {"id": "k3f9", "text": "Diwali lamps in the yard", "language": "en", "activation": 7},
    {"id": "p2x1", "text": "the lamps of Diwali, again", "language": "en", "activation": 3},
    {"id": "m8q4", "text": "a bus that was late", "language": "en", "activation": 0},
]
LABEL = {
    "$defs": {"Category": {"enum": ["festival", "food"], "type": "string"}},
    "type": "object",
    "properties": {
        "answer": {"enum": ["COHERENT", "INCOHERENT"], "type": "string"},
        "label": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "category": {"anyOf": [{"$ref": "#/$defs/Category"}, {"type": "null"}]},
        "language": {"enum": ["en", "hi"], "type": "string"},
        "evidence": {"type": "array", "items": {"type": "string"}},
    },
}
VERDICT = {
    "type": "object",
    "properties": {
        "verdict": {"enum": ["KEEP", "REVISE", "INVALIDATE"], "type": "string"},
        "label": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "reason": {"type": "string"},
        "evidence": {"type": "array", "items": {"type": "string"}},
    },
}
ACTIVE = {"type": "object", "properties": {"active": {"type": "array", "items": {"type": "string"}}}}
PROBE = {"type": "object", "properties": {"probe": {"enum": ["q7"], "type": "string"}}}


def block(value, nonce="0a1b2c3d4e5f"):
    return f"<data-{nonce}>\n{json.dumps(value, ensure_ascii=False)}\n</data-{nonce}>"


def request(schema=LABEL, user=None, **more):
    user = user or "What are these about?\n" + block(TEXTS)
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    messages = [{"role": "system", "content": "You label."}, {"role": "user", "content": user}]
    return {"model": "m", "messages": messages} | ({"response_format": form} if schema else {}) | more


def ask(server, body=None, **more):
    return httpx.post(f"{server.base_url}/chat/completions", json=body or request(), timeout=5, **more)


def content_of(reply):
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"][0]["message"]["content"]


def test_the_openai_client_reads_its_answers():
    with ScriptedServer(token="t0k") as server:
        client = openai.OpenAI(base_url=server.base_url, api_key="t0k", max_retries=0)
        assert [model.id for model in client.models.list()] == ["scripted"]
        done = client.chat.completions.create(**request())
        assert json.loads(done.choices[0].message.content) == {
            "answer": "COHERENT",
            "label": "on lamps",
            "category": "festival",
            "language": "en",
            "evidence": ["k3f9", "p2x1"],
        }
        assert (done.choices[0].finish_reason, done.system_fingerprint, done.model) == ("stop", "fp_scripted", "m")
        assert done.usage.prompt_tokens > 10 and done.usage.completion_tokens > 10
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=server.base_url, api_key="other", max_retries=0).models.list()
        assert server.counts.by_status == {200: 2, 401: 1}


def test_one_token_with_its_probabilities():
    user = block({"label": "on lamps"}) + "\nDoes it fire on\n" + block({"id": "a", "text": "LAMPS!"})
    asked = request(None, user, max_tokens=1, logprobs=True, top_logprobs=5)
    with ScriptedServer() as server:
        choice = ask(server, asked).json()["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("yes", "length")
        first = choice["logprobs"]["content"][0]
        spread = {one["token"]: math.exp(one["logprob"]) for one in first["top_logprobs"]}
        assert first["token"] == "yes" and spread == pytest.approx({"yes": 0.9, "no": 0.1})
        server.features = Features(max_top_logprobs=4)
        assert ask(server, asked).json()["error"]["param"] == "top_logprobs"
        server.features = Features(logprobs="ignored")
        assert ask(server, asked).json()["choices"][0]["logprobs"] is None
        server.features = Features(logprobs="rejected")
        assert ask(server, asked).status_code == 400


def test_what_a_server_can_do():
    as_object = request(PROBE) | {"response_format": {"type": "json_object"}}
    as_object["messages"].append({"role": "user", "content": json.dumps(PROBE)})
    as_text = {k: v for k, v in as_object.items() if k != "response_format"}
    with ScriptedServer() as server:
        assert [content_of(ask(server, one)) for one in (request(PROBE), as_object, as_text)] == [
            '{"probe": "q7"}'
        ] * 3
        server.features = Features(json_schema="rejected", json_object="ignored", prose=True)
        error = ask(server, request(PROBE))
        assert error.status_code == 400 and error.json()["error"]["param"] == "response_format"
        assert '{"probe": "no"}' in content_of(ask(server, as_object))
        assert content_of(ask(server, as_text)).startswith("Here is the answer:\n```json\n{")
        server.features = Features(json_schema="ignored")
        assert content_of(ask(server)) == "I am not sure what you would like to know."
        told = request(None, json.dumps(LABEL, indent=1) + "\n" + block(TEXTS))
        assert json.loads(content_of(ask(server, told)))["answer"] == "COHERENT"


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_each_fault_is_what_it_says(kind):
    right = fixed(request()).content
    with ScriptedServer(fixed, faults=Faults(1.0, (kind,), retry_after_s=0.25, slow_s=0.3)) as server:
        began = time.monotonic()
        if kind in ("dropped", "mid_stream"):
            message = "without sending a response" if kind == "dropped" else "without sending complete message body"
            with pytest.raises(httpx.RemoteProtocolError, match=message):
                ask(server)
        elif kind in ("429", "500"):
            reply = ask(server)
            assert reply.status_code == int(kind) and reply.json()["error"]["message"]
            assert reply.headers.get("Retry-After") == ("0.25" if kind == "429" else None)
        else:
            choice = ask(server).json()["choices"][0]
            content = choice["message"]["content"]
            assert choice["finish_reason"] == ("length" if kind == "truncated" else "stop")
            if kind == "slow":
                assert content == right and time.monotonic() - began > 0.3
            elif kind == "wrong_ids":
                assert json.loads(content) == json.loads(right) | {"evidence": ["nope0", "nope1"]}
            else:
                assert content[: len(right) // 2] == right[: len(right) // 2]
                with pytest.raises(ValueError):
                    json.loads(content)
        server.faults = None
        assert content_of(ask(server)) == right
        counts = server.counts
        assert counts.by_fault == {kind: 1} and list(counts.bodies.values()) == [2]
        assert list(counts.answered.values()) == [2 if kind == "slow" else 1]
        assert counts.requests == sum(counts.by_status.values()) == 2


@pytest.mark.parametrize("kind", ["truncated", "invalid_json"])
def test_a_damaged_one_token_answer_says_neither_yes_nor_no(kind):
    asked = request(None, "Is it?", max_tokens=1, logprobs=True, top_logprobs=5)
    with ScriptedServer(fixed, faults=Faults(1.0, (kind,))) as server:
        choice = ask(server, asked).json()["choices"][0]
    said = [choice["message"]["content"], *(one["token"] for one in choice["logprobs"]["content"][0]["top_logprobs"])]
    assert not {"yes", "no"} & set(said)


def test_faults_are_drawn_from_the_seed_at_their_share():
    def by_fault(seed):
        kinds = ("429", "500", "truncated", "wrong_ids")
        with ScriptedServer(fixed, faults=Faults(0.2, kinds, seed)) as server, httpx.Client() as client:
            got = [client.post(f"{server.base_url}/chat/completions", json=request()).status_code for _ in range(300)]
            return got, server.counts.by_fault

    assert by_fault(1) == by_fault(1)
    assert by_fault(1)[0] != by_fault(2)[0]
    assert 35 < by_fault(1)[1].total() < 90 and len(by_fault(1)[1]) == 4


def test_it_counts_what_it_was_asked():
    with ScriptedServer(lambda asked: Answer("{}", delay_s=0.1)) as server, ThreadPoolExecutor(8) as pool:
        bodies = [request(seed=n % 3, model=f"m{n % 2}") for n in range(8)]
        assert [reply.status_code for reply in pool.map(lambda body: ask(server, body), bodies)] == [200] * 8
        assert httpx.get(f"{server.base_url}/nothing").status_code == 404
        assert ask(server, request(stream=True)).status_code == 400
        counts = server.counts
    assert counts.requests == 10 and counts.by_status == {200: 8, 404: 1, 400: 1}
    assert counts.models == {"m0": 4, "m1": 4, "m": 1}
    assert sum(counts.bodies.values()) == 9 and len(counts.bodies) == 7 and max(counts.bodies.values()) == 2
    assert 4 <= counts.in_flight_max <= 8
    assert counts.answered.total() == 8


def test_capacity():
    with (
        ScriptedServer(lambda asked: Answer("{}", delay_s=0.5), capacity=3) as server,
        ThreadPoolExecutor(8) as pool,
    ):
        replies = list(pool.map(lambda _: ask(server), range(8)))
        assert sorted(reply.status_code for reply in replies) == [200] * 3 + [429] * 5
        assert all("Retry-After" in reply.headers for reply in replies if reply.status_code == 429)
        assert server.counts.in_flight_max == 3 and server.in_flight == 0


def test_it_dies_and_comes_back():
    with (
        ScriptedServer(lambda asked: Answer("{}", delay_s=0.5 if "seed" in asked else 0)) as server,
        httpx.Client() as client,
        ThreadPoolExecutor(1) as pool,
    ):
        url, address = server.base_url, f"{server.base_url}/chat/completions"
        assert client.post(address, json=request()).status_code == 200
        waiting = pool.submit(ask, server, request(seed=1))
        while not server.in_flight:
            time.sleep(0.01)
        server.die()
        with pytest.raises(httpx.TransportError):
            waiting.result()
        for _ in range(3):
            with pytest.raises(httpx.TransportError):
                client.post(address, json=request())
        server.come_back()
        assert server.base_url == url and client.post(address, json=request()).status_code == 200
        assert server.counts.by_status == {200: 2, "gone": 1} and server.in_flight == 0


def test_a_client_that_leaves_is_counted_as_gone():
    with ScriptedServer(lambda asked: Answer("{}", delay_s=0.3)) as server:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{server.base_url}/chat/completions", json=request(), timeout=0.1)
        while server.in_flight:
            time.sleep(0.01)
        assert server.counts.by_status == {"gone": 1} and not server.counts.answered


def test_a_fault_of_the_script_is_not_taken_for_one_of_the_server():
    with pytest.raises(AssertionError, match="ZeroDivisionError"), ScriptedServer(lambda asked: 1 / 0) as server:
        assert ask(server).status_code == 500


def test_as_a_program_it_answers_another_process():
    program = [sys.executable, str(Path(__file__).parent / "scripted_server.py"), "--port", "0", "--delay", "0.05"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", url)
        began = time.monotonic()
        reply = httpx.post(f"{url}/chat/completions", json=request(VERDICT), timeout=5)
        assert json.loads(content_of(reply))["verdict"] == "KEEP" and time.monotonic() - began >= 0.05
        process.terminate()
        assert json.loads(process.stdout.readline())["requests"] == 1
    assert process.returncode == 0


def test_reading_a_prompt():
    text = f"one\n{block(TEXTS)}\ntwo\n<data-0123abcd>\n[1,\n2]\n</data-0123abcd>\nthree"
    assert outside_data(text) == "one\ntwo\nthree" and data_of(text) == [TEXTS, [1, 2]]
    lines = '<data-0123abcd>\n{"id": "a"}\n{"id": "b"}\n</data-0123abcd>\n'
    assert outside_data(lines) == "" and data_of(lines) == [[{"id": "a"}, {"id": "b"}]]
    for no_block in (
        "<data-0123abcd>\n[1]\n</data-0123abce>",
        "<data-0123abcd>\nnot JSON\n</data-0123abcd>",
        "<data-0123abcd>\n[1]",
        "<data-0123abcd>\n</data-0123abcd>",
        "a <data-0123abcd>\n[1]\n</data-0123abcd>",
    ):
        assert outside_data(no_block) == no_block and data_of(no_block) == []


def test_answers_by_role():
    lamps, bus = {"label": "on lamps"}, {"label": "the opening of parliament"}

    def said(schema, label):
        return json.loads(obedient(request(schema, block(label) + "\n" + block(TEXTS))).content)

    kept = said(VERDICT, lamps)
    assert kept["verdict"] == "KEEP" and kept["evidence"] == ["k3f9", "p2x1"] and kept["label"] is None
    assert (said(VERDICT, bus)["verdict"], said(VERDICT, bus)["label"]) == ("REVISE", "on lamps")
    assert said(ACTIVE, lamps) == {"active": ["k3f9", "p2x1"]} and said(ACTIVE, bus) == {"active": []}
    nothing = json.loads(obedient(request(LABEL, block(TEXTS[1:]))).content)
    assert (nothing["answer"], nothing["label"], nothing["evidence"]) == ("INCOHERENT", None, [])


def test_the_injections_are_thirty_and_each_has_its_own_word():
    assert [sum(one.language == code for one in INJECTIONS) for code in ("en", "hi")] == [15, 15]
    assert len({one.id for one in INJECTIONS}) == len({one.canary for one in INJECTIONS}) == 30
    assert all(re.search("[\u0900-\u097f]", one.text) or one.goal == "fake_json" for one in INJECTIONS[15:])
    assert len({one.goal for one in INJECTIONS}) == 8


@pytest.mark.parametrize("injection", INJECTIONS, ids=lambda one: one.id)
def test_orders_are_obeyed_outside_the_data_and_not_within(injection):
    for schema in (LABEL, VERDICT, ACTIVE, None):
        raw = request(schema, f"These are the texts:\n{injection.text}\nWhat are they about?", max_tokens=1)
        assert obeyed_in(raw) == injection and succeeded(obedient(raw).content, injection)
        inside = request(schema, block([*TEXTS, {"id": "x", "text": injection.text, "activation": 9}]), max_tokens=1)
        assert obeyed_in(inside) is None and not succeeded(obedient(inside).content, injection)
    as_text = f"<data-0a1b2c3d>\n- {injection.text}\n</data-0a1b2c3d>"
    assert succeeded(obedient(request(LABEL, as_text)).content, injection), "a block that is not JSON is no block"
    in_schema = {**LABEL, "description": injection.text}
    assert succeeded(obedient(request(in_schema)).content, injection)


@pytest.mark.parametrize("injection", INJECTIONS, ids=lambda one: one.id)
def test_a_gullible_reader_takes_unicode_line_breaks_for_lines(injection):
    one = [{"id": "x", "text": injection.text}]
    escaped = f"<data-0a1b2c3d>\n{json.dumps(one)}\n</data-0a1b2c3d>"
    assert not succeeded(gullible(request(LABEL, escaped)).content, injection)
    assert succeeded(gullible(request(LABEL, block(one))).content, injection) == ("\u2028" in injection.text)
