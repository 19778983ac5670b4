"""The battery: antar's statistics on data whose truth is known, by the hundred.

Null datasets say how often a contrast reports anything where there is nothing (Benjamini–Hochberg promises at most
5% of them); planted ones give the share of false discoveries, how often the 95% interval of d_av holds the true
value, and how many features of |d_av| = 0.8 are found. Each number comes with its own interval, and is written
whether or not it is what was promised.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from antar.core.machine import machine_facts, package_versions
from antar.core.progress import progress
from antar.core.seeds import derive_seed
from antar.core.sites import DictionaryId
from antar.criteria import CriteriaConfig, bootstrap_mean, clopper_pearson
from antar.features.config import ContrastConfig
from antar.features.contrasts import measure_contrasts
from antar.organisms.vectors import LANGUAGES, Truth, VectorConfig, make_vectors

ALPHA = 0.05
CONTRASTS = ("shift", "culture", "interaction")
RARE = 10
"""A row on which the feature fires fewer times than this, both sides together, is rare."""
_DICTIONARY = DictionaryId("base", 0)


@dataclass(frozen=True)
class Battery:
    """How much is run. A null dataset is measured in one contrast, so that all of them are independent.

    Datasets have `documents` documents; on those of `small` documents only the power is measured.
    """

    null_datasets: int = 900
    confounded_datasets: int = 300
    planted_datasets: int = 200
    small_datasets: int = 100
    documents: int = 400
    small: int = 80
    permutations: int = 1000
    seed: int = 20

    @classmethod
    def quick(cls) -> Battery:
        return cls(null_datasets=300, confounded_datasets=100, planted_datasets=60, small_datasets=40)


@dataclass
class _Planted:
    """What the planted datasets gave: one number a dataset in each list, and the rows of `with_truth`."""

    false_shares: list[float] = field(default_factory=list)
    power: list[float] = field(default_factory=list)
    coverage: list[float] = field(default_factory=list)
    rows: list[pl.DataFrame] = field(default_factory=list)


def run_battery(battery: Battery) -> dict[str, Any]:
    """The numbers of proof.json. Intervals are 95%: exact for shares of datasets, bootstrap over datasets else."""
    started = time.monotonic()
    nulls = [(CONTRASTS[i % 3], i, False) for i in range(battery.null_datasets)]
    nulls += [("culture", i, True) for i in range(battery.confounded_datasets)]
    found: dict[tuple[str, bool], list[tuple[bool, bool]]] = {}
    planted, small = _Planted(), _Planted()
    plans = [(planted, battery.documents, number) for number in range(battery.planted_datasets)]
    plans += [(small, battery.small, number) for number in range(battery.small_datasets)]
    with progress("datasets", len(nulls) + len(plans), "datasets") as bar:
        for contrast, number, confounded in nulls:
            hit = _null_dataset(contrast, number, confounded, battery)
            found.setdefault((contrast, confounded), []).append(hit)
            bar.advance()
        for into, documents, number in plans:
            _planted_dataset(CONTRASTS[number % 2], number, documents, battery, into)
            bar.advance()
    clean = {contrast: hits for (contrast, confounded), hits in found.items() if not confounded}
    every = [hit for hits in clean.values() for hit in hits]
    return {
        **_rate("null_discovery_rate", [pooled for pooled, _ in every]),
        **_planted_numbers(planted),
        f"with_{battery.small}_documents": _mean("power_d08", small.power) | _mean("fdr", small.false_shares),
        "null_discovery": {
            contrast: {
                **_rate("pooled", [pooled for pooled, _ in hits]),
                **_rate("by_language", [language for _, language in hits]),
            }
            for contrast, hits in clean.items()
        },
        "length_confounded": {
            **_rate("pooled", [pooled for pooled, _ in found.get(("culture", True), [])]),
            "what": "culture, where cultural texts are longer by one standard deviation and every feature follows "
            "length: what bins of length leave over is found here",
        },
        "promised": {"null_discovery_rate": ALPHA, "fdr": ALPHA, "coverage": 0.95},
        "design": _design(battery),
        "seconds": round(time.monotonic() - started, 1),
        "machine": machine_facts(),
        "versions": package_versions(),
    }


def _design(battery: Battery) -> dict[str, Any]:
    plain = VectorConfig(n_documents=battery.documents)
    return {
        "null_datasets": battery.null_datasets,
        "confounded_datasets": battery.confounded_datasets,
        "planted_datasets": battery.planted_datasets,
        "small_datasets": battery.small_datasets,
        "permutations": battery.permutations,
        "seed": battery.seed,
        "documents": battery.documents,
        "texts": battery.documents * plain.texts_per_document,
        "features": plain.n_latents,
        "rates": list(plain.rates),
        "document_correlation": plain.document_correlation,
        "halves": "effects, p and q are those of the estimation half: about half of the documents",
    }


# -- nulls --------------------------------------------------------------------------------------------------------


def null_config(contrast: str, confounded: bool, documents: int, seed: int) -> VectorConfig:
    """A dataset in which `contrast` has nothing to find, though other things differ.

    shift: groups and languages differ, sides do not. culture: sides differ, languages are unequally shared between
    the groups. interaction: sides and groups differ, but sides equally in both groups.
    """
    common = VectorConfig(seed=seed, n_documents=documents)
    changes = {"shifted": 4, "appearing": 4, "vanishing": 4}
    if confounded:
        return common.model_copy(update={"length_effect": 0.8, "length_shift": 1.0})
    if contrast == "shift":
        return common.model_copy(update={"cultural": 8})
    if contrast == "culture":
        return common.model_copy(update={**changes, "hindi": (0.3, 0.7)})
    return common.model_copy(update={**changes, "cultural": 8, "hindi": (0.3, 0.7)})


def _null_dataset(contrast: str, number: int, confounded: bool, battery: Battery) -> tuple[bool, bool]:
    """Was anything discovered in the pooled rows, and in the rows by language?"""
    seed = derive_seed(battery.seed, "null", contrast, int(confounded), number)
    rows, _ = _measured(contrast, null_config(contrast, confounded, battery.documents, seed), battery)
    discovered = rows.filter(pl.col("q") < ALPHA)
    pooled = discovered["language"] == "pooled"
    return bool(pooled.any()), bool((~pooled).any())


def _measured(contrast: str, cfg: VectorConfig, battery: Battery) -> tuple[pl.DataFrame, Truth]:
    data = make_vectors(cfg)
    sides = ("base",) if contrast == "culture" else ("base", "chat")
    settings = ContrastConfig(
        shift=contrast == "shift",
        culture=contrast == "culture",
        interaction=contrast == "interaction",
        permutations=battery.permutations,
        nulls=(),
    )
    codes = {(_DICTIONARY, side): data.codes[side] for side in sides}
    return measure_contrasts(data.texts, codes, settings, seed=cfg.seed), data.truth


# -- planted ------------------------------------------------------------------------------------------------------


def planted_config(contrast: str, documents: int, seed: int) -> VectorConfig:
    """12 of 96 features differ by |d_av| = 0.8; between the sides, or between the groups."""
    common = VectorConfig(seed=seed, n_documents=documents, hindi=(0.3, 0.7))
    if contrast == "shift":
        return common.model_copy(update={"shifted": 4, "appearing": 4, "vanishing": 4})
    return common.model_copy(update={"cultural": 12})


def _planted_dataset(contrast: str, number: int, documents: int, battery: Battery, into: _Planted) -> None:
    seed = derive_seed(battery.seed, "planted", contrast, documents, number)
    rows, truth = _measured(contrast, planted_config(contrast, documents, seed), battery)
    different = truth.changed if contrast == "shift" else truth.cultural
    pooled = rows.filter(pl.col("language") == "pooled")
    discovered = pooled.filter(pl.col("q") < ALPHA)["latent"].to_numpy()
    into.false_shares.append(float((~different[discovered]).mean()) if len(discovered) else 0.0)
    into.power.append(float(np.isin(np.flatnonzero(different), discovered).mean()))
    covered = with_truth(rows, contrast, truth)
    into.coverage.append(float(covered["covered"].cast(pl.Float64).mean()))  # pyright: ignore[reportArgumentType]
    into.rows.append(covered)


def with_truth(rows: pl.DataFrame, contrast: str, truth: Truth) -> pl.DataFrame:
    """Columns contrast, language, rare, covered: does the row's interval hold the population's d_av? Rows without an
    interval are left out."""
    sizes = {
        row["language"]: (row["n_a"], row["n_b"])
        for row in rows.unique("language").iter_rows(named=True)
        if row["language"] in LANGUAGES
    }
    weights = {
        # Those by which the contrast pools languages (docs/method.md).
        language: n_a if contrast == "shift" else n_a * n_b / (n_a + n_b)
        for language, (n_a, n_b) in sizes.items()
    }
    d_of = truth.shift_d if contrast == "shift" else truth.culture_d
    population = {language: d_of({language: 1.0}) for language in weights} | {"pooled": d_of(weights)}
    frames = [
        rows.filter(pl.col("language") == language, pl.col("d_lo").is_not_null()).with_columns(
            true=pl.col("latent").replace_strict(dict(enumerate(d.tolist())), return_dtype=pl.Float64)
        )
        for language, d in population.items()
    ]
    firings = pl.col("fire_a") * pl.col("n_a") + pl.col("fire_b") * pl.col("n_b")
    return pl.concat(frames).select(
        "contrast",
        "language",
        (firings < RARE).alias("rare"),
        pl.col("true").is_between(pl.col("d_lo"), pl.col("d_hi")).alias("covered"),
    )


def _planted_numbers(planted: _Planted) -> dict[str, Any]:
    rows = pl.concat(planted.rows)

    def coverage(chosen: pl.Expr) -> dict[str, Any]:
        part = rows.filter(chosen)
        return {"coverage": _share(part), "rows": part.height}

    return {
        **_mean("fdr", planted.false_shares),
        **_mean("coverage", planted.coverage),
        **_mean("power_d08", planted.power),
        "coverage_of": {
            "shift": coverage(pl.col("contrast") == "shift"),
            "culture": coverage(pl.col("contrast") == "culture"),
            "pooled": coverage(pl.col("language") == "pooled"),
            "one language": coverage(pl.col("language") != "pooled"),
            f"features that fire fewer than {RARE} times": coverage(pl.col("rare")),
            "the other features": coverage(~pl.col("rare")),
        },
    }


def _share(rows: pl.DataFrame) -> float | None:
    return float(rows["covered"].sum() / rows.height) if rows.height else None


# -- numbers with intervals ---------------------------------------------------------------------------------------


def _rate(name: str, hits: Sequence[bool]) -> dict[str, Any]:
    """A share of independent datasets, with its exact interval."""
    n, k = len(hits), int(np.sum(hits))
    interval = clopper_pearson(k, n)
    return {name: k / n if n else None, f"{name}_ci": list(interval) if interval else None, f"{name}_n": n}


def _mean(name: str, by_dataset: Sequence[float]) -> dict[str, Any]:
    values = np.array(by_dataset)
    interval = bootstrap_mean(values, CriteriaConfig(), name)
    return {
        name: float(values.mean()) if len(values) else None,
        f"{name}_ci": list(interval) if interval else None,
        f"{name}_n": len(values),
    }
