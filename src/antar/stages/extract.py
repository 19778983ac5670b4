"""Stage 2: activations. One tokenisation and one mask for all sides, then one pass a side for all its layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from antar.core.hashing import code_version, sha256_file, sha256_json
from antar.core.manifest import Fingerprint
from antar.core.progress import progress, say
from antar.core.sites import Site
from antar.engines import ShardTask
from antar.models import SideTask, TokenTask, check_pair, check_template, n_shards
from antar.models.config import ExtractConfig, ModelConfig
from antar.stages.artifact import Artifact, ensure_shards
from antar.stages.context import Context, config_slice

# What a checkpoint folder may hold that changes activations; anything else in it (a README) does not.
_WEIGHTS = ("*.json", "*.safetensors", "*.gguf", "*.model", "*.txt", "*.jinja", "additional_chat_templates/*")
# Fields of the extraction that say where and how fast, and do not change a result beyond the last bits.
_NO_EFFECT = ("token_budget", "device")


def artifacts(context: Context) -> list[Artifact]:
    return [tokens_artifact(context), *(_site(context, site) for site in context.sites())]


def make(context: Context) -> None:
    cfg, models = context.study.extract, context.models()
    facts = check_pair(models, context.layers())
    if cfg.chat_template:
        check_template(models)
    n_texts = context.n_texts()
    shards = n_shards(n_texts, cfg)
    tokens = make_tokens(context)
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
            about = {"model": model.display, "revision": facts.revisions[side], "blocks": facts.n_layers}
            ensure_shards(
                list(out.values()),
                shards,
                side_task.run,
                context.engine,
                lambda _, about=about, task=side_task: {**about, **_budget_that_fitted(task, cfg)},
            )
    say(f"  {n_texts:,} texts × {len(models)} checkpoints × {len(context.layers())} layers, width {facts.d_model}")


def make_tokens(context: Context) -> Artifact:
    """Make the token ids and the mask of all texts, unless they are fresh."""
    cfg, tokens = context.study.extract, tokens_artifact(context)
    shards, models = n_shards(context.n_texts(), cfg), context.models()
    texts = context.texts()["text"].to_list()
    with progress("tokens", shards, "shards") as bar:
        task = TokenTask(texts, models["base"], cfg, tokens.folder, tokens.fingerprint.sha256, models["chat"])
        ensure_shards([tokens], shards, _counted(task.run, bar.advance), context.engine)
    return tokens


def _budget_that_fitted(task: SideTask, cfg: ExtractConfig) -> dict[str, int]:
    """The one thing that a machine may change: a token budget halved for lack of GPU memory."""
    fitted = task.facts().get("token_budget", cfg.token_budget)
    return {} if fitted == cfg.token_budget else {"token_budget": int(fitted)}


def _counted(run: ShardTask, advance: Callable[[], None]) -> ShardTask:
    def task(shard: int) -> None:
        run(shard)
        advance()

    return task


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
            config=config_slice(cfg, *_NO_EFFECT, *(() if cfg.outliers else ("layers", "dtype"))),
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
