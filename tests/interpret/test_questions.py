"""What a model is asked, and what is refused of its answers."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from antar.core.hashing import sha256_bytes
from antar.interpret.answers import CATEGORIES, LabelAnswer, SaebenchAnswer, ValidateAnswer, json_schema
from antar.interpret.llm.calls import Call, Outcome
from antar.interpret.llm.config import LlmWorker
from antar.interpret.prompting import Prompt, load_prompt
from antar.interpret.questions import Questions
from antar.interpret.types import Claim, Evidence, Label, SaebenchCase, ShownText, ValidationCase

sys.path.insert(0, str(Path(__file__).parent / "llm"))
from injections import INJECTIONS, obeyed_in
from scripted_server import data_of, outside_data

ROLES = ("label", "validate", "predict", "saebench")


def texts(prefix: str, n: int, activation: float = 0.0) -> tuple[ShownText, ...]:
    return tuple(
        ShownText(f"{prefix}-{i}", f"{prefix} sentence number {i}", "hi" if i % 2 else "en", activation * (n - i))
        for i in range(n)
    )


EVIDENCE = Evidence("base.layer06/3", texts("lamp", 6, 0.5), texts("bus", 4), texts("moon", 3))
LABEL = Label("base.layer06/3", True, "Lamps of a festival.", (), 1, "festival", "en", (), "")
CASE = ValidationCase(LABEL, texts("lamp", 5, 2.0), texts("bus", 5), (), ())
CLAIM = Claim("base.layer06/3", "Lamps of a festival.", (), 1)
BENCH = SaebenchCase(CLAIM, texts("any", 14), (True,) * 4 + (False,) * 10)


def questions(prompts: str = "en", name_ids: bool = False, seed: int = 7) -> Questions:
    return Questions(LlmWorker.model_validate({"model": "m", "prompts": prompts, "name_ids": name_ids}), 300, seed)


def calls(ask: Questions) -> dict[str, Call]:
    return {
        "label": ask.label(EVIDENCE), "validate": ask.validate(CASE),
        "predict": ask.predict(CLAIM, texts("lamp", 1)[0]), "saebench": ask.saebench(BENCH),
    }  # fmt: skip


def shown_ids(call: Call, name: str) -> list[str]:
    (block,) = data_of(call.inputs[name])
    return [row["id"] for row in block]


@pytest.mark.parametrize("language", ["en", "hi"])
@pytest.mark.parametrize("role", ROLES)
def test_every_prompt_is_whole_versioned_and_short(role: str, language: str) -> None:
    prompt = load_prompt(role, language)
    assert prompt.name == f"{role}.{language}.v1"
    path = Path(__file__).parents[2] / f"src/antar/interpret/prompts/{prompt.name}.md"
    assert prompt.sha256 == sha256_bytes(path.read_bytes())
    assert len(prompt.system.split()) <= 330
    assert bool(re.search("[\u0900-\u097f]", prompt.user)) == (language == "hi")
    if role == "label":
        assert all(category in prompt.system for category in CATEGORIES)


def test_a_prompt_is_filled_strictly_and_what_is_put_in_is_not_looked_at_again() -> None:
    prompt = Prompt("x", "0", "be good", "see {{a}} {{b}}")
    assert prompt.filled({"a": "{{b}}", "b": "1"}) == ("be good", "see {{b}} 1")
    for places in ({"a": ""}, {"a": "", "b": "", "c": ""}):
        with pytest.raises(ValueError, match="expected the places"):
            prompt.filled(places)
    with pytest.raises(ValueError, match="user part only"):
        Prompt("x", "0", "be {{a}}", "see {{b}}").filled({"a": "", "b": ""})


def _values(schema: dict[str, Any]) -> set[str]:
    """Every key of a schema, and every value that an answer may choose from."""
    found = set(schema["properties"])
    for field in schema["properties"].values():
        found |= set(field.get("enum", ()))
    return found


@pytest.mark.parametrize("language", ["en", "hi"])
def test_a_prompt_names_all_that_an_answer_may_hold(language: str) -> None:
    models = {"label": LabelAnswer, "validate": ValidateAnswer, "saebench": SaebenchAnswer}
    for role, model in models.items():
        system = load_prompt(role, language).system
        assert all(value in system for value in _values(json_schema(model, None)))


@pytest.mark.parametrize("language", ["en", "hi"])
def test_a_question_is_the_same_every_time_and_can_be_made_again_from_its_record(language: str) -> None:
    first, again = calls(questions(language)), calls(questions(language))
    for role, call in first.items():
        assert call.messages == again[role].messages
        rebuilt = load_prompt(role, language).filled(dict(call.inputs))
        assert rebuilt == (call.system, call.user)
        assert json.loads(json.dumps(call.inputs)) == call.inputs
    others = calls(questions(language, seed=8))
    assert all(others[role].user != call.user for role, call in first.items())


@pytest.mark.parametrize("role", ROLES)
def test_no_text_stands_outside_the_data_and_no_real_id_anywhere(role: str) -> None:
    call = calls(questions())[role]
    outside = outside_data(call.user)
    assert "sentence number" not in outside
    assert "Lamps of" not in outside
    assert "sentence number" in call.user
    assert not re.search(r"(lamp|bus|moon|any)-\d", call.user)


@pytest.mark.parametrize("language", ["en", "hi"])
def test_no_hostile_text_gets_out_of_its_block(language: str) -> None:
    ask = questions(language)
    for injection in INJECTIONS:
        bad = tuple(dataclasses.replace(text, text=injection.text) for text in texts("x", 6, 1.0))
        label = dataclasses.replace(LABEL, label=injection.text)
        claim = dataclasses.replace(CLAIM, label=injection.text)
        asked = [
            ask.label(Evidence("f/1", bad, bad, bad)),
            ask.validate(ValidationCase(label, bad, bad, (), ())),
            ask.predict(claim, bad[0]),
            ask.saebench(SaebenchCase(claim, bad, (True,) * 6)),
        ]
        for call in asked:
            request = {"messages": call.messages}
            assert obeyed_in(request) is None
            assert obeyed_in(request, gullible=True) is None
            assert injection.canary not in outside_data(call.user, gullible=True)


def test_predictions_do_not_see_the_truth() -> None:
    ask = questions()
    fires, silent = ShownText("a", "one text", "en", 9.0), ShownText("a", "one text", "en", 0.0)
    assert ask.predict(CLAIM, fires).messages == ask.predict(CLAIM, silent).messages
    other = dataclasses.replace(BENCH, fires=(False,) * 14)
    assert ask.saebench(BENCH).messages == ask.saebench(other).messages
    strong = dataclasses.replace(BENCH, texts=tuple(dataclasses.replace(t, activation=5.0) for t in BENCH.texts))
    assert ask.saebench(strong).messages == ask.saebench(BENCH).messages


def test_labels_show_strength_from_1_to_10_strongest_first() -> None:
    (rows,) = data_of(questions().label(EVIDENCE).inputs["active"])
    strength = [row["activation"] for row in rows]
    assert strength[0] == 10
    assert strength == sorted(strength, reverse=True)
    assert min(strength) >= 1
    (silent,) = data_of(questions().label(EVIDENCE).inputs["silent"])
    assert "activation" not in silent[0]
    turned = dataclasses.replace(EVIDENCE, examples=EVIDENCE.examples[::-1])
    assert data_of(questions().label(turned).inputs["active"]) == [rows]
    ids = [row["id"] for row in rows]
    answer = {"evidence": ids[:1], "answer": "COHERENT", "label": "x", "category": "other", "language": "en"}
    assert questions().read_label(turned, Outcome(answer, None)).evidence == ("lamp-0",)


def test_a_good_label_is_read_with_its_real_ids() -> None:
    ask = questions()
    call = ask.label(EVIDENCE)
    ids = shown_ids(call, "active")
    answer = {"evidence": [ids[0], ids[2], ids[0]], "answer": "COHERENT", "label": " Lamps. ", "category": "festival",
              "language": "en"}  # fmt: skip
    assert call.check(LabelAnswer.model_validate(answer)) is None
    label = ask.read_label(EVIDENCE, Outcome(answer, None))
    assert (label.coherent, label.label, label.category) == (True, "Lamps.", "festival")
    assert label.evidence == ("lamp-0", "lamp-2")
    failed = ask.read_label(EVIDENCE, Outcome(None, "cut off"))
    assert (failed.coherent, failed.label, failed.failed) == (False, None, "cut off")


def _bad_labels() -> list[tuple[dict[str, Any], str]]:
    ask = questions()
    call = ask.label(EVIDENCE)
    active, silent = shown_ids(call, "active"), shown_ids(call, "silent")
    other = shown_ids(ask.label(dataclasses.replace(EVIDENCE, feature="base.layer06/4")), "active")
    good = {"evidence": active[:2], "answer": "COHERENT", "label": "Lamps.", "category": "festival", "language": "en"}
    with_digit = next(one for one in active if any(c.isdigit() for c in one))
    return [
        ({**good, "evidence": ["zzzz"]}, "not shown"),
        ({**good, "evidence": [other[0]]}, "not shown"),
        ({**good, "evidence": [silent[0]]}, "may be evidence"),
        ({**good, "evidence": []}, "without evidence"),
        ({**good, "label": "  "}, "without a label"),
        ({**good, "label": ");"}, "without a label"),
        ({**good, "label": "INCOHERENT"}, "without a label"),
        ({**good, "label": f"What {with_digit} says."}, "by their ids"),
        ({**good, "answer": "INCOHERENT", "evidence": ["zzzz"]}, "not shown"),
    ]


@pytest.mark.parametrize(("answer", "reason"), _bad_labels())
def test_a_label_that_contradicts_itself_is_refused(answer: dict[str, Any], reason: str) -> None:
    problem = questions().label(EVIDENCE).check(LabelAnswer.model_validate(answer))
    assert problem is not None
    assert reason in problem


def test_an_incoherent_answer_needs_no_label_and_keeps_none() -> None:
    ask = questions()
    answer = {"evidence": [], "answer": "INCOHERENT", "label": "x", "category": "other", "language": "other"}
    assert ask.label(EVIDENCE).check(LabelAnswer.model_validate(answer)) is None
    assert ask.read_label(EVIDENCE, Outcome(answer, None)).label is None


def test_the_evidence_of_a_label_is_among_its_examples_whatever_it_says() -> None:
    ask = questions()
    call = ask.label(EVIDENCE)
    named = [shown_ids(call, "silent")[0], shown_ids(call, "active")[1], shown_ids(call, "hard")[0]]
    answer = {"evidence": named, "answer": "INCOHERENT", "label": "", "category": "other", "language": "other"}
    assert call.check(LabelAnswer.model_validate(answer)) is None
    assert ask.read_label(EVIDENCE, Outcome(answer, None)).evidence == ("lamp-1",)


def test_half_a_character_is_no_label() -> None:
    answer = json.loads(
        '{"evidence": [], "answer": "COHERENT", "label": "x\\ud800", "category": "food", "language": "en"}'
    )
    with pytest.raises(ValidationError, match="unicode"):
        LabelAnswer.model_validate(answer, strict=True)


def test_verdicts_are_read_and_refused() -> None:
    ask = questions()
    call = ask.validate(CASE)
    ids = shown_ids(call, "active") + shown_ids(call, "silent")
    good = {"evidence": ids[:2], "reason": "They do.", "verdict": "KEEP", "label": ""}
    revised = {**good, "verdict": "REVISE", "label": "Oil lamps."}
    for answer in (good, revised, {**good, "verdict": "INVALIDATE", "evidence": []}):
        assert call.check(ValidateAnswer.model_validate(answer)) is None
    bad = [
        ({**good, "evidence": ["zzzz"]}, "not shown"),
        ({**good, "reason": " "}, "without a reason"),
        ({**good, "reason": "10"}, "without a reason"),
        ({**revised, "label": ""}, "without a new label"),
        ({**revised, "label": LABEL.label}, "without a new label"),
        ({**revised, "label": "lamps  of a festival."}, "without a new label"),
    ]
    for answer, reason in bad:
        assert reason in (call.check(ValidateAnswer.model_validate(answer)) or "")
    kept, new = ask.read_verdict(CASE, Outcome(good, None)), ask.read_verdict(CASE, Outcome(revised, None))
    assert (kept.verdict, kept.label) == ("KEEP", LABEL.label)
    assert (new.verdict, new.label) == ("REVISE", "Oil lamps.")
    assert set(kept.evidence) <= {text.text_id for text in (*CASE.firing, *CASE.silent)}
    failed = ask.read_verdict(CASE, Outcome(None, "no"))
    assert (failed.verdict, failed.label, failed.failed) == (None, LABEL.label, "no")


def test_a_wrong_label_on_the_same_feature_is_another_question() -> None:
    ask = questions()
    other = dataclasses.replace(CASE, label=dataclasses.replace(LABEL, label="Buses."))
    assert not set(shown_ids(ask.validate(CASE), "active")) & set(shown_ids(ask.validate(other), "active"))


def test_saebench_answers_are_read_in_the_order_of_the_texts() -> None:
    ask = questions()
    call = ask.saebench(BENCH)
    (rows,) = data_of(call.inputs["texts"])
    by_text = {row["text"]: row["id"] for row in rows}
    ids = [by_text[text.text] for text in BENCH.texts]
    assert ids != [row["id"] for row in rows]
    answer = ask.read_saebench(BENCH, Outcome({"active": [ids[3], ids[0]]}, None))
    assert answer.predicted == tuple(i in (0, 3) for i in range(14))
    assert "not shown" in (call.check(SaebenchAnswer.model_validate({"active": ["zzzz"]})) or "")
    assert ask.read_saebench(BENCH, Outcome(None, "late")).failed == "late"


@pytest.mark.parametrize("model", [LabelAnswer, ValidateAnswer, SaebenchAnswer])
def test_schemas_are_flat_strict_and_may_list_the_ids(model: Any) -> None:
    schema = json_schema(model, None)
    assert "$ref" not in json.dumps(schema)
    assert "anyOf" not in json.dumps(schema)
    assert schema["additionalProperties"] is False
    assert schema["required"] == list(schema["properties"])
    # Strict hosted services refuse lengths in a schema.
    assert not re.search("Length|Items", json.dumps(schema))
    listed = json_schema(model, ["a1b2"])
    arrays = [field for field in listed["properties"].values() if field["type"] == "array"]
    assert [(field["items"]["enum"], field["maxItems"]) for field in arrays] == [(["a1b2"], 1)]
    with pytest.raises(ValidationError):
        model.model_validate({})


def test_the_ids_are_in_the_schema_where_the_worker_says_so() -> None:
    named, plain = calls(questions(name_ids=True)), calls(questions())
    ids = shown_ids(named["label"], "active")
    assert named["label"].schema is not None
    assert named["label"].schema["properties"]["evidence"]["items"]["enum"] == ids
    assert plain["label"].schema is not None
    assert "enum" not in plain["label"].schema["properties"]["evidence"]["items"]
