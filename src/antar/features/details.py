"""What is said of an effect beside its size: intervals of AUROC, and what is left of it with confounds held equal.

All of it is for the labels as observed, on the estimation half. Nothing here is shuffled, so it costs a few passes
over the codes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from antar.features.adjusted import (
    Adjusted,
    Covariates,
    adjusted_difference,
    adjusted_effect,
    language_auroc,
)
from antar.features.cells import Entries
from antar.features.designs import Design
from antar.features.intervals import Part, on_logit_scale
from antar.features.placements import Values, paired_auroc, unpaired_auroc

DETAILS = ("auroc_lo", "auroc_hi", "d_partial", "partial_lo", "partial_hi", "d_within", "within_lo", "within_hi",
           "language_auroc")  # fmt: skip
"""Each `[n_languages + 1, n_latents, n_targets]`, pooled last; NaN where it is not defined."""


_Language = tuple[float, np.ndarray, list[Part]]
"""A language's weight, its AUROC `[n_latents]`, and the parts of that one's variance."""


def paired_details(entries: Sequence[Entries], designs: Sequence[Design], n_latents: int) -> dict[str, np.ndarray]:
    """`DETAILS` of a paired contrast: the same texts on both sides, so length and topic are equal already."""
    found = _nothing(len(designs), n_latents, 1)
    parts: list[_Language] = []
    for place, (one, design) in enumerate(zip(entries, designs, strict=True)):
        if design.n_units < 2:
            continue
        unit = design.unit[one.row]
        before, after = (Values(one.latent, unit, x, n_latents) for x in (one.a, one.b))
        auroc, (part,) = paired_auroc(before, after, design.unit_sizes)
        parts.append((float(len(design.rows)), auroc, [part]))
        _set_auroc(found, place, 0, [parts[-1]])
    _set_auroc(found, len(designs), 0, parts)
    _forget_silent(found, entries, n_latents)
    found["language_auroc"][:, :, 0] = _language_auroc(entries, designs, n_latents)
    return found


def unpaired_details(
    entries: Sequence[Entries], designs: Sequence[Design], targets: np.ndarray, n_latents: int, sd: np.ndarray,
    change: bool = False,
) -> dict[str, np.ndarray]:  # fmt: skip
    """`DETAILS` of a contrast between groups, of values or of changes.

    sd: `[n_languages + 1, n_latents, n_targets]`, that of d_av
    """
    found = _nothing(len(designs), n_latents, len(targets))
    values = [
        Values(one.latent, design.unit[one.row], one.change if change else one.b, n_latents)
        for one, design in zip(entries, designs, strict=True)
    ]
    for column, target in enumerate(targets):
        auroc: list[_Language] = []
        after_length: list[Adjusted | None] = []
        within: list[Adjusted | None] = []
        for place, (one, design) in enumerate(zip(entries, designs, strict=True)):
            its_units = design.labels[:, 0] == target
            if min(its_units.sum(), (~its_units).sum()) < 2:
                after_length.append(None)
                within.append(None)
                continue
            in_b = its_units[design.unit]
            auroc.append(_auroc_of(values[place], in_b[one.row], design, its_units))
            _set_auroc(found, place, column, auroc[-1:])
            for into, covariates, names in (
                (after_length, Covariates.of_length(design.characters), _PARTIAL),
                (within, None if design.strata is None else Covariates.of_strata(design.strata), _WITHIN),
            ):
                adjusted = (
                    None if covariates is None
                    else adjusted_difference(values[place], one.row, in_b, design.unit, covariates)
                )  # fmt: skip
                into.append(adjusted)
                _set(found, names, place, column, adjusted_effect([adjusted], sd[place, :, column]))
        _set_auroc(found, len(designs), column, auroc)
        _set(found, _PARTIAL, len(designs), column, adjusted_effect(after_length, sd[-1, :, column]))
        _set(found, _WITHIN, len(designs), column, adjusted_effect(within, sd[-1, :, column]))
    _forget_silent(found, entries, n_latents)
    found["language_auroc"][:] = _language_auroc(entries, designs, n_latents)[None, :, None]
    return found


_PARTIAL = {"d": "d_partial", "lo": "partial_lo", "hi": "partial_hi"}
_WITHIN = {"d": "d_within", "lo": "within_lo", "hi": "within_hi"}


def _nothing(n_designs: int, n_latents: int, n_targets: int) -> dict[str, np.ndarray]:
    return {name: np.full((n_designs + 1, n_latents, n_targets), np.nan) for name in DETAILS}


def _set(
    found: dict[str, np.ndarray], names: dict[str, str], place: int, column: int, effect: dict[str, np.ndarray]
) -> None:
    for short, name in names.items():
        found[name][place, :, column] = effect[short]


def _auroc_of(values: Values, in_b: np.ndarray, design: Design, its_units: np.ndarray) -> _Language:
    n_b, n_a = design.unit_sizes[its_units].sum(), design.unit_sizes[~its_units].sum()
    auroc, parts = unpaired_auroc(values, in_b, design.unit_sizes, its_units)
    return float(n_a * n_b / (n_a + n_b)), auroc, parts


def _set_auroc(found: dict[str, np.ndarray], place: int, column: int, languages: Sequence[_Language]) -> None:
    """The interval of the languages' weighted mean."""
    if not languages:
        return
    total = sum(weight for weight, *_ in languages)
    auroc = np.sum([weight / total * one for weight, one, _ in languages], axis=0)
    parts = [((weight / total) ** 2 * variance, freedom) for weight, _, its in languages for variance, freedom in its]
    found["auroc_lo"][place, :, column], found["auroc_hi"][place, :, column] = on_logit_scale(auroc, parts)


def _forget_silent(found: dict[str, np.ndarray], entries: Sequence[Entries], n_latents: int) -> None:
    """Where a latent fires on no text, nothing is known of its AUROC, ½ though it is."""
    fires = [np.bincount(one.latent, (one.a > 0) | (one.b > 0), minlength=n_latents) > 0 for one in entries]
    silent = ~np.stack([*fires, np.any(fires, axis=0)])
    for name in ("auroc_lo", "auroc_hi"):
        found[name][silent] = np.nan


def _language_auroc(entries: Sequence[Entries], designs: Sequence[Design], n_latents: int) -> np.ndarray:
    fired = np.stack([np.bincount(one.latent, one.b > 0, minlength=n_latents) for one in entries])
    return language_auroc(fired, np.array([len(design.rows) for design in designs]))
