"""AUROC with documents as clusters: how each value of one group lies among the values of another.

AUROC is a mean of placements, so its variance is that of the placements summed by document (DeLong, DeLong &
Clarke-Pearson 1988; for clusters, Obuchowski 1997, eq. 4). Codes are mostly zeros and all zeros of a latent lie
alike, so only the values that differ from zero are visited.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from antar.features.cells import order_by_latent
from antar.features.intervals import Part, freedom_of


@dataclass(frozen=True)
class Values:
    """Listed values (the others are zeros) of texts, e of them, for one latent or more.

    latent, unit: int64 `[e]`; value: float64 `[e]`, listed zeros allowed
    n_latents:    the range of `latent`
    """

    latent: np.ndarray
    unit: np.ndarray
    value: np.ndarray
    n_latents: int

    @cached_property
    def _runs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(order, start of the latent, start and end of the run of ties); the last three in sorted order."""
        order = order_by_latent(self.latent, self.value)
        latent, value = self.latent[order], self.value[order]
        e = len(order)
        change = np.diff(latent) != 0
        first = np.concatenate([[True], change])[:e]
        new = np.concatenate([[True], change | (np.diff(value) != 0)])[:e]
        at = np.arange(e)
        run = np.cumsum(new) - 1
        starts = at[new]
        ends = np.append(starts[1:], e)
        return order, at[first][np.cumsum(first) - 1], starts[run], ends[run]

    def placements(self, among: np.ndarray, n: float) -> tuple[np.ndarray, np.ndarray]:
        """How many of n texts each value exceeds, ties half: of the listed values `[e]`, and of a zero `[n_latents]`.

        among: bool `[e]`, the listed values of those n texts; their other values are zeros
        """
        order, first, start, end = self._runs
        counted = np.concatenate([[0.0], np.cumsum(among[order])])
        below, tied = counted[start] - counted[first], counted[end] - counted[start]

        def of_latents(chosen: np.ndarray) -> np.ndarray:
            return np.bincount(self.latent[chosen], minlength=self.n_latents).astype(np.float64)

        zeros = n - of_latents(among & (self.value != 0))
        negative = of_latents(among & (self.value < 0))
        value, its_zeros = self.value[order], zeros[self.latent[order]]
        unlisted = its_zeros - of_latents(among & (self.value == 0))[self.latent[order]]
        found = np.empty(len(order))
        found[order] = below + tied / 2 + np.where(value > 0, unlisted, np.where(value == 0, unlisted / 2, 0.0))
        return found, negative + zeros / 2

    def unit_sums(self, chosen: np.ndarray, values: np.ndarray, n_units: int) -> tuple[np.ndarray, np.ndarray]:
        """Sums of `values` over the `chosen` entries of each (latent, unit): (latent · n_units + unit, sum)."""
        return _sum_by_key(self.latent[chosen] * n_units + self.unit[chosen], values[chosen])


def _sum_by_key(key: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found, place = np.unique(key, return_inverse=True)
    return found, np.bincount(place, values, minlength=len(found))


def unpaired_auroc(
    values: Values, in_b: np.ndarray, unit_sizes: np.ndarray, unit_in_b: np.ndarray, pseudo: bool = True
) -> tuple[np.ndarray, list[Part]]:
    """P(b > a) + ½ P(b = a) of each latent `[n_latents]`, and the variance of each group's part.

    in_b:      bool `[e]`, the listed values of group b; unit_in_b: bool `[n_units]`
    unit_sizes: float64 `[n_units]`, texts of each unit; a unit's texts are of one group
    pseudo:    add one typical firing document to each group's variance (see `intervals`)
    """
    n_b, n_a = unit_sizes[unit_in_b].sum(), unit_sizes[~unit_in_b].sum()
    above_a, zero_above_a = values.placements(~in_b, n_a)
    above_b, zero_above_b = values.placements(in_b, n_b)
    of_b, zero_b = above_a / n_a, zero_above_a / n_a
    of_a, zero_a = 1 - above_b / n_b, 1 - zero_above_b / n_b
    excess_b, excess_a = of_b - zero_b[values.latent], of_a - zero_a[values.latent]
    auroc = zero_b + np.bincount(values.latent, np.where(in_b, excess_b, 0.0), minlength=values.n_latents) / n_b
    groups = [
        (values.unit_sums(in_b, excess_b, len(unit_sizes)), unit_in_b, zero_b, n_b),
        (values.unit_sums(~in_b, excess_a, len(unit_sizes)), ~unit_in_b, zero_a, n_a),
    ]
    typical = typical_square(
        [
            (sums, key // len(unit_sizes), unit_sizes[key % len(unit_sizes)] * (zero - auroc)[key // len(unit_sizes)])
            for (key, sums), _, zero, _ in groups
        ],
        values.n_latents,
    )
    parts = [
        _part(key, sums, unit_sizes, its_units, zero - auroc, n, typical if pseudo else np.zeros(values.n_latents))
        for (key, sums), its_units, zero, n in groups
    ]
    return auroc, parts


def paired_auroc(
    before: Values, after: Values, unit_sizes: np.ndarray, pseudo: bool = True
) -> tuple[np.ndarray, list[Part]]:
    """P(b > a) + ½ P(b = a) over all pairs of a value before (a) and one after (b), and its variance.

    before, after: the listed values of the same texts on both sides, of the same latents and units
    """
    e, n = len(before.latent), unit_sizes.sum()
    both = Values(
        np.concatenate([before.latent, after.latent]), np.concatenate([before.unit, after.unit]),
        np.concatenate([before.value, after.value]), after.n_latents,
    )  # fmt: skip
    is_b = np.arange(len(both.latent)) >= e
    above_a, zero_above_a = both.placements(~is_b, n)
    above_b, zero_above_b = both.placements(is_b, n)
    zero_b, zero_a = zero_above_a / n, 1 - zero_above_b / n
    placed = np.where(is_b, above_a / n - zero_b[both.latent], 1 - above_b / n - zero_a[both.latent])
    auroc = zero_b + np.bincount(both.latent, np.where(is_b, placed, 0.0), minlength=both.n_latents) / n
    key, sums = both.unit_sums(np.ones(len(is_b), dtype=bool), placed, len(unit_sizes))
    constant = zero_a + zero_b - 2 * auroc
    latent = key // len(unit_sizes)
    added = unit_sizes[key % len(unit_sizes)] * constant[latent]
    typical = typical_square([(sums, latent, added)], both.n_latents)
    every = np.ones(len(unit_sizes), dtype=bool)
    part = _part(key, sums, unit_sizes, every, constant, n, typical if pseudo else np.zeros(both.n_latents))
    return auroc, [part]


def typical_square(sums: list[tuple[np.ndarray, np.ndarray, np.ndarray]], n_latents: int) -> np.ndarray:
    """Mean of (sum + added)² over the units whose listed sum is not zero, `[n_latents]`; 0 where there are none.

    sums: (sum, latent, added) of the listed units; added: what else such a unit contributes
    """
    some = [(one != 0).astype(np.float64) for one, *_ in sums]
    squares = [
        np.bincount(latent, of * (one + added) ** 2, minlength=n_latents)
        for of, (one, latent, added) in zip(some, sums, strict=True)
    ]
    counts = [np.bincount(latent, of, minlength=n_latents) for of, (_, latent, _) in zip(some, sums, strict=True)]
    return np.sum(squares, axis=0) / np.maximum(np.sum(counts, axis=0), 1)


def _part(
    key: np.ndarray, sums: np.ndarray, unit_sizes: np.ndarray, units: np.ndarray, constant: np.ndarray, n: float,
    typical: np.ndarray,
) -> Part:  # fmt: skip
    """Variance of a mean whose units contribute sum + size · constant, of which only the non-zero sums are listed."""
    n_latents, n_units = len(constant), units.sum()
    latent, size = key // len(unit_sizes), unit_sizes[key % len(unit_sizes)]

    def by_latent(values: np.ndarray) -> np.ndarray:
        return np.bincount(latent, values, minlength=n_latents)

    total = by_latent(sums**2) + 2 * constant * by_latent(size * sums) + constant**2 * (unit_sizes[units] ** 2).sum()
    freedom = freedom_of(by_latent(sums**2) + typical, by_latent(sums**4) + typical**2, np.asarray(float(n_units)))
    if n_units < 2:
        return np.full(n_latents, np.nan), freedom
    return (np.maximum(total, 0) * n_units / (n_units - 1) + typical) / n**2, freedom
