"""The interpret folder of a fake run, with made-up labels: by keywords, or by two language models.

Hindi and English, and hostile words wherever a model or a data set could have put them. The facts are what the
stage's own functions make of the records, so that page and files agree. Nothing in it was measured.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl

from antar.core.atomic import write_text
from antar.core.manifest import Fingerprint, write_manifest
from antar.interpret.controls import validator_rates
from antar.interpret.records import read_controls, read_predictions, read_saebench
from antar.interpret.saebench import score_saebench
from antar.interpret.scores import score_predictions

LABELLER, JUDGE = "Qwen/Qwen1.5-32B-Chat", "Fake/Judge-30B <b>bold</b>"
WORDS = ("दीवाली, दीये", 'lamps <b>and</b> "light"', "पोंगल / pongal", "</script><script>alert(3)</script>")
REASON = 'answered <img src=x onerror=alert(4)> "KEEP"'
LANGUAGES = ("en", "hi")
ASKED = 10
"""Features of each dictionary that the model is asked about."""
Records = list[dict[str, Any]]


def write_labels(folder: Path, features: pl.DataFrame, texts: pl.DataFrame, llm: bool) -> None:
    live = features.filter("live")["feature"].to_list()
    keywords = [_label(feature, i, "keywords") for i, feature in enumerate(live)]
    if llm:
        facts = _write_of_models(folder, keywords, texts)
    else:
        coherent = [(i, one) for i, one in enumerate(keywords) if one["coherent"]]
        verdicts = [_verdict(one, i, "keywords") for i, one in coherent]
        predictions = [
            {"feature": one["feature"], "text_id": "t0002", "fires": True, "predicted": bool(i % 2), "score": 0.5,
             "predictor": "keywords", "wrong_label": False} for i, one in coherent
        ]  # fmt: skip
        _write(folder, labels=keywords, verdicts=verdicts, predictions=predictions)
        scores = score_predictions(read_predictions(folder / "interpret"), texts, seed=5).as_dict()
        facts = _facts("keywords", "keywords", keywords, verdicts) | {"scores": scores}
    files = sorted((folder / "interpret").glob("*.jsonl"))
    write_manifest(folder / "interpret/manifest.json", "interpret", Fingerprint(), files, facts)


def _write_of_models(folder: Path, keywords: Records, texts: pl.DataFrame) -> dict[str, Any]:
    per_dictionary: Counter[str] = Counter()
    labels: Records = []
    for i, one in enumerate(keywords):
        per_dictionary[dictionary := one["feature"].rsplit("/", 1)[0]] += 1
        labels.append(_label(one["feature"], i, LABELLER) if per_dictionary[dictionary] <= ASKED else one)
    asked = [one for one in labels if one["labeller"] == LABELLER]
    coherent = [one for one in asked if one["coherent"]]
    verdicts = [_verdict(one, i, JUDGE) for i, one in enumerate(coherent)]
    predictions = [row for i, one in enumerate(coherent) for row in _predictions(one["feature"], i, texts)]
    bench = [_bench(one["feature"], i, who) for i, one in enumerate(coherent) for who in (JUDGE, "keywords")]
    controls = [_control(one["feature"], i, kind) for i, one in enumerate(coherent[:20])
                for kind in ("wrong_label", "right_word")]  # fmt: skip
    _write(folder, labels=labels, keywords=keywords, verdicts=verdicts, predictions=predictions, saebench=bench,
           controls=controls)  # fmt: skip
    place = folder / "interpret"
    frame = read_predictions(place)
    return _facts(LABELLER, JUDGE, asked, verdicts) | {
        "notes": ["labeller and validator are of one family <i>qwen</i>: they may share their mistakes"],
        "failed_labels": sum(one["failed"] is not None for one in asked),
        "predictions": {"features": len(coherent), "hard_share": 0.5},
        "scores": score_predictions(frame, texts, seed=5, predictor=JUDGE).as_dict(),
        "keyword_scores": score_predictions(frame, texts, seed=5, predictor="keywords").as_dict(),
        "validator_rates": validator_rates(read_controls(place)).as_dict(),
        "saebench": score_saebench(read_saebench(place), 5),
        "usage": {"label": _usage(LABELLER, len(asked)) | {"cost": 0.0042, "currency": "USD"},
                  "validate": _usage(JUDGE, len(verdicts) + len(controls)),
                  "predict": _usage(JUDGE, len(predictions) // 2) | {"failed": 0, "reasons": {}}},
    }  # fmt: skip


def _facts(labeller: str, judge: str, asked: Records, verdicts: Records) -> dict[str, Any]:
    counts = Counter(one["verdict"] for one in verdicts)
    found = {name: counts[name] for name in ("KEEP", "REVISE", "INVALIDATE")}
    return {
        "labeller": labeller, "validator": judge, "predictor": judge, "notes": [],
        "coherent": sum(one["coherent"] for one in asked),
        "incoherent": sum(not one["coherent"] and one["failed"] is None for one in asked),
        "verdicts": found if judge == "keywords" else found | {"failed": counts[None]},
    }  # fmt: skip


def _label(feature: str, i: int, labeller: str) -> dict[str, Any]:
    """Every fifth is incoherent; of a model's, every tenth failed."""
    failed = REASON if labeller != "keywords" and i % 10 == 9 else None
    coherent = i % 5 != 4
    return {
        "feature": feature, "coherent": coherent, "label": WORDS[i % 4] if coherent else None,
        "keywords": WORDS[i % 4].split(", "), "category": None if labeller == "keywords" else "festival",
        "language": LANGUAGES[i % 2], "evidence": ["t0001"], "labeller": labeller, "version": "1", "failed": failed,
    }  # fmt: skip


def _verdict(label: dict[str, Any], i: int, validator: str) -> dict[str, Any]:
    failed = REASON if validator != "keywords" and i % 7 == 6 else None
    return {
        "feature": label["feature"], "verdict": None if failed else ("KEEP", "REVISE", "INVALIDATE")[i % 3],
        "reason": None if failed else "balanced accuracy 0.74 <on> 20 texts", "label": label["label"],
        "evidence": [], "validator": validator, "failed": failed,
    }  # fmt: skip


def _predictions(feature: str, i: int, texts: pl.DataFrame) -> Records:
    """Twelve texts, half of them firing. The model is right on all but two, keywords on all but four; with a wrong
    label half are right. One call in all failed."""
    rows: Records = []
    for who, wrong in ((JUDGE, False), (JUDGE, True), ("keywords", False), ("keywords", True)):
        misses = {1, 2, 5, 6, 9, 10} if wrong else {3, 8} if who == JUDGE else {0, 3, 8, 11}
        for j, text_id in enumerate(texts["text_id"].to_list()[20:32]):
            fires = j % 4 < 2
            predicted = fires != (j in misses)
            failed = REASON if i == j == 0 and who == JUDGE and not wrong else None
            rows.append({
                "feature": feature, "text_id": text_id, "fires": fires, "predicted": None if failed else predicted,
                "score": None if failed else 0.9 if predicted else 0.1, "predictor": who, "wrong_label": wrong,
                "failed": failed,
            })  # fmt: skip
    return rows


def _bench(feature: str, i: int, who: str) -> dict[str, Any]:
    correct = 10 + i % 4 if who == JUDGE else 9
    return {"feature": feature, "predictor": who, "n": 14, "positives": 4, "correct": correct,
            "accuracy": correct / 14, "version": "1", "failed": None}  # fmt: skip


def _control(feature: str, i: int, kind: str) -> dict[str, Any]:
    """A validator that keeps nine right labels of ten, and three wrong ones of four; it fails once at each."""
    keeps = i % 10 != 9 if kind == "right_word" else i % 4 != 0
    return {
        "kind": kind, "feature": feature, "label": WORDS[i % 4], "label_of": "base.layer01/7",
        "verdict": None if i == 0 else "KEEP" if keeps else "INVALIDATE", "reason": "made up", "evidence": [],
        "validator": JUDGE, "version": "1", "failed": REASON if i == 0 else None,
    }  # fmt: skip


def _usage(model: str, calls: int) -> dict[str, Any]:
    return {"model": model, "revision": "0123456789abcdef0123", "calls": calls, "failed": 3,
            "reasons": {REASON: 2, "the answer was cut off": 1}, "retried": 4, "prompt_tokens": 900 * calls,
            "completion_tokens": 60 * calls, "per_second": 7.25}  # fmt: skip


def _write(folder: Path, **files: Records) -> None:
    for name, records in files.items():
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        write_text(folder / f"interpret/{name}.jsonl", lines)
