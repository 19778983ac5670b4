"""All seven criteria of a study at once, and the lines that open its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from antar.core.sites import UNTRAINED, DictionaryId
from antar.criteria.agreement import Agreement, human_agreement
from antar.criteria.baselines import culture_counts, culture_sentence
from antar.criteria.config import CriteriaConfig
from antar.criteria.effect import NO_SHAM, effect
from antar.criteria.fit import Metrics, is_study_dictionary, reconstruction, sparsity
from antar.criteria.predictive import KEYWORDS, predictive_validity
from antar.criteria.shape import Scores, coherence
from antar.criteria.stability import Cosines, stability
from antar.criteria.types import CriteriaReport, Criterion
from antar.features.counterparts import Share, counterparts_sentence
from antar.features.magnitude import Magnitude


@dataclass(frozen=True)
class Findings:
    """What a study measured, as the rooms below give it. What was not measured is left out.

    metrics:    dictionary → its metrics.json
    features:   features.parquet; contrasts: contrasts.parquet
    labels:     interpret/labels.jsonl; predictions: interpret/predictions.jsonl
    coherence, coherence_null: dictionary → one number a live feature, by the model's activations
    text_coherence, text_coherence_null: the same by vectors of the texts that are called `text_space`
    stability: replica → cosine of each latent of its dictionary with its match, NaN where it has none
    stability_null: replica → cosines of the same matching with random directions
    geometry:   the rows of features/geometry.json; energy: features/energy.parquet
    magnitudes: the shift in activation units, chat's and the shams'
    counterparts: of base's features, those with a counterpart in chat's dictionary, and in another seed's of base
    names:      side → what people call it; shams: names of the study's shams; sham_is: what they are
    """

    study: str
    metrics: Metrics
    features: pl.DataFrame
    contrasts: pl.DataFrame
    labels: pl.DataFrame | None = None
    predictions: pl.DataFrame | None = None
    label_facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    coherence: Scores = field(default_factory=dict)
    coherence_null: Scores = field(default_factory=dict)
    text_coherence: Scores = field(default_factory=dict)
    text_coherence_null: Scores = field(default_factory=dict)
    text_space: str = "TF-IDF"
    stability: Cosines = field(default_factory=dict)
    stability_null: Cosines = field(default_factory=dict)
    agreement: Agreement | None = None
    geometry: Sequence[Mapping[str, Any]] = ()
    energy: pl.DataFrame | None = None
    names: Mapping[str, str] = field(default_factory=lambda: {"base": "base", "chat": "chat"})
    shams: Sequence[str] = ()
    magnitudes: Sequence[Magnitude] = ()
    counterparts: Sequence[Share] = ()
    sham_is: str = "base trained on with nothing to learn"


def judge(findings: Findings, cfg: CriteriaConfig) -> CriteriaReport:
    """The seven criteria of `findings` under the thresholds of `cfg`."""
    criteria = [
        reconstruction(findings.metrics, cfg),
        sparsity(findings.metrics, cfg),
        predictive_validity(findings.predictions, _labelled(findings.labels), cfg, findings.label_facts),
        effect(
            findings.contrasts,
            live_counts(findings.features),
            cfg,
            findings.geometry,
            findings.energy,
            findings.magnitudes,
        ),
        coherence(
            _own(findings.coherence),
            _own(findings.coherence_null),
            cfg,
            _own(findings.text_coherence),
            _own(findings.text_coherence_null),
            findings.text_space,
            _untrained(findings.coherence),
        ),
        human_agreement(findings.agreement, cfg),
        stability(_of_own(findings.stability), _of_own(findings.stability_null), findings.contrasts, cfg),
    ]
    lines = headline(findings, criteria)
    culture = culture_sentence(culture_counts(findings.contrasts, live_counts(findings.features), cfg), cfg)
    return CriteriaReport(
        study=findings.study, headline=[*lines[:-1], *filter(None, [culture]), *lines[-1:]], criteria=criteria
    )


def live_counts(features: pl.DataFrame) -> dict[str, int]:
    """Dictionary → number of live latents."""
    counts = features.group_by("dictionary").agg(pl.col("live").sum())
    return {row["dictionary"]: int(row["live"]) for row in counts.iter_rows(named=True)}


def _own(scores: Scores) -> Scores:
    return {name: values for name, values in scores.items() if is_study_dictionary(name)}


def _of_own(cosines: Cosines) -> Cosines:
    """Of replicas of the study's own dictionaries."""
    return {name: values for name, values in cosines.items() if is_study_dictionary(str(DictionaryId.parse(name).of))}


def _untrained(scores: Scores) -> Scores:
    return {name: values for name, values in scores.items() if DictionaryId.parse(name).trained_on == UNTRAINED}


def _labelled(labels: pl.DataFrame | None) -> int:
    """Features with a label. A verdict of INVALIDATE takes none away: bad labels count."""
    if labels is None or labels.is_empty():
        return 0
    # Where a language model labelled, the keywords' labels of the other features are not what is measured, and a
    # model that found nothing coherent has labelled nothing.
    models = labels.filter(pl.col("labeller") != KEYWORDS) if "labeller" in labels.columns else labels.clear()
    its = models if models.height else labels
    return its.filter(pl.col("label").is_not_null())["feature"].n_unique()


def headline(findings: Findings, criteria: Sequence[Criterion]) -> list[str]:
    """The first lines of the report: what a reader must know before any number."""
    base, chat = findings.names.get("base", "base"), findings.names.get("chat", "chat")
    shams = list(findings.shams)
    sham = (
        f"Every difference stands beside {_counted(len(shams), 'sham')} ({', '.join(shams)}): {findings.sham_is}."
        if shams
        else NO_SHAM
    )
    own = sum(is_study_dictionary(name) for name in findings.metrics)
    live = int(findings.features.filter(_is_own(findings.features))["live"].sum()) if findings.features.height else 0
    lines = [sham, f"{base} against {chat}: {_counted(own, 'dictionary')}, {_counted(live, 'live feature')}."]
    by_number = {criterion.number: criterion for criterion in criteria}
    lines.append(by_number[4].sentence.replace(f" {NO_SHAM}", ""))
    if matched := counterparts_sentence(findings.counterparts, base, chat):
        lines.append(matched)
    names: dict[str, list[str]] = {}
    for criterion in criteria:
        names.setdefault(criterion.verdict, []).append(criterion.name)
    lines.append(
        "Of seven criteria: " + "; ".join(f"{verdict}: {', '.join(who)}" for verdict, who in names.items()) + "."
    )
    return lines


def _is_own(features: pl.DataFrame) -> pl.Series:
    own = {name: is_study_dictionary(name) for name in features["dictionary"].unique().to_list()}
    return features["dictionary"].replace_strict(own, return_dtype=pl.Boolean)


def _counted(n: int, noun: str) -> str:
    many = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{n:,} {noun if n == 1 else many}"
