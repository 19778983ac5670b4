"""The first screen: what changed, how surely, what it is about, and what the same counts are where nothing changed.

Written for somebody who has read nothing else. The verdict is that of criterion 4, said in plain words; every number
comes from `criteria.json` or is counted in the contrasts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from antar.report.blocks import Block, Bullets, Folded, Heading, Links, Paragraph, Section, Tallies, Tally
from antar.report.book import FeatureBook, anchor_of, comparison_words, effect_rows
from antar.report.changed import (
    change_kinds,
    change_rows,
    count_large,
    nulls_of,
    question,
    top_features,
    top_values,
)
from antar.report.effects import null_name, null_order, threshold_words, thresholds
from antar.report.method import pick
from antar.report.sources import at, fixed, interval, length, number, percent, quoted, small
from antar.report.text import NOT_MEASURED
from antar.report.words import Prose, Words, joined, listed, told
from antar.run import Run

EFFECT = 3
"""Criterion 4's place in criteria.json."""
ABOUT_SHOWN, ABOUT_LARGE = 2, 6
"""Features of each kind that the answer names; and of a kind with large ones, each of another value of its facet."""
NAMED = 12
"""Flagged concepts that the answer names."""
_SIZE = ("layers and languages with a sham", "of them, where the cultural shift stands above every sham's")


def answer_section(run: Run) -> Section:
    blocks: list[Block] = [Paragraph(lead(run), "answer")]
    if run.truth is not None:
        blocks.append(Paragraph(truth_sentence(run.truth)))
    measured = run.has("features/contrasts.parquet") and not run.contrasts.is_empty()
    if measured:
        blocks += [*_one_at_a_time(run), _tallies(run)]
    blocks += [Heading("How sure is that?"), Paragraph(_sure(run))]
    blocks += [Heading("What would show up without any change?"), Paragraph(_nulls(run))]
    blocks += [Heading("What are they about?"), *(_about(run) if measured else [Paragraph(_NO_CONTRAST)])]
    if run.has("criteria.json") and run.criteria.get("headline"):
        lines = [quoted(line, at("criteria.json", "headline", i)) for i, line in enumerate(run.criteria["headline"])]
        blocks.append(Folded("The same in the words of criteria.json", [Bullets(lines)]))
    return Section("answer", "The answer", blocks)


_NO_CONTRAST = "No contrast has been measured in this run, so no feature can be named."


def _effect_criterion(run: Run) -> Mapping[str, Any] | None:
    if not run.has("criteria.json"):
        return None
    found = run.criteria["criteria"]
    return found[EFFECT] if len(found) > EFFECT and found[EFFECT]["number"] == EFFECT + 1 else None


def lead(run: Run) -> Prose:
    """One or two sentences that a reader can quote."""
    effect = _effect_criterion(run)
    if effect is None:
        return "Not known yet: the criteria of this study have not been measured in this run."
    base, chat = run.names["base"], run.names["chat"]
    more, further = _stands_above(effect), _is_larger(effect)
    if more is None:
        return told(
            "This run cannot say whether {} differs from {} by more than drift: {}.",
            chat,
            base,
            "it has no sham" if effect.get("null") is None else "its shift was not held against a sham's",
        )
    if effect["verdict"] == "pass":
        return told(
            "Yes: more features differ between {} and {} than on any sham, and the models lie further apart on "
            "cultural texts than drift explains.",
            base,
            chat,
        )
    if more and further is None:
        return told(
            "More features differ between {} and {} than on any sham; whether the models also lie further "
            "apart on cultural texts was not measured, so this is not judged.",
            base,
            chat,
        )
    if more:
        return told(
            "Not shown: more features differ between {} and {} than on the shams, but on cultural texts the models "
            "lie no further apart than drift alone takes them.",
            base,
            chat,
        )
    if further:
        return told(
            "Something changed between {} and {} on cultural texts: the models lie further apart there than drift "
            "explains. But over all texts no more features changed than on a sham.",
            base,
            chat,
        )
    return told(
        "No: no more features differ between {} and {} than on a sham, where nothing was there to learn.", base, chat
    )


def _stands_above(effect: Mapping[str, Any]) -> bool | None:
    """Does the share stand above the upper end of the largest sham's? None without a sham."""
    null = effect.get("null")
    if null is None or effect["value"] is None:
        return None
    return effect["value"] > (effect["threshold"] if null.get("ci") is None else null["ci"][1])


def _is_larger(effect: Mapping[str, Any]) -> bool | None:
    """Is the cultural shift above every sham's at most layers and languages? None where not measured."""
    compared, above = (effect["beside"].get(name) for name in _SIZE)
    return None if not compared or above is None else 2 * above > compared


def _one_at_a_time(run: Run) -> list[Block]:
    """What over all texts drowns: features of the difference that single out one value of a facet."""
    rows = change_rows(run.contrasts)
    if "facet" not in change_kinds(rows):
        return []
    value, of = count_large(run, rows, "facet", "")
    shams = [null for null in nulls_of(rows, "facet") if null.startswith("sham:")]
    beside = [told("{} on {}", count_large(run, rows, "facet", null)[0], null_name(null)) for null in shams]
    said = told(
        "{} at a time, {} of {} features of the difference stand out", _facet_words(run).capitalize(), value, of
    )
    said = said + (told(", where {} do.", listed(beside)) if beside else "; without a sham, drift alone may do that.")
    return [Paragraph(said)]


def _facet_words(run: Run) -> str:
    """`one concept`, or `one value of a facet` where there are several."""
    found = run.contrasts.filter(pl.col("contrast") == "facet")["facet"].unique().drop_nulls()
    return f"one {found[0]}" if len(found) == 1 else "one value of a facet"


def _tallies(run: Run) -> Tallies:
    rows, (d, q) = change_rows(run.contrasts), threshold_words(run)
    kinds = change_kinds(rows)
    nulls = sorted({null for kind in kinds for null in nulls_of(rows, kind)}, key=null_order)
    found: list[Tally] = []
    for kind in kinds:
        there = nulls_of(rows, kind)
        value, of = count_large(run, rows, kind, "")
        beside = [
            _on_null(run, rows, kind, null) if null in there else (null_name(null), NOT_MEASURED, "")
            for null in nulls
        ]
        found.append(Tally(value, told("of {}", of), question(run, kind), beside, "none" if value == "0" else "mild"))
    caption = told(
        "How many features changed much and surely (|d| > {}, q < {}), of those that fire on enough texts "
        "for the comparison; and how many do where nothing changed.",
        d,
        q,
    )
    return Tallies(caption, [null_name(null) for null in nulls], found)


def _on_null(run: Run, rows: pl.DataFrame, kind: str, null: str) -> tuple[str, Prose, Prose]:
    value, of = count_large(run, rows, kind, null)
    return null_name(null), value, told("of {}", of)


def _sure(run: Run) -> Prose:
    d, q = threshold_words(run)
    parts: list[Prose] = [
        told(
            "A feature counts where its effect is large (|d| > {}, in standard deviations) and sure (q < {}: of all "
            "that are "
            "counted, no larger share is expected to be luck of the texts).",
            d,
            q,
        )
    ]
    effect = _effect_criterion(run)
    if effect is None:
        return joined(parts)
    here = ("criteria.json", "criteria", EFFECT)
    if effect["value"] is not None:
        share = percent(effect["value"], at(*here, "value"))
        ends = _percent_ends(effect.get("ci"), at(*here, "ci"))
        parts.append(told("Over all texts, by that rule, {} of the features changed{}", share, ends))
        null = effect.get("null")
        if null is not None and null["value"] is not None:
            parts[-1] = parts[-1] + told(
                ", against {} on the worst sham{}.",
                percent(null["value"], at(*here, "null", "value")),
                _percent_ends(null.get("ci"), at(*here, "null", "ci")),
            )
        else:
            parts[-1] = parts[-1] + "; there is no sham to hold it against."
    compared, above = (effect["beside"].get(name) for name in _SIZE)
    if compared and above is not None:
        a, c = (number(effect["beside"][name], at(*here, "beside", name)) for name in reversed(_SIZE))
        parts.append(
            told(
                "How far the models lie apart on cultural texts, beyond controls, stands above every sham's at {} of "
                "{} "
                "layers and languages.",
                a,
                c,
            )
        )
    return joined(parts)


def _percent_ends(ends: Any, source: str) -> Prose:
    if not ends or any(end is None for end in ends):
        return ""
    low, high = percent(ends[0], f"{source}/0"), percent(ends[1], f"{source}/1")
    return told(" (95% interval {} to {})", low, high)


def truth_sentence(truth: Mapping[str, Any]) -> Prose:
    """What came of the check against the planted truth."""
    file = "truth_report.json"
    listed, flagged = truth.get("listed"), truth.get("flagged")
    if listed is None or flagged is None:
        scores = [number(truth.get(name), at(file, name)) for name in ("precision", "recall")]
        return told("The change was planted, so the answer is known: precision {}, recall {}.", *scores)
    false = [name for name in flagged if name not in listed]
    right = number(len(flagged) - len(false), f"{length(file, 'flagged')} - {length(file, 'false')}")
    names = joined([quoted(name, at(file, "flagged", place)) for place, name in enumerate(flagged[:NAMED])], ", ")
    more = ", …" if len(flagged) > NAMED else ""
    said = told(
        "The change was planted here, so the answer is known: {} concepts were changed on purpose. The study’s rule "
        "flags {}{}, of which {} {} changed",
        number(len(listed), length(file, "listed")),
        number(len(flagged), length(file, "flagged")),
        told(" ({}{})", names, more) if flagged else "",
        right,
        "was" if right == "1" else "were",
    )
    null = truth.get("flagged_on_null")
    if null is None:
        return said + ". There is no second sham, so how often the rule flags nothing at all was not measured."
    where = at(file, "flagged_on_null")
    return said + told("; on a second sham, where nothing was changed, it flags {}.", number(null, where))


def _nulls(run: Run) -> Prose:
    rows = change_rows(run.contrasts) if run.has("features/contrasts.parquet") else None
    there = set(rows["null"].unique()) if rows is not None and rows.height else set[str]()
    parts: list[Prose] = [
        "The same counts are made where there is nothing to find, and stand beside each number above."
    ]
    shams = sorted(null for null in there if null.startswith("sham:"))
    if shams:
        what = quoted(pick(run.study, "models", "sham_is"), at("study.yaml", "models", "sham_is"))
        names = joined([null_name(null) for null in shams], ", ")
        parts.append(
            told(
                "A sham ({}) is {}: it drifts as any training drifts.",
                names,
                what if str(what) != "None" else "the base model, trained on with nothing to learn",
            )
        )
    else:
        parts.append(
            "There is no sham (a model trained on with nothing to learn) in this run: what drift alone would show is "
            "not known, and that is the null which matters most."
        )
    for null, words in _NULLS.items():
        if null in there:
            parts.append(words)
    return joined(parts)


_NULLS = {
    "shuffled": "With shuffled groups the documents keep their texts and lose their labels.",
    "same_checkpoint": "With the same checkpoint on both sides nothing can differ.",
    "random": (
        "PCA, random directions and raw neurons take a trained dictionary’s place: what they reach needs "
        "no dictionary."
    ),
    "random_weights": "A model of random weights knows nothing.",
}


def _about(run: Run) -> list[Block]:
    book, rows, (d, q) = FeatureBook(run), change_rows(run.contrasts), thresholds(run)
    named = {
        kind: top_values(rows, q) if kind == "facet" else top_features(rows, kind, q) for kind in change_kinds(rows)
    }
    counted = {kind: its.filter((pl.col("d_av").abs() > d) & (pl.col("q") < q)) for kind, its in named.items()}
    large = any(its.height for its in counted.values())
    # Where any is large enough to count, those that are not are left to the section below.
    shown = (
        {kind: its.head(ABOUT_LARGE) for kind, its in counted.items()}
        if large
        else {kind: its.head(ABOUT_SHOWN) for kind, its in named.items()}
    )
    items = [_link(book, kind, row) for kind, its in shown.items() for row in its.iter_rows(named=True)]
    if not items:
        at_q = threshold_words(run)[1]
        return [Paragraph(told("No feature has q < {} in any comparison of the two models, so none is named.", at_q))]
    worth = _labels_worth(run)
    if large:
        first = "The largest of each kind, by what their strongest texts have in common; more, with the texts, under "
    else:
        first = (
            "None is large enough to count. The largest of each kind that are sure, for what they are worth; "
            "more under "
        )
    return [Paragraph(told("{}“The features that changed most”. {}", first, worth)), Links(items)]


def _link(book: FeatureBook, kind: str, row: Mapping[str, Any]) -> tuple[str, Prose, Prose]:
    its, feature = effect_rows(row), row["feature"]
    name = book.label(feature) or book.label_state(feature)
    verdict = book.verdict(feature)
    said: Words = told("{} · {} · d = {} ", feature, comparison_words(row), fixed(row["d_av"], its.get("d_av")))
    said = said + interval([row["d_lo"], row["d_hi"]], (its.get("d_lo"), its.get("d_hi")))
    said = said + told(
        "; on nulls 95% of |d| lie below: {}; q {}", book.nulls.beside(row), small(row["q"], its.get("q"))
    )
    return anchor_of(feature, kind), name, said + (f"; label judged {verdict}" if verdict else "")


def _labels_worth(run: Run) -> Prose:
    manifest = run.manifest("interpret")
    scores = (manifest.facts.get("scores") or {}) if manifest is not None else {}
    right, wrong = scores.get("right") or {}, scores.get("wrong_label") or {}
    if right.get("value") is None:
        return "What the labels are worth was not measured."
    file = ("interpret/manifest.json", "facts", "scores")
    said = told(
        "From its label alone a feature’s firing on unseen texts is told with balanced accuracy {}",
        fixed(right["value"], at(*file, "right", "value")),
    )
    if wrong.get("value") is not None:
        said = said + told(
            " (with another feature’s label {})", fixed(wrong["value"], at(*file, "wrong_label", "value"))
        )
    return said + "."
