"""Stage 3: dictionaries. One folder each: weights, history, and metrics on every part of the texts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from antar.core.atomic import write_json, write_parquet
from antar.core.hashing import code_version
from antar.core.manifest import Fingerprint
from antar.core.progress import progress, say
from antar.core.seeds import derive_seed, numpy_rng
from antar.core.sites import DictionaryId, Site
from antar.dictionaries import (
    Dictionary,
    TrainedDictionary,
    evaluate,
    latent_scaling,
    remove_checkpoint,
    scaling_summary,
    train_dictionary,
)
from antar.dictionaries.config import DictionaryConfig
from antar.dictionaries.stacked import StackedJob
from antar.dictionaries.trained import HISTORY
from antar.engines import Job, Needs
from antar.features.codes import encode_site
from antar.models import TokenRows, read_site
from antar.stages.artifact import Artifact, await_shared, ensure_files
from antar.stages.context import Context, config_slice
from antar.stages.imported import entry_of, read_imported, say_other_k, source_inputs
from antar.stages.stacks import FOLDER, Stacks, remove_stack_checkpoints, stacking_device, stacks_on
from antar.stages.token_level import TokenMeasure, is_token_level, root_mean_square, token_rows, token_sample

JITTER = 1e-6
"""Share of the activations' root mean square: fp32 sums of a whole forward pass differ by about this much."""

SCALING_FILE = "latent_scaling.parquet"

# Which dictionaries there are does not change any one dictionary. Where it is trained changes the rounding, as far as
# the precision that `compute` names or `auto` comes to there; a run that moves to another machine is not made anew.
_NO_EFFECT = ("sides", "kinds", "baselines", "imported", "seeds", "folds", "device", "stacked")


def artifacts(context: Context) -> list[Artifact]:
    return [artifact_of(context, dictionary) for dictionary in context.dictionary_ids()]


def site_content(context: Context, site: Site) -> dict[str, str]:
    """What the activations of a site are made of: its own folder, or the two that it joins or subtracts."""
    names = [f"activations/{Site(side, site.layer).folder}" for side in site.stored]
    return {name: context.manifest(name).content for name in names}


def artifact_of(context: Context, dictionary: DictionaryId, root: str = "dictionaries") -> Artifact:
    """The dictionary in the folder `root` of the run."""
    study = context.study
    if dictionary.is_imported:
        return _imported_artifact(context, dictionary)
    config = config_slice(study.dictionaries, *_NO_EFFECT) | {"seed": study.seed, "dictionary": str(dictionary)}
    if not is_token_level(context):
        config.pop("stream_buffer")
    if dictionary.fold is not None:
        config["folds"] = study.dictionaries.folds
    return Artifact(
        f"{root}/{dictionary}",
        context.folder / root / dictionary.folder,
        Fingerprint(
            inputs={"corpus": context.manifest("corpus").content, **site_content(context, dictionary.site)},
            config=config,
            code=code_version(
                "dictionaries", "stages/train.py", "stages/stacks.py", "stages/token_level.py", "core/seeds.py"
            ),
        ),
    )


def _imported_artifact(context: Context, one: DictionaryId) -> Artifact:
    """One that others trained: its own files, and what its metrics are measured on."""
    config = {"seed": context.study.seed, "dictionary": str(one), "k given": entry_of(context, one).k}
    return Artifact(
        f"dictionaries/{one}",
        context.folder / "dictionaries" / one.folder,
        Fingerprint(
            inputs={
                "corpus": context.manifest("corpus").content,
                **site_content(context, one.site),
                **source_inputs(context, one),
            },
            config=config | {"train_on": context.study.dictionaries.train_on},
            code=code_version("dictionaries", "stages/train.py", "stages/imported.py", "stages/token_level.py"),
        ),
    )


def make(context: Context) -> None:
    ids = context.dictionary_ids()
    cfg = context.study.dictionaries
    needs = context.needs(context.study.engine.train, cfg.device, cfg.threads)
    stale = [one for one in ids if not artifact_of(context, one).state().fresh]
    groups = _groups(context, stale, needs)
    # Trained here, a dictionary has a bar of its own.
    shown = nullcontext() if context.engine.local else progress("dictionaries", len(stale), "dictionaries")
    with shown as bar:

        def done(group: int) -> None:
            if bar is not None:
                bar.advance(len(groups[group]))

        task = _Training(context.apart(), groups)
        context.engine.map([Job("dictionaries", lambda: task.run, range(len(groups)), done)], needs)
    await_shared([artifact_of(context, one).manifest_path for one in stale], context.engine)
    remove_stack_checkpoints(context.folder / "dictionaries" / FOLDER)
    say(f"  {len(ids)} dictionaries")


def _groups(context: Context, stale: list[DictionaryId], needs: Needs) -> list[list[DictionaryId]]:
    """What is one task each. In this process: all, one after another or in stacks. On a cluster: each dictionary; but
    those that train in stacks are dealt out, a stack to each worker."""
    cfg = context.study.dictionaries
    if context.engine.local or not stale:
        return [stale] if stale else []
    room = context.engine.room(needs)
    in_stacks = stacks_on(cfg, room.gpu) and not is_token_level(context)
    stacked = [one for one in stale if one.kind is None] if in_stacks else []
    alone = [[one] for one in stale if one not in stacked]
    return [part for at in range(room.workers) if (part := stacked[at :: room.workers])] + alone


class _Training:
    """The shard task of dictionaries: shard g is those of group g, each an artifact whole with its manifest."""

    def __init__(self, context: Context, groups: list[list[DictionaryId]]) -> None:
        self._context, self._groups = context, groups

    def run(self, group: int) -> None:
        context, of_group = self._context, self._groups[group]
        texts, ids = context.texts(), context.dictionary_ids()
        stacks = self._stacks(texts, group)
        for dictionary in of_group:
            artifact = artifact_of(context, dictionary)

            def train(dictionary: DictionaryId = dictionary, artifact: Artifact = artifact) -> Any:
                if stacks is not None and dictionary in stacks:
                    job = stacks.job(dictionary)
                    parts = _parts_of_job(texts, dictionary, job)
                    return _write(context, dictionary, artifact, stacks.trained(dictionary), job.acts_nd, parts)
                title = f"{dictionary} ({ids.index(dictionary) + 1} of {len(ids)})"
                return train_one(context, texts, dictionary, artifact, title)

            ensure_files(artifact, train)

    def _stacks(self, texts: pl.DataFrame, group: int) -> Stacks | None:
        context = self._context
        cfg = context.study.dictionaries
        # Tokens stay on the disk, and a stack's rows are on the device: there dictionaries are trained one by one.
        device = None if is_token_level(context) else stacking_device(cfg)
        stale = [one for one in self._groups[group] if one.kind is None]
        if device is None or not stale:
            return None
        label = f"group{group}." if len(self._groups) > 1 else ""
        checkpoints = context.folder / "dictionaries" / FOLDER
        return Stacks(_jobs(context, texts, stale), cfg, device, checkpoints, label)


def train_one(
    context: Context, texts: pl.DataFrame, dictionary: DictionaryId, artifact: Artifact, title: str
) -> tuple[Sequence[Path], Mapping[str, Any]]:
    """Train `dictionary` by the study's recipe into the artifact's folder; its files and facts."""
    if dictionary.is_imported:
        return _import(context, texts, dictionary, artifact)
    if is_token_level(context):
        return _train_on_tokens(context, texts, dictionary, artifact, title)
    (job,) = _jobs(context, texts, [dictionary]).values()
    trained = train_dictionary(
        job.acts_nd[job.train_rows],
        job.acts_nd[job.val_rows],
        context.study.dictionaries,
        seed=job.seed,
        checkpoint=artifact.folder / "checkpoint",
        title=title,
        floor=job.floor,
        kind=dictionary.kind or "topk",
    )
    return _write(context, dictionary, artifact, trained, job.acts_nd, _parts_of_job(texts, dictionary, job))


def _import(
    context: Context, texts: pl.DataFrame, one: DictionaryId, artifact: Artifact
) -> tuple[Sequence[Path], Mapping[str, Any]]:
    """As `train_one`, of what others trained: it is read, and measured here."""
    train, _ = training_rows(texts, context.study.dictionaries, None, context.study.seed)
    parts, tokens = evaluation_parts(texts, train), {}
    if is_token_level(context):
        on = TokenMeasure.of_parts(context, one, parts)
        acts_nd, parts, tokens = on.acts_nd, on.parts, {"tokens_of": on.of}
    else:
        acts_nd = read_rows_of(context, one)
    read, said = read_imported(context, one, width=acts_nd.shape[1])
    facts = {"kind": read.kind, "d_model": read.d_model, "n_latents": read.n_latents, "k": read.k, "steps": 0}
    given = TrainedDictionary(read, pl.DataFrame(schema=HISTORY), facts | {"imported": source_inputs(context, one)})
    written = _write(context, one, artifact, given, acts_nd, parts, tokens | {"imported": dict(said)})
    say_other_k(one, read, json.loads((artifact.folder / "metrics.json").read_bytes()))
    return written


def _train_on_tokens(
    context: Context, texts: pl.DataFrame, dictionary: DictionaryId, artifact: Artifact, title: str
) -> tuple[Sequence[Path], Mapping[str, Any]]:
    """As `train_one`, on a stream of tokens."""
    study, site = context.study, dictionary.site
    train, val = training_rows(texts, study.dictionaries, dictionary.fold, study.seed)
    floor = 0.0
    if site.difference is not None:
        floor = JITTER * root_mean_square(context, Site(site.difference[0], site.layer), train)
    trained = train_dictionary(
        token_rows(context, dictionary, train),
        token_sample(context, dictionary, val),
        study.dictionaries,
        seed=derive_seed(study.seed, "dictionary", str(dictionary)),
        checkpoint=artifact.folder / "checkpoint",
        title=title,
        floor=floor,
        kind=dictionary.kind or "topk",
    )
    on = TokenMeasure.of_parts(context, dictionary, evaluation_parts(texts, train))
    return _write(context, dictionary, artifact, trained, on.acts_nd, on.parts, {"tokens_of": on.of})


def _jobs(
    context: Context, texts: pl.DataFrame, dictionaries: Sequence[DictionaryId]
) -> dict[DictionaryId, StackedJob]:
    """What each dictionary trains on. Those that read the same rows share their array."""
    study = context.study
    acts = {(one.site, one.is_joint_rows): read_rows_of(context, one) for one in dictionaries}
    floors = {site: jitter(context, site) for site, _ in acts}
    jobs: dict[DictionaryId, StackedJob] = {}
    for one in dictionaries:
        train, val = training_rows(texts, study.dictionaries, one.fold, study.seed)
        if one.is_joint_rows:
            train, val = both_sides(train, texts.height), both_sides(val, texts.height)
        seed = derive_seed(study.seed, "dictionary", str(one))
        jobs[one] = StackedJob(str(one), acts[one.site, one.is_joint_rows], train, val, seed, floors[one.site])
    return jobs


def _parts_of_job(texts: pl.DataFrame, dictionary: DictionaryId, job: StackedJob) -> dict[str, np.ndarray]:
    # Of a dictionary of both sides' rows the base half says which texts it was trained on.
    parts = evaluation_parts(texts, job.train_rows[job.train_rows < texts.height])
    if dictionary.is_joint_rows:
        parts = {name: both_sides(rows, texts.height) for name, rows in parts.items()}
    return parts


def _write(
    context: Context,
    dictionary: DictionaryId,
    artifact: Artifact,
    trained: TrainedDictionary,
    acts_nd: np.ndarray,
    parts: Mapping[str, np.ndarray],
    about: Mapping[str, Any] | None = None,
) -> tuple[Sequence[Path], Mapping[str, Any]]:
    """Write what was trained, and its metrics on `parts` (name → rows of `acts_nd`); `about`: said beside them."""
    folder = artifact.folder
    trained.dictionary.save(folder, (about or {}).get("imported"))
    write_parquet(folder / "history.parquet", trained.history)
    metrics = evaluate(trained.dictionary, acts_nd, parts, beside_baselines=not dictionary.is_baseline)
    metrics |= about or {}
    names = ["cfg.json", "sae_weights.safetensors", "history.parquet", "metrics.json"]
    if dictionary.kind == "crosscoder" and not dictionary.is_replica:
        metrics["latent_scaling"] = _scale_latents(trained.dictionary, acts_nd[parts["train"]], artifact, context)
        names.append(SCALING_FILE)
    write_json(folder / "metrics.json", metrics)
    remove_checkpoint(folder / "checkpoint")
    return [folder / name for name in names], {"dictionary": str(dictionary), **trained.facts}


def _scale_latents(
    crosscoder: Dictionary, train_nd: np.ndarray, artifact: Artifact, context: Context
) -> dict[str, Any]:
    """Write how much of each latent is on each side, and return a few numbers of it for metrics.json."""
    half = train_nd.shape[1] // 2
    seed = derive_seed(context.study.seed, artifact.name)
    table = latent_scaling(crosscoder, train_nd[:, :half], train_nd[:, half:], seed=seed)
    write_parquet(artifact.folder / SCALING_FILE, table)
    return scaling_summary(table)


def read_rows_of(context: Context, dictionary: DictionaryId) -> np.ndarray:
    """The rows that a dictionary reads: one a text, or of a dictionary of both sides' rows `[2 n_texts, d_model]`,
    base's before chat's."""
    joined_nd = read_site(context.folder, dictionary.site)
    if not dictionary.is_joint_rows:
        return joined_nd
    half = joined_nd.shape[1] // 2
    return np.concatenate([joined_nd[:, :half], joined_nd[:, half:]])


def rows_in_training(context: Context, dictionary: DictionaryId, train: np.ndarray) -> np.ndarray | TokenRows:
    """The rows of the texts `train` that a dictionary reads; of token-level activations on the disk."""
    if is_token_level(context):
        return token_rows(context, dictionary, train)
    rows = both_sides(train, context.n_texts()) if dictionary.is_joint_rows else train
    return read_rows_of(context, dictionary)[rows]


def fires_in_training(dictionary: Dictionary, rows: np.ndarray | TokenRows) -> np.ndarray:
    """bool `[n_latents]`: which latents fire on any of the rows."""
    if isinstance(rows, np.ndarray):
        return encode_site(dictionary, rows).firing_counts() > 0
    fires = np.zeros(len(dictionary.decoder_nd), bool)
    for piece in range(len(rows.sizes)):  # one after another: 20 million tokens are 20,000 pieces
        fires |= encode_site(dictionary, rows.read(piece)).firing_counts() > 0
    return fires


def both_sides(rows: np.ndarray, n_texts: int) -> np.ndarray:
    """Rows of texts → those of both sides in `read_rows_of` a stacked dictionary."""
    return np.concatenate([rows, rows + n_texts])


def jitter(context: Context, site: Site) -> float:
    """The size under which a difference of two sides is rounding, in activation units; 0 for stored sides."""
    if site.difference is None:
        return 0.0
    minuend = read_site(context.folder, Site(site.difference[0], site.layer))
    return JITTER * float(np.sqrt(np.mean(np.square(minuend), dtype=np.float64)))


def training_rows(
    texts: pl.DataFrame, cfg: DictionaryConfig, fold: int | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(train, validation) row indices. A fold leaves out one part in `cfg.folds` of the training documents."""
    cultural_only = cfg.train_on == "cultural"
    wanted = (texts["group"] == "cultural").to_numpy() if cultural_only else np.ones(texts.height, bool)
    split = texts["split"].to_numpy()
    train = wanted & (split == "train")
    if fold is not None:
        documents = texts["document"].to_numpy()
        names = np.unique(documents[train])
        left_out = names[numpy_rng(seed, "folds").permutation(len(names)) % cfg.folds == fold]
        train &= ~np.isin(documents, left_out)
    val = (texts["group"] == "control").to_numpy() if cfg.validate_on == "control" else wanted & (split == "val")
    return np.flatnonzero(train), np.flatnonzero(val)


def evaluation_parts(texts: pl.DataFrame, train_rows: np.ndarray) -> dict[str, np.ndarray]:
    """Part → rows: train, held-out, each group of it, and each group in each language. Empty parts are left out."""
    heldout, group = pl.col("split") == "heldout", pl.col("group")
    parts = {"train": train_rows, "heldout": _rows(texts, heldout)}
    for name in ("cultural", "control"):
        parts[f"heldout_{name}"] = _rows(texts, heldout & (group == name))
        for language in sorted(texts["language"].unique()):
            mask = heldout & (group == name) & (pl.col("language") == language)
            parts[f"heldout_{name}_{language}"] = _rows(texts, mask)
    return {name: rows for name, rows in parts.items() if len(rows)}


def _rows(texts: pl.DataFrame, mask: pl.Expr) -> np.ndarray:
    return texts.select(mask.arg_true()).to_series().to_numpy()
