"""What SAEBench's own evaluations say of the dictionaries. It stands beside criterion 3 and decides none.

Criterion 3 asks whether a label tells which texts a feature fires on. None of these evaluations asks that: k-sparse
probing asks whether a concept of somebody else's data set is in one latent, the meta-SAE whether decoder rows share
directions. So nothing here is averaged with it.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, FiniteFloat

ADVICE = (
    "A published audit of SAEBench (Chanin 2026, arXiv 2605.18229) advises against TPP and SCR; of what it tested "
    "sae-probes' k-sparse probing was the most reliable, and even that hardly tells variants of one architecture "
    "apart."
)


class BenchmarkRow(BaseModel):
    """One evaluation of one dictionary. null: the dictionary is one (PCA, random directions, raw neurons);
    numbers: what was measured, by what it is; file: SAEBench's own result, in the run folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dictionary: str
    evaluation: str
    null: bool
    numbers: dict[str, int | FiniteFloat | None]
    file: str


class NotRun(BaseModel):
    """Why an evaluation was not made on some dictionaries."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    evaluation: str
    dictionaries: list[str]
    reason: str


class Benchmarks(BaseModel):
    """versions: of SAEBench and what it computes with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    advice: str = ADVICE
    versions: dict[str, str]
    rows: list[BenchmarkRow]
    not_run: list[NotRun]
