"""The seven criteria of a study, each beside its null.

One pure function a criterion: plain numbers and frames in, a `Criterion` out, with value, interval, threshold, null,
verdict and one sentence. `judge` calls them all. What the published study calls a pass and what it takes to believe
one differ for most of them, so both are shown and the honest one decides.
"""

from antar.criteria.agreement import Agreement, human_agreement
from antar.criteria.config import CriteriaConfig
from antar.criteria.effect import effect
from antar.criteria.fit import reconstruction, sparsity
from antar.criteria.intervals import bootstrap_mean, clopper_pearson
from antar.criteria.predictive import balanced_accuracies, predictive_validity
from antar.criteria.shape import coherence
from antar.criteria.stability import effect_halves, stability
from antar.criteria.study import Findings, headline, judge, live_counts
from antar.criteria.types import CriteriaReport, Criterion, Null

__all__ = [
    "Agreement",
    "CriteriaConfig",
    "CriteriaReport",
    "Criterion",
    "Findings",
    "Null",
    "balanced_accuracies",
    "bootstrap_mean",
    "clopper_pearson",
    "coherence",
    "effect",
    "effect_halves",
    "headline",
    "human_agreement",
    "judge",
    "live_counts",
    "predictive_validity",
    "reconstruction",
    "sparsity",
    "stability",
]
