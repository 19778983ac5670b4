"""What features are said to be about, who said it, and whether the labels are worth anything.

Each number stands beside what it would be without a good label: a prediction beside another feature's label and
beside the keywords, SAEBench's accuracy beside always saying no, a validator's verdicts beside its verdicts on labels
whose truth is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from antar.criteria.predictive import KEYWORDS, balanced_accuracies
from antar.interpret.llm.usage import spoken_rate
from antar.interpret.saebench import ALWAYS_NO
from antar.report.blocks import Block, Cell, Column, Facts, Paragraph, Row, Section, Table, Value
from antar.report.method import pick
from antar.report.text import fixed, interval, number, percent, plural
from antar.run import Run

SHOWN = 30
CHOSEN = {"effect": "the size of their effect on the selection half", "coherence": "the likeness of their examples"}
ROLES = {"label": "labels", "validate": "verdicts", "predict": "predictions", "saebench": "SAEBench's form"}


def labels_section(run: Run) -> Section:
    manifest = run.manifest("interpret")
    if not run.has("interpret/labels.jsonl"):
        return Section("labels", "The labels", [Paragraph("No feature has been labelled in this run.")])
    if manifest is None:
        return Section("labels", "The labels", [Paragraph("Labelling has begun in this run and is not finished.")])
    facts = manifest.facts
    blocks: list[Block] = [Paragraph(_who(facts)), Paragraph(_answer(facts), "answer")]
    how = CHOSEN.get(str(pick(run.study, "interpret", "choose")))
    if how is not None:
        blocks.append(
            Paragraph(f"Features were taken by {how}: the scores are about such ones, not about all.", "note")
        )
    blocks += [Paragraph(note, "note") for note in facts.get("notes", [])]
    blocks.append(Facts(_counts(facts)))
    if facts.get("scores"):
        blocks.append(_predictions(facts))
    if facts.get("validator_rates"):
        blocks.append(_rates(facts))
    if facts.get("usage"):
        blocks.append(_usage(facts["usage"]))
    blocks += _features(run, facts)
    return Section("labels", "The labels", blocks)


def _who(facts: Mapping[str, Any]) -> str:
    names = {role: str(facts.get(role) or KEYWORDS) for role in ("labeller", "validator", "predictor")}
    if set(names.values()) == {KEYWORDS}:
        return (
            "No language model read anything. Keyword labels name words that stand out in a feature's texts; they "
            "were checked and predicted from by the same kind of rule, on texts that made no label."
        )
    who = {role: "Keywords" if name == KEYWORDS else name for role, name in names.items()}
    return (
        f"{who['labeller']} labelled, from texts of one half of the documents. {who['validator']} judged each label "
        f"beside other texts. {who['predictor']} predicted from the label alone, one text a question, on texts that "
        "neither had seen."
    )


def _answer(facts: Mapping[str, Any]) -> str:
    scores = facts.get("scores") or {}
    right, wrong = scores.get("right") or {}, scores.get("wrong_label") or {}
    if right.get("value") is None:
        return "No label could be held against unseen texts."
    told = (
        f"From the label alone the firing of unseen texts is told with a balanced accuracy of {_score(right)} over "
        f"{plural(right['features'], 'feature')}; with another feature's label it is {_score(wrong)}"
    )
    beside = (facts.get("keyword_scores") or {}).get("right") or {}
    return told + (f", with keywords {_score(beside)}." if beside.get("value") is not None else ".")


def _score(score: Mapping[str, Any]) -> str:
    if score.get("value") is None:
        return "not measured"
    return f"{fixed(score['value'])} {interval([score['low'], score['high']])}"


def _counts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    verdicts = facts.get("verdicts") or {}
    asked = facts.get("coherent", 0) + facts.get("incoherent", 0) + facts.get("failed_labels", 0)
    found = [
        ("features labelled", number(asked)),
        ("found coherent", number(facts.get("coherent"))),
        ("incoherent", number(facts.get("incoherent"))),
    ]
    if "failed_labels" in facts:
        found.append(("labels that failed", number(facts["failed_labels"])))
    return found + [(f"verdict {name}", number(count)) for name, count in verdicts.items()]


def _predictions(facts: Mapping[str, Any]) -> Table:
    scores, beside = facts["scores"], facts.get("keyword_scores") or {}
    rows = [_prediction_row(str(facts.get("predictor")), scores.get("right"))]
    for language, score in (scores.get("by_language") or {}).items():
        rows.append(_prediction_row(f"on {_language(language)} texts", score))
    rows.append(_prediction_row("with another feature's label", scores.get("wrong_label"), null=True))
    if beside:
        rows.append(_prediction_row("keywords", beside.get("right"), null=True))
        rows.append(_prediction_row("keywords of another feature", beside.get("wrong_label"), null=True))
    columns = [Column("predictor", False), Column("balanced accuracy"), Column("AUROC"), Column("features"),
               Column("failed calls")]  # fmt: skip
    note = "A call that failed is a wrong answer; always saying the same has 0.50."
    hard = (facts.get("predictions") or {}).get("hard_share")
    if hard is not None:
        note += f" Of the silent texts {percent(hard, 0)} fire one of the nearest features."
    saebench = facts.get("saebench") or {}
    if saebench:
        told = "; ".join(f"{name} {_score(score)}" for name, score in saebench.items())
        note += (
            f" SAEBench's form (14 texts a question, plain accuracy): {told}; always saying no has "
            f"{fixed(ALWAYS_NO, 3)}."
        )
    return Table("Does the label alone say which unseen texts fire the feature?", columns, rows, note)


def _language(code: str) -> str:
    return {"en": "English", "hi": "Hindi"}.get(code, code)


def _prediction_row(name: str, score: Mapping[str, Any] | None, null: bool = False) -> Row:
    score = score or {}
    cells: Sequence[Cell] = [
        _value(score.get("value"), score.get("low"), score.get("high")),
        _value(score.get("auroc"), score.get("auroc_low"), score.get("auroc_high")),
        number(score.get("features")),
        number(score.get("failed")),
    ]
    return Row(name, cells, null=null)


def _value(value: float | None, low: float | None, high: float | None) -> Cell:
    return Value(fixed(value), interval([low, high])) if value is not None and low is not None else "not measured"


def _rates(facts: Mapping[str, Any]) -> Table:
    rates = facts["validator_rates"]
    rows = [
        Row(what, [_value(rate["value"], rate["low"], rate["high"]), number(rate["n"]), number(rate["failed"])])
        for what, rate in (
            ("labels that are right by construction, kept", rates["true_positive"]),
            ("labels known to be wrong, not kept", rates["true_negative"]),
        )
    ]
    columns = [Column("the validator on known labels", False), Column("rate"), Column("labels"),
               Column("failed calls")]  # fmt: skip
    note = (
        "These were mixed among the real labels, unmarked, and are in no other number. A right one says that the "
        "texts share a word, and they do; a wrong one is another feature's. One that keeps everything has 1 and 0."
    )
    return Table("Can the validator be trusted?", columns, rows, note)


def _usage(usage: Mapping[str, Mapping[str, Any]]) -> Table:
    rows: list[Row] = []
    for role, its in usage.items():
        reasons = "; ".join(f"{reason} ({count})" for reason, count in (its.get("reasons") or {}).items())
        money = f"{number(its['cost'])} {its['currency']}" if "cost" in its else "no prices given"
        rate = "" if its.get("per_second") is None else spoken_rate(its["per_second"])
        cells: Sequence[Cell] = [
            f"{its['model']} {str(its.get('revision') or '')[:19]}".strip(),
            number(its["calls"]), number(its["failed"]),
            number(its["retried"]), number(its["prompt_tokens"]), number(its["completion_tokens"]), rate, money,
        ]  # fmt: skip
        rows.append(Row(ROLES.get(role, role), cells, remark=f"failed: {reasons}" if reasons else ""))
    columns = [Column("calls for", False), Column("model", False), Column("calls"), Column("failed"),
               Column("needed more than one try"), Column("tokens read"), Column("written"), Column("calls/s"),
               Column("cost", False)]  # fmt: skip
    return Table(
        "What was asked", columns, rows, "Every call, with its question, is in interpret/calls.", stacked=True
    )


def _features(run: Run, facts: Mapping[str, Any]) -> list[Block]:
    labels, verdicts, predictions = run.labels, run.verdicts, run.predictions
    own = labels.filter((pl.col("labeller") == facts.get("labeller")) & pl.col("label").is_not_null())
    its = predictions.filter(pl.col("predictor") == facts.get("predictor"))
    right = _by_feature(balanced_accuracies(its.filter(~pl.col("wrong_label"))))
    wrong = _by_feature(balanced_accuracies(its.filter(pl.col("wrong_label"))))
    said = {row["feature"]: row for row in verdicts.iter_rows(named=True)}
    checked = own.filter(pl.col("feature").is_in(list(said))).head(SHOWN)
    if checked.is_empty():
        return []
    rows: list[Row] = []
    for row in checked.iter_rows(named=True):
        verdict = said[row["feature"]]
        label = verdict["label"] if verdict["verdict"] == "REVISE" else row["label"]
        reason = f"failed: {verdict['failed']}" if verdict["failed"] else verdict["reason"]
        cells: Sequence[Cell] = [
            str(label), verdict["verdict"] or "failed", str(reason or ""),
            row["category"] or "", row["language"] or "",
            fixed(right.get(row["feature"])), fixed(wrong.get(row["feature"])),
        ]  # fmt: skip
        rows.append(Row(row["feature"], cells))
    columns = [Column("feature", False), Column("label", False), Column("verdict", False), Column("reason", False),
               Column("category", False), Column("about", False), Column("its label predicts"),
               Column("another's")]  # fmt: skip
    caption = f"The first {len(rows)} of {plural(len(said), 'validated label')}"
    note = "Balanced accuracy over a feature's unseen texts, with its own label and with another feature's."
    return [Table(caption, columns, rows, note, stacked=True)]


def _by_feature(frame: pl.DataFrame) -> dict[str, float | None]:
    return dict(frame.select("feature", "balanced_accuracy").iter_rows())
