"""The stage of studies whose shams antar makes: `shams/<name>/`, base trained on as far as chat has drifted.

It comes before extraction and makes the one thing of it that it needs, the token ids and the mask; so that the drift
is measured on exactly the tokens that every side will be read on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from antar.core.errors import UserError
from antar.core.hashing import code_version, sha256_file
from antar.core.manifest import Fingerprint
from antar.core.progress import say
from antar.core.shards import shard_name, shard_rows
from antar.corpora.config import HubSource
from antar.corpora.neutral import read_neutral
from antar.corpora.records import Place
from antar.corpora.sources import source_inputs
from antar.features.readings import is_first_reading
from antar.models import check_pair
from antar.models.tokens import TokenShard, read_tokens
from antar.organisms.sham import Pair, Probe, ShamConfig, make_sham
from antar.organisms.sham.make import Probes
from antar.stages.artifact import Artifact, ensure_files
from antar.stages.context import Context, config_slice, lock_key
from antar.stages.extract import make_tokens, model_identity, tokens_artifact

NONE_TO_MAKE = (
    "sham: expected a study that names shams to make, found none; write `shams: {a: {make: {}}, b: {make: {}}}` "
    "under its `models` (docs/shams.md)"
)
# Fields that say where, how fast and how safely, and do not change a result beyond the last bits.
_NO_EFFECT = ("device", "token_budget", "checkpoint_every")
_CODE = ("models", "organisms/sham", "stages/sham.py", "core/seeds.py", "features/readings.py")
# What reads, cleans and draws the texts that a sham is given; what the study says of them is in the config.
_CODE_OF_TEXTS = (
    *(f"corpora/{name}.py" for name in ("neutral", "clean", "units", "language", "near", "sample", "records")),
    *("corpora/rows.py", "corpora/hub.py", "corpora/sources"),
)
_EXTRACTION = ("layers", "max_tokens", "dtype", "pooling", "packing", "outliers", "outlier_multiple", "threads")


def artifacts(context: Context) -> list[Artifact]:
    return [_artifact(context, name, cfg) for name, cfg in context.study.models.made_shams.items()]


def make(context: Context) -> None:
    models = context.models()
    base, chat = models["base"], models["chat"]
    check_pair({"base": base, "chat": chat}, context.layers())
    make_tokens(context)
    texts = context.texts()
    probes_of = {half: _held_out_controls(texts, half) for half in ("select", "estimate")}
    for name, cfg in context.study.models.made_shams.items():
        artifact = _artifact(context, name, cfg)

        def build(name: str = name, cfg: ShamConfig = cfg, artifact: Artifact = artifact) -> Any:
            facts = make_sham(
                name,
                cfg,
                Pair(base, chat, context.study.extract),
                Probes(*(_probe(context, texts, rows, cfg.probes // 2) for rows in probes_of.values())),
                _neutral_texts(context, name, cfg, texts),
                context.study.seed,
                artifact.folder,
                artifact.fingerprint.sha256,
            )
            return _files(artifact), {key: one for key, one in facts.items() if key != "course"}

        manifest = ensure_files(artifact, build)
        say(f"  {drift_sentence(manifest.facts)}")


def drift_sentence(facts: Mapping[str, Any]) -> str:
    """`sham a drifts 0.98, 1.03 and 1.01 times as far as chat at layers 6, 12 and 18`."""
    ratios = ", ".join(f"{one['ratio_elsewhere']:.2f}" for one in facts["layers"])
    layers = ", ".join(str(one["layer"]) for one in facts["layers"])
    return f"sham {facts['sham']} drifts {ratios} times as far as chat at layers {layers}"


def _files(artifact: Artifact) -> Sequence[Path]:
    return [path for path in artifact.folder.rglob("*") if path.is_file() and path != artifact.manifest_path]


def _artifact(context: Context, name: str, cfg: ShamConfig) -> Artifact:
    study = context.study
    place = Place(context.study_folder, context.hub_folder())
    files = {
        f"texts/{label}": sha256_file(path)
        for source in cfg.texts or ()
        for label, path in source_inputs(source, place).items()
        if path.is_file()
    }
    return Artifact(
        f"shams/{name}",
        context.sham_folder(name),
        Fingerprint(
            inputs={
                "corpus": context.manifest("corpus").content,
                "tokens": tokens_artifact(context).fingerprint.sha256,
                "base": model_identity(context, "base"),
                "chat": model_identity(context, "chat"),
                **files,
            },
            config={
                "make": config_slice(cfg, *_NO_EFFECT),
                "extract": {key: one for key, one in config_slice(study.extract).items() if key in _EXTRACTION},
                "clean": config_slice(study.corpus.clean) if cfg.texts else {},
                "seed": study.seed,
            },
            code=code_version(*_CODE, *(_CODE_OF_TEXTS if cfg.texts else ())),
        ),
    )


# -- the texts on which drift is measured --------------------------------------------------------------------------


def _held_out_controls(texts: pl.DataFrame, half: str) -> np.ndarray:
    """int64: the rows of the half's held-out control texts."""
    of_half = (pl.col("group") == "control") & (pl.col("split") == "heldout") & (pl.col("half") == half)
    rows = np.flatnonzero(texts.select(of_half).to_series().to_numpy())
    if len(rows) == 0:
        raise UserError(
            f"sham: expected held-out control texts in both halves to measure drift on, found none in `{half}`; add "
            "control texts to the corpus"
        )
    return rows


def _probe(context: Context, texts: pl.DataFrame, rows: np.ndarray, n: int) -> Probe:
    """`n` of `rows`, evenly spread, as extraction reads them."""
    if len(rows) > n:
        rows = rows[np.linspace(0, len(rows) - 1, n).round().astype(int)]
    tokens = tokens_artifact(context)
    ids: list[np.ndarray] = []
    keep: list[np.ndarray] = []
    for shard, held in enumerate(shard_rows(texts.height, context.study.extract.texts_per_shard)):
        wanted = rows[(rows >= held.start) & (rows < held.stop)] - held.start
        if len(wanted):
            read = read_tokens(tokens.folder / shard_name(shard))
            ids += [read.ids[row] for row in wanted]
            keep += [read.keep[row] for row in wanted]
    return Probe(TokenShard(ids, keep), texts["language"].gather(rows).to_list())


# -- the texts that are learnt -------------------------------------------------------------------------------------


def _neutral_texts(context: Context, name: str, cfg: ShamConfig, texts: pl.DataFrame) -> list[str]:
    """What base is trained on: control texts of the training split, or the texts that the study names."""
    if cfg.texts is None:
        wanted = (pl.col("group") == "control") & (pl.col("split") == "train")
        learnt = texts.filter(wanted & pl.Series(is_first_reading(texts)))["text"].to_list()
        if not learnt:
            raise UserError(
                f"sham {name}: expected control texts of the training split to train base on, found none; name "
                "neutral files or sources in `texts:` under its `make`, or add control texts to the corpus"
            )
        return learnt
    known = context.revisions()
    sources = [
        source.model_copy(update={"revision": known.get(lock_key(source.repo, source.revision), source.revision)})
        if isinstance(source, HubSource)
        else source
        for source in cfg.texts
    ]
    place = Place(context.study_folder, context.hub_folder())
    say(f"  sham {name}: reading neutral texts")
    found = read_neutral(sources, context.study.corpus.clean, texts, context.study.seed, place)
    context.write_lock({
        lock_key(source.repo, source.revision): found.facts[source.label]["revision"]
        for source in cfg.texts
        if isinstance(source, HubSource) and found.facts[source.label].get("from") == "hub"
    })  # fmt: skip
    return found.texts
