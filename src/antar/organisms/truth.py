"""Which concepts does a study flag as changed, and how does that compare with the planted truth?

A delta dictionary rescales whatever drifted to unit variance, so effect sizes, q values and purity pass on a sham as
they do on a real change. Magnitude against a sham is what separates them. A concept is therefore flagged only when
(i) its *energy* exceeds what any concept reaches on the first sham, by a ratio that was fixed beforehand, and (ii) a
delta feature is about it, strongly and purely. The second sham is judged by the same rule and measures how often the
rule errs. Beside it stands the baseline without any dictionary: the energy gate alone.

Pure functions on arrays and frames; nothing here reads a run folder.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from antar.core.errors import UserError
from antar.organisms.config import TruthRule


@dataclass(frozen=True)
class Evidence:
    """What one delta feature says of one concept, measured on the selection half.

    purity: share of the feature's top examples that are texts of the concept
    d:      Cohen's d_av of the feature's activation, the concept against the rest, in one language
    q:      Benjamini-Hochberg over all features and concepts of the side
    """

    feature: str
    purity: float
    d: float
    q: float


@dataclass(frozen=True)
class SideFindings:
    """One delta side (chat, a sham, or the same checkpoint): energy of each concept, and the features about it."""

    energies: Mapping[str, float]
    evidence: Mapping[str, Sequence[Evidence]] = field(default_factory=dict)


def concept_energy(delta_nd: np.ndarray, texts: pl.DataFrame) -> dict[str, float]:
    """How far a concept's texts moved away from the other concepts' texts, in activation units.

    delta_nd: `[n, d_model]`, a row for each row of `texts` (columns `language`, `concept`; null for controls).

    In one language: the norm of the concept's mean delta minus the centre of the other concepts' mean deltas;
    averaged over the languages that have the concept. The centre is the coordinate-wise median, not the mean: with a
    mean, the changed concepts' own shift would stand in everybody else's energy. Deltas are centred on the control
    texts' mean of their language first; in this difference that cancels, so it is left out. A zero delta gives zeros.
    """
    if len(delta_nd) != len(texts):
        raise UserError(f"concept energy: expected a delta for each of {len(texts)} texts, found {len(delta_nd)}")
    concept = texts["concept"].fill_null("").to_numpy()
    language = texts["language"].to_numpy()
    found: dict[str, list[float]] = {str(name): [] for name in sorted(set(concept) - {""})}
    for tongue in sorted(set(language)):
        rows = (language == tongue) & (concept != "")
        deltas, mine = delta_nd[rows].astype(np.float64), concept[rows]
        names = sorted(set(mine))
        means = np.stack([deltas[mine == name].mean(axis=0) for name in names]) if names else np.empty((0, 0))
        for i, name in enumerate(names):
            if len(names) > 1:
                centre = np.median(np.delete(means, i, axis=0), axis=0)
                found[str(name)].append(float(np.linalg.norm(means[i] - centre)))
    return {name: float(np.mean(values)) if values else 0.0 for name, values in found.items()}


def relative_energy(
    deltas: Mapping[int, np.ndarray], base: Mapping[int, np.ndarray], texts: pl.DataFrame
) -> dict[str, float]:
    """Concept energy as a share of the activation norm, averaged over layers.

    deltas, base: layer → `[n, d_model]`: a side's delta and the base activations of the same texts.

    Norms grow with depth, so each layer's energy is divided by the mean norm of base's activations at that layer
    before layers are averaged; no layer outweighs another because its numbers are larger.
    """
    shares: dict[str, list[float]] = {}
    for layer, delta_nd in sorted(deltas.items()):
        norm = float(np.linalg.norm(base[layer].astype(np.float64), axis=1).mean())
        for name, energy in concept_energy(delta_nd, texts).items():
            shares.setdefault(name, []).append(energy / norm if norm else 0.0)
    return {name: float(np.mean(values)) for name, values in shares.items()}


def energy_thresholds(sham: Mapping[str, float], rule: TruthRule) -> dict[str, float]:
    """Concept → what its relative energy must exceed, never under the floor.

    The ratio times the larger of the concept's own energy on the sham and the sham's largest after its
    `rule.outliers` most extreme concepts. With outliers = 0 it is the sham's largest for all of them.
    """
    ordered = sorted(sham.values(), reverse=True)
    of_all = ordered[min(rule.outliers, len(ordered) - 1)] if ordered else 0.0
    return {name: max(rule.energy_ratio * max(own, of_all), rule.energy_floor) for name, own in sham.items()}


def _above(findings: SideFindings, thresholds: Mapping[str, float]) -> list[str]:
    """The concepts whose energy exceeds their threshold."""
    return [name for name, energy in findings.energies.items() if energy > thresholds[name]]


def concept_evidence(
    contrasts: pl.DataFrame,
    examples: pl.DataFrame,
    texts: pl.DataFrame,
    dictionaries: Collection[str],
    rule: TruthRule,
) -> dict[str, list[Evidence]]:
    """Features of `dictionaries` that are about a concept: those that pass the rule's purity, d and q.

    contrasts: `contrasts.parquet`; used are the real rows (`null` == "") of contrast "facet", facet "concept", in one
    language (not "pooled"), with `d_av_select` and `p_select`. q is Benjamini-Hochberg over all of these rows: all
    live features x concepts x languages of all of `dictionaries`.
    examples: `examples.parquet`; used is `pool` "select".
    texts: the run's texts; `examples.row` counts its rows. Feature order within a concept: largest |d| first.
    """
    rows = contrasts.filter(
        (pl.col("contrast") == "facet")
        & (pl.col("facet") == "concept")
        & (pl.col("null") == "")
        & (pl.col("language") != "pooled")
        & pl.col("dictionary").is_in(list(dictionaries))
        & pl.col("p_select").is_not_null()
        & pl.col("p_select").is_not_nan()
    )
    if rows.is_empty():
        return {}
    from scipy.stats import false_discovery_control

    rows = rows.with_columns(q_select=pl.Series(false_discovery_control(rows["p_select"].to_numpy())))
    rows = rows.filter((pl.col("d_av_select").abs() > rule.d) & (pl.col("q_select") < rule.q))
    purity = _purity(examples, texts, dictionaries, rule)
    rows = rows.join(purity, on=["feature", "value"]).filter(pl.col("purity") >= rule.purity)
    found: dict[str, list[Evidence]] = {}
    for row in rows.sort(pl.col("d_av_select").abs(), descending=True).iter_rows(named=True):
        evidence = Evidence(row["feature"], row["purity"], row["d_av_select"], row["q_select"])
        found.setdefault(row["value"], []).append(evidence)
    return found


def _purity(
    examples: pl.DataFrame, texts: pl.DataFrame, dictionaries: Collection[str], rule: TruthRule
) -> pl.DataFrame:
    """feature, value (a concept), purity: the share of the feature's top examples that are of the concept."""
    concepts = texts.select(pl.col("concept").alias("value")).with_row_index("row")
    top = (
        examples.filter(
            (pl.col("pool") == "select")
            & pl.col("dictionary").is_in(list(dictionaries))
            & (pl.col("rank") < rule.examples)
        )
        .with_columns(pl.col("row").cast(pl.UInt32))
        .join(concepts.with_columns(pl.col("row").cast(pl.UInt32)), on="row")
    )
    counts = top.group_by("feature").agg(n=pl.len()).filter(pl.col("n") >= rule.min_examples)
    mine = top.filter(pl.col("value").is_not_null()).group_by("feature", "value").agg(of_concept=pl.len())
    return mine.join(counts, on="feature").select("feature", "value", purity=pl.col("of_concept") / pl.col("n"))


def passes(evidence: Evidence, rule: TruthRule) -> bool:
    """Is this one feature enough, energy aside?"""
    return evidence.purity >= rule.purity and abs(evidence.d) > rule.d and evidence.q < rule.q


def flag_concepts(findings: SideFindings, sham: SideFindings, rule: TruthRule) -> list[str]:
    """The concepts that the rule calls changed on this side, with `sham` setting the energy threshold."""
    return [
        name
        for name in _above(findings, energy_thresholds(sham.energies, rule))
        if any(passes(evidence, rule) for evidence in findings.evidence.get(name, ()))
    ]


def score_truth(
    listed: Sequence[str],
    chat: SideFindings,
    threshold_sham: SideFindings,
    measured_sham: SideFindings | None,
    same_checkpoint: SideFindings | None,
    rule: TruthRule,
) -> dict[str, Any]:
    """truth_report.json: what the rule flags against what was planted, and the energy gate alone beside it.

    listed: the planted concepts. `measured_sham` and `same_checkpoint` give null (None) counts where they are absent.
    Precision is None when nothing is flagged.
    """
    thresholds = energy_thresholds(threshold_sham.energies, rule)

    def by_rule(side: SideFindings | None) -> list[str] | None:
        return None if side is None else flag_concepts(side, threshold_sham, rule)

    def by_energy(side: SideFindings | None) -> list[str] | None:
        return None if side is None else _above(side, thresholds)

    def by_features(side: SideFindings | None) -> list[str] | None:
        if side is None:
            return None
        return [n for n in side.energies if any(passes(evidence, rule) for evidence in side.evidence.get(n, ()))]

    sides = {"chat": chat, "null": measured_sham, "same_checkpoint": same_checkpoint}
    return {
        **_scores(listed, {name: by_rule(side) for name, side in sides.items()}),
        "listed": list(listed),
        "rule": (
            "energy above the concept's threshold, and a delta feature whose |d| is above d and whose q is below q "
            "on the selection half, and whose top examples are of the concept"
        ),
        "thresholds": {**rule.model_dump(), "energy": min(thresholds.values(), default=0.0), "energy_of": thresholds},
        "energies": {
            "chat": dict(chat.energies),
            "threshold_sham": dict(threshold_sham.energies),
            "null": None if measured_sham is None else dict(measured_sham.energies),
        },
        "features": {
            name: [evidence.feature for evidence in chat.evidence.get(name, ()) if passes(evidence, rule)]
            for name in by_rule(chat) or ()
        },
        "no_dictionary": _scores(listed, {name: by_energy(side) for name, side in sides.items()}),
        "no_energy_gate": _scores(listed, {name: by_features(side) for name, side in sides.items()}),
    }


def _scores(listed: Sequence[str], flagged: Mapping[str, list[str] | None]) -> dict[str, Any]:
    found, null, same = flagged["chat"] or [], flagged["null"], flagged["same_checkpoint"]
    true = [name for name in found if name in listed]
    return {
        "precision": len(true) / len(found) if found else None,
        "recall": len(true) / len(listed) if listed else None,
        "flagged_on_null": None if null is None else len(null),
        "flagged_same_checkpoint": None if same is None else len(same),
        "flagged": found,
        "missed": [name for name in listed if name not in found],
        "false": [name for name in found if name not in listed],
        "flagged_on_null_list": null,
    }
