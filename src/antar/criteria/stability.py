"""Criterion 7: does a feature come back in another training run, and its effect in the other half of the documents?

A mean over the live features, judged against a threshold and against the same matching with random directions, which
grows with the number of directions to match with and so has no theoretical value. Other seeds (the same texts) and
other folds (fewer texts) are shown apart: seeds say what training decides, folds what the texts decide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from antar.core.sites import DictionaryId
from antar.criteria.config import CriteriaConfig
from antar.criteria.effect import change_rows
from antar.criteria.intervals import bootstrap_mean, finite_values
from antar.criteria.types import Cell, Criterion, Interval, Null
from antar.features.stability import Reliability, split_half_reliability

Cosines = Mapping[str, np.ndarray]
"""Replica → one cosine a latent of the dictionary that it is a replica of; NaN where a latent found no match (its
length is the same for all replicas of one dictionary). Of the random directions: any number of cosines."""


@dataclass(frozen=True)
class Group:
    """Some replicas: every latent's mean cosine over them, pooled over dictionaries, and the random directions'."""

    by_latent: np.ndarray
    null: np.ndarray
    ci: Interval | None
    null_ci: Interval | None
    replicas: int
    each: int

    @classmethod
    def of(cls, cosines: Cosines, random: Cosines, cfg: CriteriaConfig, name: str) -> Group:
        """Latents are what the bootstrap draws, with all their replicas: the replicas of a latent are not
        independent of each other."""
        by_dictionary: dict[str, list[np.ndarray]] = {}
        for replica in sorted(cosines):
            by_dictionary.setdefault(str(DictionaryId.parse(replica).of), []).append(cosines[replica])
        means = [_mean_over_replicas(by_dictionary[one]) for one in sorted(by_dictionary)]
        by_latent = finite_values(np.concatenate([*means, np.zeros(0)]))
        null = finite_values(np.concatenate([*(np.ravel(random[one]) for one in sorted(random)), np.zeros(0)]))
        return cls(
            by_latent,
            null,
            bootstrap_mean(by_latent, cfg, name),
            bootstrap_mean(null, cfg, name, "null"),
            len(cosines),
            max(map(len, by_dictionary.values()), default=0),
        )

    @property
    def mean(self) -> float | None:
        return float(self.by_latent.mean()) if len(self.by_latent) else None

    @property
    def null_mean(self) -> float | None:
        return float(self.null.mean()) if len(self.null) else None

    def beside(self, words: str) -> dict[str, Cell]:
        return {
            f"{words}, for each dictionary": self.each,
            f"mean cosine over {words}": self.mean,
            f"mean cosine over {words}, low": self.ci[0] if self.ci else None,
            f"mean cosine over {words}, high": self.ci[1] if self.ci else None,
            f"random directions in the place of {words}": self.null_mean,
        }


def stability(cosines: Cosines, random: Cosines, contrasts: pl.DataFrame, cfg: CriteriaConfig) -> Criterion:
    """Criterion 7. value: mean over live latents of the cosine of matched decoder directions (Hungarian) between a
    dictionary and its replicas (other seeds, other folds). It must be above the threshold and above the upper end of
    the null's interval. `random`: the same matching between the dictionary and random directions."""
    every = Group.of(cosines, random, cfg, "stability")
    seeds, folds = (
        Group.of(_of(cosines, is_one), _of(random, is_one), cfg, f"stability {name}")
        for name, is_one in (("seeds", _is_seed), ("folds", _is_fold))
    )
    halves = effect_halves(contrasts)
    beside: dict[str, Cell] = {
        **seeds.beside("other seeds"),
        **folds.beside("folds"),
        "split-half reliability of the effects": halves.value,
        "split-half reliability, low": halves.lo,
        "split-half reliability, high": halves.hi,
        "correlation of the halves": halves.r,
        "effects in it": halves.n,
        "matched features": len(every.by_latent),
        f"share of features above {cfg.stability:.2f}": (
            float((every.by_latent > cfg.stability).mean()) if len(every.by_latent) else None
        ),
    }
    value = every.mean if every.ci is not None else None
    null = Null(name="random directions", value=every.null_mean, ci=every.null_ci) if len(every.null) else None
    if value is None:
        verdict = "not measured"
        sentence = "No dictionary was trained again with another seed or fold (`antar measure --folds 5 --seeds 3`)."
    else:
        verdict = "pass" if value > cfg.stability and (every.null_ci is None or value > every.null_ci[1]) else "fail"
        sentence = f"{_matched(every, seeds, folds)}{_halves(halves)}."
    return Criterion.model_validate(
        {
            "number": 7,
            "name": "stability",
            "question": "Do the same directions come back with another seed and other folds of the documents?",
            "published": f"cross-validation stability > {cfg.stability:.2f}",
            "value": value,
            "ci": every.ci if value is not None else None,
            "threshold": cfg.stability,
            "comparison": ">",
            "null": null,
            "verdict": verdict,
            "sentence": sentence,
            "beside": beside,
            "per_dictionary": _rows(cosines, random),
        }
    )


def effect_halves(contrasts: pl.DataFrame) -> Reliability:
    """Agreement over features of d_av on the two halves of the documents: real base-vs-chat rows only."""
    rows = change_rows(contrasts.filter(pl.col("null") == ""))
    select, estimate = (
        rows[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for name in ("d_av_select", "d_av")
    )
    return split_half_reliability(select, estimate)


def _mean_over_replicas(cosines: Sequence[np.ndarray]) -> np.ndarray:
    """`[n_latents]`, NaN for a latent that found a match in no replica."""
    together = np.stack([np.asarray(one, dtype=np.float64).ravel() for one in cosines])
    found = np.isfinite(together)
    with np.errstate(invalid="ignore"):
        return np.where(found, together, 0).sum(axis=0) / found.sum(axis=0)


def _is_seed(one: DictionaryId) -> bool:
    return one.seed is not None


def _is_fold(one: DictionaryId) -> bool:
    return one.fold is not None


def _of(cosines: Cosines, is_one: Callable[[DictionaryId], bool]) -> dict[str, np.ndarray]:
    return {name: values for name, values in cosines.items() if is_one(DictionaryId.parse(name))}


def _matched(every: Group, seeds: Group, folds: Group) -> str:
    parts = [
        f"{group.mean:.2f} with {group.each} {word}{'' if group.each == 1 else 's'}"
        for group, word in ((seeds, "other seed"), (folds, "fold"))
        if group.mean is not None
    ]
    against = f"; random directions match with {every.null_mean:.2f}" if every.null_mean is not None else ""
    apart = f" ({', '.join(parts)})" if parts else ""
    return f"Matched directions of replicas have a mean cosine of {every.mean:.2f}{apart}{against}"


def _halves(halves: Reliability) -> str:
    if not np.isfinite(halves.value):
        return ""
    return f"; the effects on two halves of the documents have a Spearman-Brown reliability of {halves.value:.2f}"


def _rows(cosines: Cosines, random: Cosines) -> list[dict[str, Cell]]:
    rows: list[dict[str, Cell]] = []
    for name in sorted({str(DictionaryId.parse(replica).of) for replica in cosines}):
        its = {one: values for one, values in cosines.items() if str(DictionaryId.parse(one).of) == name}
        values = finite_values(_mean_over_replicas(list(its.values())))
        nulls = finite_values(np.concatenate([*(np.ravel(random[one]) for one in its if one in random), np.zeros(0)]))
        rows.append(
            {
                "dictionary": name,
                "stability": _mean(values),
                "null": _mean(nulls),
                "over_seeds": _mean_of(_of(its, _is_seed)),
                "over_folds": _mean_of(_of(its, _is_fold)),
                "replicas": len(its),
                "features": len(values),
                "missing": None if len(values) else "no feature has a score",
            }
        )
    return rows


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _mean_of(cosines: Cosines) -> float | None:
    return _mean(finite_values(_mean_over_replicas(list(cosines.values())))) if cosines else None
