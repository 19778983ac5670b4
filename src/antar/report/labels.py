"""What features are said to be about, who said it, and whether the labels are worth anything.

Each number stands beside what it would be without a good label: a prediction beside another feature's label and
beside the keywords, SAEBench's accuracy beside always saying no, a validator's verdicts beside its verdicts on labels
whose truth is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from antar.criteria.predictive import KEYWORDS
from antar.interpret.llm.usage import spoken_rate
from antar.report.blocks import Block, Cell, Column, Facts, Folded, Paragraph, Row, Section, Table, Value
from antar.report.method import pick
from antar.report.sources import LABELS, VERDICTS, at, fixed, interval, number, percent, pointer, quoted
from antar.report.text import NOT_MEASURED
from antar.report.words import Prose, counted, joined, told
from antar.run import Run

SHOWN = 30
CHOSEN = {"effect": "the size of their effect on the selection half", "coherence": "the likeness of their examples"}
ROLES = {"label": "labels", "validate": "verdicts", "predict": "predictions", "saebench": "SAEBench's form"}


_FACTS = ("interpret/manifest.json", "facts")


def labels_section(run: Run) -> Section:
    manifest = run.manifest("interpret")
    if not run.has("interpret/labels.jsonl"):
        return Section(
            "labels", "The labels", [Paragraph("No feature has been labelled in this run.")], appendix=True
        )
    if manifest is None:
        return Section(
            "labels", "The labels", [Paragraph("Labelling has begun in this run and is not finished.")], appendix=True
        )
    facts = manifest.facts
    blocks: list[Block] = [Paragraph(_who(facts)), Paragraph(_answer(facts), "answer")]
    how = CHOSEN.get(str(pick(run.study, "interpret", "choose")))
    if how is not None:
        blocks.append(
            Paragraph(f"Features were taken by {how}: the scores are about such ones, not about all.", "note")
        )
    blocks += [
        Paragraph(quoted(note, at(*_FACTS, "notes", i)), "note") for i, note in enumerate(facts.get("notes", []))
    ]
    blocks.append(Facts(_counts(facts)))
    if facts.get("scores"):
        blocks.append(_predictions(facts))
    if facts.get("validator_rates"):
        blocks.append(_rates(facts))
    if facts.get("usage"):
        blocks.append(_usage(facts["usage"]))
    blocks += _features(run, facts)
    return Section("labels", "The labels", blocks, appendix=True)


def _keys(*path: str) -> str:
    """The names in a mapping of the manifest."""
    return f"{_FACTS[0]}#keys:{pointer(*path)}"


def _who(facts: Mapping[str, Any]) -> Prose:
    names = {role: str(facts.get(role) or KEYWORDS) for role in ("labeller", "validator", "predictor")}
    if set(names.values()) == {KEYWORDS}:
        return (
            "No language model read anything. Keyword labels name words that stand out in a feature's texts; they "
            "were checked and predicted from by the same kind of rule, on texts that made no label."
        )
    who = ["Keywords" if name == KEYWORDS else quoted(name, at(*_FACTS, role)) for role, name in names.items()]
    return told(
        "{} labelled, from texts of one half of the documents. {} judged each label beside other texts. {} predicted "
        "from the label alone, one text a question, on texts that neither had seen.",
        *who,
    )


def _answer(facts: Mapping[str, Any]) -> Prose:
    scores = facts.get("scores") or {}
    right, wrong = scores.get("right") or {}, scores.get("wrong_label") or {}
    if right.get("value") is None:
        return "No label could be held against unseen texts."
    said = told(
        "From the label alone the firing of unseen texts is told with a balanced accuracy of {} over {}; with "
        "another "
        "feature's label it is {}",
        _score(right, "scores", "right"),
        counted(number(right["features"], at(*_FACTS, "scores", "right", "features")), "feature"),
        _score(wrong, "scores", "wrong_label"),
    )
    beside = (facts.get("keyword_scores") or {}).get("right") or {}
    if beside.get("value") is None:
        return said + "."
    return said + told(", with keywords {}.", _score(beside, "keyword_scores", "right"))


def _score(score: Mapping[str, Any], *path: str) -> Prose:
    if score.get("value") is None:
        return NOT_MEASURED
    return joined([fixed(score["value"], at(*_FACTS, *path, "value")), _ends(score, *path)])


def _ends(score: Mapping[str, Any], *path: str, name: str = "") -> Prose:
    ends = [score.get(f"{name}low"), score.get(f"{name}high")]
    return interval(ends, (at(*_FACTS, *path, f"{name}low"), at(*_FACTS, *path, f"{name}high")))


def _counts(facts: Mapping[str, Any]) -> list[tuple[Prose, Prose]]:
    verdicts = facts.get("verdicts") or {}
    asked = [name for name in ("coherent", "incoherent", "failed_labels") if name in facts]
    total = sum(facts[name] for name in asked)
    found: list[tuple[Prose, Prose]] = [
        ("features labelled", number(total, " + ".join(at(*_FACTS, name) for name in asked))),
        ("found coherent", number(facts.get("coherent"), at(*_FACTS, "coherent"))),
        ("incoherent", number(facts.get("incoherent"), at(*_FACTS, "incoherent"))),
    ]
    if "failed_labels" in facts:
        found.append(("labels that failed", number(facts["failed_labels"], at(*_FACTS, "failed_labels"))))
    return found + [
        (f"verdict {name}", number(count, at(*_FACTS, "verdicts", name))) for name, count in verdicts.items()
    ]


def _predictions(facts: Mapping[str, Any]) -> Table:
    scores, beside = facts["scores"], facts.get("keyword_scores") or {}
    predictor = quoted(str(facts.get("predictor")), at(*_FACTS, "predictor"))
    rows = [_prediction_row(predictor, scores.get("right"), "scores", "right")]
    for language, score in (scores.get("by_language") or {}).items():
        rows.append(_prediction_row(f"on {_language(language)} texts", score, "scores", "by_language", language))
    rows.append(
        _prediction_row("with another feature's label", scores.get("wrong_label"), "scores", "wrong_label", null=True)
    )
    if beside:
        rows.append(_prediction_row("keywords", beside.get("right"), "keyword_scores", "right", null=True))
        name = "keywords of another feature"
        rows.append(_prediction_row(name, beside.get("wrong_label"), "keyword_scores", "wrong_label", null=True))
    columns = [
        Column("predictor", False),
        Column("balanced accuracy"),
        Column("AUROC"),
        Column("features"),
        Column("failed calls"),
    ]
    note: Prose = "A call that failed is a wrong answer; always saying the same has 0.50."
    hard = (facts.get("predictions") or {}).get("hard_share")
    if hard is not None:
        share = percent(hard, at(*_FACTS, "predictions", "hard_share"), 0)
        note = note + told(" Of the silent texts {} fire one of the nearest features.", share)
    saebench = facts.get("saebench") or {}
    if saebench:
        lines = [
            told("{} {}", quoted(name, _keys("facts", "saebench")), _score(score, "saebench", name))
            for name, score in saebench.items()
        ]
        note = note + told(
            " SAEBench's form (14 texts a question, plain accuracy): {}; always saying no has 0.714.",
            joined(lines, "; "),
        )
    return Table("Does the label alone say which unseen texts fire the feature?", columns, rows, note)


def _language(code: str) -> str:
    return {"en": "English", "hi": "Hindi"}.get(code, code)


def _prediction_row(name: Prose, score: Mapping[str, Any] | None, *path: str, null: bool = False) -> Row:
    score = score or {}
    cells: Sequence[Cell] = [
        _value(score, *path),
        _value(score, *path, name="auroc_"),
        number(score.get("features"), at(*_FACTS, *path, "features")),
        number(score.get("failed"), at(*_FACTS, *path, "failed")),
    ]
    return Row(name, cells, null=null)


def _value(score: Mapping[str, Any], *path: str, name: str = "") -> Cell:
    key = name.rstrip("_") or "value"
    if score.get(key) is None or score.get(f"{name}low") is None:
        return NOT_MEASURED
    return Value(fixed(score[key], at(*_FACTS, *path, key)), _ends(score, *path, name=name))


def _rates(facts: Mapping[str, Any]) -> Table:
    rates = facts["validator_rates"]
    rows = [
        Row(
            what,
            [
                _value(rates[rate], "validator_rates", rate),
                *(number(rates[rate][name], at(*_FACTS, "validator_rates", rate, name)) for name in ("n", "failed")),
            ],
        )
        for what, rate in (
            ("labels that are right by construction, kept", "true_positive"),
            ("labels known to be wrong, not kept", "true_negative"),
        )
    ]
    columns = [
        Column("the validator on known labels", False),
        Column("rate"),
        Column("labels"),
        Column("failed calls"),
    ]
    note = (
        "These were mixed among the real labels, unmarked, and are in no other number. A right one says that the "
        "texts share a word, and they do; a wrong one is another feature's. One that keeps everything has 1 and 0."
    )
    return Table("Can the validator be trusted?", columns, rows, note)


def _usage(usage: Mapping[str, Mapping[str, Any]]) -> Table:
    rows: list[Row] = []
    for role, its in usage.items():
        here = (*_FACTS, "usage", role)
        reasons = joined(
            [
                told(
                    "{} ({})",
                    quoted(reason, _keys(*here[1:], "reasons")),
                    number(count, at(*here, "reasons", reason)),
                )
                for reason, count in (its.get("reasons") or {}).items()
            ],
            "; ",
        )
        money: Prose = "no prices given"
        if "cost" in its:
            money = told("{} {}", number(its["cost"], at(*here, "cost")), its["currency"])
        rate: Prose = ""
        if its.get("per_second") is not None:
            rate = quoted(spoken_rate(its["per_second"]), at(*here, "per_second"))
        revision = str(its.get("revision") or "")[:19]
        name = quoted(its["model"], at(*here, "model"))
        if revision:
            name = told("{} {}", name, quoted(revision, at(*here, "revision")))
        counts = ("calls", "failed", "retried", "prompt_tokens", "completion_tokens")
        cells: Sequence[Cell] = [name, *(number(its[key], at(*here, key)) for key in counts), rate, money]
        rows.append(Row(ROLES.get(role, role), cells, remark=told("failed: {}", reasons) if reasons else ""))
    columns = [
        Column("calls for", False),
        Column("model", False),
        Column("calls"),
        Column("failed"),
        Column("needed more than one try"),
        Column("tokens read"),
        Column("written"),
        Column("calls/s"),
        Column("cost", False),
    ]
    return Table(
        "What was asked", columns, rows, "Every call, with its question, is in interpret/calls.", stacked=True
    )


def _features(run: Run, facts: Mapping[str, Any]) -> list[Block]:
    labels, verdicts = run.labels, run.verdicts
    own = labels.filter((pl.col("labeller") == facts.get("labeller")) & pl.col("label").is_not_null())
    said = {row["feature"]: row for row in verdicts.iter_rows(named=True)}
    checked = own.filter(pl.col("feature").is_in(list(said))).head(SHOWN)
    if checked.is_empty():
        return []
    columns = [
        Column("feature", False),
        Column("label", False),
        Column("verdict", False),
        Column("reason", False),
        Column("category", False),
        Column("about", False),
    ]
    rows = [_feature(row, said[row["feature"]]) for row in checked.iter_rows(named=True)]
    table = Table("The first validated labels, in the order of the features", columns, rows, stacked=True)
    return [Folded("Some labels, as they stand", [table])]


def _feature(row: Mapping[str, Any], verdict: Mapping[str, Any]) -> Row:
    label, judged = (rows.where(feature=row["feature"]) for rows in (LABELS, VERDICTS))
    name = quoted(row["label"], label.get("label"))
    if verdict["verdict"] == "REVISE" and verdict["label"]:
        name = quoted(verdict["label"], judged.get("label"))
    why = "failed" if verdict["failed"] else "reason"
    reason: Prose = quoted(verdict[why], judged.get(why)) if verdict[why] else ""
    category: Prose = quoted(row["category"], label.get("category")) if row["category"] else ""
    cells: Sequence[Cell] = [
        name,
        verdict["verdict"] or "failed",
        ("failed: " if verdict["failed"] else "") + reason,
        category,
        row["language"] or "",
    ]
    return Row(row["feature"], cells)
