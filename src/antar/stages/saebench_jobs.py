"""Which of SAEBench's evaluations can be made on which dictionary, and for each of the others why not.

An evaluation needs three things: that it says something about this dictionary, a model whose hook gives what the
dictionary reads, and data. A dictionary of a difference has no hook: no single model computes what it reads. One of
text vectors has none either, since SAEBench gives it single tokens. The decoder alone is enough for one evaluation.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from antar.core.errors import UserError
from antar.core.sites import UNTRAINED, DictionaryId
from antar.criteria.benchmarks import NotRun
from antar.run import Run

META, PROBES, CORE, PROBING = "meta_structure", "sparse_probing_sae_probes", "core", "sparse_probing"
RUNNABLE = (META, PROBES, CORE, PROBING)
PROBES_OF = 113
"""Data sets that sae-probes brings along."""

NEVER: Mapping[str, str] = {
    "absorption": "it asks about the first letters of English words, and SAEBench advises against it for models "
    "under 1B parameters and dictionaries under 16,000 latents",
    "autointerp": "it is tied to one vendor's model (gpt-4o-mini); criterion 3 measures prediction with any model",
    "mdl": "sae-bench 0.6 keeps no result format for it",
    "ravel": "it lacks every architecture but Gemma 2 and GPT-NeoX",
    "scr": "the published audit (arXiv 2605.18229) finds it unreliable and advises against it",
    "tpp": "the published audit (arXiv 2605.18229) finds it unreliable and advises against it",
    "unlearning": "its corpus is given out on request only, and it has a prompt for Gemma-2-2B-it only",
}
"""Evaluations of sae-bench 0.6 that antar does not run on any dictionary, and why."""

HEADLINES: Mapping[str, Mapping[str, str]] = {
    META: {"meta_structure.decoder_fraction_variance_explained": "decoder variance that a meta-SAE explains"},
    PROBES: {
        "sae.sae_top_1_test_accuracy": "accuracy of 1 latent",
        "sae.sae_top_2_test_accuracy": "accuracy of 2 latents",
        "sae.sae_top_5_test_accuracy": "accuracy of 5 latents",
        "llm.llm_test_accuracy": "accuracy of the model's own activations",
    },
    CORE: {
        "model_performance_preservation.ce_loss_score": "loss recovered",
        "reconstruction_quality.explained_variance": "variance explained",
        "sparsity.l0": "L0",
    },
    PROBING: {
        "sae.sae_top_1_test_accuracy": "accuracy of 1 latent",
        "sae.sae_top_2_test_accuracy": "accuracy of 2 latents",
        "sae.sae_top_5_test_accuracy": "accuracy of 5 latents",
        "llm.llm_test_accuracy": "accuracy of the model's own activations",
    },
}
"""Evaluation → place in SAEBench's `eval_result_metrics` → what people call the number."""


@dataclass(frozen=True)
class Wanted:
    """What a user asked for.

    only: evaluations, and dictionaries: ids, or all where empty; datasets: of sae-probes, all where empty
    core_texts: a folder of texts for `core`; online: the hub may be asked; models: side → checkpoint folder
    """

    only: Sequence[str] = ()
    dictionaries: Sequence[str] = ()
    datasets: Sequence[str] = ()
    core_texts: Path | None = None
    online: bool = False
    models: Mapping[str, Path] = field(default_factory=dict[str, Path])

    def checked(self) -> Wanted:
        for name in self.only:
            if name in NEVER:
                raise UserError(f"--only: {name} is not run: {NEVER[name]}")
            if name not in RUNNABLE:
                raise UserError(f"--only: expected one of {', '.join(RUNNABLE)}, found {name!r}")
        if self.core_texts is not None and not self.core_texts.is_dir():
            raise UserError(f"--core-texts: expected a folder of texts (jsonl or parquet), found {self.core_texts}")
        return self

    def settings(self, evaluation: str) -> dict[str, Any]:
        """What is not SAEBench's own default."""
        if evaluation == PROBES:
            return {"dataset_names": list(self.datasets)} if self.datasets else {}
        if evaluation == CORE:
            own = {} if self.core_texts is None else {"dataset": str(self.core_texts.resolve())}
            whole = ("density_statistics", "weight_based_metrics")  # without them it writes no result
            features = {f"compute_featurewise_{name}": True for name in whole}
            return {"n_eval_reconstruction_batches": 10, "n_eval_sparsity_variance_batches": 1, **features, **own}
        return {"llm_batch_size": 32} if evaluation == PROBING else {}


@dataclass(frozen=True)
class Job:
    """One evaluation of one dictionary. model: the checkpoint's folder, None where none is needed."""

    evaluation: str
    dictionary: DictionaryId
    model: Path | None = None


def choose(run: Run, wanted: Wanted) -> tuple[list[Job], list[NotRun]]:
    """What to run, evaluation by evaluation, and why the rest is not."""
    ids = [one for one in run.dictionary_ids if not one.is_replica]
    if unknown := sorted(set(wanted.dictionaries) - {str(one) for one in ids}):
        raise UserError(f"--dictionary: expected one of {', '.join(map(str, ids))}, found {', '.join(unknown)}")
    chosen = [one for one in ids if not wanted.dictionaries or str(one) in wanted.dictionaries]
    jobs: list[Job] = []
    reasons: dict[tuple[str, str], list[str]] = {}
    for evaluation in RUNNABLE:
        if wanted.only and evaluation not in wanted.only:
            reasons[evaluation, "it was not asked for (--only)"] = [str(one) for one in chosen]
            continue
        for one in chosen:
            found = _why_not(run, one, evaluation, wanted)
            if isinstance(found, str):
                reasons.setdefault((evaluation, found), []).append(str(one))
            else:
                jobs.append(found)
    missing = [NotRun(evaluation=name, dictionaries=of, reason=why) for (name, why), of in reasons.items()]
    every = [str(one) for one in chosen]
    return jobs, missing + [NotRun(evaluation=name, dictionaries=every, reason=why) for name, why in NEVER.items()]


def _why_not(run: Run, one: DictionaryId, evaluation: str, wanted: Wanted) -> Job | str:
    if one.kind == "crosscoder":
        return "SAELens has no format for a crosscoder"
    if evaluation == META:
        return Job(evaluation, one)
    if reason := _without_hook(run, one):
        return reason
    if evaluation == CORE and wanted.core_texts is None and not wanted.online:
        return "its text (Skylion007/openwebtext) is on the hub: --online fetches it, --core-texts names other text"
    if evaluation == PROBING and not wanted.online:
        return "its eight data sets are on the hub: --online fetches them"
    folder = checkpoint_folder(run, one.trained_on, wanted)
    if folder is None:
        return f"the checkpoint of {one.trained_on} is not at hand; name its folder with --model {one.trained_on}=DIR"
    return Job(evaluation, one, folder)


def _without_hook(run: Run, one: DictionaryId) -> str | None:
    if one.site.difference is not None:
        return "it reads the difference of two checkpoints, which no hook of one model gives"
    if one.trained_on == "joint":
        return "it was trained on the rows of both checkpoints; SAEBench attaches a dictionary to one"
    if one.trained_on == UNTRAINED:
        return "it is of a model of random weights, of which no checkpoint is kept"
    pooling = str(run.study["extract"]["pooling"])
    if (origin := run.origin(one)) is not None:
        pooling = str(origin.antar.get("pooling", "none"))
    if pooling != "none":
        return f"it was trained on text vectors (extract.pooling: {pooling}); SAEBench gives it single tokens"
    return None


def checkpoint_folder(run: Run, side: str, wanted: Wanted) -> Path | None:
    """Where the checkpoint of `side` lies: as said, in the run, a folder, or a snapshot in the hub's local cache."""
    if side in wanted.models:
        return _existing(wanted.models[side])
    models = run.study["models"]
    if models.get("organism"):
        return _existing(run.folder / "organism" / side.replace(":", "-"))
    given = models.get(side)
    if not isinstance(given, Mapping):
        return None
    path = str(given["path"])
    return _existing(Path(path).expanduser()) or _snapshot(run, path, given.get("revision"), wanted.online)


def _existing(folder: Path) -> Path | None:
    return folder if (folder / "config.json").is_file() else None


def _snapshot(run: Run, name: str, revision: str | None, online: bool) -> Path | None:
    from huggingface_hub import snapshot_download

    commit = run.lock.get("revisions", {}).get(f"{name}@{revision or 'main'}", revision)
    try:
        return _existing(Path(snapshot_download(name, revision=commit, local_files_only=not online)))
    except Exception:  # not in the cache, no such repository, no network: its own classes for each
        return None


def numbers_of(evaluation: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of SAEBench's own result file that people look at; None where it has none."""
    metrics = result.get("eval_result_metrics")
    found: dict[str, Any] = {}
    for place, name in HEADLINES[evaluation].items():
        value: Any = metrics
        for key in place.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        found[name] = float(value) if is_number else None
    if evaluation == PROBES:
        found["data sets"] = len(result.get("eval_result_details") or ())
    return found


def model_name(run: Run, side: str) -> str:
    """What SAEBench calls the model; it makes file names of it."""
    models = run.study["models"]
    path = f"antar-organism-{models['organism']['kind']}-{side}" if models.get("organism") else models[side]["path"]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(str(path)).name if "/" in str(path) else str(path))


def open_dictionaries(jobs: Collection[Job]) -> list[DictionaryId]:
    return list(dict.fromkeys(job.dictionary for job in jobs))
