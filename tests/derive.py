"""What a page of the report says, derived anew from the run's files: the reader of `data-from`.

Written from the description in `antar/report/sources.py` and from the files' schemas, and from nothing that makes the
page: a condition is evaluated here, a count is counted here. `walk.py` walks a page with it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl
import yaml

BASELINES = ["pca", "random", "neurons"]
DEFAULTS = {"d": 0.8, "q": 0.05, "mse": 0.05, "sparsity": 10.0, "log_odds": math.log(10), "script_auroc": 0.95}

# -- sources ------------------------------------------------------------------------------------------------------


@dataclass
class Files:
    """A run folder, with each file read once."""

    folder: Path
    _read: dict[str, Any] = field(default_factory=dict)

    def derive(self, source: str) -> Any:
        """The value that `source` names: a number, a text, a flag, or None where it is missing."""
        for sign in (" / ", " - ", " + "):
            if sign in source:
                left, right = source.rsplit(sign, 1)
                a, b = self.derive(left), self.derive(right)
                if a is None or b is None:
                    return None
                return a / b if sign == " / " else a - b if sign == " - " else a + b
        file, what = source.split("#", 1)
        name, _, conditions = file.partition("?")
        if what == "sha256":
            return hashlib.sha256((self.folder / name).read_bytes()).hexdigest()
        if name.endswith((".parquet", ".jsonl")):
            return take(self.rows(name, conditions), what, name)
        return self.of_tree(name, what)

    # JSON and YAML

    def tree(self, name: str) -> Any:
        if name not in self._read:
            text = (self.folder / name).read_text(encoding="utf-8")
            self._read[name] = yaml.safe_load(text) if name.endswith(".yaml") else json.loads(text)
        return self._read[name]

    def of_tree(self, name: str, what: str) -> Any:
        tree = self.tree(name)
        if what in NAMED:
            return NAMED[what](tree)
        if what.startswith("len:"):
            return len(at(tree, what[4:]))
        if what.endswith("#fold"):
            value = self.of_tree(name, what[:-5])
            return f"{math.exp(min(value, 700.0)):.3g}-fold"
        if what.endswith(":name"):
            return at(tree, what[:-5]).rsplit("/", 1)[-1]
        if what.startswith("keys:"):
            return set(at(tree, what[5:]))
        value = at(tree, what)
        return DEFAULTS.get(what.rsplit("/", 1)[-1]) if value is None and name == "study.yaml" else value

    # tables

    def frame(self, name: str) -> pl.DataFrame:
        if name not in self._read:
            path = self.folder / name
            if name.endswith(".parquet"):
                frame = pl.read_parquet(path)
            else:
                lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
                keys = list(dict.fromkeys(key for line in lines for key in line))
                frame = pl.DataFrame(
                    {key: pl.Series([line.get(key) for line in lines], strict=False) for key in keys}
                )
            if "dictionary" in frame.columns:
                names = {one: site(one) for one in frame["dictionary"].unique().drop_nulls()}
                frame = frame.with_columns(
                    *(
                        pl.Series(
                            f"_{part}", [names.get(one, {}).get(part) for one in frame["dictionary"]], pl.String
                        )
                        for part in ("family", "layer", "kind")
                    )
                )
            self._read[name] = frame.with_columns(_row=pl.Series(range(frame.height), dtype=pl.Int64))
        return self._read[name]

    def rows(self, name: str, conditions: str) -> pl.DataFrame:
        frame = self.frame(name)
        for condition in filter(None, conditions.split("&")):
            if condition == "own":
                frame = frame.filter(~pl.col("_kind").is_in(BASELINES) & ~pl.col("dictionary").str.contains(":"))
            elif condition == "pooled":
                frame = frame.filter(pl.col("_row").is_in(list(self.pooled(name))))
            else:
                frame = frame.filter(holds(frame, condition))
        return frame

    def pooled(self, name: str) -> set[int]:
        """Rows that are pooled over languages, or whose comparison has no pooled row with an effect."""
        if (name, "pooled") not in self._read:
            keys = ("contrast", "dictionary", "side_a", "side_b", "facet", "value", "null")
            groups: dict[tuple[Any, ...], dict[bool, list[int]]] = {}
            for row in self.frame(name).select(*keys, "language", "d_av", "_row").iter_rows(named=True):
                if row["d_av"] is not None and not math.isnan(row["d_av"]):
                    group = groups.setdefault(tuple(row[key] for key in keys), {True: [], False: []})
                    group[row["language"] == "pooled"].append(row["_row"])
            self._read[name, "pooled"] = {i for group in groups.values() for i in (group[True] or group[False])}
        return self._read[name, "pooled"]


def site(dictionary: str) -> dict[str, str]:
    """`delta:a.layer03.pca` → its family, layer and kind."""
    side, layer, *rest = dictionary.split(".")
    kinds = [part for part in rest if not re.fullmatch(r"(seed|fold)\d+", part)]
    return {
        "family": side.split(":")[0],
        "layer": str(int(layer.removeprefix("layer"))),
        "kind": (kinds or ["trained"])[0],
    }


def holds(frame: pl.DataFrame, condition: str) -> pl.Expr:
    if ";" in condition:
        first, *rest = (holds(frame, part) for part in condition.split(";"))
        for other in rest:
            first = first | other
        return first
    if condition.startswith("@"):
        return pl.col("_row") == int(condition[1:])
    found = re.fullmatch(r"(\|?)(\w+)\|?(!=|=|~|>|<)(.*)", condition)
    if not found:
        absent = condition.startswith("!")
        return ~there(frame, condition[1:]) if absent else there(frame, condition)
    size, name, sign, value = found.groups()
    column = pl.col(known(frame, name))
    if sign in "><":
        number = column.cast(pl.Float64).fill_nan(None)
        number = number.abs() if size else number
        return ((number > float(value)) if sign == ">" else (number < float(value))).fill_null(False)
    text = column.cast(pl.String)
    if sign == "~":
        return text.str.contains(unquote(value), literal=True).fill_null(False)
    same = (text == unquote(value)).fill_null(False)
    return same if sign == "=" else ~same


def known(frame: pl.DataFrame, name: str) -> str:
    """`family`, `layer` and `kind` of the dictionary, where the table has no such column of its own."""
    return name if name in frame.columns else f"_{name}"


def there(frame: pl.DataFrame, name: str) -> pl.Expr:
    column, kind = pl.col(known(frame, name)), frame.schema[known(frame, name)]
    if kind == pl.Boolean:
        return column.fill_null(False)
    return column.fill_nan(None).is_not_null() if kind.is_float() else column.is_not_null()


def take(rows: pl.DataFrame, what: str, name: str) -> Any:
    if what == "count":
        return rows.height
    if what == "first_readings":
        return rows["reading_of"].n_unique() if "reading_of" in rows.columns else rows.height
    verb, _, columns = what.rpartition(":")
    if columns == "any":
        verb, columns = "", verb
        return rows[columns][0]
    if verb == "share":
        return rows.filter(holds(rows, columns)).height / rows.height if rows.height else None
    if verb == "distinct":
        return rows.select(columns.split("+")).unique().height
    if verb.startswith("q") or verb in ("min", "max", "sum", "mean"):
        values = rows[columns.strip("|")].cast(pl.Float64).fill_nan(None).drop_nulls()
        sizes = sorted(abs(value) if "|" in columns else value for value in values.to_list())
        if not sizes:
            return None
        if verb.startswith("q"):
            return quantile(sizes, float(verb[1:]))
        return {"min": sizes[0], "max": sizes[-1], "sum": sum(sizes), "mean": sum(sizes) / len(sizes)}[verb]
    if name.endswith(".jsonl"):
        rows = rows.tail(1)
    assert rows.height == 1, f"{name}: expected one row for {what}, found {rows.height}"
    value = rows.row(0, named=True)[columns]
    return None if isinstance(value, float) and math.isnan(value) else value


def quantile(ordered: list[float], share: float) -> float:
    """Linear interpolation between the two values beside the place."""
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def at(tree: Any, pointer: str) -> Any:
    """What a JSON pointer names; None where something on the way is missing."""
    for part in pointer.split("/")[1:]:
        key = unquote(part).replace("~1", "/").replace("~0", "~")
        if isinstance(tree, list):
            tree = tree[int(key)] if int(key) < len(tree) else None
        elif isinstance(tree, dict):
            tree = tree.get(key)
        else:
            return None
    return tree


# -- counts that the method names ---------------------------------------------------------------------------------


def _shifts(rows: list[dict[str, Any]]) -> list[tuple[Any, list[Any]]]:
    """(interval of the real cultural shift, those of the shams) at each layer and language that has both."""
    found = []
    for real in (row for row in rows if row["side"] == "delta"):
        beside = [
            row["cultural_ci"]
            for row in rows
            if row["side"] != "delta" and (row["layer"], row["language"]) == (real["layer"], real["language"])
        ]
        if real["cultural_ci"] is not None and beside:
            found.append((real["cultural_ci"], beside))
    return found


def _ranks(rows: list[dict[str, Any]]) -> list[tuple[int, int, list[int]]]:
    """(base's rank, the delta's, the shams') at each layer."""
    found = []
    for layer in sorted({row["layer"] for row in rows}):
        its = {
            row["side"]: row["pca90_rank"] for row in rows if row["layer"] == layer and row["pca90_rank"] is not None
        }
        if "base" in its and "delta" in its:
            found.append(
                (its["base"], its["delta"], [rank for side, rank in its.items() if side.startswith("delta:")])
            )
    return found


def _crosschecked(tree: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        row for row in tree["sets"] if row["null"] == "" and row["chosen"] and row["ci"] and row["auroc"] is not None
    ]


NAMED = {
    "stands_above": lambda rows: sum(all(b is not None and a[0] > b[1] for b in bs) for a, bs in _shifts(rows)),
    "stands_compared": lambda rows: len(_shifts(rows)),
    "rank_compared": lambda rows: len(_ranks(rows)),
    "rank_below_base": lambda rows: sum(delta < base for base, delta, _ in _ranks(rows)),
    "rank_with_shams": lambda rows: sum(bool(shams) for *_, shams in _ranks(rows)),
    "rank_below_shams": lambda rows: sum(bool(shams) and delta < min(shams) for _, delta, shams in _ranks(rows)),
    "crosscheck_sets": lambda tree: len(_crosschecked(tree)),
    "crosscheck_above": lambda tree: sum(row["ci"][0] > 0.5 for row in _crosschecked(tree)),
    "crosscheck_beyond": lambda tree: sum(
        row["ci"][0] > 0.5 and row["random"]["range"] is not None and row["ci"][0] > row["random"]["range"][1]
        for row in _crosschecked(tree)
    ),
}
