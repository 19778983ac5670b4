"""One comparison measured on one set of codes: effects, statistics under shuffles, p-values, as rows of a table.

A comparison is a contrast with its designs (one a language, for each half of the texts). It is made once and used
for every dictionary. What depends on the codes happens here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.special import chdtrc, ndtri

from antar.core.sparse import SparseCodes
from antar.features.cells import Cells, Entries, average_ranks, entries_of, sum_over_units
from antar.features.config import ContrastConfig
from antar.features.designs import Design
from antar.features.details import paired_details, unpaired_details
from antar.features.paired import Pairs, paired_effects
from antar.features.permutation import paired_statistics, pooled_p_values, unpaired_statistics
from antar.features.statistics import MEASURES, Stratum, interaction_odds, moments, unpaired_effects

POOLED = "pooled"
SIZES = ("n_a", "n_b", "documents_a", "documents_b")
STATISTICS_BYTES = 2**30
"""Statistics under shuffles that are in memory at once; a facet of many values is done some values at a time."""


@dataclass(frozen=True)
class Comparison:
    """A contrast with everything that does not depend on the codes.

    contrast: "shift" | "culture" | "interaction" | "facet"; facet: the column of a facet contrast
    values:   name of each target (None outside facets); targets: int `[n_targets]`, its label in the designs
    halves:   "estimate" and "select" → one design for each language; the languages are the same in both
    nulls:    name of each reported shuffle: "" for the observed labels, then e.g. "shuffled"
    """

    contrast: str
    facet: str | None
    values: tuple[str | None, ...]
    targets: np.ndarray
    halves: dict[str, list[Design]]
    nulls: tuple[str, ...]

    @property
    def languages(self) -> list[str]:
        return [design.language for design in self.halves["estimate"]]


@dataclass(frozen=True)
class Measured:
    """One half. Leading axes: places (the languages, then pooled), reported columns (real, then nulls).

    effects: measure → `[places, columns, n_latents, n_targets]`; p and z (see `PValues`) the same shape
    largest: `[places, n_draws]`, the largest |z| under each shuffle
    sizes:   n_a, n_b, documents_a, documents_b → `[places, columns, n_targets]`
    fires:   bool `[places, n_latents]`, the latent fires on some compared text
    details: `DETAILS` → `[places, n_latents, n_targets]`, of the real labels; empty for the selection half
    """

    effects: dict[str, np.ndarray]
    p: np.ndarray
    z: np.ndarray
    largest: np.ndarray
    sizes: dict[str, np.ndarray]
    fires: np.ndarray
    details: dict[str, np.ndarray]


def measure(
    comparison: Comparison, codes: SparseCodes, before: SparseCodes | None, live: np.ndarray, config: ContrastConfig
) -> tuple[pl.DataFrame, np.ndarray]:
    """Rows of one comparison: latents that are `live` and fire on a compared text of the estimation half; and the
    largest |z| of them under each shuffle, `[2, n_draws]`: in the single languages, and pooled.

    codes: all texts on side b; before: the same texts on side a (shift and interaction only)
    live:  bool `[n_latents]`
    """
    entries = {
        half: [_entries(design, codes, before) for design in comparison.halves[half]] for half in comparison.halves
    }
    latents = np.unique(np.concatenate([np.empty(0, np.int64), *(e.latent for es in entries.values() for e in es)]))
    latents = latents[live[latents]]
    if len(latents) == 0:
        return pl.DataFrame(), np.zeros((2, 0), dtype=np.float32)
    floor = config.sd_floor * max(_typical_size(codes), _typical_size(before))
    measured = {
        half: _measure_half(comparison, comparison.halves[half], [_compact(e, latents) for e in entries[half]],
                            len(latents), floor, detailed=half == "estimate")
        for half in comparison.halves
    }  # fmt: skip
    largest = measured["estimate"].largest
    return _rows(comparison, latents, measured, config), np.stack([largest[:-1].max(axis=0), largest[-1]])


def _entries(design: Design, codes: SparseCodes, before: SparseCodes | None) -> Entries:
    return entries_of(codes.rows(design.rows), None if before is None else before.rows(design.rows))


def _typical_size(codes: SparseCodes | None) -> float:
    """Root mean square of the values that fired."""
    fired = np.empty(0) if codes is None else codes.values_nk[codes.values_nk > 0].astype(np.float64)
    return float(np.sqrt(np.mean(fired**2))) if len(fired) else 0.0


def _compact(entries: Entries, latents: np.ndarray) -> Entries:
    """The entries of some latents, which are renumbered 0 … len(latents) − 1."""
    keep = np.isin(entries.latent, latents)
    place = np.searchsorted(latents, entries.latent[keep])
    return Entries(place, entries.row[keep], entries.a[keep], entries.b[keep])


def _measure_half(
    comparison: Comparison, designs: list[Design], entries: list[Entries], n_latents: int, sd_floor: float,
    detailed: bool,
) -> Measured:  # fmt: skip
    n_columns = len(comparison.nulls)
    fires = np.array([np.bincount(e.latent, (e.a > 0) | (e.b > 0), minlength=n_latents) > 0 for e in entries])
    fires = np.vstack([fires, fires.any(axis=0)])
    if comparison.contrast == "shift":
        parts = [pair_cells(e, d, n_latents) for e, d in zip(entries, designs, strict=True)]
        effects = [_shift_effects(parts, designs, column, sd_floor) for column in range(n_columns)]
        sizes = [_shift_sizes(designs) for _ in range(n_columns)]
    else:
        change = comparison.contrast == "interaction"
        parts = [group_cells(e, d, n_latents, change) for e, d in zip(entries, designs, strict=True)]
        strata = [_strata(parts, designs, comparison.targets, column) for column in range(n_columns)]
        effects = [_group_effects(one, change, sd_floor) for one in strata]
        sizes = [_group_sizes(one) for one in strata]
    expected = _expected_units([cells for cells, _ in parts], designs, comparison)
    p, z, largest = _all_p_values(comparison, [cells for cells, _ in parts], designs, expected, n_columns, sd_floor)
    found = {name: np.stack([one[name] for one in effects], axis=1) for name in MEASURES}
    details: dict[str, np.ndarray] = {}
    if detailed and comparison.contrast == "shift":
        details = paired_details(entries, designs, n_latents)
    elif detailed:
        sd, change = found["sd"][:, 0], comparison.contrast == "interaction"
        details = unpaired_details(entries, designs, comparison.targets, n_latents, sd, change)
    sizes_by_column = {name: np.stack([one[name] for one in sizes], axis=1) for name in sizes[0]}
    return Measured(found, p, z, largest, sizes_by_column, fires, details)


def group_cells(entries: Entries, design: Design, n_latents: int, change: bool = False) -> tuple[Cells, np.ndarray]:
    """Cells of an unpaired comparison, of values or of changes, and the rank of a zero `[n_latents]`."""
    x = entries.change if change else entries.b
    ranks, zero_rank = average_ranks(entries.latent, x, n_latents, len(design.rows))
    fired_a, fired_b = (entries.a > 0).astype(np.float64), (entries.b > 0).astype(np.float64)
    columns = {"s1": x, "s2": x * x, "fired": fired_b - fired_a, "rank": ranks - zero_rank[entries.latent]}
    if change:
        columns |= {"fired_before": fired_a, "fired_after": fired_b}
    return sum_over_units(entries.latent, design.unit[entries.row], columns, n_latents, design.n_units), zero_rank


def pair_cells(entries: Entries, design: Design, n_latents: int) -> tuple[Cells, np.ndarray]:
    """Cells of a paired comparison (sums as in `Pairs`, and `rank_a`), and the rank of a zero `[n_latents]`."""
    a, b = entries.a, entries.b
    twice = np.concatenate([entries.latent, entries.latent])
    ranks, zero_rank = average_ranks(twice, np.concatenate([a, b]), n_latents, 2 * len(design.rows))
    excess = ranks - zero_rank[twice]
    columns = {
        "a": a, "b": b, "aa": a * a, "bb": b * b, "cc": (b - a) ** 2, "fired_a": (a > 0).astype(np.float64),
        "fired_b": (b > 0).astype(np.float64), "rank_a": excess[: len(a)], "rank": excess[len(a) :],
    }  # fmt: skip
    return sum_over_units(entries.latent, design.unit[entries.row], columns, n_latents, design.n_units), zero_rank


def swapped(cells: Cells, signs: np.ndarray) -> Cells:
    """The cells with sides a and b exchanged in the units whose sign is −1."""
    swap = signs[cells.unit] < 0
    sums = dict(cells.sums)
    for one, other in (("a", "b"), ("aa", "bb"), ("fired_a", "fired_b"), ("rank_a", "rank")):
        sums[one] = np.where(swap, cells.sums[other], cells.sums[one])
        sums[other] = np.where(swap, cells.sums[one], cells.sums[other])
    return Cells(cells.latent, cells.unit, sums, cells.n_latents, cells.n_units)


def _shift_effects(
    parts: Sequence[tuple[Cells, np.ndarray]], designs: Sequence[Design], column: int, sd_floor: float
) -> dict[str, np.ndarray]:
    strata = [
        Pairs(swapped(cells, design.labels[:, column]), design.unit_sizes, zero_rank)
        for (cells, zero_rank), design in zip(parts, designs, strict=True)
    ]
    places = [paired_effects(one, sd_floor) for one in [*([stratum] for stratum in strata), strata]]
    return {name: np.stack([place[name] for place in places])[:, :, None] for name in MEASURES}


def _shift_sizes(designs: Sequence[Design]) -> dict[str, np.ndarray]:
    texts = [len(design.rows) for design in designs]
    units = [design.n_units for design in designs]
    n = np.array([*texts, sum(texts)], dtype=np.float64)[:, None]
    documents = np.array([*units, sum(units)], dtype=np.float64)[:, None]
    return {"n_a": n, "n_b": n, "documents_a": documents, "documents_b": documents}


def _strata(
    parts: Sequence[tuple[Cells, np.ndarray]], designs: Sequence[Design], targets: np.ndarray, column: int
) -> list[Stratum]:
    strata: list[Stratum] = []
    for (cells, zero_rank), design in zip(parts, designs, strict=True):
        groups = moments(cells, design.unit_sizes, design.labels[:, column].astype(np.int64), design.n_groups)
        strata.append(Stratum(groups.rest(targets), groups.take(targets), zero_rank))
    return strata


def _group_effects(strata: list[Stratum], change: bool, sd_floor: float) -> dict[str, np.ndarray]:
    places = [unpaired_effects(one, sd_floor) for one in [*([stratum] for stratum in strata), strata]]
    if change:
        for place, one in zip(places, [*([stratum] for stratum in strata), strata], strict=True):
            nothing = np.full(place["d_av"].shape, np.nan)
            place |= interaction_odds(one) | {"magnitude_a": nothing, "magnitude_b": nothing}
    return {name: np.stack([place[name] for place in places]) for name in MEASURES}


def _group_sizes(strata: list[Stratum]) -> dict[str, np.ndarray]:
    """Texts and units; the pooled place counts the languages that were pooled."""
    found: dict[str, np.ndarray] = {}
    for side in ("a", "b"):
        n = [getattr(stratum, side).n for stratum in strata]
        units = [getattr(stratum, side).units for stratum in strata]
        use = [stratum.enough for stratum in strata]
        found[f"n_{side}"] = np.stack([*n, np.sum([x * u for x, u in zip(n, use, strict=True)], axis=0)])
        found[f"documents_{side}"] = np.stack(
            [*units, np.sum([x * u for x, u in zip(units, use, strict=True)], axis=0)]
        )
    return found


def _expected_units(cells: Sequence[Cells], designs: Sequence[Design], comparison: Comparison) -> np.ndarray:
    """How many units of group b would fire each latent if labels meant nothing, `[places, n_latents, n_targets]`."""
    found: list[np.ndarray] = []
    for one, design in zip(cells, designs, strict=True):
        if comparison.contrast == "shift":
            share = np.ones(1)
            counts = one.by_latent((one.sums["a"] != one.sums["b"]).astype(np.float64))
        else:
            groups = np.bincount(design.labels[:, 0], minlength=design.n_groups)
            share = groups[comparison.targets] / max(design.n_units, 1)
            counts = one.by_latent(np.ones(len(one.latent)))
        found.append(counts[:, None] * share[None, :])
    return np.stack([*found, np.sum(found, axis=0)])


def _all_p_values(
    comparison: Comparison, cells: list[Cells], designs: list[Design], expected: np.ndarray, n_columns: int,
    sd_floor: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """`_p_values` of every target, in blocks of targets whose statistics fit in `STATISTICS_BYTES`."""
    if comparison.contrast == "shift":
        return _p_values(paired_statistics(cells, designs, sd_floor), expected, n_columns)
    targets = comparison.targets
    each = (len(designs) + 1) * cells[0].n_latents * designs[0].labels.shape[1] * 4
    step = max(1, STATISTICS_BYTES // max(each, 1))
    blocks = [
        _p_values(
            unpaired_statistics(cells, designs, targets[lo : lo + step], sd_floor), expected[:, :, lo : lo + step],
            n_columns,
        )
        for lo in range(0, len(targets), step)
    ]  # fmt: skip
    p, z = (np.concatenate([block[i] for block in blocks], axis=3) for i in (0, 1))
    return p, z, np.maximum.reduce([block[2] for block in blocks])


def _p_values(
    statistics: np.ndarray, expected: np.ndarray, n_columns: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """p and z, `[places, columns, n_latents, n_targets]`, and the largest |z| under each shuffle, `[places,
    n_draws]`; every place has its own pools."""
    places, n_latents, n_targets, _ = statistics.shape
    p, z = np.empty((2, places, n_columns, n_latents, n_targets))
    largest: list[np.ndarray] = []
    for place in range(places):
        flat = statistics[place].reshape(n_latents * n_targets, -1)
        found = pooled_p_values(flat[:, :n_columns], flat[:, n_columns:], expected[place].ravel())
        for into, values in ((p, found.p), (z, found.z)):
            into[place] = values.T.reshape(n_columns, n_latents, n_targets)
        largest.append(found.largest)
    return p, z, np.stack(largest)


def heterogeneity(d: np.ndarray, lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
    """p of Cochran's (1954) Q: do the languages' effects differ by more than their intervals allow?

    d, lo, hi: `[n_languages, ...]`. Standard errors are the intervals' half lengths over 1.96, so that few documents
    count as few. NaN where fewer than two languages have an interval of some length.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = ((hi - lo) / 2 / ndtri(0.975)) ** 2
        usable = np.isfinite(d) & (variance > 0)
        weight = np.where(usable, 1 / variance, 0.0)
        mean = np.sum(np.where(usable, weight * d, 0.0), axis=0) / weight.sum(axis=0)
        q = np.sum(np.where(usable, weight * (d - mean) ** 2, 0.0), axis=0)
        count = usable.sum(axis=0)
        return np.where(count >= 2, chdtrc(np.maximum(count - 1, 1), q), np.nan)


def _rows(
    comparison: Comparison, latents: np.ndarray, measured: dict[str, Measured], config: ContrastConfig
) -> pl.DataFrame:
    estimate, select = measured["estimate"], measured["select"]
    effects = estimate.effects
    mixed = heterogeneity(*(effects[name][:-1] for name in ("d_av", "d_lo", "d_hi")))
    script = _script_only(effects["d_av"][:, 0], estimate.details["language_auroc"], config)
    frames: list[pl.DataFrame] = []
    fires = estimate.fires | select.fires  # what was chosen on one half and is silent on the other has a row, too
    designs = comparison.halves["estimate"]
    texts = sum(len(design.rows) for design in designs)
    matched = [design.matched for design in designs]
    matched.append(sum(design.matched * len(design.rows) for design in designs) / max(texts, 1))
    readings = max((design.readings for design in designs), default=1.0)  # 30 texts read twice are not 60
    for place, language in enumerate([*comparison.languages, POOLED]):
        for column, null in enumerate(comparison.nulls):
            sizes = {name: values[place, column] for name, values in estimate.sizes.items()}
            there = (sizes["n_a"] > 0) & (sizes["n_b"] > 0)
            who, which = np.nonzero(fires[place][:, None] & there[None, :])
            columns = {
                "contrast": pl.repeat(comparison.contrast, len(who), eager=True),
                "facet": pl.repeat(comparison.facet, len(who), dtype=pl.String, eager=True),
                "value": pl.Series(comparison.values, dtype=pl.String).gather(which),
                "language": pl.repeat(language, len(who), eager=True),
                "latent": latents[who],
                "null": pl.repeat(null, len(who), eager=True),
                **{name: sizes[name][which].astype(np.int64) for name in SIZES},
                **{name: values[place, column][who, which] for name, values in estimate.effects.items()},
                **{name: _real(values[place], null)[who, which] for name, values in estimate.details.items()},
                "het_p": mixed[column][who, which] if language == POOLED else np.full(len(who), np.nan),
                "z": estimate.z[place, column][who, which],
                "p": estimate.p[place, column][who, which],
                "d_av_select": select.effects["d_av"][place, column][who, which],
                "p_select": select.p[place, column][who, which],
                "few": (np.minimum(sizes["n_a"], sizes["n_b"]) / readings < config.warn_under)[which],
                "matched": np.full(len(who), matched[place]),
                "script_only": script[who, which],
            }
            frames.append(pl.DataFrame(columns))
    return pl.concat(frames).with_columns(pl.selectors.float().fill_nan(None))


def _real(values: np.ndarray, null: str) -> np.ndarray:
    """`values` of the real labels; those of a shuffle were not measured."""
    return values if null == "" else np.full(values.shape, np.nan)


def _script_only(d: np.ndarray, language_auroc: np.ndarray, config: ContrastConfig) -> np.ndarray:
    """bool `[n_latents, n_targets]`: tells a language from the others, and within each one nothing.

    d, language_auroc: `[places, n_latents, n_targets]`
    """
    with np.errstate(invalid="ignore"):
        tells = np.abs(language_auroc[-1] - 0.5) >= config.script_auroc - 0.5
        small = np.isnan(d) | (np.abs(d) < config.script_d)
        return tells & small.all(axis=0) & ~np.isnan(d[:-1]).all(axis=0)
