"""Stage 2: activations. One tokenisation and one mask for all sides, then one pass a side for all its layers."""

from __future__ import annotations

from pathlib import Path

from antar.core.hashing import code_version, sha256_file
from antar.core.manifest import Fingerprint
from antar.core.progress import progress, say
from antar.core.sites import Site
from antar.models import SideTask, TokenTask, check_pair, n_shards
from antar.models.config import ModelConfig
from antar.stages.artifact import Artifact, ensure_shards
from antar.stages.context import Context, NotReady, config_slice

# What a checkpoint folder may hold that changes activations; anything else in it (a README) does not.
_WEIGHTS = ("*.json", "*.safetensors", "*.gguf", "*.model", "*.txt")


def artifacts(context: Context) -> list[Artifact]:
    return [_tokens(context), *(_site(context, site) for site in context.sites())]


def make(context: Context) -> None:
    cfg, models = context.study.extract, context.models()
    facts = check_pair(models, context.layers())
    n_texts = context.n_texts()
    shards = n_shards(n_texts, cfg)
    tokens = _tokens(context)
    texts = context.texts()["text"].to_list()
    with progress("tokens", shards, "shards") as bar:
        task = TokenTask(texts, models["base"], cfg, tokens.folder, tokens.fingerprint.sha256)
        ensure_shards([tokens], shards, _counted(task.run, bar.advance), context.engine)
    for side, model in models.items():
        out = {site.layer: _site(context, site) for site in context.sites() if site.side == side}
        with progress(f"activations of {side}", n_texts, "texts") as bar:
            side_task = SideTask(
                model,
                cfg,
                tokens.folder,
                {layer: (artifact.folder, artifact.fingerprint.sha256) for layer, artifact in out.items()},
                bar,
            )
            ensure_shards(
                list(out.values()),
                shards,
                side_task.run,
                context.engine,
                lambda _, side=side: {"model": models[side].path, "revision": facts.revisions.get(side)},
            )
    say(f"  {n_texts:,} texts × {len(models)} checkpoints × {len(context.layers())} layers, width {facts.d_model}")
