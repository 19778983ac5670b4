"""How far people agree: Krippendorff's alpha, Gwet's AC1 and raw agreement, each with an interval or a reason.

Alpha: K. Krippendorff, "Computing Krippendorff's Alpha-Reliability", 2011 (nominal; the `krippendorff` package).
AC1: K. L. Gwet, "Computing inter-rater reliability and its variance in the presence of high agreement", Br. J.
Math. Stat. Psychol. 61, 2008. Raw agreement alone says little: two judges who both say yes 85% of the time agree on
74.5% by chance. What is undefined is None with the reason, never a number.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import krippendorff
import numpy as np

from antar.core.seeds import numpy_rng
from antar.people.schema import QUESTIONS, connect

BOOTSTRAPS = 2000
MOST_UNDEFINED = 0.05
"""An interval is given only when at most this share of the resamples has no value."""


@dataclass(frozen=True)
class Statistic:
    """A value with its 95% percentile interval over items. `reason` says why what is None is None."""

    value: float | None
    low: float | None
    high: float | None
    reason: str | None

    def as_dict(self) -> dict[str, float | str | None]:
        return {"value": self.value, "low": self.low, "high": self.high, "reason": self.reason}


@dataclass(frozen=True)
class Agreement:
    """items: those that at least two people answered; annotators: people with at least one answer."""

    alpha: Statistic
    ac1: Statistic
    raw: Statistic
    items: int
    annotators: int

    def as_dict(self) -> dict[str, Any]:
        return {
            "alpha": self.alpha.as_dict(),
            "ac1": self.ac1.as_dict(),
            "raw": self.raw.as_dict(),
            "items": self.items,
            "annotators": self.annotators,
        }


def agreement(
    answers: Mapping[str, Mapping[str, str]], choices: Sequence[str], *, seed: int, bootstraps: int = BOOTSTRAPS
) -> Agreement:
    """`answers`: annotator → item → answer, one of `choices`. Items with fewer than two answers are left out."""
    counts = _counts(answers, choices)
    annotators = sum(bool(given) for given in answers.values())
    reason = None
    if annotators < 2:
        reason = f"{annotators} annotators; agreement needs two"
    elif len(counts) == 0:
        reason = "no item was answered by two people"
    if reason is not None:
        nothing = Statistic(None, None, None, reason)
        return Agreement(nothing, nothing, nothing, len(counts), annotators)
    draws = numpy_rng(seed, "people", "bootstrap").integers(len(counts), size=(bootstraps, len(counts)))
    return Agreement(
        alpha=_statistic(counts, draws, alpha_of, "everybody gave the same answer; alpha needs variation"),
        ac1=_statistic(counts, draws, ac1_of, "AC1 needs two choices"),
        raw=_statistic(counts, draws, raw_of, ""),
        items=len(counts),
        annotators=annotators,
    )


def _counts(answers: Mapping[str, Mapping[str, str]], choices: Sequence[str]) -> np.ndarray:
    """int64 `[n_items, n_choices]`: how many people gave each answer, for items that two or more answered."""
    place = {choice: i for i, choice in enumerate(choices)}
    table: dict[str, np.ndarray] = {}
    for given in answers.values():
        for item, answer in given.items():
            table.setdefault(item, np.zeros(len(choices), dtype=np.int64))[place[answer]] += 1
    kept = [table[item] for item in sorted(table) if table[item].sum() >= 2]
    return np.array(kept, dtype=np.int64).reshape(len(kept), len(choices))


def alpha_of(counts_ic: np.ndarray) -> float | None:
    """Krippendorff's nominal alpha; None when every answer is the same."""
    if np.count_nonzero(counts_ic.sum(axis=0)) < 2:
        return None
    return float(krippendorff.alpha(value_counts=counts_ic, level_of_measurement="nominal"))


def raw_of(counts_ic: np.ndarray) -> float | None:
    """The mean over items of the share of pairs of people who agree."""
    people = counts_ic.sum(axis=1)
    return float(((counts_ic * (counts_ic - 1)).sum(axis=1) / (people * (people - 1))).mean())


def ac1_of(counts_ic: np.ndarray) -> float | None:
    """Gwet's AC1: (pa − pe) / (1 − pe), pe = Σ π(1 − π) / (q − 1) over the q choices offered."""
    q = counts_ic.shape[1]
    raw = raw_of(counts_ic)
    if q < 2 or raw is None:
        return None
    share_c = (counts_ic / counts_ic.sum(axis=1, keepdims=True)).mean(axis=0)
    by_chance = float((share_c * (1 - share_c)).sum() / (q - 1))
    return (raw - by_chance) / (1 - by_chance)


def _statistic(
    counts: np.ndarray, draws: np.ndarray, of: Callable[[np.ndarray], float | None], undefined: str
) -> Statistic:
    value = of(counts)
    if value is None:
        return Statistic(None, None, None, undefined)
    resampled = [of(counts[draw]) for draw in draws]
    defined = np.array([x for x in resampled if x is not None])
    if len(defined) < (1 - MOST_UNDEFINED) * len(draws):
        share = 1 - len(defined) / len(draws)
        return Statistic(value, None, None, f"no interval: {share:.0%} of the resamples have no variation")
    low, high = np.quantile(defined, [0.025, 0.975])
    return Statistic(value, float(low), float(high), None)


def agreement_of_sheet(path: Path, *, seed: int) -> dict[str, Any]:
    """Both questions' agreement on items under their own label, and how often each person refused a wrong label.

    Items with a planted wrong label stand apart: agreement on them is easy, and would raise the number.
    """
    with connect(path) as database:
        found: dict[str, Any] = {
            question: agreement(_answers(database, question), choices, seed=seed).as_dict()
            for question, choices in QUESTIONS.items()
        }
        refused = database.execute(
            "SELECT annotator, sum(fits = 'no'), count(*) FROM answers JOIN keys USING (item) "
            "WHERE wrong_label = 1 AND fits <> '' GROUP BY annotator ORDER BY annotator"
        ).fetchall()
    found["wrong_labels"] = {who: {"refused": no, "answered": count} for who, no, count in refused}
    return found


def _answers(database: sqlite3.Connection, question: str) -> dict[str, dict[str, str]]:
    if question not in QUESTIONS:
        raise ValueError(f"no such question: {question}")
    answers: dict[str, dict[str, str]] = {}
    for who, item, answer in database.execute(
        f"SELECT annotator, item, {question} FROM answers JOIN keys USING (item) WHERE wrong_label = 0"
    ):
        if answer:
            answers.setdefault(who, {})[item] = answer
    return answers
