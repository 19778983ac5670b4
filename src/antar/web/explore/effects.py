"""The effects of one feature, each with its interval and what the same number is on the nulls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from antar.web.explore.index import Opened
from antar.web.explore.summary import KINDS, has_contrasts, scan_contrasts

NULLS = {
    "": "real", "shuffled": "shuffled groups", "same_checkpoint": "same checkpoint", "pca": "PCA directions",
    "random": "random directions", "neurons": "raw neurons", "random_weights": "random weights",
}  # fmt: skip
_KEYS = ("contrast", "side_a", "side_b", "facet", "value", "language")
_COLUMNS = ("d_av", "d_lo", "d_hi", "q", "n_a", "n_b", "fire_a", "fire_b", "auroc", "log_odds", "d_av_select",
            "d_partial", "few", "script_only")  # fmt: skip


@dataclass(frozen=True)
class Effect:
    """One comparison. `own`: null → the same feature's d on it; `beside`: null → the 95% point of |d| of all."""

    contrast: str
    facet: str | None
    value: str | None
    language: str
    side_a: str
    side_b: str
    numbers: Mapping[str, Any]
    own: Mapping[str, float] = field(default_factory=dict[str, float])
    beside: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def d(self) -> float:
        return self.numbers["d_av"]

    @property
    def name(self) -> str:
        """In words: what is compared."""
        if self.contrast == "facet":
            what = str(self.value)
        else:
            what = {"shift": f"{self.side_a} → {self.side_b}", "culture": "cultural − control",
                    "interaction": f"{self.side_a} → {self.side_b}, cultural − control"}.get(
                        self.contrast, self.contrast)  # fmt: skip
        return what

    @property
    def where(self) -> str:
        """In which language, and on which side where that says something."""
        side = f", on {self.side_b}" if self.side_a == self.side_b and self.contrast in ("culture", "facet") else ""
        return ("all languages" if self.language == "pooled" else self.language) + side

    @property
    def nulls_in_words(self) -> str:
        return "; ".join(f"{null_name(null)} {point:.2f}" for null, point in self.beside.items()) or "not measured"


def null_name(null: str) -> str:
    return f"sham {null.split(':', 1)[1]}" if null.startswith("sham:") else NULLS.get(null, null)


def effects_of(opened: Opened, feature: str, dictionary: str) -> list[Effect]:
    """All effects of a feature, facets last and those by size; empty where nothing was measured."""
    if not has_contrasts(opened.run):
        return []
    frame = scan_contrasts(opened.run)
    there = set(frame.collect_schema().names())
    wanted = [name for name in _COLUMNS if name in there]
    # The dictionary first: whole row groups are of others, and are passed over by their statistics.
    rows = (
        frame.filter((pl.col("dictionary") == dictionary) & (pl.col("feature") == feature))
        .select(*_KEYS, "null", *wanted)
        .collect()
    )
    real: dict[tuple[Any, ...], dict[str, Any]] = {}
    own: dict[tuple[Any, ...], dict[str, float]] = {}
    for row in rows.iter_rows(named=True):
        # A shift's null has another side b: the sham in chat's place.
        key = tuple(row[name] for name in _KEYS if name != "side_b")
        if row["null"] == "":
            if _is_number(row["d_av"]):
                real[(*key, row["side_b"])] = row
        elif row["null"] != "same_checkpoint" and _is_number(row["d_av"]):
            own.setdefault(key, {})[row["null"]] = row["d_av"]
    effects = [_effect(opened, row, dictionary, own.get(key[:-1], {})) for key, row in real.items()]
    return sorted(effects, key=_order)


def _effect(opened: Opened, row: Mapping[str, Any], dictionary: str, own: Mapping[str, float]) -> Effect:
    beside = opened.index.beside(row["contrast"], row["facet"], row["language"], dictionary)
    numbers = {name: row.get(name) for name in _COLUMNS}
    return Effect(*(row[n] for n in ("contrast", "facet", "value", "language", "side_a", "side_b")),
                  numbers=numbers, own=own, beside=beside)  # fmt: skip


def _order(effect: Effect) -> tuple[Any, ...]:
    kind = KINDS.index(effect.contrast) if effect.contrast in KINDS else len(KINDS)
    size = -abs(effect.d) if effect.contrast == "facet" else 0.0
    return (kind, effect.facet or "", size, effect.language != "pooled", effect.language, effect.side_b)


def _is_number(value: object) -> bool:
    return isinstance(value, float | int) and not math.isnan(value)


def reach(effects: Sequence[Effect], d: float) -> float:
    """How far an axis goes that shows all of `effects`, their intervals, nulls and the threshold `d`."""
    ends = [d]
    for effect in effects:
        ends += [abs(v) for v in (effect.d, effect.numbers["d_lo"], effect.numbers["d_hi"]) if _is_number(v)]
        ends += [*effect.beside.values(), *map(abs, effect.own.values())]
    return 1.05 * max(ends)
