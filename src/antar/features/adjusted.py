"""Confounds: what is left of a difference between groups when other things are held equal.

Cultural texts may be longer than controls, or about other topics. `adjusted_effects` gives the difference in means
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


def length_covariates(characters: np.ndarray) -> np.ndarray:
    """`[n, 2]`: the standardised log length of a text and its square; zeros where all lengths are equal."""
    log = np.log(np.maximum(characters, 1).astype(np.float64))
    spread = log.std()
    standard = (log - log.mean()) / spread if spread > 0 else np.zeros(len(log))
    return np.column_stack([standard, standard**2])


def stratum_covariates(strata: np.ndarray) -> np.ndarray:
    """`[n, n_strata]`: an indicator for each stratum, so that groups are compared within strata."""
    _, place = np.unique(strata, return_inverse=True)
    return np.eye(int(place.max(initial=-1)) + 1)[place]


def adjusted_difference(
    values: Values, row: np.ndarray, in_b: np.ndarray, unit: np.ndarray, covariates: np.ndarray
) -> Adjusted | None:
    """The difference between group b and the other texts of one language after `covariates`; None where they leave
    nothing of it.

    values: the listed values; row: int `[e]`, the text of each
    in_b:   bool `[n]`, texts of group b; unit: int `[n]`, each text's document; covariates: `[n, c]`
    The variance is cluster-robust by document, with one typical firing document added (see `intervals`).
    """
    n, n_units, n_latents = len(in_b), int(unit.max()) + 1, values.n_latents
    design = np.column_stack([np.ones(n), covariates])
    inverse = np.linalg.pinv(design)
    g = in_b.astype(np.float64)
    left = g - design @ (inverse @ g)
    weight = float(left @ left)
    if n_units < 3 or weight < LEFT * n * g.mean() * (1 - g.mean()) or weight <= 0:
        return None
    x, latent = values.value, values.latent

    def by_latent(of: np.ndarray, its_latent: np.ndarray) -> np.ndarray:
        return np.bincount(its_latent, of, minlength=n_latents)

    slope = by_latent(x * left[row], latent) / weight
    others = np.stack([by_latent(x * one[row], latent) for one in inverse]) - np.outer(inverse @ g, slope)
    # The score of a unit is Σ r (x − fitted): a sparse part, less what the fit says of all its texts.
    fitted = np.column_stack([g, design]) * left[:, None]
    of_units = np.stack([np.bincount(unit, column, minlength=n_units) for column in fitted.T], axis=1)
    key, sums = Values(latent, values.unit, x * left[row], n_latents).unit_sums(
        np.ones(len(x), dtype=bool), x * left[row], n_units
    )
    its_latent, its_unit = key // n_units, key % n_units
    theta = np.vstack([slope, others])
    crossed = np.stack([by_latent(sums * column[its_unit], its_latent) for column in of_units.T])
    total = (
        by_latent(sums**2, its_latent)
        - 2 * (theta * crossed).sum(axis=0)
        + np.einsum("il,ij,jl->l", theta, of_units.T @ of_units, theta)
    )
    said = (theta[:, its_latent] * of_units[its_unit].T).sum(axis=0)
    typical = typical_square([(sums, its_latent, -said)], n_latents)
    squares, fourths = by_latent(sums**2, its_latent), by_latent(sums**4, its_latent)
    variance = (np.maximum(total, 0) * n_units / (n_units - 1) + typical) / weight**2
    freedom = freedom_of(squares + typical, fourths + typical**2, np.asarray(float(n_units)))
    return Adjusted(slope, (variance, freedom), weight)


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
    if len(sizes) < 2 or min(sizes) == 0:
        return np.full(fired.shape[1], np.nan)
    here = fired / sizes[:, None]
    elsewhere = (fired.sum(axis=0) - fired) / (sizes.sum() - sizes)[:, None]
    difference = here - elsewhere
    furthest = np.abs(difference).argmax(axis=0)
    return 0.5 + np.take_along_axis(difference, furthest[None], axis=0)[0] / 2
