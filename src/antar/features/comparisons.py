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

from antar.core.sparse import CodeSource
from antar.features.cells import Cells, Entries, average_ranks, sum_over_units
from antar.features.config import ContrastConfig
from antar.features.designs import Design
from antar.features.details import paired_details, unpaired_details
from antar.features.gather import Survey, entries_in, latent_blocks
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
    comparison: Comparison, codes: CodeSource, before: CodeSource | None, live: np.ndarray, config: ContrastConfig
) -> tuple[pl.DataFrame, np.ndarray]:
    """Rows of one comparison: latents that are `live` and fire on a compared text of the estimation half; and the
    largest |z| of them under each shuffle, `[2, n_draws]`: in the single languages, and pooled.

    codes: all texts on side b; before: the same texts on side a (shift and interaction only)
    live:  bool `[n_latents]`
    """
    rows = np.concatenate([design.rows for designs in comparison.halves.values() for design in designs])
    surveys = [Survey.of(one, rows) for one in (codes, before) if one is not None]
    firing_n = np.sum([one.firing_n for one in surveys], axis=0)
    latents = np.flatnonzero((firing_n > 0) & live)
    if len(latents) == 0:
        return pl.DataFrame(), np.zeros((2, 0), dtype=np.float32)
    floor = config.sd_floor * max(one.typical for one in surveys)
    blocks = latent_blocks(latents, firing_n)
    measured = {half: _Half(comparison, half, blocks, codes, before, floor).measured() for half in comparison.halves}
    largest = measured["estimate"].largest
    return _rows(comparison, latents, measured, config), np.stack([largest[:-1].max(axis=0), largest[-1]])


@dataclass(frozen=True)
class _Block:
    """Some latents of one half: `Measured` without what needs all latents, and `expected` (`_expected_units`)."""

    effects: dict[str, np.ndarray]
    sizes: dict[str, np.ndarray]
    fires: np.ndarray
    expected: np.ndarray
    details: dict[str, np.ndarray]


class _Half:
    """One half of a comparison, measured block of latents by block of latents."""

    def __init__(
        self, comparison: Comparison, half: str, blocks: Sequence[np.ndarray], codes: CodeSource,
        before: CodeSource | None, sd_floor: float,
    ) -> None:  # fmt: skip
        self._comparison, self._designs, self._detailed = comparison, comparison.halves[half], half == "estimate"
        self._blocks, self._codes, self._before, self._sd_floor = blocks, codes, before, sd_floor
        self._n_columns = len(comparison.nulls)

    def measured(self) -> Measured:
        found: list[_Block] = []
        tests: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for at in self._target_blocks():
            statistics: list[np.ndarray] = []
            # Of several blocks of targets each goes over the latents again: cells are what would not fit in memory.
            for latents in self._blocks:
                entries = entries_in(self._designs, latents, self._codes, self._before)
                parts = self._parts(entries, len(latents))
                if at.start == 0:
                    found.append(self._block(entries, parts, len(latents)))
                statistics.append(self._statistics([cells for cells, _ in parts], at))
            expected = np.concatenate([one.expected for one in found], axis=1)
            tests.append(_p_values(_joined(statistics, axis=1), expected[:, :, at], self._n_columns))
        p, z = (np.concatenate([test[i] for test in tests], axis=3) for i in (0, 1))
        return Measured(
            effects={name: np.concatenate([one.effects[name] for one in found], axis=2) for name in MEASURES},
            p=p,
            z=z,
            largest=np.maximum.reduce([test[2] for test in tests]),
            sizes=found[0].sizes,
            fires=np.concatenate([one.fires for one in found], axis=1),
            details={name: np.concatenate([one.details[name] for one in found], axis=1) for name in found[0].details},
        )

    def _target_blocks(self) -> list[slice]:
        """Targets whose statistics, of all latents, fit in `STATISTICS_BYTES`."""
        n_targets, n_latents = len(self._comparison.targets), sum(map(len, self._blocks))
        each = (len(self._designs) + 1) * n_latents * self._designs[0].labels.shape[1] * 4
        step = max(1, STATISTICS_BYTES // max(each, 1))
        return [slice(lo, min(lo + step, n_targets)) for lo in range(0, n_targets, step)]

    def _parts(self, entries: Sequence[Entries], n_latents: int) -> list[tuple[Cells, np.ndarray]]:
        pairs = list(zip(entries, self._designs, strict=True))
        if self._comparison.contrast == "shift":
            return [pair_cells(one, design, n_latents) for one, design in pairs]
        change = self._comparison.contrast == "interaction"
        return [group_cells(one, design, n_latents, change) for one, design in pairs]

    def _block(self, entries: list[Entries], parts: list[tuple[Cells, np.ndarray]], n_latents: int) -> _Block:
        comparison, designs, columns = self._comparison, self._designs, range(self._n_columns)
        fires = np.array([np.bincount(e.latent, (e.a > 0) | (e.b > 0), minlength=n_latents) > 0 for e in entries])
        change = comparison.contrast == "interaction"
        if comparison.contrast == "shift":
            effects = [_shift_effects(parts, designs, column, self._sd_floor) for column in columns]
            sizes = [_shift_sizes(designs) for _ in columns]
        else:
            strata = [_strata(parts, designs, comparison.targets, column) for column in columns]
            effects = [_group_effects(one, change, self._sd_floor) for one in strata]
            sizes = [_group_sizes(one) for one in strata]
        found = {name: np.stack([one[name] for one in effects], axis=1) for name in MEASURES}
        details: dict[str, np.ndarray] = {}
        if self._detailed and comparison.contrast == "shift":
            details = paired_details(entries, designs, n_latents)
        elif self._detailed:
            sd = found["sd"][:, 0]
            details = unpaired_details(entries, designs, comparison.targets, n_latents, sd, change)
        return _Block(
            found,
            {name: np.stack([one[name] for one in sizes], axis=1) for name in sizes[0]},
            np.vstack([fires, fires.any(axis=0)]),
            _expected_units([cells for cells, _ in parts], designs, comparison),
            details,
        )

    def _statistics(self, cells: list[Cells], targets: slice) -> np.ndarray:
        if self._comparison.contrast == "shift":
            return paired_statistics(cells, self._designs, self._sd_floor)
        return unpaired_statistics(cells, self._designs, self._comparison.targets[targets], self._sd_floor)


def _joined(parts: list[np.ndarray], axis: int) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=axis)


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
