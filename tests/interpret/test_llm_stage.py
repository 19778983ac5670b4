"""The whole stage with a language model in every role, played by a scripted server that knows the made-up world."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from antar.core.errors import UserError
from antar.core.hashing import sha256_file
from antar.interpret.config import InterpretConfig
from antar.interpret.llm.log import read_calls
from antar.interpret.records import (
    KEYWORDS,
    read_controls,
    read_keywords,
    read_labels,
    read_predictions,
    read_saebench,
    read_verdicts,
)
from antar.interpret.stage import record_files
from antar.interpret.words import content_words, tokens
from antar.interpret.workers import doubts

sys.path.insert(0, str(Path(__file__).parent / "llm"))
sys.path.insert(0, str(Path(__file__).parent))
from scripted_server import FAULT_KINDS, Answer, Faults, ScriptedServer, data_of, properties

from conftest import THEMES

WORDS = {(theme, language): set(words) for theme, its in THEMES.items() for language, words in its.items()}


def themes_of(text: str) -> set[str]:
    words = set(text.lower().replace(".", " ").replace("।", " ").split())
    return {f"{theme}/{language}" for (theme, language), its in WORDS.items() if words & its}


def common(rows: list[dict[str, Any]]) -> str | None:
    counts = Counter(theme for row in rows for theme in themes_of(row["text"]))
    theme, n = counts.most_common(1)[0] if counts else ("", 0)
    return theme if n >= 0.6 * len(rows) else None


def about(label: str) -> set[str]:
    """The themes whose words a label names."""
    return themes_of(label.replace("“", " ").replace("”", " "))


def label_of(theme: str) -> str:
    name, language = theme.split("/")
    return f"Texts about {' '.join(sorted(WORDS[name, language]))}"


def knows_the_world(request: dict[str, Any]) -> Answer:
    """Labels by the theme that most texts share, validates and predicts by it."""
    blocks = [block for message in request["messages"] for block in data_of(message["content"])]
    fields = properties(request.get("response_format", {}).get("json_schema", {}).get("schema", {}))
    if "answer" in fields:
        active = blocks[0]
        theme = common(active)
        ids = [row["id"] for row in active if theme in themes_of(row["text"])][:3]
        said = {
            "evidence": ids,
            "answer": "COHERENT" if theme else "INCOHERENT",
            "label": label_of(theme) if theme else "",
            "category": "topic",
            "language": theme.split("/")[1] if theme else "other",
        }
    elif "verdict" in fields:
        label, active, _ = blocks
        word = label.split("“")[1].split("”")[0] if "“" in label else None
        theme = common(active)
        holds = all(word in row["text"] for row in active) if word else theme in about(label)
        said = {
            "evidence": [active[0]["id"]],
            "reason": "It is so.",
            "verdict": "KEEP" if holds else "INVALIDATE",
            "label": "",
        }
    elif "active" in fields:
        label, rows = blocks
        said = {"active": [row["id"] for row in rows if themes_of(row["text"]) & about(label)]}
    else:
        if not blocks:
            return Answer("yes", logprobs=[("yes", 0.9), ("no", 0.1)])  # antar asks whether it gives probabilities
        label, text = blocks
        yes = bool(themes_of(text["text"]) & about(label))
        return Answer("yes" if yes else "no", logprobs=[("yes" if yes else "no", 0.9), ("no" if yes else "yes", 0.1)])
    return Answer(json.dumps(said, ensure_ascii=False))


def config(url: str, **more: Any) -> InterpretConfig:
    def worker(model: str) -> dict[str, Any]:
        return {"kind": "llm", "model": model, "base_url": url, "concurrency": 8, "patience_s": 10}

    roles = {"labeller": worker("scripted-a"), "validator": worker("other-b"), "predictor": worker("other-b")}
    return InterpretConfig.model_validate(roles | {"hard_negatives": 3} | more)


MODELS = ("scripted-a", "other-b")


@pytest.fixture(scope="module")
def labelled(world, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("interpret")
    with ScriptedServer(knows_the_world, models=MODELS) as server:
        facts = world.run(folder, config(server.base_url))
    return folder, facts


def test_a_model_that_knows_the_world_labels_keeps_and_predicts_it(world, labelled) -> None:
    folder, facts = labelled
    labels = {row["feature"]: row for row in read_labels(folder).iter_rows(named=True)}
    assert {row["labeller"] for row in labels.values()} == {"scripted-a"}
    for latent, name in enumerate(world.themes):
        row = labels[f"base.layer02/{latent}"]
        assert row["label"] == label_of(name)
        theme, language = name.split("/")
        assert all(one.startswith(f"{theme}-{language}-") for one in row["evidence"])
    assert facts["coherent"] >= 12
    verdicts = dict(read_verdicts(folder).select("feature", "verdict").iter_rows())
    assert all(verdicts[f"base.layer02/{latent}"] == "KEEP" for latent in range(12))
    scores = facts["scores"]
    assert scores["right"]["value"] > 0.9
    assert scores["right"]["auroc"] > 0.9
    # Below one half: a hard text fires a neighbour, which the wrong label may well be about.
    assert 0.3 < scores["wrong_label"]["value"] < 0.6
    assert set(scores["by_language"]) == {"en", "hi"}
    assert 0.5 < facts["keyword_scores"]["right"]["value"] <= 1.0
    json.dumps(facts, allow_nan=False)


def test_the_keyword_baseline_stands_beside_on_the_same_texts(world, labelled) -> None:
    folder, _ = labelled
    assert read_keywords(folder).height == read_labels(folder).height
    own = read_predictions(folder).filter(~pl.col("wrong_label"))
    asked = {
        name: set(own.filter(pl.col("predictor") == name).select("feature", "text_id").iter_rows())
        for name in ("other-b", "keywords")
    }
    assert asked["other-b"] == asked["keywords"]
    text_of = dict(world.texts.select("text_id", "text").iter_rows())
    said = {row["feature"]: row for row in read_keywords(folder).iter_rows(named=True)}
    for row in own.filter(pl.col("predictor") == "keywords").iter_rows(named=True):
        keywords, needed = said[row["feature"]]["keywords"], said[row["feature"]]["needed"]
        held = len(content_words(tokens(text_of[row["text_id"]])) & set(keywords))
        assert row["predicted"] == (held >= needed)
        assert row["score"] == pytest.approx(held / len(keywords))


def test_the_validator_is_measured_by_labels_that_never_reach_the_results(labelled) -> None:
    folder, facts = labelled
    controls = read_controls(folder)
    assert set(controls["kind"]) == {"wrong_label", "right_word"}
    rates = facts["validator_rates"]
    assert rates["true_negative"]["value"] == 1.0
    assert rates["true_positive"]["value"] == 1.0
    assert rates["true_negative"]["low"] < 1.0
    assert not any(name.startswith("word:") for name in read_verdicts(folder)["feature"])
    assert facts["verdicts"]["KEEP"] >= 12


def test_saebench_stands_beside_its_always_no(labelled) -> None:
    folder, facts = labelled
    found = read_saebench(folder)
    assert set(found["predictor"]) == {"other-b", "keywords"}
    assert facts["saebench"]["other-b"]["value"] > 10 / 14


def test_no_judge_sees_a_text_that_the_labeller_saw(labelled) -> None:
    folder, _ = labelled
    seen: dict[str, set[str]] = {}
    for role in ("label", "validate", "predict", "saebench"):
        for record in read_calls(folder / "calls" / f"{role}.jsonl"):
            for name, block in record["inputs"].items():
                if name != "label":
                    rows = data_of(block)[0]
                    rows = rows if isinstance(rows, list) else [rows]
                    seen.setdefault(role, set()).update(row["text"] for row in rows)
    assert seen["label"]
    for judge in ("validate", "predict", "saebench"):
        assert not seen["label"] & seen[judge]
    assert not seen["validate"] & seen["predict"]


def test_a_rerun_asks_nothing_and_writes_the_same_bytes(world, labelled, tmp_path: Path) -> None:
    folder, facts = labelled
    before = {path.name: sha256_file(path) for path in record_files(folder)}
    again = world.run(folder, config("http://127.0.0.1:9/v1"))
    assert {path.name: sha256_file(path) for path in record_files(folder)} == before
    assert again["scores"] == facts["scores"]
    for role in ("label", "predict"):
        # Its records are in the log once, however often they are read.
        keys = [record["key"] for record in read_calls(folder / "calls" / f"{role}.jsonl")]
        assert len(keys) == len(set(keys))


def test_faults_change_nothing_but_failures(world, labelled, tmp_path: Path) -> None:
    with ScriptedServer(knows_the_world, models=MODELS) as server:
        server.faults = Faults(0.2, FAULT_KINDS, 4, retry_after_s=0.01, slow_s=0.02)
        server_facts = world.run(tmp_path, config(server.base_url))
    folder, facts = labelled
    first = {row["feature"]: row for row in read_labels(folder).iter_rows(named=True)}
    for row in read_labels(tmp_path).iter_rows(named=True):
        assert row["failed"] or row["label"] == first[row["feature"]]["label"]
    assert server_facts["usage"]["predict"]["retried"] > 0
    assert server_facts["usage"]["predict"]["calls"] == facts["usage"]["predict"]["calls"]


def test_no_server_is_one_line_and_nothing_is_lost(world, tmp_path: Path) -> None:
    cfg = config("http://127.0.0.1:9/v1")
    roles = {name: getattr(cfg, name).model_copy(update={"patience_s": 0.2}) for name in ("labeller", "validator")}
    with pytest.raises(UserError, match="expected an endpoint that answers"):
        world.run(tmp_path, cfg.model_copy(update=roles))
    assert (tmp_path / KEYWORDS).is_file()


def test_a_first_look_asks_about_few_and_the_rest_goes_on_from_it(world, tmp_path: Path) -> None:
    with ScriptedServer(knows_the_world, models=MODELS) as server:
        cfg = config(server.base_url)
        replace(world).run(tmp_path, cfg, limit=3)
        assert Counter(read_labels(tmp_path)["labeller"])["scripted-a"] == 3
        first = [record["key"] for record in read_calls(tmp_path / "calls/label.jsonl")]
        world.run(tmp_path, cfg)
        assert [record["key"] for record in read_calls(tmp_path / "calls/label.jsonl")][:3] == first
        assert Counter(read_labels(tmp_path)["labeller"])["scripted-a"] == 18


def test_models_of_one_family_are_told(world, tmp_path: Path) -> None:
    cfg = config("http://127.0.0.1:9/v1")
    for model, told in (("Qwen/Qwen3-30B-A3B", "one family"), ("Qwen/Qwen1.5-32B-Chat", "its own labels")):
        workers = {"labeller": cfg.labeller.model_copy(update={"model": "Qwen/Qwen1.5-32B-Chat", "patience_s": 0.0}),
                   "validator": cfg.validator.model_copy(update={"model": model})}  # fmt: skip
        (note,) = doubts(workers["labeller"], workers["validator"])
        assert told in note


@pytest.mark.parametrize("how", ["live", "effect", "coherence", "all"])
def test_features_are_chosen_as_asked(world, tmp_path: Path, how: str) -> None:
    with ScriptedServer(knows_the_world, models=MODELS) as server:
        world.run(tmp_path, config(server.base_url, choose=how, features_per_site=4))
    asked = read_labels(tmp_path).filter(pl.col("labeller") == "scripted-a")["feature"].to_list()
    assert len(asked) == (18 if how == "all" else 4)
    if how in ("effect", "coherence"):
        # Both put the latents that have a theme before those that fire at random.
        assert all(int(feature.rsplit("/", 1)[1]) < 12 for feature in asked)
