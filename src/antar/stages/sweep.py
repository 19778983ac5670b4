"""Beside the stages: the study's dictionaries trained by other recipes, and how well each does.

Every variant of the study file's `sweep:` trains one TopK dictionary a side and layer into
`sweep/<variant>/<dictionary>/`, with the seeds, texts and fingerprints of the train stage: what is fresh is skipped,
what was killed goes on. A variant that comes to the study's own recipe takes the study's own dictionaries over.
`sweep/sweep.parquet` holds what is compared. Nothing else of a run reads any of it.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import polars as pl

from antar.core.atomic import replacing, write_parquet
from antar.core.errors import UserError
from antar.core.hashing import code_version
from antar.core.manifest import Fingerprint, Manifest
from antar.core.progress import progress, say
from antar.core.sites import DictionaryId
from antar.dictionaries.sweep import published_of, variant_config
from antar.engines import Job
from antar.stages.artifact import Artifact, await_shared, ensure_files
from antar.stages.context import Context
from antar.stages.train import artifact_of, train_one

FOLDER = "sweep"
TABLE = "sweep.parquet"
SCHEMA = pl.Schema(
    {
        "variant": pl.String,
        "dictionary": pl.String,
        "side": pl.String,
        "layer": pl.Int64,
        "n_latents": pl.Int64,
        "k": pl.Int64,
        "auxk": pl.Float64,
        "fvu": pl.Float64,
        "mse": pl.Float64,
        "mse_control": pl.Float64,
        "passes": pl.Boolean,
        "l0": pl.Float64,
        "live_share": pl.Float64,
        "dead": pl.Int64,
        "published_passed": pl.Int64,
        "published_of": pl.Int64,
        "published_dead_share": pl.Float64,
    }
)
"""fvu, mse, l0: on held-out texts. mse_control: on held-out controls; passes: it is below the study's `criteria.mse`,
the published criterion. live_share, dead: on the training texts. published_…: not measured here, but what the
published study says of its iteration of this name; null for any other variant."""


def chosen_variants(context: Context, only: Sequence[str]) -> list[str]:
    """The variants of the study, or those of them that were asked for."""
    variants = list(context.study.sweep.variants)
    for name in only:
        if name not in variants:
            raise UserError(f"sweep: expected one of {', '.join(variants) or '(no variants)'}, found {name!r}")
    return [name for name in variants if not only or name in only]


def dictionaries_of(context: Context) -> list[DictionaryId]:
    """TopK on each of the study's sides and layers: neither replicas nor the shams' deltas, which are nulls."""
    return [DictionaryId(side, layer) for side in context.study.dictionaries.sides for layer in context.layers()]


def artifacts(context: Context, variant: str) -> list[tuple[DictionaryId, Artifact]]:
    varied = _varied(context, variant)
    return [(one, artifact_of(varied, one, f"{FOLDER}/{variant}")) for one in dictionaries_of(context)]


def make(context: Context, only: Sequence[str] = ()) -> pl.DataFrame:
    """Train what is not fresh, write the table of every variant that is whole, and return it."""
    todo = [(name, one) for name in chosen_variants(context, only) for one in dictionaries_of(context)]
    if others := [kind for kind in context.study.dictionaries.kinds if kind != "topk"]:
        say(f"  a sweep compares TopK dictionaries: {', '.join(others)} left out")
    made = [dict(artifacts(context, name))[one] for name, one in todo]
    stale = [number for number, artifact in enumerate(made) if not artifact.state().fresh]
    task = _Training(context.apart(), todo)
    cfg = context.study.dictionaries
    needs = context.needs(context.study.engine.train, cfg.device, cfg.threads)
    shown = nullcontext() if context.engine.local else progress("dictionaries", len(stale), "dictionaries")
    with shown as bar:

        def done(_: int) -> None:
            if bar is not None:
                bar.advance()

        context.engine.map([Job("sweep", lambda: task.run, stale, done)], needs)
    await_shared([made[number].manifest_path for number in stale], context.engine)
    say(f"  {len(todo)} dictionaries of {len({name for name, _ in todo})} variants")
    return _write_table(context)


class _Training:
    """The shard task of a sweep: shard n is dictionary n of the variants that were asked for."""

    def __init__(self, context: Context, todo: list[tuple[str, DictionaryId]]) -> None:
        self._context, self._todo = context, todo

    def run(self, number: int) -> None:
        context = self._context
        variant, dictionary = self._todo[number]
        varied, artifact = _varied(context, variant), dict(artifacts(context, variant))[dictionary]

        def train() -> tuple[Sequence[Path], Mapping[str, Any]]:
            title = f"{variant} {dictionary} ({number + 1} of {len(self._todo)})"
            own = _own_dictionary(context, dictionary, artifact)
            return own or train_one(varied, context.texts(), dictionary, artifact, title)

        ensure_files(artifact, train)


def _varied(context: Context, variant: str) -> Context:
    study = context.study
    cfg = variant_config(study.dictionaries, study.sweep.variants[variant])
    return dataclasses.replace(context, study=study.model_copy(update={"dictionaries": cfg}))


def _own_dictionary(
    context: Context, dictionary: DictionaryId, wanted: Artifact
) -> tuple[list[Path], Mapping[str, Any]] | None:
    """The files of the study's own dictionary, copied, if it answers the same fingerprint; else None."""
    own = artifact_of(context, dictionary)
    if own.fingerprint != wanted.fingerprint:
        return None
    state = own.state()
    if state.manifest is None or not state.fresh:
        return None
    say(f"  {wanted.name}: is the study's own {own.name}")
    for name in state.manifest.files:
        with replacing(wanted.folder / name) as temporary:
            shutil.copyfile(own.folder / name, temporary)
    return [wanted.folder / name for name in state.manifest.files], state.manifest.facts


def _write_table(context: Context) -> pl.DataFrame:
    made: dict[str, list[tuple[DictionaryId, Artifact, Manifest]]] = {}
    for variant in context.study.sweep.variants:
        states = [(one, artifact.state()) for one, artifact in artifacts(context, variant)]
        if all(state.fresh for _, state in states):
            made[variant] = [(one, s.artifact, s.manifest) for one, s in states if s.manifest is not None]
    folder = context.folder / FOLDER
    table = Artifact(
        FOLDER,
        folder,
        Fingerprint(
            inputs={artifact.name: manifest.content for rows in made.values() for _, artifact, manifest in rows},
            config={"mse": context.study.criteria.mse, "variants": context.study.sweep.variants},
            code=code_version("stages/sweep.py", "dictionaries/sweep.py"),
        ),
    )

    def write() -> tuple[Sequence[Path], Mapping[str, Any]]:
        rows = [_row(context, name, one, artifact) for name in made for one, artifact, _ in made[name]]
        write_parquet(folder / TABLE, pl.DataFrame(rows, schema=SCHEMA, orient="row"))
        return [folder / TABLE], {"variants": list(made)}

    ensure_files(table, write)
    return pl.read_parquet(folder / TABLE)


def _row(context: Context, variant: str, one: DictionaryId, artifact: Artifact) -> dict[str, Any]:
    overrides = context.study.sweep.variants[variant]
    cfg, published = variant_config(context.study.dictionaries, overrides), published_of(variant, overrides)
    parts = json.loads((artifact.folder / "metrics.json").read_bytes())["parts"]
    heldout, train = parts.get("heldout", {}), parts["train"]
    control = parts.get("heldout_control", {}).get("mse")
    return {
        "variant": variant,
        "dictionary": str(one),
        "side": one.trained_on,
        "layer": one.layer,
        "n_latents": cfg.n_latents,
        "k": cfg.k,
        "auxk": cfg.auxk_coefficient,
        "fvu": heldout.get("fvu"),
        "mse": heldout.get("mse"),
        "mse_control": control,
        "passes": None if control is None else control < context.study.criteria.mse,
        "l0": heldout.get("l0"),
        "live_share": train["live_share"],
        "dead": cfg.n_latents - train["live"],
        "published_passed": published.passed if published else None,
        "published_of": published.of if published else None,
        "published_dead_share": published.dead_share if published else None,
    }
