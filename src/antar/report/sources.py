"""Where a number of the report comes from, in words that a reader and a program can follow.

    criteria.json#/criteria/3/value                              a JSON (or YAML) file and a pointer (RFC 6901, §6)
    truth_report.json#len:/flagged                               how many are in it
    features/contrasts.parquet?contrast=shift&null=&|d_av|>0.8#count
                                                                 a table (parquet, JSON lines), conditions, what of it

All conditions hold at once; `a>1;b<0` holds where one of them does. A condition is
    column=value  column!=value     as text, percent-encoded; `column=` is the empty text
    column>1  column<1  |column|>1  of numbers; never true of one that is missing or not finite
    column  !column                 there (and finite), or missing; a flag: true, or not
    pooled                          the row is pooled over languages, or its comparison has no pooled row
    own                             its dictionary is the study's own: no sham's, no baseline's
    @12                             row 12 of the table, from 0
and `family` (base, delta, …) and `layer` are columns of each table that has a `dictionary`. What is taken is
    count, share:CONDITION          rows, and the share of them under a condition
    first_readings                  texts, where each may be there twice (bare and in the chat template)
    column:any                      what all these rows have
    distinct:a+b                    different values of some columns together
    q0.95:|column|  min: max: sum: mean:    over the rows
    column, a+b                     of the one row (of JSON lines, the last)
and two sources with ` / `, ` - ` or ` + ` between them are the ratio, the difference or the sum. A word in place of a
pointer (`stands_above`) is a count that the method defines. A `%` behind a shown number is a hundredth. The reader
that checks them, written apart from what makes them, is tests/derive.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from antar.report import text as write
from antar.report.words import Cited, Words, told

_SAFE = "/:,.@()'*~$[]{}"


def at(file: str, *path: str | int) -> str:
    """The source of what is at `path` in a JSON or YAML file."""
    return f"{file}#{pointer(*path)}"


def length(file: str, *path: str | int) -> str:
    return f"{file}#len:{pointer(*path)}"


def pointer(*path: str | int) -> str:
    return "".join(f"/{quote(str(part).replace('~', '~0').replace('/', '~1'), safe=_SAFE)}" for part in path)


@dataclass(frozen=True)
class Rows:
    """Some rows of a table of the run."""

    file: str
    conditions: tuple[str, ...] = ()

    def where(self, *conditions: str, **equal: Any) -> Rows:
        """`equal`: column = value; None means that it is missing."""
        more = [f"!{name}" if value is None else f"{name}={_quoted(value)}" for name, value in equal.items()]
        return Rows(self.file, (*self.conditions, *conditions, *more))

    def get(self, what: str) -> str:
        return f"{self.file}?{'&'.join(self.conditions)}#{what}" if self.conditions else f"{self.file}#{what}"


def _quoted(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return quote(str(value), safe=_SAFE)


FEATURES = Rows("features/features.parquet")
EXAMPLES = Rows("features/examples.parquet")
CONTRASTS = Rows("features/contrasts.parquet")
BASELINES = Rows("features/baselines.parquet")
TEXTS = Rows("corpus/texts.parquet")
LABELS = Rows("interpret/labels.jsonl")
VERDICTS = Rows("interpret/verdicts.jsonl")

# -- numbers as they are written, with their source -----------------------------------------------------------------


def number(value: Any, source: str, digits: int = 3) -> Cited:
    return Cited(write.number(value, digits), source)


def setting(value: Any, source: str) -> Cited:
    return Cited(write.setting(value), source)


def fixed(value: Any, source: str, places: int = 2) -> Cited:
    return Cited(write.fixed(value, places), source)


def small(value: Any, source: str) -> Cited:
    return Cited(write.small(value), source)


def percent(value: Any, source: str, places: int = 1) -> Cited:
    return Cited(write.percent(value, places), source)


def quoted(value: Any, source: str) -> Cited:
    """A text of the run, word for word."""
    return Cited(str(value), source)


def interval(ends: Sequence[Any] | None, source: str | tuple[str, str], digits: int = 3) -> Words:
    """`[low, high]`; the source is that of a list of two, or of each end. Nothing where there is no interval."""
    if ends is None or not write.interval(ends, digits):
        return Words()
    low, high = (f"{source}/0", f"{source}/1") if isinstance(source, str) else source
    return told("[{}, {}]", number(ends[0], low, digits), number(ends[1], high, digits))
