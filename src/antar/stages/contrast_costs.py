"""What contrasts and counterparts cost before they are measured: CPU time and memory. Upper estimates."""

from __future__ import annotations

from collections.abc import Mapping

from antar.core.sites import DictionaryId
from antar.features.contrasts import jobs_of
from antar.features.examples import facet_rows
from antar.stages.context import Context
from antar.stages.counterparts import MOST_TEXTS, compared

SECONDS_A_FIRING_AND_SHUFFLE = 2.5e-9
"""CPU time of one contrast, all in all (benchmarks/contrasts.py); without Numba about five times that."""
SECONDS_A_PAIR = (7e-7, 3.5e-10)
"""Of two dictionaries of n latents: × n², for correlations, and × n³, for two assignments. At or above the three
times that `find_counterparts` states (1,024, 4,096 and 8,192 latents)."""
BYTES_A_PAIR = 55
"""× n², likewise."""


def contrast_costs(context: Context, fires: Mapping[DictionaryId, int], counted: bool) -> list[tuple[str, str, str]]:
    """(what, amount, basis) of the contrasts, and of the counterparts where any are compared.

    fires:   of each dictionary, how many firings one side's codes have, as if every text were compared
    counted: whether the corpus is there, so that the values of a facet can be counted
    """
    return [_contrasts(context, fires, counted), *_counterparts(context)]


def _contrasts(context: Context, fires: Mapping[DictionaryId, int], counted: bool) -> tuple[str, str, str]:
    asked = context.study.contrasts
    values = _facet_values(context) if counted else dict.fromkeys(asked.facets, 1)
    seconds, jobs = 0.0, jobs_of(context.code_sets(), asked)
    for contrast, one, side_a, side_b, _ in jobs:
        shuffles = asked.facet_permutations * sum(values.values()) if contrast == "facet" else asked.permutations
        # A pair has as many cells as latents fire on either side: at most both sides' firings.
        seconds += fires[one] * (1 if side_a == side_b else 2) * shuffles * SECONDS_A_FIRING_AND_SHUFFLE
    tests = sum(contrast != "facet" for contrast, *_ in jobs)
    basis = f"{tests} contrasts of sets of codes, {asked.permutations:,} shuffles of the documents each"
    if asked.facets and counted:
        told = ", ".join(f"{facet} ({n} value{'' if n == 1 else 's'})" for facet, n in values.items())
        basis += f", and {told}, {asked.facet_permutations:,} shuffles a value, of {len(jobs) - tests} sets of codes"
    elif asked.facets:
        basis += (
            f", and {', '.join(asked.facets)} of {len(jobs) - tests} sets of codes as if each had one value: they "
            "count once for each value, which are known when the corpus is there"
        )
    return "contrasts", f"at most {max(seconds / 60, 0.1):,.1f} CPU minutes", basis


def _facet_values(context: Context) -> dict[str, int]:
    """Facet → how many values are compared: none where there is one, or no such column."""
    texts, found = context.texts(), dict[str, int]()
    for facet in context.study.contrasts.facets:
        n = texts[facet].filter(facet_rows(texts, facet)).n_unique() if facet in texts.columns else 0
        found[facet] = n if n > 1 else 0
    return found


def _counterparts(context: Context) -> list[tuple[str, str, str]]:
    pairs, n = compared(context), context.study.dictionaries.n_latents
    if not pairs:
        return []
    square, cube = SECONDS_A_PAIR
    minutes = len(pairs) * (square * n**2 + cube * n**3) / 60
    nulls = sum(bool(null) for *_, null in pairs)
    return [
        (
            "counterparts",
            f"at most {max(minutes, 0.1):,.1f} CPU minutes, {BYTES_A_PAIR * n**2 / 2**30:,.2f} GiB",
            f"{len(pairs)} pairs of dictionaries of {n:,} latents, {nulls} of them another seed of base's; one pair "
            f"at a time in memory, at most {MOST_TEXTS:,} texts",
        )
    ]
