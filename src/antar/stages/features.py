"""Stage 4: sparse codes of all texts, which latents live, their top examples, and the shape of the activations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from antar.core.atomic import write_json, write_parquet
from antar.core.hashing import code_version
from antar.core.manifest import Fingerprint
from antar.core.progress import ShardBar, progress, say
from antar.core.shards import shard_name, shard_rows
from antar.core.sites import DictionaryId, Site, codes_folder
from antar.dictionaries import Dictionary, geometry, load_dictionary
from antar.features.codes import encode_site, write_codes_shard
from antar.features.examples import examples_frame
from antar.features.facts import features_frame
from antar.models import SiteRows, TokenSite, read_site
from antar.stages.artifact import Artifact, Sharded, ensure_all, ensure_files
from antar.stages.context import Context, config_slice
from antar.stages.token_level import codes_of_shard, is_token_level
from antar.stages.train import site_content, training_rows

ROWS_PER_SHARD = 8192


def _texts_per_shard(context: Context) -> int:
    """Of a shard of codes. One of token-level activations is encoded into one of codes, so that neither a text nor a
    shard of codes is large where texts fire many latents."""
    return context.study.extract.texts_per_shard if is_token_level(context) else ROWS_PER_SHARD


def artifacts(context: Context) -> list[Artifact]:
    return [*(_codes(context, dictionary, side) for dictionary, side in context.code_sets()), _tables(context)]


def _codes(context: Context, dictionary: DictionaryId, side: str) -> Artifact:
    folder = codes_folder(dictionary, side)
    config: dict[str, Any] = {"rows_per_shard": _texts_per_shard(context)}
    if is_token_level(context):
        config["token_codes"] = context.study.features.token_codes
    return Artifact(
        f"codes/{dictionary}@{side}",
        context.folder / "codes" / folder,
        Fingerprint(
            inputs={
                f"dictionaries/{dictionary}": context.manifest(f"dictionaries/{dictionary.folder}").content,
                **site_content(context, Site(side, dictionary.layer)),
            },
            config=config,
            code=code_version("dictionaries", "features/codes.py", "features/token_codes.py", "models/token_rows.py"),
        ),
    )


def _tables(context: Context) -> Artifact:
    inputs = {"corpus": context.manifest("corpus").content}
    for dictionary in context.dictionary_ids():
        if not dictionary.is_replica:
            name = f"dictionaries/{dictionary.folder}"
            inputs |= {name: context.manifest(name).content, **site_content(context, dictionary.site)}
    for layer in context.layers():
        for side in _geometry_sides(context):
            inputs |= site_content(context, Site(side, layer))
    return Artifact(
        "features",
        context.folder / "features",
        Fingerprint(
            inputs=inputs,
            config=config_slice(context.study.features) | {"train_on": context.study.dictionaries.train_on},
            code=code_version("features", "dictionaries", "stages/features.py", "core/sparse.py"),
        ),
    )


def make(context: Context) -> None:
    make_codes(context)
    artifact = _tables(context)
    manifest = ensure_files(artifact, lambda: _write_tables(context, artifact.folder))
    say(f"  {manifest.facts['live']:,} of {manifest.facts['features']:,} latents live")


def make_codes(context: Context) -> None:
    n_texts = context.n_texts()
    ranges = shard_rows(n_texts, _texts_per_shard(context))
    sets = context.code_sets()
    with progress("codes", len(sets) * len(ranges), "shards") as bar:
        works: list[Sharded] = []
        for dictionary, side in sets:
            artifact = _codes(context, dictionary, side)
            encoder = partial(_Encoder, context.apart(), dictionary, side, artifact, ranges)
            own_bar = ShardBar(bar, [1] * len(ranges))
            works.append(
                Sharded(artifact.name, [artifact], len(ranges), lambda start=encoder: start().run, bar=own_bar)
            )
        ensure_all(works, context.engine, context.needs(context.study.engine.features))


class _Encoder:
    """Encodes one side under one dictionary, shard by shard; the dictionary is read when the first needs it."""

    def __init__(
        self, context: Context, dictionary: DictionaryId, side: str, artifact: Artifact, ranges: list[range]
    ) -> None:
        self._context, self._dictionary, self._side = context, dictionary, side
        self._artifact, self._ranges = artifact, ranges
        self._loaded: tuple[Dictionary, SiteRows | TokenSite] | None = None

    def run(self, shard: int) -> None:
        if self._loaded is None:
            folder, site = self._context.folder, Site(self._side, self._dictionary.layer)
            tokens = is_token_level(self._context)
            self._loaded = (
                load_dictionary(folder / "dictionaries" / self._dictionary.folder),
                TokenSite(folder, site) if tokens else SiteRows(folder, site),
            )
        dictionary, rows = self._loaded
        if isinstance(rows, TokenSite):
            codes = codes_of_shard(self._context, dictionary, rows, shard)
        else:
            codes = encode_site(dictionary, rows.read(self._ranges[shard]))
        write_codes_shard(self._artifact.folder / shard_name(shard), codes, self._artifact.fingerprint.sha256)


def _write_tables(context: Context, folder: Path) -> tuple[Sequence[Path], Mapping[str, Any]]:
    texts = context.texts()
    cfg = context.study.features
    train_rows, _ = training_rows(texts, context.study.dictionaries, None, context.study.seed)
    features: list[pl.DataFrame] = []
    examples: list[pl.DataFrame] = []
    ids = [dictionary for dictionary in context.dictionary_ids() if not dictionary.is_replica]
    for dictionary in ids:
        codes = context.own_stored_codes(dictionary)
        features.append(features_frame(dictionary, codes, texts, train_rows, cfg))
        examples.append(examples_frame(dictionary, codes, texts, cfg.top_examples))
    table = pl.concat(features)
    write_parquet(folder / "features.parquet", table)
    write_parquet(folder / "examples.parquet", pl.concat(examples))
    write_json(folder / "geometry.json", geometry_rows(context, train_rows))
    files = [folder / name for name in ("features.parquet", "examples.parquet", "geometry.json")]
    return files, {"features": table.height, "live": int(table["live"].sum())}


def _geometry_sides(context: Context) -> list[str]:
    return ["base", "chat", "delta", *(f"delta:{name}" for name in context.study.sham_names)]


def geometry_rows(context: Context, train_rows: np.ndarray) -> list[dict[str, Any]]:
    """Participation ratio and PCA-90% rank of every side at every layer, on the training texts.

    They test the study's claim that deltas are easy because few directions change. `energy_share` is a side's mean
    norm as a share of base's.
    """
    sides = _geometry_sides(context)
    rows: list[dict[str, Any]] = []
    for layer in context.layers():
        shapes = {side: geometry(read_site(context.folder, Site(side, layer)), train_rows) for side in sides}
        base_norm = shapes["base"].mean_norm
        rows += [
            {
                "site": str(Site(side, layer)),
                "layer": layer,
                "side": side,
                "participation_ratio": shape.participation_ratio,
                "pca90_rank": shape.pca90_rank,
                "mean_norm": shape.mean_norm,
                "energy_share": shape.mean_norm / base_norm if base_norm else None,
            }
            for side, shape in shapes.items()
        ]
    return rows
