"""Criterion 4: are there features with a large and significant difference, and more of them than on a sham?

A dictionary on a difference rescales whatever drift there is to unit variance, so counts of large effects are as
high on a sham (a checkpoint trained on with nothing to learn) as on a real change. The count therefore never
passes alone: it must stand above the upper end of the sham's interval, and so must the size of the cultural shift in
activation units, interval against interval, at most layers and languages. Without a sham nothing is judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from antar.core.sites import DictionaryId
from antar.criteria.baselines import culture_beside
from antar.criteria.config import CriteriaConfig, fold
from antar.criteria.intervals import clopper_pearson
from antar.criteria.types import Cell, Criterion, Interval, Null, finite
from antar.features.magnitude import Magnitude, stands_above_shams

CHANGE = "change between base and chat"
NO_SHAM = "This study has no sham, so drift and alignment cannot be told apart."
# What a base-vs-chat effect is in the contrasts, in the order in which one is chosen to decide: the paired shift;
# else the interaction; else, on a delta dictionary, cultural against control texts, which is the interaction.
KINDS = ("shift", "interaction", "culture")


@dataclass(frozen=True)
class Tally:
    """Of `live` features of some dictionaries, how many count by effect size and how many by firing odds."""

    live: int
    flagged: int
    by_odds: int
    confidence: float

    @property
    def share(self) -> float | None:
        return self.flagged / self.live if self.live else None

    @property
    def ci(self) -> Interval | None:
        return clopper_pearson(self.flagged, self.live, self.confidence)


Key = tuple[str, str, str]
"""(null, contrast, dictionary); null "" is the real comparison."""


def real_twin(dictionary: str) -> str:
    """The study's dictionary that a null's dictionary stands for: `delta:a.layer03` → `delta.layer03`."""
    one = DictionaryId.parse(dictionary)
    trained_on = one.trained_on.split(":")[0]
    return str(DictionaryId("delta" if trained_on == "delta" else one.trained_on, one.layer, one.kind))


def change_rows(contrasts: pl.DataFrame) -> pl.DataFrame:
    """The rows that compare base with chat (or a null's stand-in for chat): shift and interaction of any
    dictionary, culture of a delta dictionary. Pooled over languages where a contrast has a pooled row."""
    rows = contrasts.filter(
        pl.col("contrast").is_in(["shift", "interaction"])
        | ((pl.col("contrast") == "culture") & pl.col("dictionary").str.starts_with("delta"))
    )
    keys = ["null", "contrast", "dictionary"]
    pooled = (pl.col("language") == "pooled").any().over(keys)
    return rows.filter(~pooled | (pl.col("language") == "pooled"))


def tallies(contrasts: pl.DataFrame, live: Mapping[str, int], cfg: CriteriaConfig) -> dict[Key, Tally]:
    """Features that count, by null, contrast and dictionary. `live`: dictionary → number of live latents; a
    dictionary that is not in it is counted over the latents that were tested. A latent counts once."""
    significant = pl.col("q").is_not_nan() & (pl.col("q") < cfg.q)
    large = pl.col("d_av").is_not_nan() & (pl.col("d_av").abs() > cfg.d) & significant
    odd = pl.col("log_odds").is_not_nan() & (pl.col("log_odds").abs() > cfg.log_odds) & significant
    counted = (
        change_rows(contrasts)
        .group_by("null", "contrast", "dictionary", "latent")
        .agg(large.fill_null(False).any().alias("large"), odd.fill_null(False).any().alias("odd"))
        .group_by("null", "contrast", "dictionary")
        .agg(pl.len().alias("tested"), pl.col("large").sum(), pl.col("odd").sum())
    )
    return {
        (row["null"], row["contrast"], row["dictionary"]): Tally(
            max(int(live.get(row["dictionary"], 0)), row["tested"]), row["large"], row["odd"], cfg.confidence
        )
        for row in counted.iter_rows(named=True)
    }


def _sum(parts: Sequence[Tally], cfg: CriteriaConfig) -> Tally:
    return Tally(
        sum(part.live for part in parts),
        sum(part.flagged for part in parts),
        sum(part.by_odds for part in parts),
        cfg.confidence,
    )


def effect(
    contrasts: pl.DataFrame,
    live: Mapping[str, int],
    cfg: CriteriaConfig,
    geometry: Sequence[Mapping[str, Any]] = (),
    energy: pl.DataFrame | None = None,
    magnitudes: Sequence[Magnitude] = (),
) -> Criterion:
    """Criterion 4. value: share of the live features with |d_av| > `cfg.d` and q < `cfg.q` on the estimation half.

    The shams' share is pooled over the same dictionaries; of several shams, the one with the highest upper end
    sets the threshold. A pass needs the cultural shift, too: in `magnitudes` (features/magnitudes.json) its interval
    lies above every sham's at more than half of the layers and languages. Without them nothing is judged.
    `geometry`, `energy`: features/geometry.json and energy.parquet, for the size of the change.
    """
    size = Size(*stands_above_shams(magnitudes))
    sizes = {"norm": norms(geometry), "energy": energies(energy)}
    counts = tallies(contrasts, live, cfg)
    kind = next((k for k in KINDS if any(key[0] == "" and key[1] == k for key in counts)), None)
    rows = [
        _row(key, tally, counts, sizes)
        for key, tally in sorted(counts.items(), key=lambda item: item[0])
        if key[0] == ""
    ]
    if kind is None:
        nothing = "No contrast between base and chat was made." + (f" {size.sentence}" if size.measured else "")
        return _criterion(cfg, None, None, 0.0, "not measured", nothing, size.beside, [])
    real = {key[2]: tally for key, tally in counts.items() if key[:2] == ("", kind)}
    total = _sum(list(real.values()), cfg)
    shams = {name: _null_tally(name, kind, counts, set(real), cfg) for name in _sham_names(counts)}
    shams = {name: tally for name, tally in shams.items() if tally.live}
    paired = {real_twin(key[2]) for key in counts if key[0] in shams and key[1] == kind}
    compared = _sum([tally for name, tally in real.items() if name in paired], cfg) if shams else total
    beside = _beside(kind, total, counts, set(real), cfg) | _magnitude(sizes) | size.beside
    beside |= culture_beside(contrasts, live, cfg)
    beside["dictionaries without a sham"] = len(set(real) - paired)
    if not shams or not compared.live:
        return _criterion(cfg, total, None, 0.0, "not measured", _unjudged(kind, total, cfg), beside, rows)
    worst, sham = max(shams.items(), key=lambda item: (_upper(item[1]), item[0]))
    null = Null(name=f"{worst}, the same counts", value=sham.share, ci=sham.ci)
    more = (compared.share or 0.0) > _upper(sham)
    verdict = ("pass" if more and size.above_most else "fail") if size.measured else "not measured"
    sentence = (
        f"{compared.flagged:,} of {compared.live:,} live features ({_percent(compared)}) have |d| > {cfg.d:g} and "
        f"q < {cfg.q:g} in the {kind} contrast; on {worst} {sham.flagged:,} of {sham.live:,} have "
        f"(at most {_upper(sham):.1%}), so the count {'stands above' if more else 'does not stand above'} "
        f"what the sham's own training gives. {size.sentence}"
    )
    if more and size.measured and not size.above_most:
        sentence += " More features and no larger shift: a dictionary scales any drift up, so this does not pass."
    return _criterion(cfg, compared, null, _upper(sham), verdict, sentence, beside, rows)


@dataclass(frozen=True)
class Size:
    """At `above` of `compared` layers and languages the cultural shift is larger than every sham's."""

    above: int
    compared: int

    @property
    def measured(self) -> bool:
        return self.compared > 0

    @property
    def above_most(self) -> bool:
        return 2 * self.above > self.compared

    @property
    def sentence(self) -> str:
        if not self.measured:
            return "The size of the cultural shift was not measured beside a sham's, so the count is not judged."
        places = "layer and language" if self.compared == 1 else "layers and languages"
        return (
            "In activation units the cultural shift stands above every sham's, interval against interval, at "
            f"{self.above} of {self.compared} {places}."
        )

    @property
    def beside(self) -> dict[str, Cell]:
        return {
            "layers and languages with a sham": self.compared,
            "of them, where the cultural shift stands above every sham's": self.above if self.measured else None,
        }


def _unjudged(kind: str, total: Tally, cfg: CriteriaConfig) -> str:
    return (
        f"{total.flagged:,} of {total.live:,} live features ({_percent(total)}) have |d| > {cfg.d:g} and "
        f"q < {cfg.q:g} in the {kind} contrast. {NO_SHAM}"
    )


def _criterion(
    cfg: CriteriaConfig,
    tally: Tally | None,
    null: Null | None,
    threshold: float,
    verdict: Any,
    sentence: str,
    beside: dict[str, Cell],
    rows: list[dict[str, Cell]],
) -> Criterion:
    return Criterion(
        number=4,
        name="effect",
        question=(
            f"Do more live features have |d| > {cfg.d:g} and q < {cfg.q:g} between base and chat than on a sham "
            "(the upper end of its interval is the threshold), and is the cultural shift larger than every sham's?"
        ),
        published=f"Cohen's d > {cfg.d:g}",
        value=tally.share if tally else None,
        ci=tally.ci if tally else None,
        threshold=threshold,
        comparison=">",
        null=null,
        verdict=verdict,
        sentence=sentence,
        beside=beside,
        per_dictionary=rows,
    )


def _sham_names(counts: Mapping[Key, Tally]) -> list[str]:
    return sorted({key[0] for key in counts if key[0].startswith("sham:")})


def _null_tally(null: str, kind: str, counts: Mapping[Key, Tally], real: set[str], cfg: CriteriaConfig) -> Tally:
    parts = [tally for key, tally in counts.items() if key[:2] == (null, kind) and real_twin(key[2]) in real]
    return _sum(parts, cfg)


def _beside(
    kind: str, total: Tally, counts: Mapping[Key, Tally], real: set[str], cfg: CriteriaConfig
) -> dict[str, Cell]:
    beside: dict[str, Cell] = {
        "contrast": kind,
        "features that count": total.flagged,
        "live features": total.live,
        f"features whose odds of firing change {fold(cfg.log_odds)} or more": total.by_odds,
        "interval": "Clopper-Pearson, features as if independent; they share texts, so it is too narrow",
    }
    for null, words in (("shuffled", "shuffled groups"), ("same_checkpoint", "the same checkpoint on both sides")):
        tally = _null_tally(null, kind, counts, real, cfg)
        beside[f"features that count with {words}"] = tally.flagged if tally.live else None
    for name in _sham_names(counts):
        tally = _null_tally(name, kind, counts, real, cfg)
        beside[f"features that count on {name}"] = tally.flagged if tally.live else None
    for null, words in (("pca", "PCA directions"), ("random", "random directions"), ("neurons", "raw neurons")):
        if parts := [tally for key, tally in counts.items() if key[:2] == (null, kind)]:
            whole = _sum(parts, cfg)
            beside[f"features that count on {words}"] = whole.flagged
            beside[f"live {words}"] = whole.live
    for other in KINDS:
        if other != kind and (parts := [tally for key, tally in counts.items() if key[:2] == ("", other)]):
            whole = _sum(parts, cfg)
            beside[f"{other}: features that count"] = whole.flagged
            beside[f"{other}: live features"] = whole.live
    return beside


def _row(key: Key, tally: Tally, counts: Mapping[Key, Tally], sizes: Mapping[str, Magnitudes]) -> dict[str, Cell]:
    _, contrast, dictionary = key
    shams = [
        counted
        for (null, kind, name), counted in counts.items()
        if null.startswith("sham:") and kind == contrast and real_twin(name) == dictionary
    ]
    worst = max(shams, key=_upper) if shams else None
    shuffled = counts.get(("shuffled", contrast, dictionary))
    layer = DictionaryId.parse(dictionary).layer
    return {
        "dictionary": dictionary,
        "contrast": contrast,
        "live": tally.live,
        "flagged": tally.flagged,
        "share": tally.share,
        "ci_low": tally.ci[0] if tally.ci else None,
        "ci_high": tally.ci[1] if tally.ci else None,
        "sham_share": worst.share if worst else None,
        "sham_high": _upper(worst) if worst else None,
        "above_sham": (tally.share or 0.0) > _upper(worst) if worst else None,
        "flagged_by_log_odds": tally.by_odds,
        "flagged_shuffled": shuffled.flagged if shuffled else None,
        **{name: size.real.get(layer) for name, size in sizes.items()},
        **{f"{name}_sham": size.sham.get(layer) for name, size in sizes.items()},
        "missing": None if worst else "no sham for this dictionary",
    }


@dataclass(frozen=True)
class Magnitudes:
    """Layer → size of the change in activation units, of the real one and of the largest sham's."""

    real: Mapping[int, float]
    sham: Mapping[int, float]

    @classmethod
    def of(cls, sizes: Sequence[tuple[str, int, float | None]]) -> Magnitudes:
        """`sizes`: (side, layer, size); sides other than `delta` and `delta:<sham>` are passed over."""
        real: dict[int, float] = {}
        sham: dict[int, float] = {}
        for side, layer, size in sizes:
            if size is not None and side.startswith("delta"):
                into = real if side == "delta" else sham
                into[layer] = max(size, into.get(layer, 0.0))
        return cls(real, sham)

    @property
    def largest_ratio(self) -> float | None:
        ratios = [self.real[layer] / self.sham[layer] for layer in self.real if self.sham.get(layer)]
        return max(ratios) if ratios else None


def norms(geometry: Sequence[Mapping[str, Any]]) -> Magnitudes:
    """Mean norm of the differences of single texts, from features/geometry.json."""
    return Magnitudes.of([(str(row["side"]), int(row["layer"]), finite(row.get("mean_norm"))) for row in geometry])


def energies(energy: pl.DataFrame | None) -> Magnitudes:
    """Norm of the cultural texts' mean difference less the controls', mean over languages, from energy.parquet."""
    if energy is None:
        return Magnitudes({}, {})
    rows = energy.filter(
        (pl.col("facet") == "group") & (pl.col("value") == "cultural") & (pl.col("language") == "pooled")
    )
    return Magnitudes.of(
        [
            (row["side"], DictionaryId.parse(row["site"]).layer, finite(row["energy"]))
            for row in rows.iter_rows(named=True)
        ]
    )


def _magnitude(sizes: Mapping[str, Magnitudes]) -> dict[str, Cell]:
    """What separates a real change from a sham: its size, not the number of features."""
    words = {"norm": "norm of the change", "energy": "cultural energy"}
    beside: dict[str, Cell] = {}
    for name, size in sizes.items():
        n, m = len(size.real), len(size.sham)
        beside[f"{words[name]} (activation units, mean over layers)"] = sum(size.real.values()) / n if n else None
        beside[f"{words[name]} of the larger sham"] = sum(size.sham.values()) / m if m else None
        beside[f"{words[name]} / the larger sham's, largest over layers"] = size.largest_ratio
    return beside


def _upper(tally: Tally) -> float:
    return tally.ci[1] if tally.ci else 1.0


def _percent(tally: Tally) -> str:
    return "none" if tally.share is None else f"{tally.share:.1%}"
