"""Stage 2: activations. One tokenisation and one mask for all sides, then one pass a side for all its layers."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from antar.core.hashing import code_version, sha256_file, sha256_json
from antar.core.manifest import Fingerprint
from antar.core.progress import Bar, ShardBar, progress, say
from antar.core.shards import shard_about, shard_paths, shard_rows
from antar.core.sites import Site
from antar.corpora.schema import CHAT, READING
from antar.engines import ShardTask
from antar.models import PairFacts, SideTask, TokenTask, check_pair, check_template, forced_budget, n_shards
from antar.models.config import ModelConfig
from antar.stages.artifact import Artifact, Sharded, ensure_all, make_part
from antar.stages.context import Context, config_slice
from antar.stages.precision import make_precision, precision_artifact
from antar.stages.precision import wanted as precision_wanted

# What a checkpoint folder may hold that changes activations; anything else in it (a README) does not.
_WEIGHTS = ("*.json", "*.safetensors", "*.gguf", "*.model", "*.txt", "*.jinja", "additional_chat_templates/*")
# Fields of the extraction that say where and how fast, and do not change a result beyond the last bits.
_NO_EFFECT = ("token_budget", "device", "precision_texts")
_OF_THE_PASS = ("layers", "dtype", "packing")


def artifacts(context: Context) -> list[Artifact]:
    tokens, sites = tokens_artifact(context), [_site(context, site) for site in context.sites()]
    exact = [precision_artifact(context, tokens, sites)] if precision_wanted(context) else []
    return [tokens, *sites, *exact]


def make(context: Context) -> None:
    cfg, models = context.study.extract, context.models()
    facts = check_pair(models, context.layers())
    if cfg.chat_template:
        check_template(models)
    n_texts = context.n_texts()
    make_tokens(context)
    with progress("activations", n_texts * len(models), "texts") as bar:
        works = [_side(context, side, facts, bar) for side in models]
        if context.part is not None:
            made = sum(make_part(work, context.part) for work in works)
            share = len(works) * len(context.part.shards(n_shards(n_texts, cfg)))
            say(f"  part {context.part}: {made} of its {share} shards made now")
            return
        ensure_all(works, context.engine, context.needs(context.study.engine.extract, cfg.device, cfg.threads))
    if precision_wanted(context):
        every = artifacts(context)
        make_precision(context, every[-1], every[0])
    say(f"  {n_texts:,} texts × {len(models)} checkpoints × {len(context.layers())} layers, width {facts.d_model}")


def make_tokens(context: Context) -> Artifact:
    """Make the token ids and the mask of all texts (or of the part that is asked for), unless they are fresh."""
    cfg, tokens = context.study.extract, tokens_artifact(context)
    shards = n_shards(context.n_texts(), cfg)
    with progress("tokens", shards, "shards") as bar:
        own_bar = ShardBar(bar, [1] * shards)
        work = Sharded(
            "tokens", [tokens], shards, lambda: _Tokens(context.apart(), tokens).run, _of_the_mask, own_bar
        )
        if context.part is not None:
            make_part(work, context.part)
            return tokens
        # Only the search for outliers runs the model; else there is nothing for a GPU to do.
        device = cfg.device if cfg.outliers else "cpu"
        ensure_all([work], context.engine, context.needs(context.study.engine.extract, device, cfg.threads))
    return tokens


def _side(context: Context, side: str, pair: PairFacts, bar: Bar) -> Sharded:
    """One checkpoint's activations at every layer."""
    cfg, model = context.study.extract, context.models()[side]
    out = {site.layer: _site(context, site) for site in context.sites() if site.side == side}
    own_bar = ShardBar(bar, [len(rows) for rows in shard_rows(context.n_texts(), cfg.texts_per_shard)])

    def start() -> ShardTask:
        places = {layer: (artifact.folder, artifact.fingerprint.sha256) for layer, artifact in out.items()}
        # A terminal stays where it is: a worker elsewhere advances no bar.
        pieces = own_bar if context.engine.local else None
        return SideTask(model, cfg, tokens_artifact(context).folder, places, pieces).run

    about = {"model": model.display, "revision": pair.revisions[side], "blocks": pair.n_layers}
    return Sharded(
        f"activations of {side}",
        list(out.values()),
        n_shards(context.n_texts(), cfg),
        start,
        lambda artifact: {**about, **_forced_on(artifact)},
        own_bar,
    )


class _Tokens:
    """The shard task of the tokens; the texts are read where it runs."""

    def __init__(self, context: Context, artifact: Artifact) -> None:
        self._context, self._artifact = context, artifact
        self._task: TokenTask | None = None

    def run(self, shard: int) -> None:
        if self._task is None:
            models, cfg = self._context.models(), self._context.study.extract
            texts = self._context.texts()
            in_template = (texts[READING] == CHAT).to_list() if cfg.chat_template == "both" else None
            folder, fingerprint = self._artifact.folder, self._artifact.fingerprint.sha256
            self._task = TokenTask(
                texts["text"].to_list(), models["base"], cfg, folder, fingerprint, models["chat"], in_template
            )
        self._task.run(shard)


def _of_the_mask(artifact: Artifact) -> dict[str, Any]:
    """The norms above which a token is an outlier, as any shard says, and a token budget halved on the way; nothing
    where none were looked for."""
    return shard_about(shard_paths(artifact.folder)[0]) | forced_budget(artifact.folder)


def _forced_on(artifact: Artifact) -> dict[str, int | bool]:
    """What the machine made of the settings, as the shards say: whether texts were packed, and a token budget halved
    for lack of memory (the one thing that may change bits)."""
    said = [shard_about(path) for path in shard_paths(artifact.folder)]
    return {"packed": all(about.get("packed", False) for about in said)} | forced_budget(artifact.folder)


def tokens_artifact(context: Context) -> Artifact:
    cfg = context.study.extract
    inputs = {"corpus": context.manifest("corpus").content, "tokenizer": model_identity(context, "base")}
    if cfg.chat_template:
        inputs["chat_template"] = model_identity(context, "chat")
    return Artifact(
        "activations/tokens",
        context.folder / "activations" / "tokens",
        Fingerprint(
            inputs=inputs,
            # Base is run for the outlier mask alone.
            config=config_slice(cfg, *_NO_EFFECT, "pooling", *(() if cfg.outliers else _OF_THE_PASS)),
            code=code_version("models"),
        ),
    )


def _site(context: Context, site: Site) -> Artifact:
    tokens = tokens_artifact(context).fingerprint
    # With an outlier mask the kept tokens depend on every layer; the tokens' own fingerprint says so.
    mask = {"mask": tokens.sha256} if context.study.extract.outliers else {}
    return Artifact(
        f"activations/{site}",
        context.folder / "activations" / site.folder,
        Fingerprint(
            inputs={**tokens.inputs, **mask, "model": model_identity(context, site.side)},
            config={**config_slice(context.study.extract, *_NO_EFFECT, "layers"), "layer": site.layer},
            code=code_version("models"),
        ),
    )


def model_identity(context: Context, side: str) -> str:
    """What a side's weights are: the checksum of its folder, or the hub's name and pinned revision; where they are
    drawn afresh, that and the seed."""
    model = context.models()[side]
    read = _checkpoint_identity(context, side, model)
    return read if model.random_weights is None else f"{read} random weights {model.random_weights}"


def _checkpoint_identity(context: Context, side: str, model: ModelConfig) -> str:
    folder = Path(model.path)
    if side.startswith("sham:") and side.removeprefix("sham:") in context.study.models.made_shams:
        return context.manifest(f"shams/{folder.name}").content
    if not folder.is_dir():
        return f"{model.path}@{model.revision}"
    if context.study.models.organism is not None:
        # The organism's own manifest has the checksums, and damage to it is looked for in its own stage.
        files = context.manifest("organism").files
        part = f"{folder.name}/"
        return sha256_json({name: entry.sha256 for name, entry in files.items() if name.startswith(part)})
    return _folder_sha256(folder, tuple((p, p.stat().st_mtime_ns, p.stat().st_size) for p in _weight_files(folder)))


def _weight_files(folder: Path) -> list[Path]:
    return sorted({path for pattern in _WEIGHTS for path in folder.glob(pattern) if path.is_file()})


@cache
def _folder_sha256(folder: Path, files: tuple[tuple[Path, int, int], ...]) -> str:
    # Several gigabytes for a real model: hashed once a process, and again when a file was written since.
    return sha256_json({path.relative_to(folder).as_posix(): sha256_file(path) for path, _, _ in files})
