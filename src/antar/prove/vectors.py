"""The battery on synthetic activations: antar's statistics where the truth is known, by the hundred.

Null datasets say how often a contrast reports anything where there is nothing (Benjamini–Hochberg promises at most
5% of them); planted ones give the share of false discoveries, how often 95% intervals hold the true value, and how
many features are found. They come in three sizes, because few documents are what studies have. Each number comes with
its own interval, and is written whether or not it is what was promised.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
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
from antar.organisms.vectors import Truth, VectorConfig, make_vectors
from antar.prove.coverage import BANDS, MEASURED, with_truth

ALPHA = 0.05
CONTRASTS = ("shift", "culture", "interaction")
SIZES = {"1000 a side": (1000, 4), "200 a side": (400, 2), "40 a side": (80, 2)}
"""What a dataset is called by the texts that each group has in the estimation half → (documents, texts in each)."""
LARGE, PLAIN, SMALL = SIZES
PROMISED = {"null_discovery_rate": "at most 0.05", "family_wise_error": "at most 0.05", "fdr": "at most 0.06",
            "coverage": "0.93 to 0.97", "power_d08": "at least 0.95"}  # fmt: skip
"""Of null datasets with 200 texts a side, of false discoveries over all sizes, and of intervals and power with 1,000
texts a side; what fewer texts give, and what ignoring documents or length gives, has no promise."""
COVERAGE = (0.93, 0.97)
_DICTIONARY = DictionaryId("base", 0)


@dataclass(frozen=True)
class Battery:
    """How much is run. A null dataset is measured in one contrast, so that all of them are independent."""

    null_datasets: int = 1002
    confounded_datasets: int = 300
    planted_datasets: int = 200
    """Of each size but the smallest, which has half as many."""
    permutations: int = 1000
    seed: int = 20
    sizes: dict[str, tuple[int, int]] = field(default_factory=lambda: dict(SIZES))

    @classmethod
    def quick(cls) -> Battery:
        return cls(null_datasets=300, confounded_datasets=100, planted_datasets=60)


@dataclass
class _Planted:
    """What the planted datasets of one size gave: one number a dataset in each list, and rows of `with_truth`."""

    false_shares: list[float] = field(default_factory=list)
    power: list[float] = field(default_factory=list)
    rising_found: list[float] = field(default_factory=list)
    rising_large: list[float] = field(default_factory=list)
    rows: list[pl.DataFrame] = field(default_factory=list)
    unclustered: list[pl.DataFrame] = field(default_factory=list)


@dataclass(frozen=True)
class _Alarm:
    """Whether a null dataset gave a discovery: in the pooled rows, in those of single languages, by `p_max`."""

    pooled: bool
    by_language: bool
    by_max: bool


def run_battery(battery: Battery) -> dict[str, Any]:
    """The numbers of proof.json. Intervals are 95%: exact for shares of datasets, bootstrap over datasets else."""
    started = time.monotonic()
    nulls = [(CONTRASTS[i % 3], i, "") for i in range(battery.null_datasets)]
    nulls += [("culture", i, "length") for i in range(battery.confounded_datasets)]
    nulls += [("culture", i, "unclustered") for i in range(battery.confounded_datasets)]
    plans = [
        (size, number)
        for size in battery.sizes
        for number in range(battery.planted_datasets // (2 if size == SMALL else 1))
    ]
    alarms: dict[tuple[str, str], list[_Alarm]] = {}
    planted = {size: _Planted() for size in battery.sizes}
    with progress("datasets", len(nulls) + len(plans), "datasets") as bar:
        for contrast, number, flaw in nulls:
            alarms.setdefault((contrast, flaw), []).append(_null_dataset(contrast, number, flaw, battery))
            bar.advance()
        for size, number in plans:
            _planted_dataset(CONTRASTS[number % 2], number, size, battery, planted[size])
            bar.advance()
    return {
        **_null_numbers({contrast: its for (contrast, flaw), its in alarms.items() if not flaw}),
        **_planted_numbers(planted),
        "length_confounded": {
            **_rate("share_with_a_discovery", [one.pooled for one in alarms.get(("culture", "length"), [])]),
            "what": "culture, where cultural texts are longer by one standard deviation and every feature follows "
            "length: what bins of length leave over is found here",
        },
        "unclustered": {
            **_rate("share_with_a_discovery", [one.pooled for one in alarms.get(("culture", "unclustered"), [])]),
            "covered": _coverages([row for one in planted.values() for row in one.unclustered]),
            "what": "the same statistics told that each text is a document of its own: what ignoring documents costs",
        },
        "promised": PROMISED,
        "design": _design(battery),
        "seconds": round(time.monotonic() - started, 1),
        "machine": machine_facts(),
        "versions": package_versions(),
    }  # fmt: skip


def _design(battery: Battery) -> dict[str, Any]:
    plain = VectorConfig()
    return {
        "null_datasets": battery.null_datasets,
        "confounded_datasets": battery.confounded_datasets,
        "planted_datasets": battery.planted_datasets,
        "permutations": battery.permutations,
        "seed": battery.seed,
        "documents and texts in each": {size: list(shape) for size, shape in battery.sizes.items()},
        "null datasets are": PLAIN,
        "features": plain.n_latents,
        "rates of the others": {LARGE: list(LARGE_RATES), "else": list(plain.rates)},
        "document_correlation": plain.document_correlation,
        "halves": "effects, p and q are those of the estimation half: about half of the documents",
    }


def vectors_block(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """The block `organisms.vectors`: what this organism is and its design; its numbers are at the proof's top.

    numbers: what `run_battery` returned
    """
    apart = ("promised", "design", "seconds", "machine", "versions")
    ends = ("_ci", "_n")
    return {
        "what": "synthetic activations of two checkpoints, from known sparse dictionaries whose features shift, "
        "appear, vanish or stay, with documents clustered and languages unequally shared",
        "numbers": [name for name in numbers if name not in apart and not name.endswith(ends)],
        "numbers_are": "at the top of proof.json, each with its interval (_ci) and its n (_n) beside it",
        "design": numbers["design"],
    }


# -- nulls --------------------------------------------------------------------------------------------------------


def null_config(contrast: str, confounded: bool, documents: int, seed: int, each: int = 2) -> VectorConfig:
    """A dataset in which `contrast` has nothing to find, though other things differ.

    shift: groups and languages differ, sides do not. culture: sides differ, languages are unequally shared between
    the groups. interaction: sides and groups differ, but sides equally in both groups.
    """
    common = VectorConfig(seed=seed, n_documents=documents, texts_per_document=each)
    changes = {"shifted": 4, "appearing": 4, "vanishing": 4}
    if confounded:
        return common.model_copy(update={"length_effect": 0.8, "length_shift": 1.0})
    if contrast == "shift":
        return common.model_copy(update={"cultural": 8})
    if contrast == "culture":
        return common.model_copy(update={**changes, "hindi": (0.3, 0.7)})
    return common.model_copy(update={**changes, "cultural": 8, "hindi": (0.3, 0.7)})


def _null_dataset(contrast: str, number: int, flaw: str, battery: Battery) -> _Alarm:
    seed = derive_seed(battery.seed, "null", contrast, flaw, number)
    documents, each = battery.sizes[PLAIN]
    if flaw == "unclustered":  # as many texts in a quarter of the documents, so that they resemble each other more
        documents, each = documents // 4, each * 4
    cfg = null_config(contrast, flaw == "length", documents, seed, each)
    rows, _ = _measured(contrast, cfg, battery, clustered=flaw != "unclustered")
    discovered, pooled = (rows["q"] < ALPHA).fill_null(False), rows["language"] == "pooled"
    strong = (rows["p_max"] < ALPHA).fill_null(False)
    return _Alarm(
        bool((discovered & pooled).any()), bool((discovered & ~pooled).any()), bool((strong & pooled).any())
    )


def _measured(
    contrast: str, cfg: VectorConfig, battery: Battery, clustered: bool = True, permutations: int | None = None
) -> tuple[pl.DataFrame, Truth]:
    data = make_vectors(cfg)
    sides = ("base",) if contrast == "culture" else ("base", "chat")
    settings = ContrastConfig(
        shift=contrast == "shift",
        culture=contrast == "culture",
        interaction=contrast == "interaction",
        permutations=permutations or battery.permutations,
        nulls=(),
    )
    texts = data.texts if clustered else data.texts.with_columns(document=pl.col("text_id"))
    codes = {(_DICTIONARY, side): data.codes[side] for side in sides}
    return measure_contrasts(texts, codes, settings, seed=cfg.seed), data.truth


def _null_numbers(alarms: dict[str, list[_Alarm]]) -> dict[str, Any]:
    every = [one for its in alarms.values() for one in its]
    return {
        **_rate("null_discovery_rate", [one.pooled for one in every]),
        **_rate("family_wise_error", [one.by_max for one in every]),
        "null_discovery": {
            contrast: {
                **_rate("pooled", [one.pooled for one in its]),
                **_rate("by_language", [one.by_language for one in its]),
                **_rate("by_max_t", [one.by_max for one in its]),
            }
            for contrast, its in alarms.items()
        },
    }


# -- planted ------------------------------------------------------------------------------------------------------

LARGE_RATES = (0.01, 0.5)


def planted_config(contrast: str, documents: int, seed: int, each: int = 2, large: bool = False) -> VectorConfig:
    """12 of 96 features differ by |d_av| = 0.8, and 6 more fire on 10% instead of 1%: between the sides, or between
    the groups. With `large`, the other features fire on 1% to 50% of the texts of either language."""
    common = VectorConfig(seed=seed, n_documents=documents, texts_per_document=each, hindi=(0.3, 0.7))
    if large:
        common = common.model_copy(update={"rates": LARGE_RATES, "language_share": 0.0})
    if contrast == "shift":
        return common.model_copy(update={"shifted": 4, "appearing": 4, "vanishing": 4, "rising": 6})
    return common.model_copy(update={"cultural": 12, "cultural_rising": 6})


def _planted_dataset(contrast: str, number: int, size: str, battery: Battery, into: _Planted) -> None:
    documents, each = battery.sizes[size]
    seed = derive_seed(battery.seed, "planted", contrast, size, number)
    cfg = planted_config(contrast, documents, seed, each, large=size == LARGE)
    rows, truth = _measured(contrast, cfg, battery)
    different = truth.changed if contrast == "shift" else truth.cultural
    pooled = rows.filter(pl.col("language") == "pooled")
    discovered = pooled.filter(pl.col("q") < ALPHA)
    found = discovered["latent"].to_numpy()
    into.false_shares.append(float((~different[found]).mean()) if len(found) else 0.0)
    into.power.append(float(np.isin(np.flatnonzero(different & ~truth.rising), found).mean()))
    rising = np.flatnonzero(different & truth.rising)
    by_odds = discovered.filter(pl.col("log_odds_lo") > 0)["latent"].to_numpy()
    large = discovered.filter(pl.col("d_av").abs() > 0.8)["latent"].to_numpy()
    into.rising_found.append(float(np.isin(rising, by_odds).mean()))
    into.rising_large.append(float(np.isin(rising, large).mean()))
    into.rows.append(with_truth(rows, contrast, truth))
    if size == LARGE:
        naive, _ = _measured(contrast, cfg, battery, clustered=False, permutations=20)  # its intervals alone are read
        into.unclustered.append(with_truth(naive, contrast, truth))


def _planted_numbers(planted: dict[str, _Planted]) -> dict[str, Any]:
    large = planted[LARGE]
    false_shares = [share for one in planted.values() for share in one.false_shares]
    return {
        **_mean("fdr", false_shares),
        **_mean("coverage", [_share(rows, pl.col("language") == "pooled") or 0.0 for rows in large.rows]),
        **_mean("power_d08", large.power),
        "coverage_of": _coverages(large.rows, promised=True),
        "rising from 1% to 10%": {
            size: {
                **_mean("found by log-odds", one.rising_found),
                **_mean("found with |d_av| above 0.8", one.rising_large),
            }
            for size, one in planted.items()
        },
        "by_size": {
            size: {
                **_mean("power", one.power),
                **_mean("fdr", one.false_shares),
                "covered": _coverages(one.rows, bands=False),
            }
            for size, one in planted.items()
        },
    }


def _coverages(rows: Sequence[pl.DataFrame], bands: bool = True, promised: bool = False) -> dict[str, Any]:
    """Measure → coverage in the pooled rows, by firing rate, and in the rows of single languages. `promised`: of the
    pooled rows, whether it is what was promised stands beside each number."""
    if not rows:
        return {}
    every = pl.concat(rows)
    found: dict[str, Any] = {}
    for measure in MEASURED:
        its = pl.col("measure") == measure
        pooled = its & (pl.col("language") == "pooled")
        found[measure] = {
            "pooled": _part(every, pooled, promised),
            "one language": _part(every, its & ~pooled, False),
        }
        if bands:
            found[measure]["by rate"] = {
                band: _part(every, pooled & pl.col("rate").is_between(low, high, closed="left"), promised)
                for band, (low, high) in BANDS.items()
            }
    return found


def _part(rows: pl.DataFrame, chosen: pl.Expr, promised: bool) -> dict[str, Any]:
    found = _share(rows, chosen)
    part = {"value": found, "n": rows.filter(chosen).height}
    if promised and found is not None:
        part |= {"promised": PROMISED["coverage"], "met": COVERAGE[0] <= found <= COVERAGE[1]}
    return part


def _share(rows: pl.DataFrame, chosen: pl.Expr) -> float | None:
    part = rows.filter(chosen)
    return float(part["covered"].sum() / part.height) if part.height else None


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
