"""The interpret stage: labels for every live feature, then verdicts and predictions for a sample of the coherent.

Cost with the keyword workers, measured on one busy CPU core with made-up texts: 40,000 texts of 150–350 words, 8,192
features of 20 examples, 321 of them validated and predicted: 44 s of processor time, 1.7 GB, 11.6 MB of records. The
texts are read once; the rest grows with the number of dictionaries.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from antar.core.progress import say
from antar.core.sparse import SparseCodes
from antar.interpret.config import InterpretConfig
from antar.interpret.controls import validator_rates
from antar.interpret.corpus import TextCorpus
from antar.interpret.records import (
    CONTROLS,
    KEYWORDS,
    LABELS,
    PREDICTIONS,
    SAEBENCH,
    VERDICTS,
    read_controls,
    read_predictions,
    read_saebench,
)
from antar.interpret.saebench import score_saebench
from antar.interpret.scores import score_predictions
from antar.interpret.steps import Steps
from antar.interpret.types import Label
from antar.interpret.units import Records, Units
from antar.interpret.workers import Workers, open_workers


def interpret_run(
    texts: pl.DataFrame,
    features: pl.DataFrame,
    examples: pl.DataFrame,
    codes_by_dictionary: Mapping[str, SparseCodes],
    decoders: Mapping[str, np.ndarray],
    cfg: InterpretConfig,
    *,
    seed: int,
    folder: Path,
    study_folder: Path = Path(),
    limit: int | None = None,
) -> dict[str, Any]:
    """Write labels.jsonl, verdicts.jsonl and predictions.jsonl under `folder`, and where a language model works
    keywords.jsonl, controls.jsonl and saebench.jsonl; return the facts of the stage.

    texts, features, examples: the run's frames. codes_by_dictionary: for each dictionary id the codes of its own
    side, a row a text; decoders: `[n_latents, d_model]`. Both mappings may load lazily: each dictionary is asked
    for a few times, one after another, and not kept. study_folder: where the study file's own paths begin. limit: a
    first look, at so many features in all. Raises UserError when a dictionary's codes or decoder are missing or of
    another size, and when a language model cannot be asked; finished calls stay in `folder/calls`.
    """
    corpus = TextCorpus.build(texts, seed)
    with open_workers(corpus, cfg, seed, folder, study_folder) as workers:
        for note in workers.notes:
            say(f"  {note}")
        units = Units(corpus, cfg, seed, folder, features, codes_by_dictionary, decoders)
        steps = Steps(units, workers, examples, texts, limit)
        labels = steps.label()
        chosen = steps.choose(labels)
        verdicts = steps.validate(labels, chosen)
        claims = steps.claims(verdicts)
        predictions = steps.predict(labels, claims)
        if _wants_saebench(cfg, workers):
            steps.saebench(claims)
        _remove_others(folder, cfg, workers)
        asked = steps.asked if workers.llm_labels else set(labels)
        return _facts(steps, labels, chosen, verdicts, predictions, asked) | _model_facts(
            workers, folder, cfg, texts, seed
        )


def record_files(folder: Path) -> list[Path]:
    """The files that the stage has written."""
    names = (LABELS, KEYWORDS, VERDICTS, CONTROLS, PREDICTIONS, SAEBENCH)
    return [folder / name for name in names if (folder / name).is_file()]


def _wants_saebench(cfg: InterpretConfig, workers: Workers) -> bool:
    return workers.llm_predicts and cfg.prediction.saebench


def _remove_others(folder: Path, cfg: InterpretConfig, workers: Workers) -> None:
    """Files of workers that this run does not have would be read beside its own."""
    kept = {KEYWORDS: workers.llm_labels, CONTROLS: workers.llm_validates, SAEBENCH: _wants_saebench(cfg, workers)}
    for name, wanted in kept.items():
        if not wanted:
            (folder / name).unlink(missing_ok=True)


def _facts(
    steps: Steps,
    labels: Mapping[str, Label],
    chosen: Collection[str],
    verdicts: Records,
    predictions: Records,
    asked: Collection[str],
) -> dict[str, Any]:
    workers = steps.workers
    names = [records[0]["verdict"] for records in verdicts.values()]
    its = [labels[feature] for feature in labels if feature in asked]
    facts: dict[str, Any] = {
        "labeller": workers.labeller.name,
        "validator": workers.validator.name,
        "predictor": workers.predictor.name,
        "notes": list(workers.notes),
        "features": {name: _counts(labels, latents, chosen) for name, latents in steps.units.latents.items()},
        "coherent": sum(label.coherent for label in its),
        "incoherent": sum(not label.coherent and label.failed is None for label in its),
        "verdicts": {name: names.count(name) for name in ("KEEP", "REVISE", "INVALIDATE")},
        "predictions": _prediction_counts(predictions),
    }
    if workers.llm_labels:
        facts["failed_labels"] = sum(label.failed is not None for label in its)
    if workers.llm_validates:
        facts["verdicts"] |= {"failed": names.count(None)}
    return facts


def _model_facts(
    workers: Workers, folder: Path, cfg: InterpretConfig, texts: pl.DataFrame, seed: int
) -> dict[str, Any]:
    """The scores; and what only language models have: calls, the validator's own rates, the baseline's score."""
    predictions = read_predictions(folder)
    facts: dict[str, Any] = {"scores": score_predictions(predictions, texts, seed=seed).as_dict()}
    if workers.llm_predicts:
        beside = score_predictions(predictions, texts, seed=seed, predictor=workers.keyword_predictor.name)
        facts["keyword_scores"] = beside.as_dict()
    if workers.llm_validates:
        facts["validator_rates"] = validator_rates(read_controls(folder)).as_dict()
    if _wants_saebench(cfg, workers):
        facts["saebench"] = score_saebench(read_saebench(folder), seed)
    if usage := workers.usage():
        facts["usage"] = usage
    return facts


def _counts(labels: Mapping[str, Label], latents: Mapping[str, int], chosen: Collection[str]) -> dict[str, int]:
    return {
        "live": len(latents),
        "coherent": sum(labels[feature].coherent for feature in latents),
        "validated": sum(feature in chosen for feature in latents),
    }


def _prediction_counts(predictions: Records) -> dict[str, Any]:
    """features: tested; too_few_texts: not tested; wrong_labels: tested against a wrong label as well."""
    tested = [records for records in predictions.values() if records]
    silent = [r for records in tested for r in records if not r["fires"] and not r["wrong_label"]]
    return {
        "features": len(tested),
        "too_few_texts": len(predictions) - len(tested),
        "wrong_labels": sum(any(record["wrong_label"] for record in records) for records in tested),
        "hard_share": sum(record["hard"] for record in silent) / len(silent) if silent else None,
    }
