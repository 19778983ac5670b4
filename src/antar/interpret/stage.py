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
from antar.interpret.corpus import TextCorpus
from antar.interpret.records import read_predictions
from antar.interpret.scores import score_predictions
from antar.interpret.steps import Records, Steps
from antar.interpret.types import Label
from antar.interpret.workers import choose_workers


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
) -> dict[str, Any]:
    """Write labels.jsonl, verdicts.jsonl and predictions.jsonl under `folder`; return the facts of the stage.

    texts, features, examples: the run's frames. codes_by_dictionary: for each dictionary id the codes of its own
    side, a row a text; decoders: `[n_latents, d_model]`. Both mappings may load lazily: each dictionary is asked
    for at most four times, one after another, and not kept. Raises UserError when a dictionary's codes or decoder
    are missing or of another size.
    """
    corpus = TextCorpus.build(texts, seed)
    workers = choose_workers(corpus, cfg, seed)
    for note in workers.notes:
        say(note)
    steps = Steps(corpus, workers, cfg, seed, folder, features, examples, codes_by_dictionary, decoders)
    labels = steps.label()
    chosen = steps.choose(labels)
    verdicts = steps.validate(labels, chosen)
    predictions = steps.predict(labels, verdicts)
    scores = score_predictions(read_predictions(folder), texts, seed=seed)
    names = [records[0]["verdict"] for records in verdicts.values()]
    return {
        "labeller": workers.labeller.name,
        "validator": workers.validator.name,
        "predictor": workers.predictor.name,
        "notes": list(workers.notes),
        "features": {name: _counts(labels, latents, chosen) for name, latents in steps.latents.items()},
        "coherent": sum(label.coherent for label in labels.values()),
        "incoherent": sum(not label.coherent for label in labels.values()),
        "verdicts": {name: names.count(name) for name in ("KEEP", "REVISE", "INVALIDATE")},
        "predictions": _prediction_counts(predictions),
        "scores": scores.as_dict(),
    }


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
