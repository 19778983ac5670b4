"""Criteria 1 and 2: do the dictionaries reconstruct, and are they sparse?

Both are read from the dictionaries' own metrics. The published forms of both pass too easily: an MSE in raw units
falls with the norm of the activations, and TopK cannot fire more than k latents. So the honest form decides, and
the published one stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from antar.core.sites import DictionaryId
from antar.criteria.config import CriteriaConfig
from antar.criteria.intervals import clopper_pearson
from antar.criteria.types import Cell, Criterion, Null, finite, missing_note

HONEST_PART = "heldout_cultural"
"""The texts a study is about, of documents that no dictionary saw."""
PUBLISHED_PART = "heldout_control"
"""The published study validated on its controls."""

Metrics = Mapping[str, Mapping[str, Any]]


def is_study_dictionary(dictionary: str) -> bool:
    """True for the dictionaries that the criteria are about: no replica, no sham's, no baseline."""
    one = DictionaryId.parse(dictionary)
    return not one.is_replica and not one.is_null


def is_sham_dictionary(dictionary: str) -> bool:
    one = DictionaryId.parse(dictionary)
    return not one.is_replica and ":" in one.trained_on


def part_of(metrics: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    found = metrics.get("parts", {}).get(part)
    return found if isinstance(found, Mapping) else {}


def reconstruction(metrics: Metrics, cfg: CriteriaConfig) -> Criterion:
    """Criterion 1. value: share of dictionaries with FVU < `cfg.fvu` on held-out cultural texts; all must pass."""
    rows = [_reconstruction_row(name, metrics[name]) for name in sorted(metrics) if is_study_dictionary(name)]
    measured = [row for row in rows if row["fvu"] is not None]
    honest = _count(measured, "fvu", cfg.fvu)
    published_rows = [row for row in rows if row["mse"] is not None]
    published = _count(published_rows, "mse", cfg.mse)
    by_mean = _count(published_rows, "mse_of_mean", cfg.mse)
    pca_rows = [row for row in measured if row["fvu_pca"] is not None]
    by_pca = _count(pca_rows, "fvu_pca", cfg.fvu)
    shams = [part_of(metrics[name], HONEST_PART).get("fvu") for name in sorted(metrics) if is_sham_dictionary(name)]
    sham_fvu = [fvu for fvu in map(finite, shams) if fvu is not None]
    n = len(rows)
    complete = n > 0 and len(measured) == n
    value = honest / n if complete else None
    beside: dict[str, Cell] = {
        f"dictionaries with MSE < {cfg.mse:g} (published)": published if published_rows else None,
        f"dictionaries for which the mean alone has MSE < {cfg.mse:g}": by_mean if published_rows else None,
        f"dictionaries with FVU < {cfg.fvu:g}": honest if measured else None,
        "dictionaries": n,
        "mean FVU": _mean(measured, "fvu"),
        "mean MSE": _mean(published_rows, "mse"),
        "mean FVU of PCA at the same k": _mean(pca_rows, "fvu_pca"),
        "mean FVU of a random dictionary at the same k": _mean(measured, "fvu_random"),
        "mean FVU of raw neurons at the same k": _mean(measured, "fvu_neurons"),
        "mean FVU of the shams' delta dictionaries": sum(sham_fvu) / len(sham_fvu) if sham_fvu else None,
        "interval": "Clopper-Pearson over the dictionaries, as if they were drawn independently",
    }
    sentence = f"The fraction of variance unexplained is not known for {n - len(measured)} of {n} dictionaries."
    if n == 0:
        sentence = "There are no dictionaries."
    elif complete:
        sentence = (
            f"{honest} of {n} dictionaries leave less than {cfg.fvu:.0%} of the variance of held-out cultural texts "
            f"unexplained; {published} of {len(published_rows)} have the published MSE < {cfg.mse:g} on the "
            f"controls, which predicting the mean alone reaches for {by_mean}."
        )
    return Criterion(
        number=1,
        name="reconstruction",
        question=f"Do all dictionaries leave less than {cfg.fvu:.0%} of held-out variance unexplained?",
        published=f"MSE < {cfg.mse:g}",
        value=value,
        ci=clopper_pearson(honest, n, cfg.confidence) if complete else None,
        threshold=1.0,
        comparison=">=",
        null=_pca_null(by_pca, len(pca_rows), cfg),
        verdict="not measured" if value is None else ("pass" if honest == n else "fail"),
        sentence=sentence,
        beside=beside,
        per_dictionary=rows,
    )


def _pca_null(passing: int, n: int, cfg: CriteriaConfig) -> Null | None:
    if n == 0:
        return None
    return Null(name="PCA at the same k", value=passing / n, ci=clopper_pearson(passing, n, cfg.confidence))


def _reconstruction_row(name: str, metrics: Mapping[str, Any]) -> dict[str, Cell]:
    honest = part_of(metrics, HONEST_PART)
    control = part_of(metrics, PUBLISHED_PART) or honest
    return {
        "dictionary": name,
        "fvu": finite(honest.get("fvu")),
        "fvu_control": finite(part_of(metrics, PUBLISHED_PART).get("fvu")),
        "fvu_train": finite(part_of(metrics, "train").get("fvu")),
        "fvu_pca": finite(honest.get("fvu_pca")),
        "fvu_random": finite(honest.get("fvu_random")),
        "fvu_neurons": finite(honest.get("fvu_neurons")),
        "mse": finite(control.get("mse")),
        "mse_of_mean": finite(control.get("variance")),  # predicting the mean leaves exactly the variance
        "missing": missing_note(honest, ["fvu"]) or missing_note(control, ["mse"]),
    }


def _count(rows: list[dict[str, Cell]], name: str, below: float) -> int:
    return sum(number < below for row in rows if (number := finite(row[name])) is not None)


def _mean(rows: list[dict[str, Cell]], name: str) -> float | None:
    numbers = [number for row in rows if (number := finite(row[name])) is not None]
    return sum(numbers) / len(numbers) if numbers else None


def sparsity(metrics: Metrics, cfg: CriteriaConfig) -> Criterion:
    """Criterion 2. value: the smallest n_latents / L0 over the dictionaries.

    L0 of TopK is at most k, so the criterion passes by construction where n_latents / k is above the threshold
    for all of them, whatever was learned. BatchTopK and a crosscoder have k on average, and by a threshold.
    """
    rows = [_sparsity_row(name, metrics[name]) for name in sorted(metrics) if is_study_dictionary(name)]
    ratios = [ratio for row in rows if (ratio := finite(row["latents_per_active"])) is not None]
    bounds = [bound for row in rows if (bound := finite(row["latents_per_k"])) is not None]
    bounded = all(metrics[str(row["dictionary"])].get("kind", "topk") == "topk" for row in rows)
    complete = bool(rows) and len(ratios) == len(rows)
    value = min(ratios) if complete else None
    constructed = bool(rows) and bounded and len(bounds) == len(rows) and min(bounds) > cfg.sparsity
    if value is None:
        verdict, sentence = "not measured", "L0 is not known for every dictionary."
    elif constructed:
        verdict = "passes by construction"
        sentence = (
            f"Every dictionary keeps at most k latents a text, so the ratio is at least {min(bounds):.1f} whatever "
            "was learned; the share of latents that fire at all says more."
        )
    else:
        passed = value > cfg.sparsity
        verdict = "pass" if passed else "fail"
        sentence = f"The densest dictionary has {value:.1f} latents for each one that fires on a text."
    return Criterion(
        number=2,
        name="sparsity",
        question=f"Are there more than {cfg.sparsity:g} latents for each one that fires?",
        published=f"L0 sparsity > {cfg.sparsity:g}×",
        value=value,
        threshold=cfg.sparsity,
        comparison=">",
        null=Null(name="any dictionary with the same k", value=min(bounds)) if bounds else None,
        verdict=verdict,
        sentence=sentence,
        beside={
            "mean L0": _mean(rows, "l0"),
            "mean density (L0 / latents)": _mean(rows, "density"),
            "mean share of live latents": _mean(rows, "live_share"),
            "interval": "none: the smallest ratio of the dictionaries at hand is counted, not estimated",
        },
        per_dictionary=rows,
    )


def _sparsity_row(name: str, metrics: Mapping[str, Any]) -> dict[str, Cell]:
    part = part_of(metrics, HONEST_PART)
    n_latents, k, l0 = finite(metrics.get("n_latents")), finite(metrics.get("k")), finite(part.get("l0"))
    return {
        "dictionary": name,
        "n_latents": n_latents,
        "k": k,
        "l0": l0,
        "latents_per_active": n_latents / l0 if n_latents is not None and l0 else None,
        "latents_per_k": n_latents / k if n_latents is not None and k else None,
        "density": l0 / n_latents if n_latents and l0 is not None else None,
        "live_share": finite(part_of(metrics, "train").get("live_share")),
        "missing": missing_note({**part, "n_latents": n_latents}, ["l0", "n_latents"]),
    }
