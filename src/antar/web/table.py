"""The table of features: one row a feature with its strongest effect, searched and paged on the server."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import polars as pl

from antar.report.changed import FeatureBook
from antar.report.effects import pooled_rows
from antar.run import Run

ROWS_PER_PAGE = 50
SORTS = {"effect": "strongest effect", "firing": "firing rate", "feature": "name"}
MOST_CHARACTERS = 200


@dataclass(frozen=True)
class Query:
    """What a reader asks for. Empty strings mean all."""

    dictionary: str = ""
    language: str = ""
    verdict: str = ""
    text: str = ""
    sort: str = "effect"
    page: int = 1

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> Query:
        """From a request's parameters. What cannot be meant falls back to the default; nothing here is an error."""
        page = parameters.get("page", "1")
        sort = parameters.get("sort", "effect")
        return cls(
            *(parameters.get(name, "")[:MOST_CHARACTERS] for name in ("dictionary", "language", "verdict", "text")),
            sort=sort if sort in SORTS else "effect",
            page=int(page) if page.isascii() and page.isdigit() and len(page) < 8 else 1,
        )

    def link(self, page: int) -> str:
        """The address of another page of the same answer."""
        asked = {"dictionary": self.dictionary, "language": self.language, "verdict": self.verdict,
                 "text": self.text, "sort": self.sort}  # fmt: skip
        return "/features?" + urlencode({key: value for key, value in asked.items() if value} | {"page": page})


@dataclass(frozen=True)
class Answer:
    """rows: of one page, as dicts; total: of all pages."""

    rows: Sequence[Mapping[str, Any]]
    total: int
    page: int
    pages: int


class FeatureTable:
    """Live features of the study's own dictionaries, made once when the run is opened."""

    def __init__(self, run: Run, book: FeatureBook) -> None:
        self._frame = _with_labels(_with_effects(_live(run), run, book), run, book)
        self.dictionaries = self._frame["dictionary"].unique(maintain_order=True).to_list()
        self.languages = sorted(self._frame["language"].drop_nulls().unique().to_list())
        self.verdicts = sorted(self._frame["verdict"].drop_nulls().unique().to_list())

    def __contains__(self, feature: str) -> bool:
        return bool((self._frame["feature"] == feature).any())

    def ask(self, query: Query) -> Answer:
        """The rows of one page. A page past the end is the last one."""
        frame = self._frame
        for column in ("dictionary", "language", "verdict"):
            if wanted := getattr(query, column):
                frame = frame.filter(pl.col(column) == wanted)
        if query.text.strip():
            frame = frame.filter(pl.col("searched").str.contains(folded(query.text.strip()), literal=True))
        frame = frame.sort(*_order(query.sort), nulls_last=True, descending=[query.sort != "feature", False])
        pages = max(1, -(-frame.height // ROWS_PER_PAGE))
        page = min(max(1, query.page), pages)
        rows = frame.slice((page - 1) * ROWS_PER_PAGE, ROWS_PER_PAGE).iter_rows(named=True)
        return Answer(list(rows), frame.height, page, pages)


def folded(text: str) -> str:
    """For searching: composed, case folded, so that one word is found however it was typed."""
    return unicodedata.normalize("NFC", text).casefold()


def _order(sort: str) -> list[pl.Expr]:
    first = {"effect": pl.col("d_av").abs(), "firing": pl.col("firing_rate"), "feature": pl.col("number")}[sort]
    return [first, pl.col("number")]


def _live(run: Run) -> pl.DataFrame:
    frame = run.features.with_row_index("number")
    own = frame.filter(pl.col("live") & ~pl.col("dictionary").str.contains(r":|\.pca|\.random"))
    return own.select("number", "feature", "dictionary", "firing_rate")


def _with_effects(frame: pl.DataFrame, run: Run, book: FeatureBook) -> pl.DataFrame:
    """The effect of each feature that is largest on the selection half, as estimated, and the nulls' 95% point."""
    if not run.has("features/contrasts.parquet"):
        empty = {"contrast": pl.String, "value": pl.String, "side_b": pl.String, "d_av": pl.Float64, "q": pl.Float64}
        return frame.with_columns(
            *(pl.lit(None, kind).alias(name) for name, kind in empty.items()), beside=pl.lit(None)
        )
    real = pooled_rows(run.contrasts).filter(pl.col("null") == "")
    chosen = pl.coalesce(pl.col("d_av_select").fill_nan(None), pl.col("d_av")).abs()
    best = real.sort(chosen, "contrast", "value", descending=[True, False, False])
    best = best.unique("feature", keep="first", maintain_order=True)
    beside = pl.Series("beside", [book.nulls.beside(row) for row in best.iter_rows(named=True)], dtype=pl.String)
    kept = best.select("feature", "contrast", "value", "side_b", "d_av", "q").with_columns(beside)
    return frame.join(kept, on="feature", how="left", maintain_order="left")


def _with_labels(frame: pl.DataFrame, run: Run, book: FeatureBook) -> pl.DataFrame:
    if book.has_labels:
        spoken = run.labels.select("feature", pl.col("language").alias("language"))
        frame = frame.join(spoken.unique("feature", keep="last"), on="feature", how="left", maintain_order="left")
    else:
        frame = frame.with_columns(language=pl.lit(None, pl.String))
    names = frame["feature"].to_list()
    labels = [book.label(name) for name in names]
    return frame.with_columns(
        pl.Series("label", labels, dtype=pl.String),
        pl.Series("state", [book.label_state(name) for name in names], dtype=pl.String),
        pl.Series("verdict", [book.verdict(name) for name in names], dtype=pl.String),
        pl.Series("searched", [folded(label or "") for label in labels], dtype=pl.String),
    )
