"""Confounds: what is left of a difference between groups when other things are held equal.

Cultural texts may be longer than controls, or about other topics. `adjusted_difference` gives the difference in means
that remains after least squares on covariates of a text (its length, the topic it is about), language by language, so
that length and language are both held equal. By the theorem of Frisch & Waugh (1933) and Lovell (1963) the
coefficient of the group is Σ r x / Σ r², with r what the covariates leave of the group's indicator: r is the same for
all latents, so a code's zeros cost nothing here either.

`language_auroc` says whether a latent merely tells languages (scripts) apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from antar.features.intervals import Part, freedom_of, half_width
from antar.features.placements import Values, typical_square

LEFT = 1e-3
"""A group's indicator of which the covariates leave a smaller share than this is explained by them: no effect."""


@dataclass(frozen=True)
class Adjusted:
    """In one language, `[n_latents]` each: the adjusted difference of means, its variance, and how much it rests on
    (Σ r², a number of texts)."""

    difference: np.ndarray
    part: Part
    weight: float


@dataclass(frozen=True)
class Covariates:
    """What is held equal: the columns Z of a least-squares fit, the constant among what they span.

    columns: sparse `[n, c]`; solve: sparse `[c, n]`, the fit's coefficients of a variable (the pseudo-inverse of Z)
    """

    columns: sparse.csr_array
    solve: sparse.csr_array

    @classmethod
    def of_length(cls, characters: np.ndarray) -> Covariates:
        """A constant, the standardised log length and its square."""
        log = np.log(np.maximum(characters, 1).astype(np.float64))
        spread = log.std()
        standard = (log - log.mean()) / spread if spread > 0 else np.zeros(len(log))
        z = np.column_stack([np.ones(len(log)), standard, standard**2])
        return cls(sparse.csr_array(z), sparse.csr_array(np.linalg.pinv(z)))

    @classmethod
    def of_strata(cls, strata: np.ndarray) -> Covariates:
        """An indicator for each stratum, so that groups are compared within strata. However many there are, each
        text is in one, so the fit is a mean of each stratum."""
        _, place = np.unique(strata, return_inverse=True)
        z = sparse.csr_array((np.ones(len(place)), (np.arange(len(place)), place)))
        return cls(z, sparse.csr_array(sparse.diags_array(1 / np.bincount(place)) @ z.T))


def adjusted_difference(
    values: Values, row: np.ndarray, in_b: np.ndarray, unit: np.ndarray, covariates: Covariates
) -> Adjusted | None:
    """The difference between group b and the other texts of one language after `covariates`; None where they leave
    nothing of it.

    values: the listed values; row: int `[e]`, the text of each
    in_b:   bool `[n]`, texts of group b; unit: int `[n]`, each text's document
    The variance is cluster-robust by document, with one typical firing document added (see `intervals`).
    """
    n, n_units, n_latents = len(in_b), int(unit.max()) + 1, values.n_latents
    g = in_b.astype(np.float64)
    of_g = covariates.solve @ g
    left = g - covariates.columns @ of_g
    weight = float(left @ left)
    if n_units < 3 or weight < LEFT * n * g.mean() * (1 - g.mean()) or weight <= 0:
        return None
    x = sparse.csr_array((values.value, (row, values.latent)), shape=(n, n_latents))
    slope = (x.T @ left) / weight
    theta = np.vstack([slope, sparse.csr_array(covariates.solve @ x).toarray() - np.outer(of_g, slope)])
    # The score of a unit is Σ r (x − fitted): a sparse part, less what the fit says of all its texts.
    by_unit = sparse.csr_array((left, (unit, np.arange(n))), shape=(n_units, n))
    of_units = sparse.csr_array(by_unit @ sparse.hstack([sparse.csr_array(g[:, None]), covariates.columns]))
    sums = sparse.coo_array(by_unit @ x)
    its_unit, its_latent, summed = sums.row, sums.col, sums.data

    def by_latent(of: np.ndarray) -> np.ndarray:
        return np.bincount(its_latent, of, minlength=n_latents)

    total = (
        by_latent(summed**2)
        - 2 * (theta * (of_units.T @ sums.tocsr()).toarray()).sum(axis=0)
        + (theta * ((of_units.T @ of_units) @ theta)).sum(axis=0)
    )
    typical = typical_square([(summed, its_latent, -_fitted(of_units, theta, its_unit, its_latent))], n_latents)
    variance = (np.maximum(total, 0) * n_units / (n_units - 1) + typical) / weight**2
    squares, fourths = by_latent(summed**2) + typical, by_latent(summed**4) + typical**2
    return Adjusted(slope, (variance, freedom_of(squares, fourths, np.asarray(float(n_units)))), weight)


def _fitted(of_units: sparse.csr_array, theta: np.ndarray, unit: np.ndarray, latent: np.ndarray) -> np.ndarray:
    """(of_units @ theta) at the places (unit, latent) alone: a unit has few covariates, whatever their number."""
    starts, counts = of_units.indptr[:-1], np.diff(of_units.indptr)
    found = np.zeros(len(unit))
    for place in range(int(counts.max(initial=0))):
        has = counts[unit] > place
        at = starts[unit[has]] + place
        found[has] += of_units.data[at] * theta[of_units.indices[at], latent[has]]
    return found


def adjusted_effect(parts: Sequence[Adjusted | None], sd: np.ndarray) -> dict[str, np.ndarray]:
    """d, lo, hi `[n_latents]`: the languages' adjusted differences, weighted by what they rest on, over `sd`.

    sd is that of d_av, taken as known; NaN where no language has a difference.
    """
    usable = [one for one in parts if one is not None]
    if not usable:
        return {name: np.full(sd.shape, np.nan) for name in ("d", "lo", "hi")}
    total = sum(one.weight for one in usable)
    difference = np.sum([one.weight / total * one.difference for one in usable], axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        reach = half_width([((one.weight / total) ** 2 * one.part[0], one.part[1]) for one in usable])
        return {"d": difference / sd, "lo": (difference - reach) / sd, "hi": (difference + reach) / sd}


def language_auroc(fired: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """How well firing tells a language from the others: the AUROC furthest from ½, `[n_latents]`.

    fired: `[n_languages, n_latents]`, texts that fire; sizes: `[n_languages]`, texts. Of a yes or no, AUROC is
    ½ + (rate here − rate elsewhere)/2. NaN where there is one language.
    """
    fired, sizes = fired[sizes > 0], sizes[sizes > 0]
    if len(sizes) < 2:
        return np.full(fired.shape[1], np.nan)
    here = fired / sizes[:, None]
    elsewhere = (fired.sum(axis=0) - fired) / (sizes.sum() - sizes)[:, None]
    difference = here - elsewhere
    furthest = np.abs(difference).argmax(axis=0)
    return 0.5 + np.take_along_axis(difference, furthest[None], axis=0)[0] / 2
