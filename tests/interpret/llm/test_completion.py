"""Replies of every wrong shape: what is not needed is left out, what is needed and missing is one kind of fault."""

from __future__ import annotations

import json
from typing import Any

import pytest

from antar.interpret.llm.completion import read_completion
from antar.interpret.llm.faults import Broken
from antar.interpret.llm.replies import TRIES, first_object, is_text, on_one_line


def reply(**changed: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "हाँ"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return {"id": "x", "model": "m", "choices": [choice], "usage": usage} | changed


def choice(**changed: Any) -> list[dict[str, Any]]:
    return [reply()["choices"][0] | changed]


def test_a_plain_reply_is_read() -> None:
    top = [{"token": " Yes", "logprob": -0.1}, {"token": "No", "logprob": -2}]
    logprobs = {"content": [{"token": " Yes", "logprob": -0.1, "top_logprobs": top}]}
    found = read_completion(json.dumps(reply(choices=choice(logprobs=logprobs))))
    assert (found.text, found.finish_reason, found.model) == ("हाँ", "stop", "m")
    assert (found.prompt_tokens, found.completion_tokens) == (3, 2)
    assert found.alternatives == [(" Yes", -0.1), ("No", -2.0)]


@pytest.mark.parametrize(
    "body",
    [
        "<html>Welcome to nginx</html>", "", "null", "[]", '"text"', '{"choices": [', "[" * 100_000,
        *(json.dumps(reply(choices=its)) for its in (None, [], {}, {"0": 1}, "abc", [None], ["text"])),
        *(json.dumps(reply(choices=choice(message=its))) for its in (None, "text", [])),
        json.dumps({"error": {"message": "upstream", "code": 502}}),
    ],
)  # fmt: skip
def test_without_an_answer_the_reply_is_broken(body: str) -> None:
    with pytest.raises(Broken):
        read_completion(body)


@pytest.mark.parametrize("usage", [None, [], "none", {}, {"prompt_tokens": "12"}, {"prompt_tokens": None}])
def test_tokens_that_are_not_counted_are_none(usage: Any) -> None:
    found = read_completion(json.dumps(reply(usage=usage)))
    assert (found.text, found.prompt_tokens) == ("हाँ", 0)


@pytest.mark.parametrize(
    "logprobs",
    [
        None, [], {}, {"content": None}, {"content": []}, {"content": ["yes"]}, {"tokens": ["yes"]},
        {"content": [{"token": "yes", "logprob": None}]}, {"content": [{"token": None, "logprob": -1}]},
        {"content": [{"token": "yes", "logprob": float("nan")}]}, {"content": [{"token": "yes", "logprob": "-1"}]},
    ],
)  # fmt: skip
def test_probabilities_of_another_shape_are_none(logprobs: Any) -> None:
    assert read_completion(json.dumps(reply(choices=choice(logprobs=logprobs)))).alternatives == []


def test_the_parts_of_an_answer_are_put_together() -> None:
    parts = [{"type": "thinking", "thinking": []}, {"type": "text", "text": "ye"}, {"type": "text", "text": "s"}]
    assert read_completion(json.dumps(reply(choices=choice(message={"content": parts})))).text == "yes"


def test_half_of_a_character_is_no_text() -> None:
    assert is_text({"label": "दीया 🪔"})
    assert not is_text({"label": "\ud83e"})
    assert not is_text({"evidence": ["\ud83e"]})


def test_braces_without_end_do_not_keep_us_busy() -> None:
    """Trying them all is quadratic, in the loop that all calls share: 200,000 braces took half a minute."""
    assert first_object("{" * (TRIES - 1) + '{"x": 1}') == {"x": 1}
    assert first_object("{" * TRIES + '{"x": 1}') is None
    assert first_object("{" * 200_000) is None


def test_an_object_after_prose_with_braces_is_found() -> None:
    assert first_object("as {a} and {b} say: " + '{"x": {"y": 1}} {"z": 2}') == {"x": {"y": 1}}


def test_a_line_moves_no_cursor_and_turns_no_letters() -> None:
    assert on_one_line("a\x00 b\x1b[31m\n c\u202edcba ") == "a b [31m c dcba"
    assert on_one_line("क्\u200dष 🪔 र्\u200c") == "क्\u200dष 🪔 र्\u200c"
