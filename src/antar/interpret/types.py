"""What passes between the runner and whoever labels, validates and predicts.

The keyword workers of this room and the LLM clients fill the same three protocols. Each takes a batch, so that a
client may send its calls at once and a matrix product may answer them at once. Texts carry their real ids; an
answer's evidence is checked against the ids that were shown.

A worker's `fingerprint` is over everything but the case that determines its answers: for keywords the code and the
stop lists, for a model its name, revision, prompts and parameters. Records of another fingerprint are made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

VerdictName = Literal["KEEP", "REVISE", "INVALIDATE"]


@dataclass(frozen=True)
class ShownText:
    """A text of the corpus as it is shown. `activation` is 0 for a text that does not fire the feature."""

    text_id: str
    text: str
    language: str
    activation: float


@dataclass(frozen=True)
class Evidence:
    """What a labeller may see of a feature: its strongest texts, and texts that do not fire it.

    hard: texts that fire one of the nearest features and not this one. All come from the select half of the corpus.
    """

    feature: str
    examples: tuple[ShownText, ...]
    background: tuple[ShownText, ...]
    hard: tuple[ShownText, ...] = ()


@dataclass(frozen=True)
class Label:
    """A labeller's answer. `label` is None exactly when `coherent` is False.

    keywords: the words that the label names, strongest first
    needed:   how many of the keywords a text holds when the label speaks of it (keyword labels only; else 1)
    language: what the examples are in, or what the labeller says that the feature is about
    evidence: ids among the shown examples
    failed:   why there is no answer; then `coherent` is False and `label` None
    """

    feature: str
    coherent: bool
    label: str | None
    keywords: tuple[str, ...]
    needed: int
    category: str | None
    language: str
    evidence: tuple[str, ...]
    reason: str
    failed: str | None = None


@dataclass(frozen=True)
class ValidationCase:
    """A label beside texts that nobody labelled from.

    firing, silent: texts that judge the label: those that fire the feature, strongest first, and as many that do
                    not, matched in language and length
    spare_firing, spare_silent: texts of other documents from which a better label may be made; they judge nothing
    """

    label: Label
    firing: tuple[ShownText, ...]
    silent: tuple[ShownText, ...]
    spare_firing: tuple[ShownText, ...]
    spare_silent: tuple[ShownText, ...]


@dataclass(frozen=True)
class Verdict:
    """A validator's answer. `label`, `keywords` and `needed` are the revised ones under REVISE, else the same.

    verdict:  None for a call that failed, for which `failed` is the reason; the labeller's label then stands
    balanced_accuracy, low, high: of the label that stands, on the judging texts, with its 95% interval; None when
                                  there were too few texts, and from a language model
    evidence: ids among the shown texts
    """

    feature: str
    verdict: VerdictName | None
    reason: str
    label: str
    keywords: tuple[str, ...]
    needed: int
    evidence: tuple[str, ...]
    balanced_accuracy: float | None
    low: float | None
    high: float | None
    failed: str | None = None


@dataclass(frozen=True)
class Claim:
    """What is known of a feature to somebody who predicts from the label alone."""

    feature: str
    label: str
    keywords: tuple[str, ...]
    needed: int


@dataclass(frozen=True)
class PredictionCase:
    """One claim and the texts to which it is put. `fires` is the truth, which a predictor must not read.

    hard: a silent text that fires one of the nearest features
    """

    claim: Claim
    texts: tuple[ShownText, ...]
    fires: tuple[bool, ...]
    hard: tuple[bool, ...]
    wrong_label: bool


@dataclass(frozen=True)
class Prediction:
    """Does the text fire the feature? `predicted` is None for a call that failed, which counts as wrong; `failed` is
    the reason. `score` orders the texts: the probability of yes, or the share of keywords held."""

    predicted: bool | None
    score: float | None
    failed: str | None = None


@dataclass(frozen=True)
class SaebenchCase:
    """One claim and the texts of SAEBench's form, in the order shown. `fires` is the truth, not to be read."""

    claim: Claim
    texts: tuple[ShownText, ...]
    fires: tuple[bool, ...]


@dataclass(frozen=True)
class SaebenchAnswer:
    """Which of the texts fire the feature, in their order; None for a call that failed, with the reason."""

    predicted: tuple[bool, ...] | None
    failed: str | None = None


class Labeller(Protocol):
    name: str
    version: str
    fingerprint: str

    def label(self, batch: Sequence[Evidence]) -> list[Label]: ...


class Validator(Protocol):
    name: str
    version: str
    fingerprint: str

    def validate(self, batch: Sequence[ValidationCase]) -> list[Verdict]: ...


class Predictor(Protocol):
    name: str
    version: str
    fingerprint: str

    def predict(self, batch: Sequence[PredictionCase]) -> list[list[Prediction]]:
        """For each case one prediction a text, in the order of the case's texts."""
        ...
