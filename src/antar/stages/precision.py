"""How far each delta is off for lack of float32: some texts are read again, and the manifest holds the errors."""

from __future__ import annotations

import numpy as np

from antar.core.hashing import code_version
from antar.core.manifest import Fingerprint
from antar.core.progress import ShardBar, progress, say
from antar.core.shards import read_shard, shard_name
from antar.core.sites import UNTRAINED, Site
from antar.engines import ShardTask
from antar.models import PrecisionTask, delta_error, forced_budget, precision_warning, read_site, sample_rows
from antar.models.config import ModelConfig
from antar.stages.artifact import Artifact, Sharded, ensure_all
from antar.stages.context import Context, config_slice

NAME = "activations/precision"


def wanted(context: Context) -> bool:
    cfg = context.study.extract
    return cfg.dtype != "float32" and cfg.precision_texts > 0


def precision_artifact(context: Context, tokens: Artifact, sites: list[Artifact]) -> Artifact:
    """sites: the artifacts of all stored sites, whose rows are compared with those in float32."""
    inputs = {"tokens": tokens.fingerprint.sha256} | {site.name: site.fingerprint.sha256 for site in sites}
    return Artifact(
        NAME,
        context.folder / NAME,
        Fingerprint(
            inputs=inputs,
            config=config_slice(context.study.extract, "token_budget", "device"),
            code=code_version("models", "stages/precision.py"),
        ),
    )


def make_precision(context: Context, artifact: Artifact, tokens: Artifact) -> None:
    """After the sites: their stored rows are read back."""
    cfg, models = context.study.extract, _sides(context)

    def start() -> ShardTask:
        return PrecisionTask(
            list(models.values()),
            cfg,
            context.n_texts(),
            tokens.folder,
            artifact.folder,
            artifact.fingerprint.sha256,
        ).run

    with progress("precision", len(models), "checkpoints") as bar:
        work = Sharded(
            "float32 beside them",
            [artifact],
            len(models),
            start,
            lambda _: {"dtype": cfg.dtype, "errors": _errors(context, artifact), **forced_budget(artifact.folder)},
            ShardBar(bar, [1] * len(models)),
        )
        needs = context.needs(context.study.engine.extract, cfg.device, cfg.threads)
        ((manifest,),) = ensure_all([work], context.engine, needs)
    if told := precision_warning(manifest.facts["errors"], cfg.dtype):
        say(f"  {told}")


def _sides(context: Context) -> dict[str, ModelConfig]:
    return {side: model for side, model in context.models().items() if side != UNTRAINED}


def _errors(context: Context, artifact: Artifact) -> dict[str, float | None]:
    """`delta.layer06`, ... → ‖Δ − Δ₃₂‖ / ‖Δ₃₂‖ of that delta."""
    sides = list(_sides(context))
    exact = {side: read_shard(artifact.folder / shard_name(number)) for number, side in enumerate(sides)}
    rows = sample_rows(context.n_texts(), context.study.extract.precision_texts)
    errors: dict[str, float | None] = {}
    for layer in context.layers():
        name = f"layer_{layer:02d}"
        stored: dict[str, np.ndarray] = {side: read_site(context.folder, Site(side, layer))[rows] for side in sides}
        for side in sides[1:]:
            delta = "delta" if side == "chat" else side.replace("sham:", "delta:")
            errors[str(Site(delta, layer))] = delta_error(
                stored[side] - stored["base"], exact[side][name] - exact["base"][name]
            )
    return errors
